//! Placing, calling, freeing.

mod hand_made;

use ebpf_image::{CodeOffset, EntryPoint, Image, ImageParts, SourcePc, Symbol};
use ebpf_pack::{
    CHUNK_BYTES, MAX_ARENA_BYTES, MAX_PLACEMENT_BYTES, PAGE_BYTES, Pack, PackError, PackOptions,
    Placed, Position,
};
use hand_made::{bytes_at, call, calls_helper, image, nothing, returns};
use std::sync::atomic::{AtomicBool, Ordering};

fn pack() -> Pack {
    Pack::new(PackOptions::default()).expect("executable memory")
}

/// Arenas of a single page, so that a few hundred programs fill one.
fn small_pack() -> Pack {
    Pack::new(PackOptions { arena_bytes: PAGE_BYTES, ..PackOptions::default() })
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
    assert_eq!(placed.entry(0).map(|entry| entry.address()), Some(placed.code_range().start));
    assert_eq!(placed.entry_ptr().addr() as u64, placed.code_range().start);
    assert_eq!(placed.code_range().end - placed.code_range().start, 6);
    assert!(placed.entry(1).is_none());
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
        pc_map: Default::default(),
    };
    let placed = pack().place(&Image::new(parts).expect("sound"), &nothing).expect("room");
    assert_eq!(call(&placed), 2, "the first entry is the program's, wherever it lies");
    let start = placed.code_range().start;
    let addresses = [0, 1].map(|index| placed.entry(index).expect("two").address());
    assert_eq!(addresses, [start + 7, start + 1]);
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
fn an_unknown_symbol_is_named_and_nothing_is_placed() {
    let pack = pack();
    let before = pack.stats();
    let error = pack.place(&calls_helper(), &nothing).expect_err("helper#1 is unknown");
    assert_eq!(error, PackError::UnknownSymbol { symbol: Symbol::Helper(1), at: CodeOffset(5) });
    assert_eq!(pack.stats(), before);
}

#[test]
fn freed_code_becomes_int3_and_its_room_is_reused() {
    let pack = small_pack();
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
    let others: Vec<Placed> = (2..PAGE_BYTES / CHUNK_BYTES)
        .map(|_| pack.place(&returns(3), &nothing).expect("room"))
        .collect();
    assert!(others.iter().all(|other| other.code_range().start > start), "the room rests");
    assert_eq!((pack.stats().resting_bytes, pack.stats().barriers), (CHUNK_BYTES, 0));
    let reused = pack.place(&returns(4), &nothing).expect("room");
    assert_eq!(reused.code_range().start, start, "there is no other room");
    assert_eq!(call(&reused), 4);
    assert_eq!((pack.stats().resting_bytes, pack.stats().barriers), (0, 1));
    assert_eq!(pack.stats().arenas, 1);
}

#[test]
fn an_entry_keeps_its_code() {
    let pack = pack();
    let placed = pack.place(&returns(5), &nothing).expect("room");
    let entry = placed.entry(0).expect("one");
    let placed = placed.try_free().expect_err("an entry is held");
    assert_eq!(call(&placed), 5);
    drop(placed);
    assert_eq!(bytes_at(entry.address(), 6), [0xb8, 5, 0, 0, 0, 0xc3]);
    let placed = entry.placed();
    let address = entry.address();
    drop(entry);
    assert!(placed.try_free().is_ok());
    assert_eq!(bytes_at(address, 6), [0xcc; 6]);
    assert_eq!(pack.stats().programs, 0);
}

#[test]
fn stats_count_what_is_held() {
    let pack = small_pack();
    let empty = pack.stats();
    assert_eq!((empty.arenas, empty.reserved_bytes, empty.committed_bytes), (1, 4096, 4096));
    assert_eq!((empty.used_bytes, empty.placed_bytes, empty.programs), (0, 0, 0));
    assert_eq!((empty.longest_free_bytes, empty.free_bytes()), (4096, 4096));
    let small = pack.place(&returns(1), &nothing).expect("room");
    let large =
        pack.place(&image(vec![0x90; 2 * CHUNK_BYTES + 1], vec![]), &nothing).expect("room");
    let held = pack.stats();
    assert_eq!((held.used_bytes, held.placed_bytes, held.programs), (64, 39, 2));
    assert_eq!((held.wasted_bytes(), held.longest_free_bytes), (25, 4096 - 64));
    assert_eq!((held.fragmentation(), held.utilisation()), (0.0, 64.0 / 4096.0));
    drop(small);
    let holed = pack.stats();
    assert_eq!((holed.used_bytes, holed.resting_bytes, holed.free_bytes()), (48, 16, 4096 - 64));
    drop(large);
    let freed = pack.stats();
    assert_eq!((freed.used_bytes, freed.placed_bytes, freed.programs), (0, 0, 0));
    assert_eq!((freed.resting_bytes, freed.committed_bytes), (64, 4096));
}

