//! The parts of an ELF file that an object is made of, as plain data with every bound checked.

use object::LittleEndian as Le;
use object::elf;
use object::read::elf::{FileHeader, Rel, SectionHeader, Sym};

use crate::ObjectError;

type Header = elf::FileHeader64<Le>;

/// The most sections of a file that is read.
pub const MAX_SECTIONS: usize = 4096;
/// The most symbols of a file that is read.
pub const MAX_SYMBOLS: usize = 1 << 16;
/// The longest name of a section or symbol, in bytes.
pub const MAX_NAME_LEN: usize = 1024;

/// Where `e_ident` holds the class and the byte order.
const CLASS: usize = 4;
const BYTE_ORDER: usize = 5;

pub(crate) struct Elf<'a> {
    /// By index; the first is the null section.
    pub(crate) sections: Vec<Section<'a>>,
    /// By index; the first is the null symbol.
    pub(crate) symbols: Vec<Symbol<'a>>,
}

pub(crate) struct Section<'a> {
    pub(crate) name: &'a str,
    /// The contents; empty for `.bss`.
    pub(crate) data: &'a [u8],
    /// Bytes it takes in memory.
    pub(crate) size: u64,
    pub(crate) kind: SectionType,
    /// In the order of the file; only of sections that are part of the program in memory.
    pub(crate) relocations: Vec<Relocation>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SectionType {
    /// Instructions.
    Code,
    /// Data with contents.
    Data,
    /// Data of zeros, without contents in the file.
    Bss,
    /// What is not part of the program in memory.
    Other,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Relocation {
    /// Bytes from the start of the section.
    pub(crate) offset: u64,
    /// Index of the symbol.
    pub(crate) symbol: u32,
    /// `R_BPF_*`.
    pub(crate) kind: u32,
}

#[derive(Debug, Clone)]
pub(crate) struct Symbol<'a> {
    /// Its name; that of its section for the symbol of a section.
    pub(crate) name: &'a str,
    pub(crate) place: Place,
    /// Bytes from the start of its section.
    pub(crate) value: u64,
    /// Bytes it takes.
    pub(crate) size: u64,
    pub(crate) is_function: bool,
    /// Whether other objects see it.
    pub(crate) is_global: bool,
    /// Whether other objects do not see it, once this one is linked.
    pub(crate) is_hidden: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In no section: defined elsewhere, or no place at all.
    Nowhere,
    /// In the section with this index.
    Section(usize),
}

impl<'a> Elf<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, ObjectError> {
        let header = header(bytes)?;
        let table_end = u128::from(header.e_shoff(Le))
            + u128::from(header.e_shnum(Le)) * u128::from(header.e_shentsize(Le));
        if table_end > bytes.len() as u128 {
            return Err(ObjectError::Truncated { what: "the section table".into() });
        }
        let table = header.sections(Le, bytes).map_err(malformed("the section table"))?;
        limited("sections", table.len(), MAX_SECTIONS)?;
        let mut sections = Vec::with_capacity(table.len());
        for section in table.iter() {
            let name = table.section_name(Le, section).map_err(malformed("a section's name"))?;
            sections.push(read_section(bytes, section, text(name, "a section's name")?)?);
        }

        // Contents are copied; sections that share them could make gigabytes of a small file.
        let contents: usize = sections.iter().map(|section| section.data.len()).sum();
        if contents > bytes.len() {
            return Err(ObjectError::Malformed { what: "sections overlap".into() });
        }

        let symbol_table =
            table.symbols(Le, bytes, elf::SHT_SYMTAB).map_err(malformed("the symbol table"))?;
        limited("symbols", symbol_table.len(), MAX_SYMBOLS)?;
        let mut symbols = Vec::with_capacity(symbol_table.len());
        for (index, symbol) in symbol_table.enumerate() {
            let place = symbol_table
                .symbol_section(Le, symbol, index)
                .map_err(malformed("a symbol's section"))?;
            let place = match place {
                None => Place::Nowhere,
                Some(index) if index.0 < sections.len() => Place::Section(index.0),
                Some(index) => {
                    return Err(ObjectError::Malformed {
                        what: format!("a symbol is in section {}, which does not exist", index.0),
                    });
                }
            };
            let name = match place {
                Place::Section(index) if symbol.st_type() == elf::STT_SECTION => {
                    sections[index].name
                }
                _ => text(
                    symbol_table.symbol_name(Le, symbol).map_err(malformed("a symbol's name"))?,
                    "a symbol's name",
                )?,
            };
            symbols.push(Symbol {
                name,
                place,
                value: symbol.st_value(Le),
                size: symbol.st_size(Le),
                is_function: symbol.st_type() == elf::STT_FUNC,
                is_global: symbol.st_bind() != elf::STB_LOCAL,
                is_hidden: matches!(symbol.st_visibility(), elf::STV_HIDDEN | elf::STV_INTERNAL),
            });
        }

        for section in table.iter() {
            read_relocations(bytes, section, &mut sections)?;
        }
        Ok(Self { sections, symbols })
    }

    /// The section with this name.
    pub(crate) fn section(&self, name: &str) -> Option<&Section<'a>> {
        self.sections.iter().find(|section| section.name == name)
    }
}

