//! Room in the arenas of a pack: finding it, growing it, freeing it, and when it may be used again.
//!
//! A freed run is `int3` at once, but cores may have fetched older instructions from it. So it *rests* until every core of
//! the process has serialized, and one barrier serves all that rest. A barrier interrupts the cores that run the process's
//! threads, so there is one only when the resting runs are worth it, or when there is no other room.

use crate::PackError;
use crate::arena::Arena;
use crate::backing::Backing;
use crate::chunks::{Chunks, Run};
use crate::link::Plan;
use crate::os::{self, Owner};
use crate::pack::PackOptions;
use crate::stats::PackStats;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// As long as fewer bytes than this rest, memory is committed rather than that all cores be interrupted.
const MIN_RESTING_BYTES: usize = 16 << 10;

/// As long as less than this part of the committed bytes rests, likewise.
const RESTING_PART: usize = 16;

/// What all handles share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) owner: Arc<Owner>,
    pub(crate) options: PackOptions,
    pub(crate) backing: Backing,
    /// Whether there is a barrier. Without one, room that was used is not used again.
    pub(crate) sync_core: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    slots: Vec<Slot>,
    sealed: bool,
    barriers: u64,
}

/// An arena with the account of its room.
#[derive(Debug)]
struct Slot {
    arena: Arc<Arena>,
    chunks: Chunks,
    /// Freed runs that wait for a barrier.
    resting: Vec<Run>,
    resting_bytes: usize,
    programs: usize,
    /// Bytes that programs asked for, without what is lost by rounding up to chunks.
    placed_bytes: usize,
    collapse_tried: bool,
}

/// Which part of an arena room is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// What is backed by memory.
    Committed,
    /// All of it; it grows as far as needed.
    Reserved,
}

impl Slot {
    fn new(arena: Arena) -> Self {
        let chunks = Chunks::new(arena.len());
        Self {
            arena: Arc::new(arena),
            chunks,
            resting: Vec::new(),
            resting_bytes: 0,
            programs: 0,
            placed_bytes: 0,
            collapse_tried: false,
        }
    }

    /// Room for the placement, backed by memory; `None` if there is none in that part of the arena.
    fn allocate(
        &mut self,
        plan: &Plan<'_>,
        reach: Reach,
    ) -> Result<Option<(Run, usize)>, PackError> {
        let len = plan.len_within(&self.arena.addresses())?;
        let limit = match reach {
            Reach::Committed => self.arena.committed_bytes(),
            Reach::Reserved => self.arena.len(),
        };
        let Some(run) = self.chunks.alloc(len, limit) else {
            return Ok(None);
        };
        if let Err(error) = self.arena.commit(run.bytes().end) {
            self.chunks.free(run);
            return Err(error);
        }
        self.programs += 1;
        self.placed_bytes += len;
        Ok(Some((run, len)))
    }

    fn is_empty(&self) -> bool {
        self.programs == 0
    }

    /// Whether huge pages should be asked for now; yes only once.
    fn wants_collapse(&mut self) -> bool {
        let wants = !self.collapse_tried
            && self.chunks.used_bytes() > self.arena.len() / 2
            && self.arena.can_be_huge();
        self.collapse_tried |= wants;
        wants
    }
}

impl State {
    fn resting_bytes(&self) -> usize {
        self.slots.iter().map(|slot| slot.resting_bytes).sum()
    }

    /// How much must rest for a barrier to be better than committing more memory.
    fn worth_a_barrier(&self) -> usize {
        let committed: usize = self.slots.iter().map(|slot| slot.arena.committed_bytes()).sum();
        MIN_RESTING_BYTES.max(committed / RESTING_PART)
    }

    fn position(&self, arena: &Arc<Arena>) -> Option<usize> {
        self.slots.iter().position(|slot| Arc::ptr_eq(&slot.arena, arena))
    }
}

impl Shared {
    pub(crate) fn new(
        owner: Arc<Owner>,
        options: PackOptions,
        backing: Backing,
        sync_core: bool,
        first: Option<Arena>,
    ) -> Self {
        let slots = first.into_iter().map(Slot::new).collect();
        let state = Mutex::new(State { slots, ..State::default() });
        Self { owner, options, backing, sync_core, state }
    }

