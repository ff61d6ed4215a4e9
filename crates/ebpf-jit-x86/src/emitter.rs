//! One method for each thing the machine can do: the lowering says what, the emitter picks bytes.
//!
//! Immediates, displacements and jumps take their shortest form. What has fixed operands, or none
//! that dynasm would encode longer than needed, is written as assembly text; the rest goes through
//! [`encode`](crate::encode). Flags never live from one BPF instruction to the next, so any method
//! but `mov` and `lea` may change them.

use dynasmrt::x64::X64Relocation;
use dynasmrt::{AssemblyOffset, DynasmApi, VecAssembler, dynasm};
use ebpf_image::{CodeOffset, Reloc, RelocKind, Symbol};
use ebpf_isa::{Extend, Pc, Size, SubprogIdx, Width};

use crate::encode::{Bytes, Mem, Opcode};
use crate::positions::{Fixup, Positions, Reach, Target};
use crate::regs::Gpr;

/// Assembly text; a register in `Rq(..)` is a [`Gpr`].
macro_rules! x86 {
    ($emitter:ident $($text:tt)*) => {
        dynasm!($emitter.asm ; .arch x64 $($text)*)
    };
}

/// Two-operand arithmetic, by the digit of its immediate form (`81 /digit`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Arith {
    Add = 0,
    Or = 1,
    /// Adds the carry, too.
    Adc = 2,
    And = 4,
    Sub = 5,
    Xor = 6,
    Cmp = 7,
}

/// Shifts, by their digit (`C1 /digit`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Shift {
    Shl = 4,
    Shr = 5,
    Sar = 7,
}

/// One-operand arithmetic, by its digit (`F7 /digit`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Unary {
    Neg = 3,
    /// Divides `rdx:rax`: quotient to `rax`, remainder to `rdx`.
    Div = 6,
    /// The same, signed.
    Idiv = 7,
}

/// Conditions, by their code (`0F 80+code`, `70+code`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Cond {
    Below = 0x2,
    AboveEqual = 0x3,
    Equal = 0x4,
    NotEqual = 0x5,
    BelowEqual = 0x6,
    Above = 0x7,
    Less = 0xc,
    GreaterEqual = 0xd,
    LessEqual = 0xe,
    Greater = 0xf,
}

impl Cond {
    /// The condition that holds where this one does not: its code differs in the lowest bit.
    pub(crate) const fn negated(self) -> Self {
        match self {
            Self::Below => Self::AboveEqual,
            Self::AboveEqual => Self::Below,
            Self::Equal => Self::NotEqual,
            Self::NotEqual => Self::Equal,
            Self::BelowEqual => Self::Above,
            Self::Above => Self::BelowEqual,
            Self::Less => Self::GreaterEqual,
            Self::GreaterEqual => Self::Less,
            Self::LessEqual => Self::Greater,
            Self::Greater => Self::LessEqual,
        }
    }
}

/// A short forward jump whose target is not emitted yet: hand it to [`Emitter::land`].
#[must_use = "a jump needs a place to land"]
pub(crate) struct Skip(AssemblyOffset);

/// The machine code so far, and what is open in it.
pub(crate) struct Emitter {
    asm: VecAssembler<X64Relocation>,
    relocs: Vec<Reloc>,
    /// Where BPF instructions went, and jumps that wait for theirs.
    pub(crate) positions: Positions,
}

impl Emitter {
    /// An emitter for a program with one estimate a slot: see [`Positions::new`].
    pub(crate) fn new(estimates: Vec<CodeOffset>) -> Self {
        // Room for code of usual density; more is allocated as needed.
        const BYTES_PER_SLOT: usize = 6;
        let asm =
            VecAssembler::new_with_capacity(0, estimates.len() * BYTES_PER_SLOT, 0, 0, 0, 0, 0);
        Self { asm, relocs: Vec::new(), positions: Positions::new(estimates) }
    }

    /// The end of the code so far.
    pub(crate) fn here(&self) -> CodeOffset {
        // `Program::MAX_SLOTS` instructions of some 60 bytes are less than 4 GiB.
        CodeOffset(self.asm.offset().0 as u32)
    }

    /// Everything that was emitted.
    pub(crate) fn finish(self) -> (Vec<u8>, Vec<Reloc>, Positions) {
        let code = self.asm.finalize().expect("invariant: no dynasm labels are used");
        (code, self.relocs, self.positions)
    }

