//! Objects made by hand. The builders write what they are told, right or wrong.
#![allow(dead_code, reason = "each test file uses a part of it")]

use ebpf_object::{Object, ObjectError};

/// `R_BPF_64_64`: a wide load.
pub(crate) const WIDE: u32 = 1;
/// `R_BPF_64_32`: a call.
pub(crate) const CALL: u32 = 10;

const PROGBITS: u32 = 1;
const SYMTAB: u32 = 2;
const STRTAB: u32 = 3;
const NOBITS: u32 = 8;
const REL: u32 = 9;
const ALLOC: u64 = 2;
const EXECINSTR: u64 = 4;

/// One slot: opcode, destination and source registers, offset, immediate.
pub(crate) fn slot(opcode: u8, dst: u8, src: u8, off: i16, imm: i32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[0] = opcode;
    bytes[1] = src << 4 | dst;
    bytes[2..4].copy_from_slice(&off.to_le_bytes());
    bytes[4..].copy_from_slice(&imm.to_le_bytes());
    bytes
}

pub(crate) fn mov(imm: i32) -> [u8; 8] {
    slot(0xb7, 0, 0, 0, imm)
}

pub(crate) fn exit() -> [u8; 8] {
    slot(0x95, 0, 0, 0, 0)
}

/// A call of a subprogram.
pub(crate) fn call(imm: i32) -> [u8; 8] {
    slot(0x85, 0, 1, 0, imm)
}

/// The two slots of a wide load into r1.
pub(crate) fn wide(src: u8, imm: i32) -> [[u8; 8]; 2] {
    [slot(0x18, 1, src, 0, imm), [0; 8]]
}

pub(crate) fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

struct Section {
    name: String,
    sh_type: u32,
    flags: u64,
    data: Vec<u8>,
    size: u64,
    link: u32,
    info: u32,
    entry_size: u64,
}

/// An ELF object under construction. Sections and symbols count from 1.
#[derive(Default)]
pub(crate) struct Elf {
    sections: Vec<Section>,
    symbols: Vec<u8>,
    strings: Vec<u8>,
    relocations: Vec<(usize, u32, Vec<u8>)>,
}

impl Elf {
    pub(crate) fn new() -> Self {
        Self { symbols: vec![0; 24], strings: vec![0], ..Self::default() }
    }

    fn string(&mut self, text: &str) -> u32 {
        let at = self.strings.len() as u32;
        self.strings.extend(text.as_bytes());
        self.strings.push(0);
        at
    }

    pub(crate) fn section(&mut self, name: &str, sh_type: u32, flags: u64, data: &[u8]) -> usize {
        let (data, size) = (data.to_vec(), data.len() as u64);
        let section = Section {
            name: name.into(),
            sh_type,
            flags,
            data,
            size,
            link: 0,
            info: 0,
            entry_size: 0,
        };
        self.sections.push(section);
        self.sections.len()
    }

    pub(crate) fn code(&mut self, name: &str, slots: &[[u8; 8]]) -> usize {
        self.section(name, PROGBITS, ALLOC | EXECINSTR, &slots.concat())
    }

    pub(crate) fn data(&mut self, name: &str, data: &[u8]) -> usize {
        self.section(name, PROGBITS, ALLOC, data)
    }

    pub(crate) fn bss(&mut self, name: &str, size: u64) -> usize {
        let index = self.section(name, NOBITS, ALLOC, &[]);
        self.sections[index - 1].size = size;
        index
    }

    /// A section that is not part of the program, such as `.BTF`.
    pub(crate) fn other(&mut self, name: &str, data: &[u8]) -> usize {
        self.section(name, PROGBITS, 0, data)
    }

    /// Adds a symbol: `info` is binding (0 local, 1 global) * 16 + type (1 object, 2 function, 3
    /// section).
    pub(crate) fn symbol(
        &mut self,
        name: &str,
        info: u8,
        section: usize,
        value: u64,
        size: u64,
    ) -> u32 {
        let name = self.string(name);
        self.symbols.extend(name.to_le_bytes());
        self.symbols.extend([info, 0]);
        self.symbols.extend((section as u16).to_le_bytes());
        self.symbols.extend(value.to_le_bytes());
        self.symbols.extend(size.to_le_bytes());
        self.symbols.len() as u32 / 24 - 1
    }

    /// A global function, given in slots.
    pub(crate) fn function(&mut self, name: &str, section: usize, start: u64, len: u64) -> u32 {
        self.symbol(name, 0x12, section, start * 8, len * 8)
    }

    /// A static function, given in slots.
    pub(crate) fn static_function(
        &mut self,
        name: &str,
        section: usize,
        start: u64,
        len: u64,
    ) -> u32 {
        self.symbol(name, 0x02, section, start * 8, len * 8)
    }

    /// Makes a symbol one that other objects do not see (`STV_HIDDEN`).
    pub(crate) fn hide(&mut self, symbol: u32) {
        self.symbols[symbol as usize * 24 + 5] = 2;
    }

    /// The symbol of a section.
    pub(crate) fn section_symbol(&mut self, section: usize) -> u32 {
        self.symbol("", 0x03, section, 0, 0)
    }

    /// A relocation at a byte offset.
    pub(crate) fn relocation(&mut self, section: usize, offset: u64, symbol: u32, kind: u32) {
        let entry =
            [offset.to_le_bytes(), (u64::from(symbol) << 32 | u64::from(kind)).to_le_bytes()]
                .concat();
        self.relocations.push((section, REL, entry));
    }

