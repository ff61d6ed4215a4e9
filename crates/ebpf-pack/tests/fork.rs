//! What a forked child can and cannot do with its parent's pack.

mod hand_made;

use ebpf_pack::{CallSlot, PAGE_BYTES, Pack, PackError, PackOptions, Target};
use hand_made::{
    RIGHT, call, calls_helper, entry, in_child, maps, nothing, one_more_than_helper, returns,
};

fn pack() -> Pack {
    Pack::new(PackOptions::default()).expect("executable memory")
}

#[test]
fn a_child_cannot_place() {
    let pack = pack();
    assert_eq!(
        in_child(|| pack
            .place(&returns(1), &nothing)
            .is_err_and(|error| error == PackError::Forked)),
        RIGHT
    );
    assert_eq!(call(&pack.place(&returns(2), &nothing).expect("the parent still can")), 2);
}

#[test]
fn a_child_can_call_but_not_free() {
    let pack = pack();
    let placed = pack.place(&returns(42), &nothing).expect("room");
    let mine = placed.clone();
    let in_the_child = move || {
        let called = call(&mine);
        drop(mine);
        called == 42
    };
    // In the child, the closure's clone and the one here are all there is; both go.
    let mut both = Some((in_the_child, placed));
    let status = in_child(|| {
        let (body, placed) = both.take().expect("once");
        drop(placed);
        body()
    });
    assert_eq!(status, RIGHT);
    let (body, placed) = both.expect("the parent's copy");
    assert_eq!(call(&placed), 42, "the child's drops left the parent's code alone");
    assert_eq!(pack.stats().programs, 1);
    drop((body, placed));
    assert_eq!(pack.stats().programs, 0);
}

/// Another test's pack may be half made at the fork: its view is inherited then, but without access.
#[test]
fn a_child_inherits_no_write_view() {
    let pack = pack();
    let views = || {
        let ours = maps().into_iter().filter(|(_, line)| line.contains("memfd:ebpf-pack"));
        ours.map(|(permissions, _)| permissions).collect::<Vec<String>>()
    };
    assert!(views().contains(&"rw-s".to_owned()));
    let status = in_child(|| {
        let inherited = views();
        inherited.contains(&"r-xs".to_owned())
            && inherited.iter().all(|permissions| !permissions.contains('w'))
    });
    assert_eq!(status, RIGHT);
    drop(pack);
}

#[test]
fn a_child_makes_its_own_pack() {
    let parents = pack();
    let status = in_child(|| {
        let own = pack();
        drop(parents.clone());
        own.place(&returns(3), &nothing).is_ok_and(|placed| call(&placed) == 3)
    });
    assert_eq!(status, RIGHT);
}

#[test]
fn calling_freed_code_traps() {
    let pack = pack();
    let status = in_child(|| {
        // The child's own pack: it could not free in its parent's.
        let pack = self::pack();
        let placed = pack.place(&returns(1), &nothing).expect("room");
        // SAFETY: the function is called after its code is gone, on purpose: int3 must stop this process.
        let stale: extern "sysv64" fn() -> u64 = unsafe { std::mem::transmute(placed.entry_ptr()) };
        drop(placed);
        stale();
        true
    });
    assert!(libc::WIFSIGNALED(status), "{status}");
    assert_eq!(libc::WTERMSIG(status), libc::SIGTRAP);
    drop(pack);
}

#[test]
fn a_child_leaves_what_it_mapped_at_the_write_views_place() {
    // A size that no other test uses, to find the view by.
    const LEN: usize = 5 * PAGE_BYTES;
    let options = PackOptions { arena_bytes: LEN, ..PackOptions::default() };
    let pack = Pack::new(options).expect("executable memory");
    let views: Vec<usize> = maps()
        .iter()
        .filter(|(permissions, line)| permissions == "rw-s" && line.contains("memfd:ebpf-pack"))
        .filter_map(|(_, line)| line.split_whitespace().next()?.split_once('-'))
        .map(|(start, end)| [start, end].map(|hex| usize::from_str_radix(hex, 16).expect("hex")))
        .filter(|[start, end]| end - start == LEN)
        .map(|[start, _]| start)
        .collect();
    let [view] = views[..] else { panic!("one write view of that size: {views:x?}") };
    let status = in_child(move || {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let at = std::ptr::without_provenance_mut(view);
        // SAFETY: the flag keeps the call from replacing anything.
        let mine = unsafe { libc::mmap(at, LEN, protection, flags, -1, 0) };
        drop(pack);
        // SAFETY: the page was mapped above; were it gone, the fault would be the test's failure.
        mine.addr() == view && unsafe { mine.cast::<u8>().read_volatile() } == 0
    });
    assert_eq!(status, RIGHT);
}

#[test]
fn a_child_cannot_replace_or_seal() {
    let pack = pack();
    let [one, two] = [1, 2].map(|value| pack.place(&returns(value), &nothing).expect("room"));
    let symbol = ebpf_image::Symbol::Helper(1);
    let resolve = |_| Some(Target::from(entry(&one)).replaceable());
    let caller = pack.place_linked(&calls_helper(), &resolve).expect("room");
    let status = in_child(|| {
        // SAFETY: both are functions without arguments.
        let replaced = unsafe { caller.replace(symbol, entry(&two)) };
        replaced.is_err_and(|error| error == PackError::Forked)
            && pack.seal() == Err(PackError::Forked)
            && call(&caller) == 1
    });
    assert_eq!(status, RIGHT);
    assert_eq!(call(&caller), 1);
}

#[test]
fn a_call_slot_is_the_childs_own() {
    let pack = pack();
    let [one, two] = [1, 2].map(|value| pack.place(&returns(value), &nothing).expect("room"));
    let slot = CallSlot::new(Some(entry(&one)));
    let status = in_child(|| {
        // SAFETY: both are functions without arguments.
        drop(unsafe { slot.replace(Some(entry(&two))) });
        slot.entry().is_some_and(|it| it.address() == entry(&two).address())
    });
    assert_eq!(status, RIGHT);
    assert_eq!(slot.entry().map(|it| it.address()), Some(entry(&one).address()));
    let caller = pack
        .place_linked(&one_more_than_helper(), &|_| slot.entry().map(Into::into))
        .expect("room");
    assert_eq!(call(&caller), 2);
}