    fn put(&mut self, bytes: Bytes) {
        self.asm.extend(bytes.as_slice());
    }
}

/// Moves and arithmetic on registers.
impl Emitter {
    /// `dst = src`, zero-extended from `width`.
    pub(crate) fn mov(&mut self, width: Width, dst: Gpr, src: Gpr) {
        if dst != src || width == Width::W32 {
            self.put(Opcode::new(0x89).width(width).regs(src, dst));
        }
    }

    /// `dst = value`
    pub(crate) fn mov_imm(&mut self, dst: Gpr, value: u64) {
        if value == 0 {
            self.arith(Arith::Xor, Width::W32, dst, dst);
        } else if let Ok(low) = u32::try_from(value) {
            self.put(Opcode::new(0xb8).plus(dst).imm32(low as i32));
        } else if let Ok(low) = i32::try_from(value as i64) {
            self.put(Opcode::new(0xc7).width(Width::W64).digit(0, dst).imm32(low));
        } else {
            x86!(self ; mov Rq(dst), QWORD value as i64);
        }
    }

    /// `dst = address of symbol`
    pub(crate) fn mov_address(&mut self, dst: Gpr, symbol: Symbol) {
        x86!(self ; mov Rq(dst), QWORD 0);
        self.reloc(8, RelocKind::Address(symbol));
    }

    /// `dst = address of the subprogram`
    pub(crate) fn lea_subprog(&mut self, dst: Gpr, subprog: SubprogIdx) {
        x86!(self ; lea Rq(dst), [rip + 0]);
        self.fix_up(Reach::Near, Target::Subprog(subprog));
    }

    /// `dst = src + 1`; flags stay.
    pub(crate) fn lea_plus_one(&mut self, width: Width, dst: Gpr, src: Gpr) {
        self.put(Opcode::new(0x8d).width(width).mem(dst, Mem { base: src, disp: 1 }));
    }

    /// `dst = address of mem`; flags stay.
    pub(crate) fn lea(&mut self, dst: Gpr, mem: Mem) {
        self.put(Opcode::new(0x8d).width(Width::W64).mem(dst, mem));
    }

    /// `dst = low size bytes of src`, extended to `width` and then with zeros.
    pub(crate) fn mov_extend(
        &mut self,
        extend: Extend,
        size: Size,
        width: Width,
        dst: Gpr,
        src: Gpr,
    ) {
        match (extend, size, width) {
            (_, Size::Dw, _) | (_, Size::W, Width::W32) => self.mov(width, dst, src),
            (Extend::Zero, Size::W, Width::W64) => self.mov(Width::W32, dst, src),
            _ => {
                let mut opcode = extending(extend, size, width);
                if size == Size::B {
                    opcode = opcode.byte_operand(src);
                }
                self.put(opcode.regs(dst, src));
            }
        }
    }

    /// `dst = dst op src`
    pub(crate) fn arith(&mut self, op: Arith, width: Width, dst: Gpr, src: Gpr) {
        self.put(Opcode::new((op as u8) << 3 | 1).width(width).regs(src, dst));
    }

    /// `dst = dst op imm`, the immediate sign-extended to `width`.
    pub(crate) fn arith_imm(&mut self, op: Arith, width: Width, dst: Gpr, imm: i32) {
        let digit = op as u8;
        if let Ok(imm) = i8::try_from(imm) {
            self.put(Opcode::new(0x83).width(width).digit(digit, dst).imm8(imm as u8));
        } else if dst == Gpr::Rax {
            self.put(Opcode::new(digit << 3 | 5).width(width).alone().imm32(imm));
        } else {
            self.put(Opcode::new(0x81).width(width).digit(digit, dst).imm32(imm));
        }
    }

    /// Flags of `lhs & rhs`.
    pub(crate) fn test(&mut self, width: Width, lhs: Gpr, rhs: Gpr) {
        self.put(Opcode::new(0x85).width(width).regs(rhs, lhs));
    }

    /// The zero flag of `lhs & imm`, the immediate sign-extended to `width`; other flags mean
    /// nothing, as a narrower form may have been taken.
    pub(crate) fn test_imm(&mut self, width: Width, lhs: Gpr, imm: i32) {
        if let Ok(imm) = u8::try_from(imm) {
            self.put(Opcode::new(0xf6).byte_operand(lhs).digit(0, lhs).imm8(imm));
        } else {
            let width = if imm >= 0 { Width::W32 } else { width };
            self.put(Opcode::new(0xf7).width(width).digit(0, lhs).imm32(imm));
        }
    }

