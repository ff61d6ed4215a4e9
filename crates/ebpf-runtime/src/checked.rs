//! Compiled programs that nobody verified: the call of code that checks itself.

#![allow(unsafe_code, reason = "the call into checked code")]

use ebpf_interp::Memory;
use ebpf_isa::abi::{EntryFn, ExecEnv, Trap};
use ebpf_pack::Placed;

/// Runs compiled code on `memory`, with `ctx` in `r1`. Gives `r0`.
///
/// # Errors
/// The trap that ended the run.
///
/// # Safety
/// `placed` is code that was compiled with checked memory, and its symbols are native functions that
/// are sound for all arguments.
pub(crate) unsafe fn run(
    placed: &Placed,
    ctx: u64,
    memory: &Memory<'_>,
    env: &mut ExecEnv,
) -> Result<u64, Trap> {
    env.regions = memory.regions().as_ptr();
    env.region_count = memory.regions().len() as u64;
    // SAFETY: the entry is compiled code with this signature, which `placed` keeps in memory.
    let entry: EntryFn = unsafe { core::mem::transmute(placed.entry_ptr()) };
    // SAFETY: the code checks each access, which lets it touch its stack and the regions that
    // `memory` borrows; it counts its frames and charges fuel.
    let result = unsafe { entry(core::ptr::with_exposed_provenance_mut(ctx as usize), env) };
    env.regions = core::ptr::null();
    env.region_count = 0;
    env.trap.trap().map_or(Ok(result), Err)
}
