//! The dispatch loop.

mod access;
mod control;

use core::sync::atomic::Ordering;

use ebpf_isa::abi::{ExecEnv, MAX_CALL_DEPTH, Trap, TrapKind};
use ebpf_isa::{Insn, Operand, Pc, Reg, semantics};

use self::control::Caller;
use crate::link::{Op, Vm};
use crate::memory::{self, Access, Checked, Frame, Memory, Stack, Unchecked};

impl Vm {
    /// Runs the program on `memory`, with `ctx` in `r1`: safe for any program. Gives `r0`.
    ///
    /// Packet loads read the packet of `env` like any other memory: its bytes must be in `memory`.
    ///
    /// # Errors
    /// The trap that ended the run: see [`TrapKind`]. After a tail call its position is one of the
    /// program that was called.
    pub fn run(&self, ctx: u64, memory: &Memory<'_>, env: &mut ExecEnv) -> Result<u64, Trap> {
        memory::declare(memory, env);
        let result = Run::new(self, Checked::new(memory), &Stack::new(), env).run(ctx);
        env.regions = core::ptr::null();
        env.region_count = 0;
        result
    }

    /// Runs a verified program with `ctx` in `r1`, without checking its accesses. Gives `r0`.
    ///
    /// # Errors
    /// The trap that ended the run: a helper failed, or the fuel is used up. After a tail call its
    /// position is one of the program that was called.
    ///
    /// # Safety
    /// A verifier accepted the program, for an environment that `ctx` and the links given to
    /// [`Vm::new`] match. In particular:
    /// - every load and store is inside of the stack frame, the context, or memory that the
    ///   context, a map or a helper gave to the program, and that memory stays valid and is not
    ///   referenced by anybody else in a way that forbids the access during the run;
    /// - addresses of that memory come from pointers whose provenance is exposed (see
    ///   [`core::ptr`]), and which may write even where the program only reads: all accesses are
    ///   atomic, and ask for that;
    /// - writes go to writable memory only, atomic accesses are aligned;
    /// - if the program loads from the packet, all of it, as `env` has it, is such memory;
    /// - calls of helpers pass what their prototypes ask for;
    /// - frames use no more stack than the facts say, and are never more than
    ///   [`MAX_CALL_DEPTH`] deep;
    /// - all of this holds for the programs that tail calls lead to, too.
    #[allow(unsafe_code, reason = "the contract of verified programs")]
    pub unsafe fn run_unchecked(&self, ctx: *mut u8, env: &mut ExecEnv) -> Result<u64, Trap> {
        // SAFETY: the caller's promise.
        let access = unsafe { Unchecked::new() };
        Run::new(self, access, &Stack::new(), env).run(ctx.expose_provenance() as u64)
    }
}

/// Why a run ends early, and the address of the access that it ends at, or 0.
type Fault = (TrapKind, u64);

/// The state of one run.
struct Run<'a, A> {
    /// The program that is running: a tail call changes it.
    vm: &'a Vm,
    access: A,
    env: &'a mut ExecEnv,
    regs: [u64; Reg::COUNT],
    callers: [Caller<'a>; MAX_CALL_DEPTH - 1],
    depth: usize,
    stack: &'a Stack,
    frame: Frame,
    /// Instructions run since fuel was charged last.
    uncharged: i64,
}

/// Where the loop goes on.
enum Next {
    Insn,
    At(Pc),
    Done(u64),
}

impl<'a, A: Access> Run<'a, A> {
    fn new(vm: &'a Vm, access: A, stack: &'a Stack, env: &'a mut ExecEnv) -> Self {
        let top = stack.top();
        let frame = Frame { low: top, top };
        Self {
            vm,
            access,
            env,
            regs: [0; Reg::COUNT],
            callers: [Caller::none(vm); MAX_CALL_DEPTH - 1],
            depth: 0,
            stack,
            frame,
            uncharged: 0,
        }
    }

    fn run(mut self, ctx: u64) -> Result<u64, Trap> {
        self.set(Reg::R1, ctx);
        self.enter(self.frame.top, self.vm.main_frame);
        let mut pc = Pc::ENTRY;
        let result = loop {
            self.uncharged += 1;
            match self.step(pc) {
                Ok(Next::Insn) => pc = Pc(pc.0 + 1),
                Ok(Next::At(target)) => pc = target,
                Ok(Next::Done(value)) => break Ok(value),
                Err((kind, addr)) => break Err(Trap { kind, pc, addr }),
            }
        };
        // The last charge never turns a finished run into a trap.
        self.env.fuel.fetch_sub(self.uncharged, Ordering::Relaxed);
        if let Err(trap) = result {
            self.env.trap = trap.into();
        }
        // A helper may have noted that it failed; the run still came to its end.
        self.env.trap.trap().map_or(result, Err)
    }

    fn step(&mut self, pc: Pc) -> Result<Next, Fault> {
        match self.vm.ops[pc.index()] {
            Op::Insn(Insn::Exit) => self.exit(),
            Op::Insn(Insn::Jump { target, .. }) => self.jump(pc, target),
            Op::Insn(Insn::Branch { op, width, lhs, rhs, target }) => {
                if semantics::compare(op, width, self.reg(lhs), self.operand(rhs)) {
                    self.jump(pc, target)
                } else {
                    Ok(Next::Insn)
                }
            }
            Op::Insn(Insn::MayGoto { target }) => self.may_goto(pc, target),
            Op::Insn(Insn::LoadPacket { size, index, imm }) => self.load_packet(size, index, imm),
            Op::Insn(insn) => {
                self.straight(insn)?;
                Ok(Next::Insn)
            }
            Op::LoadWide { dst, value } => {
                self.set(dst, value.get());
                Ok(Next::At(Pc(pc.0 + 2)))
            }
            Op::CallNative(index) => {
                self.call_native(index);
                Ok(Next::Insn)
            }
            Op::CallEnding(index) => Ok(self.call_ending(index)),
            Op::CallSubprog { target, frame } => self.call_subprog(pc, target, frame),
            Op::TailCall => Ok(self.tail_call()),
            Op::Hole => unreachable!("targets are instructions in every Program"),
        }
    }

    fn reg(&self, reg: Reg) -> u64 {
        self.regs[reg.index()]
    }

    fn set(&mut self, reg: Reg, value: u64) {
        self.regs[reg.index()] = value;
    }

    fn operand(&self, operand: Operand) -> u64 {
        match operand {
            Operand::Reg(reg) => self.reg(reg),
            Operand::Imm(imm) => semantics::immediate(imm),
        }
    }

    /// Instructions that only go on to the next one.
    fn straight(&mut self, insn: Insn) -> Result<(), Fault> {
        match insn {
            Insn::Alu { op, width, dst, src } => {
                let value = semantics::alu(op, width, self.reg(dst), self.operand(src));
                self.set(dst, value);
            }
            Insn::Mov { width, dst, src } => {
                let value = semantics::truncate(width, self.operand(src));
                self.set(dst, value);
            }
            Insn::MovSx { width, dst, src, from } => {
                self.set(dst, semantics::movsx(width, from, self.reg(src)));
            }
            Insn::Neg { width, dst } => self.set(dst, semantics::neg(width, self.reg(dst))),
            Insn::Swap { order, size, dst } => {
                self.set(dst, semantics::swap(order, size, self.reg(dst)));
            }
            // The host has one address space.
            Insn::AddrSpaceCast { dst, src, .. } => self.set(dst, self.reg(src)),
            memory => self.memory(memory)?,
        }
        Ok(())
    }
}
