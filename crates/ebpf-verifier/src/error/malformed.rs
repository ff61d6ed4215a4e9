//! Slots that make no program, as the kernel sees them.

use ebpf_isa::{DecodeError, Program, ProgramError};

use super::Payload;

impl From<&ProgramError> for Payload {
    fn from(error: &ProgramError) -> Self {
        match *error {
            ProgramError::Empty => Self::LimitSlots { slots: 0, max: Program::MAX_SLOTS },
            ProgramError::TooLong { slots } => Self::LimitSlots { slots, max: Program::MAX_SLOTS },
            ProgramError::Decode(DecodeError::UnknownOpcode { opcode, .. }) => {
                Self::UnknownOpcode { opcode }
            }
            ProgramError::Decode(DecodeError::BadRegister { number, .. }) => {
                Self::InvalidRegister { number }
            }
            ProgramError::Decode(
                DecodeError::ReservedField { opcode, .. }
                | DecodeError::BadVariant { opcode, what: "call", .. },
            ) => Self::ReservedFields { opcode },
            ProgramError::JumpLeavesSubprog { pc, target, .. }
            | ProgramError::TargetOutOfRange { pc, target } => {
                Self::JumpRange { from: pc, target: target.0.into() }
            }
            ProgramError::FallsThrough { .. } => Self::NoExit,
            _ => Self::Malformed { error: error.clone() },
        }
    }
}
