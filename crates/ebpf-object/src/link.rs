//! Linking: one program out of its functions, with every reference resolved.
//!
//! Functions are copied one behind another in the order in which a walk first meets them: the main
//! function, then depth first through calls and function addresses in the order of instructions. A
//! function is copied once.
//!
//! References are resolved by the calculations of `Documentation/bpf/llvm_reloc.rst`, where S is
//! the symbol's offset in its section and A what the instruction holds: a wide load leads to `S +
//! A` (bytes), a call to `S / 8 + A + 1` (slots).

use std::collections::BTreeMap;

use ebpf_btf::TypeIndex;
use ebpf_btf::core_relo::{self, CoreAnswers};
use ebpf_isa::opcode::{Class, Mode, Size, call, jump, wide};
use ebpf_isa::{
    LineTable, MapIdx, Pc, Program, ProgramError, RawInsn, SourceLine, SubprogInfo, decode_all,
};

use crate::code::{CodeSection, Function, SLOT};
use crate::elf::{Place, Relocation};
use crate::maps::MAPS;
use crate::object::{
    KernelFunction, MissingType, Object, ObjectProgram, ProgramInfo, SectionInfo, SymbolInfo,
};
use crate::{CoreProblem, ObjectError, RelocationProblem, core_relocation};

// Relocation kinds of code.
const R_BPF_NONE: u32 = 0;
const R_BPF_64_64: u32 = 1;
const R_BPF_64_32: u32 = 10;

const WIDE_LOAD: u8 = Class::Ld.code() | Mode::Imm.code() | Size::Dw.code();
const CALL: u8 = Class::Jmp.code() | jump::CALL;

/// A function, by the place of its section in `Object::code` and its place among the functions
/// there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FunctionRef {
    pub(crate) section: usize,
    pub(crate) function: usize,
}

/// Links `program` of `object` for a kernel with these `types`. Functions that the object does not have
/// are those that `kernel` finds by their names.
pub(crate) fn link(
    object: &Object,
    program: &ProgramInfo,
    types: Option<&TypeIndex>,
    kernel: &mut dyn FnMut(&str) -> Option<KernelFunction>,
) -> Result<ObjectProgram, ObjectError> {
    let mut linker = Linker::new(object, program, types);
    linker.place(program.main)?;
    // Functions under way, each with the slot to go on from.
    let mut stack = vec![(program.main, linker.function(program.main).start)];
    while let Some((function, next)) = stack.last_mut() {
        let (function, at) = (*function, *next);
        if at >= linker.function(function).end {
            stack.pop();
            continue;
        }
        let (width, reached) = linker.resolve(function, at, kernel)?;
        *next += width;
        if let Some(reached) = reached
            && !linker.placed.contains_key(&reached)
        {
            linker.place(reached)?;
            stack.push((reached, linker.function(reached).start));
        }
    }
    let maps = core::mem::take(&mut linker.maps);
    let missing = core::mem::take(&mut linker.missing);
    Ok(ObjectProgram { info: program.clone(), program: linker.finish()?, maps, missing })
}

struct Linker<'a> {
    object: &'a Object,
    program: &'a ProgramInfo,
    /// What it asks about the types of the kernel, where the object has types of its own.
    answers: Option<CoreAnswers<'a>>,
    /// The linked program so far.
    slots: Vec<RawInsn>,
    /// Where functions start in it.
    placed: BTreeMap<FunctionRef, Pc>,
    /// Calls and function addresses, whose immediates wait until every function has its place.
    references: Vec<(Pc, FunctionRef)>,
    /// Maps that the program refers to, by their place in the object, in the order of first use.
    maps: Vec<usize>,
    infos: BTreeMap<Pc, SubprogInfo>,
    lines: LineTable,
    /// What the kernel's types do not have.
    missing: Vec<MissingType>,
}

/// What an instruction refers to.
enum Target<'a> {
    Map(MapIdx),
    MapValue(MapIdx, u32),
    Function(FunctionRef),
    /// A function that the object does not have, by its name.
    Extern(&'a str),
}

