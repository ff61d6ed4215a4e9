//! What others may see of exploration.

use ebpf_isa::{Insn, Pc, SubprogIdx};

use super::checkpoint::CheckpointId;
use crate::observe::{ExploredState, Observer};
use crate::state::{Cell, CellSet, SlotMask, State};
use crate::step::Effects;

/// Sees what exploration does. Nothing is done for methods that are left as they are here.
pub(crate) trait Watch {
    /// Whether all that follows is of interest. Otherwise that may be left out which exploration
    /// can do without, such as walks for what was looked for before.
    const EVERYTHING: bool = false;

    /// Exploration begins.
    fn starts(&mut self) {}

    /// A function is explored next: the main program, or a global function.
    fn begins(&mut self, _function: SubprogIdx) {}

    /// All paths of a function were explored.
    fn validates(&mut self, _function: SubprogIdx) {}

    /// The instruction at `pc`, reached from `from`, is explored next.
    fn before(&mut self, _pc: Pc, _from: Option<Pc>, _state: &State) {}

    /// It was explored, and other sides of it wait; the path goes on with this state.
    fn after(&mut self, _pc: Pc, _state: &State, _effects: &Effects) {}

    /// The path being explored now has another side that waits.
    fn waits(&mut self) {}

    /// An earlier path covers the one that comes from `from`.
    fn covered(&mut self, _pc: Pc, _from: Option<Pc>) {}

    /// A path that waited is taken up.
    fn taken_up(&mut self) {}

    /// The state has come back to an earlier one.
    fn repeats(&mut self, _pc: Pc, _state: &State, _earlier: &State, _precise: &CellSet) {}

    /// The state is kept, at these places: of a frame its call, of the last one the instruction.
    fn keeps(&mut self, _checkpoint: CheckpointId, _places: &[Pc]) {}

    /// All paths from a kept state have ended.
    fn finishes(&mut self, _checkpoint: CheckpointId) {}

    /// The path ends in this loop: the calls that lead to it, and its number.
    fn ends_in_loop(&mut self, _loop: &[u32]) {}

    /// Numbers that an earlier path relied on are looked for.
    fn hands_over(&mut self, _depth: usize, _wanted: &CellSet) {}

    /// A walk goes back over a piece of path.
    fn walks(&mut self, _frame: usize, _last: Option<Pc>, _first: Pc, _behind: Option<Pc>) {}

    /// A walk is at an instruction, with these cells wanted behind it.
    fn walks_over(&mut self, _frame: usize, _wanted: &CellSet, _pc: Pc, _insn: Insn) {}

    /// A walk marked what was wanted in a checkpoint; `left` is what it goes on looking for.
    fn marks(&mut self, _frame: usize, _left: &CellSet, _state: &State, _precise: &CellSet) {}

    /// A walk lost track: everything is marked.
    fn gives_up(&mut self, _frame: usize) {}

    /// A number was marked after that.
    fn forces(&mut self, _cell: Cell) {}

    /// Other slots are live (or, if `written`, written on all ways) than were before.
    fn slots_change(&mut self, _change: &SlotsChange<'_>) {}

    /// It was found in so many passes which slots are live in a function.
    fn settles(&mut self, _calls: &[Pc], _start: Pc, _passes: u32) {}

    /// Exploration is over. By subprogram: bytes of stack, and how many the kernel adds to them if it
    /// accepts the program.
    fn ends(&mut self, _stack_depth: &[u16], _added: &[u16]) {}
}

/// Other slots than before: of a frame, at an instruction of a function called through `calls`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SlotsChange<'a> {
    pub(crate) calls: &'a [Pc],
    /// First instruction of the function.
    pub(crate) start: Pc,
    pub(crate) pc: Pc,
    pub(crate) frame: usize,
    pub(crate) written: bool,
    /// Whether the instruction accesses slots, or paths may meet or begin there.
    pub(crate) is_of_interest: bool,
    pub(crate) before: SlotMask,
    pub(crate) now: SlotMask,
}

/// Nobody watches.
impl Watch for () {}

/// An observer of states.
pub(crate) struct States<'o>(pub(crate) &'o mut dyn Observer);

impl Watch for States<'_> {
    fn before(&mut self, pc: Pc, _from: Option<Pc>, state: &State) {
        self.0.before(pc, ExploredState::of(state));
    }
}
