//! The pack: arenas, and the room in them.

use crate::PackError;
use crate::arena::Arena;
use crate::chunks::{Chunks, Run};
use crate::link::Plan;
use crate::os::{self, Owner};
use crate::placed::{Allocation, Placed};
use ebpf_image::{Image, Symbol};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Address space of an arena unless chosen otherwise, in bytes: one huge page.
pub const ARENA_BYTES: usize = 2 << 20;

/// Largest [`PackOptions::arena_bytes`]. (An image larger than an arena gets one of its own size.)
pub const MAX_ARENA_BYTES: usize = 1 << 30;

/// How a pack reserves memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackOptions {
    /// Address space of each arena, in bytes; rounded up to a multiple of [`COMMIT_STEP_BYTES`](crate::COMMIT_STEP_BYTES).
    /// From 1 to [`MAX_ARENA_BYTES`].
    pub arena_bytes: usize,
    /// Reserve arenas within reach of direct calls to functions around this address, where there is room; by default,
    /// the text of the binary this crate is linked into. `None` leaves the place to the kernel.
    pub near: Option<u64>,
}

impl Default for PackOptions {
    fn default() -> Self {
        Self { arena_bytes: ARENA_BYTES, near: Some(os::sync_core as fn() -> _ as usize as u64) }
    }
}

/// What a pack holds at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PackStats {
    /// Address space of all arenas, in bytes.
    pub reserved_bytes: usize,
    /// Memory behind them, in bytes.
    pub committed_bytes: usize,
    /// Bytes in chunks that belong to programs.
    pub used_bytes: usize,
    /// Programs placed and not freed.
    pub programs: usize,
}

/// Shared executable memory for many programs. Clones are handles to the same pack.
///
/// Placing is possible from all threads at once, and never disturbs code that runs. See the
/// [crate documentation](crate) for the rules it keeps.
#[derive(Clone, Debug)]
pub struct Pack {
    shared: Arc<Shared>,
}

impl Pack {
    /// Makes a pack with one arena.
    ///
    /// # Errors
    /// [`PackError::ArenaSize`], and [`PackError::Os`] where the system refuses what executable memory needs: `memfd_create` and
    /// its seals, executable shared mappings, `membarrier(2)` with `SYNC_CORE`.
    pub fn new(options: PackOptions) -> Result<Self, PackError> {
        if !(1..=MAX_ARENA_BYTES).contains(&options.arena_bytes) {
            return Err(PackError::ArenaSize { bytes: options.arena_bytes });
        }
        os::register_sync_core()?;
        let owner = Arc::new(Owner::new()?);
        let first = Slot::new(&owner, options.arena_bytes, options.near)?;
        Ok(Self { shared: Arc::new(Shared { owner, options, slots: Mutex::new(vec![first]) }) })
    }

    /// Places an image where it can run, with every symbol at the address that `resolve` gives for it. Addresses of functions must
    /// stay valid for as long as the code may be called.
    ///
    /// # Errors
    /// [`PackError::UnknownSymbol`] where `resolve` gives no address, [`PackError::Forked`] in a child of the process that made
    /// the pack, [`PackError::TooLarge`], and [`PackError::Os`] where memory or address space run out. Nothing is placed then.
    pub fn place(
        &self,
        image: &Image,
        resolve: &dyn Fn(Symbol) -> Option<u64>,
    ) -> Result<Placed, PackError> {
        // Before any lock: in a child, another thread of the parent may have held it for ever.
        self.shared.owner.check()?;
        let plan = Plan::new(image, resolve)?;
        let allocation = Shared::allocate(&self.shared, &plan)?;
        allocation.write(&plan.link(allocation.address())?)?;
        let entries = image.entries().iter().map(|entry| entry.offset.index()).collect();
        Ok(Placed::new(allocation, image.code().len(), entries))
    }

    /// What the pack holds now.
    #[must_use]
    pub fn stats(&self) -> PackStats {
        let mut stats = PackStats::default();
        for slot in self.shared.lock().iter() {
            stats.reserved_bytes += slot.arena.len();
            stats.committed_bytes += slot.arena.committed_bytes();
            stats.used_bytes += slot.chunks.used_bytes();
            stats.programs += slot.programs;
        }
        stats
    }
}

/// What all handles share.
#[derive(Debug)]
pub(crate) struct Shared {
    owner: Arc<Owner>,
    options: PackOptions,
    slots: Mutex<Vec<Slot>>,
}

/// An arena with the account of its room.
#[derive(Debug)]
struct Slot {
    arena: Arc<Arena>,
    chunks: Chunks,
    programs: usize,
}

impl Slot {
    fn new(owner: &Arc<Owner>, bytes: usize, near: Option<u64>) -> Result<Self, PackError> {
        let arena = Arc::new(Arena::new(Arc::clone(owner), bytes, near)?);
        let chunks = Chunks::new(arena.len());
        Ok(Self { arena, chunks, programs: 0 })
    }

    /// Room for the placement, backed by memory; `None` if the arena is too full.
    fn allocate(&mut self, plan: &Plan<'_>) -> Result<Option<Run>, PackError> {
        let len = plan.len_within(&self.arena.addresses())?;
        let Some(run) = self.chunks.alloc(len) else {
            return Ok(None);
        };
        if let Err(error) = self.arena.commit(run.bytes().end) {
            self.chunks.free(run);
            return Err(error);
        }
        self.programs += 1;
        Ok(Some(run))
    }
}

impl Shared {
    /// Finds room in the first arena that has it, else in a new one.
    fn allocate(this: &Arc<Self>, plan: &Plan<'_>) -> Result<Allocation, PackError> {
        let allocation = |slot: &Slot, run| Allocation {
            shared: Arc::clone(this),
            arena: Arc::clone(&slot.arena),
            run,
        };
        let mut slots = this.lock();
        for slot in slots.iter_mut() {
            if let Some(run) = slot.allocate(plan)? {
                return Ok(allocation(slot, run));
            }
        }
        let bytes = plan.len_anywhere()?.max(this.options.arena_bytes);
        let mut slot = Slot::new(&this.owner, bytes, this.options.near)?;
        let run = slot.allocate(plan)?.expect("invariant: an empty arena of that size has room");
        let allocation = allocation(&slot, run);
        slots.push(slot);
        Ok(allocation)
    }

    /// Wipes the room of a program that nobody can call any more, and gives it back. An arena that becomes empty is
    /// returned to the system, unless it is the only one.
    ///
    /// Room that cannot be wiped, or that cores may still have fetched from, stays allocated for ever: it is not reused.
    pub(crate) fn release(&self, allocation: &Allocation) {
        // Before any lock, as in `place`. A child gives nothing back: the pages are its parent's.
        if self.owner.check().is_err() {
            return;
        }
        // SAFETY: the chunks are the allocation's alone; it is being dropped, so nobody holds a handle or executes it.
        let wiped = unsafe { allocation.arena.text_invalidate(allocation.run.bytes()) };
        if wiped.and_then(|()| os::sync_core()).is_err() {
            return;
        }
        let mut slots = self.lock();
        let index = slots.iter().position(|slot| Arc::ptr_eq(&slot.arena, &allocation.arena));
        let index = index.expect("invariant: an arena is kept while a program is in it");
        slots[index].chunks.free(allocation.run);
        slots[index].programs -= 1;
        if slots[index].programs == 0 && slots.len() > 1 {
            slots.remove(index);
        }
    }

    /// No step under the lock panics between two changes that belong together, so a poisoned lock guards sound data.
    fn lock(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
