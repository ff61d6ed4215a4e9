//! Code that calls placed code: near and far, kept alive, replaced.

mod hand_made;

use ebpf_image::{CodeOffset, Image, Reloc, RelocKind, Symbol};
use ebpf_pack::{CallSlot, Pack, PackError, PackOptions, Placed, Position, Target};
use hand_made::{
    bytes_at, call, calls_helper, entry, image, nothing, one_more_than_helper, returns,
};
use std::sync::atomic::{AtomicBool, Ordering};

const HELPER: Symbol = Symbol::Helper(1);

fn pack() -> Pack {
    Pack::new(PackOptions::default()).expect("executable memory")
}

/// A pack out of reach of direct calls to `address`.
fn far_from(address: u64) -> Pack {
    let options = PackOptions { position: Position::FarFrom(address), ..PackOptions::default() };
    Pack::new(options).expect("address space")
}

fn place(pack: &Pack, value: u32) -> Placed {
    pack.place(&returns(value), &nothing).expect("room")
}

/// Where the `call rel32` at 4 of [`calls_helper`] goes.
fn called_by(placed: &Placed) -> u64 {
    let start = placed.code_range().start;
    let field = bytes_at(start + 5, 4).try_into().expect("four bytes");
    (start + 9).wrapping_add_signed(i64::from(i32::from_le_bytes(field)))
}

#[test]
fn placed_code_is_called_directly_where_it_is_near() {
    let pack = pack();
    let callee = place(&pack, 41);
    let caller =
        pack.place_linked(&one_more_than_helper(), &|_| Some(entry(&callee).into())).expect("room");
    assert_eq!(call(&caller), 42);
    assert_eq!(called_by(&caller), callee.code_range().start);
}

#[test]
fn placed_code_is_called_through_a_stub_where_it_is_far() {
    let near = pack();
    let callee = place(&near, 41);
    let address = callee.code_range().start;
    let far = far_from(address);
    let caller =
        far.place_linked(&one_more_than_helper(), &|_| Some(entry(&callee).into())).expect("room");
    let start = caller.code_range().start;
    assert!(start.abs_diff(address) > 1 << 31, "{start:#x} and {address:#x}");
    assert_eq!(call(&caller), 42);
    assert_eq!(called_by(&caller), start + 32, "the stub behind 17 bytes of code");
    assert_eq!(bytes_at(start + 32, 8), [0xff, 0x25, 2, 0, 0, 0, 0xcc, 0xcc]);
    assert_eq!(bytes_at(start + 40, 8), address.to_le_bytes());
}

#[test]
fn the_host_is_called_from_near_and_far() {
    extern "sysv64" fn native() -> u64 {
        7
    }
    let address = native as extern "sysv64" fn() -> u64 as usize as u64;
    for (pack, direct) in [(pack(), true), (far_from(address), false)] {
        let placed = pack.place(&calls_helper(), &|_| Some(address)).expect("room");
        assert_eq!(call(&placed), 7);
        assert_eq!(called_by(&placed) == address, direct);
    }
}

#[test]
fn a_caller_keeps_its_callee() {
    let pack = pack();
    let callee = place(&pack, 41);
    let caller =
        pack.place_linked(&one_more_than_helper(), &|_| Some(entry(&callee).into())).expect("room");
    let callee = callee.try_free().expect_err("the caller calls it");
    drop(callee);
    assert_eq!((call(&caller), pack.stats().programs), (42, 2));
    assert!(caller.try_free().is_ok());
    assert_eq!(pack.stats().programs, 0, "the callee goes with its last caller");
}

#[test]
fn a_long_chain_of_callers_is_freed() {
    let pack = pack();
    let mut last = place(&pack, 1);
    for _ in 0..100_000 {
        last = pack.place_linked(&calls_helper(), &|_| Some(entry(&last).into())).expect("room");
    }
    assert_eq!(pack.stats().programs, 100_001);
    drop(last);
    assert_eq!(pack.stats().programs, 0);
}

#[test]
fn a_program_that_cannot_be_placed_lets_go_of_what_it_would_call() {
    let pack = pack();
    let callee = place(&pack, 1);
    let two_calls = image(
        [[0xe8, 0, 0, 0, 0]; 2].concat(),
        [(1, 1), (6, 2)]
            .map(|(at, id)| Reloc { at: CodeOffset(at), kind: RelocKind::Call(Symbol::Helper(id)) })
            .into(),
    );
    let known = |symbol| (symbol == HELPER).then(|| entry(&callee).into());
    let error = pack.place_linked(&two_calls, &known).expect_err("helper#2 is unknown");
    assert_eq!(error, PackError::UnknownSymbol { symbol: Symbol::Helper(2), at: CodeOffset(6) });
    assert!(callee.try_free().is_ok(), "nothing else keeps it");
}

