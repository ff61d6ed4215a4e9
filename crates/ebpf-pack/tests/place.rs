//! Placing, calling, freeing.

mod hand_made;

use ebpf_image::{CodeOffset, EntryPoint, Image, ImageParts, SourcePc, Symbol};
use ebpf_pack::{
    CHUNK_BYTES, COMMIT_STEP_BYTES, MAX_ARENA_BYTES, Pack, PackError, PackOptions, PackStats,
    Placed,
};
use hand_made::{bytes_at, call, calls_helper, image, nothing, returns};
use std::sync::atomic::{AtomicBool, Ordering};

fn pack() -> Pack {
    Pack::new(PackOptions::default()).expect("executable memory")
}

/// Arenas of a single step, so that a few hundred programs fill one.
fn small_pack() -> Pack {
    Pack::new(PackOptions { arena_bytes: COMMIT_STEP_BYTES, ..PackOptions::default() })
        .expect("executable memory")
}

extern "sysv64" fn native() -> u64 {
    7
}

fn address(function: extern "sysv64" fn() -> u64) -> u64 {
    function as usize as u64
}

#[test]
fn placed_code_runs() {
    let pack = pack();
    let placed = pack.place(&returns(42), &nothing).expect("room");
    assert_eq!(call(&placed), 42);
    assert_eq!(placed.entry(0), Some(placed.code_range().start));
    assert_eq!(placed.entry_ptr().addr() as u64, placed.code_range().start);
    assert_eq!(placed.code_range().end - placed.code_range().start, 6);
    assert_eq!(placed.entry(1), None);
}

#[test]
fn each_subprogram_has_its_entry() {
    // A breakpoint, so that a call of the wrong place cannot pass; mov eax, 1; ret; mov eax, 2; ret
    let code = vec![0xcc, 0xb8, 1, 0, 0, 0, 0xc3, 0xb8, 2, 0, 0, 0, 0xc3];
    let entry = |offset, pc| EntryPoint {
        offset: CodeOffset(offset),
        pc: SourcePc(pc),
        name: String::new(),
    };
    let parts = ImageParts {
        code,
        relocs: vec![],
        entries: vec![entry(7, 0), entry(1, 4)],
        pc_map: vec![],
    };
    let placed = pack().place(&Image::new(parts).expect("sound"), &nothing).expect("room");
    assert_eq!(call(&placed), 2, "the first entry is the program's, wherever it lies");
    let start = placed.code_range().start;
    assert_eq!((placed.entry(0), placed.entry(1)), (Some(start + 7), Some(start + 1)));
}

#[test]
fn a_function_of_this_binary_is_called_directly() {
    let target = address(native);
    let placed = pack().place(&calls_helper(), &|_| Some(target)).expect("room");
    assert_eq!(call(&placed), 7);
    let start = placed.code_range().start;
    let field = bytes_at(start + 5, 4).try_into().expect("four bytes");
    let reached = (start + 9).wrapping_add_signed(i64::from(i32::from_le_bytes(field)));
    assert_eq!(reached, target, "arenas lie near the binary's text");
}

#[test]
fn a_far_function_is_called_through_a_stub() {
    let far_pack =
        Pack::new(PackOptions { near: None, ..PackOptions::default() }).expect("executable memory");
    let far = far_pack.place(&returns(42), &nothing).expect("room");
    let target = far.code_range().start;
    let placed = pack()
        .place(&calls_helper(), &|symbol| (symbol == Symbol::Helper(1)).then_some(target))
        .expect("room");
    let start = placed.code_range().start;
    assert!(start.abs_diff(target) > 1 << 31, "the test needs a far function");
    assert_eq!(call(&placed), 42);
    assert_eq!(
        bytes_at(start + 5, 4),
        [7, 0, 0, 0],
        "from the end of the call at 9 to the stub at 16"
    );
    assert_eq!(bytes_at(start + 16, 6), [0xff, 0x25, 0, 0, 0, 0]);
    assert_eq!(bytes_at(start + 22, 8), target.to_le_bytes());
}

#[test]
fn an_unknown_symbol_is_named_and_nothing_is_placed() {
    let pack = pack();
    let before = pack.stats();
    let error = pack.place(&calls_helper(), &nothing).expect_err("helper#1 is unknown");
    assert_eq!(error, PackError::UnknownSymbol { symbol: Symbol::Helper(1), at: CodeOffset(5) });
    assert_eq!(pack.stats(), before);
}

#[test]
fn freed_code_becomes_int3_and_its_room_is_reused() {
    let pack = pack();
    let first = pack.place(&returns(1), &nothing).expect("room");
    let second = pack.place(&returns(2), &nothing).expect("room");
    let start = first.code_range().start;
    assert_eq!(second.code_range().start, start + CHUNK_BYTES as u64);
    assert_eq!(bytes_at(start, 8), [0xb8, 1, 0, 0, 0, 0xc3, 0xcc, 0xcc]);
    let clone = first.clone();
    drop(first);
    assert_eq!(call(&clone), 1, "a clone keeps the code");
    drop(clone);
    assert_eq!(bytes_at(start, CHUNK_BYTES), [0xcc; CHUNK_BYTES]);
    assert_eq!(call(&second), 2, "its neighbour is as it was");
    let third = pack.place(&returns(3), &nothing).expect("room");
    assert_eq!(third.code_range().start, start);
    assert_eq!(call(&third), 3);
}

