//! Linking: an image, a base address and a resolver become bytes. Pure; nothing here touches executable memory.
//!
//! A placement is the image's code, and behind it one stub for each distinct call target out of reach, and for each
//! symbol that can be replaced:
//!
//! ```text
//!   base ─ code ─ int3 … ─ stub ─ stub …          stub, 16 bytes, aligned to 16:
//!             call rel32 ───┘                       ff 25 02 00 00 00          jmp [rip+2]
//!                                                   cc cc
//!                                                   xx xx xx xx xx xx xx xx    slot: the target's address
//! ```
//!
//! A slot is an aligned word of data. Changing what a call reaches is one store to it, which no processor sees in
//! halves; no instruction ever changes while it may be executed, so the rules for cross-modifying code do not come up.
//!
//! Whether a target is in reach depends on where the code lies, and how long the placement is depends on that. So linking has
//! two steps: a [`Plan`] holds the resolved targets and says how long the placement can get inside an arena; then
//! [`Plan::link`] makes the bytes for the address that was found.

use crate::{Entry, PackError, Target};
use ebpf_image::{Image, Reloc, RelocKind, Symbol};
use std::ops::Range;
use std::sync::Mutex;

/// x86-64 `int3`: what fills every byte that is not code.
pub(crate) const INT3: u8 = 0xcc;

/// Length and alignment of a stub, in bytes.
const STUB_BYTES: usize = 16;

/// x86-64 `jmp [rip+2]`: jumps to the address stored in the stub's slot.
const JMP_SLOT: [u8; 6] = [0xff, 0x25, 2, 0, 0, 0];

/// Offset of the slot in a stub: a multiple of 8, so that its address is read and replaced in one piece.
const SLOT_OFFSET: usize = 8;

/// Length of the displacement of `call rel32`, at whose end it is measured.
const REL32_BYTES: usize = 4;

/// Longest placement, in bytes of code and stubs: thirty times what a million BPF instructions compile to.
pub const MAX_PLACEMENT_BYTES: usize = 256 << 20;

/// An image with its symbols resolved, not bound to a place yet.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    image: &'a Image,
    fields: Vec<Field>,
}

/// A relocated field and what belongs into it.
#[derive(Debug)]
struct Field {
    at: usize,
    kind: RelocKind,
    address: u64,
    replaceable: bool,
    /// What the address belongs to, if that is placed code.
    kept: Option<Entry>,
}