fn header(bytes: &[u8]) -> Result<&Header, ObjectError> {
    if !bytes.starts_with(&elf::ELFMAG) {
        return Err(ObjectError::NotElf);
    }
    if bytes.len() < size_of::<Header>() {
        return Err(ObjectError::Truncated { what: "the header".into() });
    }
    if bytes[CLASS] != elf::ELFCLASS64.0 {
        return Err(ObjectError::WrongClass);
    }
    if bytes[BYTE_ORDER] != elf::ELFDATA2LSB.0 {
        return Err(ObjectError::WrongByteOrder);
    }
    let header = Header::parse(bytes).map_err(malformed("the header"))?;
    let machine = header.e_machine(Le);
    if machine != elf::EM_BPF {
        return Err(ObjectError::WrongMachine { machine: machine.0 });
    }
    let file_type = header.e_type(Le);
    if file_type != elf::ET_REL {
        return Err(ObjectError::NotRelocatable { file_type: file_type.0 });
    }
    Ok(header)
}

fn read_section<'a>(
    bytes: &'a [u8],
    section: &elf::SectionHeader64<Le>,
    name: &'a str,
) -> Result<Section<'a>, ObjectError> {
    let in_memory = section.sh_flags(Le).contains(elf::SHF_ALLOC);
    let kind = match section.sh_type(Le) {
        elf::SHT_NOBITS if in_memory => SectionType::Bss,
        elf::SHT_PROGBITS if in_memory && section.sh_flags(Le).contains(elf::SHF_EXECINSTR) => {
            SectionType::Code
        }
        elf::SHT_PROGBITS if in_memory => SectionType::Data,
        _ => SectionType::Other,
    };
    let data = section
        .data(Le, bytes)
        .map_err(|_| ObjectError::Truncated { what: format!("section {name}") })?;
    Ok(Section { name, data, size: section.sh_size(Le), kind, relocations: Vec::new() })
}

/// Adds the relocations that `section` holds, if it does, to the section that they are for.
fn read_relocations(
    bytes: &[u8],
    section: &elf::SectionHeader64<Le>,
    sections: &mut [Section<'_>],
) -> Result<(), ObjectError> {
    let is_rela = section.sh_type(Le) == elf::SHT_RELA;
    if section.sh_type(Le) != elf::SHT_REL && !is_rela {
        return Ok(());
    }
    let index = section.sh_info(Le) as usize;
    let Some(target) = sections.get_mut(index) else {
        return Err(ObjectError::Malformed {
            what: format!("relocations are for section {index}, which does not exist"),
        });
    };
    if target.kind == SectionType::Other {
        return Ok(());
    }
    if is_rela {
        return Err(ObjectError::Malformed {
            what: format!("relocations of section {} have explicit addends", target.name),
        });
    }
    if let Some((relocations, _)) = section.rel(Le, bytes).map_err(malformed("relocations"))? {
        target.relocations.extend(relocations.iter().map(|relocation| Relocation {
            offset: relocation.r_offset(Le),
            symbol: relocation.r_sym(Le),
            kind: relocation.r_type(Le).0,
        }));
    }
    Ok(())
}

fn limited(what: &'static str, count: usize, limit: usize) -> Result<(), ObjectError> {
    if count > limit { Err(ObjectError::TooMany { what, count, limit }) } else { Ok(()) }
}

fn text<'a>(bytes: &'a [u8], what: &str) -> Result<&'a str, ObjectError> {
    limited("bytes in a name", bytes.len(), MAX_NAME_LEN)?;
    str::from_utf8(bytes)
        .map_err(|_| ObjectError::Malformed { what: format!("{what} is not UTF-8") })
}

fn malformed(what: &'static str) -> impl Fn(object::read::Error) -> ObjectError {
    move |error| ObjectError::Malformed { what: format!("{what}: {error}") }
}
