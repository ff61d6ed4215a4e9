//! Tail calls, on the interpreter and compiled: the same programs, the same ends.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ebpf_runtime::image::Symbol;
use ebpf_runtime::interp::{Links, Memory, TailTarget, Vm};
use ebpf_runtime::isa::abi::{EntryFn, ExecEnv, MAX_TAIL_CALLS, Trap, TrapKind};
use ebpf_runtime::isa::text::assemble;
use ebpf_runtime::isa::uapi::HelperId;
use ebpf_runtime::isa::{Pc, Program};
use ebpf_runtime::jit::{self, MemoryMode, Options};
use ebpf_runtime::pack::{Pack, PackOptions, Placed};

/// What programs pass as the map.
const MAP: u64 = 7;

/// The targets by index, in the engine's form.
type Targets = Vec<u64>;

/// Looks up the targets that `env.user` points to.
///
/// # Safety
/// `env.user` points to [`Targets`].
unsafe extern "sysv64" fn target(map: u64, index: u64, env: *mut ExecEnv) -> u64 {
    assert_eq!(map, MAP);
    // SAFETY: the caller's promise.
    let targets = unsafe { &*(*env).user.cast::<Targets>() };
    usize::try_from(index).ok().and_then(|index| targets.get(index)).copied().unwrap_or(0)
}

fn programs(texts: &[&str]) -> Vec<Program> {
    texts.iter().map(|text| assemble(text).unwrap()).collect()
}

fn env(targets: &mut Targets) -> ExecEnv {
    ExecEnv { user: std::ptr::from_mut(targets).cast(), ..ExecEnv::new() }
}

fn vms(texts: &[&str]) -> Vec<Vm> {
    // SAFETY: `target` gives what `as_tail_target` gave, for programs that live as long as the run.
    let tail_target = Some(unsafe { TailTarget::new(target) });
    let links = Links { tail_target, ..Links::default() };
    programs(texts).iter().map(|program| Vm::new(program, None, &links).unwrap()).collect()
}

fn place(texts: &[&str], options: &Options) -> Vec<Placed> {
    let pack = Pack::new(PackOptions::default()).unwrap();
    let resolve =
        |symbol| (symbol == jit::TAIL_CALL_TARGET).then_some(target as *const () as usize as u64);
    let place = |program: &Program| {
        let image = jit::compile(program, None, options).unwrap();
        pack.place(&image, &resolve as &dyn Fn(Symbol) -> Option<u64>).unwrap()
    };
    programs(texts).iter().map(place).collect()
}

/// Runs the first program; it may tail-call all of them, by their place. Gives `r0`, and the eight
/// bytes that `r1` points to.
fn interpreted(texts: &[&str]) -> (u64, u64) {
    let vms = vms(texts);
    let mut targets: Targets = vms.iter().map(Vm::as_tail_target).collect();
    let mut memory = 0_u64;
    // SAFETY: the programs below touch nothing but the eight bytes at `r1` and their stack.
    let r0 = unsafe { vms[0].run_unchecked((&raw mut memory).cast(), &mut env(&mut targets)) };
    (r0.unwrap(), memory)
}

/// As [`interpreted`], compiled.
fn compiled(texts: &[&str], options: &Options) -> (u64, u64) {
    let placed = place(texts, options);
    let mut targets: Targets = placed.iter().map(|code| code.entry(0).unwrap().address()).collect();
    let mut memory = 0_u64;
    // SAFETY: this is the entry of compiled code, which `placed` keeps.
    let entry: EntryFn = unsafe { std::mem::transmute(placed[0].entry_ptr()) };
    // SAFETY: as for the interpreter.
    let r0 = unsafe { entry((&raw mut memory).cast(), &mut env(&mut targets)) };
    (r0, memory)
}

/// All engines, and both forms of compiled tail calls: a jump, and a call in place where the run may
/// be ended by a helper.
#[track_caller]
fn expect(texts: &[&str], r0: u64, memory: u64) {
    assert_eq!(interpreted(texts), (r0, memory), "interpreted");
    assert_eq!(compiled(texts, &Options::default()), (r0, memory), "compiled");
    let ending = Options::default().with_ending_helpers([HelperId(5)]);
    assert_eq!(compiled(texts, &ending), (r0, memory), "compiled, may be ended");
}

