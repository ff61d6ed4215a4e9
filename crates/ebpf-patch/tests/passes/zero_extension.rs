//! Where zero extensions are inserted, and where not.

use ebpf_isa::Pc;
use ebpf_patch::{Landing, Patch, insert_zero_extensions};

use crate::{listing, program};

/// One instruction a line, and the register whose upper half a machine may leave as it is.
const DEFINITIONS: &[(&str, &str)] = &[
    ("w1 += 1", "w1"),
    ("w1 *= w2", "w1"),
    ("w1 s>>= 3", "w1"),
    ("w1 s%= w2", "w1"),
    ("w1 = -1", "w1"),
    ("w1 = w2", "w1"),
    ("w1 = (s8)w1", "w1"),
    ("w1 = -w1", "w1"),
    ("r1 = le16 r1", "w1"),
    ("r1 = be32 r1", "w1"),
    ("r1 = bswap16 r1", "w1"),
    ("r1 = *(u8 *)(r2 +0)", "w1"),
    ("r1 = *(u32 *)(r2 +0)", "w1"),
    ("r1 = load_acquire((u16 *)(r2 +0))", "w1"),
    ("r0 = *(u16 *)skb[4]", "w0"),
    ("r0 = *(u32 *)skb[r2 + 4]", "w0"),
    ("r3 = atomic_fetch_add((u32 *)(r2 +0), r3)", "w3"),
    ("r3 = atomic_xchg((u32 *)(r2 +0), r3)", "w3"),
    ("r0 = atomic_cmpxchg((u32 *)(r2 +0), r0, r3)", "w0"),
];

const NO_DEFINITIONS: &[&str] = &[
    "w1 = w1",
    "r1 += 1",
    "r1 = -1",
    "r1 = r2",
    "r1 = (s32)r1",
    "r1 = -r1",
    "r1 = be64 r1",
    "r1 = 5 ll",
    "r1 = *(u64 *)(r2 +0)",
    "r1 = *(s8 *)(r2 +0)",
    "r1 = load_acquire((u64 *)(r2 +0))",
    "*(u32 *)(r2 +0) = r1",
    "lock *(u32 *)(r2 +0) += r1",
    "r3 = atomic64_fetch_add((u64 *)(r2 +0), r3)",
    "r0 = atomic64_cmpxchg((u64 *)(r2 +0), r0, r3)",
    "if w1 == 0 goto +0",
    "call bpf_ktime_get_ns#5",
];

fn extended(asm: &str, unread: &[bool]) -> Vec<String> {
    let program = program(asm);
    let mut patch = Patch::new(&program);
    insert_zero_extensions(&mut patch, unread).expect("there is room");
    let patched = patch.linearize().expect("a sound program").program;
    listing(&patched).lines().map(String::from).collect()
}

#[test]
fn definitions_of_32_bits_are_extended() {
    for (insn, reg) in DEFINITIONS {
        let lines = extended(&format!("{insn}\nexit"), &[]);
        assert_eq!(lines, [insn, &*format!("{reg} = {reg}"), "exit"]);
    }
}

#[test]
fn nothing_else_is() {
    for insn in NO_DEFINITIONS {
        assert_eq!(extended(&format!("{insn}\nexit"), &[]).len(), 2, "{insn}");
    }
}

#[test]
fn what_nobody_reads_is_not() {
    let asm = "w1 = 1\nw2 = 2\nw3 = 3\nexit";
    let lines = ["w1 = 1", "w2 = 2", "w2 = w2", "w3 = 3", "w3 = w3", "exit"];
    assert_eq!(extended(asm, &[true, false]), lines);
}

/// The knowledge is about the program: of what was inserted there is none.
#[test]
fn inserted_code_counts_as_read() {
    let original = program("w1 = 1\nw2 = 2\nexit");
    let inserted = program("w3 = 3\nexit").get(Pc(0));
    let mut patch = Patch::new(&original);
    patch.prepend(Pc(0), inserted, Landing::Inserted).expect("a sound edit");
    patch.replace(Pc(1), inserted).expect("a sound edit");
    insert_zero_extensions(&mut patch, &[true; 3]).expect("there is room");
    let patched = patch.linearize().expect("a sound program").program;
    let lines = ["w3 = 3", "w3 = w3", "w1 = 1", "w3 = 3", "w3 = w3", "exit"];
    assert_eq!(listing(&patched).lines().collect::<Vec<_>>(), lines);
}

/// Code that is behind the definition already may read the register.
#[test]
fn the_extension_comes_at_once() {
    let original = program("w1 = 1\nexit");
    let reader = program("r2 = r1\nexit").get(Pc(0));
    let mut patch = Patch::new(&original);
    patch.append(Pc(0), reader).expect("a sound edit");
    insert_zero_extensions(&mut patch, &[]).expect("there is room");
    let patched = patch.linearize().expect("a sound program");
    let lines = ["w1 = 1", "w1 = w1", "r2 = r1", "exit"];
    assert_eq!(listing(&patched.program).lines().collect::<Vec<_>>(), lines);
    assert_eq!(patched.map.insn(Pc(0)), Some(Pc(0)));
}
