//! Whether the threaded dispatcher does what it was built for.

use core::sync::atomic::{AtomicU8, Ordering};

use ebpf_isa::abi::ExecEnv;
use ebpf_isa::text::assemble;
use ebpf_isa::uapi::HelperId;

use super::{Dispatcher, threaded};
use crate::link::{Helpers, Links};
use crate::memory::Memory;
use crate::vm::{Options, Vm};

/// Nobody has looked yet.
const UNKNOWN: u8 = 0;
const WORKS: u8 = 1;
const GROWS: u8 = 2;

static FOUND: AtomicU8 = AtomicU8::new(UNKNOWN);

/// Whether handlers jump to one another: looked at once in each process.
pub(super) fn is_threaded() -> bool {
    if !threaded::BUILT {
        return false;
    }
    match FOUND.load(Ordering::Relaxed) {
        UNKNOWN => {
            let works = stack_growth() < MAX_GROWTH;
            FOUND.store(if works { WORKS } else { GROWS }, Ordering::Relaxed);
            works
        }
        found => found == WORKS,
    }
}

/// Handlers that return need at least their return address each: 80,000 bytes.
const MAX_GROWTH: usize = 8 * 1024;

/// By how many bytes the stack grows in 10,000 operations.
fn stack_growth() -> usize {
    stack_at_end(1).abs_diff(stack_at_end(1112)) as usize
}

/// A helper that gives an address on the host's stack.
unsafe extern "sysv64" fn stack(_: u64, _: u64, _: u64, _: u64, _: u64, _: *mut ExecEnv) -> u64 {
    let here = 0_u8;
    (&raw const here).addr() as u64
}

/// Where the stack ends after some rounds of nine operations of the most common kinds.
#[inline(never)]
fn stack_at_end(rounds: u32) -> u64 {
    let program = assemble(&alloc::format!(
        "r0 = {rounds}
         r1 = r10
         *(u64 *)(r10 -8) = 1
         r3 = *(u64 *)(r10 -8)
         r2 ^= r3
         *(u32 *)(r1 -16) = r2
         r2 <<= 1
         r4 = r2
         r0 += -1
         if r0 != 0 goto -8
         call 1
         exit"
    ))
    .expect("the text is right");
    let options =
        Options { dispatcher: Some(Dispatcher::Threaded), fuse: false, ..Options::default() };
    let mut helpers = Helpers::new();
    // SAFETY: the function is sound for any arguments.
    unsafe { helpers.register(HelperId(1), stack) };
    let links = Links { helpers, ..Links::default() };
    let vm = Vm::with_options(&program, None, &links, &options).expect("the helper is there");
    vm.run(0, &Memory::new(), &mut ExecEnv::new()).expect("the program ends")
}
