//! Linking: an image, a base address and a resolver become bytes. Pure; nothing here touches executable memory.
//!
//! A placement is the image's code, and behind it one stub for each distinct call target out of reach:
//!
//! ```text
//!   base ─ code ─ int3 … ─ stub ─ stub …          stub, 16 bytes, aligned to 16:
//!             call rel32 ───┘                       ff 25 00 00 00 00    jmp [rip+0]
//!                                                   xx xx xx xx xx xx xx xx    the target's address
//!                                                   cc cc
//! ```
//!
//! Whether a target is in reach depends on where the code lies, and how long the placement is depends on that. So linking has
//! two steps: a [`Plan`] holds the resolved targets and says how long the placement can get inside an arena; then
//! [`Plan::link`] makes the bytes for the address that was found.

use crate::PackError;
use ebpf_image::{Image, RelocKind, Symbol};
use std::collections::BTreeSet;
use std::ops::Range;

/// x86-64 `int3`: what fills every byte that is not code.
pub(crate) const INT3: u8 = 0xcc;

/// Length and alignment of a stub, in bytes.
const STUB_BYTES: usize = 16;

/// x86-64 `jmp [rip+0]`: jumps to the address stored right behind the instruction.
const JMP_NEXT_WORD: [u8; 6] = [0xff, 0x25, 0, 0, 0, 0];

/// Length of the displacement of `call rel32`, at whose end it is measured.
const REL32_BYTES: usize = 4;

/// An image with its symbols resolved, not bound to a place yet.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    image: &'a Image,
    /// Field and target of each call.
    calls: Vec<(usize, u64)>,
    /// Field and value of each absolute address.
    addresses: Vec<(usize, u64)>,
}

impl<'a> Plan<'a> {
    /// Asks `resolve` for the address of every symbol.
    pub(crate) fn new(
        image: &'a Image,
        resolve: &dyn Fn(Symbol) -> Option<u64>,
    ) -> Result<Self, PackError> {
        let mut plan = Self { image, calls: Vec::new(), addresses: Vec::new() };
        for reloc in image.relocs() {
            let symbol = reloc.kind.symbol();
            let address =
                resolve(symbol).ok_or(PackError::UnknownSymbol { symbol, at: reloc.at })?;
            let list = match reloc.kind {
                RelocKind::Call(_) => &mut plan.calls,
                RelocKind::Address(_) => &mut plan.addresses,
            };
            list.push((reloc.at.index(), address));
        }
        Ok(plan)
    }

    /// Length of the placement wherever it lies, at most.
    pub(crate) fn len_anywhere(&self) -> Result<usize, PackError> {
        self.len_with_stubs(|_| false)
    }

    /// Length of the placement anywhere inside `arena` (shorter than 2 GiB), at most.
    pub(crate) fn len_within(&self, arena: &Range<u64>) -> Result<usize, PackError> {
        self.len_with_stubs(|target| {
            displacement(arena.start, target).is_some() && displacement(arena.end, target).is_some()
        })
    }

    fn len_with_stubs(&self, in_reach: impl Fn(u64) -> bool) -> Result<usize, PackError> {
        let far: BTreeSet<u64> = self
            .calls
            .iter()
            .map(|&(_, target)| target)
            .filter(|&target| !in_reach(target))
            .collect();
        placement_len(self.image.code().len(), far.len())
    }

    /// The bytes to be written at `base`, a multiple of 16.
    pub(crate) fn link(&self, base: u64) -> Result<Vec<u8>, PackError> {
        let mut bytes = self.image.code().to_vec();
        for &(field, address) in &self.addresses {
            bytes[field..field + 8].copy_from_slice(&address.to_le_bytes());
        }
        let mut far = Vec::new();
        for &(field, target) in &self.calls {
            match displacement(base.wrapping_add((field + REL32_BYTES) as u64), target) {
                Some(near) => put_rel32(&mut bytes, field, near),
                None => far.push((field, target)),
            }
        }
        self.append_stubs(&mut bytes, &far)?;
        Ok(bytes)
    }