#[test]
fn seven_small_programs_need_one_page() {
    let pack = pack();
    let image = image([vec![0x90; 90], vec![0xb8, 7, 0, 0, 0, 0xc3]].concat(), vec![]);
    let programs: Vec<Placed> =
        (0..7).map(|_| pack.place(&image, &nothing).expect("room")).collect();
    assert_eq!(pack.stats().committed_bytes, PAGE_BYTES);
    assert!(programs.iter().all(|placed| call(placed) == 7));
}

#[test]
fn an_arena_grows_in_steps() {
    let pack = pack();
    let page = image(vec![0x90; PAGE_BYTES], vec![]);
    let mut programs = Vec::new();
    for pages in [1, 2, 4, 4, 8, 8, 8, 8, 16] {
        programs.push(pack.place(&page, &nothing).expect("room"));
        assert_eq!(pack.stats().committed_bytes, pages * PAGE_BYTES);
    }
}

#[test]
fn a_full_arena_is_followed_by_another_and_empty_ones_are_returned() {
    let pack = small_pack();
    let room = PAGE_BYTES / CHUNK_BYTES;
    let mut programs: Vec<Placed> = (0..=2 * room as u32)
        .map(|value| pack.place(&returns(value), &nothing).expect("room"))
        .collect();
    assert_eq!(pack.stats().reserved_bytes, 3 * PAGE_BYTES);
    for (value, placed) in programs.iter().enumerate() {
        assert_eq!(call(placed), value as u64);
    }
    programs.truncate(2 * room);
    assert_eq!(pack.stats().arenas, 3, "one empty arena is kept, for the next program");
    programs.truncate(room);
    assert_eq!(pack.stats().arenas, 2, "but not two");
    drop(programs);
    assert_eq!((pack.stats().arenas, pack.stats().reserved_bytes), (1, PAGE_BYTES));
}

#[test]
fn an_image_larger_than_an_arena_gets_its_own() {
    let pack = small_pack();
    // nop …; mov eax, 9; ret
    let code = [&[0x90; 100_000][..], &[0xb8, 9, 0, 0, 0, 0xc3]].concat();
    let placed = pack.place(&image(code, vec![]), &nothing).expect("room");
    assert_eq!(call(&placed), 9);
    assert_eq!(pack.stats().reserved_bytes, PAGE_BYTES + 25 * PAGE_BYTES);
    drop(placed);
    assert_eq!(pack.stats().reserved_bytes, PAGE_BYTES);
}

#[test]
fn images_have_a_longest() {
    let pack = small_pack();
    let before = pack.stats();
    for len in [1 << 30, MAX_PLACEMENT_BYTES + 1] {
        let error = pack.place(&image(vec![0; len], vec![]), &nothing).expect_err("too long");
        assert_eq!(error, PackError::TooLarge { code_len: len, stubs: 0 });
    }
    assert_eq!(pack.stats(), before);
    assert_eq!(call(&pack.place(&returns(1), &nothing).expect("usable afterwards")), 1);
}

#[test]
fn a_sealed_pack_runs_what_it_holds_and_takes_no_more() {
    let pack = pack();
    let placed = pack.place(&returns(6), &nothing).expect("room");
    pack.seal().expect("ours");
    assert_eq!(pack.place(&returns(7), &nothing).map(|_| ()), Err(PackError::Sealed));
    assert_eq!(call(&placed), 6);
    drop(placed);
    assert_eq!(pack.stats().arenas, 0, "what is freed is unmapped");
    assert_eq!(pack.place(&returns(7), &nothing).map(|_| ()), Err(PackError::Sealed));
}

#[test]
fn code_outlives_its_pack() {
    let placed = pack().place(&returns(5), &nothing).expect("room");
    assert_eq!(call(&placed), 5);
}

#[test]
fn arena_sizes_have_limits() {
    let with = |arena_bytes| {
        let options =
            PackOptions { arena_bytes, position: Position::Anywhere, ..PackOptions::default() };
        Pack::new(options).map(|pack| pack.stats().reserved_bytes)
    };
    assert_eq!(with(0), Err(PackError::ArenaSize { bytes: 0 }));
    assert_eq!(with(1), Ok(PAGE_BYTES));
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
