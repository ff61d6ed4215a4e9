//! What a checked program may touch, on both sides of every edge.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use ebpf_interp::{Links, Memory, Vm};
use ebpf_isa::Pc;
use ebpf_isa::abi::{ExecEnv, Trap, TrapKind};
use ebpf_isa::text::assemble;

fn vm(asm: &str) -> Vm {
    Vm::new(&assemble(asm).unwrap(), None, &Links::default()).unwrap()
}

/// Runs on eight bytes that may be written, whose address is in `r1`.
#[track_caller]
fn run(asm: &str) -> Result<u64, Trap> {
    let mut bytes = *b"\x01\x02\x03\x04\x05\x06\x07\x08";
    let mut memory = Memory::new();
    let ctx = memory.add_mut(&mut bytes);
    vm(asm).run(ctx, &memory, &mut ExecEnv::new())
}

#[track_caller]
fn expect_trap(asm: &str, kind: TrapKind, pc: u32) -> Trap {
    let trap = run(asm).unwrap_err();
    assert_eq!((trap.kind, trap.pc), (kind, Pc(pc)), "{asm}");
    trap
}

#[test]
fn the_whole_region_is_readable_and_nothing_beyond() {
    assert_eq!(run("r0 = *(u64 *)(r1 +0)\nexit"), Ok(0x0807_0605_0403_0201));
    assert_eq!(run("r0 = *(u8 *)(r1 +7)\nexit"), Ok(8));
    assert_eq!(run("r0 = *(u16 *)(r1 +6)\nexit"), Ok(0x0807));
    expect_trap("r0 = *(u8 *)(r1 +8)\nexit", TrapKind::OutOfBounds, 0);
    expect_trap("r0 = *(u16 *)(r1 +7)\nexit", TrapKind::OutOfBounds, 0);
    expect_trap("r0 = *(u64 *)(r1 +1)\nexit", TrapKind::OutOfBounds, 0);
    expect_trap("r0 = *(u8 *)(r1 -1)\nexit", TrapKind::OutOfBounds, 0);
}

#[test]
fn address_and_length_cannot_wrap() {
    let trap = expect_trap("r2 = -4\nr0 = *(u64 *)(r2 +0)\nexit", TrapKind::OutOfBounds, 1);
    assert_eq!(trap.addr, u64::MAX - 3);
    let trap = expect_trap("r2 = -1\nr0 = *(u8 *)(r2 +2)\nexit", TrapKind::OutOfBounds, 1);
    assert_eq!(trap.addr, 1);
}

#[test]
fn null_is_not_readable() {
    let trap = expect_trap("r2 = 0\n*(u32 *)(r2 +0) = 1\nexit", TrapKind::OutOfBounds, 1);
    assert_eq!(trap.addr, 0);
}

#[test]
fn read_only_bytes_cannot_be_written() {
    let bytes = [7_u8; 4];
    let mut memory = Memory::new();
    let ctx = memory.add(&bytes);
    let mut env = ExecEnv::new();
    assert_eq!(vm("r0 = *(u32 *)(r1 +0)\nexit").run(ctx, &memory, &mut env), Ok(0x0707_0707));
    let trap = vm("*(u8 *)(r1 +3) = 1\nexit").run(ctx, &memory, &mut env).unwrap_err();
    assert_eq!(trap, Trap { kind: TrapKind::ReadOnly, pc: Pc::ENTRY, addr: ctx + 3 });
}

#[test]
fn the_stack_is_zeroed_and_512_bytes_deep() {
    assert_eq!(run("r0 = *(u64 *)(r10 -512)\nexit"), Ok(0));
    expect_trap("r0 = *(u8 *)(r10 -513)\nexit", TrapKind::OutOfBounds, 0);
    expect_trap("r0 = *(u8 *)(r10 +0)\nexit", TrapKind::OutOfBounds, 0);
}

#[test]
fn the_frame_of_a_call_is_gone_after_it() {
    let after = |access: &str| format!("call f\n{access}\nexit\nf:\n*(u64 *)(r10 -8) = 9\nexit");
    expect_trap(&after("r0 = *(u8 *)(r10 -513)"), TrapKind::OutOfBounds, 1);
    assert_eq!(run(&after("r0 = *(u8 *)(r10 -512)")), Ok(0));
}

#[test]
fn atomics_must_be_aligned() {
    let kind = TrapKind::Misaligned;
    expect_trap("r2 = 1\nlock *(u32 *)(r10 -6) += r2\nr0 = 0\nexit", kind, 1);
    assert_eq!(run("r2 = 5\nlock *(u32 *)(r10 -8) += r2\nr0 = *(u64 *)(r10 -8)\nexit"), Ok(5));
}

