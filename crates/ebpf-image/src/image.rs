//! The image, and the checks that make it sound.

use crate::{CodeOffset, ImageError, PcMap, Reloc, RelocKind, SourcePc};
use alloc::string::String;
use alloc::vec::Vec;

/// Opcode of the x86-64 instruction `call rel32`.
const CALL_REL32: u8 = 0xe8;

/// Where a subprogram begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryPoint {
    /// First byte of its machine code.
    pub offset: CodeOffset,
    /// Its first instruction in the BPF program.
    pub pc: SourcePc,
    /// Its name, for listings, profilers and error messages; may be empty.
    pub name: String,
}

/// What a compiler hands over. [`Image::new`] checks it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageParts {
    /// Machine code; jumps and calls inside it are already resolved.
    pub code: Vec<u8>,
    /// Fields that depend on placement, in any order.
    pub relocs: Vec<Reloc>,
    /// One for each subprogram; the first is the program's entry.
    pub entries: Vec<EntryPoint>,
    /// Which instruction each piece of code comes from.
    pub pc_map: PcMap,
}

/// Compiled code as plain data. See the [crate documentation](crate) for what holds of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    parts: ImageParts,
}

impl Image {
    /// The longest code an image may hold, in bytes: any distance inside it fits in a signed 32-bit displacement.
    pub const MAX_CODE_LEN: usize = i32::MAX as usize;

    /// Checks `parts` and makes them an image; relocations are brought into the order of their fields.
    ///
    /// # Errors
    /// Whichever [`ImageError`] the first violated invariant asks for.
    pub fn new(mut parts: ImageParts) -> Result<Self, ImageError> {
        parts.relocs.sort_by_key(|reloc| reloc.at);
        check_len(parts.code.len())?;
        check_entries(&parts)?;
        check_relocs(&parts)?;
        check_pc_map(&parts)?;
        Ok(Self { parts })
    }

    /// The machine code; what stands in relocated fields means nothing.
    #[must_use]
    pub fn code(&self) -> &[u8] {
        &self.parts.code
    }

    /// The relocations, by ascending field.
    #[must_use]
    pub fn relocs(&self) -> &[Reloc] {
        &self.parts.relocs
    }

    /// The entry points, at least one; the first is the program's entry.
    #[must_use]
    pub fn entries(&self) -> &[EntryPoint] {
        &self.parts.entries
    }

    /// The pc map, by ascending code offset.
    #[must_use]
    pub fn pc_map(&self) -> &PcMap {
        &self.parts.pc_map
    }

    /// The instruction that the byte of code at `offset` was compiled from. `None` for code that belongs to no instruction
    /// (what precedes the first entry of the pc map) and for offsets outside the code.
    #[must_use]
    pub fn pc_at(&self, offset: CodeOffset) -> Option<SourcePc> {
        if offset.index() >= self.parts.code.len() {
            return None;
        }
        self.parts.pc_map.owner(offset).map(|(_, pc)| pc)
    }
}

fn check_len(len: usize) -> Result<(), ImageError> {
    if len > Image::MAX_CODE_LEN {
        return Err(ImageError::CodeTooLong { len });
    }
    Ok(())
}

fn check_entries(parts: &ImageParts) -> Result<(), ImageError> {
    let len = parts.code.len();
    if parts.entries.is_empty() {
        return Err(ImageError::NoEntry);
    }
    match parts.entries.iter().position(|entry| entry.offset.index() >= len) {
        Some(index) => {
            Err(ImageError::EntryOutside { index, offset: parts.entries[index].offset, len })
        }
        None => Ok(()),
    }
}

