//! Which registers matter most.

use alloc::vec;
use alloc::vec::Vec;

use ebpf_isa::{Insn, Program, Reg};

use crate::blocks::{Blocks, last_before};
use crate::{Effect, Effects};

/// Each loop around an instruction makes it count this many times more.
const LOOP_WEIGHT: u64 = 8;
/// Deeper nesting counts no more.
const MAX_DEPTH: u32 = 6;

/// The registers, most used first. Uses inside of loops (stretches that a jump leads back over)
/// count more; uses by calls and returns, which go by the calling convention, do not count. `blocks`
/// and `effects` are the program's.
#[must_use]
pub fn by_use(program: &Program, blocks: &Blocks, effects: &Effects) -> [Reg; Reg::COUNT] {
    let mut uses = [0_u64; Reg::COUNT];
    let mut stretch = Stretch::new();
    let mut depth = 0_i32;
    for ((start, end), change) in blocks.ranges().zip(loop_changes(program, blocks)) {
        if change != 0 {
            stretch.finish(depth, &mut uses);
            depth += change;
        }
        let slots = start.index()..end.index();
        for (slot, effect) in program.slots()[slots.clone()].iter().zip(&effects.by_slot()[slots]) {
            if stretch.is_full() {
                stretch.finish(depth, &mut uses);
            }
            if !matches!(slot, Some(Insn::Call(_) | Insn::Exit)) {
                stretch.add(effect);
            }
        }
    }
    stretch.finish(depth, &mut uses);
    let mut regs = [Reg::Ax; Reg::COUNT];
    regs[..Reg::ALL.len()].copy_from_slice(&Reg::ALL);
    regs.sort_by_key(|reg| core::cmp::Reverse(uses[reg.index()]));
    regs
}

/// By block: how many more loops there are around it than around the one before.
fn loop_changes(program: &Program, blocks: &Blocks) -> Vec<i32> {
    let mut changes = vec![0; blocks.starts().len() + 1];
    for (next, (_, end)) in (1..).zip(blocks.ranges()) {
        if let Some(target) = last_before(program, end).jump_target()
            && target < end
        {
            changes[blocks.at(target)] += 1;
            changes[next] -= 1;
        }
    }
    changes
}

/// Registers in one word of [`Stretch`].
const LANES: usize = 6;

/// For each set of [`LANES`] registers, a word whose bytes are 1 where the register is in the set.
const SPREAD: [u64; 1 << LANES] = {
    let mut words = [0; 1 << LANES];
    let mut bits = 0;
    while bits < words.len() {
        let mut lane = 0;
        while lane < LANES {
            words[bits] |= (bits as u64 >> lane & 1) << (8 * lane);
            lane += 1;
        }
        bits += 1;
    }
    words
};

/// Uses in instructions that count the same, one byte for each register: faster than going through
/// sets.
struct Stretch {
    words: [u64; 2],
    len: u8,
}

impl Stretch {
    const fn new() -> Self {
        Self { words: [0; 2], len: 0 }
    }

    /// Whether another instruction, which uses a register twice at most, may be too much.
    const fn is_full(&self) -> bool {
        self.len == u8::MAX / 2
    }

    fn add(&mut self, effect: &Effect) {
        for set in [effect.reads, effect.writes] {
            let bits = usize::from(set.bits());
            self.words[0] += SPREAD[bits % SPREAD.len()];
            self.words[1] += SPREAD[(bits >> LANES) % SPREAD.len()];
        }
        self.len += 1;
    }

    /// Counts the stretch, around which there are so many loops, and begins a new one.
    fn finish(&mut self, depth: i32, uses: &mut [u64; Reg::COUNT]) {
        let weight = LOOP_WEIGHT.pow(depth.unsigned_abs().min(MAX_DEPTH));
        for reg in Reg::ALL {
            let number = usize::from(reg.number());
            let count = self.words[number / LANES].to_le_bytes()[number % LANES];
            uses[reg.index()] += weight * u64::from(count);
        }
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use ebpf_isa::text::assemble;

    use super::*;

    fn hot(program: &Program) -> [Reg; Reg::COUNT] {
        by_use(program, &Blocks::new(program), &Effects::new(program))
    }

    #[test]
    fn loops_count_more_than_lines() {
        let program = assemble(
            "r3 = 1\nr3 += 1\nr3 += 1\nr3 += 1\nr7 = 9\nr8 = 0\nr8 += r7\nr7 += -1\n\
             if r7 != 0 goto -3\nr0 = r8\nexit",
        );
        assert_eq!(hot(&program.unwrap())[..3], [Reg::R7, Reg::R8, Reg::R3]);
    }

    #[test]
    fn calls_do_not_count() {
        let program = assemble("call 1\ncall 1\ncall 1\nr9 = 1\nr0 = 0\nr0 += r9\nexit").unwrap();
        assert_eq!(hot(&program)[..2], [Reg::R0, Reg::R9]);
    }

    #[test]
    fn long_stretches_count_in_full() {
        // More uses than a byte counts.
        let text = format!("{}{}r0 = 0\nexit", "r9 += r9\n".repeat(300), "r5 += r8\n".repeat(200));
        assert_eq!(hot(&assemble(&text).unwrap())[..3], [Reg::R9, Reg::R5, Reg::R8]);
    }
}