#[test]
fn eight_frames_are_enough_and_nine_are_too_many() {
    // f calls itself until r1 is 0; r1 + 2 frames are live at the deepest point.
    let deep = |calls| {
        format!(
            "r1 = {calls}\ncall f\nexit\nf:\nif r1 == 0 goto end\nr1 += -1\ncall f\nend:\nr0 = 9\nexit"
        )
    };
    assert_eq!(run(&deep(6)), Ok(9));
    expect_trap(&deep(7), TrapKind::CallDepth, 5);
}

#[test]
fn an_endless_loop_runs_out_of_fuel() {
    let mut env = ExecEnv::new();
    *env.fuel.get_mut() = 1000;
    let result = vm("r0 = 0\nr0 += 1\ngoto pc-2\n").run(0, &Memory::new(), &mut env);
    assert_eq!(result.unwrap_err().kind, TrapKind::OutOfFuel);
}

#[test]
fn another_thread_can_stop_a_run() {
    let mut env = ExecEnv::new();
    let fuel = std::ptr::from_ref(&env.fuel).expose_provenance();
    let stopper = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(20));
        // SAFETY: the environment lives until this thread was joined.
        let fuel =
            unsafe { &*std::ptr::with_exposed_provenance::<std::sync::atomic::AtomicI64>(fuel) };
        fuel.store(0, std::sync::atomic::Ordering::Relaxed);
    });
    let result = vm("goto pc-1").run(0, &Memory::new(), &mut env);
    stopper.join().unwrap();
    assert_eq!(result.unwrap_err().kind, TrapKind::OutOfFuel);
}

#[test]
fn fuel_counts_the_instructions_that_ran() {
    let mut env = ExecEnv::new();
    // 1 + 10 × 2 + 1 instructions.
    let asm = "r1 = 10\nr1 += -1\nif r1 != 0 goto pc-2\nexit";
    assert_eq!(vm(asm).run(0, &Memory::new(), &mut env), Ok(0));
    assert_eq!(i64::MAX - *env.fuel.get_mut(), 22);
}

#[test]
fn shared_bytes_are_read_and_written_while_others_do() {
    let bytes: [AtomicU8; 8] = Default::default();
    let mut memory = Memory::new();
    let ctx = memory.add_shared(&bytes);
    bytes[1].store(5, Ordering::Relaxed);
    let double = vm("r0 = *(u8 *)(r1 +1)\nr2 = r0\nr2 += r0\n*(u8 *)(r1 +2) = r2\nexit");
    assert_eq!(double.run(ctx, &memory, &mut ExecEnv::new()), Ok(5));
    assert_eq!(bytes[2].load(Ordering::Relaxed), 10);
    let beyond = vm("r0 = *(u8 *)(r1 +8)\nexit").run(ctx, &memory, &mut ExecEnv::new());
    assert_eq!(beyond.unwrap_err().addr, ctx + 8);
}

#[test]
fn two_runs_share_bytes() {
    let word = AtomicU64::new(0);
    // SAFETY: a word has eight bytes, and all of these are accessed as atomics.
    let bytes = unsafe { &*std::ptr::from_ref(&word).cast::<[AtomicU8; 8]>() };
    let add =
        vm("r2 = 10000\nr3 = 1\nlock *(u64 *)(r1 +0) += r3\nr2 += -1\nif r2 != 0 goto pc-3\nexit");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut memory = Memory::new();
                let ctx = memory.add_shared(bytes);
                add.run(ctx, &memory, &mut ExecEnv::new()).unwrap();
            });
        }
    });
    assert_eq!(word.into_inner(), 20_000);
}

#[test]
fn read_only_bytes_are_read_in_every_size_and_never_changed() {
    let bytes = *b"\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10";
    // Somewhere in the first eight bytes is a multiple of 8.
    let start = bytes.as_ptr().align_offset(8);
    let mut memory = Memory::new();
    let ctx = memory.add(&bytes[start..start + 8]);
    let run = |asm: &str| vm(asm).run(ctx, &memory, &mut ExecEnv::new());
    let first = start as u64 + 1;
    assert_eq!(run("r0 = *(u8 *)(r1 +1)\nexit"), Ok(first + 1));
    assert_eq!(run("r0 = *(u16 *)(r1 +1)\nexit"), Ok((first + 2) << 8 | (first + 1)));
    assert_eq!(run("r0 = load_acquire((u8 *)(r1 +0))\nexit"), Ok(first));
    for write in ["lock *(u64 *)(r1 +0) += r2", "store_release((u32 *)(r1 +0), r2)"] {
        let trap = run(&format!("r2 = 0\n{write}\nexit")).unwrap_err();
        assert_eq!(trap, Trap { kind: TrapKind::ReadOnly, pc: Pc(1), addr: ctx }, "{write}");
    }
}
