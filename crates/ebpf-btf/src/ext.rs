//! BTF.ext: which instructions belong to which function, source line and field access.
//!
//! Three tables of the same shape: a record size, then for each ELF section its name, a count and
//! the records. Records may be longer than the fields known here; what follows them is skipped.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use crate::btf::wrong_kind;
use crate::parse::Header;
use crate::reader::{Reader, Strings};
use crate::{Btf, BtfError, NameOff, Type, TypeId};

/// Bytes of the shortest header: the function and line tables only.
const HEADER_LEN_MIN: u32 = 24;
/// Bytes of the header with the table of CO-RE relocations.
const HEADER_LEN: usize = 32;

/// The most ELF sections that a table may speak of.
pub const MAX_EXT_SECTIONS: usize = 4096;

/// The start of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FuncInfo {
    /// Its first instruction, in bytes from the start of its ELF section.
    pub insn_off: u32,
    /// The function, a [`Type::Func`].
    pub func: TypeId,
}

/// The source line of an instruction and of those behind it, up to the next record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineInfo {
    /// The first instruction, in bytes from the start of its ELF section.
    pub insn_off: u32,
    /// The source file's path as the compiler was given it.
    pub file: NameOff,
    /// The text of the line; empty where the compiler did not have the source.
    pub text: NameOff,
    /// The line, counted from 1; 0 for code without one.
    pub line: u32,
    /// The column, counted from 1 and at most 1023; 0 for unknown.
    pub col: u16,
}

/// A CO-RE relocation: an instruction whose immediate depends on the layout of the running kernel's
/// types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoreRelo {
    /// The instruction, in bytes from the start of its ELF section.
    pub insn_off: u32,
    /// The type that the access starts from.
    pub root: TypeId,
    /// The access, such as `0:1:2`: indices of members and elements, or of an enumerator.
    pub access: NameOff,
    /// What is asked about the access (`enum bpf_core_relo_kind`): 0 is a field's byte offset.
    pub kind: u32,
}

/// The contents of a `.BTF.ext` section. Its names and types are those of the [`Btf`] it was read
/// with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BtfExt {
    func_info: Table<FuncInfo>,
    line_info: Table<LineInfo>,
    core_relos: Table<CoreRelo>,
}

/// Records by the name of their ELF section.
type Table<T> = BTreeMap<String, Vec<T>>;

impl BtfExt {
    /// Reads a `.BTF.ext` section that stands beside `btf`.
    ///
    /// # Errors
    /// Anything that the format does not allow, with its place; names and types that `btf` does not have; function
    /// records whose type is no function.
    pub fn parse(bytes: &[u8], btf: &Btf) -> Result<BtfExt, BtfError> {
        let mut header = Header::parse(bytes, HEADER_LEN_MIN, HEADER_LEN)?;
        let strings = btf.strings();
        let func_info = parse_table(
            "function",
            header.section("function", 4)?,
            strings,
            |_, [insn_off, ty]| {
                let func = TypeId(ty);
                match btf.type_by_id(func)? {
                    Type::Func(_) => Ok(FuncInfo { insn_off, func }),
                    ty => Err(wrong_kind(func, "a function", ty)),
                }
            },
        )?;
        let line_info = parse_table(
            "line",
            header.section("line", 4)?,
            strings,
            |offset, [insn_off, file, text, position]| {
                // The line is in the top 22 bits, the column in the low 10.
                let (line, col) = (position >> 10, (position & 0x3ff) as u16);
                Ok(LineInfo {
                    insn_off,
                    file: strings.check(file, offset)?,
                    text: strings.check(text, offset)?,
                    line,
                    col,
                })
            },
        )?;
        let core_relos = if header.fields.is_empty() {
            Table::new()
        } else {
            let section = header.section("CO-RE", 4)?;
            parse_table("CO-RE", section, strings, |offset, [insn_off, root, access, kind]| {
                let root = TypeId(root);
                btf.type_by_id(root)?;
                Ok(CoreRelo { insn_off, root, access: strings.check(access, offset)?, kind })
            })?
        };
        Ok(BtfExt { func_info, line_info, core_relos })
    }