    /// Finds room for the placement: in memory that is there, in what rests if that is much, in memory that can be
    /// committed, in anything that rests, in a new arena.
    pub(crate) fn allocate(this: &Arc<Self>, plan: &Plan<'_>) -> Result<Allocation, PackError> {
        let mut state = this.lock();
        for reach in [Reach::Committed, Reach::Reserved] {
            if let Some(found) = this.find(&mut state, plan, reach)? {
                return this.finish(state, found);
            }
            let enough = match reach {
                Reach::Committed => state.worth_a_barrier(),
                Reach::Reserved => 1,
            };
            if state.resting_bytes() >= enough && this.sync_core {
                drop(state);
                this.wake_resting();
                state = this.lock();
                if let Some(found) = this.find(&mut state, plan, reach)? {
                    return this.finish(state, found);
                }
            }
        }
        this.grow(state, plan)
    }

    /// The first arena that has room.
    fn find(
        self: &Arc<Self>,
        state: &mut State,
        plan: &Plan<'_>,
        reach: Reach,
    ) -> Result<Option<(Allocation, bool)>, PackError> {
        if state.sealed {
            return Err(PackError::Sealed);
        }
        for slot in &mut state.slots {
            if slot.arena.is_sealed() {
                continue;
            }
            if let Some((run, len)) = slot.allocate(plan, reach)? {
                let collapse = self.options.huge_pages && slot.wants_collapse();
                return Ok(Some((self.allocation(slot, run, len), collapse)));
            }
        }
        Ok(None)
    }

    /// Room in a new arena.
    fn grow(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        plan: &Plan<'_>,
    ) -> Result<Allocation, PackError> {
        let mut bytes = plan.len_anywhere()?;
        if self.backing != Backing::OneShot {
            bytes = bytes.max(self.options.arena_bytes);
        }
        let owner = Arc::clone(&self.owner);
        let arena = Arena::new(owner, self.backing, self.options.position, bytes)?;
        let mut slot = Slot::new(arena);
        let (run, len) = slot
            .allocate(plan, Reach::Reserved)?
            .expect("invariant: an empty arena of that size has room");
        let collapse = self.options.huge_pages && slot.wants_collapse();
        let allocation = self.allocation(&slot, run, len);
        state.slots.push(slot);
        self.finish(state, (allocation, collapse))
    }

    fn allocation(self: &Arc<Self>, slot: &Slot, run: Run, len: usize) -> Allocation {
        let (shared, arena) = (Arc::clone(self), Arc::clone(&slot.arena));
        Allocation { shared, arena, run, len: len as u32 }
    }

    /// Leaves the lock, and asks for huge pages if it is time to: that takes hundreds of microseconds.
    fn finish(
        &self,
        state: MutexGuard<'_, State>,
        (allocation, collapse): (Allocation, bool),
    ) -> Result<Allocation, PackError> {
        drop(state);
        if collapse {
            // Small pages do as well; what could not be had is seen in the statistics.
            let _ = allocation.arena.collapse();
        }
        Ok(allocation)
    }

    /// Lets all cores serialize, and gives what rested until now back. Where the barrier fails, it rests on.
    fn wake_resting(&self) {
        let take = |slot: &mut Slot| {
            let runs = std::mem::take(&mut slot.resting);
            (Arc::clone(&slot.arena), runs, std::mem::take(&mut slot.resting_bytes))
        };
        let resting: Vec<_> = {
            let mut state = self.lock();
            state.barriers += 1;
            state.slots.iter_mut().filter(|slot| slot.resting_bytes > 0).map(take).collect()
        };
        let serialized = os::sync_core().is_ok();
        let mut state = self.lock();
        for (arena, runs, bytes) in resting {
            let Some(index) = state.position(&arena) else { continue };
            let slot = &mut state.slots[index];
            if serialized {
                runs.into_iter().for_each(|run| slot.chunks.free(run));
            } else {
                slot.resting.extend(runs);
                slot.resting_bytes += bytes;
            }
        }
    }

