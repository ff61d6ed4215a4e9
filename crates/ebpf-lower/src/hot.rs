//! Which registers matter most.

use alloc::vec;
use alloc::vec::Vec;

use ebpf_isa::{Insn, Program, Reg};

use crate::outline::End;
use crate::{Effect, Outline};

/// Each loop around an instruction makes it count this many times more.
const LOOP_WEIGHT: i64 = 8;
/// Deeper nesting counts no more.
const MAX_DEPTH: u32 = 6;

/// The registers, most used first. Uses inside of loops (stretches that a jump leads back over)
/// count more; uses by calls and returns, which go by the calling convention, do not count. `outline`
/// is the program's.
#[must_use]
pub fn by_use(program: &Program, outline: &Outline) -> [Reg; Reg::COUNT] {
    let effects = outline.effects().by_slot();
    let mut uses = Uses([0; Reg::COUNT]);
    let mut stretch = Stretch::new();
    let mut depth = 0;
    let mut ends = outline.ends().iter().peekable();
    let mut special = outline.special().iter().peekable();
    for ((start, end), change) in outline.blocks().ranges().zip(loop_changes(outline)) {
        if change != 0 {
            stretch.finish(depth, &mut uses);
            depth += change;
        }
        let mut rest = &effects[start.index()..end.index()];
        while !rest.is_empty() {
            rest = stretch.add(rest);
            if stretch.is_full() {
                stretch.finish(depth, &mut uses);
            }
        }
        while let Some(pc) = special.next_if(|&pc| pc < end) {
            if let Some(Insn::Call(_)) = program.get(pc) {
                uses.take_back(&effects[pc.index()], depth);
            }
        }
        if let Some(last) = ends.next_if(|last| last.at < end)
            && last.target.is_none()
        {
            uses.take_back(&effects[last.at.index()], depth);
        }
    }
    stretch.finish(depth, &mut uses);
    let mut regs = [Reg::Ax; Reg::COUNT];
    regs[..Reg::ALL.len()].copy_from_slice(&Reg::ALL);
    regs.sort_by_key(|reg| core::cmp::Reverse(uses.0[reg.index()]));
    regs
}

/// By block: how many more loops there are around it than around the one before.
fn loop_changes(outline: &Outline) -> Vec<i32> {
    let blocks = outline.blocks();
    let mut changes = vec![0; blocks.starts().len() + 1];
    for &End { at, target, .. } in outline.ends() {
        if let Some(target) = target.filter(|&target| target <= at) {
            let first = blocks.at(target);
            changes[first] += 1;
            changes[blocks.behind(at)] -= 1;
        }
    }
    changes
}

/// How much an instruction counts that has so many loops around it.
fn weight(depth: i32) -> i64 {
    LOOP_WEIGHT.pow(depth.unsigned_abs().min(MAX_DEPTH))
}

/// Weighted uses by register.
struct Uses([i64; Reg::COUNT]);

impl Uses {
    /// Makes an instruction not count.
    fn take_back(&mut self, effect: &Effect, depth: i32) {
        for reg in effect.reads.iter().chain(effect.writes.iter()) {
            self.0[reg.index()] -= weight(depth);
        }
    }
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
    len: usize,
}

impl Stretch {
    const ROOM: usize = u8::MAX as usize / 2;

    const fn new() -> Self {
        Self { words: [0; 2], len: 0 }
    }

    /// Whether another instruction, which uses a register twice at most, may be too much.
    const fn is_full(&self) -> bool {
        self.len == Self::ROOM
    }

    /// Adds as many as there is room for; gives the others.
    fn add<'e>(&mut self, effects: &'e [Effect]) -> &'e [Effect] {
        let (added, rest) = effects.split_at(effects.len().min(Self::ROOM - self.len));
        let spread = |bits: u16| SPREAD[usize::from(bits) % SPREAD.len()];
        let [mut low, mut high] = self.words;
        for effect in added {
            let (reads, writes) = (effect.reads.bits(), effect.writes.bits());
            low += spread(reads) + spread(writes);
            high += spread(reads >> LANES) + spread(writes >> LANES);
        }
        self.words = [low, high];
        self.len += added.len();
        rest
    }

    /// Counts the stretch, around which there are so many loops, and begins a new one.
    fn finish(&mut self, depth: i32, uses: &mut Uses) {
        let weight = weight(depth);
        for reg in Reg::ALL {
            let number = usize::from(reg.number());
            let count = self.words[number / LANES].to_le_bytes()[number % LANES];
            uses.0[reg.index()] += weight * i64::from(count);
        }
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use ebpf_isa::text::assemble;

    use super::*;

    fn hot(program: &Program) -> [Reg; Reg::COUNT] {
        by_use(program, &Outline::new(program))
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
