//! Random programs on two numbers, and what each instruction must make of them.

use std::fmt;

use ebpf_runtime::isa::uapi::HelperId;
use ebpf_runtime::isa::{
    AluOp, ByteOrder, CallTarget, CmpOp, Extend, Imm64, Insn, Operand, Pc, Reg, Size, WideSource,
    Width, encode_all, semantics,
};
use ebpf_runtime::verifier::domain::{self, Scalar};
use ebpf_testkit::Rng;
use serde_json::{Value, json};

use super::log::Log;

/// The registers that are computed with.
const NUMBERS: [Reg; 2] = [Reg::R6, Reg::R7];
/// Holds constants that are no immediates.
const CONSTANT: Reg = Reg::R8;
/// Where numbers are stored and loaded again.
const SLOT: i16 = -8;
/// Instructions of a program that are compared.
const STEPS: u64 = 40;

const WIDTHS: [Width; 3] = [Width::W64, Width::W64, Width::W32];
const NARROW: [Size; 3] = [Size::B, Size::H, Size::W];
const SHIFTS: [AluOp; 3] = [AluOp::Lsh, AluOp::Rsh, AluOp::Arsh];
const DIVISIONS: [AluOp; 4] = [AluOp::Div, AluOp::Mod, AluOp::SDiv, AluOp::SMod];

/// Slots of an end: a return value, so that no two are the same, and an exit.
const END_SLOTS: u32 = 2;

/// Numbers at which intervals break.
const CORNERS: [u64; 18] = [
    0,
    1,
    2,
    3,
    0x7fff_ffff,
    0x8000_0000,
    0x8000_0001,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0001,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0x8000_0000_0000_0001,
    0xffff_fffe_ffff_ffff,
    0xffff_ffff_0000_0000,
    0xffff_ffff_8000_0000,
    0xffff_ffff_8000_0001,
    0xffff_ffff_ffff_ffff,
];

/// A program, and what is to be seen of it.
pub(super) struct Walk {
    insns: Vec<Option<Insn>>,
    pairs: Vec<Pair>,
    /// Where the ends begin that jumps lead to.
    ends: u32,
}

/// One operation on one pair of operands.
pub(super) struct Pair {
    /// Name of the operation.
    pub(super) operation: String,
    pub(super) operands: String,
    pub(super) expected: Vec<Expected>,
}

/// Something that the kernel's log must show.
pub(super) enum Expected {
    /// A register behind an instruction, on the way that goes on.
    Behind(Pc, Reg, Scalar),
    /// A register where this jump has led to its end.
    Taken(Jump, Reg, Scalar),
    /// A register before the instruction is explored a second time.
    Again(Pc, Reg, Scalar),
    /// That there is one way only: whether the jump is taken.
    Only(Jump, bool),
}

/// A jump, and the number of the end that it leads to.
#[derive(Clone, Copy)]
pub(super) struct Jump {
    from: Pc,
    end: u32,
}

impl Expected {
    /// The same in the log.
    pub(super) fn find(&self, log: &Log<'_>, walk: &Walk) -> Option<String> {
        match *self {
            Self::Behind(at, reg, _) => log.behind(at, reg),
            Self::Again(at, reg, _) => log.waiting(at, at, reg),
            Self::Taken(jump, reg, _) => log.waiting(jump.from, walk.end(jump.end), reg),
            Self::Only(Jump { from, end }, _) => {
                let (taken, not_taken) = (walk.end(end), Pc(from.0 + 1));
                match (log.reaches(taken), log.reaches(not_taken)) {
                    (true, true) => Some("both ways".into()),
                    (false, false) => None,
                    (is_taken, _) => Some(only(is_taken).into()),
                }
            }
        }
    }
}

fn only(taken: bool) -> &'static str {
    if taken { "always taken" } else { "never taken" }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Behind(_, _, value) | Self::Taken(_, _, value) | Self::Again(_, _, value) => {
                value.fmt(f)
            }
            Self::Only(_, taken) => f.write_str(only(*taken)),
        }
    }
}

