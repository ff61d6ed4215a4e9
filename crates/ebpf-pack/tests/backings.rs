//! The ways to get executable memory, each forced, and the choice among them.

mod hand_made;

use ebpf_image::Symbol;
use ebpf_pack::{Backing, Pack, PackError, PackOptions, Placed, Position, Target};
use hand_made::{
    RIGHT, bytes_at, call, calls_helper, entry, in_child, maps, nothing, one_more_than_helper,
    returns,
};

fn options(backing: Backing) -> PackOptions {
    PackOptions { backing: Some(backing), ..PackOptions::default() }
}

fn pack(backing: Backing) -> Pack {
    Pack::new(options(backing)).expect("executable memory")
}

#[test]
fn the_best_one_is_chosen() {
    let pack = Pack::new(PackOptions::default()).expect("executable memory");
    let capabilities = pack.capabilities();
    assert_eq!((capabilities.backing, &capabilities.refused[..]), (Backing::Memfd, &[][..]));
    assert!(capabilities.sync_core);
}

#[test]
fn each_one_places_calls_and_frees() {
    for backing in Backing::ALL {
        let pack = pack(backing);
        assert_eq!(pack.capabilities().backing, backing);
        let programs: Vec<Placed> =
            (0..100).map(|value| pack.place(&returns(value), &nothing).expect("room")).collect();
        for (value, placed) in programs.iter().enumerate() {
            assert_eq!(call(placed), value as u64, "{backing}");
        }
        let caller =
            pack.place_linked(&one_more_than_helper(), &|_| Some(entry(&programs[41]).into()));
        let caller = caller.expect("room");
        drop(programs);
        assert_eq!((call(&caller), pack.stats().programs), (42, 2), "{backing}");
        drop(caller);
        let stats = pack.stats();
        assert_eq!((stats.programs, stats.used_bytes), (0, 0), "{backing}");
        let shared = usize::from(backing != Backing::OneShot);
        assert_eq!(stats.arenas, shared, "{backing}");
    }
}

#[test]
fn shared_pages_hold_many_programs_and_private_ones_one() {
    for (backing, pages) in [(Backing::Memfd, 1), (Backing::Alias, 1), (Backing::OneShot, 7)] {
        let pack = pack(backing);
        let programs: Vec<Placed> =
            (0..7).map(|value| pack.place(&returns(value), &nothing).expect("room")).collect();
        assert_eq!(pack.stats().committed_bytes, pages * 4096, "{backing}");
        drop(programs);
    }
}

#[test]
fn what_is_freed_becomes_int3_where_pages_are_shared() {
    for backing in [Backing::Memfd, Backing::Alias] {
        let pack = pack(backing);
        let [kept, freed] =
            [1, 2].map(|value| pack.place(&returns(value), &nothing).expect("room"));
        let range = freed.code_range();
        drop(freed);
        assert_eq!(bytes_at(range.start, 6), [0xcc; 6], "{backing}");
        assert_eq!(call(&kept), 1);
    }
}

/// In a child, where no other test's mapping can take the place of the one that went.
#[test]
fn what_is_freed_is_unmapped_where_pages_are_private() {
    let status = in_child(|| {
        let pack = pack(Backing::OneShot);
        let placed = pack.place(&returns(1), &nothing).expect("room");
        let line = format!("{:x}-", placed.code_range().start);
        let mapped = || maps().into_iter().find(|(_, mapping)| mapping.starts_with(&line));
        let before = mapped().expect("mapped").0;
        drop(placed);
        before == "r-xp" && mapped().is_none()
    });
    assert_eq!(status, RIGHT);
}

#[test]
fn calling_freed_code_ends_the_process() {
    for (backing, signal) in [
        (Backing::Memfd, libc::SIGTRAP),
        (Backing::Alias, libc::SIGTRAP),
        (Backing::OneShot, libc::SIGSEGV),
    ] {
        let status = in_child(|| {
            let pack = pack(backing);
            let placed = pack.place(&returns(1), &nothing).expect("room");
            // SAFETY: the function is called after its code is gone, on purpose: it must stop this process.
            let stale: extern "sysv64" fn() -> u64 =
                unsafe { std::mem::transmute(placed.entry_ptr()) };
            drop(placed);
            stale();
            pack.stats().programs == 0
        });
        assert!(libc::WIFSIGNALED(status), "{backing}: {status}");
        assert_eq!(libc::WTERMSIG(status), signal, "{backing}");
    }
}

#[test]
fn a_callee_is_replaced_where_pages_are_shared() {
    for backing in Backing::ALL {
        let pack = pack(backing);
        let [one, two] = [1, 2].map(|value| pack.place(&returns(value), &nothing).expect("room"));
        let resolve = |_| Some(Target::from(entry(&one)).replaceable());
        let caller = pack.place_linked(&calls_helper(), &resolve).expect("room");
        assert_eq!(call(&caller), 1);
        // SAFETY: both are functions without arguments.
        let replaced = unsafe { caller.replace(Symbol::Helper(1), entry(&two)) };
        let (expected, result) = match backing {
            Backing::OneShot => (Err(PackError::Sealed), 1),
            _ => (Ok(()), 2),
        };
        assert_eq!(replaced.map(|_| ()), expected, "{backing}");
        assert_eq!(call(&caller), result, "{backing}");
    }
}