    /// `dst = dst * src`
    pub(crate) fn imul(&mut self, width: Width, dst: Gpr, src: Gpr) {
        self.put(Opcode::escaped(0xaf).width(width).regs(dst, src));
    }

    /// `dst = src * imm`, the immediate sign-extended to `width`.
    pub(crate) fn imul_imm(&mut self, width: Width, dst: Gpr, src: Gpr, imm: i32) {
        match i8::try_from(imm) {
            Ok(imm) => self.put(Opcode::new(0x6b).width(width).regs(dst, src).imm8(imm as u8)),
            Err(_) => self.put(Opcode::new(0x69).width(width).regs(dst, src).imm32(imm)),
        }
    }

    /// Negation or division; the operand is `dst` or the divisor.
    pub(crate) fn unary(&mut self, op: Unary, width: Width, reg: Gpr) {
        self.put(Opcode::new(0xf7).width(width).digit(op as u8, reg));
    }

    /// Sign-extends `rax` into `rdx`, as a signed division wants it.
    pub(crate) fn sign_extend_into_rdx(&mut self, width: Width) {
        match width {
            Width::W32 => x86!(self ; cdq),
            Width::W64 => x86!(self ; cqo),
        }
    }

    /// Shifts `dst` by a count from 1 to one less than the width.
    pub(crate) fn shift_imm(&mut self, op: Shift, width: Width, dst: Gpr, count: u8) {
        match count {
            1 => self.put(Opcode::new(0xd1).width(width).digit(op as u8, dst)),
            _ => self.put(Opcode::new(0xc1).width(width).digit(op as u8, dst).imm8(count)),
        }
    }

    /// Shifts `dst` by `cl`, which the machine masks to the width.
    pub(crate) fn shift_cl(&mut self, op: Shift, width: Width, dst: Gpr) {
        self.put(Opcode::new(0xd3).width(width).digit(op as u8, dst));
    }

    /// Reverses the two low bytes of `dst`; the others stay.
    pub(crate) fn rol16_by_8(&mut self, dst: Gpr) {
        self.put(Opcode::new(0xc1).bits16().digit(0, dst).imm8(8));
    }

    /// Reverses the bytes of `dst`.
    pub(crate) fn bswap(&mut self, width: Width, dst: Gpr) {
        self.put(Opcode::escaped(0xc8).width(width).plus(dst));
    }
}

/// Memory.
impl Emitter {
    /// `dst = *mem`, extended to 64 bits.
    pub(crate) fn load(&mut self, extend: Extend, size: Size, dst: Gpr, mem: Mem) {
        let opcode = match (extend, size) {
            (_, Size::Dw) => Opcode::new(0x8b).width(Width::W64),
            (Extend::Zero, Size::W) => Opcode::new(0x8b),
            (Extend::Zero, _) => extending(extend, size, Width::W32),
            (Extend::Sign, _) => extending(extend, size, Width::W64),
        };
        self.put(opcode.mem(dst, mem));
    }

    /// `*mem = low bytes of src`
    pub(crate) fn store(&mut self, size: Size, mem: Mem, src: Gpr) {
        let opcode = match size {
            Size::B => Opcode::new(0x88).byte_operand(src),
            Size::H => Opcode::new(0x89).bits16(),
            Size::W => Opcode::new(0x89),
            Size::Dw => Opcode::new(0x89).width(Width::W64),
        };
        self.put(opcode.mem(src, mem));
    }

    /// `*mem = imm`, sign-extended to 64 bits.
    pub(crate) fn store_imm(&mut self, size: Size, mem: Mem, imm: i32) {
        let opcode = Opcode::new(if size == Size::B { 0xc6 } else { 0xc7 });
        let bytes = match size {
            Size::B => opcode.mem_digit(0, mem).imm8(imm as u8),
            Size::H => opcode.bits16().mem_digit(0, mem).imm16(imm as u16),
            Size::W => opcode.mem_digit(0, mem).imm32(imm),
            Size::Dw => opcode.width(Width::W64).mem_digit(0, mem).imm32(imm),
        };
        self.put(bytes);
    }

