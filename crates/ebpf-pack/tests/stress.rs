//! Threads that place, call, replace and free at once: no fault, nothing lost, no stale byte.
//!
//! Two seconds by default; `EBPF_PACK_STRESS_SECONDS=60` for a minute.

mod hand_made;

use ebpf_image::{Image, Symbol};
use ebpf_pack::{Backing, CHUNK_BYTES, Pack, PackOptions, Placed, Target};
use hand_made::{call, calls_helper, entry, held, image, nothing};
use std::time::{Duration, Instant};

const THREADS: u32 = 16;

/// Programs that each thread holds, at most.
const HELD: usize = 300;

fn seconds() -> u64 {
    std::env::var("EBPF_PACK_STRESS_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

/// Numbers that look random: xorshift.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// `nop …; mov eax, value; ret`, so that stale bytes show as a wrong result, and bytes of another program as a trap or a wrong
/// result.
fn program(numbers: &mut Numbers, value: u32) -> Image {
    let padding = match numbers.below(20) {
        0 => numbers.below(5000),
        _ => numbers.below(200),
    };
    let mut code = vec![0x90; padding];
    code.push(0xb8);
    code.extend(value.to_le_bytes());
    code.push(0xc3);
    image(code, Vec::new())
}

/// A program and what it returns.
type Held = (u32, Placed);

fn work(pack: &Pack, thread: u32, end: Instant) -> u64 {
    let mut numbers = Numbers(u64::from(thread) + 1);
    let mut programs: Vec<Held> = Vec::new();
    let mut rounds = 0;
    while rounds % 64 != 0 || Instant::now() < end {
        rounds += 1;
        let value = numbers.next() as u32;
        let placed = pack.place(&program(&mut numbers, value), &nothing).expect("room");
        programs.push((value, placed));
        let (expected, placed) = &programs[numbers.below(programs.len())];
        assert_eq!(call(placed), u64::from(*expected));
        match numbers.below(8) {
            0 => relink(pack, &mut numbers, &programs),
            1 => drop(programs.drain(..programs.len() / 2)),
            _ => {}
        }
        while programs.len() > HELD {
            let (expected, placed) = programs.swap_remove(numbers.below(programs.len()));
            assert_eq!(call(&placed), u64::from(expected));
            assert!(placed.try_free().is_ok());
        }
    }
    rounds
}

/// Places a program that calls one of those held, then another.
fn relink(pack: &Pack, numbers: &mut Numbers, programs: &[Held]) {
    let (first_value, first) = &programs[numbers.below(programs.len())];
    let (second_value, second) = &programs[numbers.below(programs.len())];
    let resolve = |_| Some(Target::from(entry(first)).replaceable());
    let caller = pack.place_linked(&calls_helper(), &resolve).expect("room");
    assert_eq!(call(&caller), u64::from(*first_value));
    // SAFETY: both are functions without arguments, and nobody else calls this one.
    let old = unsafe { caller.replace(Symbol::Helper(1), entry(second)) };
    assert!(old.is_ok());
    assert_eq!(call(&caller), u64::from(*second_value));
}

#[test]
fn sixteen_threads_place_call_and_free() {
    let before = held();
    for (backing, huge_pages, part) in
        [(Backing::Memfd, false, 2), (Backing::Memfd, true, 4), (Backing::Alias, false, 4)]
    {
        let options = PackOptions { backing: Some(backing), huge_pages, ..PackOptions::default() };
        let pack = Pack::new(options).expect("executable memory");
        let neighbour = pack.place(&program(&mut Numbers(99), 99), &nothing).expect("room");
        let end = Instant::now() + Duration::from_secs(seconds()) / part;
        let rounds: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|thread| {
                    scope.spawn({
                        let pack = &pack;
                        move || work(pack, thread, end)
                    })
                })
                .collect();
            while Instant::now() < end {
                assert_eq!(call(&neighbour), 99);
            }
            threads.into_iter().map(|thread| thread.join().expect("no thread fails")).sum()
        });
        let stats = pack.stats();
        assert!(rounds > 0 && stats.barriers > 0, "{rounds} rounds, {stats:?}");
        assert_eq!(stats.programs, 1, "only the neighbour is left");
        assert_eq!(stats.used_bytes, neighbour.code_range().count().next_multiple_of(CHUNK_BYTES));
        drop((neighbour, pack));
    }
    assert_eq!(held(), before, "no mapping and no descriptor is left");
}
