//! A machine that runs programs one instruction after the other and shares nothing with any engine
//! but `ebpf_isa::semantics`: what engines are held against.
//!
//! If asked to, its 32-bit operations leave something in the upper half of their register: all but
//! `w1 = w1`. A compiler for such a machine is what explicit zero extensions are for.

use std::ops::Range;

use ebpf_isa::abi::{Trap, TrapKind, subprog_address, subprog_at};
use ebpf_isa::semantics;
use ebpf_isa::{
    AluOp, AtomicOp, ByteOrder, CallTarget, Extend, Insn, Operand, Pc, Program, Reg, Size,
    WideSource, Width,
};

/// Where the stack ends, which no engine does.
const STACK_END: u64 = 0x7000_0000_0000;
const FRAME: u64 = 512;
const DEPTH: u64 = 8;
const STACK: u64 = STACK_END - FRAME * DEPTH;
/// Where the block is, if nobody says.
const BLOCK: u64 = 0x5000_0000_0000;
/// Instructions that a run may take, if nobody says.
const FUEL: u64 = 1_000_000;

/// What is in the upper half after a 32-bit operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpperHalf {
    /// Nothing, as every program may expect.
    Zero,
    /// Something.
    Garbage,
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// `r0`, or the trap that ended the run. An address relative to the stack is one of this
    /// machine's stack: see [`same_end`].
    pub end: Result<u64, Trap>,
    /// The block.
    pub memory: Vec<u8>,
    /// Instructions that were run, the one that trapped included.
    pub executed: u64,
    /// How many divisions were run that a machine may trap on: by zero, or of the smallest number by
    /// -1.
    pub hard_divisions: u64,
    /// By slot, whether the upper half of what the instruction defined was never read.
    pub unread: Vec<bool>,
    /// Whether it read stack that it had not written, or touched the frame of a caller. What comes
    /// of that depends on the engine where accesses are not checked.
    pub strayed: bool,
}

/// Whether an engine's run ended as one of this machine: `r0`, or kind, position and address of the
/// trap. Engines have their stack elsewhere, so of an address near it the last bits count.
#[must_use]
pub fn same_end(end: Result<u64, Trap>, machine: Result<u64, Trap>) -> bool {
    match (end, machine) {
        (Err(trap), Err(wanted)) if wanted.addr.abs_diff(STACK_END) < 1 << 20 => {
            (trap.kind, trap.pc, trap.addr % 8) == (wanted.kind, wanted.pc, wanted.addr % 8)
        }
        _ => end == machine,
    }
}

type Fault = (TrapKind, u64);
type Step<T> = Result<T, Fault>;

/// Where control goes.
enum Next {
    Insn,
    At(Pc),
    Call(Pc),
    Return,
}

struct Caller {
    return_to: Pc,
    regs: [u64; Reg::COUNT],
    defined: [Option<Pc>; Reg::COUNT],
}

/// A run that has not begun.
pub struct Machine<'p> {
    program: &'p Program,
    upper: UpperHalf,
    fuel: u64,
    block_at: u64,
    executed: u64,
    hard_divisions: u64,
    regs: [u64; Reg::COUNT],
    /// By register, the definition of 32 bits that is in it.
    defined: [Option<Pc>; Reg::COUNT],
    /// By slot, whether the upper half of what it defined was never read.
    unread: Vec<bool>,
    callers: Vec<Caller>,
    stack: Vec<u8>,
    /// By byte of the stack, whether the frame that it is in wrote it.
    written: Vec<bool>,
    strayed: bool,
    block: Vec<u8>,
    pc: Pc,
}

impl std::fmt::Debug for Machine<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("pc", &self.pc).field("regs", &self.regs).finish()
    }
}

impl<'p> Machine<'p> {
    /// A machine with `block` in its memory, the address of which is in `r1` and its length in `r2`.
    /// It is also the packet.
    #[must_use]
    pub fn new(program: &'p Program, block: &[u8]) -> Self {
        let stack = vec![0; (STACK_END - STACK) as usize];
        Self {
            program,
            upper: UpperHalf::Zero,
            fuel: FUEL,
            block_at: BLOCK,
            executed: 0,
            hard_divisions: 0,
            regs: [0; Reg::COUNT],
            defined: [None; Reg::COUNT],
            unread: vec![true; program.slots().len()],
            callers: Vec::new(),
            written: vec![false; stack.len()],
            stack,
            strayed: false,
            block: block.to_vec(),
            pc: Pc::ENTRY,
        }
    }

