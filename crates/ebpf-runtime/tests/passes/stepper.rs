//! A machine whose 32-bit operations leave something in the upper half of their register: all but
//! `w1 = w1`. A compiler for such a machine is what explicit zero extensions are for.

use std::ops::Range;

use ebpf_isa::semantics;
use ebpf_isa::{
    AtomicOp, ByteOrder, CallTarget, Extend, Insn, Operand, Pc, Program, Reg, Size, WideSource,
    Width,
};

const STACK: u64 = 0x7000_0000_0000;
const BLOCK: u64 = 0x5000_0000_0000;
const FRAME: u64 = 512;
const DEPTH: u64 = 8;
const MAX_STEPS: u32 = 1_000_000;

/// What is in the upper half after a 32-bit operation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum UpperHalf {
    Zero,
    Garbage,
}

/// The end of a run: `r0`, or the kind of a trap and where it is.
pub(crate) type End = Result<u64, (&'static str, Pc)>;
type Step<T> = Result<T, &'static str>;

/// Where control goes.
enum Next {
    Insn,
    At(Pc),
    Return,
}

struct Caller {
    return_to: Pc,
    regs: [u64; Reg::COUNT],
    defined: [Option<Pc>; Reg::COUNT],
}

pub(crate) struct Stepper<'p> {
    program: &'p Program,
    upper: UpperHalf,
    regs: [u64; Reg::COUNT],
    /// By register, the definition of 32 bits that is in it.
    defined: [Option<Pc>; Reg::COUNT],
    /// By slot, whether the upper half of what it defined was never read.
    unread: Vec<bool>,
    callers: Vec<Caller>,
    stack: Vec<u8>,
    block: Vec<u8>,
    pc: Pc,
}

impl<'p> Stepper<'p> {
    pub(crate) fn new(program: &'p Program, block: &[u8], upper: UpperHalf) -> Self {
        let mut stepper = Self {
            program,
            upper,
            regs: [0; Reg::COUNT],
            defined: [None; Reg::COUNT],
            unread: vec![true; program.slots().len()],
            callers: Vec::new(),
            stack: vec![0; (FRAME * DEPTH) as usize],
            block: block.to_vec(),
            pc: Pc::ENTRY,
        };
        stepper.set(Reg::R1, BLOCK);
        stepper.set(Reg::R2, block.len() as u64);
        stepper.set(Reg::FP, STACK + FRAME * DEPTH);
        stepper
    }

    /// Runs to the end. Gives that, the memory, and by slot whether the upper half of what the
    /// instruction defined was never read.
    pub(crate) fn run(mut self) -> (End, Vec<u8>, Vec<bool>) {
        for _ in 0..MAX_STEPS {
            let insn = self.program.get(self.pc).expect("targets are instructions");
            let next = match self.step(insn) {
                Ok(Next::Insn) => Pc(self.pc.0 + insn.slots()),
                Ok(Next::At(target)) => target,
                Ok(Next::Return) => match self.callers.pop() {
                    None => return (Ok(self.read(Reg::R0)), self.block, self.unread),
                    Some(caller) => self.leave(&caller),
                },
                Err(kind) => return (Err((kind, self.pc)), self.block, self.unread),
            };
            self.pc = next;
        }
        (Err(("out-of-fuel", self.pc)), self.block, self.unread)
    }

