//! How much memory the states may take that are kept, or wait.
//!
//! States share what they have in common, so how much one takes is not known from it alone. Whenever
//! so much may have been added that it matters, all of them are counted.

use super::{Explorer, Watch};
use crate::error::{Checked, Payload};
use crate::state::State;

/// Bytes that the states of checkpoints and of waiting paths may take. In ordinary programs one takes
/// two to six kilobytes.
const STATE_BYTES_MAX: usize = 512 << 20;

/// They are counted when this part of the limit may have been added.
const PART_UNCOUNTED: usize = 4;

#[derive(Debug)]
pub(super) struct Memory {
    max: usize,
    /// At most so many bytes were added since all were counted.
    added: usize,
}

impl Memory {
    pub(super) fn new(max: Option<usize>) -> Self {
        Self { max: max.map_or(STATE_BYTES_MAX, |max| max.min(STATE_BYTES_MAX)), added: 0 }
    }
}

impl<W: Watch> Explorer<'_, W> {
    /// Takes in that another state is going to be held, on a path from the last checkpoint.
    pub(super) fn hold(&mut self, state: &State) -> Checked {
        let memory = &mut self.memory;
        memory.added += size_of::<State>();
        if let Some(parent) = self.way.parent {
            memory.added += state.bytes_beside(&self.checkpoints.get(parent).state);
        }
        if memory.added < memory.max / PART_UNCOUNTED {
            return Ok(());
        }
        memory.added = 0;
        let waiting = self.waiting.iter().map(|path| &path.state);
        let states = self.checkpoints.states().chain(waiting).chain(self.covered.states());
        let bytes: usize = states.map(State::bytes).sum();
        if bytes > self.memory.max {
            return Err(Payload::LimitMemory { bytes, max: self.memory.max }.into());
        }
        Ok(())
    }
}
