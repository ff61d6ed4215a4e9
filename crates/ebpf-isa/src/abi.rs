//! How a program meets its host, on every engine. `docs/abi.md` tells the story; the offsets there
//! are tested here.

use alloc::sync::Arc;
use core::ffi::c_void;
use core::fmt;
use core::sync::atomic::{AtomicI64, Ordering};

use crate::Pc;

/// Bytes of stack that one frame may use.
pub const STACK_SIZE: usize = 512;
/// Bytes of stack that a rewriter may use in a frame for itself: the context for an epilogue, and what the
/// loops need that it puts in the place of helpers which call back.
pub const REWRITER_STACK: usize = 8 + 40;
/// Bytes of stack that one frame may take: what a program may use, and what a rewriter may.
pub const FRAME_SIZE: usize = STACK_SIZE + REWRITER_STACK;
/// Frames of one program run, the main program's included.
pub const MAX_CALL_DEPTH: usize = 8;
/// Tail calls of one program run.
pub const MAX_TAIL_CALLS: u32 = 33;
/// How many instructions compiled code with fuel runs, at most, before it looks at whether its fuel was
/// taken away or its run stopped by another thread. (What it was given at the start is exact.)
pub const MAX_ALLOWANCE: i64 = 1 << 14;
/// How often the `may_goto` instructions of one program run fall through before they jump.
pub const MAX_MAY_GOTO: u64 = 8 << 20;

/// What the address of a subprogram is where programs have no machine code: that of its first byte,
/// if the program's bytes were at 4 GiB.
const BYTECODE: u64 = 1 << 32;

/// Bytes of a slot.
const SLOT: u64 = 8;

/// The address of the subprogram that starts at `pc`, in the interpreter.
#[must_use]
pub fn subprog_address(pc: Pc) -> u64 {
    BYTECODE + SLOT * u64::from(pc.0)
}

/// The slot whose address this would be, if it were that of a subprogram.
#[must_use]
pub fn subprog_at(address: u64) -> Option<Pc> {
    let offset = address.checked_sub(BYTECODE)?;
    let slot = offset.is_multiple_of(SLOT).then_some(offset / SLOT)?;
    u32::try_from(slot).ok().map(Pc)
}

/// A native function that programs call: five arguments and the environment of the run.
///
/// Calling one is unsafe: its prototype, which a verifier checked calls against, is a promise.
pub type HelperFn = unsafe extern "sysv64" fn(u64, u64, u64, u64, u64, *mut ExecEnv) -> u64;

/// How far a walk over the elements of a map is. The walk is a native function's, which gets the map and
/// the address of this, and gives the address of the next element's value, or 0 behind the last one. All is
/// 0 at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct ElementCursor {
    /// Where the walk goes on: for the native function alone, which may keep a key here.
    pub position: u64,
    /// Elements that were given.
    pub count: u64,
    /// The address of the key of the element that was given last.
    pub key: u64,
}

/// Compiled code of a program: context and environment in, `r0` out.
pub type EntryFn = unsafe extern "sysv64" fn(*mut u8, *mut ExecEnv) -> u64;

/// Why a run ended early. The numbers are what machine code writes into [`TrapRecord::kind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum TrapKind {
    /// An access outside of every region, or across the end of one.
    OutOfBounds = 1,
    /// A write to a region that is read-only.
    ReadOnly = 2,
    /// An atomic access to an address that is not a multiple of its size.
    Misaligned = 3,
    /// More than [`MAX_CALL_DEPTH`] frames.
    CallDepth = 4,
    /// The fuel is used up.
    OutOfFuel = 5,
    /// A helper failed: it panicked, or refused its arguments.
    Helper = 6,
    /// A call through a register that holds no address of a subprogram.
    BadCallee = 7,
}

