//! Runs that are stopped and go on, are stepped through, and are watched.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{bytes_of, link};
use ebpf_interp::{Coverage, Links, Memory, Moment, Vm};
use ebpf_isa::abi::{ExecEnv, Trap, TrapKind};
use ebpf_isa::text::assemble;
use ebpf_isa::{LineTable, Pc, Program, Reg, SourceLine};

/// Loops, calls, fused branches, and a load that is merged, all folded into `r0`.
const PROGRAM: &str = "r6 = r1
    r7 = 20
    r0 = 1
    again:
    r2 = *(u8 *)(r6 +0)
    r3 = *(u8 *)(r6 +1)
    r3 <<= 8
    r2 |= r3
    r0 += r2
    r1 = r7
    call f
    r7 += -1
    if r7 != 0 goto again
    exit
    f:
    r2 = r1
    r2 *= 3
    *(u64 *)(r10 -8) = r2
    r3 = *(u64 *)(r10 -8)
    r0 += r2
    r0 += r3
    inner:
    r1 += -5
    if r1 s> 0 goto inner
    w4 = w0
    w4 >>= 7
    w0 ^= w4
    exit";

const CONTEXT: [u64; 2] = [0x1234_5678, 0];

fn with_fuel(fuel: i64) -> ExecEnv {
    let mut env = ExecEnv::new();
    *env.fuel.get_mut() = fuel;
    env
}

/// The uninterrupted run: its value, and the instructions that it was charged.
fn uninterrupted(vm: &Vm) -> (u64, i64) {
    let mut context = CONTEXT;
    let mut memory = Memory::new();
    let ctx = memory.add_mut(bytes_of(&mut context));
    let mut env = with_fuel(1_000_000);
    let value = vm.run(ctx, &memory, &mut env).unwrap();
    (value, 1_000_000 - env.fuel.into_inner())
}

#[test]
fn a_run_in_slices_does_what_an_uninterrupted_one_does() {
    let vm = link(PROGRAM, &Links::default());
    let (value, charged) = uninterrupted(&vm);
    for slice in [0, 1, 7, 20, 100, charged - 1, charged, charged + 1] {
        let mut context = CONTEXT;
        let mut memory = Memory::new();
        let ctx = memory.add_mut(bytes_of(&mut context));
        let mut run = vm.start(ctx, &memory);
        let (mut total, mut stops) = (0, 0);
        let result = loop {
            let mut env = with_fuel(slice);
            let result = run.resume(&mut env);
            total += slice - *env.fuel.get_mut();
            match result {
                Err(Trap { kind: TrapKind::OutOfFuel, .. }) => stops += 1,
                other => break other,
            }
        };
        assert_eq!((result, total), (Ok(value), charged), "slices of {slice}");
        assert_eq!(stops == 0, slice >= charged - 4, "slices of {slice}: {stops} stops");
        assert_eq!(run.resume(&mut with_fuel(0)), Ok(value), "the end stays");
    }
}

#[test]
fn an_unchecked_run_in_slices_does_the_same() {
    let vm = link(PROGRAM, &Links::default());
    let (value, _) = uninterrupted(&vm);
    let mut context = CONTEXT;
    // SAFETY: the program touches its stack and two bytes of the context only.
    let mut run = unsafe { vm.start_unchecked((&raw mut context).cast()) };
    let mut env = ExecEnv::new();
    let result = loop {
        *env.fuel.get_mut() = 10;
        match run.resume(&mut env) {
            Err(Trap { kind: TrapKind::OutOfFuel, .. }) => {}
            other => break other,
        }
    };
    assert_eq!(result, Ok(value));
}

#[test]
fn steps_lead_anywhere_and_the_run_goes_on_from_there() {
    let vm = link(PROGRAM, &Links::default());
    let (value, charged) = uninterrupted(&vm);
    for steps in 0..60 {
        let mut context = CONTEXT;
        let mut memory = Memory::new();
        let ctx = memory.add_mut(bytes_of(&mut context));
        let mut run = vm.start(ctx, &memory);
        let mut env = with_fuel(1_000_000);
        for _ in 0..steps {
            assert_eq!(run.step(&mut env), None);
        }
        assert_eq!(run.resume(&mut env), Ok(value), "after {steps} steps");
        assert_eq!(1_000_000 - env.fuel.into_inner(), charged, "after {steps} steps");
    }
}

