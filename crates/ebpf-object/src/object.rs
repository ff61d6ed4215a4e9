//! Whole objects.

use std::collections::HashSet;

use ebpf_btf::{Btf, BtfExt, TypeIndex};
use ebpf_isa::{Pc, Program, RawInsn};

use crate::code::CodeSection;
use crate::elf::{Elf, Place, SectionType, Symbol};
use crate::link::{self, FunctionRef};
use crate::maps::{Maps, ObjectMap};
use crate::sections::SectionKind;
use crate::{ObjectError, RelocationProblem};

/// The section of subprograms, which holds no programs.
const TEXT: &str = ".text";

/// An object file, read: programs, maps, types. Programs are linked one at a time, by
/// [`Object::program`].
#[derive(Debug, Clone)]
pub struct Object {
    pub(crate) code: Vec<CodeSection>,
    /// By index in the file.
    pub(crate) sections: Vec<SectionInfo>,
    /// By index in the file.
    pub(crate) symbols: Vec<SymbolInfo>,
    pub(crate) maps: Maps,
    pub(crate) btf: Option<Btf>,
    programs: Vec<ProgramInfo>,
    license: Option<String>,
    version: Option<u32>,
}

/// What linking asks of a section that a symbol is in.
#[derive(Debug, Clone)]
pub(crate) struct SectionInfo {
    pub(crate) name: String,
    /// Its place in `Object::code`, where it holds instructions.
    pub(crate) code: Option<usize>,
    pub(crate) has_relocations: bool,
}

/// What linking asks of a symbol.
#[derive(Debug, Clone)]
pub(crate) struct SymbolInfo {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) value: u64,
}

/// A program of an object, not yet linked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramInfo {
    /// The name of its main function.
    pub name: String,
    /// The section it stands in.
    pub section: String,
    /// What the section's name says; none where it follows no convention.
    pub kind: Option<SectionKind>,
    pub(crate) main: FunctionRef,
}

impl ProgramInfo {
    /// What the section's name says about the program.
    ///
    /// # Errors
    /// [`ObjectError::UnknownSectionName`] where the name follows no convention.
    pub fn kind(&self) -> Result<SectionKind, ObjectError> {
        let unknown = || ObjectError::UnknownSectionName {
            program: self.name.clone(),
            section: self.section.clone(),
        };
        self.kind.ok_or_else(unknown)
    }

    /// What the section's name says the program is to be attached to: `do_unlinkat` of
    /// `fentry/do_unlinkat`.
    pub fn attach_name(&self) -> Option<&str> {
        self.section.split_once('/').map(|(_, name)| name)
    }
}

/// A linked program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectProgram {
    /// Which program of the object.
    pub info: ProgramInfo,
    /// The main function and the subprograms it reaches. A map is named by its place in `maps`; the
    /// types of functions are those of [`Object::btf`].
    pub program: Program,
    /// The maps that the program refers to, by their place in [`Object::maps`], in the order of
    /// first use.
    pub maps: Vec<usize>,
    /// What the kernel's types do not have.
    pub missing: Vec<MissingType>,
}

/// An instruction that must not be reached, since it depends on something that the kernel's types do
/// not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingType {
    /// The instruction.
    pub pc: Pc,
    /// What it asks for: `offset of a field: task_struct.mm`.
    pub what: String,
}

impl Object {
    /// Reads an object file.
    ///
    /// # Errors
    /// Anything that is wrong with the file itself, its maps or its types. What is wrong with a single program, such as a
    /// reference that does not resolve, is an error of [`Object::program`].
    pub fn parse(bytes: &[u8]) -> Result<Object, ObjectError> {
        let elf = Elf::parse(bytes)?;
        if elf.symbols.is_empty() {
            return Err(ObjectError::MissingSection {
                section: ".symtab",
                needed_by: "every program",
            });
        }
        let (mut btf, ext) = read_types(&elf)?;
        let mut code = Vec::new();
        let mut sections = Vec::new();
        for (index, section) in elf.sections.iter().enumerate() {
            let is_code = section.kind == SectionType::Code;
            sections.push(SectionInfo {
                name: section.name.into(),
                code: is_code.then_some(code.len()),
                has_relocations: !section.relocations.is_empty(),
            });
            if is_code {
                code.push(CodeSection::read(&elf, index, ext.as_ref())?);
            }
        }
        // As libbpf has it, hidden functions are verified with those that call them.
        let functions = code.iter().flat_map(|section| &section.functions);
        for id in functions.filter(|function| function.is_hidden).filter_map(|it| it.btf_id) {
            if let Some(btf) = &mut btf {
                btf.make_static(id);
            }
        }
        let symbol = |symbol: &Symbol<'_>| SymbolInfo {
            name: symbol.name.into(),
            place: symbol.place,
            value: symbol.value,
        };
        Ok(Object {
            maps: Maps::read(&elf, btf.as_ref())?,
            programs: programs(&code)?,
            code,
            sections,
            symbols: elf.symbols.iter().map(symbol).collect(),
            btf,
            license: read_license(&elf)?,
            version: read_version(&elf)?,
        })
    }

    /// The programs: the global functions of every section of instructions but `.text`, in the
    /// order of the file.
    pub fn programs(&self) -> &[ProgramInfo] {
        &self.programs
    }

    /// The maps. A linked [`program`](Object::program) has its own list of those that it refers to.
    pub fn maps(&self) -> &[ObjectMap] {
        &self.maps.maps
    }

    /// The types, where the object has them.
    pub fn btf(&self) -> Option<&Btf> {
        self.btf.as_ref()
    }

    /// The licence that the object declares.
    pub fn license(&self) -> Option<&str> {
        self.license.as_deref()
    }

    /// The kernel version that the object declares, which kernels before 5.0 wanted of some program
    /// types.
    pub fn version(&self) -> Option<u32> {
        self.version
    }

    /// Links a program: the main function with this name, then every subprogram it reaches. It
    /// depends on no types of the kernel and calls no functions of it.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchProgram`]; a relocation that does not resolve or is not supported; instructions that do
    /// not make a sound [`Program`].
    pub fn program(&self, name: &str) -> Result<ObjectProgram, ObjectError> {
        self.program_with(name, None, |_| None)
    }

    /// Links a program as [`Self::program`] does, for a kernel with these types. Functions that the
    /// object declares and does not have (`extern … __ksym`) are those of the kernel that `kernel`
    /// finds by their names.
    ///
    /// # Errors
    /// As there; and where there is no such function, or what a program asks about types has no answer.
    pub fn program_with(
        &self,
        name: &str,
        types: Option<&TypeIndex>,
        mut kernel: impl FnMut(&str) -> Option<KernelFunction>,
    ) -> Result<ObjectProgram, ObjectError> {
        let Some(info) = self.programs.iter().find(|program| program.name == name) else {
            let available = self.programs.iter().map(|program| program.name.clone()).collect();
            return Err(ObjectError::NoSuchProgram { name: name.into(), available });
        };
        link::link(self, info, types, &mut kernel)
    }
}

