//! Dispatching takes no stack, however long a program runs.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ebpf_interp::{Dispatcher, Links, Memory, Options, Vm};
use ebpf_isa::abi::ExecEnv;
use ebpf_isa::text::assemble;

/// Rust wants some for itself.
const STACK: usize = 128 * 1024;

/// Calls, memory, branches: eleven instructions a round.
const PROGRAM: &str = "r6 = ROUNDS ll
    r0 = 0
    again:
    r1 = r6
    *(u64 *)(r10 -8) = r1
    call f
    r2 = *(u64 *)(r10 -8)
    r0 ^= r2
    r6 += -1
    if r6 != 0 goto again
    exit
    f:
    r3 = r1
    r3 <<= 3
    r0 += r3
    exit";

fn run(dispatcher: Dispatcher, rounds: u64) {
    let program = assemble(&PROGRAM.replace("ROUNDS", &rounds.to_string())).unwrap();
    let mut options = Options::default();
    options.dispatcher = Some(dispatcher);
    let vm = Vm::with_options(&program, None, &Links::default(), &options).unwrap();
    let mut env = ExecEnv::new();
    vm.run(0, &Memory::new(), &mut env).unwrap();
    // SAFETY: the program touches its stack only.
    unsafe { vm.run_unchecked(std::ptr::null_mut(), &mut env) }.unwrap();
    assert_eq!(i64::MAX - *env.fuel.get_mut(), 2 * (3 + 11 * rounds as i64));
}

#[test]
fn a_hundred_million_instructions_on_a_small_stack() {
    let threaded = Vm::new(&assemble("exit").unwrap(), None, &Links::default()).unwrap();
    let (dispatcher, rounds) = match threaded.dispatcher() {
        Dispatcher::Threaded => (Dispatcher::Threaded, 4_600_000),
        Dispatcher::Loop => (Dispatcher::Loop, if cfg!(miri) { 10 } else { 10_000 }),
    };
    let thread = std::thread::Builder::new().stack_size(STACK);
    thread.spawn(move || run(dispatcher, rounds)).unwrap().join().unwrap();
}
