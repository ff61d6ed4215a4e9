//! Handles to placed code.

use crate::PackError;
use crate::link::Links;
use crate::room::Allocation;
use crate::target::Target;
use ebpf_image::{Image, Symbol};
use std::ops::Range;
use std::sync::{Arc, PoisonError};

/// Code that lies where it can run, kept there by this handle, its clones, its entries, and placed code that calls it.
///
/// **Whoever calls the code must hold one of these while it runs**, or borrow from somebody who does; that is part of
/// what a caller promises in its `unsafe` block. When the last one is dropped the code becomes `int3` and its room is
/// reused. A handle keeps its memory alive by itself, also after the [`Pack`](crate::Pack) is gone.
#[derive(Clone, Debug)]
pub struct Placed {
    program: Arc<Program>,
}

/// The address of an entry point of placed code, and a handle that keeps the code there.
#[derive(Clone, Debug)]
pub struct Entry {
    program: Arc<Program>,
    offset: u32,
}

#[derive(Debug)]
struct Program {
    allocation: Allocation,
    code_len: u32,
    /// Offset of the first entry point.
    first_entry: u32,
    /// What the usual image does not have, so that its handle stays small.
    more: Option<Box<More>>,
}

#[derive(Debug)]
struct More {
    /// Offsets of the entry points after the first.
    other_entries: Box<[u32]>,
    links: Option<Box<Links>>,
}

impl Placed {
    /// `allocation` holds the linked image.
    #[inline]
    pub(crate) fn new(allocation: Allocation, image: &Image, links: Option<Box<Links>>) -> Self {
        let mut entries = image.entries().iter().map(|entry| entry.offset.0);
        let first_entry = entries.next().expect("invariant: an image has an entry");
        let more = entries.len() > 0 || links.is_some();
        let program = Program {
            allocation,
            code_len: u32::try_from(image.code().len()).expect("invariant: placements are short"),
            first_entry,
            more: more.then(|| Box::new(More { other_entries: entries.collect(), links })),
        };
        Self { program: Arc::new(program) }
    }

    /// The addresses of the image's code (without the stubs that follow it).
    #[must_use]
    pub fn code_range(&self) -> Range<u64> {
        let start = self.program.allocation.address();
        start..start + u64::from(self.program.code_len)
    }

    /// The entry point of that index in the image; `None` if the image has fewer.
    #[must_use]
    pub fn entry(&self, index: usize) -> Option<Entry> {
        let offset = match index {
            0 => self.program.first_entry,
            _ => *self.program.more.as_ref()?.other_entries.get(index - 1)?,
        };
        Some(Entry { program: Arc::clone(&self.program), offset })
    }

    /// The program's entry, the image's first entry point. It is valid as long as a handle is held; turning it into a
    /// function pointer of the right type, and calling that, is the caller's `unsafe` promise.
    #[must_use]
    pub fn entry_ptr(&self) -> *const u8 {
        self.program.ptr(self.program.first_entry)
    }

    /// Frees the code now, if nothing else keeps it.
    ///
    /// # Errors
    /// The handle, where there are others, entries, or code that calls this one. (Dropping the handle instead leaves freeing to
    /// the last of them.)
    pub fn try_free(self) -> Result<(), Self> {
        Arc::try_unwrap(self.program).map(drop).map_err(|program| Self { program })
    }

    /// Makes all calls of `symbol` in this code go to `target` from now on; also those that run at this moment will, from their
    /// next call on. The image must have been placed with a [replaceable](Target::replaceable) target for the symbol.
    ///
    /// What the symbol stood for is given back, because calls that began before may still be in it: **keep it until they
    /// have ended**. The code itself keeps it no more. One aligned word of data is stored, which processors see whole; instructions
    /// stay as they are, so no core has to be stopped.
    ///
    /// # Errors
    /// [`PackError::NotReplaceable`], [`PackError::Sealed`], [`PackError::Forked`]. Nothing has changed then.
    ///
    /// # Safety
    /// The target is, for everybody who may call this code, as good a function as the one before.
    pub unsafe fn replace(
        &self,
        symbol: Symbol,
        target: impl Into<Target>,
    ) -> Result<Option<Entry>, PackError> {
        let allocation = &self.program.allocation;
        // Before the lock: in a child, another thread of the parent may have held it for ever.
        allocation.check_owner()?;
        let links = self.program.more.as_ref().and_then(|more| more.links.as_deref());
        let links = links.ok_or(PackError::NotReplaceable { symbol })?;
        let mut slots = links.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots
            .iter_mut()
            .find(|slot| slot.symbol == symbol)
            .ok_or(PackError::NotReplaceable { symbol })?;
        let target = target.into();
        allocation.store_slot(slot.offset, target.address)?;
        Ok(std::mem::replace(&mut slot.kept, target.kept))
    }
}

impl Entry {
    /// Where to call it.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.program.allocation.address() + u64::from(self.offset)
    }

    /// Where to call it, as a pointer. It is valid as long as a handle is held; turning it into a function pointer of the right
    /// type, and calling that, is the caller's `unsafe` promise.
    #[must_use]
    pub fn as_ptr(&self) -> *const u8 {
        self.program.ptr(self.offset)
    }

    /// The code that it is an entry of.
    #[must_use]
    pub fn placed(&self) -> Placed {
        Placed { program: Arc::clone(&self.program) }
    }
}

impl Program {
    fn ptr(&self, offset: u32) -> *const u8 {
        std::ptr::with_exposed_provenance(self.allocation.address() as usize + offset as usize)
    }

    /// What the program kept, which it keeps no more.
    fn take_kept(&mut self) -> Vec<Entry> {
        let links = self.more.as_mut().and_then(|more| more.links.take());
        let Some(links) = links else { return Vec::new() };
        let slots = links.slots.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut kept = links.kept;
        kept.extend(slots.into_iter().filter_map(|slot| slot.kept));
        kept
    }
}

impl Drop for Program {
    /// Lets go of what it kept, one after another: in a long chain of programs, each kept by the one before, dropping them
    /// within each other would exhaust the stack.
    fn drop(&mut self) {
        let mut kept = self.take_kept();
        while let Some(entry) = kept.pop() {
            if let Some(mut last) = Arc::into_inner(entry.program) {
                kept.append(&mut last.take_kept());
            }
        }
    }
}