    fn step(&mut self, insn: Insn) -> Step<Next> {
        match insn {
            Insn::Alu { op, width, dst, src } => {
                let operands = (self.read_as(width, dst), self.operand(width, src));
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
            Insn::Jump { target, .. } => return Ok(Next::At(target)),
            // No run here uses the budget up.
            Insn::MayGoto { .. } => {}
            Insn::Branch { op, width, lhs, rhs, target } => {
                let operands = (self.read_as(width, lhs), self.operand(width, rhs));
                if semantics::compare(op, width, operands.0, operands.1) {
                    return Ok(Next::At(target));
                }
            }
            Insn::Call(CallTarget::Subprog(target)) => return self.enter(target),
            Insn::Exit => return Ok(Next::Return),
            Insn::LoadPacket { size, index, imm } => return Ok(self.packet(size, index, imm)),
            other => self.memory(other)?,
        }
        Ok(Next::Insn)
    }

    fn memory(&mut self, insn: Insn) -> Step<()> {
        match insn {
            Insn::Load { size, extend, dst, base, off } => {
                let value = load(self.bytes(base, off, size, 1)?);
                let width = if extend == Extend::Sign { Width::W64 } else { width_of(size) };
                self.define(width, dst, semantics::extend(extend, size, value));
            }
            Insn::LoadAcquire { size, dst, base, off } => {
                let value = load(self.bytes(base, off, size, size.bytes())?);
                self.define(width_of(size), dst, value);
            }
            Insn::Store { size, base, off, src } => {
                let value = self.operand(width_of(size), src);
                store(self.bytes(base, off, size, 1)?, value);
            }
            Insn::StoreRelease { size, base, off, src } => {
                let value = self.read_as(width_of(size), src);
                store(self.bytes(base, off, size, size.bytes())?, value);
            }
            Insn::Atomic { op, size, fetch, base, off, src } => {
                let width = width_of(size);
                let operand = self.read_as(width, src);
                let expected = match op {
                    AtomicOp::Cmpxchg => self.read_as(width, Reg::R0),
                    _ => 0,
                };
                let bytes = self.bytes(base, off, size, size.bytes())?;
                let old = load(bytes);
                store(bytes, semantics::atomic(op, size, old, operand, expected));
                match op {
                    AtomicOp::Cmpxchg => self.define(width, Reg::R0, old),
                    _ if fetch => self.define(width, src, old),
                    _ => {}
                }
            }
            other => panic!("programs of these tests have no {other:?}"),
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

    fn enter(&mut self, target: Pc) -> Step<Next> {
        if self.callers.len() as u64 + 1 == DEPTH {
            return Err("call-depth");
        }
        let return_to = Pc(self.pc.0 + 1);
        self.callers.push(Caller { return_to, regs: self.regs, defined: self.defined });
        self.set(Reg::FP, self.regs[Reg::FP.index()] - FRAME);
        let frame = self.frame_start();
        self.stack[frame..frame + FRAME as usize].fill(0);
        Ok(Next::At(target))
    }

    fn leave(&mut self, caller: &Caller) -> Pc {
        for reg in [Reg::R6, Reg::R7, Reg::R8, Reg::R9, Reg::FP].map(Reg::index) {
            self.regs[reg] = caller.regs[reg];
            self.defined[reg] = caller.defined[reg];
        }
        caller.return_to
    }

    /// Where the lowest frame begins in the stack.
    fn frame_start(&self) -> usize {
        (FRAME * (DEPTH - 1 - self.callers.len() as u64)) as usize
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

    fn bytes(&mut self, base: Reg, off: i16, size: Size, align: u8) -> Step<&mut [u8]> {
        let addr = self.read(base).wrapping_add_signed(off.into());
        let frame = self.frame_start();
        let within = |start: u64, len: usize| -> Option<Range<usize>> {
            let first = usize::try_from(addr.checked_sub(start)?).ok()?;
            let end = first.checked_add(size.bytes() as usize)?;
            (end <= len).then_some(first..end)
        };
        let (memory, range) = match within(BLOCK, self.block.len()) {
            Some(range) => (&mut self.block, range),
            None => {
                let range = within(STACK, self.stack.len()).filter(|range| range.start >= frame);
                (&mut self.stack, range.ok_or("out-of-bounds")?)
            }
        };
        if !addr.is_multiple_of(align.into()) {
            return Err("misaligned");
        }
        Ok(&mut memory[range])
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
