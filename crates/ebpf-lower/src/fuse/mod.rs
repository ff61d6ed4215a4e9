//! From instructions to fused operations: one pass over each block, which tries the merges at each
//! instruction and takes the first that is allowed.

mod branch;
mod bytes;
mod exit;
mod extend;
mod indexed;
mod load_alu;
mod loaded;
mod pair;
mod shifted;
#[cfg(test)]
mod test_support;
mod three;

use alloc::vec::Vec;

use ebpf_isa::{AluOp, Extend, Insn, Operand, Pc, Program, Reg, RegSet, Size, Width};

use crate::{Fused, FusedOp, Liveness, Outline};

/// The rest of a block, one element a slot.
#[derive(Clone, Copy)]
struct Window<'a> {
    slots: &'a [Option<Insn>],
    /// Registers that are read after each.
    live_after: &'a [RegSet],
}

impl Window<'_> {
    /// What follows the first `len` slots.
    #[inline]
    fn behind(self, len: usize) -> Self {
        Self { slots: &self.slots[len..], live_after: &self.live_after[len..] }
    }

    #[inline]
    fn get(&self, index: usize) -> Option<&Insn> {
        self.slots.get(index)?.as_ref()
    }

    /// Whether nobody reads what `reg` holds after the instruction at `index`.
    fn is_dead_after(&self, index: usize, reg: Reg) -> bool {
        !self.live_after(index).contains(reg)
    }

    fn live_after(&self, index: usize) -> RegSet {
        self.live_after[index]
    }
}

/// The first instructions of a window as one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Merge {
    op: Fused,
    /// Number of slots.
    len: usize,
    /// Those of them whose instructions are no part of the operation, as a set of bits; they follow
    /// it.
    rest: u32,
}

impl Merge {
    const fn new(op: Fused, len: usize) -> Self {
        Self { op, len, rest: 0 }
    }
}

/// Finds a merge at the start of a window.
type Rule = fn(Window<'_>) -> Option<Merge>;

/// The merges that may start with `insn`, the longest first.
fn rules(insn: Insn) -> &'static [Rule] {
    match insn {
        Insn::Load { extend: Extend::Zero, .. } => &[bytes::merge, load],
        Insn::Mov { src: Operand::Reg(_), .. } => {
            &[shifted::merge, extend::merge, indexed::merge, branch::sum_branch, three::merge]
        }
        Insn::Mov { dst: Reg::R0, src: Operand::Imm(_), .. } => &[exit::merge],
        Insn::Alu { op: AluOp::Lsh | AluOp::Rsh, src: Operand::Imm(_), .. } => {
            &[shifted::merge, extend::merge]
        }
        Insn::Alu { op: AluOp::Add, src: Operand::Reg(_), .. } => &[indexed::merge],
        Insn::Alu { op: AluOp::Add, src: Operand::Imm(_), .. } => &[branch::add_branch],
        _ => &[],
    }
}

/// A load, and the instruction behind it.
fn load(window: Window<'_>) -> Option<Merge> {
    match window.get(1)? {
        Insn::Branch { .. } => branch::load_branch(window),
        Insn::Swap { .. } => loaded::swapped(window),
        Insn::Alu { src: Operand::Imm(_), .. } => loaded::masked(window),
        Insn::Alu { src: Operand::Reg(_), .. } => load_alu::merge(window),
        Insn::Load { .. } => pair::merge(window),
        _ => None,
    }
}

/// The fused operations of `program`, in the order of their positions. Each instruction that a jump,
/// a call or a return leads to starts an operation, or leads to the next one where it was dropped.
#[must_use]
pub fn lower(program: &Program) -> Vec<FusedOp> {
    let mut ops = Vec::with_capacity(program.slots().len());
    lower_each(program, &Outline::new(program), |op| ops.push(op));
    ops
}

/// Gives the operations of [`lower`] to `emit`, one after the other. `outline` is the program's.
pub fn lower_each(program: &Program, outline: &Outline, mut emit: impl FnMut(FusedOp)) {
    let live = Liveness::new(outline);
    for (start, end) in outline.blocks().ranges() {
        let slots = start.index()..end.index();
        let window =
            Window { slots: &program.slots()[slots.clone()], live_after: &live.by_slot()[slots] };
        fuse_block(start, window, &mut emit);
    }
}

/// Each instruction of `program` as an operation of its own.
pub fn plain(program: &Program) -> impl Iterator<Item = FusedOp> {
    program.insns().map(|(pc, insn)| plain_op(pc, insn))
}

fn plain_op(pc: Pc, insn: Insn) -> FusedOp {
    FusedOp { pc, slots: insn.slots(), op: Fused::Insn(insn) }
}

