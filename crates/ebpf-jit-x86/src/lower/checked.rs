//! What stands between an unverified program and its host: checks of accesses and of depth.
//!
//! Most accesses cost four instructions:
//!
//! ```text
//!     lea r9, [base + off]
//!     sub r9, env.readable.base         the region that was hit last
//!     cmp r9, env.readable.starts[size] how many addresses in it such an access may start at
//!     jae miss                          then the stack, then a routine that looks at every region
//! ```
//!
//! The subtraction wraps for addresses below the region, and then gives more than any region has
//! bytes: nothing else can wrap. Accesses to the frame by its own frame pointer are judged when the
//! program is compiled.
//!
//! Routines are emitted once, behind the entry, and use the first scratch register only: to the
//! program a check is invisible.

use core::mem::offset_of;

use ebpf_image::CodeOffset;
use ebpf_isa::abi::{MAX_CALL_DEPTH, Region, TrapKind};
use ebpf_isa::{Extend, Insn, Pc, Reg, Size, Width};

use super::Lowering;
use super::cold::Cold;
use super::entry::Exits;
use super::env::{
    DEPTH, REGION_COUNT, REGIONS, STACK_HIGH, STACK_LOW, STACK_ROOM, TRAP_ADDR, TRAP_KIND, TRAP_PC,
    WindowFields,
};
use super::memory::address;
use crate::emitter::{Arith, Cond, Emitter, FarSkip, Unary, ZEROS};
use crate::encode::Mem;
use crate::regs::{ALLOWANCE, Gpr, SCRATCH};

/// The address of an access, or the size of a frame.
pub(super) const SUBJECT: Gpr = SCRATCH[0];

/// Where the routines of checked memory are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checks {
    /// Looks for a region to read.
    read: CodeOffset,
    /// Looks for one to write.
    write: CodeOffset,
    /// Makes a frame.
    enter: CodeOffset,
}

impl Checks {
    pub(super) fn emit(e: &mut Emitter, exits: Exits, fuel: bool) -> Self {
        let traps = Refusals::emit(e, exits, fuel);
        let read = search(e, WindowFields::READABLE, traps);
        let write = search(e, WindowFields::WRITABLE, traps);
        Self { read, write, enter: emit_enter(e) }
    }

    /// Enters the next frame, of which the program may touch `size` bytes.
    pub(super) fn enter_frame(self, e: &mut Emitter, size: u32) {
        e.mov_imm(SUBJECT, size.into());
        e.call_back(self.enter);
    }
}

/// The memory that an instruction accesses, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Access {
    pub(super) pc: Pc,
    pub(super) mem: Mem,
    size: Size,
    writes: bool,
    atomic: bool,
    /// Instructions that are not counted yet.
    pending: i32,
}

/// In what the routines are told of an access: it is atomic, and so must be its address aligned.
const ATOMIC: i32 = 0x10;
/// What is left of it is its size in bytes.
const SIZE: i32 = 0xf;

impl Access {
    fn of(pc: Pc, insn: Insn) -> Option<(Self, Reg, i16)> {
        let (base, off, size, writes, atomic) = match insn {
            Insn::Load { base, off, size, .. } => (base, off, size, false, false),
            Insn::Store { base, off, size, .. } => (base, off, size, true, false),
            Insn::LoadAcquire { base, off, size, .. } => (base, off, size, false, true),
            Insn::StoreRelease { base, off, size, .. } | Insn::Atomic { base, off, size, .. } => {
                (base, off, size, true, true)
            }
            _ => return None,
        };
        let access = Self { pc, mem: address(base, off), size, writes, atomic, pending: 0 };
        Some((access, base, off))
    }

    const fn window(self) -> WindowFields {
        if self.writes { WindowFields::WRITABLE } else { WindowFields::READABLE }
    }
}

