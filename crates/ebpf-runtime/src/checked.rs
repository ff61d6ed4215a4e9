//! Compiled programs that nobody verified: the checker that their code calls, and the call of the
//! code itself.

#![allow(unsafe_code, reason = "the call into checked code, and the checker that it calls")]

use ebpf_interp::Memory;
use ebpf_isa::Pc;
use ebpf_isa::abi::{
    ACCESS_ATOMIC, ACCESS_WRITE, EntryFn, ExecEnv, Region, Trap, TrapKind, TrapRecord,
};
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
    env.check = Some(check);
    // SAFETY: the entry is compiled code with this signature, which `placed` keeps in memory.
    let entry: EntryFn = unsafe { core::mem::transmute(placed.entry_ptr()) };
    // SAFETY: the code asks `check` before each access, which lets it touch its stack and the
    // regions that `memory` borrows; it counts its frames and charges fuel.
    let result = unsafe { entry(core::ptr::with_exposed_provenance_mut(ctx as usize), env) };
    env.regions = core::ptr::null();
    env.region_count = 0;
    env.check = None;
    env.trap.trap().map_or(Ok(result), Err)
}

/// The checker of compiled programs: a [`CheckFn`](ebpf_isa::abi::CheckFn).
///
/// # Safety
/// `env` is the environment of a run, and nobody else uses it meanwhile; it has as many regions as it
/// says.
unsafe extern "sysv64" fn check(
    addr: u64,
    len: u64,
    access: u64,
    pc: u64,
    env: *mut ExecEnv,
) -> u64 {
    // SAFETY: promised by the caller.
    let env = unsafe { &mut *env };
    let regions = match env.region_count {
        0 => &[],
        // SAFETY: promised by the caller.
        count => unsafe { core::slice::from_raw_parts(env.regions, count as usize) },
    };
    let low = env.stack_low;
    let stack = Region { base: low, len: env.stack_high.saturating_sub(low), writable: 1 };
    match judge(addr, len, access, core::iter::once(&stack).chain(regions)) {
        Ok(()) => 0,
        Err(kind) => {
            env.trap = TrapRecord::from(Trap { kind, pc: Pc(pc as u32), addr });
            1
        }
    }
}

/// Whether one of `regions` allows the access: the rules of the checked interpreter.
fn judge<'a>(
    addr: u64,
    len: u64,
    access: u64,
    mut regions: impl Iterator<Item = &'a Region>,
) -> Result<(), TrapKind> {
    let region = regions.find(|region| holds(region, addr, len)).ok_or(TrapKind::OutOfBounds)?;
    if access & ACCESS_WRITE != 0 && region.writable == 0 {
        return Err(TrapKind::ReadOnly);
    }
    if access & ACCESS_ATOMIC != 0 && !addr.is_multiple_of(len) {
        return Err(TrapKind::Misaligned);
    }
    Ok(())
}

/// Whether `region` has all `len` bytes at `addr`; nothing here can wrap.
fn holds(region: &Region, addr: u64, len: u64) -> bool {
    match addr.checked_sub(region.base) {
        Some(offset) => offset <= region.len && region.len - offset >= len,
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: u64 = 0;
    const WRITE: u64 = ACCESS_WRITE;
    const ATOMIC: u64 = ACCESS_ATOMIC;
    const OUTSIDE: Result<(), TrapKind> = Err(TrapKind::OutOfBounds);

    /// Judges by a region from 0x1001 to 0x1011 that may be written, one from 0x2000 to 0x2008 that
    /// may not, and the last 8 bytes there are.
    fn judged(addr: u64, len: u64, access: u64) -> Result<(), TrapKind> {
        let regions = [(0x1001, 16, 1), (0x2000, 8, 0), (u64::MAX - 7, 8, 1)]
            .map(|(base, len, writable)| Region { base, len, writable });
        judge(addr, len, access, regions.iter())
    }

    #[test]
    fn an_access_lies_in_one_region() {
        assert_eq!(judged(0x1001, 8, WRITE), Ok(()));
        assert_eq!(judged(0x1009, 8, WRITE), Ok(()));
        assert_eq!(judged(0x1000, 8, READ), OUTSIDE);
        assert_eq!(judged(0x100a, 8, READ), OUTSIDE);
        assert_eq!(judged(0x1010, 1, READ), Ok(()));
        assert_eq!(judged(0x1011, 1, READ), OUTSIDE);
        assert_eq!(judged(0, 1, READ), OUTSIDE);
    }

    #[test]
    fn an_access_does_not_wrap_around() {
        assert_eq!(judged(u64::MAX, 1, READ), Ok(()));
        assert_eq!(judged(u64::MAX, 2, READ), OUTSIDE);
        assert_eq!(judged(u64::MAX - 7, 8, READ), Ok(()));
        assert_eq!(judged(u64::MAX - 6, 8, READ), OUTSIDE);
    }

    #[test]
    fn what_may_only_be_read_is_not_written() {
        assert_eq!(judged(0x2000, 8, READ), Ok(()));
        assert_eq!(judged(0x2000, 8, WRITE), Err(TrapKind::ReadOnly));
        assert_eq!(judged(0x2004, 8, WRITE), OUTSIDE);
        assert_eq!(judged(0x2001, 4, WRITE | ATOMIC), Err(TrapKind::ReadOnly));
    }

    #[test]
    fn atomic_accesses_are_aligned() {
        assert_eq!(judged(0x2001, 4, READ), Ok(()));
        assert_eq!(judged(0x2001, 4, ATOMIC), Err(TrapKind::Misaligned));
        assert_eq!(judged(0x2004, 4, ATOMIC), Ok(()));
        assert_eq!(judged(0x1001, 1, WRITE | ATOMIC), Ok(()));
        assert_eq!(judged(0x1004, 8, WRITE | ATOMIC), Err(TrapKind::Misaligned));
        assert_eq!(judged(0x1008, 8, WRITE | ATOMIC), Ok(()));
    }
}
