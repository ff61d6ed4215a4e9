//! Handles to placed code.

use crate::PackError;
use crate::arena::Arena;
use crate::chunks::Run;
use crate::pack::Shared;
use std::ops::Range;
use std::sync::Arc;

/// Code that lies where it can run, kept there by this handle and its clones.
///
/// **Whoever calls the code must hold a handle while it runs**, or borrow from somebody who does; that is part of what a caller
/// promises in its `unsafe` block. When the last handle is dropped the code becomes `int3` and its room is reused. A
/// handle keeps its memory alive by itself, also after the [`Pack`](crate::Pack) is gone.
#[derive(Clone, Debug)]
pub struct Placed {
    program: Arc<Program>,
}

#[derive(Debug)]
struct Program {
    allocation: Allocation,
    code_len: usize,
    /// Offsets of the entry points in the code.
    entries: Vec<usize>,
}

impl Placed {
    /// `entries` holds at least one offset, all of them inside `code_len`.
    pub(crate) fn new(allocation: Allocation, code_len: usize, entries: Vec<usize>) -> Self {
        Self { program: Arc::new(Program { allocation, code_len, entries }) }
    }

    /// The addresses of the image's code (without the stubs for far calls that follow it).
    #[must_use]
    pub fn code_range(&self) -> Range<u64> {
        let start = self.program.allocation.address();
        start..start + self.program.code_len as u64
    }

    /// Address of the entry point of that index in the image; `None` if the image has fewer.
    #[must_use]
    pub fn entry(&self, index: usize) -> Option<u64> {
        let offset = *self.program.entries.get(index)?;
        Some(self.program.allocation.address() + offset as u64)
    }

    /// The program's entry, the image's first entry point. It is valid as long as a handle is held; turning it into a
    /// function pointer of the right type, and calling that, is the caller's `unsafe` promise.
    #[must_use]
    pub fn entry_ptr(&self) -> *const u8 {
        let offset = *self.program.entries.first().expect("invariant: an image has an entry");
        self.program.allocation.ptr().wrapping_add(offset)
    }
}

/// Chunks of an arena that belong to one program; given back when dropped.
#[derive(Debug)]
pub(crate) struct Allocation {
    pub(crate) shared: Arc<Shared>,
    pub(crate) arena: Arc<Arena>,
    pub(crate) run: Run,
}

impl Allocation {
    /// Address of the first byte.
    pub(crate) fn address(&self) -> u64 {
        self.arena.addresses().start + self.run.bytes().start as u64
    }

    /// The first byte, in the executable view.
    fn ptr(&self) -> *const u8 {
        self.arena.executable_ptr(self.run.bytes().start)
    }

    /// Writes the code, at most as long as the allocation. Called once, before anybody knows the address.
    ///
    /// No barrier follows: instruction fetch is coherent with stores on x86, and no core can hold older instructions of a
    /// place that was `int3` since the last barrier (see [`Shared::release`]) or since it was first mapped.
    pub(crate) fn write(&self, code: &[u8]) -> Result<(), PackError> {
        let room = self.run.bytes();
        assert!(
            code.len() <= room.len(),
            "invariant: the placement fits in what its plan announced"
        );
        // SAFETY: the chunks are allocated to `self` alone, and their address has not been given out.
        unsafe { self.arena.text_copy(room.start, code) }
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        self.shared.release(self);
    }
}
