//! Tail calls, on the interpreter and compiled: the same programs, the same ends.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ebpf_runtime::image::Symbol;
use ebpf_runtime::interp::{Links, TailTarget, Vm};
use ebpf_runtime::isa::Program;
use ebpf_runtime::isa::abi::{EntryFn, ExecEnv, MAX_TAIL_CALLS};
use ebpf_runtime::isa::text::assemble;
use ebpf_runtime::isa::uapi::HelperId;
use ebpf_runtime::jit::{self, Options};
use ebpf_runtime::pack::{Pack, PackOptions};

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

/// Runs the first program; it may tail-call all of them, by their place. Gives `r0`, and the eight
/// bytes that `r1` points to.
fn interpreted(texts: &[&str]) -> (u64, u64) {
    // SAFETY: `target` gives what `as_tail_target` gave, for programs that live as long as the run.
    let tail_target = Some(unsafe { TailTarget::new(target) });
    let links = Links { tail_target, ..Links::default() };
    let vms: Vec<Vm> =
        programs(texts).iter().map(|program| Vm::new(program, None, &links).unwrap()).collect();
    let mut targets: Targets = vms.iter().map(Vm::as_tail_target).collect();
    let mut memory = 0_u64;
    // SAFETY: the programs below touch nothing but the eight bytes at `r1` and their stack.
    let r0 = unsafe { vms[0].run_unchecked((&raw mut memory).cast(), &mut env(&mut targets)) };
    (r0.unwrap(), memory)
}

/// As [`interpreted`], compiled.
fn compiled(texts: &[&str], options: &Options) -> (u64, u64) {
    let pack = Pack::new(PackOptions::default()).unwrap();
    let resolve =
        |symbol| (symbol == jit::TAIL_CALL_TARGET).then_some(target as *const () as usize as u64);
    let place = |program: &Program| {
        let image = jit::compile(program, None, options).unwrap();
        pack.place(&image, &resolve as &dyn Fn(Symbol) -> Option<u64>).unwrap()
    };
    let placed: Vec<_> = programs(texts).iter().map(place).collect();
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
