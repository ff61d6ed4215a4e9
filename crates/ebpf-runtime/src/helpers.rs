//! The native functions behind helper numbers.
//!
//! A helper gets five arguments and the environment of the run (docs/abi.md). It trusts its
//! arguments as far as its prototype goes: the verifier checked every call against it.

#![allow(unsafe_code, reason = "helpers take addresses from verified programs")]

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use ebpf_isa::abi::{ElementCursor, ExecEnv, HelperFn};
use ebpf_isa::uapi::HelperId;
use rustix::time::{ClockId, clock_gettime};
use smallvec::SmallVec;

use crate::maps::{Map, MapError, UpdateMode};
use crate::native;

/// The helpers that every program type has here.
pub(crate) const COMMON: &[(HelperId, HelperFn)] = &[
    (HelperId::MAP_LOOKUP_ELEM, map_lookup_elem),
    (HelperId::MAP_UPDATE_ELEM, map_update_elem),
    (HelperId::MAP_DELETE_ELEM, map_delete_elem),
    (HelperId::KTIME_GET_NS, ktime_get_ns),
    (HelperId::GET_PRANDOM_U32, get_prandom_u32),
    (HelperId::GET_SMP_PROCESSOR_ID, get_smp_processor_id),
    (HelperId(125), ktime_get_boot_ns),
    (HelperId(130), ringbuf_output),
    (HelperId(131), ringbuf_reserve),
    (HelperId(132), ringbuf_submit),
    (HelperId(133), ringbuf_discard),
    (HelperId(134), ringbuf_query),
    (HelperId(160), ktime_get_coarse_ns),
];

/// # Safety
/// `handle` is the [`handle`](Map::handle) of a map that is still alive.
pub(crate) unsafe fn map<'a>(handle: u64) -> &'a Map {
    // SAFETY: the caller's promise.
    unsafe { &*std::ptr::with_exposed_provenance(handle as usize) }
}

/// The slot of per-CPU maps that a run holds.
///
/// # Safety
/// `env` is the environment of a run.
pub(crate) unsafe fn cpu_slot(env: *const ExecEnv) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { (*env).cpu_slot }
}

/// Keys and values up to this many bytes are copied without allocating.
pub(crate) type Bytes = SmallVec<[u8; 64]>;

/// A copy of `len` bytes that a program passes. Another thread may write them meanwhile (they may
/// lie in the value of a map), so the copy is made of atomic loads, in words where that is possible.
///
/// # Safety
/// The bytes at `addr` are readable.
pub(crate) unsafe fn bytes(addr: u64, len: u32) -> Bytes {
    let start = std::ptr::with_exposed_provenance_mut::<u8>(addr as usize);
    let len = len as usize;
    let mut copy = Bytes::with_capacity(len);
    let words = if start.addr().is_multiple_of(8) { len / 8 } else { 0 };
    for index in 0..words {
        // SAFETY: the word is inside of the readable bytes, and aligned as tested.
        let word = unsafe { AtomicU64::from_ptr(start.cast::<u64>().add(index)) };
        copy.extend_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
    }
    for index in words * 8..len {
        // SAFETY: the byte is inside of the readable bytes.
        let byte = unsafe { AtomicU8::from_ptr(start.add(index)) };
        copy.push(byte.load(Ordering::Relaxed));
    }
    copy
}

/// Ends an event.
///
/// # Safety
/// `data` is what [`ringbuf_reserve`] gave, for a map that is still alive.
unsafe fn finish(data: u64, discard: bool) -> u64 {
    let handle = std::ptr::with_exposed_provenance::<u64>(data as usize - size_of::<u64>());
    // SAFETY: in front of the data is the handle of its map, which nobody writes.
    unsafe { map(handle.read()) }.finish(data, discard);
    0
}

fn nanoseconds(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64)
}

/// `BPF_RB_NO_WAKEUP` and `BPF_RB_FORCE_WAKEUP`
const WAKEUP_FLAGS: u64 = 3;
const EAGAIN: i64 = 11;

/// 0, or the negated error number.
fn status(result: Result<(), MapError>) -> u64 {
    result.map_or_else(|error| i64::from(-error.errno()) as u64, |()| 0)
}

