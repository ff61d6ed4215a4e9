//! Packet loads, atomics, and what Linux has beyond RFC 9669, in both modes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{bytes_of, link, run, run_with};
use ebpf_interp::{Links, Memory};
use ebpf_isa::Pc;
use ebpf_isa::abi::{ExecEnv, Trap, TrapKind};

const PACKET: [u8; 6] = [0x81, 0x02, 0x03, 0x04, 0x05, 0x86];

/// Runs on [`PACKET`] in both modes.
#[track_caller]
fn on_packet(asm: &str) -> u64 {
    let vm = link(asm, &Links::default());
    let mut packet = PACKET;
    let address = packet.as_mut_ptr();
    let unchecked = {
        let mut env = ExecEnv { packet: address, packet_len: 6, ..ExecEnv::new() };
        // SAFETY: these programs touch the packet by packet loads only.
        unsafe { vm.run_unchecked(std::ptr::null_mut(), &mut env) }
    };
    let mut memory = Memory::new();
    memory.add_mut(&mut packet);
    let mut env = ExecEnv { packet: address, packet_len: 6, ..ExecEnv::new() };
    assert_eq!(vm.run(0, &memory, &mut env), unchecked, "checked and unchecked");
    unchecked.unwrap()
}

#[test]
fn packet_loads_are_big_endian_and_zero_extended() {
    assert_eq!(on_packet("r0 = *(u8 *)skb[0]\nexit"), 0x81);
    assert_eq!(on_packet("r0 = *(u16 *)skb[0]\nexit"), 0x8102);
    assert_eq!(on_packet("r0 = *(u32 *)skb[0]\nexit"), 0x8102_0304);
    assert_eq!(on_packet("r0 = *(u32 *)skb[1]\nexit"), 0x0203_0405);
}

#[test]
fn packet_loads_with_an_index_add_32_bits() {
    assert_eq!(on_packet("r7 = 3\nr0 = *(u8 *)skb[r7 + 2]\nexit"), 0x86);
    assert_eq!(on_packet("r7 = 4\nr0 = *(u8 *)skb[r7 - 3]\nexit"), 0x02);
    assert_eq!(on_packet("r7 = -1\nr0 = *(u16 *)skb[r7 + 1]\nexit"), 0x8102);
    assert_eq!(on_packet("r7 = 0x500000001 ll\nr0 = *(u8 *)skb[r7 + 0]\nexit"), 0x02);
}

#[test]
fn packet_loads_reach_the_last_byte_and_no_further() {
    // What comes after the load is skipped where the packet is too short.
    let ends = |load: &str| on_packet(&format!("r0 = 9\nr7 = 5\n{load}\nr0 = 7\nexit")) == 0;
    assert!(!ends("r0 = *(u8 *)skb[5]"));
    assert!(ends("r0 = *(u8 *)skb[6]"));
    assert!(!ends("r0 = *(u16 *)skb[4]"));
    assert!(ends("r0 = *(u16 *)skb[5]"));
    assert!(!ends("r0 = *(u32 *)skb[2]"));
    assert!(ends("r0 = *(u32 *)skb[3]"));
    assert!(!ends("r0 = *(u8 *)skb[r7 + 0]"));
    assert!(ends("r0 = *(u8 *)skb[r7 + 1]"));
    assert!(ends("r0 = *(u8 *)skb[-1]"));
    assert!(ends("r0 = *(u32 *)skb[r7 - 8]"));
}

#[test]
fn without_a_packet_every_packet_load_ends_the_program() {
    assert_eq!(run("r0 = *(u8 *)skb[0]\nr0 = 7\nexit"), Ok(0));
}

#[test]
fn a_packet_load_beyond_the_end_returns_from_the_subprogram_only() {
    let asm = "r6 = 40\ncall f\nr0 += r6\nexit\nf:\nr6 = 1\nr0 = *(u8 *)skb[6]\nr0 = 7\nexit";
    assert_eq!(on_packet(asm), 40);
}

