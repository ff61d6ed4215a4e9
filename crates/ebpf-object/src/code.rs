//! Sections of instructions: slots, functions, relocations, source lines.

use std::collections::BTreeMap;

use ebpf_btf::{BtfExt, CoreRelo, LineInfo, TypeId};
use ebpf_isa::RawInsn;

use crate::elf::{Elf, Place, Relocation, Section};
use crate::{ObjectError, RelocationProblem};

/// Bytes of an instruction slot.
pub(crate) const SLOT: u64 = RawInsn::SIZE as u64;

/// A section of instructions. Positions are slots from its start.
#[derive(Debug, Clone)]
pub(crate) struct CodeSection {
    pub(crate) name: String,
    pub(crate) slots: Vec<RawInsn>,
    /// By start; they do not overlap.
    pub(crate) functions: Vec<Function>,
    /// By position.
    pub(crate) relocations: BTreeMap<u32, Relocation>,
    /// By offset.
    lines: Vec<LineInfo>,
    /// By offset.
    core_relocations: Vec<CoreRelo>,
}

/// A function of a section.
#[derive(Debug, Clone)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) start: u32,
    /// One past the last slot.
    pub(crate) end: u32,
    pub(crate) is_global: bool,
    /// Whether it is no other object's to call, though it is global.
    pub(crate) is_hidden: bool,
    /// Its type in the object's BTF.
    pub(crate) btf_id: Option<TypeId>,
}

impl CodeSection {
    pub(crate) fn read(
        elf: &Elf<'_>,
        index: usize,
        ext: Option<&BtfExt>,
    ) -> Result<Self, ObjectError> {
        let section = &elf.sections[index];
        let slots = RawInsn::slots(section.data).map_err(|_| ObjectError::BadInstructionBytes {
            section: section.name.into(),
            len: section.data.len(),
        })?;
        let mut lines = ext.map_or(&[][..], |ext| ext.line_info(section.name)).to_vec();
        lines.sort_by_key(|line| line.insn_off);
        let mut core_relocations = ext.map_or(&[][..], |ext| ext.core_relos(section.name)).to_vec();
        core_relocations.sort_by_key(|relocation| relocation.insn_off);
        Ok(Self {
            name: section.name.into(),
            functions: functions(elf, index, ext)?,
            relocations: relocations(section, elf.symbols.len(), slots.len())?,
            slots,
            lines,
            core_relocations,
        })
    }

    /// The function that starts at a slot.
    pub(crate) fn function_at(&self, start: u32) -> Option<usize> {
        self.functions.binary_search_by_key(&start, |function| function.start).ok()
    }

    /// The source lines of a function.
    pub(crate) fn lines(&self, function: &Function) -> &[LineInfo] {
        of_function(&self.lines, function, |line| line.insn_off)
    }

    /// The CO-RE relocations of a function.
    pub(crate) fn core_relocations(&self, function: &Function) -> &[CoreRelo] {
        of_function(&self.core_relocations, function, |relocation| relocation.insn_off)
    }
}

/// The part of a table by offset that belongs to a function.
fn of_function<'a, T>(table: &'a [T], function: &Function, offset: impl Fn(&T) -> u32) -> &'a [T] {
    let before =
        |end: u32| table.partition_point(|entry| u64::from(offset(entry)) < u64::from(end) * SLOT);
    &table[before(function.start)..before(function.end)]
}

fn functions(
    elf: &Elf<'_>,
    index: usize,
    ext: Option<&BtfExt>,
) -> Result<Vec<Function>, ObjectError> {
    let section = &elf.sections[index];
    let types: BTreeMap<u64, TypeId> = ext
        .map_or(&[][..], |ext| ext.func_info(section.name))
        .iter()
        .map(|info| (info.insn_off.into(), info.func))
        .collect();
    let mut functions = Vec::new();
    for symbol in elf
        .symbols
        .iter()
        .filter(|symbol| symbol.is_function && symbol.place == Place::Section(index))
    {
        let (offset, size) = (symbol.value, symbol.size);
        let bad = || ObjectError::BadFunction {
            section: section.name.into(),
            function: symbol.name.into(),
            offset,
            size,
        };
        let end = offset.checked_add(size).filter(|&end| end <= section.size).ok_or_else(bad)?;
        if size == 0 || !offset.is_multiple_of(SLOT) || !size.is_multiple_of(SLOT) {
            return Err(bad());
        }
        functions.push(Function {
            name: symbol.name.into(),
            start: u32::try_from(offset / SLOT).map_err(|_| bad())?,
            end: u32::try_from(end / SLOT).map_err(|_| bad())?,
            is_global: symbol.is_global,
            is_hidden: symbol.is_hidden,
            btf_id: types.get(&offset).copied(),
        });
    }
    functions.sort_by_key(|function| function.start);
    match functions.windows(2).find(|pair| pair[1].start < pair[0].end) {
        Some(pair) => Err(ObjectError::OverlappingFunctions {
            section: section.name.into(),
            first: pair[0].name.clone(),
            second: pair[1].name.clone(),
        }),
        None => Ok(functions),
    }
}

fn relocations(
    section: &Section<'_>,
    symbols: usize,
    slots: usize,
) -> Result<BTreeMap<u32, Relocation>, ObjectError> {
    let mut by_slot = BTreeMap::new();
    for relocation in &section.relocations {
        let fail = |problem| {
            Err(ObjectError::Relocation {
                section: section.name.into(),
                offset: relocation.offset,
                problem,
            })
        };
        let slot = relocation.offset / SLOT;
        if !relocation.offset.is_multiple_of(SLOT) || slot >= slots as u64 {
            return fail(RelocationProblem::NotAtInstruction);
        }
        if relocation.symbol as usize >= symbols {
            return fail(RelocationProblem::NoSuchSymbol { index: relocation.symbol });
        }
        if by_slot.insert(slot as u32, *relocation).is_some() {
            return fail(RelocationProblem::Duplicate);
        }
    }
    Ok(by_slot)
}