impl Walk {
    /// A random program.
    pub(super) fn new(rng: &mut Rng) -> Self {
        let mut walker = Walker {
            rng,
            insns: Vec::new(),
            pairs: Vec::new(),
            numbers: [Scalar::UNKNOWN; 2],
            constant: Scalar::UNKNOWN,
            jumps: Vec::new(),
            has_forked: false,
        };
        NUMBERS.into_iter().for_each(|reg| walker.forget(reg));
        for _ in 0..STEPS {
            if walker.step().is_none() {
                break;
            }
        }
        walker.finish()
    }

    pub(super) fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    fn end(&self, number: u32) -> Pc {
        Pc(self.ends + END_SLOTS * number)
    }

    /// The program as a case.
    pub(super) fn case(&self, id: &str) -> Value {
        let slots = encode_all(&self.insns).expect("walks consist of instructions that exist");
        let bytes: Vec<u8> = slots.iter().flat_map(|slot| slot.to_bytes()).collect();
        json!({"id": id, "prog_type": "socket_filter", "insns": hex::encode(bytes)})
    }
}

/// A program in the making.
struct Walker<'r> {
    rng: &'r mut Rng,
    insns: Vec<Option<Insn>>,
    pairs: Vec<Pair>,
    numbers: [Scalar; 2],
    constant: Scalar,
    /// Where the jumps are. Each leads to an end of its own.
    jumps: Vec<Pc>,
    /// Whether an instruction is explored a second time, with another operand.
    has_forked: bool,
}

