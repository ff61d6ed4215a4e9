//! One method for each thing the machine can do: the lowering says what, the emitter picks bytes.
//!
//! Immediates, displacements and jumps take their shortest form. What has fixed operands, or none
//! that dynasm would encode longer than needed, is written as assembly text; the rest goes through
//! [`encode`](crate::encode). Flags never live from one BPF instruction to the next, so any method
//! but `mov` and `lea` may change them.

use dynasmrt::{DynasmApi, dynasm};
use ebpf_image::{CodeOffset, ImageError, Reloc, RelocKind, Symbol};
use ebpf_isa::{Extend, Pc, Size, SubprogIdx, Width};

use crate::code::Code;
use crate::encode::{Bytes, Mem, Opcode, fits8};
use crate::positions::Positions;
use crate::regs::Gpr;

/// Assembly text; a register in `Rq(..)` is a [`Gpr`].
macro_rules! x86 {
    ($emitter:ident $($text:tt)*) => {
        dynasm!($emitter.code ; .arch x64 $($text)*)
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

/// Shifts and rotations, by their digit (`C1 /digit`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Shift {
    Rol = 0,
    Ror = 1,
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

/// What [`Emitter::store_zeros`] zeroes.
pub(crate) const ZEROS: usize = 64;

/// Conditions, by their code (`0F 80+code`, `70+code`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Cond {
    Overflow = 0x0,
    NoOverflow = 0x1,
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
            Self::Overflow => Self::NoOverflow,
            Self::NoOverflow => Self::Overflow,
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
pub(crate) struct Skip(CodeOffset);

/// A forward jump with a displacement of 32 bits, or an address that is taken by one, for
/// [`Emitter::land_far`] and [`Emitter::land_at`].
#[must_use = "a jump needs a place to land"]
#[derive(Debug)]
pub(crate) struct FarSkip(CodeOffset);

/// The machine code so far, and what is open in it.
pub(crate) struct Emitter {
    code: Code,
    relocs: Vec<Reloc>,
    /// Where BPF instructions went, and jumps that wait for theirs.
    pub(crate) positions: Positions,
}

impl Emitter {
    /// An emitter into which these positions fit.
    pub(crate) fn new(positions: Positions) -> Self {
        // Room for code of usual density, and for a prologue; more is allocated as needed.
        const BYTES_PER_SLOT: usize = 6;
        const BYTES_AT_LEAST: usize = 128;
        let capacity = positions.len() * BYTES_PER_SLOT + BYTES_AT_LEAST;
        Self { code: Code::with_capacity(capacity), relocs: Vec::new(), positions }
    }

    /// The end of the code so far.
    #[inline]
    pub(crate) fn here(&self) -> CodeOffset {
        // `Program::MAX_SLOTS` instructions of at most 127 bytes are less than 4 GiB.
        CodeOffset(self.code.len() as u32)
    }

    /// Fills in the jumps of the current subprogram, which is emitted.
    ///
    /// # Errors
    /// The code is too long for an image.
    pub(crate) fn end_subprog(&mut self) -> Result<(), ImageError> {
        self.positions.resolve_jumps(self.code.bytes_mut())
    }

    /// Everything that was emitted.
    pub(crate) fn finish(self) -> (Vec<u8>, Vec<Reloc>, Positions) {
        (self.code.finish(), self.relocs, self.positions)
    }

    #[inline]
    fn put(&mut self, bytes: Bytes) {
        self.code.put(bytes);
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
            self.put(Opcode::new(0xb8).width(Width::W64).plus(dst).imm64(value));
        }
    }

    /// `dst = address of symbol`
    pub(crate) fn mov_address(&mut self, dst: Gpr, symbol: Symbol) {
        self.put(Opcode::new(0xb8).width(Width::W64).plus(dst).imm64(0));
        self.reloc(8, RelocKind::Address(symbol));
    }

    /// `dst = address of what is emitted later`
    pub(crate) fn lea_ahead(&mut self, dst: Gpr) -> FarSkip {
        x86!(self ; lea Rq(dst), [rip + 0]);
        FarSkip(self.here())
    }

    /// `dst = address of mem`, or its lower half; flags stay.
    pub(crate) fn lea(&mut self, width: Width, dst: Gpr, mem: Mem) {
        self.put(Opcode::new(0x8d).width(width).mem(dst, mem));
    }

    /// `dst = lhs + rhs`; flags stay. `rhs` is not `rsp`.
    pub(crate) fn lea_sum(&mut self, width: Width, dst: Gpr, lhs: Gpr, rhs: Gpr) {
        self.put(Opcode::new(0x8d).width(width).indexed(dst, (lhs, rhs, 0)));
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
        let (digit, short) = (op as u8, fits8(imm));
        if dst == Gpr::Rax && !short {
            self.put(Opcode::new(digit << 3 | 5).width(width).alone().imm32(imm));
        } else {
            let opcode = Opcode::new(if short { 0x83 } else { 0x81 });
            self.put(opcode.width(width).digit(digit, dst).imm8_or_32(imm));
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
        let opcode = Opcode::new(if fits8(imm) { 0x6b } else { 0x69 });
        self.put(opcode.width(width).regs(dst, src).imm8_or_32(imm));
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
        self.put(Self::loading(extend, size).mem(dst, mem));
    }

    /// `dst = *(base + index + disp)`, extended to 64 bits; `index` is not `rsp`.
    pub(crate) fn load_indexed(
        &mut self,
        extend: Extend,
        size: Size,
        dst: Gpr,
        place: (Gpr, Gpr, i32),
    ) {
        self.put(Self::loading(extend, size).indexed(dst, place));
    }

    /// How a load is extended to 64 bits.
    #[inline]
    fn loading(extend: Extend, size: Size) -> Opcode {
        const WIDE: Opcode = Opcode::new(0x8b).width(Width::W64);
        const ZERO: [Opcode; 4] = by_size([
            extending(Extend::Zero, Size::B, Width::W32),
            extending(Extend::Zero, Size::H, Width::W32),
            Opcode::new(0x8b),
            WIDE,
        ]);
        const SIGN: [Opcode; 4] = by_size([
            extending(Extend::Sign, Size::B, Width::W64),
            extending(Extend::Sign, Size::H, Width::W64),
            extending(Extend::Sign, Size::W, Width::W64),
            WIDE,
        ]);
        let opcodes = if extend == Extend::Sign { SIGN } else { ZERO };
        opcodes[size as usize]
    }

    /// `*mem = low bytes of src`
    pub(crate) fn store(&mut self, size: Size, mem: Mem, src: Gpr) {
        const BY_SIZE: [Opcode; 4] = by_size([
            Opcode::new(0x88),
            Opcode::new(0x89).bits16(),
            Opcode::new(0x89),
            Opcode::new(0x89).width(Width::W64),
        ]);
        let opcode = BY_SIZE[size as usize];
        let of_byte = opcode.byte_operand(src);
        self.put(if size == Size::B { of_byte } else { opcode }.mem(src, mem));
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
        let opcode = Opcode::new(if fits8(imm) { 0x83 } else { 0x81 });
        self.put(opcode.width(width).mem_digit(op as u8, mem).imm8_or_32(imm));
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

/// Zeros, sixteen bytes at a time: every x86-64 has the registers for that, and no BPF register
/// lives there.
impl Emitter {
    /// Zeroes `xmm0`, which the next methods store.
    pub(crate) fn zero_vector(&mut self) {
        x86!(self ; xorps xmm0, xmm0);
    }

    /// Zeroes the [`ZEROS`] bytes below the address in `end`.
    pub(crate) fn store_zeros(&mut self, end: Gpr) {
        for disp in (-(ZEROS as i32)..0).step_by(16) {
            self.store_zeros_at(Mem { base: end, disp });
        }
    }

    /// Zeroes 16 bytes.
    pub(crate) fn store_zeros_at(&mut self, mem: Mem) {
        // movups mem, xmm0: the number of xmm0 is that of rax.
        self.put(Opcode::escaped(0x11).mem(Gpr::Rax, mem));
    }
}

/// Control flow and the stack.
impl Emitter {
    /// Jumps from the BPF instruction at `pc` to another.
    pub(crate) fn jump(&mut self, pc: Pc, target: Pc) {
        let short = self.positions.is_near(pc, self.here(), target);
        let (short_form, form) = (Bytes::of(&[0xeb, 0]), Bytes::of(&[0xe9, 0, 0, 0, 0]));
        self.put(Bytes::select(short, short_form, form));
        self.positions.fix_up(self.here(), target, short);
    }

    /// Jumps from the BPF instruction at `pc` to another if the condition holds.
    #[inline]
    pub(crate) fn jump_if(&mut self, cond: Cond, pc: Pc, target: Pc) {
        let short = self.positions.is_near(pc, self.here(), target);
        let cond = cond as u8;
        self.put(Bytes::select(short, Bytes::of(&[0x70 | cond, 0]), far_jump_if(cond)));
        self.positions.fix_up(self.here(), target, short);
    }

    /// Jumps forward within the code of one BPF instruction, if the condition (where there is
    /// one) holds.
    pub(crate) fn skip(&mut self, cond: Option<Cond>) -> Skip {
        let opcode = cond.map_or(0xeb, |cond| 0x70 | cond as u8);
        self.put(Bytes::of(&[opcode, 0]));
        Skip(self.here())
    }

    /// Lets a jump land here.
    pub(crate) fn land(&mut self, Skip(end): Skip) {
        let distance = i8::try_from(self.here().0 - end.0);
        let distance = distance.expect("invariant: one instruction's code is short");
        *self.code.field(end.index() - 1) = distance.to_le_bytes();
    }

    /// Jumps forward, to what is emitted after the subprogram, if the condition (where there is
    /// one) holds.
    pub(crate) fn far_skip(&mut self, cond: Option<Cond>) -> FarSkip {
        self.put(cond.map_or(Bytes::of(&[0xe9, 0, 0, 0, 0]), |cond| far_jump_if(cond as u8)));
        FarSkip(self.here())
    }

    /// Lets a jump land here.
    pub(crate) fn land_far(&mut self, from: FarSkip) {
        self.land_at(from, self.here());
    }

    /// Lets a jump land at `target`.
    pub(crate) fn land_at(&mut self, FarSkip(end): FarSkip, target: CodeOffset) {
        let distance = target.0.wrapping_sub(end.0);
        *self.code.field(end.index() - 4) = distance.to_le_bytes();
    }

    /// Jumps back within the code of one BPF instruction, if the condition (where there is one)
    /// holds.
    pub(crate) fn repeat(&mut self, cond: Option<Cond>, start: CodeOffset) {
        let end = self.here().0 + 2;
        let distance = i64::from(start.0) - i64::from(end);
        let distance = i8::try_from(distance).expect("invariant: one instruction's code is short");
        let opcode = cond.map_or(0xeb, |cond| 0x70 | cond as u8);
        self.put(Bytes::of(&[opcode, distance as u8]));
    }

    /// Calls something outside of the image.
    pub(crate) fn call_symbol(&mut self, symbol: Symbol) {
        x86!(self ; call DWORD 0);
        self.reloc(4, RelocKind::Call(symbol));
    }

    /// Calls a subprogram of the image.
    pub(crate) fn call_subprog(&mut self, subprog: SubprogIdx) {
        x86!(self ; call DWORD 0);
        self.positions.fix_up_subprog(self.here(), subprog);
    }

    /// Calls what was emitted at `start` before.
    pub(crate) fn call_back(&mut self, start: CodeOffset) {
        let distance = self.distance_back(start, 5);
        self.put(Opcode::new(0xe8).alone().imm32(distance));
    }

    /// Jumps to what was emitted at `start` before, if the condition (where there is one) holds.
    pub(crate) fn jump_back(&mut self, cond: Option<Cond>, start: CodeOffset) {
        let insn = match cond {
            None => Opcode::new(0xe9).alone().imm32(self.distance_back(start, 5)),
            Some(cond) => {
                Opcode::escaped(0x80 | cond as u8).alone().imm32(self.distance_back(start, 6))
            }
        };
        self.put(insn);
    }

    /// The displacement to what was emitted before, in an instruction of so many bytes.
    fn distance_back(&self, start: CodeOffset, len: u32) -> i32 {
        // Wrong only in code that is too long for an image, which is refused.
        start.0.wrapping_sub(self.here().0.wrapping_add(len)).cast_signed()
    }

    /// Calls the function at the address in `reg`.
    pub(crate) fn call_reg(&mut self, reg: Gpr) {
        self.put(Opcode::new(0xff).digit(2, reg));
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

    /// Pushes 8 bytes: the immediate, sign-extended.
    pub(crate) fn push_imm(&mut self, imm: i32) {
        let opcode = Opcode::new(if fits8(imm) { 0x6a } else { 0x68 });
        self.put(opcode.alone().imm8_or_32(imm));
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

    /// Returns, and drops so many bytes of arguments that were pushed before the call.
    pub(crate) fn ret_and_drop(&mut self, bytes: u16) {
        self.put(Opcode::new(0xc2).alone().imm16(bytes));
    }

    /// Records that the last `len` bytes are to be filled in at placement.
    fn reloc(&mut self, len: u32, kind: RelocKind) {
        let at = CodeOffset(self.here().0 - len);
        self.relocs.push(Reloc { at, kind });
    }
}

/// What is given for bytes, half words, words and double words, as an array by [`Size`].
const fn by_size([b, h, w, dw]: [Opcode; 4]) -> [Opcode; 4] {
    let mut opcodes = [dw; 4];
    opcodes[Size::B as usize] = b;
    opcodes[Size::H as usize] = h;
    opcodes[Size::W as usize] = w;
    opcodes
}

/// `jcc rel32`, to be filled in.
const fn far_jump_if(cond: u8) -> Bytes {
    Bytes::of(&[0x0f, 0x80 | cond, 0, 0, 0, 0])
}

/// `movzx`, `movsx` or `movsxd`, for loads and registers alike: bytes and words to any width,
/// double words to 64 bits with their sign.
const fn extending(extend: Extend, size: Size, width: Width) -> Opcode {
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
