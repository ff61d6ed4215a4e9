//! Why text is no program.

use alloc::string::String;
use core::fmt;

use crate::opcode::Width;
use crate::{DecodeError, EncodeError, ProgramError, Reg};

/// Why a text does not assemble.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AsmError {
    /// Something stands where something else must stand.
    #[error("line {line}, column {column}: expected {expected}, found {}", Found(found))]
    Syntax {
        /// Line of the text, from 1.
        line: u32,
        /// Column in characters, from 1.
        column: u32,
        /// What stands there, shortened; empty at the end of the line.
        found: String,
        /// What could stand there.
        expected: Expected,
    },
    /// An instruction that reads well and has no encoding: a jump that is too far, a form that the
    /// instruction set does not have.
    #[error("line {line}: {error}")]
    Encode {
        /// Line of the instruction, from 1.
        line: u32,
        /// What is wrong.
        error: EncodeError,
    },
    /// The bytes that a listing gives for an instruction are none.
    #[error("line {line}: {error}")]
    Decode {
        /// Line of the instruction, from 1.
        line: u32,
        /// What is wrong.
        error: DecodeError,
    },
    /// Instructions that do not make a program.
    #[error("line {line}: {error}")]
    Program {
        /// Line of the instruction that is at fault, from 1; 1 where none is.
        line: u32,
        /// What is wrong.
        error: ProgramError,
    },
}

/// What an [`AsmError::Syntax`] expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expected {
    /// The start of an instruction.
    Instruction,
    /// `r0` to `r10`, or `w0` to `w10`.
    Register,
    /// A register of this width: `r` has 64 bits, `w` 32.
    RegisterOf(Width),
    /// A certain register, since the operation has it as source and destination.
    ThatRegister(Width, Reg),
    /// A register or an integer.
    Operand,
    /// What a register can be set to.
    Value,
    /// An integer of this range.
    Integer {
        /// The least.
        min: i128,
        /// The greatest.
        max: i128,
    },
    /// `+` or `-`, and a distance.
    Displacement,
    /// An operation that changes a register: `=`, `+=`, ...
    Assignment,
    /// An operation that has an atomic form: `+=`, `|=`, `&=`, `^=`.
    AtomicAssignment,
    /// The name of an operation that has an atomic form: `add`, `xchg`, ...
    AtomicOperation,
    /// A comparison: `==`, `s<`, ...
    Comparison,
    /// The type of a memory access: `u8` to `u64`, and for loads `s8` to `s32`.
    AccessType,
    /// The type of what is sign-extended: `s8`, `s16` or `s32`.
    SignedType,
    /// The type of what is stored or changed in memory: `u8` to `u64`.
    UnsignedType,
    /// The type of an access that a 32-bit register holds: `u8`, `u16` or `u32`.
    NarrowUnsignedType,
    /// `pc+N` or a label.
    Target,
    /// A position that is not negative.
    PositionInProgram,
    /// A label that the text defines.
    DefinedLabel,
    /// A label that the text defines only once.
    UniqueLabel,
    /// A subprogram, helper or kernel function.
    Callee,
    /// What a wide load can load: a source from 0 to 6 and what belongs to it.
    WideSource,
    /// The number that belongs to the name of a helper.
    NumberOfHelper,
    /// This text.
    Text(&'static str),
    /// Nothing more in this line.
    EndOfLine,
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Instruction => "an instruction",
            Self::Register => "a register",
            Self::RegisterOf(width) => return write!(f, "a {}-bit register", width.bits()),
            Self::ThatRegister(width, reg) => {
                return write!(f, "register {}{}", width.letter(), reg.number());
            }
            Self::Operand => "a register or an integer",
            Self::Value => "a value",
            Self::Integer { min, max } => return write!(f, "an integer from {min} to {max}"),
            Self::Displacement => "`+` or `-` and a distance",
            Self::Assignment => "an assignment",
            Self::AtomicAssignment => "`+=`, `|=`, `&=` or `^=`",
            Self::AtomicOperation => "the name of an atomic operation",
            Self::Comparison => "a comparison",
            Self::AccessType => "the type of a memory access",
            Self::SignedType => "`s8`, `s16` or `s32`",
            Self::UnsignedType => "an unsigned type",
            Self::NarrowUnsignedType => "an unsigned type of up to 32 bits",
            Self::Target => "`pc+N` or a label",
            Self::PositionInProgram => "a position in the program",
            Self::DefinedLabel => "a label that is defined",
            Self::UniqueLabel => "a label that is defined once",
            Self::Callee => "something that can be called",
            Self::WideSource => "the source of a wide load",
            Self::NumberOfHelper => "the number of this helper",
            Self::Text(text) => return write!(f, "`{text}`"),
            Self::EndOfLine => "the end of the line",
        })
    }
}

/// What was found, in quotes.
struct Found<'a>(&'a str);

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "" => f.write_str("the end of the line"),
            text => write!(f, "{text:?}"),
        }
    }
}