#[test]
fn each_one_can_be_far_away() {
    extern "sysv64" fn native() -> u64 {
        7
    }
    let address = native as extern "sysv64" fn() -> u64 as usize as u64;
    for backing in Backing::ALL {
        let far = PackOptions { position: Position::FarFrom(address), ..options(backing) };
        let pack = Pack::new(far).expect("address space");
        let placed = pack.place(&calls_helper(), &|_| Some(address)).expect("room");
        assert!(placed.code_range().start.abs_diff(address) > 1 << 31, "{backing}");
        assert_eq!(call(&placed), 7);
    }
}

/// `PR_SET_MDWE` (Linux 6.3): from now on no mapping gains execution, and none is writable and executable.
fn refuse_exec_gain() -> bool {
    const PR_SET_MDWE: i32 = 65;
    const PR_MDWE_REFUSE_EXEC_GAIN: u64 = 1;
    // SAFETY: the call takes numbers only, and affects this process.
    unsafe { libc::prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) == 0 }
}

#[test]
fn memory_deny_write_execute_leaves_the_memfd() {
    let status = in_child(|| {
        if !refuse_exec_gain() {
            // Before Linux 6.3 there is nothing to test.
            return true;
        }
        let chosen = Pack::new(PackOptions::default()).expect("executable memory");
        let placed = chosen.place(&returns(3), &nothing).expect("room");
        let refused = |backing| {
            matches!(Pack::new(options(backing)), Err(PackError::Os { errno: libc::EACCES, .. }))
        };
        let sealed = chosen.place(&returns(4), &nothing).expect("room");
        let sealable = chosen.seal().is_ok() && call(&sealed) == 4;
        chosen.capabilities().backing == Backing::Memfd
            && call(&placed) == 3
            && sealable
            && refused(Backing::Alias)
            && refused(Backing::OneShot)
    });
    assert_eq!(status, RIGHT);
}

/// Lets system call `number` of this process fail with `errno` if its argument `index` has all bits of `mask`, by seccomp.
fn forbid(number: i64, index: u32, mask: u32, errno: i32) -> bool {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let jump = |k: u32, jt, jf| libc::sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt,
        jf,
        k,
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let result = libc::BPF_RET | libc::BPF_K;
    let mut filter = [
        statement(load, 0),
        jump(number as u32, 0, 4),
        statement(load, 16 + 8 * index),
        statement(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, mask),
        jump(mask, 0, 1),
        statement(result, libc::SECCOMP_RET_ERRNO | errno as u32),
        statement(result, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program is valid for the calls, which affect this process only.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    }
}

fn works(pack: &Pack, backing: Backing) -> bool {
    let placed = pack.place(&returns(3), &nothing).expect("room");
    pack.capabilities().backing == backing && call(&placed) == 3
}

#[test]
fn without_memfd_there_is_the_alias() {
    let status = in_child(|| {
        assert!(forbid(libc::SYS_memfd_create, 0, 0, libc::EPERM));
        let pack = Pack::new(PackOptions::default()).expect("executable memory");
        let refused = PackError::Os { call: "memfd_create", errno: libc::EPERM };
        works(&pack, Backing::Alias) && pack.capabilities().refused == [(Backing::Memfd, refused)]
    });
    assert_eq!(status, RIGHT);
}

#[test]
fn without_shared_memory_there_are_private_pages() {
    let status = in_child(|| {
        assert!(forbid(libc::SYS_memfd_create, 0, 0, libc::ENOSYS));
        assert!(forbid(libc::SYS_mremap, 0, 0, libc::EPERM));
        let pack = Pack::new(PackOptions::default()).expect("executable memory");
        let refused: Vec<Backing> =
            pack.capabilities().refused.iter().map(|(backing, _)| *backing).collect();
        works(&pack, Backing::OneShot) && refused == [Backing::Memfd, Backing::Alias]
    });
    assert_eq!(status, RIGHT);
}

#[test]
fn without_executable_memory_there_is_no_pack() {
    let status = in_child(|| {
        let exec = libc::PROT_EXEC as u32;
        assert!(forbid(libc::SYS_mmap, 2, exec, libc::EACCES));
        assert!(forbid(libc::SYS_mprotect, 2, exec, libc::EACCES));
        let error = Pack::new(PackOptions::default()).map(|_| ());
        error == Err(PackError::Os { call: "mprotect of private pages", errno: libc::EACCES })
    });
    assert_eq!(status, RIGHT);
}

#[test]
fn without_the_barrier_room_is_used_once() {
    let status = in_child(|| {
        assert!(forbid(libc::SYS_membarrier, 0, 0, libc::ENOSYS));
        let one_page = PackOptions { arena_bytes: 1, ..PackOptions::default() };
        let pack = Pack::new(one_page).expect("executable memory");
        let first = pack.place(&returns(0), &nothing).expect("room");
        let used = first.code_range();
        let keeper = pack.place(&returns(1), &nothing).expect("room");
        drop(first);
        let others: Vec<Placed> =
            (0..256).map(|value| pack.place(&returns(value), &nothing).expect("room")).collect();
        !pack.capabilities().sync_core
            && call(&keeper) == 1
            && others.iter().enumerate().all(|(value, placed)| call(placed) == value as u64)
            && others.iter().all(|placed| placed.code_range() != used)
            && pack.stats().resting_bytes == 16
    });
    assert_eq!(status, RIGHT);
}
