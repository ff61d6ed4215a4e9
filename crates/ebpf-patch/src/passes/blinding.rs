//! Constant blinding: no number that whoever wrote the program chose appears in its code.
//!
//! Otherwise constants carry machine code of an attacker's choice into executable memory (JIT
//! spraying). Each is put together at run time instead, from itself under a random mask and the
//! mask, in the auxiliary register [`Reg::Ax`] where the instruction has no other place for it:
//!
//! | instruction | becomes |
//! |---|---|
//! | `r1 = C` | `r1 = C ^ M`, `r1 ^= M` |
//! | `r1 += C` and all arithmetic | `ax = C ^ M`, `ax ^= M`, `r1 += ax` |
//! | `if r1 > C goto L` | `ax = C ^ M`, `ax ^= M`, `if r1 > ax goto L` |
//! | `*(u64 *)(r1 +8) = C` | `ax = C ^ M`, `ax ^= M`, `*(u64 *)(r1 +8) = ax` |
//! | `r1 = C ll` | `r1 = C ^ M ll`, `ax = M ll`, `r1 ^= ax` |
//! | `r0 = *(u8 *)skb[r2 + C]` | `ax = C ^ M`, `ax ^= M`, `ax += r2`, `r0 = *(u8 *)skb[ax + 0]` |
//!
//! Not blinded are offsets of loads, stores and jumps, numbers of helpers, and places in a map's value:
//! their range is small, or a linker turns them into something else.

use ebpf_isa::{AluOp, Imm64, Insn, Operand, Reg, WideSource, Width};

use super::rewrite_all;
use crate::{Patch, PatchError};

/// Masks every immediate of arithmetic, moves, conditional jumps, stores, wide loads and packet
/// loads, in the program and in code that was inserted, and unmasks it at run time.
///
/// Every immediate gets a mask of its own, from SipHash-2-4 of a counter under `seed` as the key: who
/// knows some masks learns nothing about the others. **The seed is a secret**: it must be as hard to
/// predict as 128 random bits, new for each program, and kept from whoever wrote it. The same
/// seed gives the same program.
///
/// The result uses [`Reg::Ax`], so it can be run and compiled, but neither encoded nor verified.
/// This pass goes last: what is inserted after it stays as it is.
///
/// # Errors
/// The program would grow too long: up to fourfold, wide loads from two slots to five. The patch is
/// blinded in part then, and of no use.
pub fn blind_constants(patch: &mut Patch<'_>, seed: [u64; 2]) -> Result<(), PatchError> {
    let mut masks = Masks { seed, count: 0 };
    rewrite_all(patch, |_, insn| blind(insn, &mut masks))
}

/// What takes the place of `insn`; `None` if it has no immediate, or is blinded already.
fn blind(insn: Insn, masks: &mut Masks) -> Option<impl Iterator<Item = Insn> + use<>> {
    if insn.reads().union(insn.writes()).contains(Reg::Ax) {
        return None;
    }
    let blinded = match insn {
        Insn::Mov { width, dst, src: Operand::Imm(imm) } => {
            let [masked, unmask] = masks.mov(width, dst, imm);
            [Some(masked), Some(unmask), None, None]
        }
        Insn::LoadWide { dst, source: WideSource::Imm(imm) } => {
            let mask = masks.next();
            let wide =
                |dst, value| Insn::LoadWide { dst, source: WideSource::Imm(Imm64::new(value)) };
            let unmask = alu(AluOp::Xor, dst, Reg::Ax);
            [Some(wide(dst, imm.get() ^ mask)), Some(wide(Reg::Ax, mask)), Some(unmask), None]
        }
        Insn::LoadPacket { size, index, imm } => {
            let [masked, unmask] = masks.mov(Width::W64, Reg::Ax, imm);
            let add = index.map(|index| alu(AluOp::Add, Reg::Ax, index));
            let load = Insn::LoadPacket { size, index: Some(Reg::Ax), imm: 0 };
            [Some(masked), Some(unmask), add, Some(load)]
        }
        _ => {
            let (imm, with_ax) = immediate(insn)?;
            let [masked, unmask] = masks.mov(Width::W64, Reg::Ax, imm);
            [Some(masked), Some(unmask), Some(with_ax), None]
        }
    };
    Some(blinded.into_iter().flatten())
}

const fn alu(op: AluOp, dst: Reg, src: Reg) -> Insn {
    Insn::Alu { op, width: Width::W64, dst, src: Operand::Reg(src) }
}

/// The immediate that is the second operand of `insn`, and `insn` with it in the auxiliary register.
fn immediate(mut insn: Insn) -> Option<(i32, Insn)> {
    let (Insn::Alu { src, .. } | Insn::Branch { rhs: src, .. } | Insn::Store { src, .. }) =
        &mut insn
    else {
        return None;
    };
    match core::mem::replace(src, Operand::Reg(Reg::Ax)) {
        Operand::Imm(imm) => Some((imm, insn)),
        Operand::Reg(_) => None,
    }
}

/// Masks for one program.
struct Masks {
    seed: [u64; 2],
    count: u64,
}

impl Masks {
    fn next(&mut self) -> u64 {
        let mask = siphash(self.seed, self.count);
        self.count += 1;
        mask
    }

    /// `dst = imm`, of which neither instruction tells `imm`.
    fn mov(&mut self, width: Width, dst: Reg, imm: i32) -> [Insn; 2] {
        let mask = self.next() as i32;
        let src = Operand::Imm(imm ^ mask);
        let masked = Insn::Mov { width, dst, src };
        let src = Operand::Imm(mask);
        [masked, Insn::Alu { op: AluOp::Xor, width, dst, src }]
    }
}

/// SipHash-2-4 (Aumasson and Bernstein, 2012) of the eight bytes of `message`.
fn siphash(key: [u64; 2], message: u64) -> u64 {
    /// A message of eight bytes is followed by a word with its length in the highest byte.
    const LENGTH: u64 = 8 << 56;
    let mut state = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    for word in [message, LENGTH] {
        state[3] ^= word;
        state = sipround(sipround(state));
        state[0] ^= word;
    }
    state[2] ^= 0xff;
    for _ in 0..4 {
        state = sipround(state);
    }
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

const fn sipround([mut a, mut b, mut c, mut d]: [u64; 4]) -> [u64; 4] {
    a = a.wrapping_add(b);
    c = c.wrapping_add(d);
    b = b.rotate_left(13) ^ a;
    d = d.rotate_left(16) ^ c;
    a = a.rotate_left(32);
    c = c.wrapping_add(b);
    a = a.wrapping_add(d);
    b = b.rotate_left(17) ^ c;
    d = d.rotate_left(21) ^ a;
    c = c.rotate_left(32);
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the paper's reference implementation: key `00 01 .. 0f`, message `00 01 .. 07`.
    #[test]
    fn masks_are_those_of_siphash() {
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        assert_eq!(siphash(key, 0x0706_0504_0302_0100), 0x93f5_f579_9a93_2462);
    }
}