    /// Appends one stub for each distinct target in `far`, and lets the calls there go to it.
    fn append_stubs(&self, bytes: &mut Vec<u8>, far: &[(usize, u64)]) -> Result<(), PackError> {
        let mut targets: Vec<u64> = far.iter().map(|&(_, target)| target).collect();
        targets.sort_unstable();
        targets.dedup();
        let code_len = bytes.len();
        let len = placement_len(code_len, targets.len())?;
        let stubs = len - targets.len() * STUB_BYTES;
        bytes.resize(len, INT3);
        for (stub, target) in bytes[stubs..].chunks_exact_mut(STUB_BYTES).zip(&targets) {
            stub[..6].copy_from_slice(&JMP_NEXT_WORD);
            stub[6..14].copy_from_slice(&target.to_le_bytes());
        }
        for &(field, target) in far {
            let index =
                targets.binary_search(&target).expect("invariant: each far target has a stub");
            let distance = stubs + index * STUB_BYTES - (field + REL32_BYTES);
            let near =
                i32::try_from(distance).expect("invariant: placements are shorter than 2 GiB");
            put_rel32(bytes, field, near);
        }
        Ok(())
    }
}

/// Length of `code_len` bytes of code followed by `stubs` aligned stubs.
fn placement_len(code_len: usize, stubs: usize) -> Result<usize, PackError> {
    let too_large = PackError::TooLarge { code_len, stubs };
    let len = match stubs {
        0 => Some(code_len),
        _ => stubs
            .checked_mul(STUB_BYTES)
            .and_then(|stubs| code_len.checked_next_multiple_of(STUB_BYTES)?.checked_add(stubs)),
    };
    len.filter(|&len| len <= Image::MAX_CODE_LEN).ok_or(too_large)
}

/// What a `rel32` field that ends at `next` must hold to reach `target`. `None` if 32 bits do not hold it. The processor adds modulo
/// 2⁶⁴, so the distance wraps.
fn displacement(next: u64, target: u64) -> Option<i32> {
    i32::try_from(target.wrapping_sub(next).cast_signed()).ok()
}