const CALL_1: &str = "r2 = 7\nr3 = 1\ncall bpf_tail_call#12\nr0 = 111\nexit";

#[test]
fn the_target_takes_the_place_of_the_program() {
    let target = "r2 = 5\n*(u64 *)(r1 +0) = r2\nr0 = 42\nexit";
    expect(&[CALL_1, target], 42, 5);
}

#[test]
fn without_target_the_program_goes_on() {
    expect(&[CALL_1], 111, 0);
    let high_bits = "r2 = 7\nr3 = 0x100000001 ll\ncall bpf_tail_call#12\nr0 = 111\nexit";
    expect(&[high_bits, "r0 = 1\nexit"], 1, 0);
}

#[test]
fn a_chain_ends_at_the_limit() {
    let count = "r2 = *(u64 *)(r1 +0)\nr2 += 1\n*(u64 *)(r1 +0) = r2\n\
                 r2 = 7\nr3 = 0\ncall bpf_tail_call#12\nr0 = 3\nexit";
    expect(&[count], 3, u64::from(MAX_TAIL_CALLS) + 1);
}

#[test]
fn the_target_of_a_subprogram_returns_to_its_caller() {
    let main = "r6 = 1\nr7 = 2\nr8 = 3\nr9 = 4\ncall sub\n\
                r0 += r6\nr0 += r7\nr0 += r8\nr0 += r9\nexit\n\
                sub:\n*(u64 *)(r10 -8) = 9\nr2 = 7\nr3 = 1\ncall bpf_tail_call#12\nr0 = 111\nexit";
    let target = "r6 = 0\nr7 = 0\nr8 = 0\nr9 = 0\n*(u64 *)(r10 -256) = 1\nr0 = 100\nexit";
    expect(&[main, target], 110, 0);
}

#[test]
fn the_stack_does_not_grow_with_the_chain() {
    // Each program writes its whole frame; 33 frames of 512 bytes would be more than the
    // interpreter has.
    let deep = "*(u64 *)(r10 -512) = 1\n*(u64 *)(r10 -8) = 2\nr2 = 7\nr3 = 0\n\
                call bpf_tail_call#12\nr0 = *(u64 *)(r10 -8)\nexit";
    expect(&[deep], 2, 0);
}

/// What can be seen of a run of unverified programs.
#[derive(Debug, PartialEq)]
struct Seen {
    end: Result<u64, Trap>,
    memory: u64,
    charged: i64,
    tail_calls: u32,
}

