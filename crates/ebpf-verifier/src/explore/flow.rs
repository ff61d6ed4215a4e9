//! Going through a function against the flow of control, where something changes.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use ebpf_isa::uapi::HelperId;
use ebpf_isa::{CallTarget, Insn, Pc, Program};

/// The order in which a function's instructions are gone through, and where each leads.
/// Instructions are counted from the start of the function, in slots.
#[derive(Debug)]
pub(super) struct Flow {
    /// Each after those it leads to, as far as there are no loops.
    order: Box<[u32]>,
    /// By instruction: its place in the order; [`NOWHERE`] if control does not come there.
    places: Box<[u32]>,
    /// By instruction: where control goes from there.
    ways: Box<[Ways]>,
    /// By place in the order, and one more: where the places that lead there begin in `sources`.
    first_sources: Box<[u32]>,
    sources: Box<[u32]>,
}

const NOWHERE: u32 = u32::MAX;

/// Where control goes from an instruction.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ways {
    to: [u32; 2],
    count: u8,
    /// Whether it goes on there or ends the function.
    pub(super) may_return: bool,
}

impl Ways {
    pub(super) fn all(&self) -> &[u32] {
        &self.to[..self.count.into()]
    }
}

impl Flow {
    /// The function at `start`, of so many slots. Tail calls and packet loads may end it, unless only
    /// exits are to (`exits_alone`).
    pub(super) fn of(program: &Program, start: Pc, len: usize, exits_alone: bool) -> Self {
        let mut ways = vec![Ways::default(); len];
        for (at, ways) in (start.0..).map(Pc).zip(&mut ways) {
            let Some(insn) = program.get(at) else { continue };
            let successors = insn.successors(at);
            for to in successors.next.into_iter().chain(successors.target) {
                ways.to[usize::from(ways.count)] = to.0 - start.0;
                ways.count += 1;
            }
            ways.may_return = !exits_alone && may_return(insn);
        }
        let order = order(&ways);
        let mut places = vec![NOWHERE; len];
        for (place, &at) in order.iter().enumerate() {
            places[at as usize] = place as u32;
        }
        // Counted first, then each put before those of its target that came earlier.
        let edges = || {
            let places_of =
                |at: &u32| ways[*at as usize].all().iter().map(|&to| places[to as usize]);
            (0..).zip(&order).flat_map(move |(place, at)| places_of(at).map(move |to| (place, to)))
        };
        let mut first_sources = vec![0_u32; order.len() + 1];
        edges().for_each(|(_, to)| first_sources[to as usize] += 1);
        let mut count = 0;
        for first in &mut first_sources {
            count += *first;
            *first = count;
        }
        let mut sources = vec![0; count as usize];
        for (place, to) in edges() {
            let first = &mut first_sources[to as usize];
            *first -= 1;
            sources[*first as usize] = place;
        }
        Self {
            order: order.into(),
            places: places.into(),
            ways: ways.into(),
            first_sources: first_sources.into(),
            sources: sources.into(),
        }
    }

    /// Has an instruction looked at in the next pass.
    pub(super) fn look_at(&self, at: usize, work: &mut Work) {
        if self.places[at] != NOWHERE {
            work.now.insert(self.places[at]);
        }
    }

    /// Has all instructions looked at in the next pass.
    pub(super) fn look_at_all(&self, work: &mut Work) {
        (0..self.order.len() as u32).for_each(|place| work.now.insert(place));
    }

    /// Goes through the function once. `change` looks at an instruction, given those that it leads
    /// to, and says whether it changed; then so may those that lead to it, in this pass or the next.
    /// Says whether anything changed.
    pub(super) fn pass(
        &self,
        work: &mut Work,
        mut change: impl FnMut(usize, &Ways) -> bool,
    ) -> bool {
        let mut changed = false;
        while let Some(place) = work.now.take_first() {
            let at = self.order[place as usize] as usize;
            if !change(at, &self.ways[at]) {
                continue;
            }
            changed = true;
            let sources =
                self.first_sources[place as usize]..self.first_sources[place as usize + 1];
            for &source in &self.sources[sources.start as usize..sources.end as usize] {
                match source > place {
                    true => work.now.insert(source),
                    false => work.later.insert(source),
                }
            }
        }
        core::mem::swap(&mut work.now, &mut work.later);
        changed
    }
}

