//! No page of the process is ever writable and executable through one address: its own binary, because it reads the maps of
//! the whole process after every step.

mod hand_made;

use ebpf_pack::{COMMIT_STEP_BYTES, Pack, PackOptions, Placed};
use hand_made::{call, image, maps, nothing, returns};

/// Looks at all mappings; returns how many executable and how many writable ones belong to packs.
fn check(step: &str) -> (usize, usize) {
    let maps = maps();
    for (permissions, line) in &maps {
        assert!(!(permissions.contains('w') && permissions.contains('x')), "after {step}: {line}");
    }
    let count = |wanted: &str| {
        let ours = maps.iter().filter(|(_, line)| line.contains("memfd:ebpf-pack"));
        ours.filter(|(permissions, _)| permissions == wanted).count()
    };
    (count("r-xs"), count("rw-s"))
}

#[test]
fn after_every_step() {
    assert_eq!(check("start"), (0, 0));
    let options = PackOptions { arena_bytes: 4 * COMMIT_STEP_BYTES, ..PackOptions::default() };
    let pack = Pack::new(options).expect("executable memory");
    assert_eq!(check("making the pack"), (1, 1));
    let first = pack.place(&returns(1), &nothing).expect("room");
    assert_eq!(check("placing"), (1, 1));
    assert_eq!(call(&first), 1);
    let step = image(vec![0x90; COMMIT_STEP_BYTES], vec![]);
    let mut steps: Vec<Placed> = Vec::new();
    for committed in 2..=4 {
        steps.push(pack.place(&step, &nothing).expect("room"));
        assert_eq!(check("growing"), (1, 1), "steps are one mapping");
        assert_eq!(pack.stats().committed_bytes, committed * COMMIT_STEP_BYTES);
    }
    steps.push(pack.place(&step, &nothing).expect("room"));
    assert_eq!(check("a second arena"), (2, 2));
    drop(steps);
    assert_eq!(check("freeing"), (1, 1));
    drop(pack);
    assert_eq!(check("dropping the pack, but not its code"), (1, 1));
    assert_eq!(call(&first), 1);
    drop(first);
    assert_eq!(check("dropping everything"), (0, 0));
}