#[test]
fn checked_packet_loads_stay_in_the_regions() {
    let packet = PACKET;
    let mut memory = Memory::new();
    let address = memory.add(&packet[..4]);
    let run = |asm: &str| {
        let mut env = ExecEnv { packet: packet.as_ptr(), packet_len: 6, ..ExecEnv::new() };
        link(asm, &Links::default()).run(0, &memory, &mut env)
    };
    assert_eq!(run("r0 = *(u32 *)skb[0]\nexit"), Ok(0x8102_0304));
    let trap = Trap { kind: TrapKind::OutOfBounds, pc: Pc(1), addr: address + 1 };
    assert_eq!(run("r0 = 0\nr0 = *(u32 *)skb[1]\nexit"), Err(trap));
}

#[test]
fn may_goto_falls_through_until_the_budget_is_used_up() {
    let vm = link("r0 = 0\nloop:\nmay_goto end\nr0 += 1\ngoto loop\nend:\nexit", &Links::default());
    for budget in [0, 1, 5] {
        let ran = run_with(&vm, |env| env.may_goto = budget);
        assert_eq!((ran.result, ran.env.may_goto), (Ok(budget), 0));
    }
}

#[test]
fn may_goto_has_one_budget_in_all_frames() {
    let asm = "r6 = 0\nmay_goto end\nr6 += 1\ncall f\nr6 += r0\ncall f\nr6 += r0\nend:\nr0 = r6\nexit\n\
               f:\nr0 = 0\nmay_goto none\nr0 = 10\nnone:\nexit";
    let ran = run_with(&link(asm, &Links::default()), |env| env.may_goto = 2);
    assert_eq!(ran.result, Ok(11));
}

#[test]
fn may_goto_backwards_is_charged() {
    let ran = run_with(&link("r0 = 1\nmay_goto -1\nexit", &Links::default()), |env| {
        (env.may_goto, *env.fuel.get_mut()) = (0, 100);
    });
    assert_eq!(ran.result.unwrap_err().kind, TrapKind::OutOfFuel);
}

#[test]
fn casts_between_address_spaces_change_nothing() {
    for spaces in ["0, 1", "1, 0"] {
        let asm = format!("r2 = 0x8877665544332211 ll\nr0 = addr_space_cast(r2, {spaces})\nexit");
        assert_eq!(run(&asm), Ok(0x8877_6655_4433_2211));
    }
}

#[test]
fn load_acquire_has_every_size_and_zero_extends() {
    let load = |size: &str| {
        run(&format!("r2 = -2\n*(u64 *)(r10 -8) = r2\nr0 = load_acquire(({size} *)(r10 -8))\nexit"))
    };
    assert_eq!(load("u8"), Ok(0xfe));
    assert_eq!(load("u16"), Ok(0xfffe));
    assert_eq!(load("u32"), Ok(0xffff_fffe));
    assert_eq!(load("u64"), Ok(u64::MAX - 1));
}

#[test]
fn store_release_has_every_size_and_leaves_the_rest() {
    let store = |size: &str| {
        let store = format!("store_release(({size} *)(r10 -8), r2)");
        run(&format!(
            "r2 = 0x1122334455667788 ll\n*(u64 *)(r10 -8) = -1\n{store}\nr0 = *(u64 *)(r10 -8)\nexit"
        ))
    };
    assert_eq!(store("u8"), Ok(0xffff_ffff_ffff_ff88));
    assert_eq!(store("u16"), Ok(0xffff_ffff_ffff_7788));
    assert_eq!(store("u32"), Ok(0xffff_ffff_5566_7788));
    assert_eq!(store("u64"), Ok(0x1122_3344_5566_7788));
}

/// One atomic operation on 0x1_0000_000c with the operand 0xa and `r0` 0xc: what is in memory
/// afterwards, in the source, and in `r0`.
#[track_caller]
fn atomic(op: &str, memory: u64, source: u64, r0: u64) {
    let asm = |shown: &str| {
        format!(
            "r2 = 0x10000000c ll\n*(u64 *)(r10 -8) = r2\nr3 = 0xa\nr0 = 0xc\n{op}\n\
             r4 = *(u64 *)(r10 -8)\nr0 = {shown}\nexit"
        )
    };
    let all = (run(&asm("r4")), run(&asm("r3")), run(&asm("r0")));
    assert_eq!(all, (Ok(memory), Ok(source), Ok(r0)), "{op}");
}