impl Field {
    /// The stub of this field. Fields with equal keys share one: those of one address, or of one replaceable symbol.
    fn stub(&self) -> StubKey {
        match self.replaceable {
            true => StubKey::Symbol(self.kind.symbol()),
            false => StubKey::Address(self.address),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum StubKey {
    Address(u64),
    Symbol(Symbol),
}

/// What placed code refers to.
#[derive(Debug)]
pub(crate) struct Links {
    /// Placed code that it refers to directly.
    pub(crate) kept: Vec<Entry>,
    /// What it refers to through slots.
    pub(crate) slots: Mutex<Vec<LinkSlot>>,
}

/// An aligned word of a placement that holds the address of a replaceable symbol.
#[derive(Debug)]
pub(crate) struct LinkSlot {
    pub(crate) symbol: Symbol,
    /// Bytes from the start of the placement; a multiple of 8.
    pub(crate) offset: usize,
    /// What the address belongs to, if that is placed code.
    pub(crate) kept: Option<Entry>,
}

impl<'a> Plan<'a> {
    /// Asks `resolve` for what every symbol stands for.
    #[inline]
    pub(crate) fn new(
        image: &'a Image,
        resolve: &dyn Fn(Symbol) -> Option<Target>,
    ) -> Result<Self, PackError> {
        placement_len(image.code().len(), 0)?;
        let mut fields = Vec::with_capacity(image.relocs().len());
        for &Reloc { at, kind } in image.relocs() {
            let symbol = kind.symbol();
            let target = resolve(symbol).ok_or(PackError::UnknownSymbol { symbol, at })?;
            let Target { address, kept, replaceable } = target;
            fields.push(Field { at: at.index(), kind, address, replaceable, kept });
        }
        Ok(Self { image, fields })
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
        if let Some(code) = self.as_is() {
            return Ok(code.len());
        }
        placement_len(self.image.code().len(), self.stubs(|_, target| in_reach(target)).len())
    }

    /// The stubs that are needed, in their order. `in_reach` is told the field and the target of each call.
    fn stubs(&self, in_reach: impl Fn(usize, u64) -> bool) -> Vec<StubKey> {
        let needs_stub = |field: &&Field| {
            let far =
                matches!(field.kind, RelocKind::Call(_)) && !in_reach(field.at, field.address);
            field.replaceable || far
        };
        let mut stubs: Vec<StubKey> =
            self.fields.iter().filter(needs_stub).map(Field::stub).collect();
        stubs.sort_unstable();
        stubs.dedup();
        stubs
    }

    /// The image's code, if there is nothing to link.
    pub(crate) fn as_is(&self) -> Option<&'a [u8]> {
        self.fields.is_empty().then(|| self.image.code())
    }

    /// Puts the bytes to be written at `base`, a multiple of 16, into `bytes`, instead of what was in there.
    #[inline]
    pub(crate) fn link(&self, base: u64, bytes: &mut Vec<u8>) -> Result<(), PackError> {
        let (stubs, first_stub) = self.stubs_at(base)?;
        let code = self.image.code();
        bytes.clear();
        bytes.extend_from_slice(code);
        bytes.resize(first_stub, INT3);
        bytes.extend(stubs.iter().flat_map(|_| EMPTY_STUB));
        for field in &self.fields {
            let index = stubs.binary_search(&field.stub()).ok();
            let stub = index.map(|index| first_stub + index * STUB_BYTES);
            match field.kind {
                RelocKind::Call(_) => {
                    // A stub that other calls need is not used where a direct call reaches.
                    let direct = displacement(next(base, field.at), field.address);
                    let near = direct
                        .filter(|_| !field.replaceable)
                        .or_else(|| Some(distance(field.at, stub?)))
                        .expect("invariant: each far target has a stub");
                    put(bytes, field.at, &near.to_le_bytes());
                }
                RelocKind::Address(_) => {
                    let stub = stub.filter(|_| field.replaceable);
                    let address = stub.map_or(field.address, |stub| base + stub as u64);
                    put(bytes, field.at, &address.to_le_bytes());
                }
            }
            if let Some(stub) = stub {
                put(bytes, stub + SLOT_OFFSET, &field.address.to_le_bytes());
            }
        }
        Ok(())
    }

    /// What the placement at `base` refers to, if that has to be known later.
    pub(crate) fn into_links(self, base: u64) -> Option<Box<Links>> {
        if self.fields.iter().all(|field| !field.replaceable && field.kept.is_none()) {
            return None;
        }
        let (stubs, first_stub) = self.stubs_at(base).expect("invariant: it was linked there");
        let (mut slots, mut kept) = (slots(&stubs, first_stub), Vec::new());
        let addresses = stubs.len() - slots.len();
        for field in self.fields {
            match stubs.binary_search(&field.stub()) {
                Ok(index) if field.replaceable => slots[index - addresses].kept = field.kept,
                _ => kept.extend(field.kept),
            }
        }
        Some(Box::new(Links { kept, slots: Mutex::new(slots) }))
    }

    /// The stubs of the placement at `base`, and the offset of the first.
    fn stubs_at(&self, base: u64) -> Result<(Vec<StubKey>, usize), PackError> {
        let stubs = self.stubs(|field, target| displacement(next(base, field), target).is_some());
        let len = placement_len(self.image.code().len(), stubs.len())?;
        let first_stub = len - stubs.len() * STUB_BYTES;
        Ok((stubs, first_stub))
    }
}

/// The slots of the stubs that belong to symbols: the last ones, as keys are ordered.
fn slots(stubs: &[StubKey], first_stub: usize) -> Vec<LinkSlot> {
    let slot = |(index, &key): (usize, &StubKey)| match key {
        StubKey::Address(_) => None,
        StubKey::Symbol(symbol) => {
            let offset = first_stub + index * STUB_BYTES + SLOT_OFFSET;
            Some(LinkSlot { symbol, offset, kept: None })
        }
    };
    stubs.iter().enumerate().filter_map(slot).collect()
}

/// A stub before its address is put into it.
const EMPTY_STUB: [u8; STUB_BYTES] = {
    let mut stub = [INT3; STUB_BYTES];
    let mut at = 0;
    while at < JMP_SLOT.len() {
        stub[at] = JMP_SLOT[at];
        at += 1;
    }
    stub
};

fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    bytes[at..at + field.len()].copy_from_slice(field);
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
    len.filter(|&len| len <= MAX_PLACEMENT_BYTES).ok_or(too_large)
}

/// Address of the byte behind the `rel32` field at `field` of code at `base`.
fn next(base: u64, field: usize) -> u64 {
    base.wrapping_add((field + REL32_BYTES) as u64)
}

/// What the `rel32` field at `field` must hold to reach the stub at `stub`, behind it in the same placement.
fn distance(field: usize, stub: usize) -> i32 {
    i32::try_from(stub - (field + REL32_BYTES)).expect("invariant: placements are short")
}

/// What a `rel32` field that ends at `next` must hold to reach `target`. `None` if 32 bits do not hold it. The processor adds modulo
/// 2⁶⁴, so the distance wraps.
fn displacement(next: u64, target: u64) -> Option<i32> {
    i32::try_from(target.wrapping_sub(next).cast_signed()).ok()
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
        Image::new(ImageParts { code, relocs, entries, pc_map: Default::default() }).expect("sound")
    }