impl<'a> Linker<'a> {
    fn new(object: &'a Object, program: &'a ProgramInfo, types: Option<&'a TypeIndex>) -> Self {
        Self {
            object,
            program,
            answers: object.btf.as_ref().map(|btf| CoreAnswers::new(btf, types)),
            slots: Vec::new(),
            placed: BTreeMap::new(),
            references: Vec::new(),
            maps: Vec::new(),
            infos: BTreeMap::new(),
            lines: LineTable::new(),
            missing: Vec::new(),
        }
    }

    /// The place of a map of the object in the program's own list.
    fn own_map(&mut self, map: MapIdx) -> MapIdx {
        let known = self.maps.iter().position(|&other| other == map.index());
        let own = known.unwrap_or_else(|| {
            self.maps.push(map.index());
            self.maps.len() - 1
        });
        MapIdx(own as u32)
    }

    fn section(&self, function: FunctionRef) -> &'a CodeSection {
        &self.object.code[function.section]
    }

    fn function(&self, function: FunctionRef) -> &'a Function {
        &self.section(function).functions[function.function]
    }

    /// Copies a function behind those that are there, with its name and lines.
    fn place(&mut self, at: FunctionRef) -> Result<(), ObjectError> {
        let (section, function) = (self.section(at), self.function(at));
        let start = Pc(self.slots.len() as u32);
        self.placed.insert(at, start);
        let btf_id = function.btf_id.map(|id| id.0);
        self.infos.insert(start, SubprogInfo { name: Some(function.name.clone()), btf_id });
        self.slots.extend(&section.slots[function.start as usize..function.end as usize]);
        let Some(btf) = &self.object.btf else { return Ok(()) };
        self.apply_core_relocations(section, function, start)?;
        for line in section.lines(function) {
            if !u64::from(line.insn_off).is_multiple_of(SLOT) {
                return Err(ObjectError::BadLineOffset {
                    section: section.name.clone(),
                    offset: line.insn_off,
                });
            }
            let pc = Pc(start.0 + (line.insn_off / SLOT as u32 - function.start));
            let (file, text) = (btf.name(line.file), btf.name(line.text));
            self.lines.push(pc, SourceLine { file, text, line: line.line, col: line.col.into() });
        }
        Ok(())
    }

    /// Makes the instructions of a function, which starts at `start`, fit the types of the kernel.
    fn apply_core_relocations(
        &mut self,
        section: &CodeSection,
        function: &Function,
        start: Pc,
    ) -> Result<(), ObjectError> {
        let (Some(answers), Some(btf)) = (&mut self.answers, &self.object.btf) else {
            return Ok(());
        };
        for relocation in section.core_relocations(function) {
            let offset = relocation.insn_off;
            let what = || core_relo::describe(btf, relocation);
            let problem = |problem| ObjectError::CoreRelocation {
                section: section.name.clone(),
                offset,
                what: what(),
                problem,
            };
            if !u64::from(offset).is_multiple_of(SLOT) {
                return Err(problem(CoreProblem::NotAtInstruction));
            }
            let pc = Pc(start.0 + (offset / SLOT as u32 - function.start));
            let applied = answers
                .answer(relocation)
                .map_err(CoreProblem::from)
                .and_then(|answer| core_relocation::apply(&mut self.slots, pc.index(), &answer));
            if !applied.map_err(problem)? {
                self.missing.push(MissingType { pc, what: what() });
            }
        }
        Ok(())
    }

    /// Resolves what the instruction at slot `at` of its section refers to. Gives the instruction's
    /// width in slots, and the function that it refers to, if it does.
    fn resolve(
        &mut self,
        function: FunctionRef,
        at: u32,
        kernel: &mut dyn FnMut(&str) -> Option<KernelFunction>,
    ) -> Result<(u32, Option<FunctionRef>), ObjectError> {
        let Function { start, end, .. } = *self.function(function);
        let here = Pc(self.placed[&function].0 + (at - start));
        let insn = self.slots[here.index()];
        let is_wide = insn.opcode == WIDE_LOAD;
        if is_wide && at + 1 == end {
            return Err(self.unsound(ProgramError::SplitWideLoad { pc: here }));
        }
        let section = self.section(function);
        let fault = |problem| ObjectError::Relocation {
            section: section.name.clone(),
            offset: u64::from(at) * SLOT,
            problem,
        };
        let target = self.target(function.section, at, insn).map_err(fault)?;
        let reached = match target {
            Some(Target::Function(reached)) => {
                if is_wide {
                    self.write_wide_load(here, wide::FUNC, 0, 0);
                }
                self.references.push((here, reached));
                Some(reached)
            }
            Some(Target::Map(map)) => {
                let map = self.own_map(map);
                self.write_wide_load(here, wide::MAP_FD, map.0, 0);
                None
            }
            Some(Target::MapValue(map, offset)) => {
                let map = self.own_map(map);
                self.write_wide_load(here, wide::MAP_VALUE_FD, map.0, offset);
                None
            }
            Some(Target::Extern(symbol)) => {
                let missing = || fault(RelocationProblem::Extern { symbol: symbol.into() });
                let KernelFunction { btf_id, module } = kernel(symbol).ok_or_else(missing)?;
                let slot = &mut self.slots[here.index()];
                (slot.src, slot.off, slot.imm) = (call::KFUNC, module, btf_id.cast_signed());
                None
            }
            None => None,
        };
        Ok((if is_wide { 2 } else { 1 }, reached))
    }

    /// What the instruction at slot `at` of a section refers to, if it refers to anything.
    fn target(
        &self,
        code: usize,
        at: u32,
        insn: RawInsn,
    ) -> Result<Option<Target<'a>>, RelocationProblem> {
        let section = &self.object.code[code];
        let relocation =
            section.relocations.get(&at).filter(|relocation| relocation.kind != R_BPF_NONE);
        let is_call = insn.opcode == CALL && insn.src == call::SUBPROG;
        if insn.opcode == WIDE_LOAD
            && let Some(inside) = section.relocations.get(&(at + 1))
        {
            return Err(self.misplaced(inside, insn));
        }
        let target = match relocation {
            None if is_call => {
                let base = u64::from(at) * SLOT;
                self.function_at(code, base, i64::from(insn.imm) + 1, &section.name)
                    .map(Target::Function)?
            }
            None if insn.opcode == WIDE_LOAD && insn.src != wide::IMM => {
                return Err(RelocationProblem::Missing { kind: insn.src });
            }
            None => return Ok(None),
            Some(relocation) if relocation.kind == R_BPF_64_32 && is_call => {
                self.call_target(insn, self.symbol(relocation))?
            }
            Some(relocation) if relocation.kind == R_BPF_64_64 && insn.opcode == WIDE_LOAD => {
                self.wide_target(insn, self.symbol(relocation))?
            }
            Some(relocation) => return Err(self.misplaced(relocation, insn)),
        };
        Ok(Some(target))
    }

    fn symbol(&self, relocation: &Relocation) -> &'a SymbolInfo {
        // That the symbol exists was checked when the section was read.
        &self.object.symbols[relocation.symbol as usize]
    }

    fn misplaced(&self, relocation: &Relocation, insn: RawInsn) -> RelocationProblem {
        let (kind, symbol) = (relocation.kind, self.symbol(relocation).name.clone());
        match kind {
            R_BPF_64_64 | R_BPF_64_32 => {
                RelocationProblem::WrongInstruction { kind, symbol, opcode: insn.opcode }
            }
            _ => RelocationProblem::UnsupportedKind { kind, symbol },
        }
    }

    fn call_target(
        &self,
        insn: RawInsn,
        symbol: &'a SymbolInfo,
    ) -> Result<Target<'a>, RelocationProblem> {
        if symbol.place == Place::Nowhere {
            return Ok(Target::Extern(&symbol.name));
        }
        let (_, section) = self.section_of(symbol)?;
        let code = section.code.ok_or_else(|| no_target(symbol, section))?;
        self.function_at(code, symbol.value, i64::from(insn.imm) + 1, &symbol.name)
            .map(Target::Function)
    }

    fn wide_target(
        &self,
        insn: RawInsn,
        symbol: &SymbolInfo,
    ) -> Result<Target<'a>, RelocationProblem> {
        let (index, section) = self.section_of(symbol)?;
        let maps = &self.object.maps;
        let (name, addend) = (|| symbol.name.clone(), i64::from(insn.imm));
        let offset = symbol.value.checked_add_signed(addend);
        if section.name == MAPS {
            let map = offset.and_then(|offset| maps.declared.get(&(index, offset)));
            return map
                .map(|&map| Target::Map(map))
                .ok_or_else(|| RelocationProblem::NotAMap { symbol: name(), addend });
        }
        if let Some(&map) = maps.data.get(&index) {
            if section.has_relocations {
                return Err(RelocationProblem::RelocatedData {
                    symbol: name(),
                    target: section.name.clone(),
                });
            }
            let offset = offset.and_then(|offset| u32::try_from(offset).ok());
            return offset
                .map(|offset| Target::MapValue(map, offset))
                .ok_or_else(|| RelocationProblem::BadDataOffset { symbol: name(), addend });
        }
        let code = section.code.ok_or_else(|| no_target(symbol, section))?;
        if addend % SLOT as i64 != 0 {
            return Err(RelocationProblem::NotAFunction { symbol: name(), addend });
        }
        self.function_at(code, symbol.value, addend / SLOT as i64, &symbol.name)
            .map(Target::Function)
    }

    fn section_of(
        &self,
        symbol: &SymbolInfo,
    ) -> Result<(usize, &'a SectionInfo), RelocationProblem> {
        match symbol.place {
            Place::Section(index) => Ok((index, &self.object.sections[index])),
            Place::Nowhere => Err(RelocationProblem::Extern { symbol: symbol.name.clone() }),
        }
    }

    /// The function that starts `slots` behind `base`, which is in bytes from the start of a
    /// section of code.
    fn function_at(
        &self,
        code: usize,
        base: u64,
        slots: i64,
        symbol: &str,
    ) -> Result<FunctionRef, RelocationProblem> {
        let at = base
            .is_multiple_of(SLOT)
            .then_some(base / SLOT)
            .and_then(|base| base.checked_add_signed(slots));
        let function =
            at.and_then(|at| self.object.code[code].function_at(u32::try_from(at).ok()?));
        let not_a_function = || RelocationProblem::NotAFunction {
            symbol: symbol.into(),
            addend: slots * SLOT as i64,
        };
        function.map(|function| FunctionRef { section: code, function }).ok_or_else(not_a_function)
    }

    /// Rewrites a wide load, both of whose slots are there.
    fn write_wide_load(&mut self, at: Pc, src: u8, low: u32, high: u32) {
        let first = &mut self.slots[at.index()];
        (first.src, first.imm) = (src, low.cast_signed());
        self.slots[at.index() + 1].imm = high.cast_signed();
    }

    fn finish(mut self) -> Result<Program, ObjectError> {
        let len = self.slots.len();
        if len > Program::MAX_SLOTS {
            return Err(self.unsound(ProgramError::TooLong { slots: len }));
        }
        for (at, function) in &self.references {
            let offset = at.offset_to(self.placed[function]);
            self.slots[at.index()].imm =
                i32::try_from(offset).expect("programs have fewer than 2^31 slots");
        }
        let (program, infos, lines) = (self.program, self.infos, self.lines);
        decode_all(&self.slots)
            .map_err(ProgramError::from)
            .and_then(|slots| Program::new(slots, infos, lines))
            .map_err(|source| ObjectError::Program { program: program.name.clone(), source })
    }

    fn unsound(&self, source: ProgramError) -> ObjectError {
        ObjectError::Program { program: self.program.name.clone(), source }
    }
}

fn no_target(symbol: &SymbolInfo, section: &SectionInfo) -> RelocationProblem {
    RelocationProblem::NoTarget { symbol: symbol.name.clone(), target: section.name.clone() }
}