/// Emits nothing but for checked programs.
impl Lowering<'_> {
    /// Checks the access of the instruction at `pc`, if it is a load, store or atomic operation.
    #[inline]
    pub(super) fn check_access(&mut self, pc: Pc, insn: Insn) {
        if self.checks.is_some()
            && let Some((access, base, off)) = Access::of(pc, insn)
            && !(base == Reg::FP && self.frame.has(off, access.size, access.atomic))
        {
            self.check(access);
        }
    }

    /// Checks a read from the address in `base`.
    pub(super) fn check_read(&mut self, pc: Pc, size: Size, base: Gpr) {
        if self.checks.is_some() {
            let mem = Mem { base, disp: 0 };
            self.check(Access { pc, mem, size, writes: false, atomic: false, pending: 0 });
        }
    }

    #[cold]
    fn check(&mut self, access: Access) {
        let access = Access { pending: self.pending(), ..access };
        if access.atomic {
            // Whether the address is aligned is for the routine to see.
            return self.ask(access);
        }
        let (window, e) = (access.window(), &mut *self.emitter);
        e.lea(Width::W64, SUBJECT, access.mem);
        e.arith_load(Arith::Sub, Width::W64, SUBJECT, window.base());
        e.arith_load(Arith::Cmp, Width::W64, SUBJECT, window.starts(access.size));
        let from = e.far_skip(Some(Cond::AboveEqual));
        let back = e.here();
        self.cold.push(Cold::Miss { from, back, access });
    }

    /// Calls the routine that looks at every region.
    pub(super) fn ask(&mut self, access: Access) {
        let Some(checks) = self.checks else { return };
        let what = i32::from(access.size.bytes()) | if access.atomic { ATOMIC } else { 0 };
        let pc = self.source.origin(access.pc);
        let e = &mut *self.emitter;
        e.lea(Width::W64, SUBJECT, access.mem);
        e.push_imm(access.pending);
        e.push_imm(what);
        e.push_imm(pc.0.cast_signed());
        e.call_back(if access.writes { checks.write } else { checks.read });
    }

    /// Makes sure of another frame.
    pub(super) fn check_depth(&mut self, pc: Pc) {
        if self.checks.is_some() {
            self.emitter.arith_mem_imm(Arith::Cmp, Width::W32, DEPTH, MAX_CALL_DEPTH as i32);
            let from = self.emitter.far_skip(Some(Cond::AboveEqual));
            self.cold.push(Cold::TooDeep { from, pc });
        }
    }
}

/// What a search computes with.
const OFFSET: Gpr = Gpr::Rax;
const COUNTDOWN: Gpr = Gpr::Rcx;
const REGION: Gpr = Gpr::Rdx;
const STARTS: Gpr = Gpr::Rsi;
const LENGTH: Gpr = Gpr::Rdi;
const SAVED: [Gpr; 5] = [OFFSET, COUNTDOWN, REGION, STARTS, LENGTH];

/// What a search was told, by how far it is above what is saved and the return address.
const fn told(index: i32) -> Mem {
    Mem { base: Gpr::Rsp, disp: 8 * (SAVED.len() as i32 + 1 + index) }
}
const TOLD_PC: Mem = told(0);
const TOLD_WHAT: Mem = told(1);
const TOLD_PENDING: Mem = told(2);
/// How many bytes that is.
const TOLD: u16 = 24;

const fn in_region(offset: usize) -> Mem {
    Mem { base: REGION, disp: offset as i32 }
}
const BASE: Mem = in_region(offset_of!(Region, base));
const LEN: Mem = in_region(offset_of!(Region, len));
const MAY_WRITE: Mem = in_region(offset_of!(Region, writable));

