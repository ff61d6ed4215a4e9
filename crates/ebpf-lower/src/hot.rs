//! Which registers matter most.

use alloc::vec;

use ebpf_isa::{Insn, Program, Reg};

/// Each loop around an instruction makes it count this many times more.
const LOOP_WEIGHT: u64 = 8;
/// Deeper nesting counts no more.
const MAX_DEPTH: u32 = 6;

/// The registers, most used first. Uses inside of loops (stretches that a jump leads back over)
/// count more; uses by calls, which go by the calling convention, do not count.
#[must_use]
pub fn by_use(program: &Program) -> [Reg; Reg::COUNT] {
    // How many more loops there are around a slot than around the one before.
    let mut change = vec![0_i32; program.slots().len() + 1];
    for (pc, insn) in program.insns() {
        if let Some(target) = insn.jump_target()
            && target <= pc
        {
            change[target.index()] += 1;
            change[pc.index() + 1] -= 1;
        }
    }
    let mut uses = [0_u64; Reg::COUNT];
    let mut depth = 0_i32;
    for (change, slot) in change.iter().zip(program.slots()) {
        depth += change;
        let Some(insn) = slot else { continue };
        if matches!(insn, Insn::Call(_)) {
            continue;
        }
        let weight = LOOP_WEIGHT.pow(depth.unsigned_abs().min(MAX_DEPTH));
        for reg in insn.reads().iter().chain(insn.writes().iter()) {
            uses[reg.index()] += weight;
        }
    }
    let mut regs = [Reg::Ax; Reg::COUNT];
    regs[..Reg::ALL.len()].copy_from_slice(&Reg::ALL);
    regs.sort_by_key(|reg| core::cmp::Reverse(uses[reg.index()]));
    regs
}

#[cfg(test)]
mod tests {
    use ebpf_isa::text::assemble;

    use super::*;

    #[test]
    fn loops_count_more_than_lines() {
        let program = assemble(
            "r3 = 1\nr3 += 1\nr3 += 1\nr3 += 1\nr7 = 9\nr8 = 0\nr8 += r7\nr7 += -1\n\
             if r7 != 0 goto -3\nr0 = r8\nexit",
        );
        assert_eq!(by_use(&program.unwrap())[..3], [Reg::R7, Reg::R8, Reg::R3]);
    }

    #[test]
    fn calls_do_not_count() {
        let program = assemble("call 1\ncall 1\ncall 1\nr9 = 1\nr0 = 0\nr0 += r9\nexit").unwrap();
        assert_eq!(by_use(&program)[..2], [Reg::R0, Reg::R9]);
    }
}
