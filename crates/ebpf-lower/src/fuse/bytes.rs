//! Loads byte by byte are one load.
//!
//! Compilers read fields that may be unaligned one byte at a time and put them together by shifts
//! and ors. The instructions of a window are followed with values of the form "these bytes at
//! `base + off`, at these places". When all bytes of a register are neighbours in memory, in order
//! or in reverse order, the register is one load, plain or byte-swapped.
//!
//! Legality: all pieces have the same base register, which nothing in the window writes until the
//! result is whole. There is no store, atomic operation, call or jump in the window, so memory is
//! the same for all loads; each byte that is loaded is in the result, so all are accessed; and the order of relaxed loads is nobody's business. All registers that
//! held pieces are dead behind the window, but for the result.
//!
//! Other instructions in between *follow* the merged load. They may not read or write a register
//! that holds a piece, or the result, or write the base. Loads among them only ever move behind the
//! merged one: where one of both fails, the window is run from its start, so the trap is the one
//! that comes first. A merged load that fails may also be one of several regions that touch each
//! other; then its instructions succeed one by one.

use ebpf_isa::{AluOp, Extend, Insn, Operand, Operands, Reg, RegSet, Size, Width};

use super::{Merge, Window};
use crate::Fused;

/// The longest window, in slots: eight loads, seven shifts, seven ors, and a few others.
const MAX_LEN: usize = 30;

/// How many slots further on the second load of a merge is at most.
const NEAR: usize = 3;

/// What a register holds, from its lowest byte on: the offset of a byte in memory, or zero.
type Bytes = [Option<i16>; 8];

struct Pieces {
    base: Reg,
    of: [Option<Bytes>; Reg::COUNT],
    /// Registers that hold or held pieces.
    written: RegSet,
    /// Registers that instructions in between read or write.
    others: RegSet,
    /// Those instructions.
    rest: u32,
    /// Bytes that were loaded.
    loaded: usize,
}

pub(super) fn merge(window: Window<'_>) -> Option<Merge> {
    let Insn::Load { base, .. } = *window.get(0)? else { return None };
    // Most loads are not pieces: the next piece would be near.
    let is_near =
        |index| matches!(window.get(index), Some(&Insn::Load { base: other, .. }) if other == base);
    if !(1..=NEAR).any(is_near) {
        return None;
    }
    let mut pieces = Pieces {
        base,
        of: [None; Reg::COUNT],
        written: RegSet::EMPTY,
        others: RegSet::EMPTY,
        rest: 0,
        loaded: 0,
    };
    let mut found = None;
    for index in 0..MAX_LEN {
        let Some(&slot) = window.slots.get(index) else { break };
        // The second slot of a wide load has nothing to say.
        let Some(insn) = slot else { continue };
        let Some(combined) = pieces.step(index, insn) else { break };
        if let Some(dst) = combined
            && let Some(op) = pieces.whole(dst)
        {
            let temporaries = pieces.written.without(dst);
            let dead = temporaries.difference(window.live_after(index)) == temporaries;
            if dead && !pieces.others.contains(dst) {
                found = Some(Merge { op, len: index + 1, rest: pieces.rest });
            }
        }
        if pieces.written.contains(base) {
            break;
        }
    }
    found
}

impl Pieces {
    fn set(&mut self, reg: Reg, bytes: Bytes) {
        self.of[reg.index()] = Some(bytes);
        self.written = self.written.with(reg);
    }

    /// Follows an instruction; gives the register that it combined, if it did. `None` ends the
    /// window.
    fn step(&mut self, index: usize, insn: Insn) -> Option<Option<Reg>> {
        match insn {
            Insn::Load { size, extend: Extend::Zero, dst, base, off } if base == self.base => {
                if dst == base && self.loaded == 0 {
                    return None;
                }
                let mut bytes = [None; 8];
                for (byte, off) in bytes
                    .iter_mut()
                    .zip(0..i16::from(size.bytes()))
                    .map(|(b, k)| (b, off.checked_add(k)))
                {
                    *byte = Some(off?);
                }
                self.loaded += usize::from(size.bytes());
                self.set(dst, bytes);
                Some(None)
            }
            Insn::Alu { op: AluOp::Lsh, width, dst, src: Operand::Imm(count @ 0..64) }
                if count % 8 == 0 && self.of[dst.index()].is_some() =>
            {
                let bytes = self.of[dst.index()]?;
                let places = usize::try_from(count).ok()? / 8;
                if places >= width_bytes(width) {
                    return None;
                }
                let mut moved = [None; 8];
                moved[places..].copy_from_slice(&bytes[..8 - places]);
                self.set(dst, truncate(moved, width));
                Some(None)
            }
            Insn::Alu { op: AluOp::Or, width, dst, src: Operand::Reg(src) } if dst != src => {
                match (self.of[dst.index()], self.of[src.index()]) {
                    (Some(left), Some(right)) => {
                        self.set(dst, truncate(union(left, right)?, width));
                        Some(Some(dst))
                    }
                    _ => self.other(index, insn),
                }
            }
            Insn::Mov { width, dst, src: Operand::Reg(src) } if self.of[src.index()].is_some() => {
                let bytes = self.of[src.index()]?;
                self.set(dst, truncate(bytes, width));
                Some(None)
            }
            other => self.other(index, other),
        }
    }

