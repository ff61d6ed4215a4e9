//! What an opcode byte alone says: a table of 256 rows, computed from the axes when this is
//! compiled. The decoder reads it one way, the encoder asks [`Form::opcode`] the other way.

use crate::opcode::{
    AluOp, ByteOrder, CLASS_MASK, Class, CmpOp, Extend, MODE_MASK, Mode, OPERATION_MASK, SIZE_MASK,
    SOURCE_REG, Size, Width, jump, unary,
};

/// Where an instruction has its second operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// In `imm`.
    Imm,
    /// In the register that `src` names.
    Reg,
}

impl Source {
    const fn of(opcode: u8) -> Self {
        if opcode & SOURCE_REG == 0 { Self::Imm } else { Self::Reg }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Imm => 0,
            Self::Reg => SOURCE_REG,
        }
    }
}

/// The instructions that share an opcode: what its other fields still choose is in brackets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// No instruction.
    Unknown,
    /// Binary arithmetic [unsigned or signed].
    Alu { op: AluOp, width: Width, source: Source },
    /// A move [with or without sign extension, or an address-space cast].
    Mov { width: Width, source: Source },
    /// Negation.
    Neg { width: Width },
    /// A byte swap [of a size].
    Swap { order: ByteOrder },
    /// An unconditional jump, with a 32-bit offset where it is long.
    Jump { long: bool },
    /// A conditional jump.
    Branch { op: CmpOp, width: Width, source: Source },
    /// `may_goto`.
    MayGoto,
    /// A call [of a helper, kernel function or subprogram].
    Call,
    /// A call through a register.
    CallReg,
    /// Return.
    Exit,
    /// A wide load [of a number or symbol].
    LoadWide,
    /// A packet load, at the sum of `imm` and a register where it is indexed.
    LoadPacket { size: Size, indexed: bool },
    /// A load.
    Load { size: Size, extend: Extend },
    /// A store.
    Store { size: Size, source: Source },
    /// A read-modify-write, load-acquire or store-release [by `imm`].
    Atomic { size: Size },
}

impl Form {
    /// The form of instructions with this opcode.
    #[inline]
    pub(crate) const fn of(opcode: u8) -> Self {
        FORMS[opcode as usize]
    }

    /// The opcode of instructions of this form. That of [`Form::Unknown`] is no instruction's.
    #[inline(always)]
    pub(crate) const fn opcode(self) -> u8 {
        const fn memory(class: Class, mode: Mode, size: Size) -> u8 {
            class.code() | mode.code() | size.code()
        }
        match self {
            Self::Unknown => 0xff,
            Self::Alu { op, width, source } => {
                width.alu_class().code() | op.code().0 | source.bit()
            }
            Self::Mov { width, source } => width.alu_class().code() | unary::MOV | source.bit(),
            Self::Neg { width } => width.alu_class().code() | unary::NEG,
            Self::Swap { order } => {
                let (class, big) = order.code();
                class.code() | unary::END | if big { SOURCE_REG } else { 0 }
            }
            Self::Jump { long: false } => Class::Jmp.code() | jump::JA,
            Self::Jump { long: true } => Class::Jmp32.code() | jump::JA,
            Self::Branch { op, width, source } => {
                width.jmp_class().code() | op.code() | source.bit()
            }
            Self::MayGoto => Class::Jmp.code() | jump::COND,
            Self::Call => Class::Jmp.code() | jump::CALL,
            Self::CallReg => Class::Jmp.code() | jump::CALL | SOURCE_REG,
            Self::Exit => Class::Jmp.code() | jump::EXIT,
            Self::LoadWide => memory(Class::Ld, Mode::Imm, Size::Dw),
            Self::LoadPacket { size, indexed: false } => memory(Class::Ld, Mode::Abs, size),
            Self::LoadPacket { size, indexed: true } => memory(Class::Ld, Mode::Ind, size),
            Self::Load { size, extend: Extend::Zero } => memory(Class::Ldx, Mode::Mem, size),
            Self::Load { size, extend: Extend::Sign } => memory(Class::Ldx, Mode::MemSx, size),
            Self::Store { size, source: Source::Imm } => memory(Class::St, Mode::Mem, size),
            Self::Store { size, source: Source::Reg } => memory(Class::Stx, Mode::Mem, size),
            Self::Atomic { size } => memory(Class::Stx, Mode::Atomic, size),
        }
    }
}

/// The form of each opcode.
static FORMS: [Form; 256] = {
    let mut forms = [Form::Unknown; 256];
    let mut opcode = 0;
    while opcode < forms.len() {
        forms[opcode] = analyze(opcode as u8);
        opcode += 1;
    }
    forms
};