/// Whether an instruction either ends the function or goes on.
fn may_return(insn: Insn) -> bool {
    let tail_call = CallTarget::Helper(HelperId::TAIL_CALL);
    matches!(insn, Insn::LoadPacket { .. }) || insn == Insn::Call(tail_call)
}

/// What control can reach from the first instruction, each after those it leads to.
fn order(ways: &[Ways]) -> Vec<u32> {
    let mut order = Vec::with_capacity(ways.len());
    let mut found = vec![false; ways.len()];
    let mut finished = vec![false; ways.len()];
    let mut waiting = vec![0];
    found[0] = true;
    while let Some(&at) = waiting.last() {
        if core::mem::replace(&mut finished[at as usize], true) {
            order.push(at);
            waiting.pop();
            continue;
        }
        for &to in ways[at as usize].all() {
            if !core::mem::replace(&mut found[to as usize], true) {
                waiting.push(to);
            }
        }
    }
    order
}

/// Which places are to be looked at: in the pass under way, or in the next one before it begins,
/// and in the one after that.
#[derive(Debug, Default)]
pub(super) struct Work {
    now: Places,
    later: Places,
}

impl Work {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// A set of places.
#[derive(Debug, Default)]
struct Places {
    /// One bit for each place.
    words: Vec<u64>,
    /// All words that are not 0 are in this range.
    start: usize,
    end: usize,
}

impl Places {
    fn insert(&mut self, place: u32) {
        let (word, bit) = (place as usize / 64, place % 64);
        if self.start == self.end {
            (self.start, self.end) = (word, word);
        }
        (self.start, self.end) = (self.start.min(word), self.end.max(word + 1));
        if self.words.len() < self.end {
            self.words.resize(self.end, 0);
        }
        self.words[word] |= 1 << bit;
    }

    fn take_first(&mut self) -> Option<u32> {
        while self.start < self.end {
            let word = &mut self.words[self.start];
            if *word != 0 {
                let bit = word.trailing_zeros();
                *word &= *word - 1;
                return Some(self.start as u32 * 64 + bit);
            }
            self.start += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use ebpf_isa::text::assemble;

    use super::*;

    #[test]
    fn places_come_out_in_order() {
        let mut places = Places::default();
        [199, 64, 3, 65].into_iter().for_each(|place| places.insert(place));
        assert_eq!([(); 2].map(|()| places.take_first()), [Some(3), Some(64)]);
        places.insert(70);
        places.insert(2);
        let left = core::iter::from_fn(|| places.take_first());
        assert_eq!(left.collect::<Vec<_>>(), [2, 65, 70, 199]);
        assert_eq!(places.take_first(), None);
    }

    /// In which passes something changed, until nothing did, if `change` is asked.
    fn passes(text: &str, first: usize, mut change: impl FnMut(usize) -> bool) -> Vec<Vec<usize>> {
        let program = assemble(text).expect("it is a program");
        let flow = Flow::of(&program, Pc::ENTRY, program.slots().len(), false);
        let mut work = Work::default();
        flow.look_at(first, &mut work);
        let mut passes = Vec::new();
        loop {
            let mut looked_at = Vec::new();
            let changed = flow.pass(&mut work, |at, _| {
                looked_at.push(at);
                change(at)
            });
            passes.push(looked_at);
            if !changed {
                return passes;
            }
        }
    }

    #[test]
    fn changes_go_against_the_flow_and_once_around_a_loop_in_each_pass() {
        let text = "r0 = 0\nif r0 == 7 goto out\nr1 = 1\nr2 = 2\nout:\nexit";
        assert_eq!(passes(text, 3, |_| true), [[3, 2, 1, 0].to_vec(), vec![]]);
        assert_eq!(passes(text, 3, |at| at == 3), [[3, 2].to_vec(), vec![]]);
        let text = "r0 = 0\nagain:\nr1 = 0\nr0 += 1\nif r0 < 9 goto again\nexit";
        let mut left = 5;
        let change = |_| {
            left -= 1;
            left >= 0
        };
        // The jump back comes before what it leads to.
        assert_eq!(passes(text, 2, change), [[2, 1, 0].to_vec(), [3, 2, 1].to_vec(), vec![]]);
    }
}