fn put_rel32(bytes: &mut [u8], field: usize, displacement: i32) {
    bytes[field..field + REL32_BYTES].copy_from_slice(&displacement.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use ebpf_image::{CodeOffset, EntryPoint, ImageParts, Reloc, SourcePc};
    use proptest::prelude::*;

    const BASE: u64 = 0x2_0000_0000;

    fn image(code: Vec<u8>, relocs: Vec<Reloc>) -> Image {
        let entries =
            vec![EntryPoint { offset: CodeOffset(0), pc: SourcePc(0), name: String::new() }];
        Image::new(ImageParts { code, relocs, entries, pc_map: Vec::new() }).expect("sound")
    }

    fn call(at: u32, helper: u32) -> Reloc {
        Reloc { at: CodeOffset(at), kind: RelocKind::Call(Symbol::Helper(helper)) }
    }

    /// `call helper#1; ret`
    fn one_call() -> Image {
        image(vec![0xe8, 0, 0, 0, 0, 0xc3], vec![call(1, 1)])
    }

    fn link(image: &Image, base: u64, resolve: &dyn Fn(Symbol) -> Option<u64>) -> Vec<u8> {
        let plan = Plan::new(image, resolve).expect("known symbols");
        plan.link(base).expect("small")
    }

    #[test]
    fn a_near_call_is_direct() {
        let forward = link(&one_call(), BASE, &|_| Some(BASE + 0x2000));
        assert_eq!(forward, [0xe8, 0xfb, 0x1f, 0, 0, 0xc3]);
        let backward = link(&one_call(), BASE, &|_| Some(BASE - 0x10));
        assert_eq!(backward, [0xe8, 0xeb, 0xff, 0xff, 0xff, 0xc3]);
    }

    /// `call +11` to the stub at 16; padding; `jmp [rip+0]` with the address behind it; padding.
    const FAR: [u8; 32] = [
        0xe8, 0x0b, 0, 0, 0, 0xc3, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc,
        0xcc, //
        0xff, 0x25, 0, 0, 0, 0, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0xcc, 0xcc,
    ];

    #[test]
    fn a_far_call_goes_through_a_stub() {
        assert_eq!(link(&one_call(), BASE, &|_| Some(0x1122_3344_5566_7788)), FAR);
    }

    #[test]
    fn the_last_reachable_address_is_called_directly_on_both_sides() {
        const NEXT: u64 = BASE + 5;
        let direct = |displacement: [u8; 4]| {
            let mut bytes = vec![0xe8];
            bytes.extend(displacement);
            bytes.push(0xc3);
            bytes
        };
        assert_eq!(
            link(&one_call(), BASE, &|_| Some(NEXT + 0x7fff_ffff)),
            direct([0xff, 0xff, 0xff, 0x7f])
        );
        assert_eq!(link(&one_call(), BASE, &|_| Some(NEXT - 0x8000_0000)), direct([0, 0, 0, 0x80]));
        for beyond in [NEXT + 0x8000_0000, NEXT - 0x8000_0001] {
            let bytes = link(&one_call(), BASE, &|_| Some(beyond));
            assert_eq!(bytes[..22], FAR[..22], "{beyond:#x}");
            assert_eq!(bytes[22..30], beyond.to_le_bytes());
        }
    }

    #[test]
    fn calls_to_one_target_share_a_stub() {
        // call #1; call #2; call #1; call #3, where #3 has the address of #2
        let code = [[0xe8, 0, 0, 0, 0]; 4].concat();
        let image = image(code, vec![call(1, 1), call(6, 2), call(11, 1), call(16, 3)]);
        let bytes = link(&image, 0x1000, &|symbol| match symbol {
            Symbol::Helper(1) => Some(0x7000_0000_0000),
            _ => Some(0x6000_0000_0000),
        });
        // Stubs at 32 (for 0x6000…) and 48 (for 0x7000…), each call relative to its own end.
        let calls = [0xe8, 43, 0, 0, 0, 0xe8, 22, 0, 0, 0, 0xe8, 33, 0, 0, 0, 0xe8, 12, 0, 0, 0];
        assert_eq!(bytes[..20], calls);
        assert_eq!(bytes[20..32], [0xcc; 12]);
        let stub = |high| [0xff, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0, high, 0, 0, 0xcc, 0xcc];
        assert_eq!(bytes[32..48], stub(0x60));
        assert_eq!(bytes[48..], stub(0x70));
    }

    #[test]
    fn an_address_field_holds_all_eight_bytes() {
        // mov rax, map#2; ret
        let field = Reloc { at: CodeOffset(2), kind: RelocKind::Address(Symbol::Map(2)) };
        let image = image([&[0x48, 0xb8][..], &[0; 8], &[0xc3]].concat(), vec![field]);
        let bytes = link(&image, BASE, &|symbol| {
            (symbol == Symbol::Map(2)).then_some(0x0102_0304_0506_0708)
        });
        assert_eq!(bytes, [0x48, 0xb8, 8, 7, 6, 5, 4, 3, 2, 1, 0xc3]);
    }

    #[test]
    fn an_unknown_symbol_is_named() {
        let unknown = Plan::new(&one_call(), &|_| None).expect_err("nothing is known");
        assert_eq!(
            unknown,
            PackError::UnknownSymbol { symbol: Symbol::Helper(1), at: CodeOffset(1) }
        );
    }

    #[test]
    fn a_placement_is_shorter_than_two_gibibytes() {
        assert_eq!(placement_len(6, 0), Ok(6));
        assert_eq!(placement_len(6, 2), Ok(48));
        assert_eq!(placement_len(0x7fff_ffff, 0), Ok(0x7fff_ffff));
        assert_eq!(placement_len(0x7fff_ffe0, 1), Ok(0x7fff_fff0));
        assert_eq!(
            placement_len(0x7fff_ffe1, 1),
            Err(PackError::TooLarge { code_len: 0x7fff_ffe1, stubs: 1 })
        );
        assert!(placement_len(6, usize::MAX).is_err());
    }

    proptest! {
        /// The announced length is enough at every base in the arena, also where the target is at the edge of reach.
        #[test]
        fn the_placement_fits_in_what_was_announced(
            at in 0u64..0x20_0000,
            edge in prop::sample::select(vec![0x8000_0000u64, 0x8000_0000u64.wrapping_neg(), 0]),
            off in -0x20_0100i64..0x20_0100,
        ) {
            let arena = BASE..BASE + 0x20_0000;
            let target = arena.start.wrapping_add(edge).wrapping_add_signed(off);
            let image = one_call();
            let plan = Plan::new(&image, &|_| Some(target)).expect("known");
            let bytes = plan.link(arena.start + (at & !15)).expect("small");
            prop_assert!(bytes.len() <= plan.len_within(&arena).expect("small"));
            prop_assert!(bytes.len() <= plan.len_anywhere().expect("small"));
        }
    }
}
