//! CO-RE relocations: instructions that depend on the layout of the kernel's types.

use ebpf_btf::core_relo::{CoreAnswer, CoreError, Resize};
use ebpf_isa::RawInsn;
use ebpf_isa::opcode::{CLASS_MASK, Class, Mode, SIZE_MASK, SOURCE_REG, Size, call, jump, wide};

/// What stands where the kernel has no such type, field or enumerator: a call of a helper that there is
/// not, whose number says why to those who know libbpf. Programs that ask first never reach it.
const NOT_THERE: RawInsn = RawInsn {
    opcode: Class::Jmp.code() | jump::CALL,
    dst: 0,
    src: call::HELPER,
    off: 0,
    imm: 0x0bad_2310,
};

const WIDE_LOAD: u8 = Class::Ld.code() | Mode::Imm.code() | Size::Dw.code();

/// Why an instruction cannot be relocated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CoreProblem {
    /// The relocation has no answer.
    #[error(transparent)]
    Types(#[from] CoreError),
    /// It is not at an instruction of the function.
    #[error("it is not at an instruction")]
    NotAtInstruction,
    /// It does not go with the instruction.
    #[error("it does not go with opcode {opcode:#04x}")]
    WrongInstruction {
        /// The opcode.
        opcode: u8,
    },
    /// The instruction holds another number than the program's own types give.
    #[error("the instruction holds {found}, where the program's own types say {expected}")]
    OtherBefore {
        /// What it holds.
        found: i64,
        /// What it should hold.
        expected: i64,
    },
    /// The number does not fit the instruction.
    #[error("{value} does not fit the instruction")]
    DoesNotFit {
        /// The number.
        value: i64,
    },
    /// The access has another size than the field.
    #[error(
        "an access of {found} bytes to a field of {expected} bytes, which has {to} in the kernel"
    )]
    OtherSize {
        /// Bytes of the access.
        found: u32,
        /// Bytes of the program's field.
        expected: u32,
        /// Bytes of the kernel's field.
        to: u32,
    },
}

/// Writes an answer into the instruction at `at`. Says whether the kernel has what it is about.
pub(crate) fn apply(
    slots: &mut [RawInsn],
    at: usize,
    answer: &CoreAnswer,
) -> Result<bool, CoreProblem> {
    let Some([insn, rest @ ..]) = slots.get_mut(at..) else {
        return Err(CoreProblem::NotAtInstruction);
    };
    let opcode = insn.opcode;
    let wrong = || CoreProblem::WrongInstruction { opcode };
    let second = match (opcode == WIDE_LOAD, rest) {
        (true, [second, ..]) => Some(second),
        (true, []) => return Err(wrong()),
        (false, _) => None,
    };
    let class = Class::from_code(opcode & CLASS_MASK);
    let is_access = matches!(class, Some(Class::Ldx | Class::St | Class::Stx));
    let value = answer.value.filter(|_| !(is_access && answer.resize == Resize::Unfit));
    let Some(value) = value else {
        *insn = NOT_THERE;
        if let Some(second) = second {
            *second = NOT_THERE;
        }
        return Ok(false);
    };
    let does_not_fit = || CoreProblem::DoesNotFit { value: value.cast_signed() };
    let holds = |found: i64| match answer.before {
        Some(expected) if expected != found.cast_unsigned() => {
            Err(CoreProblem::OtherBefore { found, expected: expected.cast_signed() })
        }
        _ => Ok(()),
    };
    match (class, second) {
        (Some(Class::Alu | Class::Alu64), _) if opcode & SOURCE_REG == 0 => {
            holds(insn.imm.into())?;
            insn.imm = low_bits(value).ok_or_else(does_not_fit)?;
        }
        (Some(Class::Ldx | Class::St | Class::Stx), _) => {
            holds(insn.off.into())?;
            insn.off = i16::try_from(value).map_err(|_| does_not_fit())?;
            insn.opcode = resized(opcode, answer.resize)?;
        }
        (Some(Class::Ld), Some(second)) if insn.src == wide::IMM => {
            let [low, high] = [insn.imm, second.imm].map(|half| i64::from(half.cast_unsigned()));
            holds(high << 32 | low)?;
            (insn.imm, second.imm) = (value as i32, (value >> 32) as i32);
        }
        _ => return Err(wrong()),
    }
    Ok(true)
}

/// The value as an immediate, which stands for its low 32 bits with or without sign.
fn low_bits(value: u64) -> Option<i32> {
    let signed = i32::try_from(value.cast_signed()).ok();
    signed.or_else(|| u32::try_from(value).ok().map(u32::cast_signed))
}