    /// An instruction that is no part of the load: it may stay if it has nothing to do with it.
    fn other(&mut self, index: usize, insn: Insn) -> Option<Option<Reg>> {
        let is_harmless = matches!(
            insn,
            Insn::Alu { .. }
                | Insn::Mov { .. }
                | Insn::MovSx { .. }
                | Insn::Neg { .. }
                | Insn::Swap { .. }
                | Insn::LoadWide { .. }
                | Insn::Load { .. }
        );
        let Operands { reads, writes } = insn.operands();
        let touches = reads.union(writes);
        let meets = |set: RegSet, with: RegSet| set.difference(with) != set;
        if !is_harmless || meets(touches, self.written) || writes.contains(self.base) {
            return None;
        }
        self.others = self.others.union(touches);
        self.rest |= 1 << index;
        Some(None)
    }

    /// The load that gives what `reg` holds.
    fn whole(&self, reg: Reg) -> Option<Fused> {
        let bytes = self.of[reg.index()]?;
        let count = bytes.iter().rposition(Option::is_some)? + 1;
        // A load whose value is dropped is done all the same: it may fail.
        if count != self.loaded {
            return None;
        }
        let size = Size::from_bytes(count as u64)?;
        let first = bytes[0]?;
        let run = |step: i16| {
            (0_i16..)
                .zip(&bytes[..count])
                .all(|(place, byte)| *byte == first.checked_add(place * step))
        };
        let (dst, base) = (reg, self.base);
        if run(1) {
            let (extend, off) = (Extend::Zero, first);
            return Some(Fused::Insn(Insn::Load { size, extend, dst, base, off }));
        }
        run(-1).then(|| Fused::LoadSwapped { size, dst, base, off: first - (count as i16 - 1) })
    }
}

const fn width_bytes(width: Width) -> usize {
    match width {
        Width::W32 => 4,
        Width::W64 => 8,
    }
}

fn truncate(mut bytes: Bytes, width: Width) -> Bytes {
    bytes[width_bytes(width)..].fill(None);
    bytes
}

