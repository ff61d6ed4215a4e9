//! Programs as text.

use core::fmt;

use ebpf_isa::{CmpOp, Size};

use super::Form;
use super::assembly::ALU_NAMES;
use crate::ancillary::Ancillary;
use crate::filter::ClassicPc;
use crate::op::{Op, Src, Var};
use crate::raw::SockFilter;

/// A program, to be shown in a form. What is shown can be [parsed](super::parse) again, except for
/// opcodes that Linux does not have in listings and assembly.
#[must_use]
pub const fn display(program: &[SockFilter], form: Form) -> Display<'_> {
    Display { program, form }
}

/// See [`display`].
#[derive(Debug, Clone, Copy)]
pub struct Display<'a> {
    program: &'a [SockFilter],
    form: Form,
}

/// One instruction at its position, as in a listing, but without the position.
#[must_use]
pub const fn insn(pc: ClassicPc, insn: SockFilter) -> InsnText {
    InsnText { pc, insn }
}

/// See [`insn`].
#[derive(Debug, Clone, Copy)]
pub struct InsnText {
    pc: ClassicPc,
    insn: SockFilter,
}

impl fmt::Display for Display<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.form {
            Form::Listing => self.listing(f),
            Form::C => {
                let line = |SockFilter { code, jt, jf, k }: &SockFilter| {
                    writeln!(f, "{{ {code:#x}, {jt}, {jf}, {k:#010x} }},")
                };
                self.program.iter().try_for_each(line)
            }
            Form::Decimal => {
                writeln!(f, "{}", self.program.len())?;
                self.program.iter().try_for_each(|insn| writeln!(f, "{}", Decimals(insn)))
            }
            Form::DecimalComma => {
                write!(f, "{}", self.program.len())?;
                self.program.iter().try_for_each(|insn| write!(f, ",{}", Decimals(insn)))
            }
            Form::Assembly => self.assembly(f),
        }
    }
}

impl Display<'_> {
    fn numbered(&self) -> impl Iterator<Item = (usize, SockFilter)> {
        self.program.iter().copied().enumerate()
    }

    fn listing(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (pc, insn) in self.numbered() {
            writeln!(f, "({pc:03}) {}", InsnText { pc: ClassicPc(pc as u16), insn })?;
        }
        Ok(())
    }

    /// With a label `L…` before each instruction that is a target.
    fn assembly(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut targets = alloc::vec![false; self.program.len()];
        for (pc, insn) in self.numbered() {
            for skip in skips(insn).into_iter().flatten() {
                if let Some(target) = targets.get_mut(pc + 1 + skip as usize) {
                    *target = true;
                }
            }
        }
        for (pc, insn) in self.numbered() {
            match targets[pc] {
                true => write!(f, "{:8}", alloc::format!("L{pc}:"))?,
                false => write!(f, "        ")?,
            }
            let (name, operand) = parts(insn);
            write!(f, "{name}")?;
            match (Op::from_code(insn.code), skips(insn)) {
                (Some(Op::RetA), _) => write!(f, " a")?,
                (_, [Some(skip), None]) => write!(f, " L{}", pc + 1 + skip as usize)?,
                (_, [Some(yes), Some(no)]) => {
                    let (yes, no) = (pc + 1 + yes as usize, pc + 1 + no as usize);
                    write!(f, " {operand},L{yes},L{no}")?;
                }
                _ if operand.is_none() => {}
                _ => write!(f, " {operand}")?,
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// How many instructions an instruction may skip.
fn skips(insn: SockFilter) -> [Option<u32>; 2] {
    match Op::from_code(insn.code) {
        Some(Op::Jump) => [Some(insn.k), None],
        Some(Op::Branch(..)) => [Some(insn.jt.into()), Some(insn.jf.into())],
        _ => [None, None],
    }
}

struct Decimals<'a>(&'a SockFilter);

impl fmt::Display for Decimals<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SockFilter { code, jt, jf, k } = self.0;
        write!(f, "{code} {jt} {jf} {k}")
    }
}