/// Emits a routine that looks for the region of an access: first the stack, then all regions in their
/// order, as the interpreter does. What it finds is kept in `window`; the one for writes asks for
/// regions that may be written. It is called with the address in [`SUBJECT`] and
///
/// ```text
///     rsp ->   return address, position of the instruction, what it does, instructions not counted
/// ```
fn search(e: &mut Emitter, window: WindowFields, refusals: Refusals) -> CodeOffset {
    let start = e.here();
    for reg in SAVED {
        e.push(reg);
    }
    e.load(Extend::Zero, Size::B, LENGTH, TOLD_WHAT);
    e.arith_imm(Arith::And, Width::W32, LENGTH, SIZE);
    e.load(Extend::Zero, Size::Dw, STARTS, STACK_HIGH);
    e.arith_load(Arith::Sub, Width::W64, STARTS, STACK_LOW);
    e.mov(Width::W64, OFFSET, SUBJECT);
    e.arith_load(Arith::Sub, Width::W64, OFFSET, STACK_LOW);
    let in_stack = holds(e);
    e.load(Extend::Zero, Size::Dw, REGION, REGIONS);
    e.load(Extend::Zero, Size::Dw, COUNTDOWN, REGION_COUNT);
    let again = e.here();
    e.arith_imm(Arith::Sub, Width::W64, COUNTDOWN, 1);
    e.jump_back(Some(Cond::Below), refusals.out_of_bounds);
    e.mov(Width::W64, OFFSET, SUBJECT);
    e.arith_load(Arith::Sub, Width::W64, OFFSET, BASE);
    e.load(Extend::Zero, Size::Dw, STARTS, LEN);
    let found = holds(e);
    e.arith_imm(Arith::Add, Width::W64, REGION, size_of::<Region>() as i32);
    e.repeat(None, again);
    e.land_far(found);
    if window == WindowFields::WRITABLE {
        e.arith_mem_imm(Arith::Cmp, Width::W64, MAY_WRITE, 0);
        e.jump_back(Some(Cond::Equal), refusals.read_only);
    }
    keep(e, window);
    e.land_far(in_stack);
    check_alignment(e, refusals.misaligned);
    for reg in SAVED.into_iter().rev() {
        e.pop(reg);
    }
    e.ret_and_drop(TOLD);
    start
}

/// Where searches end that find no good region.
#[derive(Debug, Clone, Copy)]
struct Refusals {
    out_of_bounds: CodeOffset,
    read_only: CodeOffset,
    misaligned: CodeOffset,
}

impl Refusals {
    fn emit(e: &mut Emitter, exits: Exits, fuel: bool) -> Self {
        let mut refusal = |kind: TrapKind| {
            let start = e.here();
            if fuel {
                e.arith_load(Arith::Sub, Width::W64, ALLOWANCE, TOLD_PENDING);
            }
            e.store_imm(Size::W, TRAP_KIND, kind as i32);
            e.store(Size::Dw, TRAP_ADDR, SUBJECT);
            e.load(Extend::Zero, Size::W, SUBJECT, TOLD_PC);
            e.store(Size::W, TRAP_PC, SUBJECT);
            e.jump_back(None, exits.trap);
            start
        };
        Self {
            out_of_bounds: refusal(TrapKind::OutOfBounds),
            read_only: refusal(TrapKind::ReadOnly),
            misaligned: refusal(TrapKind::Misaligned),
        }
    }
}

/// Keeps the region that was found for the next access.
fn keep(e: &mut Emitter, window: WindowFields) {
    e.load(Extend::Zero, Size::Dw, OFFSET, BASE);
    e.store(Size::Dw, window.base(), OFFSET);
    e.load(Extend::Zero, Size::Dw, STARTS, LEN);
    e.store(Size::Dw, window.starts(Size::B), STARTS);
    // From 1 byte to 2, 4 and 8: one, two and four starts less.
    for (size, less) in [(Size::H, 1), (Size::W, 2), (Size::Dw, 4)] {
        less_or_zero(e, STARTS, less);
        e.store(Size::Dw, window.starts(size), STARTS);
    }
}