const fn analyze(opcode: u8) -> Form {
    match Class::from_code(opcode & CLASS_MASK) {
        Some(Class::Alu) => arithmetic(opcode, Width::W32),
        Some(Class::Alu64) => arithmetic(opcode, Width::W64),
        Some(Class::Jmp) => jump_or_branch(opcode, Width::W64),
        Some(Class::Jmp32) => jump_or_branch(opcode, Width::W32),
        Some(class) => memory(opcode, class),
        None => Form::Unknown,
    }
}

const fn arithmetic(opcode: u8, width: Width) -> Form {
    let source = Source::of(opcode);
    match (opcode & OPERATION_MASK, source) {
        (unary::MOV, _) => Form::Mov { width, source },
        (unary::NEG, Source::Imm) => Form::Neg { width },
        (unary::END, _) => match ByteOrder::from_code((width.alu_class(), source.bit() != 0)) {
            Some(order) => Form::Swap { order },
            None => Form::Unknown,
        },
        (operation, _) => match AluOp::from_code((operation, 0)) {
            Some(op) => Form::Alu { op, width, source },
            None => Form::Unknown,
        },
    }
}

const fn jump_or_branch(opcode: u8, width: Width) -> Form {
    let source = Source::of(opcode);
    match (opcode & OPERATION_MASK, source, width) {
        (jump::JA, Source::Imm, Width::W64) => Form::Jump { long: false },
        (jump::JA, Source::Imm, Width::W32) => Form::Jump { long: true },
        (jump::CALL, Source::Imm, Width::W64) => Form::Call,
        (jump::CALL, Source::Reg, Width::W64) => Form::CallReg,
        (jump::EXIT, Source::Imm, Width::W64) => Form::Exit,
        (jump::COND, Source::Imm, Width::W64) => Form::MayGoto,
        (operation, _, _) => match CmpOp::from_code(operation) {
            Some(op) => Form::Branch { op, width, source },
            None => Form::Unknown,
        },
    }
}

const fn memory(opcode: u8, class: Class) -> Form {
    let Some(mode) = Mode::from_code(opcode & MODE_MASK) else { return Form::Unknown };
    let Some(size) = Size::from_code(opcode & SIZE_MASK) else { return Form::Unknown };
    match (class, mode, size) {
        (Class::Ld, Mode::Imm, Size::Dw) => Form::LoadWide,
        (Class::Ld, Mode::Abs, Size::B | Size::H | Size::W) => {
            Form::LoadPacket { size, indexed: false }
        }
        (Class::Ld, Mode::Ind, Size::B | Size::H | Size::W) => {
            Form::LoadPacket { size, indexed: true }
        }
        (Class::Ldx, Mode::Mem, _) => Form::Load { size, extend: Extend::Zero },
        (Class::Ldx, Mode::MemSx, Size::B | Size::H | Size::W) => {
            Form::Load { size, extend: Extend::Sign }
        }
        (Class::St, Mode::Mem, _) => Form::Store { size, source: Source::Imm },
        (Class::Stx, Mode::Mem, _) => Form::Store { size, source: Source::Reg },
        (Class::Stx, Mode::Atomic, _) => Form::Atomic { size },
        _ => Form::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_and_opcodes_are_inverse() {
        for opcode in 0..=u8::MAX {
            let form = Form::of(opcode);
            assert!(form == Form::Unknown || form.opcode() == opcode, "{opcode:#04x}: {form:?}");
        }
    }

    /// 2 × (11 binary operations × 2 operand forms + 2 moves + 1 negation) + 3 byte swaps, with the
    /// signed divisions under the opcodes of the unsigned; 2 × (11 comparisons × 2 operand forms) +
    /// 2 jumps + 2 calls, exit, `may_goto`; 1 wide load, 6 packet loads, 4 + 3 loads, 4 + 4 stores, 4
    /// atomic sizes.
    #[test]
    fn there_are_as_many_opcodes_as_the_rfc_and_llvm_have() {
        let known = (0..=u8::MAX).filter(|&opcode| Form::of(opcode) != Form::Unknown).count();
        assert_eq!(known, 2 * (11 * 2 + 3) + 3 + 2 * 22 + 6 + 1 + 6 + 7 + 8 + 4);
    }

    #[test]
    fn opcodes_of_the_rfc() {
        let add = Form::Alu { op: AluOp::Add, width: Width::W64, source: Source::Imm };
        assert_eq!(Form::of(0x07), add);
        assert_eq!(Form::of(0x18), Form::LoadWide);
        assert_eq!(Form::of(0xd4), Form::Swap { order: ByteOrder::Le });
        assert_eq!(Form::of(0xd7), Form::Swap { order: ByteOrder::Swap });
        assert_eq!(Form::of(0xdf), Form::Unknown);
        assert_eq!(Form::of(0xdb), Form::Atomic { size: Size::Dw });
        assert_eq!(Form::of(0x06), Form::Jump { long: true });
        assert_eq!(Form::of(0x86), Form::Unknown);
    }
}