impl Walker<'_> {
    fn here(&self) -> Pc {
        Pc(self.insns.len() as u32)
    }

    fn push(&mut self, insn: Insn) {
        self.insns.push(Some(insn));
    }

    fn value(&self, reg: Reg) -> Scalar {
        match reg {
            CONSTANT => self.constant,
            _ => self.numbers[usize::from(reg == NUMBERS[1])],
        }
    }

    fn operand(&self, operand: Operand) -> Scalar {
        match operand {
            Operand::Imm(imm) => Scalar::constant(semantics::immediate(imm)),
            Operand::Reg(reg) => self.value(reg),
        }
    }

    fn set(&mut self, reg: Reg, value: Scalar) {
        self.numbers[usize::from(reg == NUMBERS[1])] = value;
    }

    /// A number that nothing is known of.
    fn forget(&mut self, reg: Reg) {
        let mov = |dst, src| Insn::Mov { width: Width::W64, dst, src };
        self.push(Insn::Call(CallTarget::Helper(HelperId::GET_PRANDOM_U32)));
        self.push(mov(reg, Operand::Reg(Reg::R0)));
        self.push(mov(Reg::R0, Operand::Imm(0)));
        self.set(reg, Scalar::UNKNOWN);
    }

    /// Adds an instruction and what comes of it; `None` if the program ends there.
    fn step(&mut self) -> Option<()> {
        let dst = *self.rng.pick(&NUMBERS);
        let is_const = self.value(dst).as_const().is_some();
        if is_const && self.rng.chance(3, 5) || self.rng.chance(1, 32) {
            self.forget(dst);
            return Some(());
        }
        let width = *self.rng.pick(&WIDTHS);
        match self.rng.range(0..100) {
            0..40 => return self.branch(width, dst),
            40..87 => self.arithmetic(width, dst),
            87..89 => self.load(dst),
            89..91 => {
                let result = domain::neg(width, &self.value(dst));
                self.unary(format!("neg{}", width.bits()), Insn::Neg { width, dst }, dst, result);
            }
            91..93 => {
                let result = domain::mov(Width::W32, &self.value(dst));
                let insn = Insn::Mov { width: Width::W32, dst, src: Operand::Reg(dst) };
                self.unary("mov32".into(), insn, dst, result);
            }
            93..97 => self.sign_extension(width, dst),
            _ => self.swap(dst),
        }
        Some(())
    }

    fn unary(&mut self, operation: String, insn: Insn, dst: Reg, result: Scalar) {
        let operands = self.value(dst).to_string();
        let expected = vec![Expected::Behind(self.here(), dst, result)];
        self.pairs.push(Pair { operation, operands, expected });
        self.push(insn);
        self.set(dst, result);
    }

    fn sign_extension(&mut self, width: Width, dst: Reg) {
        let narrower = if width == Width::W64 { &NARROW[..] } else { &NARROW[..2] };
        let from = *self.rng.pick(narrower);
        let result = domain::movsx(width, from, &self.value(dst));
        let operation = format!("movsx{} from {}", width.bits(), from.bits());
        self.unary(operation, Insn::MovSx { width, dst, src: dst, from }, dst, result);
    }

    fn swap(&mut self, dst: Reg) {
        let order = *self.rng.pick(ByteOrder::ALL);
        let size = *self.rng.pick(&[Size::H, Size::W, Size::Dw]);
        let result = domain::swap(order, size, &self.value(dst));
        let operation = format!("{}{}", order.mnemonic(), size.bits());
        self.unary(operation, Insn::Swap { order, size, dst }, dst, result);
    }

    /// The number through the stack, cut on the way back.
    fn load(&mut self, dst: Reg) {
        let size = *self.rng.pick(&NARROW);
        let extend = *self.rng.pick(&[Extend::Zero, Extend::Sign]);
        let result = domain::narrow(size, extend, &self.value(dst));
        self.push(Insn::Store { size: Size::Dw, base: Reg::FP, off: SLOT, src: Operand::Reg(dst) });
        let operation = format!("load{} {extend:?}", size.bits()).to_lowercase();
        let insn = Insn::Load { size, extend, dst, base: Reg::FP, off: SLOT };
        self.unary(operation, insn, dst, result);
    }

    fn arithmetic(&mut self, width: Width, dst: Reg) {
        let op = *self.rng.pick(AluOp::ALL);
        // Divisions are not followed, so there is little to see.
        let op = if DIVISIONS.contains(&op) && self.rng.chance(3, 4) { AluOp::And } else { op };
        let src = if SHIFTS.contains(&op) && self.rng.chance(9, 10) {
            let count = self.rng.range(0..width.bits().into());
            let half = self.rng.chance(1, 8) && width == Width::W64;
            Operand::Imm(if half { 32 } else { count as i32 })
        } else {
            self.second(dst)
        };
        let is_refused = match src {
            Operand::Imm(imm) if SHIFTS.contains(&op) => !(0..width.bits() as i32).contains(&imm),
            Operand::Imm(imm) => DIVISIONS.contains(&op) && imm == 0,
            Operand::Reg(_) => false,
        };
        let src = if is_refused { Operand::Imm(1) } else { src };
        let (a, b) = (self.value(dst), self.operand(src));
        let at = self.here();
        let mut operation = format!("{op:?}{}", width.bits()).to_lowercase();
        let mut expected = Vec::new();
        let mut first = a;
        if let Some((minus_one, zero)) = domain::fork(op, &a, &b) {
            operation.push_str(", mask of a sign");
            expected.push(Expected::Again(at, dst, zero));
            first = minus_one;
            self.has_forked = true;
        }
        let mut result = first;
        domain::alu(op, width, &mut result, &b);
        expected.push(Expected::Behind(at, dst, result));
        self.pairs.push(Pair { operation, operands: format!("{a} and {b}"), expected });
        self.push(Insn::Alu { op, width, dst, src });
        self.set(dst, result);
    }

    /// A second operand: mostly the other number, or a constant.
    fn second(&mut self, dst: Reg) -> Operand {
        let other = if dst == NUMBERS[0] { NUMBERS[1] } else { NUMBERS[0] };
        match self.rng.range(0..100) {
            0..4 => Operand::Reg(dst),
            4..50 => Operand::Reg(other),
            50..60 => Operand::Imm(self.word() as i32),
            _ => {
                let word = self.word();
                if let Ok(imm) = i32::try_from(word.cast_signed()) {
                    return Operand::Imm(imm);
                }
                let source = WideSource::Imm(Imm64::new(word));
                self.push(Insn::LoadWide { dst: CONSTANT, source });
                self.insns.push(None);
                self.constant = Scalar::constant(word);
                Operand::Reg(CONSTANT)
            }
        }
    }

    /// A number near the places where rules change.
    fn word(&mut self) -> u64 {
        let rng = &mut *self.rng;
        let power = 1_u64 << rng.range(0..64);
        let near = |word: u64, by: u64| word.wrapping_add(by).wrapping_sub(1);
        match rng.range(0..10) {
            0 => *rng.pick(&CORNERS),
            1 => near(power, rng.range(0..3)),
            2 => !near(power, rng.range(0..3)),
            3 => rng.range(0..256),
            4 => rng.range(0..256).wrapping_neg(),
            5 => rng.next_u64() >> rng.range(0..64),
            6 => rng.next_u64() & rng.next_u64() & rng.next_u64(),
            7 => rng.next_u64() | rng.next_u64() | rng.next_u64(),
            8 => (rng.next_u64().cast_signed() >> rng.range(0..63)).cast_unsigned(),
            _ => rng.next_u64(),
        }
    }

    /// A jump to an end of its own; the program goes on where it is not taken, if it can be so.
    fn branch(&mut self, width: Width, lhs: Reg) -> Option<()> {
        let op = *self.rng.pick(CmpOp::ALL);
        let rhs = self.second(lhs);
        let (a, b) = (self.value(lhs), self.operand(rhs));
        let jump = Jump { from: self.here(), end: self.jumps.len() as u32 };
        let mut operation = format!("j{op:?}{}", width.bits()).to_lowercase();
        let operands = format!("{a} and {b}");
        self.jumps.push(jump.from);
        self.push(Insn::Branch { op, width, lhs, rhs, target: jump.from });
        let is_same = rhs == Operand::Reg(lhs);
        if is_same {
            operation.push_str(", same register");
        }
        if let Some(taken) = domain::branch(op, width, &a, &b) {
            // Where an instruction is explored twice, the log may show either.
            if !self.has_forked {
                operation.push_str(", known");
                let expected = vec![Expected::Only(jump, taken)];
                self.pairs.push(Pair { operation, operands, expected });
            }
            return (!taken).then_some(());
        }
        let learnt = |taken| match is_same {
            true => domain::refine_same(op, width, taken, &a).map(|both| (both, both)),
            false => domain::refine(op, width, taken, &a, &b),
        };
        let (taken, fallen) = (learnt(true)?, learnt(false)?);
        let mut expected =
            vec![Expected::Taken(jump, lhs, taken.0), Expected::Behind(jump.from, lhs, fallen.0)];
        self.set(lhs, fallen.0);
        if let Operand::Reg(rhs) = rhs
            && NUMBERS.contains(&rhs)
        {
            expected.push(Expected::Taken(jump, rhs, taken.1));
            expected.push(Expected::Behind(jump.from, rhs, fallen.1));
            self.set(rhs, fallen.1);
        }
        self.pairs.push(Pair { operation, operands, expected });
        Some(())
    }

    /// Adds the ends that jumps lead to.
    fn finish(mut self) -> Walk {
        self.end(0);
        let ends = self.here().0;
        for (number, at) in std::mem::take(&mut self.jumps).into_iter().enumerate() {
            if let Some(Some(Insn::Branch { target, .. })) = self.insns.get_mut(at.index()) {
                *target = Pc(ends + END_SLOTS * number as u32);
            }
            self.end(number as i32 + 1);
        }
        let Self { insns, pairs, .. } = self;
        Walk { insns, pairs, ends }
    }

    fn end(&mut self, value: i32) {
        self.push(Insn::Mov { width: Width::W64, dst: Reg::R0, src: Operand::Imm(value) });
        self.push(Insn::Exit);
    }
}