/// Runs the first program with checked memory, by `run`, on a context of eight bytes, with so much fuel.
fn seen(
    targets: &mut Targets,
    fuel: i64,
    run: impl FnOnce(u64, &Memory<'_>, &mut ExecEnv) -> Result<u64, Trap>,
) -> Seen {
    let (mut bytes, mut env) = ([0; 8], env(targets));
    *env.fuel.get_mut() = fuel;
    let mut memory = Memory::new();
    let ctx = memory.add_mut(&mut bytes);
    let end = run(ctx, &memory, &mut env);
    assert_eq!((env.depth, env.in_place, env.unwind), (0, 0, 0), "as before the run");
    let charged = fuel - *env.fuel.get_mut();
    Seen { end, memory: u64::from_ne_bytes(bytes), charged, tail_calls: env.tail_calls }
}

fn interpreted_checked(texts: &[&str], fuel: i64) -> Seen {
    let vms = vms(texts);
    let mut targets: Targets = vms.iter().map(Vm::as_tail_target).collect();
    seen(&mut targets, fuel, |ctx, memory, env| vms[0].run(ctx, memory, env))
}

fn compiled_checked(texts: &[&str], options: &Options, fuel: i64) -> Seen {
    let placed = place(texts, options);
    let mut targets: Targets = placed.iter().map(|code| code.entry(0).unwrap().address()).collect();
    // SAFETY: this is the entry of compiled code, which `placed` keeps.
    let entry: EntryFn = unsafe { std::mem::transmute(placed[0].entry_ptr()) };
    seen(&mut targets, fuel, |ctx, memory, env| {
        env.regions = memory.regions().as_ptr();
        env.region_count = memory.regions().len() as u64;
        // SAFETY: the code checks each access against these regions, and its only native function
        // takes any arguments.
        let r0 = unsafe { entry(std::ptr::with_exposed_provenance_mut(ctx as usize), env) };
        env.trap.trap().map_or(Ok(r0), Err)
    })
}

/// Unverified, on the checked interpreter and compiled with every combination of options: the same
/// end, at the same instruction, for the same fuel.
#[track_caller]
fn expect_checked(texts: &[&str], fuel: i64, end: Result<u64, (TrapKind, Pc)>, tail_calls: u32) {
    let wanted = interpreted_checked(texts, fuel);
    assert_eq!(wanted.end.map_err(|trap| (trap.kind, trap.pc)), end, "interpreted");
    assert_eq!(wanted.tail_calls, tail_calls);
    for fuelled in [false, true] {
        for frame_pointers in [false, true] {
            for blinding in [None, Some([1, 2])] {
                let mut options = Options::default().with_memory(MemoryMode::Checked);
                (options.fuel, options.frame_pointers) = (fuelled, frame_pointers);
                options.blinding = blinding;
                let out_of_fuel = matches!(end, Err((TrapKind::OutOfFuel, _)));
                if out_of_fuel && !fuelled {
                    continue;
                }
                let mut seen = compiled_checked(texts, &options, fuel);
                if !fuelled {
                    assert_eq!(seen.charged, 0);
                    seen.charged = wanted.charged;
                }
                assert_eq!(
                    (seen.end.map_err(|trap| (trap.kind, trap.pc)), seen.memory),
                    (end, wanted.memory),
                    "{options:?}"
                );
                assert_eq!(
                    (seen.charged, seen.tail_calls),
                    (wanted.charged, wanted.tail_calls),
                    "{options:?}"
                );
            }
        }
    }
}

const PLENTY: i64 = 1_000_000;

#[test]
fn checked_a_chain_ends_at_the_limit() {
    let count = "r2 = *(u64 *)(r1 +0)\nr2 += 1\n*(u64 *)(r1 +0) = r2\n\
                 r2 = 7\nr3 = 0\ncall bpf_tail_call#12\nr0 = *(u64 *)(r1 +0)\nexit";
    expect_checked(&[count], PLENTY, Ok(34), MAX_TAIL_CALLS);
    // Of all frames together.
    let main = "r6 = r1\ncall sub\nr1 = r6\ncall sub\nr0 = *(u64 *)(r6 +0)\nexit\n\
                sub:\nr2 = 7\nr3 = 1\ncall bpf_tail_call#12\nexit";
    let chain = "r2 = *(u64 *)(r1 +0)\nr2 += 1\n*(u64 *)(r1 +0) = r2\n\
                 r2 = 7\nr3 = 1\ncall bpf_tail_call#12\nr0 = 0\nexit";
    expect_checked(&[main, chain], PLENTY, Ok(33), MAX_TAIL_CALLS);
}

#[test]
fn checked_a_trap_in_the_target_is_at_its_instruction() {
    let (outside, write_code) = (
        "r0 = 0\nr0 = *(u8 *)(r1 +8)\nexit",
        "r2 = 0\nr3 = 0\nr4 = 0\n\
                                  *(u32 *)(r2 +0) = 1\nexit",
    );
    expect_checked(&[CALL_1, outside], PLENTY, Err((TrapKind::OutOfBounds, Pc(1))), 1);
    expect_checked(&[CALL_1, write_code], PLENTY, Err((TrapKind::OutOfBounds, Pc(3))), 1);
    let misaligned = "r2 = 1\nr0 = 0\nr0 = 0\nr0 = 0\nr0 = 0\nr0 = 0\n\
                      lock *(u32 *)(r1 +2) += r2\nexit";
    expect_checked(&[CALL_1, misaligned], PLENTY, Err((TrapKind::Misaligned, Pc(6))), 1);
}

/// A subprogram's target ends the run, not only the subprogram.
#[test]
fn checked_a_trap_in_a_subprograms_target_ends_the_run() {
    let main = "r6 = r1\ncall sub\n*(u64 *)(r6 +0) = 5\nr0 = 1\nexit\n\
                sub:\nr2 = 7\nr3 = 1\ncall bpf_tail_call#12\nexit";
    let target = "r0 = 0\ncall deeper\nexit\ndeeper:\nr0 = *(u8 *)(r10 +2000)\nexit";
    expect_checked(&[main, target], PLENTY, Err((TrapKind::OutOfBounds, Pc(3))), 1);
    let returns = "r0 = 0\n*(u64 *)(r10 -512) = 3\nexit";
    expect_checked(&[main, returns], PLENTY, Ok(1), 1);
}

/// The target makes no frame: at the eighth one it still runs, and a call of its does not.
#[test]
fn checked_a_target_takes_the_frame_of_its_caller() {
    let main = "r1 = 7\ncall f\nexit\n\
                f:\nif r1 == 1 goto tail\nr1 += -1\ncall f\nexit\n\
                tail:\nr2 = 7\nr3 = 1\ncall bpf_tail_call#12\nr0 = 7\nexit";
    expect_checked(&[main, "*(u64 *)(r10 -8) = 1\nr0 = 5\nexit"], PLENTY, Ok(5), 1);
    let calls = "r0 = 0\ncall f\nexit\nf:\nexit";
    expect_checked(&[main, calls], PLENTY, Err((TrapKind::CallDepth, Pc(1))), 1);
}

/// A target finds its context, and zeros.
#[test]
fn checked_a_target_finds_nothing_of_its_caller() {
    let main = "r0 = 1\nr4 = 2\nr5 = 3\nr6 = 4\nr7 = 5\nr8 = 6\nr9 = 7\n*(u64 *)(r10 -8) = 9\n\
                r2 = 7\nr3 = 1\ncall bpf_tail_call#12\nexit";
    let target = "r0 |= r2\nr0 |= r3\nr0 |= r4\nr0 |= r5\nr0 |= r6\nr0 |= r7\nr0 |= r8\nr0 |= r9\n\
                  r2 = *(u64 *)(r10 -8)\nr0 |= r2\nexit";
    expect_checked(&[main, target], PLENTY, Ok(0), 1);
}

/// What the caller used is charged with what the target uses, and either can run out.
#[test]
fn checked_fuel_goes_on_in_the_target() {
    let main = "r6 = 5\nloop:\nr6 -= 1\nif r6 != 0 goto loop\nr2 = 7\nr3 = 1\n\
                call bpf_tail_call#12\nexit";
    let target = "r6 = 9\nloop:\nr6 -= 1\nif r6 != 0 goto loop\nr0 = 3\nexit";
    let used = 1 + 5 * 2 + 3 + 1 + 9 * 2 + 2;
    assert_eq!(interpreted_checked(&[main, target], PLENTY).charged, used);
    expect_checked(&[main, target], PLENTY, Ok(3), 1);
    // At the second jump back of the caller, and at the third one of the target.
    expect_checked(&[main, target], 4, Err((TrapKind::OutOfFuel, Pc(2))), 0);
    expect_checked(&[main, target], 1 + 5 * 2 + 3 + 1 + 5, Err((TrapKind::OutOfFuel, Pc(2))), 1);
    for fuel in 0..used + 3 {
        let end = interpreted_checked(&[main, target], fuel);
        let tail_calls = end.tail_calls;
        expect_checked(
            &[main, target],
            fuel,
            end.end.map_err(|trap| (trap.kind, trap.pc)),
            tail_calls,
        );
    }
    // An endless chain has no jump back, and ends by the limit of tail calls.
    let chain = "r2 = 7\nr3 = 0\ncall bpf_tail_call#12\nr0 = 3\nexit";
    expect_checked(&[chain], 0, Ok(3), MAX_TAIL_CALLS);
}