/// Expects the relocations in ascending order.
fn check_relocs(parts: &ImageParts) -> Result<(), ImageError> {
    let len = parts.code.len();
    let mut previous: Option<Reloc> = None;
    for &reloc in &parts.relocs {
        let (at, symbol, field) = (reloc.at, reloc.kind.symbol(), reloc.field());
        if field.end > len {
            return Err(ImageError::RelocOutside { at, symbol, len });
        }
        // A call's opcode belongs to the relocation: no other field may cover it.
        let mut first = field.start;
        if let RelocKind::Call(_) = reloc.kind {
            match first.checked_sub(1) {
                Some(opcode) if parts.code[opcode] == CALL_REL32 => first = opcode,
                _ => return Err(ImageError::NotACall { at, symbol }),
            }
        }
        if let Some(previous) = previous
            && previous.field().end > first
        {
            return Err(ImageError::RelocOverlap { at, symbol, previous: previous.at });
        }
        previous = Some(reloc);
    }
    Ok(())
}

fn check_pc_map(parts: &ImageParts) -> Result<(), ImageError> {
    let len = parts.code.len();
    let mut previous = CodeOffset(0);
    for (index, &offset) in parts.pc_map.starts().iter().enumerate() {
        if offset < previous {
            return Err(ImageError::PcMapUnsorted { index, offset });
        }
        // An instruction that emitted nothing may stand at the very end.
        if offset.index() > len {
            return Err(ImageError::PcMapOutside { index, offset, len });
        }
        previous = offset;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Symbol;
    use alloc::string::ToString;
    use alloc::vec;

    const HELPER: Symbol = Symbol::Helper(5);

    fn call(at: u32) -> Reloc {
        Reloc { at: CodeOffset(at), kind: RelocKind::Call(HELPER) }
    }

    fn address(at: u32) -> Reloc {
        Reloc { at: CodeOffset(at), kind: RelocKind::Address(Symbol::Map(1)) }
    }

    fn entry(offset: u32) -> EntryPoint {
        EntryPoint { offset: CodeOffset(offset), pc: SourcePc(0), name: "main".to_string() }
    }

    fn pc_map<const N: usize>(entries: [(u32, u32); N]) -> PcMap {
        entries.into_iter().map(|(start, pc)| (CodeOffset(start), SourcePc(pc))).collect()
    }

    /// `call helper#5` at 0, `mov rax, map#1` at 5, `ret` at 15.
    fn parts() -> ImageParts {
        let code = vec![0xe8, 0, 0, 0, 0, 0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xc3];
        ImageParts {
            code,
            relocs: vec![address(7), call(1)],
            entries: vec![entry(0)],
            pc_map: pc_map([(0, 0), (5, 1), (15, 3)]),
        }
    }

    fn refused(change: impl FnOnce(&mut ImageParts)) -> ImageError {
        let mut parts = parts();
        change(&mut parts);
        Image::new(parts).expect_err("the parts are unsound")
    }

    #[test]
    fn sound_parts_make_an_image_with_relocations_in_order() {
        let image = Image::new(parts()).expect("sound");
        assert_eq!(image.relocs(), [call(1), address(7)]);
        assert_eq!(image.code().len(), 16);
        assert_eq!(image.entries(), [entry(0)]);
        assert_eq!(image.pc_map().len(), 3);
        assert_eq!(image.clone(), image);
    }

    #[test]
    fn the_longest_code_is_just_short_of_two_gibibytes() {
        assert_eq!(check_len(0x7fff_ffff), Ok(()));
        assert_eq!(check_len(0x8000_0000), Err(ImageError::CodeTooLong { len: 0x8000_0000 }));
    }

    #[test]
    fn an_entry_is_needed_and_lies_inside() {
        assert_eq!(refused(|p| p.entries.clear()), ImageError::NoEntry);
        assert_eq!(
            refused(|p| p.code.clear()),
            ImageError::EntryOutside { index: 0, offset: CodeOffset(0), len: 0 }
        );
        assert_eq!(
            refused(|p| p.entries.push(entry(16))),
            ImageError::EntryOutside { index: 1, offset: CodeOffset(16), len: 16 }
        );
    }

    #[test]
    fn a_field_may_end_with_the_code_but_not_behind_it() {
        let mut fits = parts();
        fits.relocs = vec![address(8)];
        assert!(Image::new(fits).is_ok());
        let outside = |at, symbol| ImageError::RelocOutside { at: CodeOffset(at), symbol, len: 16 };
        assert_eq!(refused(|p| p.relocs.push(address(9))), outside(9, Symbol::Map(1)));
        assert_eq!(refused(|p| p.relocs.push(call(13))), outside(13, HELPER));
        assert_eq!(refused(|p| p.relocs.push(call(u32::MAX))), outside(u32::MAX, HELPER));
    }

    #[test]
    fn a_call_field_follows_its_opcode() {
        let not_a_call = |at| ImageError::NotACall { at: CodeOffset(at), symbol: HELPER };
        assert_eq!(refused(|p| p.relocs = vec![call(0)]), not_a_call(0));
        assert_eq!(refused(|p| p.relocs = vec![call(2)]), not_a_call(2));
    }

    #[test]
    fn fields_do_not_overlap_each_other_or_a_calls_opcode() {
        let overlap = |at, symbol, previous| ImageError::RelocOverlap {
            at: CodeOffset(at),
            symbol,
            previous: CodeOffset(previous),
        };
        assert_eq!(refused(|p| p.relocs.push(address(8))), overlap(8, Symbol::Map(1), 7));
        assert_eq!(refused(|p| p.relocs.push(call(1))), overlap(1, HELPER, 1));
        let opcode_covered = refused(|p| {
            p.code = vec![0xe8; 16];
            p.relocs = vec![address(0), call(8)];
        });
        assert_eq!(opcode_covered, overlap(8, HELPER, 0));
        let mut adjacent = parts();
        adjacent.code = vec![0xe8; 16];
        adjacent.relocs = vec![address(0), call(9)];
        assert!(Image::new(adjacent).is_ok());
    }

    #[test]
    fn the_pc_map_is_sorted_and_inside() {
        assert_eq!(
            refused(|p| p.pc_map = pc_map([(0, 0), (15, 3), (5, 1)])),
            ImageError::PcMapUnsorted { index: 2, offset: CodeOffset(5) }
        );
        assert_eq!(
            refused(|p| p.pc_map.push(CodeOffset(17), SourcePc(9))),
            ImageError::PcMapOutside { index: 3, offset: CodeOffset(17), len: 16 }
        );
    }

    #[test]
    fn each_byte_of_code_knows_its_instruction() {
        let image = Image::new(parts()).expect("sound");
        let pcs = [(0, 0), (4, 0), (5, 1), (14, 1), (15, 3)];
        for (offset, pc) in pcs {
            assert_eq!(image.pc_at(CodeOffset(offset)), Some(SourcePc(pc)), "byte {offset}");
        }
        assert_eq!(image.pc_at(CodeOffset(16)), None, "behind the code");
        assert_eq!(image.pc_at(CodeOffset(u32::MAX)), None);
    }

    #[test]
    fn a_prologue_has_no_instruction_and_an_empty_one_owns_no_byte() {
        let mut with_prologue = parts();
        with_prologue.pc_map = pc_map([(5, 0), (5, 1), (16, 2)]);
        let image = Image::new(with_prologue).expect("sound");
        assert_eq!(image.pc_at(CodeOffset(4)), None);
        assert_eq!(image.pc_at(CodeOffset(5)), Some(SourcePc(1)));
        assert_eq!(image.pc_at(CodeOffset(15)), Some(SourcePc(1)));
    }

    #[test]
    fn names_read_as_in_listings() {
        let names = [
            (Symbol::Helper(5), "helper#5"),
            (Symbol::Kfunc { btf_id: 123, module: 2 }, "kfunc#123@2"),
            (Symbol::Map(1), "map#1"),
            (Symbol::MapValue { map: 1, offset: 16 }, "map#1[0]+16"),
            (Symbol::Native(3), "native#3"),
        ];
        for (symbol, name) in names {
            assert_eq!(symbol.to_string(), name);
        }
        assert_eq!(
            refused(|p| p.relocs.push(call(13))).to_string(),
            "relocation at +0xd for helper#5 is outside the code of 16 bytes"
        );
    }
}