/// The opcode of the same access, of the size that the field has.
fn resized(opcode: u8, resize: Resize) -> Result<u8, CoreProblem> {
    let Resize::To { from, to } = resize else { return Ok(opcode) };
    let found = Size::from_code(opcode & SIZE_MASK).map_or(0, |size| size.bytes().into());
    match Size::from_bytes(to.into()) {
        Some(size) if found == from => Ok(opcode & !SIZE_MASK | size.code()),
        _ => Err(CoreProblem::OtherSize { found, expected: from, to }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(opcode: u8, off: i16, imm: i32) -> RawInsn {
        RawInsn { opcode, dst: 1, src: 0, off, imm }
    }

    fn answer(before: u64, value: u64) -> CoreAnswer {
        CoreAnswer { before: Some(before), value: Some(value), resize: Resize::None }
    }

    /// The slots after an answer to the first of them.
    fn applied(slots: &[RawInsn], answer: &CoreAnswer) -> Result<Vec<RawInsn>, CoreProblem> {
        let mut slots = slots.to_vec();
        apply(&mut slots, 0, answer).map(|_| slots)
    }

    const MOV: u8 = 0xb7;
    const LOAD: u8 = 0x61;
    const STORE: u8 = 0x62;

    #[test]
    fn numbers_go_where_the_instruction_has_them() {
        let mov = |imm| [slot(MOV, 0, imm)];
        assert_eq!(applied(&mov(8), &answer(8, 16)).unwrap(), mov(16));
        assert_eq!(applied(&mov(8), &answer(8, u64::MAX)).unwrap(), mov(-1));
        assert_eq!(applied(&mov(8), &answer(8, u64::from(u32::MAX))).unwrap(), mov(-1));
        let load = |off| [slot(LOAD, off, 0)];
        assert_eq!(applied(&load(8), &answer(8, 16)).unwrap(), load(16));
        let wide = |low, high| [slot(WIDE_LOAD, 0, low), slot(0, 0, high)];
        assert_eq!(applied(&wide(5, 0), &answer(5, 1 << 40 | 7)).unwrap(), wide(7, 1 << 8));
        let unsure = CoreAnswer { before: None, ..answer(0, 3) };
        assert_eq!(applied(&mov(99), &unsure).unwrap(), mov(3));
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let problem = |slots: &[RawInsn], answer| applied(slots, &answer).unwrap_err();
        let before = CoreProblem::OtherBefore { found: -8, expected: 8 };
        assert_eq!(problem(&[slot(MOV, 0, -8)], answer(8, 1)), before);
        let far = CoreProblem::DoesNotFit { value: 1 << 15 };
        assert_eq!(problem(&[slot(LOAD, 0, 0)], answer(0, 1 << 15)), far);
        let large = CoreProblem::DoesNotFit { value: 1 << 32 };
        assert_eq!(problem(&[slot(MOV, 0, 0)], answer(0, 1 << 32)), large);
        for opcode in [0xbf, 0x05, 0x95, 0x20, WIDE_LOAD] {
            let wrong = CoreProblem::WrongInstruction { opcode };
            assert_eq!(problem(&[slot(opcode, 0, 0)], answer(0, 1)), wrong);
        }
        let map = [RawInsn { src: wide::MAP_FD, ..slot(WIDE_LOAD, 0, 0) }, slot(0, 0, 0)];
        let wrong = CoreProblem::WrongInstruction { opcode: WIDE_LOAD };
        assert_eq!(problem(&map, answer(0, 1)), wrong);
        assert_eq!(problem(&[], answer(0, 1)), CoreProblem::NotAtInstruction);
    }

    #[test]
    fn accesses_are_as_wide_as_the_field() {
        let resize = |from, to| CoreAnswer { resize: Resize::To { from, to }, ..answer(0, 4) };
        for (to, opcode) in [(1, 0x71), (2, 0x69), (8, 0x79)] {
            assert_eq!(applied(&[slot(LOAD, 0, 0)], &resize(4, to)).unwrap(), [slot(opcode, 4, 0)]);
        }
        assert_eq!(applied(&[slot(STORE, 0, 9)], &resize(4, 8)).unwrap(), [slot(0x7a, 4, 9)]);
        for (from, to) in [(8, 4), (4, 3), (4, 16)] {
            let other = CoreProblem::OtherSize { found: 4, expected: from, to };
            assert_eq!(applied(&[slot(LOAD, 0, 0)], &resize(from, to)).unwrap_err(), other);
        }
        // Only accesses have a size.
        assert_eq!(applied(&[slot(MOV, 0, 0)], &resize(4, 8)).unwrap(), [slot(MOV, 0, 4)]);
    }

    #[test]
    fn what_is_not_there_becomes_a_call_of_nothing() {
        let none = CoreAnswer { value: None, ..answer(0, 0) };
        let mut wide = [slot(WIDE_LOAD, 0, 5), slot(0, 0, 0)];
        assert_eq!(apply(&mut wide, 0, &none), Ok(false));
        assert_eq!(wide, [NOT_THERE; 2]);
        let unfit = CoreAnswer { resize: Resize::Unfit, ..answer(0, 4) };
        assert_eq!(applied(&[slot(LOAD, 0, 0)], &unfit).unwrap(), [NOT_THERE]);
        assert_eq!(applied(&[slot(MOV, 0, 0)], &unfit).unwrap(), [slot(MOV, 0, 4)]);
        let found = apply(&mut [slot(MOV, 0, 0)], 0, &answer(0, 1));
        assert_eq!(found, Ok(true));
    }
}
