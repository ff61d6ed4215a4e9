//! What stands between an unverified program and its host: checks of accesses, of depth, of fuel.
//!
//! Routines are emitted once, behind the entry, and use scratch registers only: to the program a
//! check is invisible. They get the position of the instruction in [`AT`].

use ebpf_image::CodeOffset;
use ebpf_isa::abi::{ACCESS_ATOMIC, ACCESS_WRITE, MAX_CALL_DEPTH, TrapKind};
use ebpf_isa::{Extend, Insn, Pc, Reg, Size, Width};

use super::Lowering;
use super::entry::{self, Exits};
use super::env::{CHECK, DEPTH, STACK_LOW, TRAP_ADDR, TRAP_KIND, TRAP_PC, UNCHARGED};
use super::memory::address;
use crate::emitter::{Arith, Cond, Emitter, Shift};
use crate::encode::Mem;
use crate::regs::{ENV, Gpr, SCRATCH};

/// Where routines get the position of the instruction.
const AT: Gpr = SCRATCH[1];
/// The address of an access, the kind of a trap, the size of a frame.
pub(super) const SUBJECT: Gpr = SCRATCH[0];
/// Length of an access, and from bit 8 on what kind it is.
const ACCESS: Gpr = SCRATCH[2];

/// Registers that a called function may destroy and that a program relies upon.
const CALLER_SAVED: [Reg; 6] = [Reg::R0, Reg::R1, Reg::R2, Reg::R3, Reg::R4, Reg::R5];

/// Where the routines are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Routines {
    /// Asks the checker about an access.
    check: CodeOffset,
    /// Charges fuel.
    charge: CodeOffset,
    /// Charges fuel and sees that there is room for another frame.
    before_call: CodeOffset,
    /// Charges fuel, but not in the first frame: the end of the run.
    before_return: CodeOffset,
    /// Makes a frame.
    enter: CodeOffset,
}

impl Routines {
    pub(super) fn emit(e: &mut Emitter, exits: Exits) -> Self {
        let check = emit_check(e, exits);
        let note_trap = emit_note_trap(e, exits);
        let out_of_fuel = emit_trap(e, TrapKind::OutOfFuel, note_trap);
        let too_deep = emit_trap(e, TrapKind::CallDepth, note_trap);
        let charge = emit_charge(e, out_of_fuel);
        let before_call = emit_before_call(e, charge, too_deep);
        let before_return = emit_before_return(e, charge);
        let enter = emit_enter(e);
        Self { check, charge, before_call, before_return, enter }
    }

    /// Enters the next frame, of which the program may touch `size` bytes.
    pub(super) fn enter_frame(self, e: &mut Emitter, size: u32) {
        e.mov_imm(SUBJECT, size.into());
        e.call_back(self.enter);
    }
}

fn emit_check(e: &mut Emitter, exits: Exits) -> CodeOffset {
    let start = e.here();
    // With one more register the stack is aligned, as the call here is at an odd multiple of 8.
    let saved = || CALLER_SAVED.map(Gpr::from).into_iter().chain([SUBJECT]);
    for reg in saved() {
        e.push(reg);
    }
    e.mov(Width::W64, Gpr::Rdi, SUBJECT);
    e.mov_extend(Extend::Zero, Size::B, Width::W64, Gpr::Rsi, ACCESS);
    e.mov(Width::W32, Gpr::Rdx, ACCESS);
    e.shift_imm(Shift::Shr, Width::W32, Gpr::Rdx, 8);
    e.mov(Width::W32, Gpr::Rcx, AT);
    e.mov(Width::W64, Gpr::R8, ENV);
    e.call_mem(CHECK);
    e.test(Width::W64, Gpr::Rax, Gpr::Rax);
    e.jump_back(Some(Cond::NotEqual), exits.trap);
    for reg in saved().rev() {
        e.pop(reg);
    }
    e.ret();
    start
}

/// Notes a trap of the kind in [`SUBJECT`].
fn emit_note_trap(e: &mut Emitter, exits: Exits) -> CodeOffset {
    let start = e.here();
    e.store(Size::W, TRAP_KIND, SUBJECT);
    e.store(Size::W, TRAP_PC, AT);
    e.store_imm(Size::Dw, TRAP_ADDR, 0);
    e.jump_back(None, exits.trap);
    start
}

fn emit_trap(e: &mut Emitter, kind: TrapKind, note_trap: CodeOffset) -> CodeOffset {
    let start = e.here();
    e.mov_imm(SUBJECT, u64::from(kind as u32));
    e.jump_back(None, note_trap);
    start
}

fn emit_charge(e: &mut Emitter, out_of_fuel: CodeOffset) -> CodeOffset {
    let start = e.here();
    entry::charge(e);
    e.jump_back(Some(Cond::Less), out_of_fuel);
    e.ret();
    start
}

fn emit_before_call(e: &mut Emitter, charge: CodeOffset, too_deep: CodeOffset) -> CodeOffset {
    let start = e.here();
    e.call_back(charge);
    e.arith_mem_imm(Arith::Cmp, Width::W32, DEPTH, MAX_CALL_DEPTH as i32);
    e.jump_back(Some(Cond::AboveEqual), too_deep);
    e.ret();
    start
}

fn emit_before_return(e: &mut Emitter, charge: CodeOffset) -> CodeOffset {
    let start = e.here();
    e.arith_mem_imm(Arith::Cmp, Width::W32, DEPTH, 1);
    e.jump_back(Some(Cond::NotEqual), charge);
    e.ret();
    start
}

