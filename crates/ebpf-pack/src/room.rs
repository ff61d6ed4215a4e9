//! Room in the arenas of a pack: finding it, growing it, freeing it, and when it may be used again.
//!
//! A freed run is `int3` at once, but cores may have fetched older instructions from it. So it *rests* until every core of
//! the process has serialized, and one barrier serves all that rest. A barrier interrupts the cores that run the process's
//! threads, so there is one only when the resting runs are worth it, or when there is no other room.

use crate::PackError;
use crate::arena::Arena;
use crate::backing::Backing;
use crate::chunks::{Chunks, Run};
use crate::link::{Links, Plan};
use crate::os::{self, Owner};
use crate::pack::PackOptions;
use crate::stats::PackStats;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// As long as fewer bytes than this rest, memory is committed rather than that all cores be interrupted.
const MIN_RESTING_BYTES: usize = 16 << 10;

/// As long as less than this part of the committed bytes rests, likewise.
const RESTING_PART: usize = 64;

/// Largest buffer for linking that is kept for the next placement, in bytes.
const MAX_SCRATCH_BYTES: usize = 64 << 10;

/// What all handles share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) owner: Arc<Owner>,
    options: PackOptions,
    backing: Backing,
    /// Whether there is a barrier. Without one, room that was used is not used again.
    sync_core: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// An arena keeps its index; those of returned ones are vacant.
    slots: Vec<Option<Slot>>,
    vacant: Vec<u32>,
    /// How many of them are empty.
    empty: usize,
    sealed: bool,
    /// How many arenas there have been.
    count: u64,
    barriers: u64,
    /// Where images are linked before they are written.
    scratch: Vec<u8>,
}

/// An arena with the account of its room.
#[derive(Debug)]
struct Slot {
    /// Tells it from those that had its index before.
    number: u64,
    arena: Arena,
    chunks: Chunks,
    /// Freed runs that wait for a barrier.
    resting: Vec<Run>,
    resting_bytes: usize,
    programs: usize,
    /// Bytes that programs asked for, without what is lost by rounding up to chunks.
    placed_bytes: usize,
    collapse_tried: bool,
}

/// Room for a placement.
#[derive(Clone, Copy, Debug)]
struct Found {
    /// Index of the arena.
    slot: u32,
    address: u64,
    run: Run,
    /// Bytes that the placement may take.
    len: usize,
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
    fn new(number: u64, arena: Arena) -> Self {
        let chunks = Chunks::new(arena.len());
        Self {
            number,
            arena,
            chunks,
            resting: Vec::new(),
            resting_bytes: 0,
            programs: 0,
            placed_bytes: 0,
            collapse_tried: false,
        }
    }

    /// Room for the placement, backed by memory; `None` if there is none in that part of the arena.
    #[inline]
    fn allocate(
        &mut self,
        plan: &Plan<'_>,
        reach: Reach,
    ) -> Result<Option<(Run, usize)>, PackError> {
        if self.arena.is_sealed() {
            return Ok(None);
        }
        let addresses = self.arena.addresses();
        let len = plan.len_within(&addresses)?;
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

    /// Asks for huge pages when programs fill more than half of the arena; only once.
    fn collapse_if_due(&mut self) {
        let half = self.arena.len() / 2;
        if !self.collapse_tried && self.chunks.used_bytes() > half && self.arena.can_be_huge() {
            self.collapse_tried = true;
            // Small pages do as well; what could not be had is seen in the statistics.
            let _ = self.arena.collapse();
        }
    }
}

impl State {
    fn resting_bytes(&self) -> usize {
        self.arenas().map(|slot| slot.resting_bytes).sum()
    }

    /// How much must rest for a barrier to be better than committing more memory.
    fn worth_a_barrier(&self) -> usize {
        let committed: usize = self.arenas().map(|slot| slot.arena.committed_bytes()).sum();
        MIN_RESTING_BYTES.max(committed / RESTING_PART)
    }

    fn arenas(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().flatten()
    }

    fn slot(&mut self, index: u32) -> &mut Slot {
        let slot = self.slots[index as usize].as_mut();
        slot.expect("invariant: an arena is kept while a program is in it")
    }