    /// A relocation section with explicit addends.
    pub(crate) fn rela(&mut self, section: usize) {
        self.relocations.push((section, 4, vec![0; 24]));
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        let symtab = self.sections.len() as u32 + self.relocations.len() as u32 + 1;
        for (section, sh_type, data) in std::mem::take(&mut self.relocations) {
            let index = self.section(".rel", sh_type, 0, &data) - 1;
            let entry_size = data.len() as u64;
            self.sections[index] = Section {
                link: symtab,
                info: section as u32,
                entry_size,
                ..take(&mut self.sections[index])
            };
        }
        let symbols = std::mem::take(&mut self.symbols);
        let index = self.section(".symtab", SYMTAB, 0, &symbols) - 1;
        self.sections[index].link = symtab + 1;
        self.sections[index].entry_size = 24;
        self.section(".strtab", STRTAB, 0, &[]);
        let names: Vec<u32> = (0..self.sections.len())
            .map(|at| self.string(&self.sections[at].name.clone()))
            .collect();
        let last = self.sections.last_mut().expect("the strings");
        last.size = self.strings.len() as u64;
        last.data = std::mem::take(&mut self.strings);
        self.assemble(&names)
    }

    fn assemble(&self, names: &[u32]) -> Vec<u8> {
        let mut file = vec![0; 64];
        let mut headers = vec![0; 64];
        for (section, name) in self.sections.iter().zip(names) {
            headers.extend(words(&[*name, section.sh_type]));
            for field in [section.flags, 0, file.len() as u64, section.size] {
                headers.extend(field.to_le_bytes());
            }
            headers.extend(words(&[section.link, section.info]));
            headers.extend([8u64.to_le_bytes(), section.entry_size.to_le_bytes()].concat());
            file.extend(&section.data);
            file.resize(file.len().next_multiple_of(8), 0);
        }
        let count = self.sections.len() as u16 + 1;
        file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        file[16..20].copy_from_slice(&[1, 0, 247, 0]);
        file[20] = 1;
        let section_table = file.len() as u64;
        file[40..48].copy_from_slice(&section_table.to_le_bytes());
        for (at, field) in [(52, 64), (58, 64), (60, count), (62, count - 1)] {
            file[at..at + 2].copy_from_slice(&field.to_le_bytes());
        }
        file.extend(headers);
        file
    }

    pub(crate) fn parse(self) -> Result<Object, ObjectError> {
        Object::parse(&self.finish())
    }
}

fn take(section: &mut Section) -> Section {
    let empty = Section {
        name: String::new(),
        sh_type: 0,
        flags: 0,
        data: vec![],
        size: 0,
        link: 0,
        info: 0,
        entry_size: 0,
    };
    std::mem::replace(section, empty)
}

/// A BTF blob under construction: ids count from 1.
pub(crate) struct Types {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

impl Types {
    /// With `unsigned int` as type 1.
    pub(crate) fn new() -> Self {
        let mut types = Self { types: vec![], strings: vec![0], count: 0 };
        types.add("unsigned int", 1, 0, 4, &[32]);
        types
    }

    pub(crate) fn name(&mut self, text: &str) -> u32 {
        let at = self.strings.len() as u32;
        self.strings.extend(text.as_bytes());
        self.strings.push(0);
        if text.is_empty() { 0 } else { at }
    }

    pub(crate) fn add(
        &mut self,
        name: &str,
        kind: u32,
        vlen: u32,
        size_or_type: u32,
        rest: &[u32],
    ) -> u32 {
        let name = self.name(name);
        self.types.extend(words(&[name, kind << 24 | vlen, size_or_type]));
        self.types.extend(words(rest));
        self.count += 1;
        self.count
    }

    pub(crate) fn pointer(&mut self, to: u32) -> u32 {
        self.add("", 2, 0, to, &[])
    }

    /// `int (*)[number]`
    pub(crate) fn number(&mut self, number: u32) -> u32 {
        let array = self.add("", 3, 0, 0, &[1, 1, number]);
        self.pointer(array)
    }

    /// An array of bytes, as a type of some size.
    pub(crate) fn sized(&mut self, size: u32) -> u32 {
        self.add("sized", 4, 0, size, &[])
    }

    /// An array of no length.
    pub(crate) fn open_array(&mut self, of: u32) -> u32 {
        self.add("", 3, 0, 0, &[of, 1, 0])
    }

    /// A struct of these members, which declares a map.
    pub(crate) fn declaration(&mut self, members: &[(&str, u32)]) -> u32 {
        let words: Vec<u32> = members
            .iter()
            .zip(0..)
            .flat_map(|(&(name, ty), at)| [self.name(name), ty, at * 64])
            .collect();
        self.add("", 4, members.len() as u32, members.len() as u32 * 8, &words)
    }

    /// Section `.maps` with one variable: a struct of these members.
    pub(crate) fn map(&mut self, name: &str, members: &[(&str, u32)]) -> u32 {
        let ty = self.declaration(members);
        let var = self.add(name, 14, 0, ty, &[1]);
        self.add(".maps", 15, 1, 0, &[var, 0, 0])
    }

    pub(crate) fn finish(&self) -> Vec<u8> {
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        [
            vec![0x9f, 0xeb, 1, 0],
            words(&[24, 0, types, types, strings]),
            self.types.clone(),
            self.strings.clone(),
        ]
        .concat()
    }
}

/// A BTF.ext blob of three tables, given as words.
pub(crate) fn ext(func: &[u32], line: &[u32], core: &[u32]) -> Vec<u8> {
    let [f, l, c] = [func, line, core].map(|table| table.len() as u32 * 4);
    [
        vec![0x9f, 0xeb, 1, 0],
        words(&[32, 0, f, f, l, f + l, c]),
        words(func),
        words(line),
        words(core),
    ]
    .concat()
}

/// A fixture's bytes.
pub(crate) fn fixture(name: &str) -> Vec<u8> {
    let path = format!("{}/../../fixtures/xdp/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}
