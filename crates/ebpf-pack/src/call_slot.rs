//! A word that code jumps through, such as an element of a tail-call map.

use crate::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// An aligned word that holds the address of an entry, or 0, and keeps what it refers to alive.
///
/// Code that was compiled for it loads the word from [`address`](Self::address), tests it for 0, and calls or jumps to
/// it. The word belongs to the host, so that who is called can change at any time, in a forked child too, and so that programs which
/// call each other in a circle can be freed: they refer to the slot, and the slot to them until it is emptied.
#[derive(Debug)]
pub struct CallSlot {
    /// On the heap, so that it stays where it is when the slot moves.
    word: Box<AtomicU64>,
    entry: Mutex<Option<Entry>>,
}

impl CallSlot {
    /// A slot with this entry in it.
    #[must_use]
    pub fn new(entry: Option<Entry>) -> Self {
        let word = Box::new(AtomicU64::new(address_of(entry.as_ref())));
        Self { word, entry: Mutex::new(entry) }
    }

    /// Address of the word, a multiple of 8. It is valid as long as the slot.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.word.as_ptr().expose_provenance() as u64
    }

    /// Puts `entry` into the slot. What was there is given back, because calls that went through the slot before may still
    /// be in it: **keep it until they have ended**.
    ///
    /// # Safety
    /// The entry is a function of the type that all code which uses the slot expects.
    pub unsafe fn replace(&self, entry: Option<Entry>) -> Option<Entry> {
        let mut kept = self.entry.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever sees the address sees the code: it was written before.
        self.word.store(address_of(entry.as_ref()), Ordering::Release);
        std::mem::replace(&mut kept, entry)
    }

    /// What is in the slot.
    #[must_use]
    pub fn entry(&self) -> Option<Entry> {
        self.entry.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn address_of(entry: Option<&Entry>) -> u64 {
    entry.map_or(0, Entry::address)
}
