//! The main program first, then the global functions that were called, each for itself, and those that
//! these call, until there is no other.

use ebpf_isa::SubprogIdx;

use super::checkpoint::Way;
use super::iterators::Loops;
use super::{Explorer, Watch};
use crate::error::Checked;

impl<W: Watch> Explorer<'_, W> {
    /// Explores all that there is. What was counted for one function stays counted, and so do numbers
    /// that were given out; all else begins anew with each.
    pub(super) fn run_all(&mut self) -> Checked {
        self.watch.starts();
        self.watch.begins(SubprogIdx::MAIN);
        self.run()?;
        self.watch.validates(SubprogIdx::MAIN);
        let functions = self.machine.functions;
        // The kernel goes through them in order, and again if there was one to explore.
        let mut left: alloc::vec::Vec<_> = functions.called().collect();
        loop {
            let before = left.len();
            let mut explored = Ok(());
            left.retain(|&subprog| {
                let is_next = explored.is_ok() && self.machine.called[subprog.index()];
                if is_next {
                    explored = self.explore_global(subprog);
                }
                !is_next
            });
            explored?;
            if left.len() == before {
                return Ok(());
            }
        }
    }

    fn explore_global(&mut self, subprog: SubprogIdx) -> Checked {
        let program = self.machine.program;
        let first = program.subprogs()[subprog.index()].start;
        self.watch.begins(subprog);
        self.machine.pc = first;
        self.machine.state = self.machine.state_of_global(subprog)?;
        self.history.truncate(0);
        self.checkpoints.forget();
        self.loops.iter_mut().for_each(Loops::forget);
        self.meetings.forget();
        self.explained.clear();
        let chain = self.live_stack.root(program, subprog);
        self.way = Way { parent: None, first, last: None, history: 0, steps: 0, chain };
        self.paths += 1;
        self.run()?;
        self.watch.validates(subprog);
        Ok(())
    }
}
