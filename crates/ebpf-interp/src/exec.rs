//! The dispatch loop.

use core::sync::atomic::Ordering;

use ebpf_isa::abi::{ExecEnv, MAX_CALL_DEPTH, STACK_SIZE, Trap, TrapKind};
use ebpf_isa::{AtomicOp, Insn, Operand, Pc, Reg, Size, semantics};

use crate::link::{Op, Vm};
use crate::memory::{self, Access, Checked, Memory, Stack, Unchecked};

impl Vm {
    /// Runs the program on `memory`, with `ctx` in `r1`: safe for any program. Gives `r0`.
    ///
    /// # Errors
    /// The trap that ended the run: see [`TrapKind`].
    pub fn run(&self, ctx: u64, memory: &Memory<'_>, env: &mut ExecEnv) -> Result<u64, Trap> {
        memory::declare(memory, env);
        let result = Run::new(self, Checked::new(memory.regions()), &Stack::new(), env).run(ctx);
        env.regions = core::ptr::null();
        env.region_count = 0;
        result
    }

    /// Runs a verified program with `ctx` in `r1`, without checking its accesses. Gives `r0`.
    ///
    /// # Errors
    /// The trap that ended the run: a helper failed, or the fuel is used up.
    ///
    /// # Safety
    /// A verifier accepted the program, for an environment that `ctx` and the links given to
    /// [`Vm::new`] match. In particular:
    /// - every load and store is inside of the stack frame, the context, or memory that the
    ///   context, a map or a helper gave to the program, and that memory stays valid and is not
    ///   referenced by anybody else in a way that forbids the access during the run;
    /// - writes go to writable memory only, atomic accesses are aligned;
    /// - calls of helpers pass what their prototypes ask for;
    /// - frames use no more stack than the facts say, and are never more than
    ///   [`MAX_CALL_DEPTH`] deep.
    #[allow(unsafe_code, reason = "the contract of verified programs")]
    pub unsafe fn run_unchecked(&self, ctx: *mut u8, env: &mut ExecEnv) -> Result<u64, Trap> {
        Run::new(self, Unchecked, &Stack::new(), env).run(ctx.expose_provenance() as u64)
    }
}

/// What a return restores.
#[derive(Clone, Copy)]
struct Frame {
    return_to: Pc,
    saved: [u64; 4],
    frame_pointer: u64,
    /// Bytes of stack of the caller.
    size: u16,
}

const PRESERVED: [Reg; 4] = [Reg::R6, Reg::R7, Reg::R8, Reg::R9];