impl fmt::Display for InsnText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, operand) = parts(self.insn);
        // A position that only a program which is refused can have wraps around, as in tcpdump.
        let after = |skip: u32| u32::from(self.pc.0).wrapping_add(1).wrapping_add(skip);
        match skips(self.insn) {
            [Some(skip), None] => write!(f, "{name:8} {}", after(skip).cast_signed()),
            [Some(yes), Some(no)] => {
                let (yes, no) = (after(yes), after(no));
                write!(f, "{name:8} {:16} jt {yes}\tjf {no}", alloc::format!("{operand}"))
            }
            _ => write!(f, "{name:8} {operand}"),
        }
    }
}

/// What an instruction works on, as text.
#[derive(Clone, Copy)]
enum OperandText {
    None,
    X,
    Decimal(u32),
    Hex(u32),
    Packet(u32),
    Ancillary(Ancillary),
    Indirect(u32),
    Msh(u32),
    Cell(u32),
    Length,
    Code(u16),
}

impl OperandText {
    const fn is_none(self) -> bool {
        matches!(self, Self::None)
    }
}

impl fmt::Display for OperandText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::None => Ok(()),
            Self::X => write!(f, "x"),
            Self::Decimal(k) => write!(f, "#{}", k.cast_signed()),
            Self::Hex(k) => write!(f, "#{k:#x}"),
            Self::Packet(k) => write!(f, "[{}]", k.cast_signed()),
            Self::Ancillary(ancillary) => write!(f, "[{}]", ancillary.tcpdump_name()),
            Self::Indirect(k) => write!(f, "[x + {}]", k.cast_signed()),
            Self::Msh(k) => write!(f, "4*([{}]&0xf)", k.cast_signed()),
            Self::Cell(k) => write!(f, "M[{}]", k.cast_signed()),
            Self::Length => write!(f, "#pktlen"),
            Self::Code(code) => write!(f, "{code:#x}"),
        }
    }
}

/// Name and operand of an instruction. tcpdump has no text for `ldx` of the length; this has.
fn parts(SockFilter { code, k, .. }: SockFilter) -> (&'static str, OperandText) {
    use ebpf_isa::AluOp::{And, Or, Xor};
    let Some(op) = Op::from_code(code) else {
        return ("unimp", OperandText::Code(code));
    };
    let by_var = |var, a, x| match var {
        Var::A => a,
        Var::X => x,
    };
    let sized = |size| match size {
        Size::B => "ldb",
        Size::H => "ldh",
        _ => "ld",
    };
    match op {
        Op::LoadAbs(size) => match Ancillary::at(k) {
            Some(ancillary) => (sized(size), OperandText::Ancillary(ancillary)),
            None => (sized(size), OperandText::Packet(k)),
        },
        Op::LoadInd(size) => (sized(size), OperandText::Indirect(k)),
        Op::LoadMsh => ("ldxb", OperandText::Msh(k)),
        Op::LoadImm(var) => (by_var(var, "ld", "ldx"), OperandText::Hex(k)),
        Op::LoadLen(var) => (by_var(var, "ld", "ldx"), OperandText::Length),
        Op::LoadMem(var) => (by_var(var, "ld", "ldx"), OperandText::Cell(k)),
        Op::Store(var) => (by_var(var, "st", "stx"), OperandText::Cell(k)),
        Op::Alu(op, src) => {
            let row = ALU_NAMES.iter().find(|row| row.1 == op);
            let name = row.expect("invariant: every operation has a name").0;
            match (src, op) {
                (Src::X, _) => (name, OperandText::X),
                (Src::K, And | Or | Xor) => (name, OperandText::Hex(k)),
                (Src::K, _) => (name, OperandText::Decimal(k)),
            }
        }
        Op::Neg => ("neg", OperandText::None),
        Op::Jump => ("ja", OperandText::None),
        Op::Branch(op, src) => {
            let name = match op {
                CmpOp::Eq => "jeq",
                CmpOp::Gt => "jgt",
                CmpOp::Ge => "jge",
                _ => "jset",
            };
            (name, if src == Src::X { OperandText::X } else { OperandText::Hex(k) })
        }
        Op::RetK => ("ret", OperandText::Decimal(k)),
        Op::RetA => ("ret", OperandText::None),
        Op::Tax => ("tax", OperandText::None),
        Op::Txa => ("txa", OperandText::None),
    }
}