/// What a call of a function of the kernel names it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelFunction {
    /// Its type in the types of its module.
    pub btf_id: u32,
    /// The index that the program has for the module; 0 for the kernel itself.
    pub module: i16,
}

/// The instructions of an object's `.text` section as they are, for programs that are nothing but
/// that: no functions, no maps, no types.
///
/// # Errors
/// Anything that is wrong with the file, no such section, or relocations in it, which only
/// [`Object::program`] resolves.
pub fn text_section(bytes: &[u8]) -> Result<Vec<RawInsn>, ObjectError> {
    let missing = ObjectError::MissingSection { section: TEXT, needed_by: "a bare program" };
    let elf = Elf::parse(bytes)?;
    let section = elf.section(TEXT).ok_or(missing)?;
    if let Some(relocation) = section.relocations.first() {
        let symbol = elf.symbols.get(relocation.symbol as usize);
        return Err(ObjectError::Relocation {
            section: TEXT.into(),
            offset: relocation.offset,
            problem: RelocationProblem::Extern {
                symbol: symbol.map_or("", |symbol| symbol.name).into(),
            },
        });
    }
    RawInsn::slots(section.data)
        .map_err(|error| ObjectError::BadInstructionBytes { section: TEXT.into(), len: error.len })
}

fn read_types(elf: &Elf<'_>) -> Result<(Option<Btf>, Option<BtfExt>), ObjectError> {
    const TYPES: &str = ".BTF";
    const EXT: &str = ".BTF.ext";
    let error = |section| move |source| ObjectError::Btf { section, source };
    let btf = elf
        .section(TYPES)
        .map(|section| Btf::parse(section.data))
        .transpose()
        .map_err(error(TYPES))?;
    let Some(ext) = elf.section(EXT) else { return Ok((btf, None)) };
    let btf = btf.ok_or(ObjectError::MissingSection { section: TYPES, needed_by: EXT })?;
    let ext = BtfExt::parse(ext.data, &btf).map_err(error(EXT))?;
    Ok((Some(btf), Some(ext)))
}

fn programs(code: &[CodeSection]) -> Result<Vec<ProgramInfo>, ObjectError> {
    let (mut sections, mut names) = (HashSet::new(), HashSet::new());
    let mut programs = Vec::new();
    for (index, section) in code.iter().enumerate() {
        // BTF.ext tells sections apart by name.
        if !sections.insert(&section.name) {
            return Err(ObjectError::DuplicateName { what: "section", name: section.name.clone() });
        }
        if section.name == TEXT {
            continue;
        }
        for (function, main) in
            section.functions.iter().enumerate().filter(|(_, function)| function.is_global)
        {
            if !names.insert(&main.name) {
                return Err(ObjectError::DuplicateName {
                    what: "program",
                    name: main.name.clone(),
                });
            }
            programs.push(ProgramInfo {
                name: main.name.clone(),
                section: section.name.clone(),
                kind: SectionKind::of(&section.name),
                main: FunctionRef { section: index, function },
            });
        }
    }
    Ok(programs)
}

fn read_license(elf: &Elf<'_>) -> Result<Option<String>, ObjectError> {
    let Some(section) = elf.section("license") else { return Ok(None) };
    let text = section.data.split(|&byte| byte == 0).next().unwrap_or_default();
    match str::from_utf8(text) {
        Ok(text) => Ok(Some(text.into())),
        Err(_) => Err(ObjectError::BadText { section: "license", expected: "UTF-8 text" }),
    }
}

fn read_version(elf: &Elf<'_>) -> Result<Option<u32>, ObjectError> {
    let Some(section) = elf.section("version") else { return Ok(None) };
    match section.data.try_into() {
        Ok(bytes) => Ok(Some(u32::from_le_bytes(bytes))),
        Err(_) => Err(ObjectError::BadText { section: "version", expected: "a number of 4 bytes" }),
    }
}
