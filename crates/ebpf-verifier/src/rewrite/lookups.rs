//! Lookups in arrays become arithmetic: the index compared with the number of entries, and the address
//! of the value.
//!
//! The map must be known where the helper is called: loaded into `r1`, or into a register that `r1` was copied
//! from, on the straight way there. That is how compilers write it.

use alloc::vec::Vec;

use ebpf_isa::uapi::HelperId;
use ebpf_isa::{
    AluOp, CallTarget, CmpOp, Extend, Insn, MapForm, MapIdx, Operand, Pc, Program, Reg, Size,
    WideSource, Width,
};
use ebpf_patch::{PatchInsn, Target as JumpTarget};

use super::{ArrayLayout, RewriteError, Rewriter};

const LOOKUP: Insn = Insn::Call(CallTarget::Helper(HelperId::MAP_LOOKUP_ELEM));

pub(super) fn run(rewriter: &mut Rewriter<'_>) -> Result<(), RewriteError> {
    let Rewriter { verified, target, patch, .. } = rewriter;
    if target.arrays.iter().all(Option::is_none) {
        return Ok(());
    }
    for (pc, map) in lookups(&verified.program) {
        let layout = target.arrays.get(map.index()).copied().flatten();
        if let (Some(LOOKUP), Some(code)) = (patch.get(pc), layout.and_then(|it| inline(map, it))) {
            patch.replace(pc, code)?;
        }
    }
    Ok(())
}

/// The calls of the helper, each with the map that it looks something up in, where that is known.
fn lookups(program: &Program) -> Vec<(Pc, MapIdx)> {
    let mut is_target = alloc::vec![false; program.slots().len()];
    for (_, insn) in program.insns() {
        for target in insn.jump_target().into_iter().chain(insn.subprog_ref()) {
            is_target[target.index()] = true;
        }
    }
    let mut found = Vec::new();
    let mut maps: [Option<MapIdx>; Reg::COUNT] = [None; Reg::COUNT];
    for (pc, insn) in program.insns() {
        if is_target[pc.index()] {
            maps = [None; Reg::COUNT];
        }
        if let (LOOKUP, Some(map)) = (insn, maps[Reg::R1.index()]) {
            found.push((pc, map));
        }
        let loaded = match insn {
            Insn::LoadWide { source: WideSource::Map(map, _), .. } => Some(map),
            Insn::Mov { width: Width::W64, src: Operand::Reg(src), .. } => maps[src.index()],
            _ => None,
        };
        for reg in insn.writes().iter() {
            maps[reg.index()] = loaded;
        }
        if insn.is_terminator() {
            maps = [None; Reg::COUNT];
        }
    }
    found
}

/// What takes the place of the call; `None` if the numbers do not fit into the instructions.
///
/// ```text
/// r0 = *(u32 *)(r2 +0)
/// if r0 >= entries goto miss
/// r0 *= stride
/// r1 = map[..][0]+0 ll
/// r0 += r1
/// goto done
/// miss: r0 = 0
/// done:
/// ```
fn inline(map: MapIdx, layout: ArrayLayout) -> Option<[PatchInsn; 7]> {
    let entries = Operand::Imm(i32::try_from(layout.entries).ok()?);
    let stride = Operand::Imm(i32::try_from(layout.stride).ok()?);
    let (dst, width) = (Reg::R0, Width::W64);
    let alu = |op, src| Insn::Alu { op, width, dst, src };
    let in_range = Insn::Branch { op: CmpOp::Ge, width, lhs: dst, rhs: entries, target: Pc::ENTRY };
    let values = WideSource::MapValue(map, 0, MapForm::Fd);
    let done = Insn::Jump { target: Pc::ENTRY, long: false };
    Some([
        Insn::Load { size: Size::W, extend: Extend::Zero, dst, base: Reg::R2, off: 0 }.into(),
        PatchInsn::jump(in_range, JumpTarget::Over(5)),
        alu(AluOp::Mul, stride).into(),
        Insn::LoadWide { dst: Reg::R1, source: values }.into(),
        alu(AluOp::Add, Operand::Reg(Reg::R1)).into(),
        PatchInsn::jump(done, JumpTarget::Over(1)),
        Insn::Mov { width, dst, src: Operand::Imm(0) }.into(),
    ])
}