struct Run<'a, A> {
    vm: &'a Vm,
    access: A,
    env: &'a mut ExecEnv,
    regs: [u64; 11],
    frames: [Frame; MAX_CALL_DEPTH - 1],
    depth: usize,
    /// Bytes of stack of the current frame.
    frame_size: u16,
    stack: &'a Stack,
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
        let frame = Frame { return_to: Pc::ENTRY, saved: [0; 4], frame_pointer: 0, size: 0 };
        Self {
            vm,
            access,
            env,
            regs: [0; 11],
            frames: [frame; MAX_CALL_DEPTH - 1],
            depth: 0,
            frame_size: 0,
            stack,
            uncharged: 0,
        }
    }

    fn run(mut self, ctx: u64) -> Result<u64, Trap> {
        self.set(Reg::R1, ctx);
        self.enter(self.stack.top(), self.vm.main_frame);
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

    fn step(&mut self, pc: Pc) -> Result<Next, (TrapKind, u64)> {
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
            Op::CallSubprog { target, frame } => self.call_subprog(pc, target, frame),
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

    /// Charges what was run since the last time; traps where nothing is left.
    fn charge(&mut self) -> Result<(), (TrapKind, u64)> {
        let charged = core::mem::take(&mut self.uncharged);
        if self.env.fuel.fetch_sub(charged, Ordering::Relaxed) < charged {
            return Err((TrapKind::OutOfFuel, 0));
        }
        Ok(())
    }

    fn jump(&mut self, pc: Pc, target: Pc) -> Result<Next, (TrapKind, u64)> {
        if target <= pc {
            self.charge()?;
        }
        Ok(Next::At(target))
    }

    /// Makes a frame of `size` bytes below `top`, zeroed: a program may read what it never wrote.
    fn enter(&mut self, top: u64, size: u16) {
        self.set(Reg::FP, top);
        self.frame_size = size;
        self.access.set_stack(self.stack.clear(top, size), self.stack.top());
    }

    fn call_subprog(&mut self, pc: Pc, target: Pc, size: u16) -> Result<Next, (TrapKind, u64)> {
        self.charge()?;
        let frame_pointer = self.reg(Reg::FP);
        let frame = self.frames.get_mut(self.depth).ok_or((TrapKind::CallDepth, 0))?;
        let saved = PRESERVED.map(|reg| self.regs[reg.index()]);
        *frame = Frame { return_to: Pc(pc.0 + 1), saved, frame_pointer, size: self.frame_size };
        self.depth += 1;
        self.enter(frame_pointer - STACK_SIZE as u64, size);
        Ok(Next::At(target))
    }

    fn exit(&mut self) -> Result<Next, (TrapKind, u64)> {
        let Some(depth) = self.depth.checked_sub(1) else {
            return Ok(Next::Done(self.reg(Reg::R0)));
        };
        self.charge()?;
        self.depth = depth;
        let Frame { return_to, saved, frame_pointer, size } = self.frames[depth];
        self.frame_size = size;
        for (reg, value) in PRESERVED.into_iter().zip(saved) {
            self.set(reg, value);
        }
        self.set(Reg::FP, frame_pointer);
        self.access.set_stack(frame_pointer - u64::from(size), self.stack.top());
        Ok(Next::At(return_to))
    }

    #[allow(unsafe_code, reason = "calls of native functions are here")]
    fn call_native(&mut self, index: u32) {
        let function = self.vm.natives[index as usize];
        let [a, b, c, d, e] = Reg::ARGS.map(|reg| self.reg(reg));
        let env = core::ptr::from_mut(self.env);
        // SAFETY: whoever registered the function promised that it is sound: for any arguments
        // where the program is not verified, otherwise for those that the verifier let through.
        let result = unsafe { function(a, b, c, d, e, env) };
        self.set(Reg::R0, result);
    }

    /// Instructions that only go on to the next one.
    fn straight(&mut self, insn: Insn) -> Result<(), (TrapKind, u64)> {
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
            memory => self.memory(memory)?,
        }
        Ok(())
    }

    #[allow(unsafe_code, reason = "accesses through pointers that `Access` gave")]
    fn memory(&mut self, insn: Insn) -> Result<(), (TrapKind, u64)> {
        match insn {
            Insn::Load { size, extend, dst, base, off } => {
                let pointer = self.pointer(base, off, size, false)?;
                // SAFETY: `Access` gave the pointer for a read of this size.
                let value = unsafe { memory::load(pointer, size) };
                self.set(dst, semantics::extend(extend, size, value));
            }
            Insn::Store { size, base, off, src } => {
                let (pointer, value) = (self.pointer(base, off, size, true)?, self.operand(src));
                // SAFETY: `Access` gave the pointer for a write of this size.
                unsafe { memory::store(pointer, size, value) };
            }
            Insn::LoadAcquire { size, dst, base, off } => {
                let pointer = self.aligned(base, off, size, false)?;
                // SAFETY: `Access` gave the pointer for a read of this size; it is aligned.
                let value = unsafe { memory::load_acquire(pointer, size) };
                self.set(dst, value);
            }
            Insn::StoreRelease { size, base, off, src } => {
                let pointer = self.aligned(base, off, size, true)?;
                // SAFETY: `Access` gave the pointer for a write of this size; it is aligned.
                unsafe { memory::store_release(pointer, size, self.reg(src)) };
            }
            Insn::Atomic { op, size, fetch, base, off, src } => {
                let pointer = self.aligned(base, off, size, true)?;
                let (operand, r0) = (self.reg(src), self.reg(Reg::R0));
                // SAFETY: `Access` gave the pointer for a write of this size; it is aligned.
                let old = unsafe { memory::atomic(op, pointer, size, operand, r0) };
                match op {
                    AtomicOp::Cmpxchg => self.set(Reg::R0, old),
                    _ if fetch => self.set(src, old),
                    _ => {}
                }
            }
            other => unreachable!("{other:?} was refused when the program was linked"),
        }
        Ok(())
    }

    fn pointer(
        &self,
        base: Reg,
        off: i16,
        size: Size,
        write: bool,
    ) -> Result<*mut u8, (TrapKind, u64)> {
        let addr = self.reg(base).wrapping_add_signed(i64::from(off));
        self.access.pointer(addr, size.bytes(), write).map_err(|kind| (kind, addr))
    }

    /// A pointer for an atomic access.
    fn aligned(
        &self,
        base: Reg,
        off: i16,
        size: Size,
        write: bool,
    ) -> Result<*mut u8, (TrapKind, u64)> {
        let pointer = self.pointer(base, off, size, write)?;
        memory::check_aligned(pointer, size).map_err(|kind| (kind, pointer.addr() as u64))?;
        Ok(pointer)
    }
}
