//! A system that refuses memory or descriptors: its own binary, because the limits hold for the whole process.

mod hand_made;

use ebpf_pack::{Backing, PAGE_BYTES, Pack, PackError, PackOptions, Placed};
use hand_made::{call, held, nothing, returns};

type Resource = libc::__rlimit_resource_t;

/// Runs `body` under a lowered soft limit.
fn limited<T>(resource: Resource, limit: u64, body: impl FnOnce() -> T) -> T {
    let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `before` is valid for the call.
    assert_eq!(unsafe { libc::getrlimit(resource, &raw mut before) }, 0);
    let lowered = libc::rlimit { rlim_cur: limit, ..before };
    // SAFETY: `lowered` is valid for the call.
    assert_eq!(unsafe { libc::setrlimit(resource, &raw const lowered) }, 0);
    let result = body();
    // SAFETY: `before` is valid for the call.
    assert_eq!(unsafe { libc::setrlimit(resource, &raw const before) }, 0);
    result
}

fn one_page() -> PackOptions {
    PackOptions { arena_bytes: PAGE_BYTES, ..PackOptions::default() }
}

#[test]
fn refusals_are_typed_and_leave_nothing_behind() {
    refused_when_made();
    refused_when_full();
}

fn refused_when_made() {
    let before = held();
    let no_descriptor = limited(libc::RLIMIT_NOFILE, 0, || Pack::new(one_page()).map(|_| ()));
    assert_eq!(no_descriptor, Err(PackError::Os { call: "memfd_create", errno: libc::EMFILE }));
    assert_eq!(held(), before);

    let no_space =
        limited(libc::RLIMIT_AS, 1 << 20, || Pack::new(PackOptions::default()).map(|_| ()));
    assert!(matches!(no_space, Err(PackError::Os { errno: libc::ENOMEM, .. })), "{no_space:?}");
    assert_eq!(held(), before);

    let without_descriptors = limited(libc::RLIMIT_NOFILE, 0, || {
        let pack = Pack::new(PackOptions { backing: Some(Backing::Alias), ..one_page() })?;
        pack.place(&returns(7), &nothing).map(|placed| call(&placed))
    });
    assert_eq!(without_descriptors, Ok(7), "an alias needs none");
    assert_eq!(held(), before);
}

fn refused_when_full() {
    let before = held();
    let pack = Pack::new(one_page()).expect("executable memory");
    let full: Vec<Placed> = (0..256)
        .map(|value| pack.place(&returns(value), &nothing).expect("an arena holds 256"))
        .collect();
    let stats = pack.stats();
    let refused =
        limited(libc::RLIMIT_NOFILE, 0, || pack.place(&returns(256), &nothing).map(|_| ()));
    assert_eq!(refused, Err(PackError::Os { call: "memfd_create", errno: libc::EMFILE }));
    assert_eq!(pack.stats(), stats);
    let next = pack.place(&returns(256), &nothing).expect("the pack is usable afterwards");
    assert_eq!(call(&next), 256);
    drop((full, next, pack));
    assert_eq!(held(), before);
}