    /// Room in the first arena that has some.
    fn find(&mut self, plan: &Plan<'_>, reach: Reach) -> Result<Option<Found>, PackError> {
        for index in 0..self.slots.len() as u32 {
            if let Some(found) = self.find_in(index, plan, reach)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    #[inline]
    fn find_in(
        &mut self,
        index: u32,
        plan: &Plan<'_>,
        reach: Reach,
    ) -> Result<Option<Found>, PackError> {
        let Some(slot) = &mut self.slots[index as usize] else { return Ok(None) };
        let Some((run, len)) = slot.allocate(plan, reach)? else { return Ok(None) };
        self.empty -= usize::from(slot.programs == 1);
        let address = slot.arena.addresses().start + run.bytes().start as u64;
        Ok(Some(Found { slot: index, address, run, len }))
    }

    /// Takes an arena in, as an empty one.
    fn insert(&mut self, arena: Arena) -> u32 {
        let slot = Some(Slot::new(self.count, arena));
        self.count += 1;
        self.empty += 1;
        match self.vacant.pop() {
            Some(index) => {
                self.slots[index as usize] = slot;
                index
            }
            None => {
                self.slots.push(slot);
                u32::try_from(self.slots.len() - 1).expect("invariant: arenas have pages")
            }
        }
    }

    fn remove(&mut self, index: u32) -> Option<Slot> {
        self.vacant.push(index);
        self.slots[index as usize].take()
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
        let mut state = State::default();
        if let Some(arena) = first {
            state.insert(arena);
        }
        Self { owner, options, backing, sync_core, state: Mutex::new(state) }
    }

    /// Finds room, links the image for it, and writes it there.
    ///
    /// No barrier follows: instruction fetch is coherent with stores on x86, and no core can hold older instructions of a
    /// place that was `int3` since the last barrier (see [`Shared::wake_resting`]) or since it was first mapped.
    #[inline]
    pub(crate) fn place(
        this: &Arc<Self>,
        plan: Plan<'_>,
    ) -> Result<(Allocation, Option<Box<Links>>), PackError> {
        // What the plan keeps may be freed with it, which takes the lock: it is let go of after that was left.
        let Found { slot, address, len, .. } = this.place_locked(&plan)?;
        let len = u32::try_from(len).expect("invariant: placements are short");
        let links = plan.into_links(address);
        Ok((Allocation { shared: Arc::clone(this), address, slot, len }, links))
    }

    #[inline]
    fn place_locked(&self, plan: &Plan<'_>) -> Result<Found, PackError> {
        let (mut state, found) = self.allocate(plan)?;
        let placed = self.link(&mut state, found, plan);
        if placed.is_err() {
            self.give_back(&mut state, found.slot, found.run, found.len);
        }
        placed.map(|()| found)
    }

    #[inline]
    fn link(&self, state: &mut State, found: Found, plan: &Plan<'_>) -> Result<(), PackError> {
        if let Some(code) = plan.as_is() {
            return self.write(state.slot(found.slot), found, code);
        }
        let mut scratch = std::mem::take(&mut state.scratch);
        plan.link(found.address, &mut scratch)?;
        self.write(state.slot(found.slot), found, &scratch)?;
        if scratch.capacity() <= MAX_SCRATCH_BYTES {
            state.scratch = scratch;
        }
        Ok(())
    }

    #[inline]
    fn write(&self, slot: &mut Slot, found: Found, code: &[u8]) -> Result<(), PackError> {
        assert!(code.len() <= found.len, "invariant: the plan announced the length");
        // SAFETY: the chunks are taken for this placement, and their address has not been given out.
        unsafe { slot.arena.text_copy(found.run.bytes().start, code) }?;
        if self.backing == Backing::OneShot {
            slot.arena.seal()?;
        }
        if self.options.huge_pages {
            slot.collapse_if_due();
        }
        Ok(())
    }

    /// Finds room: in memory that is there, in what rests if that is much, in memory that can be committed, in anything
    /// that rests, in a new arena.
    #[inline]
    fn allocate(&self, plan: &Plan<'_>) -> Result<(MutexGuard<'_, State>, Found), PackError> {
        let mut state = self.lock();
        for reach in [Reach::Committed, Reach::Reserved] {
            if self.backing == Backing::OneShot {
                break;
            }
            if let Some(found) = state.find(plan, reach)? {
                return Ok((state, found));
            }
            let enough = match reach {
                Reach::Committed => state.worth_a_barrier(),
                Reach::Reserved => 1,
            };
            if self.sync_core && state.resting_bytes() >= enough {
                drop(state);
                self.wake_resting();
                state = self.lock();
                if let Some(found) = state.find(plan, reach)? {
                    return Ok((state, found));
                }
            }
        }
        let found = self.add_arena(&mut state, plan)?;
        Ok((state, found))
    }

    /// Room in a new arena.
    fn add_arena(&self, state: &mut State, plan: &Plan<'_>) -> Result<Found, PackError> {
        if state.sealed {
            return Err(PackError::Sealed);
        }
        let mut bytes = plan.len_anywhere()?;
        if self.backing != Backing::OneShot {
            bytes = bytes.max(self.options.arena_bytes);
        }
        let owner = Arc::clone(&self.owner);
        let arena = Arena::new(owner, self.backing, self.options.position, bytes)?;
        let index = state.insert(arena);
        let found = state.find_in(index, plan, Reach::Reserved)?;
        Ok(found.expect("invariant: an empty arena of that size has room"))
    }

    /// Lets all cores serialize, and gives what rested until now back. Where the barrier fails, it rests on.
    fn wake_resting(&self) {
        let take = |(index, slot): (usize, &mut Option<Slot>)| {
            let slot = slot.as_mut().filter(|slot| slot.resting_bytes > 0)?;
            let runs = std::mem::take(&mut slot.resting);
            Some((index, slot.number, runs, std::mem::take(&mut slot.resting_bytes)))
        };
        let mut state = self.lock();
        state.barriers += 1;
        let resting: Vec<_> = state.slots.iter_mut().enumerate().filter_map(take).collect();
        drop(state);
        let serialized = os::sync_core().is_ok();
        let mut state = self.lock();
        for (index, number, runs, bytes) in resting {
            let slot = state.slots[index].as_mut().filter(|slot| slot.number == number);
            let Some(slot) = slot else { continue };
            if serialized {
                runs.into_iter().for_each(|run| slot.chunks.free(run));
            } else {
                slot.resting.extend(runs);
                slot.resting_bytes += bytes;
            }
        }
    }

    /// Wipes the room of a program that nobody can call any more, and lets it rest. Returns its arena if it is empty now
    /// and not the only one that is.
    fn give_back(&self, state: &mut State, index: u32, run: Run, len: usize) -> Option<Slot> {
        let slot = state.slot(index);
        // SAFETY: nobody holds a handle of the program that the chunks belong to, so nobody executes it.
        let wiped = unsafe { slot.arena.text_invalidate(run.bytes()) };
        slot.programs -= 1;
        slot.placed_bytes -= len;
        // Room that could not be wiped is not used again.
        if wiped.is_ok() {
            slot.resting.push(run);
            slot.resting_bytes += run.bytes().len();
        }
        if slot.programs > 0 {
            return None;
        }
        if wiped.is_err() || state.empty > 0 || self.backing == Backing::OneShot {
            return state.remove(index);
        }
        state.empty += 1;
        None
    }

    /// Gives up writing to what is placed.
    pub(crate) fn seal(&self) -> Result<(), PackError> {
        self.owner.check()?;
        let mut state = self.lock();
        state.sealed = true;
        state.slots.iter_mut().flatten().try_for_each(|slot| slot.arena.seal())?;
        for index in 0..state.slots.len() as u32 {
            if state.slots[index as usize].as_ref().is_some_and(|slot| slot.programs == 0) {
                state.remove(index);
            }
        }
        state.empty = 0;
        Ok(())
    }

    pub(crate) fn stats(&self) -> PackStats {
        let state = self.lock();
        let mut stats = PackStats { barriers: state.barriers, ..PackStats::default() };
        stats.metadata_bytes = size_of::<Self>() + state.scratch.capacity();
        stats.metadata_bytes += state.slots.capacity() * size_of::<Slot>();
        for slot in state.arenas() {
            let Slot { arena, chunks, .. } = slot;
            let committed = arena.committed_bytes();
            stats.arenas += 1;
            stats.huge_arenas += usize::from(arena.is_huge());
            stats.reserved_bytes += arena.len();
            stats.committed_bytes += committed;
            stats.used_bytes += chunks.used_bytes() - slot.resting_bytes;
            stats.placed_bytes += slot.placed_bytes;
            stats.resting_bytes += slot.resting_bytes;
            stats.programs += slot.programs;
            let longest_free = chunks.longest_free_bytes(committed);
            stats.longest_free_bytes = stats.longest_free_bytes.max(longest_free);
            stats.metadata_bytes += chunks.metadata_bytes();
            stats.metadata_bytes += slot.resting.capacity() * size_of::<Run>();
        }
        stats
    }

    /// No step under the lock panics between two changes that belong together, so a poisoned lock guards sound data.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Chunks of an arena that belong to one program; given back when dropped. As long as it lives, so does the arena.
#[derive(Debug)]
pub(crate) struct Allocation {
    shared: Arc<Shared>,
    /// Of the first byte.
    address: u64,
    /// Index of its arena.
    slot: u32,
    /// Bytes that the placement may take.
    len: u32,
}

impl Allocation {
    /// Address of the first byte.
    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    /// Changes the address in the link slot at `offset`.
    pub(crate) fn store_slot(&self, offset: usize, address: u64) -> Result<(), PackError> {
        assert!(
            offset.is_multiple_of(8) && offset + 8 <= self.len as usize,
            "invariant: a slot is an aligned word of its placement"
        );
        let mut state = self.shared.lock();
        let slot = state.slot(self.slot);
        let start = (self.address - slot.arena.addresses().start) as usize;
        // SAFETY: the chunks are the allocation's; the word is data, which its stub reads as a whole.
        unsafe { slot.arena.text_copy(start + offset, &address.to_le_bytes()) }
    }

    /// Whether this process is the one that made the pack.
    pub(crate) fn check_owner(&self) -> Result<(), PackError> {
        self.shared.owner.check()
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        // Before the lock: in a child, another thread of the parent may have held it for ever. A child gives nothing
        // back: the pages are its parent's.
        if self.check_owner().is_err() {
            return;
        }
        let mut state = self.shared.lock();
        let start = state.slot(self.slot).arena.addresses().start;
        let run = Run::of_bytes((self.address - start) as usize, self.len as usize);
        let returned = self.shared.give_back(&mut state, self.slot, run, self.len as usize);
        drop(state);
        // Unmapping takes longer than what the lock is for.
        drop(returned);
    }
}