/// Makes the frame below the current one, zeroed: a program may read what it never wrote.
fn emit_enter(e: &mut Emitter) -> CodeOffset {
    let (start, top, low) = (e.here(), Gpr::from(Reg::FP), SCRATCH[1]);
    e.arith_mem_imm(Arith::Add, Width::W32, DEPTH, 1);
    e.load(Extend::Zero, Size::Dw, top, STACK_LOW);
    e.mov(Width::W64, low, top);
    e.test(Width::W32, SUBJECT, SUBJECT);
    let done = e.skip(Some(Cond::Equal));
    let again = e.here();
    e.arith_imm(Arith::Sub, Width::W64, low, 8);
    e.store_imm(Size::Dw, Mem { base: low, disp: 0 }, 0);
    e.arith_imm(Arith::Sub, Width::W32, SUBJECT, 8);
    e.repeat_if(Cond::NotEqual, again);
    e.land(done);
    e.store(Size::Dw, STACK_LOW, low);
    e.ret();
    start
}

/// Counts instructions, so that whoever charges fuel knows what was run: [`ExecEnv::uncharged`] is
/// brought up to date before anything that may end the run, and where ways part or meet.
///
/// [`ExecEnv::uncharged`]: ebpf_isa::abi::ExecEnv::uncharged
#[derive(Debug)]
pub(super) struct Meter {
    /// By slot, whether a jump leads there.
    targets: Vec<bool>,
    /// Instructions since the count was brought up to date.
    pending: i32,
}

impl Meter {
    pub(super) fn new(targets: Vec<bool>) -> Self {
        Self { targets, pending: 0 }
    }

    #[cold]
    fn count(&mut self, e: &mut Emitter, pc: Pc) {
        if self.targets[pc.index()] {
            self.flush(e);
        }
        self.pending += 1;
    }

    #[cold]
    fn flush(&mut self, e: &mut Emitter) {
        let pending = core::mem::take(&mut self.pending);
        if pending > 0 {
            e.arith_mem_imm(Arith::Add, Width::W64, UNCHARGED, pending);
        }
    }
}

/// The memory that an instruction accesses, and how.
struct Access {
    base: Reg,
    off: i16,
    size: Size,
    kind: u64,
}

impl Access {
    fn of(insn: Insn) -> Option<Self> {
        let (base, off, size, kind) = match insn {
            Insn::Load { base, off, size, .. } => (base, off, size, 0),
            Insn::Store { base, off, size, .. } => (base, off, size, ACCESS_WRITE),
            Insn::LoadAcquire { base, off, size, .. } => (base, off, size, ACCESS_ATOMIC),
            Insn::StoreRelease { base, off, size, .. } | Insn::Atomic { base, off, size, .. } => {
                (base, off, size, ACCESS_ATOMIC | ACCESS_WRITE)
            }
            _ => return None,
        };
        Some(Self { base, off, size, kind })
    }
}

/// Emits nothing but for checked programs.
impl Lowering<'_> {
    /// Counts the instruction at `pc`, whose code comes next.
    #[inline]
    pub(super) fn count(&mut self, pc: Pc) {
        if let Some(meter) = &mut self.meter {
            meter.count(self.emitter, pc);
        }
    }

    /// Brings the count of instructions up to date.
    #[inline]
    pub(super) fn flush(&mut self) {
        if let Some(meter) = &mut self.meter {
            meter.flush(self.emitter);
        }
    }

    /// Checks the access of the instruction at `pc`, if it is a load, store or atomic operation.
    #[inline]
    pub(super) fn check_access(&mut self, pc: Pc) {
        if let Some(routines) = self.routines {
            self.check(pc, routines.check);
        }
    }

    #[cold]
    fn check(&mut self, pc: Pc, routine: CodeOffset) {
        let Some(insn) = self.program.get(pc) else { return };
        if let Some(Access { base, off, size, kind }) = Access::of(insn) {
            self.flush();
            // The auxiliary register lives in scratch; saved twice, the stack stays aligned.
            let aux = Gpr::from(Reg::Ax);
            let saved = insn.reads().contains(Reg::Ax);
            self.emitter.lea(SUBJECT, address(base, off));
            self.emitter.mov_imm(ACCESS, u64::from(size.bytes()) | kind << 8);
            if saved {
                self.emitter.push(aux);
                self.emitter.push(aux);
            }
            self.call_routine(pc, routine);
            if saved {
                self.emitter.pop(aux);
                self.emitter.pop(aux);
            }
        }
    }

    /// Checks a read of bytes whose address is in [`SUBJECT`]; it stays there.
    pub(super) fn check_read(&mut self, pc: Pc, size: Size) {
        if let Some(routines) = self.routines {
            self.emitter.mov_imm(ACCESS, size.bytes().into());
            self.call_routine(pc, routines.check);
        }
    }

    /// Charges what was run, at a jump back.
    pub(super) fn charge(&mut self, pc: Pc) {
        if let Some(routines) = self.routines {
            self.flush();
            self.call_routine(pc, routines.charge);
        }
    }

    /// Charges what was run, and makes sure of another frame.
    pub(super) fn before_call(&mut self, pc: Pc) {
        if let Some(routines) = self.routines {
            self.flush();
            self.call_routine(pc, routines.before_call);
        }
    }

    /// Charges what was run, at the end of a subprogram.
    pub(super) fn before_return(&mut self, pc: Pc) {
        self.flush();
        if let Some(routines) = self.routines {
            // A main program may have been called, or be in the place of a subprogram.
            let routine = if self.is_main { routines.before_return } else { routines.charge };
            self.call_routine(pc, routine);
        }
    }

    fn call_routine(&mut self, pc: Pc, routine: CodeOffset) {
        self.emitter.mov_imm(AT, pc.0.into());
        self.emitter.call_back(routine);
    }
}