#[test]
fn a_run_of_single_steps_ends_like_the_others() {
    let vm = link(PROGRAM, &Links::default());
    let (value, charged) = uninterrupted(&vm);
    let mut context = CONTEXT;
    let mut memory = Memory::new();
    let ctx = memory.add_mut(bytes_of(&mut context));
    let mut run = vm.start(ctx, &memory);
    let mut env = ExecEnv::new();
    let mut steps = 1;
    let result = loop {
        match run.step(&mut env) {
            None => steps += 1,
            Some(result) => break result,
        }
    };
    assert_eq!((result, steps), (Ok(value), charged));
}

#[test]
fn another_thread_stops_a_run_that_would_not_end() {
    let vm = link("goto -1", &Links::default());
    let mut env = ExecEnv::new();
    let stopper = env.stopper();
    let trap = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            stopper.stop();
        });
        vm.run(0, &Memory::new(), &mut env).unwrap_err()
    });
    assert_eq!((trap.kind, trap.pc), (TrapKind::OutOfFuel, Pc::ENTRY));
    // It stays stopped until it is allowed to run.
    assert!(vm.run(0, &Memory::new(), &mut env).is_err());
    stopper.allow();
    let short = link("r0 = 0\nr0 += 1\nif r0 != 9 goto -2\nexit", &Links::default());
    env.start_run();
    *env.fuel.get_mut() = 100;
    assert_eq!(short.run(0, &Memory::new(), &mut env), Ok(9));
}

#[test]
fn a_run_that_was_stopped_from_outside_goes_on() {
    let vm = link(PROGRAM, &Links::default());
    let (value, charged) = uninterrupted(&vm);
    let mut context = CONTEXT;
    let mut memory = Memory::new();
    let ctx = memory.add_mut(bytes_of(&mut context));
    let mut run = vm.start(ctx, &memory);
    let mut env = with_fuel(1_000_000);
    let stopper = env.stopper();
    stopper.stop();
    assert_eq!(run.resume(&mut env).unwrap_err().kind, TrapKind::OutOfFuel);
    stopper.allow();
    assert_eq!(run.resume(&mut env), Ok(value));
    assert_eq!(1_000_000 - *env.fuel.get_mut(), charged);
}

#[test]
fn an_observer_sees_each_instruction_before_it_runs() {
    let vm = link("r0 = 5\nr0 += 2\ncall f\nexit\nf:\nr0 *= 2\nexit", &Links::default());
    let mut seen = Vec::new();
    let memory = Memory::new();
    let result =
        vm.start(0, &memory).resume_observed(&mut ExecEnv::new(), &mut |at: &Moment<'_>| {
            seen.push((at.pc().0, at.reg(Reg::R0), at.depth()));
        });
    assert_eq!(result, Ok(14));
    assert_eq!(seen, [(0, 0, 0), (1, 5, 0), (2, 7, 0), (4, 7, 1), (5, 14, 1), (3, 14, 0)]);
}

#[test]
fn coverage_counts_instructions_and_lines() {
    let text = assemble("r0 = 3\nr0 += -1\nif r0 != 0 goto -2\nif r0 == 0 goto +1\nr0 = 9\nexit");
    let mut lines = LineTable::new();
    for (pc, line) in [(0, 1), (1, 2), (3, 4), (4, 5), (5, 2)] {
        lines.push(Pc(pc), SourceLine { file: "loop.c", text: "", line, col: 1 });
    }
    let slots = text.unwrap().slots().to_vec();
    let program = Program::new(slots, Default::default(), lines).unwrap();
    let vm = Vm::new(&program, None, &Links::default()).unwrap();
    let mut coverage = Coverage::new(&vm, &program);
    for _ in 0..2 {
        vm.start(0, &Memory::new()).resume_observed(&mut ExecEnv::new(), &mut coverage).unwrap();
    }
    let counts: Vec<u64> = (0..6).map(|pc| coverage.count(Pc(pc))).collect();
    assert_eq!(counts, [2, 6, 6, 2, 0, 2]);
    let lines: Vec<_> = coverage.lines().iter().map(|line| (line.line, line.count)).collect();
    assert_eq!(lines, [(1, 2), (2, 6), (4, 2), (5, 0)]);
}