    fn call(at: u32, helper: u32) -> Reloc {
        Reloc { at: CodeOffset(at), kind: RelocKind::Call(Symbol::Helper(helper)) }
    }

    /// `call helper#1; ret`
    fn one_call() -> Image {
        image(vec![0xe8, 0, 0, 0, 0, 0xc3], vec![call(1, 1)])
    }

    fn link(image: &Image, base: u64, resolve: &dyn Fn(Symbol) -> Option<u64>) -> Vec<u8> {
        let plan = Plan::new(image, &|symbol| resolve(symbol).map(Target::from));
        let mut bytes = vec![0xff; 100];
        let plan = plan.expect("known symbols");
        plan.link(base, &mut bytes).expect("small");
        assert!(plan.into_links(base).is_none());
        bytes
    }

    #[test]
    fn a_near_call_is_direct() {
        let forward = link(&one_call(), BASE, &|_| Some(BASE + 0x2000));
        assert_eq!(forward, [0xe8, 0xfb, 0x1f, 0, 0, 0xc3]);
        let backward = link(&one_call(), BASE, &|_| Some(BASE - 0x10));
        assert_eq!(backward, [0xe8, 0xeb, 0xff, 0xff, 0xff, 0xc3]);
    }

    /// `call +11` to the stub at 16; padding; `jmp [rip+2]`; padding; the address.
    const FAR: [u8; 32] = [
        0xe8, 0x0b, 0, 0, 0, 0xc3, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc,
        0xcc, //
        0xff, 0x25, 2, 0, 0, 0, 0xcc, 0xcc, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
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
            assert_eq!(bytes[..24], FAR[..24], "{beyond:#x}");
            assert_eq!(bytes[24..], beyond.to_le_bytes());
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
        let stub = |high| [0xff, 0x25, 2, 0, 0, 0, 0xcc, 0xcc, 0, 0, 0, 0, 0, high, 0, 0];
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
    fn a_replaceable_symbol_has_a_slot_of_its_own() {
        // call #1; call #2, both replaceable and near, with one address; mov rax, #1; call #1 once more
        let code =
            [&[0xe8, 0, 0, 0, 0, 0xe8, 0, 0, 0, 0, 0x48, 0xb8][..], &[0; 8], &[0xe8, 0, 0, 0, 0]];
        let address = Reloc { at: CodeOffset(12), kind: RelocKind::Address(Symbol::Helper(1)) };
        let image = image(code.concat(), vec![call(1, 1), call(6, 2), address, call(21, 1)]);
        let plan = Plan::new(&image, &|_| Some(Target::from(BASE + 0x100).replaceable()));
        let mut bytes = Vec::new();
        let plan = plan.expect("known");
        plan.link(BASE, &mut bytes).expect("small");
        // Stubs at 32 (of #1) and 48 (of #2), each call relative to its own end.
        let calls = [0xe8, 27, 0, 0, 0, 0xe8, 38, 0, 0, 0, 0x48, 0xb8, 0x20, 0, 0, 0, 2, 0, 0, 0];
        assert_eq!(bytes[..20], calls);
        assert_eq!(bytes[20..25], [0xe8, 7, 0, 0, 0]);
        let stub = [0xff, 0x25, 2, 0, 0, 0, 0xcc, 0xcc, 0, 1, 0, 0, 2, 0, 0, 0];
        assert_eq!(bytes[32..48], stub);
        assert_eq!(bytes[48..], stub);
        let links = plan.into_links(BASE).expect("a slot");
        let slots = links.slots.lock().expect("no panic");
        let slots = slots.iter().map(|slot| (slot.symbol, slot.offset));
        assert!(slots.eq([(Symbol::Helper(1), 40), (Symbol::Helper(2), 56)]));
    }

    #[test]
    fn far_stubs_come_before_those_of_symbols() {
        let code = [[0xe8, 0, 0, 0, 0]; 2].concat();
        let image = image(code, vec![call(1, 1), call(6, 2)]);
        let plan = Plan::new(&image, &|symbol| match symbol {
            Symbol::Helper(1) => Some(Target::from(BASE + 0x100).replaceable()),
            _ => Some(Target::from(0x7000_0000_0000)),
        });
        let mut bytes = Vec::new();
        let plan = plan.expect("known");
        plan.link(BASE, &mut bytes).expect("small");
        assert_eq!(bytes[..10], [0xe8, 27, 0, 0, 0, 0xe8, 6, 0, 0, 0]);
        assert_eq!(bytes[24..32], 0x7000_0000_0000u64.to_le_bytes());
        assert_eq!(bytes[40..], (BASE + 0x100).to_le_bytes());
        let links = plan.into_links(BASE).expect("a slot");
        let slots = links.slots.lock().expect("no panic");
        let slots = slots.iter().map(|slot| (slot.symbol, slot.offset));
        assert!(slots.eq([(Symbol::Helper(1), 40)]));
    }

    #[test]
    fn placements_have_a_longest() {
        assert_eq!(placement_len(6, 0), Ok(6));
        assert_eq!(placement_len(6, 2), Ok(48));
        assert_eq!(placement_len(0x1000_0000, 0), Ok(0x1000_0000));
        assert_eq!(
            placement_len(0x1000_0001, 0),
            Err(PackError::TooLarge { code_len: 0x1000_0001, stubs: 0 })
        );
        assert_eq!(placement_len(0x0fff_fff0, 1), Ok(0x1000_0000));
        assert_eq!(
            placement_len(0x0fff_fff1, 1),
            Err(PackError::TooLarge { code_len: 0x0fff_fff1, stubs: 1 })
        );
        assert!(placement_len(6, usize::MAX).is_err());
    }

    /// Where the call at `at` of code that is at `base` leads, read as a processor would: perhaps through a jump by an
    /// address in memory.
    fn called(bytes: &[u8], base: u64, at: usize) -> u64 {
        let field =
            |at: usize| i64::from(i32::from_le_bytes(*bytes[at..].first_chunk().expect("four")));
        assert_eq!(bytes[at], CALL);
        let goal = (base + at as u64 + 5).wrapping_add_signed(field(at + 1));
        let Some(stub) = goal.checked_sub(base).filter(|&stub| stub < bytes.len() as u64) else {
            return goal;
        };
        let stub = stub as usize;
        assert_eq!(bytes[stub..stub + 2], [0xff, 0x25], "jmp [rip + displacement]");
        let slot = (stub as i64 + 6 + field(stub + 2)) as usize;
        assert_eq!((base as usize + slot) % 8, 0, "a slot is read at once");
        u64::from_le_bytes(*bytes[slot..].first_chunk().expect("eight"))
    }

    const CALL: u8 = 0xe8;

    /// Any address of user space, some of them just in or out of reach of `base`.
    fn target(base: u64) -> impl Strategy<Value = u64> {
        let edge = prop::sample::select(vec![0x8000_0000u64, 0x8000_0000u64.wrapping_neg()]);
        let near = (edge, -40i64..40).prop_map(move |(edge, off)| {
            base.wrapping_add(edge).wrapping_add_signed(off) & ((1 << 48) - 1)
        });
        prop_oneof![0u64..1 << 48, near]
    }

    proptest! {
        /// Placed anywhere in 48 bits, two calls and an address come to exactly what they name, wherever that is.
        #[test]
        fn nothing_is_truncated_anywhere(
            (base, [one, other, addressed]) in (1u64 << 12..1 << 44).prop_flat_map(|page| {
                let base = page << 4;
                (Just(base), [target(base), target(base), target(base)])
            }),
        ) {
            let code = [&[CALL, 0, 0, 0, 0, CALL, 0, 0, 0, 0, 0x48, 0xb8][..], &[0; 8]].concat();
            let address = Reloc { at: CodeOffset(12), kind: RelocKind::Address(Symbol::Map(0)) };
            let image = image(code, vec![call(1, 1), call(6, 2), address]);
            // Inside of the code nobody else can be.
            prop_assume!([one, other].iter().all(|target| target.wrapping_sub(base) > 100));
            let bytes = link(&image, base, &|symbol| Some(match symbol {
                Symbol::Helper(1) => one,
                Symbol::Helper(_) => other,
                _ => addressed,
            }));
            prop_assert_eq!(called(&bytes, base, 0), one);
            prop_assert_eq!(called(&bytes, base, 5), other);
            prop_assert_eq!(u64::from_le_bytes(*bytes[12..].first_chunk().expect("eight")), addressed);
        }

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
            let plan = Plan::new(&image, &|_| Some(Target::from(target))).expect("known");
            let within = plan.len_within(&arena).expect("small");
            let anywhere = plan.len_anywhere().expect("small");
            let mut bytes = Vec::new();
            plan.link(arena.start + (at & !15), &mut bytes).expect("small");
            prop_assert!(bytes.len() <= within && within <= anywhere);
        }
    }
}
