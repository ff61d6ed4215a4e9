//! What programs tell their host, one event after the other: ring buffers, and arrays of perf events.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::MapError;

/// Bytes that a ring buffer needs for each event besides its data.
const HEADER: u64 = 8;
/// Words in front of an event's data: the handle of the map.
const HANDLE_WORDS: usize = 1;

#[derive(Debug)]
pub(super) struct Events {
    /// Bytes of data and headers that there is room for.
    capacity: u64,
    queue: Mutex<Queue>,
}

/// Events in their order, until the host takes them. Positions count bytes from the start, as in a ring.
#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Event>,
    lost: u64,
    consumed: u64,
    produced: u64,
}

#[derive(Debug)]
struct Event {
    state: State,
    /// The handle of the map, and the data.
    words: Box<[AtomicU64]>,
    len: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A program writes it.
    Reserved,
    Submitted,
    Discarded,
}

impl Events {
    pub(super) fn new(capacity: u64) -> Self {
        Self { capacity, queue: Mutex::default() }
    }

    /// Room for an event of so many bytes: where its data is, until it is submitted or discarded.
    pub(super) fn reserve(&self, handle: u64, len: u32) -> Option<u64> {
        let mut queue = self.lock();
        self.push(&mut queue, handle, len)?;
        queue.events.back().map(Event::address)
    }

    /// Ends the event whose data is at this address.
    pub(super) fn finish(&self, address: u64, discard: bool) {
        let mut queue = self.lock();
        let newest_first = queue.events.iter_mut().rev();
        if let Some(event) = newest_first.into_iter().find(|event| event.address() == address) {
            event.state = if discard { State::Discarded } else { State::Submitted };
        }
    }

    /// An event of these pieces.
    pub(super) fn output(&self, handle: u64, pieces: &[&[u8]]) -> Result<(), MapError> {
        let data = pieces.concat();
        let len = u32::try_from(data.len()).map_err(|_| MapError::Full)?;
        let mut queue = self.lock();
        let event = self.push(&mut queue, handle, len).ok_or(MapError::NoSpace)?;
        for (word, chunk) in event.words[HANDLE_WORDS..].iter().zip(data.chunks(8)) {
            let mut bytes = [0; 8];
            bytes[..chunk.len()].copy_from_slice(chunk);
            word.store(u64::from_ne_bytes(bytes), Ordering::Relaxed);
        }
        event.state = State::Submitted;
        Ok(())
    }

    /// The events that are complete, up to the first that a program still writes; they are gone then.
    pub(super) fn take(&self) -> Vec<Vec<u8>> {
        let mut queue = self.lock();
        let mut taken = Vec::new();
        while queue.events.front().is_some_and(|event| event.state != State::Reserved)
            && let Some(event) = queue.events.pop_front()
        {
            queue.consumed += event.bytes();
            if event.state == State::Submitted {
                taken.push(event.data());
            }
        }
        taken
    }

    /// How many events there was no room for.
    pub(super) fn lost(&self) -> u64 {
        self.lock().lost
    }

    /// What `bpf_ringbuf_query` answers; 0 to what it does not know.
    pub(super) fn query(&self, what: u64) -> u64 {
        let queue = self.lock();
        match what {
            0 => queue.produced - queue.consumed,
            1 => self.capacity,
            2 => queue.consumed,
            3 => queue.produced,
            _ => 0,
        }
    }

    fn push<'q>(&self, queue: &'q mut Queue, handle: u64, len: u32) -> Option<&'q mut Event> {
        let event = Event::new(handle, len, self.capacity);
        let produced = event.as_ref().map(|event| queue.produced + event.bytes());
        // A ring that is full to the last byte looks like an empty one.
        match (event, produced) {
            (Some(event), Some(produced)) if produced - queue.consumed < self.capacity => {
                queue.produced = produced;
                queue.events.push_back(event);
                queue.events.back_mut()
            }
            _ => {
                queue.lost += 1;
                None
            }
        }
    }

    // The queue is whole after every operation.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Event {
    /// Zeroed; `None` if it could never fit.
    fn new(handle: u64, len: u32, capacity: u64) -> Option<Self> {
        if u64::from(len) + HEADER > capacity {
            return None;
        }
        let data = (0..len.div_ceil(8)).map(|_| AtomicU64::new(0));
        let words = [AtomicU64::new(handle)].into_iter().chain(data).collect();
        Some(Self { state: State::Reserved, words, len })
    }

    /// Where the data is.
    fn address(&self) -> u64 {
        let start = self.words.as_ptr().expose_provenance() as u64;
        start + size_of::<[u64; HANDLE_WORDS]>() as u64
    }

    /// Bytes that it takes in the ring.
    fn bytes(&self) -> u64 {
        (u64::from(self.len) + HEADER).next_multiple_of(8)
    }

    fn data(&self) -> Vec<u8> {
        let words = self.words[HANDLE_WORDS..].iter();
        let bytes = words.flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes());
        bytes.take(self.len as usize).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_the_order_in_which_they_were_begun() {
        let events = Events::new(64);
        let first = events.reserve(1, 8).unwrap();
        events.output(1, &[&[1, 2], &[3]]).unwrap();
        let third = events.reserve(1, 4).unwrap();
        assert_eq!(events.take(), Vec::<Vec<u8>>::new(), "the first is not there yet");
        events.finish(first, false);
        assert_eq!(events.take(), [vec![0; 8], vec![1, 2, 3]]);
        events.finish(third, true);
        assert_eq!(events.take(), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn a_full_ring_loses_events() {
        let events = Events::new(32);
        assert!(events.output(1, &[&[0; 8]]).is_ok());
        assert_eq!(events.output(1, &[&[0; 8]]), Err(MapError::NoSpace), "it would be full");
        assert!(events.reserve(1, 64).is_none());
        assert_eq!((events.lost(), events.query(0), events.query(1)), (2, 16, 32));
        assert_eq!(events.take().len(), 1);
        assert_eq!((events.query(0), events.query(2), events.query(3)), (0, 16, 16));
        assert!(events.output(1, &[&[0; 8]]).is_ok());
    }
}