/// Fuses what is left of a block at `pc`.
fn fuse_block(mut pc: Pc, mut window: Window<'_>, emit: &mut impl FnMut(FusedOp)) {
    // Registers whose upper half is zero.
    let mut narrow = RegSet::EMPTY;
    while let Some(&insn) = window.get(0) {
        let len = if extend::is_redundant(insn, narrow) {
            1
        } else if let Some(Merge { op, len, rest }) =
            rules(insn).iter().find_map(|rule| rule(window))
        {
            emit(FusedOp { pc, slots: len as u32, op });
            narrow = narrow_after(op, narrow);
            narrow = emit_rest(pc, window, rest, narrow, emit);
            len
        } else {
            emit(plain_op(pc, insn));
            narrow = narrow_after(Fused::Insn(insn), narrow);
            insn.slots() as usize
        };
        pc.0 += len as u32;
        window = window.behind(len);
    }
}

/// Emits those instructions of the window at `pc` that are in `rest`.
fn emit_rest(
    pc: Pc,
    window: Window<'_>,
    mut rest: u32,
    mut narrow: RegSet,
    emit: &mut impl FnMut(FusedOp),
) -> RegSet {
    while rest != 0 {
        let index = rest.trailing_zeros();
        let insn = *window.get(index as usize).expect("bits are instructions");
        emit(plain_op(Pc(pc.0 + index), insn));
        narrow = narrow_after(Fused::Insn(insn), narrow);
        rest &= rest - 1;
    }
    narrow
}

/// Which registers have a zero upper half after `op`, given which have before.
fn narrow_after(op: Fused, narrow: RegSet) -> RegSet {
    let (dst, is_narrow) = match op {
        Fused::Insn(insn) => match insn {
            Insn::Alu { dst, width, .. }
            | Insn::MovSx { dst, width, .. }
            | Insn::Neg { dst, width } => (dst, width == Width::W32),
            Insn::Mov { dst, width, src } => (dst, width == Width::W32 || is_narrow(src, narrow)),
            Insn::Load { dst, size, extend, .. } => {
                (dst, extend == Extend::Zero && size != Size::Dw)
            }
            Insn::Swap { dst, size, .. } => (dst, size != Size::Dw),
            Insn::LoadWide { dst, .. } | Insn::AddrSpaceCast { dst, .. } => (dst, false),
            // Calls of subprograms write more than they say.
            Insn::Call(_) | Insn::LoadPacket { .. } => return RegSet::EMPTY,
            other => return narrow.difference(other.writes()),
        },
        Fused::Alu3 { dst, width, .. }
        | Fused::Rotate { dst, width, .. }
        | Fused::Shifted { dst, width, .. }
        | Fused::LoadAlu { dst, width, .. }
        | Fused::AddBranch { dst, width, .. } => (dst, width == Width::W32),
        Fused::LoadSwapped { dst, size, .. }
        | Fused::LoadMasked { dst, size, .. }
        | Fused::LoadIndexed { dst, size, .. }
        | Fused::LoadBranch { dst, size, .. } => (dst, size != Size::Dw),
        Fused::LoadPair { first, second, .. } => return narrow.without(first).without(second),
        // What they write is dead.
        Fused::SumBranch { .. } | Fused::ExitWith { .. } => return narrow,
    };
    if is_narrow { narrow.with(dst) } else { narrow.without(dst) }
}

fn is_narrow(operand: Operand, narrow: RegSet) -> bool {
    match operand {
        Operand::Reg(reg) => narrow.contains(reg),
        Operand::Imm(imm) => imm >= 0,
    }
}

#[cfg(test)]
mod tests {
    use ebpf_isa::text::assemble;

    use super::test_support::ops;
    use super::*;

    #[test]
    fn blocks_end_merges() {
        // The jump leads between a move and the addition that could be one operation.
        let straight = ops("r2 = r1\nr2 += r3\nr0 = r2\nexit");
        assert_eq!(straight.len(), 3);
        let jumped = ops("r2 = r1\nr2 += r3\nif r2 == 5 goto -2\nr0 = r2\nexit");
        assert_eq!(jumped.len(), 5);
    }

    #[test]
    fn windows_cover_the_program_in_order() {
        let program = assemble(
            "r2 = 7 ll\nr3 = r2\nr3 += 1\nr0 = *(u8 *)(r1 +0)\nr4 = 1\nr5 = *(u8 *)(r1 +1)\n\
             r5 <<= 8\nr0 |= r5\nr0 += r3\nexit",
        )
        .unwrap();
        let windows: Vec<(u32, u32)> =
            lower(&program).iter().map(|op| (op.pc.0, op.end().0)).collect();
        assert_eq!(windows, [(0, 2), (2, 4), (4, 9), (5, 6), (9, 10), (10, 11)]);
    }

    #[test]
    fn plain_operations_are_the_instructions() {
        let program = assemble("r2 = 7 ll\nr3 = r2\nr3 += 1\nexit").unwrap();
        let insns: Vec<_> = plain(&program).map(|op| (op.pc, op.op)).collect();
        let expected: Vec<_> = program.insns().map(|(pc, insn)| (pc, Fused::Insn(insn))).collect();
        assert_eq!(insns, expected);
    }
}