    /// The same with the block at this address.
    #[must_use]
    pub fn with_block_at(mut self, address: u64) -> Self {
        self.block_at = address;
        self
    }

    /// The same with so much in the upper half after a 32-bit operation.
    #[must_use]
    pub fn with_upper(mut self, upper: UpperHalf) -> Self {
        self.upper = upper;
        self
    }

    /// The same with so much fuel.
    #[must_use]
    pub fn with_fuel(mut self, fuel: u64) -> Self {
        self.fuel = fuel;
        self
    }

    /// Runs to the end.
    ///
    /// # Panics
    /// The program has an instruction that this machine does not have: calls of anything but
    /// subprograms, wide loads of symbols other than subprograms.
    #[must_use]
    pub fn run(mut self) -> Ran {
        self.set(Reg::R1, self.block_at);
        self.set(Reg::R2, self.block.len() as u64);
        self.set(Reg::FP, STACK_END);
        let end = loop {
            let insn = self.program.get(self.pc).expect("targets are instructions");
            self.executed += 1;
            let next = self.step(insn).and_then(|next| self.follow(insn, next));
            match next {
                Ok(Some(next)) => self.pc = next,
                Ok(None) => break Ok(self.read(Reg::R0)),
                Err((kind, addr)) => break Err(Trap { kind, pc: self.pc, addr }),
            }
        };
        let Self { block: memory, executed, hard_divisions, unread, strayed, .. } = self;
        Ran { end, memory, executed, hard_divisions, unread, strayed }
    }

    /// The instruction that follows; `None` at the end.
    fn follow(&mut self, insn: Insn, next: Next) -> Step<Option<Pc>> {
        match next {
            Next::Insn => Ok(Some(Pc(self.pc.0 + insn.slots()))),
            Next::At(target) => {
                if target <= self.pc {
                    self.charge()?;
                }
                Ok(Some(target))
            }
            Next::Call(target) => {
                self.charge()?;
                self.enter(target).map(Some)
            }
            Next::Return if self.callers.is_empty() => Ok(None),
            Next::Return => {
                self.charge()?;
                Ok(self.callers.pop().map(|caller| self.leave(&caller)))
            }
        }
    }

    /// What jumps back, calls and returns do.
    fn charge(&self) -> Step<()> {
        if self.executed > self.fuel { Err((TrapKind::OutOfFuel, 0)) } else { Ok(()) }
    }

    fn step(&mut self, insn: Insn) -> Step<Next> {
        match insn {
            Insn::Alu { op, width, dst, src } => {
                let operands = (self.read_as(width, dst), self.operand(width, src));
                self.hard_divisions += u64::from(is_hard(op, width, operands));
                self.define(width, dst, semantics::alu(op, width, operands.0, operands.1));
            }
            Insn::Mov { width: Width::W32, dst, src: Operand::Reg(src) } if dst == src => {
                let value = self.read_as(Width::W32, src);
                self.set(dst, value);
            }
            Insn::Mov { width, dst, src } => {
                let value = self.operand(width, src);
                self.define(width, dst, value);
            }
            Insn::MovSx { width, dst, src, from } => {
                let value = semantics::movsx(width, from, self.read_as(Width::W32, src));
                self.define(width, dst, value);
            }
            Insn::Neg { width, dst } => {
                let value = semantics::neg(width, self.read_as(width, dst));
                self.define(width, dst, value);
            }
            Insn::Swap { order, size, dst } => {
                let value = semantics::swap(order, size, self.read_as(width_of(size), dst));
                self.define(width_of(size), dst, value);
            }
            Insn::AddrSpaceCast { dst, src, .. } => {
                let value = self.read(src);
                self.set(dst, value);
            }
            Insn::LoadWide { dst, source: WideSource::Imm(imm) } => self.set(dst, imm.get()),
            Insn::LoadWide { dst, source: WideSource::Func(start) } => {
                self.set(dst, subprog_address(start));
            }
            Insn::Jump { target, .. } => return Ok(Next::At(target)),
            // No run here uses the budget up.
            Insn::MayGoto { .. } => {}
            Insn::Branch { op, width, lhs, rhs, target } => {
                let operands = (self.read_as(width, lhs), self.operand(width, rhs));
                if semantics::compare(op, width, operands.0, operands.1) {
                    return Ok(Next::At(target));
                }
            }
            Insn::Call(CallTarget::Subprog(target)) => return Ok(Next::Call(target)),
            Insn::Call(CallTarget::Reg(callee)) => {
                let address = self.read(callee);
                let target = subprog_at(address).filter(|&start| self.takes_address_of(start));
                return target.map(Next::Call).ok_or((TrapKind::BadCallee, address));
            }
            Insn::Exit => return Ok(Next::Return),
            Insn::LoadPacket { size, index, imm } => return Ok(self.packet(size, index, imm)),
            other => self.memory(other)?,
        }
        Ok(Next::Insn)
    }