impl TrapKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::OutOfBounds,
        Self::ReadOnly,
        Self::Misaligned,
        Self::CallDepth,
        Self::OutOfFuel,
        Self::Helper,
        Self::BadCallee,
    ];

    /// The kind with this number; `None` for 0, which means that nothing happened.
    #[inline]
    #[must_use]
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|&kind| kind as u32 == code)
    }

    /// What happened, in words.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::OutOfBounds => "memory access out of bounds",
            Self::ReadOnly => "write to read-only memory",
            Self::Misaligned => "misaligned atomic access",
            Self::CallDepth => "call stack too deep",
            Self::OutOfFuel => "out of fuel",
            Self::Helper => "helper failed",
            Self::BadCallee => "call of what is no subprogram",
        }
    }
}

/// An early end of a run: equal on every engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Trap {
    /// Why.
    pub kind: TrapKind,
    /// The instruction.
    pub pc: Pc,
    /// The address of a memory access, or what was called; otherwise 0.
    pub addr: u64,
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "insn {}: {}", self.pc, self.kind.describe())?;
        match self.kind {
            TrapKind::OutOfBounds
            | TrapKind::ReadOnly
            | TrapKind::Misaligned
            | TrapKind::BadCallee => {
                write!(f, " at address {:#x}", self.addr)
            }
            _ => Ok(()),
        }
    }
}

impl core::error::Error for Trap {}

/// Where engines and helpers note a trap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct TrapRecord {
    /// A [`TrapKind`] as a number, or 0.
    pub kind: u32,
    /// Position of the instruction.
    pub pc: u32,
    /// Address of a memory access, or what was called.
    pub addr: u64,
}

impl TrapRecord {
    /// The trap that is noted, if one is.
    #[inline]
    #[must_use]
    pub fn trap(self) -> Option<Trap> {
        if self.kind == 0 {
            return None;
        }
        let kind = TrapKind::from_code(self.kind)?;
        Some(Trap { kind, pc: Pc(self.pc), addr: self.addr })
    }
}

impl From<Trap> for TrapRecord {
    fn from(trap: Trap) -> Self {
        Self { kind: trap.kind as u32, pc: trap.pc.0, addr: trap.addr }
    }
}

/// Memory that a checked program may touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Region {
    /// Address of the first byte.
    pub base: u64,
    /// Number of bytes.
    pub len: u64,
    /// 1 if the program may write, otherwise 0.
    pub writable: u64,
}

/// A region that compiled code with checked memory hit lately, so that the next access to it costs
/// two comparisons. The engine's own: it is empty at the entry and at the end of such code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Window {
    /// Address of the region's first byte.
    pub base: u64,
    /// How many addresses from `base` on accesses of 1, 2, 4 and 8 bytes may start at.
    pub starts: [u64; 4],
}

/// The environment of one run: engines read and write it, helpers get it as their sixth argument.
#[derive(Debug)]
#[repr(C)]
pub struct ExecEnv {
    /// Instructions that may still be charged. An engine may take what a run used at its end only.
    pub fuel: AtomicI64,
    /// Tail calls made so far.
    pub tail_calls: u32,
    /// Which slot of per-CPU maps belongs to this run.
    pub cpu_slot: u32,
    /// Set where the run ends early.
    pub trap: TrapRecord,
    /// What a checked program may touch besides its stack.
    pub regions: *const Region,
    /// Number of regions.
    pub region_count: u64,
    /// The host's own data, for its helpers.
    pub user: *mut c_void,
    /// The packet that packet loads read.
    pub packet: *const u8,
    /// Number of bytes of the packet.
    pub packet_len: u64,
    /// How often `may_goto` may still fall through.
    pub may_goto: u64,
    /// Frames there are now; the engine's own.
    pub depth: u32,
    /// 1 while a tail call enters its target on the stack that is there; the engine's own.
    pub in_place: u32,
    /// Stack pointer that a trap in compiled code returns to; the engine's own.
    pub unwind: u64,
    /// Set to 1 by a helper that ends the program with the value it returns.
    pub ended: u64,
    /// Lowest address of the stack that a compiled program with checked memory may touch now.
    pub stack_low: u64,
    /// One past the highest: the frame pointer of the main program.
    pub stack_high: u64,
    /// How many instructions a compiled program may run before it looks at the fuel again, while it
    /// is in a native function; below 0 if it ran more. The engine's own.
    pub allowance: i64,
    /// How many addresses from `stack_low` on accesses of 8 bytes may start at: checked memory's
    /// quick look at the stack. The engine's own.
    pub stack_room: u64,
    /// The region that a compiled program with checked memory read lately.
    pub readable: Window,
    /// The region that it wrote lately.
    pub writable: Window,
    /// By which other threads stop runs.
    pub stopper: Option<Stopper>,
    /// What all allowances of a compiled run come to: that, less what is left of the last one, was
    /// run so far. The engine's own.
    pub allowed: i64,
    /// What compiled code looks at to see whether it was stopped: the stopper's cell, or null.
    /// [`Self::start_run`] sets it.
    pub stop_cell: *const AtomicI64,
}