    /// `dst = dst op *mem`
    pub(crate) fn arith_load(&mut self, op: Arith, width: Width, dst: Gpr, mem: Mem) {
        self.put(Opcode::new((op as u8) << 3 | 3).width(width).mem(dst, mem));
    }

    /// `*mem = *mem op imm`, the immediate sign-extended to `width`.
    pub(crate) fn arith_mem_imm(&mut self, op: Arith, width: Width, mem: Mem, imm: i32) {
        let digit = op as u8;
        self.put(match i8::try_from(imm) {
            Ok(imm) => Opcode::new(0x83).width(width).mem_digit(digit, mem).imm8(imm as u8),
            Err(_) => Opcode::new(0x81).width(width).mem_digit(digit, mem).imm32(imm),
        });
    }

    /// `*mem = *mem op src`, atomically.
    pub(crate) fn lock_arith(&mut self, op: Arith, width: Width, mem: Mem, src: Gpr) {
        self.put(Opcode::new((op as u8) << 3 | 1).lock().width(width).mem(src, mem));
    }

    /// `src, *mem = *mem, *mem + src`, atomically.
    pub(crate) fn lock_xadd(&mut self, width: Width, mem: Mem, src: Gpr) {
        self.put(Opcode::escaped(0xc1).lock().width(width).mem(src, mem));
    }

    /// `src, *mem = *mem, src`, atomically: the machine locks exchanges with memory by itself.
    pub(crate) fn xchg(&mut self, width: Width, mem: Mem, src: Gpr) {
        self.put(Opcode::new(0x87).width(width).mem(src, mem));
    }

    /// Atomically: if `*mem == rax`, sets the zero flag and `*mem = src`, otherwise clears it and
    /// `rax = *mem`. With 32 bits the upper half of `rax` is cleared in the second case only.
    pub(crate) fn lock_cmpxchg(&mut self, width: Width, mem: Mem, src: Gpr) {
        self.put(Opcode::escaped(0xb1).lock().width(width).mem(src, mem));
    }
}

/// Control flow and the stack.
impl Emitter {
    /// Jumps from the BPF instruction at `pc` to another.
    pub(crate) fn jump(&mut self, pc: Pc, target: Pc) {
        let reach = self.positions.reach(pc, self.here(), target);
        match reach {
            Reach::Short => self.asm.extend(&[0xeb, 0]),
            Reach::Near => self.asm.extend(&[0xe9, 0, 0, 0, 0]),
        }
        self.fix_up(reach, Target::Insn(target));
    }

    /// Jumps from the BPF instruction at `pc` to another if the condition holds.
    pub(crate) fn jump_if(&mut self, cond: Cond, pc: Pc, target: Pc) {
        let reach = self.positions.reach(pc, self.here(), target);
        match reach {
            Reach::Short => self.asm.extend(&[0x70 | cond as u8, 0]),
            Reach::Near => self.asm.extend(&[0x0f, 0x80 | cond as u8, 0, 0, 0, 0]),
        }
        self.fix_up(reach, Target::Insn(target));
    }

    /// Jumps forward within the code of one BPF instruction, if the condition (where there is
    /// one) holds.
    pub(crate) fn skip(&mut self, cond: Option<Cond>) -> Skip {
        let opcode = cond.map_or(0xeb, |cond| 0x70 | cond as u8);
        self.asm.extend(&[opcode, 0]);
        Skip(self.asm.offset())
    }

    /// Lets a jump land here.
    pub(crate) fn land(&mut self, Skip(from): Skip) {
        let distance = self.asm.offset().0 - from.0;
        let distance = i8::try_from(distance).expect("invariant: one instruction's code is short");
        let mut field = self.asm.alter();
        field.goto(AssemblyOffset(from.0 - 1));
        field.push_i8(distance);
    }

    /// Jumps back within the code of one BPF instruction, if the condition holds.
    pub(crate) fn repeat_if(&mut self, cond: Cond, start: CodeOffset) {
        let end = self.here().0 + 2;
        let distance = i64::from(start.0) - i64::from(end);
        let distance = i8::try_from(distance).expect("invariant: one instruction's code is short");
        self.asm.extend(&[0x70 | cond as u8, distance as u8]);
    }

