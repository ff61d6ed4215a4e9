//! No page of the process is ever writable and executable through one address: its own binary, because it reads the maps of
//! the whole process after every step.

mod hand_made;

use ebpf_pack::{Backing, PAGE_BYTES, Pack, PackOptions, Placed, Target};
use hand_made::{call, calls_helper, entry, image, maps, nothing, returns};
use std::sync::Mutex;

/// The tests here read the maps of the whole process, so they take turns.
static ALONE: Mutex<()> = Mutex::new(());

/// Looks at all mappings; returns how many executable and how many writable ones belong to the packs of this test.
fn check(backing: Backing, step: &str) -> (usize, usize) {
    let maps = maps();
    for (permissions, line) in &maps {
        let both = permissions.contains('w') && permissions.contains('x');
        assert!(!both, "{backing}, after {step}: {line}");
    }
    let name = match backing {
        Backing::Memfd => "memfd:ebpf-pack",
        Backing::Alias => "/dev/zero (deleted)",
        // Private pages have no name, so they cannot be told from others.
        Backing::OneShot => return (0, 0),
    };
    let count = |wanted: &str| {
        let ours = maps.iter().filter(|(_, line)| line.contains(name));
        ours.filter(|(permissions, _)| permissions == wanted).count()
    };
    (count("r-xs"), count("rw-s"))
}

/// The views that are expected of so many arenas.
fn arenas(backing: Backing, count: usize) -> (usize, usize) {
    match backing {
        Backing::Memfd | Backing::Alias => (count, count),
        Backing::OneShot => (0, 0),
    }
}

#[test]
fn after_every_step() {
    let _alone = ALONE.lock();
    for backing in Backing::ALL {
        walk(backing);
    }
}

fn walk(backing: Backing) {
    let check =
        |step: &str, count| assert_eq!(check(backing, step), arenas(backing, count), "{step}");
    check("start", 0);
    let options = PackOptions {
        arena_bytes: 4 * PAGE_BYTES,
        backing: Some(backing),
        ..PackOptions::default()
    };
    let pack = Pack::new(options).expect("executable memory");
    check("making the pack", 1);
    let first = pack.place(&returns(1), &nothing).expect("room");
    check("placing", 1);
    assert_eq!(call(&first), 1);
    let page = image(vec![0x90; PAGE_BYTES], vec![]);
    let mut pages: Vec<Placed> = Vec::new();
    for _ in 0..3 {
        pages.push(pack.place(&page, &nothing).expect("room"));
        check("growing", 1);
    }
    pages.push(pack.place(&page, &nothing).expect("room"));
    check("a second arena", 2);
    pages.truncate(3);
    check("freeing", 2);
    drop(pages);
    check("freeing all but one", 2);
    let target = |_| Some(Target::from(entry(&first)).replaceable());
    let caller = pack.place_linked(&calls_helper(), &target).expect("room");
    let second = pack.place(&returns(2), &nothing).expect("room");
    // SAFETY: both are functions without arguments.
    let replaced = unsafe { caller.replace(ebpf_image::Symbol::Helper(1), entry(&second)) };
    assert_eq!(replaced.is_ok(), backing != Backing::OneShot);
    check("replacing", 2);
    drop((caller, second, replaced));
    pack.seal().expect("ours");
    if backing != Backing::OneShot {
        assert_eq!(self::check(backing, "sealing"), (1, 0));
    }
    drop(pack);
    assert_eq!(call(&first), 1);
    drop(first);
    check("dropping everything", 0);
}

/// The permissions of the mapping that the address lies in.
fn permissions_at(address: u64) -> Option<String> {
    let holds = |line: &str| {
        let (start, end) = line.split_whitespace().next()?.split_once('-')?;
        let number = |hex| u64::from_str_radix(hex, 16).ok();
        Some((number(start)?..number(end)?).contains(&address))
    };
    maps().into_iter().find(|(_, line)| holds(line) == Some(true)).map(|(found, _)| found)
}

#[test]
fn an_arena_lies_between_guard_pages() {
    let _alone = ALONE.lock();
    for backing in Backing::ALL {
        let options =
            PackOptions { arena_bytes: 1, backing: Some(backing), ..PackOptions::default() };
        let pack = Pack::new(options).expect("executable memory");
        let placed = pack.place(&returns(1), &nothing).expect("room");
        let start = placed.code_range().start;
        let around = [start - 1, start, start + 4095, start + 4096].map(permissions_at);
        let none = Some("---p".to_owned());
        let shared = if backing == Backing::OneShot { "r-xp" } else { "r-xs" };
        let text = Some(shared.to_owned());
        assert_eq!(around, [none.clone(), text.clone(), text, none], "{backing}");
    }
}