    fn takes_address_of(&self, start: Pc) -> bool {
        let source = WideSource::Func(start);
        self.program.insns().any(
            |(_, insn)| matches!(insn, Insn::LoadWide { source: taken, .. } if taken == source),
        )
    }

    fn memory(&mut self, insn: Insn) -> Step<()> {
        match insn {
            Insn::Load { size, extend, dst, base, off } => {
                let value = load(self.bytes(base, off, size, Access::LOAD)?);
                let width = if extend == Extend::Sign { Width::W64 } else { width_of(size) };
                self.define(width, dst, semantics::extend(extend, size, value));
            }
            Insn::LoadAcquire { size, dst, base, off } => {
                let value = load(self.bytes(base, off, size, Access::ACQUIRE)?);
                self.define(width_of(size), dst, value);
            }
            Insn::Store { size, base, off, src } => {
                let value = self.operand(width_of(size), src);
                store(self.bytes(base, off, size, Access::STORE)?, value);
            }
            Insn::StoreRelease { size, base, off, src } => {
                let value = self.read_as(width_of(size), src);
                store(self.bytes(base, off, size, Access::RELEASE)?, value);
            }
            Insn::Atomic { op, size, fetch, base, off, src } => {
                let width = width_of(size);
                let operand = self.read_as(width, src);
                let expected = match op {
                    AtomicOp::Cmpxchg => self.read_as(width, Reg::R0),
                    _ => 0,
                };
                let bytes = self.bytes(base, off, size, Access::ATOMIC)?;
                let old = load(bytes);
                store(bytes, semantics::atomic(op, size, old, operand, expected));
                match op {
                    AtomicOp::Cmpxchg => self.define(width, Reg::R0, old),
                    _ if fetch => self.define(width, src, old),
                    _ => {}
                }
            }
            other => panic!("this machine has no {other:?}"),
        }
        Ok(())
    }

    fn packet(&mut self, size: Size, index: Option<Reg>, imm: i32) -> Next {
        let index = index.map_or(0, |reg| self.read_as(Width::W32, reg) as u32);
        let start = index.wrapping_add_signed(imm) as usize;
        let Some(bytes) = self.block.get(start..start + size.bytes() as usize) else {
            self.set(Reg::R0, 0);
            return Next::Return;
        };
        let value = semantics::swap(ByteOrder::Be, size, load(bytes));
        self.define(Width::W32, Reg::R0, value);
        Next::Insn
    }

    fn enter(&mut self, target: Pc) -> Step<Pc> {
        if self.callers.len() as u64 + 1 == DEPTH {
            return Err((TrapKind::CallDepth, 0));
        }
        let return_to = Pc(self.pc.0 + 1);
        self.callers.push(Caller { return_to, regs: self.regs, defined: self.defined });
        self.set(Reg::FP, self.regs[Reg::FP.index()] - FRAME);
        let frame = self.frame();
        self.stack[frame.clone()].fill(0);
        self.written[frame].fill(false);
        Ok(target)
    }

    fn leave(&mut self, caller: &Caller) -> Pc {
        for reg in [Reg::R6, Reg::R7, Reg::R8, Reg::R9, Reg::FP].map(Reg::index) {
            self.regs[reg] = caller.regs[reg];
            self.defined[reg] = caller.defined[reg];
        }
        caller.return_to
    }