native! {
    /// `void *bpf_map_lookup_elem(map, key)`
    fn map_lookup_elem(handle: u64, key: u64, env: *mut ExecEnv) -> u64 {
        // SAFETY: the verifier let only handles of the program's maps through.
        let map = unsafe { map(handle) };
        // SAFETY: the verifier checked that the key's bytes are readable.
        let key = unsafe { bytes(key, map.desc().key_size) };
        // SAFETY: engines pass the environment of the run, which outlives the call.
        let cpu_slot = unsafe { cpu_slot(env) };
        map.value_address(&key, cpu_slot).unwrap_or(0)
    }

    /// `long bpf_map_update_elem(map, key, value, flags)`
    fn map_update_elem(handle: u64, key: u64, value: u64, flags: u64, env: *mut ExecEnv) -> u64 {
        // SAFETY: the verifier let only handles of the program's maps through.
        let map = unsafe { map(handle) };
        // SAFETY: the verifier checked that the key's bytes are readable.
        let key = unsafe { bytes(key, map.desc().key_size) };
        // SAFETY: the verifier checked that the value's bytes are readable.
        let value = unsafe { bytes(value, map.desc().value_size) };
        // SAFETY: engines pass the environment of the run, which outlives the call.
        let cpu_slot = unsafe { cpu_slot(env) };
        let mode = UpdateMode::from_flags(flags);
        status(mode.and_then(|mode| map.update_from_program(&key, &value, mode, cpu_slot)))
    }

    /// `void *next_element(map, cursor)`: the next value of a walk over a map, for the loop that stands for
    /// `bpf_for_each_map_elem`.
    pub(crate) fn next_element(handle: u64, cursor: u64, env: *mut ExecEnv) -> u64 {
        // SAFETY: the verifier let only handles of the program's maps through.
        let map = unsafe { map(handle) };
        let cursor = std::ptr::with_exposed_provenance_mut::<ElementCursor>(cursor as usize);
        // SAFETY: the loop passes a cursor in its frame, which nobody else uses meanwhile.
        let cursor = unsafe { &mut *cursor };
        // Where the key of an array's element is; other maps have their own places.
        cursor.key = (&raw const cursor.position).expose_provenance() as u64;
        // SAFETY: engines pass the environment of the run, which outlives the call.
        map.next(cursor, unsafe { cpu_slot(env) }).unwrap_or(0)
    }

    /// `long bpf_map_delete_elem(map, key)`
    fn map_delete_elem(handle: u64, key: u64) -> u64 {
        // SAFETY: the verifier let only handles of the program's maps through.
        let map = unsafe { map(handle) };
        // SAFETY: the verifier checked that the key's bytes are readable.
        let key = unsafe { bytes(key, map.desc().key_size) };
        status(map.delete_from_program(&key))
    }

    /// `u64 bpf_ktime_get_ns(void)`: nanoseconds of the monotonic clock.
    fn ktime_get_ns() -> u64 {
        nanoseconds(ClockId::Monotonic)
    }

    /// `u64 bpf_ktime_get_boot_ns(void)`: the same with the time that the machine was suspended.
    fn ktime_get_boot_ns() -> u64 {
        nanoseconds(ClockId::Boottime)
    }

    /// `u64 bpf_ktime_get_coarse_ns(void)`: the monotonic clock as it was at its last tick.
    fn ktime_get_coarse_ns() -> u64 {
        nanoseconds(ClockId::MonotonicCoarse)
    }

    /// `long bpf_ringbuf_output(map, data, size, flags)`: whoever takes events asks for them, so flags that
    /// say whether to wake somebody mean nothing.
    fn ringbuf_output(handle: u64, data: u64, size: u64, flags: u64) -> u64 {
        if flags & !WAKEUP_FLAGS != 0 {
            return status(Err(MapError::BadFlags { flags }));
        }
        // SAFETY: the verifier let only handles of the program's maps through.
        let map = unsafe { map(handle) };
        // SAFETY: the verifier checked that so many bytes are readable.
        let data = unsafe { bytes(data, size as u32) };
        match map.output(0, 0, &[&data]) {
            // The kernel's number for a ring that is full.
            Err(MapError::NoSpace) => -EAGAIN as u64,
            result => status(result),
        }
    }

    /// `void *bpf_ringbuf_reserve(map, size, flags)`
    fn ringbuf_reserve(handle: u64, size: u64, flags: u64) -> u64 {
        if flags != 0 {
            return 0;
        }
        // SAFETY: the verifier let only handles of the program's maps through.
        unsafe { map(handle) }.reserve(size as u32).unwrap_or(0)
    }

    /// `void bpf_ringbuf_submit(data, flags)`
    fn ringbuf_submit(data: u64) -> u64 {
        // SAFETY: the verifier let only what was reserved through.
        unsafe { finish(data, false) }
    }

    /// `void bpf_ringbuf_discard(data, flags)`
    fn ringbuf_discard(data: u64) -> u64 {
        // SAFETY: the verifier let only what was reserved through.
        unsafe { finish(data, true) }
    }

    /// `u64 bpf_ringbuf_query(map, flags)`
    fn ringbuf_query(handle: u64, what: u64) -> u64 {
        // SAFETY: the verifier let only handles of the program's maps through.
        unsafe { map(handle) }.query(what)
    }

    /// `u32 bpf_get_prandom_u32(void)`: no secret, only hard to guess by accident. Sound for all
    /// arguments.
    pub(crate) fn get_prandom_u32() -> u64 {
        // A `RandomState` differs from the last one of its thread, and hashes to unrelated numbers.
        RandomState::new().build_hasher().finish() >> 32
    }

    /// `u32 bpf_get_smp_processor_id(void)`: the slot that the run holds in per-CPU maps. Sound
    /// for all arguments.
    pub(crate) fn get_smp_processor_id(env: *mut ExecEnv) -> u64 {
        // SAFETY: engines pass the environment of the run, which outlives the call.
        u64::from(unsafe { cpu_slot(env) })
    }

    /// `u64 unwind(u64 value)`: gives its argument, and ends the program with it where it is 0. Sound
    /// for all arguments.
    pub(crate) fn unwind(value: u64, env: *mut ExecEnv) -> u64 {
        if value == 0 {
            // SAFETY: engines pass the environment of the run, which outlives the call.
            unsafe { (*env).ended = 1 };
        }
        value
    }
}