    /// The functions of an ELF section, in the order of the table.
    pub fn func_info(&self, section: &str) -> &[FuncInfo] {
        of_section(&self.func_info, section)
    }

    /// The source lines of an ELF section, in the order of the table.
    pub fn line_info(&self, section: &str) -> &[LineInfo] {
        of_section(&self.line_info, section)
    }

    /// The CO-RE relocations of an ELF section, in the order of the table.
    pub fn core_relos(&self, section: &str) -> &[CoreRelo] {
        of_section(&self.core_relos, section)
    }
}

fn of_section<'a, T>(table: &'a Table<T>, section: &str) -> &'a [T] {
    table.get(section).map_or(&[], Vec::as_slice)
}

/// Reads one table whose records start with `N` words; `make` also gets the record's offset.
fn parse_table<const N: usize, T>(
    name: &'static str,
    mut reader: Reader<'_>,
    strings: Strings<'_>,
    make: impl Fn(usize, [u32; N]) -> Result<T, BtfError>,
) -> Result<Table<T>, BtfError> {
    let mut table = Table::new();
    if reader.is_empty() {
        return Ok(table);
    }
    let size = reader.u32()?;
    let min = N as u32 * 4;
    if size < min || !size.is_multiple_of(4) {
        return Err(BtfError::BadRecordSize { table: name, size, min });
    }
    while !reader.is_empty() {
        let offset = reader.offset();
        let [section, count] = reader.words()?;
        let section = strings.check(section, offset)?;
        let section = strings.get(section).unwrap_or_default();
        if table.len() == MAX_EXT_SECTIONS && !table.contains_key(section) {
            return Err(BtfError::TooManySections { table: name, limit: MAX_EXT_SECTIONS });
        }
        let records: &mut Vec<T> = table.entry(section.into()).or_default();
        for _ in 0..count {
            let offset = reader.offset();
            let mut record = Reader::new(reader.take(size as usize)?, offset);
            records.push(make(offset, record.words()?)?);
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;
    use crate::testing::{Blob, NO_FLAG, ext};
    use proptest::prelude::*;

    /// `int` (1), a prototype (2), a function (3), and the names `xdp` and `tc` (offsets given),
    /// `a.c`, a line, an access.
    fn btf() -> (Btf, [u32; 5]) {
        let mut blob = Blob::new();
        blob.int().ty("", 13, NO_FLAG, 0, 1, &[]).ty("f", 12, NO_FLAG, 1, 2, &[]);
        let names = ["xdp", "tc", "a.c", "return 0;", "0:1"].map(|name| blob.name(name));
        (Btf::parse(&blob.finish()).unwrap(), names)
    }

    #[test]
    fn tables_are_read_by_section() {
        let (btf, [xdp, tc, file, text, access]) = btf();
        let func = [8, xdp, 1, 0, 3, tc, 2, 0, 3, 64, 3];
        // Records of 20 bytes: the last word is one that a later format might add.
        let line = [20, xdp, 2, 0, file, text, 7 << 10 | 5, 99, 8, file, 0, u32::MAX, 99];
        let blob = ext(&func, &line, &[16, tc, 1, 24, 1, access, 2]);
        let ext = BtfExt::parse(&blob, &btf).unwrap();
        let f = |insn_off| FuncInfo { insn_off, func: TypeId(3) };
        assert_eq!(ext.func_info("xdp"), [f(0)]);
        assert_eq!(ext.func_info("tc"), [f(0), f(64)]);
        let [first, second] = ext.line_info("xdp") else { panic!("two lines") };
        assert_eq!(
            (btf.name(first.file), btf.name(first.text), first.line, first.col),
            ("a.c", "return 0;", 7, 5)
        );
        assert_eq!(
            (second.insn_off, btf.name(second.text), second.line, second.col),
            (8, "", 4_194_303, 1023)
        );
        let core = CoreRelo { insn_off: 24, root: TypeId(1), access: NameOff(access), kind: 2 };
        assert_eq!(ext.core_relos("tc"), [core]);
        assert!(ext.line_info("tc").is_empty() && ext.core_relos("xdp").is_empty());
    }

    #[test]
    fn the_short_header_has_no_core_relocations() {
        let (btf, [xdp, ..]) = btf();
        let mut blob = ext(&[8, xdp, 1, 0, 3], &[], &[]);
        blob.drain(24..32);
        blob[4] = 24;
        let ext = BtfExt::parse(&blob, &btf).unwrap();
        assert_eq!(ext.func_info("xdp").len(), 1);
    }

    #[test]
    fn bad_tables_are_told_apart() {
        let (btf, [xdp, _, file, text, _]) = btf();
        let reject = |func: &[u32], line: &[u32], core: &[u32]| {
            BtfExt::parse(&ext(func, line, core), &btf).unwrap_err()
        };
        let size = |table, size, min| BtfError::BadRecordSize { table, size, min };
        assert_eq!(reject(&[4, xdp, 1, 0], &[], &[]), size("function", 4, 8));
        assert_eq!(reject(&[], &[18, xdp, 1, 0], &[]), size("line", 18, 16));
        assert_eq!(reject(&[], &[], &[0]), size("CO-RE", 0, 16));
        let truncated = BtfError::Truncated { offset: 32 + 20, needed: 8, available: 0 };
        assert_eq!(reject(&[8, xdp, u32::MAX, 0, 3], &[], &[]), truncated);
        let not_a_function =
            BtfError::WrongKind { id: TypeId(1), expected: "a function", found: Kind::Int };
        assert_eq!(reject(&[8, xdp, 1, 0, 1], &[], &[]), not_a_function);
        assert_eq!(reject(&[8, xdp, 1, 0, 9], &[], &[]), BtfError::NoSuchType { id: TypeId(9) });
        assert_eq!(
            reject(&[8, 900, 1, 0, 3], &[], &[]),
            BtfError::BadName { offset: 36, name_off: 900 }
        );
        let bad_name = BtfError::BadName { offset: 44, name_off: 901 };
        assert_eq!(reject(&[], &[16, xdp, 1, 0, 901, text, 0], &[]), bad_name);
        assert_eq!(reject(&[], &[16, xdp, 1, 0, file, 901, 0], &[]), bad_name);
        assert_eq!(reject(&[], &[], &[16, xdp, 1, 0, 1, 901, 0]), bad_name);
        assert_eq!(
            reject(&[], &[], &[16, xdp, 1, 0, 9, 0, 0]),
            BtfError::NoSuchType { id: TypeId(9) }
        );
    }

    #[test]
    fn the_number_of_sections_is_limited() {
        let with_sections = |count: usize| {
            let mut blob = Blob::new();
            let names: Vec<u32> = (0..count).map(|at| blob.name(&at.to_string())).collect();
            let btf = Btf::parse(&blob.finish()).unwrap();
            let headers = names.iter().flat_map(|&name| [name, 0]);
            let table: Vec<u32> = [8].into_iter().chain(headers).collect();
            BtfExt::parse(&ext(&table, &[], &[]), &btf)
        };
        assert!(with_sections(MAX_EXT_SECTIONS).is_ok());
        let error = BtfError::TooManySections { table: "function", limit: MAX_EXT_SECTIONS };
        assert_eq!(with_sections(MAX_EXT_SECTIONS + 1), Err(error));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), byte: u8) {
            let (btf, [xdp, _, file, text, access]) = btf();
            let _ = BtfExt::parse(&bytes, &btf);
            let mut blob = ext(&[8, xdp, 1, 0, 3], &[16, xdp, 1, 0, file, text, 9], &[16, xdp, 1, 0, 1, access, 0]);
            prop_assert!(BtfExt::parse(&blob, &btf).is_ok());
            let at = at.index(blob.len());
            blob[at] = byte;
            let _ = BtfExt::parse(&blob, &btf);
        }
    }
}