    /// Where the frame is in the stack.
    fn frame(&self) -> Range<usize> {
        let end = FRAME * (DEPTH - self.callers.len() as u64);
        (end - FRAME) as usize..end as usize
    }

    /// Gives `reg` a value of 64 bits.
    fn set(&mut self, reg: Reg, value: u64) {
        self.regs[reg.index()] = value;
        self.defined[reg.index()] = None;
    }

    /// Gives `reg` the result of an operation of this width.
    fn define(&mut self, width: Width, reg: Reg, value: u64) {
        self.set(reg, value);
        if width == Width::W32 {
            self.defined[reg.index()] = Some(self.pc);
            if self.upper == UpperHalf::Garbage {
                self.regs[reg.index()] |= 0xdead_beef_0000_0000;
            }
        }
    }

    fn read(&mut self, reg: Reg) -> u64 {
        if let Some(pc) = self.defined[reg.index()] {
            self.unread[pc.index()] = false;
        }
        self.regs[reg.index()]
    }

    fn read_as(&mut self, width: Width, reg: Reg) -> u64 {
        match width {
            Width::W32 => self.regs[reg.index()] & 0xffff_ffff,
            Width::W64 => self.read(reg),
        }
    }

    fn operand(&mut self, width: Width, operand: Operand) -> u64 {
        match operand {
            Operand::Reg(reg) => self.read_as(width, reg),
            Operand::Imm(imm) => semantics::truncate(width, semantics::immediate(imm)),
        }
    }

    fn bytes(&mut self, base: Reg, off: i16, size: Size, how: Access) -> Step<&mut [u8]> {
        let addr = self.read(base).wrapping_add_signed(off.into());
        let frame = self.frame();
        let within = |start: u64, len: usize| -> Option<Range<usize>> {
            let first = usize::try_from(addr.checked_sub(start)?).ok()?;
            let end = first.checked_add(size.bytes() as usize)?;
            (end <= len).then_some(first..end)
        };
        let of_block = within(self.block_at, self.block.len());
        let of_stack = within(STACK, self.stack.len()).filter(|range| range.start >= frame.start);
        if of_block.is_none() && of_stack.is_none() {
            return Err((TrapKind::OutOfBounds, addr));
        }
        if how.is_aligned && !addr.is_multiple_of(size.bytes().into()) {
            return Err((TrapKind::Misaligned, addr));
        }
        let Some(range) = of_stack else {
            return Ok(&mut self.block[of_block.expect("it is there or in the stack")]);
        };
        self.strayed |= range.end > frame.end;
        if how.reads {
            self.strayed |= !self.written[range.clone()].iter().all(|&written| written);
        } else {
            self.written[range.clone()].fill(true);
        }
        Ok(&mut self.stack[range])
    }
}

/// What an instruction does to the bytes that it accesses.
#[derive(Clone, Copy)]
struct Access {
    reads: bool,
    is_aligned: bool,
}

impl Access {
    const LOAD: Self = Self { reads: true, is_aligned: false };
    const STORE: Self = Self { reads: false, is_aligned: false };
    const ACQUIRE: Self = Self { reads: true, is_aligned: true };
    const RELEASE: Self = Self { reads: false, is_aligned: true };
    const ATOMIC: Self = Self::ACQUIRE;
}

/// Whether a machine may trap on such an operation: on a division without quotient, or one whose quotient is
/// out of range.
fn is_hard(op: AluOp, width: Width, (dividend, divisor): (u64, u64)) -> bool {
    let smallest = semantics::truncate(width, 1 << (width.bits() - 1));
    let minus_one = semantics::truncate(width, u64::MAX);
    match op {
        AluOp::Div | AluOp::Mod => divisor == 0,
        AluOp::SDiv | AluOp::SMod => divisor == 0 || (dividend, divisor) == (smallest, minus_one),
        _ => false,
    }
}

/// The width of an operation on values of this size.
fn width_of(size: Size) -> Width {
    if size == Size::Dw { Width::W64 } else { Width::W32 }
}

fn load(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

fn store(bytes: &mut [u8], value: u64) {
    let len = bytes.len();
    bytes.copy_from_slice(&value.to_le_bytes()[..len]);
}