/// Jumps if a piece of memory of [`STARTS`] bytes has all [`LENGTH`] bytes from [`OFFSET`] on.
fn holds(e: &mut Emitter) -> FarSkip {
    e.arith(Arith::Sub, Width::W64, STARTS, LENGTH);
    let shorter = e.skip(Some(Cond::Below));
    e.arith(Arith::Cmp, Width::W64, OFFSET, STARTS);
    let holds = e.far_skip(Some(Cond::BelowEqual));
    e.land(shorter);
    holds
}

/// `reg = reg - less`, or 0 where that is less than 0.
fn less_or_zero(e: &mut Emitter, reg: Gpr, less: i32) {
    e.arith_imm(Arith::Sub, Width::W64, reg, less);
    let enough = e.skip(Some(Cond::AboveEqual));
    e.mov_imm(reg, 0);
    e.land(enough);
}

/// Lets atomic accesses pass only if the address is a multiple of the size.
fn check_alignment(e: &mut Emitter, misaligned: CodeOffset) {
    e.load(Extend::Zero, Size::B, OFFSET, TOLD_WHAT);
    // The size is below the mark, so both go at once.
    e.arith_imm(Arith::Sub, Width::W32, OFFSET, ATOMIC + 1);
    let plain = e.skip(Some(Cond::Below));
    e.test(Width::W32, OFFSET, SUBJECT);
    e.jump_back(Some(Cond::NotEqual), misaligned);
    e.land(plain);
}

/// Where runs end that have no fuel or too many frames, with the position in [`SUBJECT`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Traps {
    pub(super) out_of_fuel: CodeOffset,
    pub(super) too_deep: CodeOffset,
}

impl Traps {
    pub(super) fn emit(e: &mut Emitter, exits: Exits) -> Self {
        let mut trap = |kind: TrapKind| {
            let start = e.here();
            e.store_imm(Size::W, TRAP_KIND, kind as i32);
            e.store(Size::W, TRAP_PC, SUBJECT);
            e.store_imm(Size::Dw, TRAP_ADDR, 0);
            e.jump_back(None, exits.trap);
            start
        };
        Self { out_of_fuel: trap(TrapKind::OutOfFuel), too_deep: trap(TrapKind::CallDepth) }
    }
}

/// Makes the frame below the current one, of as many bytes as [`SUBJECT`] says, zeroed: a program
/// may read what it never wrote.
fn emit_enter(e: &mut Emitter) -> CodeOffset {
    let (start, top, at) = (e.here(), Gpr::from(Reg::FP), SCRATCH[1]);
    e.arith_mem_imm(Arith::Add, Width::W32, DEPTH, 1);
    e.load(Extend::Zero, Size::Dw, top, STACK_LOW);
    e.mov(Width::W64, at, top);
    e.unary(Unary::Neg, Width::W64, SUBJECT);
    e.lea_sum(Width::W64, SUBJECT, SUBJECT, top);
    e.store(Size::Dw, STACK_LOW, SUBJECT);
    e.zero_vector();
    // What lies below is of frames that are not there.
    let again = e.here();
    e.arith(Arith::Cmp, Width::W64, at, SUBJECT);
    let done = e.skip(Some(Cond::BelowEqual));
    e.store_zeros(at);
    e.arith_imm(Arith::Sub, Width::W64, at, ZEROED_AT_ONCE);
    e.repeat(None, again);
    e.land(done);
    set_room(e);
    e.ret();
    start
}

/// Brings the quick look at the stack up to date.
pub(super) fn set_room(e: &mut Emitter) {
    e.load(Extend::Zero, Size::Dw, SUBJECT, STACK_HIGH);
    e.arith_load(Arith::Sub, Width::W64, SUBJECT, STACK_LOW);
    less_or_zero(e, SUBJECT, 7);
    e.store(Size::Dw, STACK_ROOM, SUBJECT);
}

/// Frames are zeroed in steps of so many bytes; the last one may reach below the frame.
pub(super) const ZEROED_AT_ONCE: i32 = ZEROS as i32;