/// Stops runs from another thread: see [`ExecEnv::stopper`].
#[derive(Debug, Clone)]
pub struct Stopper(Arc<AtomicI64>);

/// What a [`Stopper`] holds while it stops everything.
const STOPPED: i64 = i64::MIN;

impl Stopper {
    /// Ends the run that goes on with the environment, as if its fuel were used up, at its next
    /// backward jump, call or return, in compiled code at the first one after at most
    /// [`MAX_ALLOWANCE`] more instructions; and those that begin later, likewise, until
    /// [`Self::allow`].
    pub fn stop(&self) {
        self.0.store(STOPPED, Ordering::Relaxed);
    }

    /// Lets runs begin, or be resumed, again. A run that has not noticed yet that it was stopped may
    /// go on.
    pub fn allow(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Whether runs are stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed) == STOPPED
    }

    /// Holds `fuel` from now on, if nobody stops runs.
    fn lend(&self, fuel: i64) {
        let lend = |held| (held != STOPPED).then_some(fuel);
        // Nothing changes where runs are stopped.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, lend);
    }
}

impl ExecEnv {
    /// An environment without regions and host data, and with all the fuel there can be.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            fuel: AtomicI64::new(i64::MAX),
            tail_calls: 0,
            cpu_slot: 0,
            trap: TrapRecord { kind: 0, pc: 0, addr: 0 },
            regions: core::ptr::null(),
            region_count: 0,
            user: core::ptr::null_mut(),
            packet: core::ptr::null(),
            packet_len: 0,
            may_goto: MAX_MAY_GOTO,
            stack_room: 0,
            unwind: 0,
            ended: 0,
            stack_low: 0,
            stack_high: 0,
            allowance: 0,
            depth: 0,
            in_place: 0,
            readable: Window { base: 0, starts: [0; 4] },
            writable: Window { base: 0, starts: [0; 4] },
            stopper: None,
            allowed: 0,
            stop_cell: core::ptr::null(),
        }
    }

    /// What stops runs with this environment from another thread, while they borrow it. Every call
    /// gives a handle to the same.
    pub fn stopper(&mut self) -> Stopper {
        self.stopper.get_or_insert_with(|| Stopper(Arc::new(AtomicI64::new(0)))).clone()
    }

    /// For engines: where the fuel of a run that begins now is, as long as the environment is not
    /// moved. A run is out of fuel when what it has to pay is more than what it finds there.
    #[inline]
    #[must_use]
    pub fn fuel_cell(&self) -> *const AtomicI64 {
        match &self.stopper {
            None => &raw const self.fuel,
            Some(stopper) => {
                stopper.lend(self.fuel.load(Ordering::Relaxed));
                Arc::as_ptr(&stopper.0)
            }
        }
    }

    /// For engines: takes `instructions` from the fuel, which may fall below 0.
    #[inline]
    pub fn charge(&mut self, instructions: i64) {
        let fuel = self.fuel.get_mut();
        *fuel = fuel.saturating_sub(instructions);
    }

    /// Forgets the last run: its trap, its tail calls, its `may_goto` budget. Fuel, packet and host
    /// data stay. From here on compiled code knows of the [stopper](Self::stopper), if there is one.
    #[inline]
    pub fn start_run(&mut self) {
        self.stop_cell = self.stopper.as_ref().map_or(core::ptr::null(), |it| Arc::as_ptr(&it.0));
        self.trap = TrapRecord::default();
        self.ended = 0;
        self.tail_calls = 0;
        self.may_goto = MAX_MAY_GOTO;
    }
}