#[test]
fn a_callee_is_replaced_in_place() {
    let pack = pack();
    let [first, second] = [1, 2].map(|value| place(&pack, value));
    let resolve = |_| Some(Target::from(entry(&first)).replaceable());
    let caller = pack.place_linked(&one_more_than_helper(), &resolve).expect("room");
    assert_eq!(call(&caller), 2);
    // SAFETY: both are functions without arguments.
    let old = unsafe { caller.replace(HELPER, entry(&second)) }.expect("replaceable");
    assert_eq!(call(&caller), 3);
    let first = first.try_free().expect_err("who replaced it got it");
    assert_eq!(old.map(|old| old.address()), Some(first.code_range().start));
    assert!(first.try_free().is_ok(), "the caller keeps it no more");
    let second = second.try_free().expect_err("the caller keeps this one");
    // SAFETY: as above.
    let old = unsafe {
        caller.replace(HELPER, host_three as extern "sysv64" fn() -> u64 as usize as u64)
    };
    assert!(old.is_ok_and(|old| old.is_some()));
    assert_eq!(call(&caller), 4);
    assert!(second.try_free().is_ok());
}

extern "sysv64" fn host_three() -> u64 {
    3
}

#[test]
fn what_was_not_placed_as_replaceable_stays() {
    let pack = pack();
    let [first, second] = [1, 2].map(|value| place(&pack, value));
    let caller = pack.place_linked(&calls_helper(), &|_| Some(entry(&first).into())).expect("room");
    for (caller, symbol) in [(&caller, HELPER), (&caller, Symbol::Map(0)), (&first, HELPER)] {
        // SAFETY: both are functions without arguments.
        let refused = unsafe { caller.replace(symbol, entry(&second)) };
        assert_eq!(refused.map(|_| ()), Err(PackError::NotReplaceable { symbol }));
    }
    assert_eq!(call(&caller), 1);
}

#[test]
fn a_sealed_caller_keeps_calling_what_it_called() {
    let (pack, other) = (pack(), pack());
    let [first, second] = [1, 2].map(|value| place(&other, value));
    let resolve = |_| Some(Target::from(entry(&first)).replaceable());
    let caller = pack.place_linked(&calls_helper(), &resolve).expect("room");
    pack.seal().expect("ours");
    // SAFETY: both are functions without arguments.
    let refused = unsafe { caller.replace(HELPER, entry(&second)) };
    assert_eq!(refused.map(|_| ()), Err(PackError::Sealed));
    assert_eq!(call(&caller), 1);
    assert!(first.try_free().is_err() && second.try_free().is_ok());
}

/// `mov rax, [slot]; jmp [rax]` for the address of a word.
fn jumps_through(symbol: Symbol) -> Image {
    let code = [&[0x48, 0xb8][..], &[0; 8], &[0xff, 0x20]].concat();
    image(code, vec![Reloc { at: CodeOffset(2), kind: RelocKind::Address(symbol) }])
}

#[test]
fn a_slot_in_the_hosts_memory_leads_to_what_was_put_there_last() {
    let pack = pack();
    let [first, second] = [1, 2].map(|value| place(&pack, value));
    let slot = CallSlot::new(Some(entry(&first)));
    assert_eq!(slot.address() % 8, 0);
    let jumper = pack.place(&jumps_through(Symbol::Native(0)), &|_| Some(slot.address()));
    let jumper = jumper.expect("room");
    assert_eq!(call(&jumper), 1);
    // SAFETY: both are functions without arguments.
    let old = unsafe { slot.replace(Some(entry(&second))) };
    assert_eq!(old.map(|old| old.address()), Some(first.code_range().start));
    assert_eq!(call(&jumper), 2);
    assert!(first.try_free().is_ok());
    let second = second.try_free().expect_err("the slot keeps it");
    drop(slot);
    assert!(second.try_free().is_ok());
}

#[test]
fn programs_in_a_circle_are_freed_when_a_slot_is_emptied() {
    let pack = pack();
    let slot = CallSlot::new(None);
    let first = pack.place(&jumps_through(Symbol::Native(0)), &|_| Some(slot.address()));
    let second =
        pack.place_linked(&calls_helper(), &|_| Some(entry(first.as_ref().expect("room")).into()));
    // SAFETY: both are functions without arguments; neither is called, as they would call each other for ever.
    assert!(unsafe { slot.replace(Some(entry(second.as_ref().expect("room")))) }.is_none());
    drop((first, second));
    assert_eq!(pack.stats().programs, 2);
    // SAFETY: nothing calls through the slot any more.
    drop(unsafe { slot.replace(None) });
    assert_eq!(pack.stats().programs, 0);
}

#[test]
fn replacing_never_shows_half_an_address() {
    let near = pack();
    let far = far_from(place(&near, 0).code_range().start);
    // Addresses that differ in all their bytes but the highest two.
    let callees = [place(&near, 1), place(&far, 2)];
    let resolve = |_| Some(Target::from(entry(&callees[0])).replaceable());
    let caller = near.place_linked(&calls_helper(), &resolve).expect("room");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    assert!((1..=2).contains(&call(&caller)));
                }
            });
        }
        for round in 1..50_000 {
            // SAFETY: all are functions without arguments; `callees` keeps them.
            let old = unsafe { caller.replace(HELPER, entry(&callees[round % 2])) };
            assert!(old.is_ok());
        }
        done.store(true, Ordering::Relaxed);
    });
}