/// Both, where no place is taken twice.
fn union(left: Bytes, right: Bytes) -> Option<Bytes> {
    let mut both = left;
    for (byte, other) in both.iter_mut().zip(right) {
        if byte.is_some() && other.is_some() {
            return None;
        }
        *byte = byte.or(other);
    }
    Some(both)
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{first, is_plain};
    use super::*;

    fn load(size: Size, off: i16) -> Fused {
        let (dst, base) = (Reg::R0, Reg::R1);
        Fused::Insn(Insn::Load { size, extend: Extend::Zero, dst, base, off })
    }

    fn swapped(size: Size, off: i16) -> Fused {
        Fused::LoadSwapped { size, dst: Reg::R0, base: Reg::R1, off }
    }

    const TWO: &str = "r0 = *(u8 *)(r1 +6)\nr2 = *(u8 *)(r1 +7)\nr2 <<= 8\nr0 |= r2\n";

    #[test]
    fn two_bytes_are_a_half_word() {
        assert_eq!(first(&format!("{TWO}exit")), (load(Size::H, 6), 1));
        let reversed = "r0 = *(u8 *)(r1 +7)\nr2 = *(u8 *)(r1 +6)\nr2 <<= 8\nr0 |= r2\nexit";
        assert_eq!(first(reversed), (swapped(Size::H, 6), 1));
    }

    #[test]
    fn four_bytes_in_the_order_of_a_compiler() {
        let asm = "r2 = *(u8 *)(r1 +0)\nr3 = *(u8 *)(r1 +1)\nr3 <<= 8\nr3 |= r2\n\
                   r2 = *(u8 *)(r1 +2)\nw2 <<= 16\nr0 = *(u8 *)(r1 +3)\nw0 <<= 24\nw0 |= w2\n\
                   w0 |= w3\nexit";
        assert_eq!(first(asm), (load(Size::W, 0), 1));
    }

    #[test]
    fn eight_bytes_and_larger_pieces() {
        let mut asm = String::from("r0 = *(u8 *)(r1 -8)\n");
        for place in 1..8 {
            let off = place - 8;
            asm += &format!("r2 = *(u8 *)(r1 {off})\nr2 <<= {}\nr0 |= r2\n", place * 8);
        }
        assert_eq!(first(&format!("{asm}exit")), (load(Size::Dw, -8), 1));
        let halves = "r0 = *(u32 *)(r1 +0)\nr2 = *(u32 *)(r1 +4)\nr2 <<= 32\nr0 |= r2\nexit";
        assert_eq!(first(halves), (load(Size::Dw, 0), 1));
        let swapped_halves =
            "r0 = *(u32 *)(r1 +4)\nr2 = *(u32 *)(r1 +0)\nr2 <<= 32\nr0 |= r2\nexit";
        assert!(is_plain(swapped_halves));
    }

    #[test]
    fn the_base_may_be_the_result_but_not_before() {
        let last = "r2 = *(u8 *)(r1 +7)\nr2 <<= 8\nr1 = *(u8 *)(r1 +6)\nr1 |= r2\nr0 = r1\nexit";
        assert!(
            is_plain(last)
                || matches!(first(last).0, Fused::Insn(Insn::Load { size: Size::H, .. }))
        );
        let early = "r1 = *(u8 *)(r1 +6)\nr2 = *(u8 *)(r1 +7)\nr2 <<= 8\nr1 |= r2\nr0 = r1\nexit";
        assert!(is_plain(early));
    }

    #[test]
    fn a_piece_that_is_read_again_stays() {
        assert!(is_plain(&format!("{TWO}r0 += r2\nexit")));
        assert!(is_plain(&format!("{TWO}call 1\nexit")));
    }

    #[test]
    fn loads_of_values_that_are_dropped_stay() {
        let dropped = "r0 = *(u8 *)(r1 +16)\nr0 = *(u8 *)(r1 +6)\nr2 = *(u8 *)(r1 +7)\n";
        assert!(is_plain(&format!("{dropped}r2 <<= 8\nr0 |= r2\nexit")));
    }

    #[test]
    fn gaps_and_overlaps_stay() {
        assert!(is_plain("r0 = *(u8 *)(r1 +6)\nr2 = *(u8 *)(r1 +8)\nr2 <<= 8\nr0 |= r2\nexit"));
        assert!(is_plain("r0 = *(u8 *)(r1 +6)\nr2 = *(u8 *)(r1 +7)\nr2 <<= 16\nr0 |= r2\nexit"));
        assert!(is_plain("r0 = *(u16 *)(r1 +6)\nr2 = *(u8 *)(r1 +8)\nr2 <<= 8\nr0 |= r2\nexit"));
        assert!(is_plain("r0 = *(u8 *)(r1 +6)\nr2 = *(u8 *)(r3 +7)\nr2 <<= 8\nr0 |= r2\nexit"));
        assert!(is_plain("r0 = *(s8 *)(r1 +6)\nr2 = *(u8 *)(r1 +7)\nr2 <<= 8\nr0 |= r2\nexit"));
    }

    #[test]
    fn others_in_between_follow() {
        let with = |other: &str| {
            format!("r0 = *(u8 *)(r1 +6)\n{other}\nr2 = *(u8 *)(r1 +7)\nr2 <<= 8\nr0 |= r2\nexit")
        };
        for other in ["r5 += r6", "r5 = *(u64 *)(r6 +0)", "r5 = 7 ll"] {
            assert_eq!(first(&with(other)), (load(Size::H, 6), 2), "{other}");
        }
        for other in [
            "*(u8 *)(r10 -1) = 7",
            "*(u8 *)(r10 -1) = r5",
            "lock *(u64 *)(r10 -8) += r5",
            "r5 = load_acquire((u32 *)(r10 -8))",
            "r5 += r0",
            "r0 += r5",
            "r1 += 1",
            "call 1",
            "if r5 == 0 goto +1",
        ] {
            assert!(is_plain(&with(other)), "{other}");
        }
        // The result comes first, so what follows may not have read its register before.
        let asm =
            "r2 = *(u8 *)(r1 +7)\nr5 = r0\nr0 = *(u8 *)(r1 +6)\nr2 <<= 8\nr0 |= r2\nr0 += r5\nexit";
        assert!(is_plain(asm));
    }
}