#[test]
fn stats_count_what_is_held() {
    let pack = small_pack();
    let empty = PackStats {
        reserved_bytes: COMMIT_STEP_BYTES,
        committed_bytes: COMMIT_STEP_BYTES,
        used_bytes: 0,
        programs: 0,
    };
    assert_eq!(pack.stats(), empty);
    let small = pack.place(&returns(1), &nothing).expect("room");
    let two_chunks =
        pack.place(&image(vec![0x90; CHUNK_BYTES + 1], vec![]), &nothing).expect("room");
    assert_eq!(pack.stats(), PackStats { used_bytes: 3 * CHUNK_BYTES, programs: 2, ..empty });
    drop((small, two_chunks));
    assert_eq!(pack.stats(), empty);
}

#[test]
fn seven_small_programs_need_one_step() {
    let pack = pack();
    let programs: Vec<Placed> =
        (0..7).map(|value| pack.place(&returns(value), &nothing).expect("room")).collect();
    assert_eq!(pack.stats().committed_bytes, COMMIT_STEP_BYTES);
    let page = |placed: &Placed| placed.code_range().start / 4096;
    assert!(
        programs.iter().all(|placed| page(placed) == page(&programs[0])),
        "one page holds them"
    );
}

#[test]
fn a_full_arena_is_followed_by_another_and_empty_ones_are_returned() {
    let pack = small_pack();
    let room = COMMIT_STEP_BYTES / CHUNK_BYTES;
    let programs: Vec<Placed> = (0..=room as u32)
        .map(|value| pack.place(&returns(value), &nothing).expect("room"))
        .collect();
    assert_eq!(pack.stats().reserved_bytes, 2 * COMMIT_STEP_BYTES);
    for (value, placed) in programs.iter().enumerate() {
        assert_eq!(call(placed), value as u64);
    }
    drop(programs);
    assert_eq!(pack.stats().reserved_bytes, COMMIT_STEP_BYTES);
}

#[test]
fn an_image_larger_than_an_arena_gets_its_own() {
    let pack = small_pack();
    // nop …; mov eax, 9; ret
    let code = [&[0x90; 100_000][..], &[0xb8, 9, 0, 0, 0, 0xc3]].concat();
    let placed = pack.place(&image(code, vec![]), &nothing).expect("room");
    assert_eq!(call(&placed), 9);
    assert_eq!(
        pack.stats().reserved_bytes,
        COMMIT_STEP_BYTES + 7 * COMMIT_STEP_BYTES,
        "100,006 bytes are seven steps"
    );
    drop(placed);
    assert_eq!(pack.stats().reserved_bytes, COMMIT_STEP_BYTES);
}

#[test]
fn code_outlives_its_pack() {
    let placed = pack().place(&returns(5), &nothing).expect("room");
    assert_eq!(call(&placed), 5);
}

#[test]
fn arena_sizes_have_limits() {
    let with = |arena_bytes| {
        Pack::new(PackOptions { arena_bytes, near: None }).map(|pack| pack.stats().reserved_bytes)
    };
    assert_eq!(with(0), Err(PackError::ArenaSize { bytes: 0 }));
    assert_eq!(with(1), Ok(COMMIT_STEP_BYTES));
    assert_eq!(with(MAX_ARENA_BYTES), Ok(MAX_ARENA_BYTES));
    assert_eq!(with(MAX_ARENA_BYTES + 1), Err(PackError::ArenaSize { bytes: MAX_ARENA_BYTES + 1 }));
}

#[test]
fn programs_run_while_others_come_and_go() {
    let pack = small_pack();
    let neighbours: Vec<Placed> =
        (0..4).map(|value| pack.place(&returns(value), &nothing).expect("room")).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for placed in &neighbours[1..3] {
            let expected = call(placed);
            let done = &done;
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    assert_eq!(call(placed), expected);
                }
            });
        }
        // Different values at the same addresses: a stale instruction would show.
        for round in 0..3000u32 {
            let batch: Vec<Placed> = (0..3)
                .map(|index| pack.place(&returns(round * 3 + index), &nothing).expect("room"))
                .collect();
            for (index, placed) in batch.iter().enumerate() {
                assert_eq!(call(placed), u64::from(round * 3) + index as u64);
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(pack.stats().programs, 4);
}

#[test]
fn threads_place_call_and_free_at_once() {
    let pack = small_pack();
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let pack = &pack;
            scope.spawn(move || {
                let mut kept: Vec<(u32, Placed)> = Vec::new();
                for round in 0..500 {
                    let value = thread << 16 | round;
                    kept.push((value, pack.place(&returns(value), &nothing).expect("room")));
                    if kept.len() > 100 {
                        let (value, placed) = kept.swap_remove(round as usize % 100);
                        assert_eq!(call(&placed), u64::from(value));
                    }
                }
                assert!(kept.iter().all(|(value, placed)| call(placed) == u64::from(*value)));
            });
        }
    });
    let stats = pack.stats();
    assert_eq!((stats.programs, stats.used_bytes, stats.reserved_bytes), (0, 0, COMMIT_STEP_BYTES));
}