    /// Wipes the room of a program that nobody can call any more, and lets it rest. An arena that becomes empty is
    /// returned to the system, unless it is the only empty one.
    fn release(&self, allocation: &Allocation) {
        // Before any lock: in a child, another thread of the parent may have held it for ever. A child gives nothing
        // back: the pages are its parent's.
        if self.owner.check().is_err() {
            return;
        }
        let run = allocation.run;
        // SAFETY: the chunks are the allocation's alone; it is being dropped, so nobody holds a handle or executes it.
        let wiped = unsafe { allocation.arena.text_invalidate(run.bytes()) };
        let mut state = self.lock();
        let index = state.position(&allocation.arena);
        let index = index.expect("invariant: an arena is kept while a program is in it");
        let slot = &mut state.slots[index];
        slot.programs -= 1;
        slot.placed_bytes -= allocation.len as usize;
        // Room that could not be wiped is not used again.
        if wiped.is_ok() {
            slot.resting.push(run);
            slot.resting_bytes += run.bytes().len();
        }
        let unusable = wiped.is_err();
        let empty = slot.is_empty();
        let others = state.slots.iter().filter(|slot| slot.is_empty()).count() > 1;
        let returned = (empty && (unusable || others)).then(|| state.slots.remove(index));
        drop(state);
        // Unmapping takes longer than what the lock is for.
        drop(returned);
    }

    /// Gives up writing to what is placed.
    pub(crate) fn seal(&self) -> Result<(), PackError> {
        self.owner.check()?;
        let mut state = self.lock();
        state.sealed = true;
        state.slots.iter().try_for_each(|slot| slot.arena.seal())?;
        state.slots.retain(|slot| !slot.is_empty());
        Ok(())
    }

    pub(crate) fn stats(&self) -> PackStats {
        let state = self.lock();
        let mut stats = PackStats { barriers: state.barriers, ..PackStats::default() };
        stats.metadata_bytes = state.slots.capacity() * size_of::<Slot>();
        for Slot { arena, chunks, resting, resting_bytes, programs, placed_bytes, .. } in
            &state.slots
        {
            let committed = arena.committed_bytes();
            stats.arenas += 1;
            stats.huge_arenas += usize::from(arena.is_huge());
            stats.reserved_bytes += arena.len();
            stats.committed_bytes += committed;
            stats.used_bytes += chunks.used_bytes() - resting_bytes;
            stats.placed_bytes += placed_bytes;
            stats.resting_bytes += resting_bytes;
            stats.programs += programs;
            stats.longest_free_bytes =
                stats.longest_free_bytes.max(chunks.longest_free_bytes(committed));
            stats.metadata_bytes += chunks.metadata_bytes() + size_of::<Arena>();
            stats.metadata_bytes += resting.capacity() * size_of::<Run>();
        }
        stats
    }

    /// No step under the lock panics between two changes that belong together, so a poisoned lock guards sound data.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Chunks of an arena that belong to one program; given back when dropped.
#[derive(Debug)]
pub(crate) struct Allocation {
    shared: Arc<Shared>,
    arena: Arc<Arena>,
    run: Run,
    /// Bytes that the placement may take.
    len: u32,
}

impl Allocation {
    /// Address of the first byte.
    pub(crate) fn address(&self) -> u64 {
        self.arena.addresses().start + self.run.bytes().start as u64
    }

    /// The first byte, where it runs.
    pub(crate) fn ptr(&self) -> *const u8 {
        self.arena.executable_ptr(self.run.bytes().start)
    }

    /// Writes the code, at most as long as the allocation. Called once, before anybody knows the address.
    ///
    /// No barrier follows: instruction fetch is coherent with stores on x86, and no core can hold older instructions of a
    /// place that was `int3` since the last barrier (see [`Shared::wake_resting`]) or since it was first mapped.
    pub(crate) fn write(&self, code: &[u8]) -> Result<(), PackError> {
        assert!(
            code.len() <= self.len as usize,
            "invariant: the placement fits in what its plan announced"
        );
        // SAFETY: the chunks are allocated to `self` alone, and their address has not been given out.
        unsafe { self.arena.text_copy(self.run.bytes().start, code) }?;
        if self.shared.backing == Backing::OneShot {
            self.arena.seal()?;
        }
        Ok(())
    }

    /// Changes the address in the link slot at `offset`.
    pub(crate) fn store_slot(&self, offset: usize, address: u64) -> Result<(), PackError> {
        assert!(
            offset.is_multiple_of(8) && offset + 8 <= self.len as usize,
            "invariant: a slot is an aligned word of its placement"
        );
        // SAFETY: the chunks are the allocation's; the word is data, which its stub reads as a whole.
        unsafe { self.arena.text_copy(self.run.bytes().start + offset, &address.to_le_bytes()) }
    }

    /// Whether this process is the one that made the pack.
    pub(crate) fn check_owner(&self) -> Result<(), PackError> {
        self.shared.owner.check()
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        self.shared.release(self);
    }
}