    /// Calls something outside of the image.
    pub(crate) fn call_symbol(&mut self, symbol: Symbol) {
        x86!(self ; call DWORD 0);
        self.reloc(4, RelocKind::Call(symbol));
    }

    /// Calls a subprogram of the image.
    pub(crate) fn call_subprog(&mut self, subprog: SubprogIdx) {
        x86!(self ; call DWORD 0);
        self.fix_up(Reach::Near, Target::Subprog(subprog));
    }

    /// Calls what was emitted at `start` before.
    pub(crate) fn call_back(&mut self, start: CodeOffset) {
        self.asm.push(0xe8);
        self.distance_back(start);
    }

    /// Jumps to what was emitted at `start` before, if the condition (where there is one) holds.
    pub(crate) fn jump_back(&mut self, cond: Option<Cond>, start: CodeOffset) {
        match cond {
            None => self.asm.push(0xe9),
            Some(cond) => self.asm.extend(&[0x0f, 0x80 | cond as u8]),
        }
        self.distance_back(start);
    }

    /// A displacement of 32 bits to what was emitted before.
    fn distance_back(&mut self, start: CodeOffset) {
        // Wrong only in code that is too long for an image, which is refused.
        let end = self.here().0.wrapping_add(4);
        self.asm.push_u32(start.0.wrapping_sub(end));
    }

    /// Calls the function at the address in `reg`.
    pub(crate) fn call_reg(&mut self, reg: Gpr) {
        self.put(Opcode::new(0xff).digit(2, reg));
    }

    /// Calls the function whose address is in memory.
    pub(crate) fn call_mem(&mut self, mem: Mem) {
        self.put(Opcode::new(0xff).mem_digit(2, mem));
    }

    /// Jumps to the address in `reg`.
    pub(crate) fn jump_reg(&mut self, reg: Gpr) {
        self.put(Opcode::new(0xff).digit(4, reg));
    }

    pub(crate) fn push_mem(&mut self, mem: Mem) {
        self.put(Opcode::new(0xff).mem_digit(6, mem));
    }

    pub(crate) fn pop_mem(&mut self, mem: Mem) {
        self.put(Opcode::new(0x8f).mem_digit(0, mem));
    }

    pub(crate) fn push(&mut self, reg: Gpr) {
        self.put(Opcode::new(0x50).plus(reg));
    }

    pub(crate) fn pop(&mut self, reg: Gpr) {
        self.put(Opcode::new(0x58).plus(reg));
    }

    /// Makes a stack frame of `size` bytes below a new `rbp`.
    pub(crate) fn enter(&mut self, size: u32) {
        x86!(self ; push rbp ; mov rbp, rsp);
        if size > 0 {
            let size = i32::try_from(size).expect("invariant: a frame has at most 64 KiB");
            self.arith_imm(Arith::Sub, Width::W64, Gpr::Rsp, size);
        }
    }

    /// Undoes [`Emitter::enter`].
    pub(crate) fn leave(&mut self) {
        x86!(self ; leave);
    }

    pub(crate) fn ret(&mut self) {
        x86!(self ; ret);
    }

    /// Records that the last `len` bytes are to be filled in at placement.
    fn reloc(&mut self, len: u32, kind: RelocKind) {
        let at = CodeOffset(self.here().0 - len);
        self.relocs.push(Reloc { at, kind });
    }

    /// Records that the last bytes are a displacement to be filled in when all is emitted.
    fn fix_up(&mut self, reach: Reach, target: Target) {
        let end = self.here();
        self.positions.fix_up(Fixup { end, reach, target });
    }
}

/// `movzx`, `movsx` or `movsxd`, for loads and registers alike: bytes and words to any width,
/// double words to 64 bits with their sign.
fn extending(extend: Extend, size: Size, width: Width) -> Opcode {
    let opcode = match (extend, size) {
        (Extend::Zero, Size::B) => Opcode::escaped(0xb6),
        (Extend::Zero, _) => Opcode::escaped(0xb7),
        (Extend::Sign, Size::B) => Opcode::escaped(0xbe),
        (Extend::Sign, Size::H) => Opcode::escaped(0xbf),
        (Extend::Sign, _) => Opcode::new(0x63),
    };
    match extend {
        // Writing the lower half clears the upper one.
        Extend::Zero => opcode,
        Extend::Sign => opcode.width(width),
    }
}

#[cfg(test)]
mod tests;