impl Default for ExecEnv {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    use super::*;

    #[test]
    fn offsets_are_those_of_the_documentation() {
        assert_eq!(offset_of!(ExecEnv, fuel), 0);
        assert_eq!(offset_of!(ExecEnv, tail_calls), 8);
        assert_eq!(offset_of!(ExecEnv, cpu_slot), 12);
        assert_eq!(offset_of!(ExecEnv, trap), 16);
        assert_eq!(offset_of!(ExecEnv, regions), 32);
        assert_eq!(offset_of!(ExecEnv, region_count), 40);
        assert_eq!(offset_of!(ExecEnv, user), 48);
        assert_eq!(offset_of!(ExecEnv, packet), 56);
        assert_eq!(offset_of!(ExecEnv, packet_len), 64);
        assert_eq!(offset_of!(ExecEnv, may_goto), 72);
        assert_eq!(offset_of!(ExecEnv, depth), 80);
        assert_eq!(offset_of!(ExecEnv, in_place), 84);
        assert_eq!(offset_of!(ExecEnv, unwind), 88);
        assert_eq!(offset_of!(ExecEnv, ended), 96);
        assert_eq!(offset_of!(ExecEnv, stack_low), 104);
        assert_eq!(offset_of!(ExecEnv, stack_high), 112);
        assert_eq!(offset_of!(ExecEnv, allowance), 120);
        assert_eq!(offset_of!(ExecEnv, stack_room), 128);
        assert_eq!(offset_of!(ExecEnv, readable), 136);
        assert_eq!(offset_of!(ExecEnv, writable), 176);
        assert_eq!(offset_of!(ExecEnv, stopper), 216);
        assert_eq!(offset_of!(ExecEnv, allowed), 224);
        assert_eq!(offset_of!(ExecEnv, stop_cell), 232);
        assert_eq!(size_of::<ExecEnv>(), 240);
        assert_eq!(offset_of!(Window, base), 0);
        assert_eq!(offset_of!(Window, starts), 8);
        assert_eq!(size_of::<Window>(), 40);
        assert_eq!(offset_of!(TrapRecord, kind), 0);
        assert_eq!(offset_of!(TrapRecord, pc), 4);
        assert_eq!(offset_of!(TrapRecord, addr), 8);
        assert_eq!(size_of::<Region>(), 24);
    }

    #[test]
    fn a_stopper_holds_the_fuel_of_the_run_or_nothing() {
        let mut env = ExecEnv::new();
        *env.fuel.get_mut() = 70;
        assert_eq!(env.fuel_cell(), &raw const env.fuel);
        let stopper = env.stopper();
        let fuel = |env: &ExecEnv| {
            assert_eq!(env.fuel_cell(), Arc::as_ptr(&stopper.0));
            stopper.0.load(Ordering::Relaxed)
        };
        assert_eq!((fuel(&env), stopper.is_stopped()), (70, false));
        stopper.stop();
        assert!(fuel(&env) < 0 && env.stopper().is_stopped());
        stopper.allow();
        env.charge(30);
        assert_eq!((fuel(&env), *env.fuel.get_mut()), (40, 40));
        assert!(env.stop_cell.is_null());
        env.start_run();
        assert_eq!(env.stop_cell, Arc::as_ptr(&stopper.0));
    }

    #[test]
    fn trap_kinds_have_their_documented_numbers() {
        let numbers: Vec<u32> = TrapKind::ALL.into_iter().map(|kind| kind as u32).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(TrapKind::from_code(0), None);
        assert_eq!(TrapKind::from_code(2), Some(TrapKind::ReadOnly));
    }
}