#[test]
fn atomics_of_8_bytes() {
    let old = 0x1_0000_000c;
    atomic("lock *(u64 *)(r10 -8) += r3", 0x1_0000_0016, 0xa, 0xc);
    atomic("lock *(u64 *)(r10 -8) |= r3", 0x1_0000_000e, 0xa, 0xc);
    atomic("lock *(u64 *)(r10 -8) &= r3", 0x8, 0xa, 0xc);
    atomic("lock *(u64 *)(r10 -8) ^= r3", 0x1_0000_0006, 0xa, 0xc);
    atomic("r3 = atomic64_fetch_add((u64 *)(r10 -8), r3)", 0x1_0000_0016, old, 0xc);
    atomic("r3 = atomic64_fetch_or((u64 *)(r10 -8), r3)", 0x1_0000_000e, old, 0xc);
    atomic("r3 = atomic64_fetch_and((u64 *)(r10 -8), r3)", 0x8, old, 0xc);
    atomic("r3 = atomic64_fetch_xor((u64 *)(r10 -8), r3)", 0x1_0000_0006, old, 0xc);
    atomic("r3 = atomic64_xchg((u64 *)(r10 -8), r3)", 0xa, old, 0xc);
    atomic("r0 = atomic64_cmpxchg((u64 *)(r10 -8), r0, r3)", old, 0xa, old);
}

#[test]
fn atomics_of_4_bytes_leave_the_upper_half_and_zero_extend() {
    let upper = 0x1_0000_0000;
    atomic("lock *(u32 *)(r10 -8) += r3", upper + 0x16, 0xa, 0xc);
    atomic("lock *(u32 *)(r10 -8) |= r3", upper + 0xe, 0xa, 0xc);
    atomic("lock *(u32 *)(r10 -8) &= r3", upper + 0x8, 0xa, 0xc);
    atomic("lock *(u32 *)(r10 -8) ^= r3", upper + 0x6, 0xa, 0xc);
    atomic("r3 = atomic_fetch_add((u32 *)(r10 -8), r3)", upper + 0x16, 0xc, 0xc);
    atomic("r3 = atomic_fetch_or((u32 *)(r10 -8), r3)", upper + 0xe, 0xc, 0xc);
    atomic("r3 = atomic_fetch_and((u32 *)(r10 -8), r3)", upper + 0x8, 0xc, 0xc);
    atomic("r3 = atomic_fetch_xor((u32 *)(r10 -8), r3)", upper + 0x6, 0xc, 0xc);
    atomic("r3 = atomic_xchg((u32 *)(r10 -8), r3)", upper + 0xa, 0xc, 0xc);
    atomic("r0 = atomic_cmpxchg((u32 *)(r10 -8), r0, r3)", upper + 0xa, 0xa, 0xc);
}

#[test]
fn every_atomic_access_must_be_aligned() {
    let accesses = [
        ("lock *(u32 *)(r1 +2) += r3", 2),
        ("r3 = atomic64_xchg((u64 *)(r1 +4), r3)", 4),
        ("r3 = load_acquire((u16 *)(r1 +1))", 1),
        ("store_release((u64 *)(r1 +4), r3)", 4),
    ];
    for (access, offset) in accesses {
        let vm = link(&format!("r3 = 0\nr0 = 0\n{access}\nexit"), &Links::default());
        let (kind, pc) = (TrapKind::Misaligned, Pc(2));
        let unchecked = run_with(&vm, |_| {}).result.unwrap_err();
        assert_eq!((unchecked.kind, unchecked.pc), (kind, pc), "{access}");
        let mut words = [0; 2];
        let mut memory = Memory::new();
        let ctx = memory.add_mut(bytes_of(&mut words));
        let trap = vm.run(ctx, &memory, &mut ExecEnv::new()).unwrap_err();
        assert_eq!(trap, Trap { kind, pc, addr: ctx + offset }, "{access}");
    }
}
