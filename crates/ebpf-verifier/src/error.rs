//! Why a program is rejected.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;

use ebpf_isa::opcode::{CLASS_MASK, Class, OPERATION_MASK, jump, unary};
use ebpf_isa::{DecodeError, Pc, Program, ProgramError, SourceLine};

use crate::Stats;

macro_rules! error_codes {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal, $errno:ident;)*) => {
        /// What kind of rule a program breaks. Codes are stable; texts belong to a kernel version.
        /// `docs/errors.md` lists them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode { $($(#[doc = $doc])* $name,)* }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// What it means, in a sentence or two.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),*).trim_ascii_start(),)* }
            }

            /// The stable name: `packet.out-of-bounds`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The error number that the kernel gives.
            #[must_use]
            pub const fn errno(self) -> Errno {
                match self { $(Self::$name => Errno::$errno,)* }
            }
        }
    };
}

error_codes! {
    /// The program uses something that this verifier does not know. The kernel may accept it.
    Unsupported = "unsupported", EOPNOTSUPP;

    /// Slots that are no program: an opcode, register or field that is not there, a jump out of the
    /// program, a missing end.
    ProgramMalformed = "program.malformed", EINVAL;
    /// An instruction that this kernel does not know.
    InsnUnknown = "insn.unknown", EINVAL;
    /// An instruction that no path of control leads to.
    CfgUnreachable = "cfg.unreachable", EINVAL;
    /// A reference to a map or to a place in its value that cannot be.
    MapReference = "map.reference", EINVAL;
    /// A direct reference into a map whose type or size does not allow one.
    MapNoDirectValue = "map.no-direct-value", ENOTSUPP;
    /// Too many slots. The kernel says nothing more than the error number.
    LimitSlots = "limit.slots", E2BIG;
    /// Too many maps.
    LimitMaps = "limit.maps", E2BIG;
    /// Too many subprograms.
    LimitSubprograms = "limit.subprograms", E2BIG;
    /// A path that comes back to where it was, with nothing changed.
    LoopInfinite = "loop.infinite", EINVAL;
    /// More instructions to process than the limit.
    LimitProcessed = "limit.processed", E2BIG;
    /// More branches waiting than the limit.
    LimitPending = "limit.pending", EFAULT;
    /// The kernel's verifier comes to something that it takes for impossible, and gives up.
    VerifierBug = "verifier.bug", EFAULT;
    /// More frames than the limit.
    LimitCallDepth = "limit.call-depth", E2BIG;
    /// More stack, in one frame or in a chain of calls, than the limit.
    LimitStack = "limit.stack", EACCES;

    /// An attach type that programs of this type cannot have.
    AttachType = "attach.type", EINVAL;

    /// A register is read that was never written, or that a call destroyed.
    RegisterUninit = "register.uninit", EACCES;
    /// The frame pointer is written.
    RegisterReadOnly = "register.read-only", EACCES;
    /// Division by the immediate 0.
    AluDivByZero = "alu.div-by-zero", EINVAL;
    /// A shift by an immediate that is negative or not below the width.
    AluShift = "alu.shift", EINVAL;

    /// Arithmetic that is not allowed on a pointer of this kind.
    PointerArithmetic = "pointer.arithmetic", EACCES;
    /// Arithmetic that may take a pointer too far.
    PointerRange = "pointer.range", EINVAL;
    /// A stack pointer as return value.
    PointerReturned = "pointer.returned", EINVAL;
    /// One instruction that uses a context pointer on one path and another pointer on another.
    PointerMixed = "pointer.mixed", EINVAL;

    /// An access through something that is not a pointer, or may be null.
    MemoryPointer = "memory.pointer", EACCES;
    /// An access at an offset that may be negative or out of bounds.
    MemoryBounds = "memory.bounds", EACCES;
    /// An access at an offset without upper bound.
    MemoryUnbounded = "memory.unbounded", EACCES;
    /// A misaligned access.
    MemoryAlignment = "memory.alignment", EACCES;
    /// An atomic operation on memory that does not allow them.
    MemoryAtomic = "memory.atomic", EACCES;
    /// An access to a map's value that the map's flags forbid.
    MapForbidden = "map.forbidden", EACCES;

    /// No such field, or not at this width or direction.
    ContextAccess = "context.access", EACCES;
    /// An access to an object of the kernel where it has no such field, or a store to one that
    /// cannot be written.
    ObjectAccess = "object.access", EACCES;
    /// A context pointer that was moved.
    ContextModified = "context.modified", EACCES;
    /// An access beyond what was compared with the end of the packet.
    PacketBounds = "packet.bounds", EACCES;
    /// An access through a packet pointer that is known to lie at or beyond the packet's end.
    PacketBeyondEnd = "packet.beyond-end", EINVAL;
    /// A packet pointer where the program may not access the packet.
    PacketForbidden = "packet.forbidden", EACCES;
    /// A classic packet load in a program of another type, or without the context in `r6`.
    PacketLoad = "packet.load", EINVAL;
    /// An access beyond the stack frame.
    StackBounds = "stack.bounds", EACCES;
    /// An access that goes on above the stack frame.
    StackAbove = "stack.above", EINVAL;
    /// A pointer stored in part.
    StackSpillSize = "stack.spill-size", EACCES;
    /// A stored pointer loaded in part.
    StackFillSize = "stack.fill-size", EACCES;
    /// A stack pointer stored in a caller's frame.
    StackSpillToCaller = "stack.spill-to-caller", EINVAL;

    /// A return value that the program type does not allow.
    ExitValue = "exit.value", EINVAL;

    /// A helper that the kernel does not have.
    HelperUnknown = "helper.unknown", EINVAL;
    /// A helper that programs of this type may not call.
    HelperNotAllowed = "helper.not-allowed", EINVAL;
    /// A helper that only programs under a GPL-compatible licence may call.
    HelperLicense = "helper.license", EINVAL;
    /// An argument of the wrong kind.
    HelperArgument = "helper.argument", EACCES;
    /// A map that is not for this helper.
    HelperMap = "helper.map", EINVAL;
    /// A size that may be zero, negative or too large.
    HelperSize = "helper.size", EACCES;
}

macro_rules! errnos {
    ($($name:ident = $number:literal;)*) => {
        /// A Linux error number.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(i32)]
        #[allow(missing_docs, reason = "the names of errno.h")]
        pub enum Errno { $($name = $number,)* }

        impl Errno {
            /// The name, as in `errno.h`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}

errnos! {
    E2BIG = 7;
    EACCES = 13;
    EFAULT = 14;
    EINVAL = 22;
    EOPNOTSUPP = 95;
    ENOTSUPP = 524;
}

impl Errno {
    /// The positive number.
    #[must_use]
    pub const fn number(self) -> i32 {
        self as i32
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A broken rule, before it is known where and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: ErrorCode,
    /// The kernel's last line.
    pub(crate) message: String,
    /// The line that the kernel prints before it, if any.
    pub(crate) detail: Option<String>,
}

/// What every rule gives: the boxed fault keeps the good case small.
pub(crate) type Checked<T = ()> = Result<T, Box<Fault>>;

impl Fault {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Box<Self> {
        Box::new(Self { code, message: message.into(), detail: None })
    }

    pub(crate) fn unsupported(what: impl fmt::Display) -> Box<Self> {
        let message = alloc::format!("{what}: not supported by this verifier");
        Self::new(ErrorCode::Unsupported, message)
    }

    /// The fault with what the kernel says on the line before.
    pub(crate) fn after(mut self: Box<Self>, detail: impl Into<String>) -> Box<Self> {
        self.detail = Some(detail.into());
        self
    }
}

/// A source line on its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedLine {
    /// Source file, as the compiler was given it.
    pub file: String,
    /// Line number, from 1.
    pub line: u32,
    /// Column, from 1; 0 where it is not known.
    pub col: u32,
    /// Text of the line.
    pub text: String,
}

impl From<SourceLine<'_>> for RejectedLine {
    fn from(line: SourceLine<'_>) -> Self {
        Self {
            file: line.file.to_string(),
            line: line.line,
            col: line.col,
            text: line.text.trim().to_string(),
        }
    }
}

/// A program that is not accepted, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// What kind of rule is broken.
    pub code: ErrorCode,
    /// The error number that the kernel gives, positive; [`ErrorCode::errno`] has its name.
    pub errno: i32,
    /// The reason in the kernel's wording: the last line of its log before the statistics.
    pub message: String,
    /// What the kernel says on the line before, where it says more than one line.
    pub detail: Option<String>,
    /// The instruction; `None` where the program as a whole is at fault.
    pub pc: Option<Pc>,
    /// The instruction's source line, where the program has one.
    pub line: Option<RejectedLine>,
    /// What was done before.
    pub stats: Stats,
}

impl Rejection {
    pub(crate) fn new(fault: Fault, pc: Option<Pc>, program: &Program, stats: Stats) -> Box<Self> {
        Box::new(Self {
            code: fault.code,
            errno: fault.code.errno().number(),
            message: fault.message,
            detail: fault.detail,
            pc,
            line: pc.and_then(|pc| program.lines().at(pc)).map(Into::into),
            stats,
        })
    }

    pub(crate) fn of_slots(fault: Fault, pc: Option<Pc>) -> Box<Self> {
        Box::new(Self {
            code: fault.code,
            errno: fault.code.errno().number(),
            message: fault.message,
            detail: fault.detail,
            pc,
            line: None,
            stats: Stats::default(),
        })
    }

    /// The rejection of slots that are no program.
    #[must_use]
    pub fn malformed(error: &ProgramError) -> Box<Self> {
        let code = match error {
            ProgramError::Empty | ProgramError::TooLong { .. } => ErrorCode::LimitSlots,
            _ => ErrorCode::ProgramMalformed,
        };
        Self::of_slots(*Fault::new(code, malformed_text(error)), error.pc())
    }

    /// Name of the error number: `EACCES`; `Unsupported` where the kernel might accept.
    #[must_use]
    pub fn errno_name(&self) -> &'static str {
        match self.code {
            ErrorCode::Unsupported => "Unsupported",
            code => code.errno().name(),
        }
    }
}

/// The kernel's words, as far as it has words of its own for this.
fn malformed_text(error: &ProgramError) -> String {
    match *error {
        ProgramError::Decode(DecodeError::UnknownOpcode { opcode, .. }) => {
            format!("unknown opcode {opcode:02x}")
        }
        ProgramError::Decode(DecodeError::BadRegister { number, .. }) => {
            format!("R{number} is invalid")
        }
        ProgramError::Decode(DecodeError::ReservedField { opcode, .. }) => {
            format!("{} uses reserved fields", kernel_name(opcode))
        }
        ProgramError::Decode(DecodeError::BadVariant { opcode, what: "call", .. }) => {
            format!("{} uses reserved fields", kernel_name(opcode))
        }
        ProgramError::JumpLeavesSubprog { pc, target, .. }
        | ProgramError::TargetOutOfRange { pc, target } => {
            format!("jump out of range from insn {pc} to {target}")
        }
        ProgramError::FallsThrough { .. } => "last insn is not an exit or jmp".to_string(),
        _ => error.to_string(),
    }
}

/// What the kernel calls instructions with this opcode where one has something in a field that it
/// does not use.
fn kernel_name(opcode: u8) -> &'static str {
    let (class, operation) = (opcode & CLASS_MASK, opcode & OPERATION_MASK);
    let is_alu = class == Class::Alu.code() || class == Class::Alu64.code();
    match operation {
        unary::NEG if is_alu => "BPF_NEG",
        unary::END if is_alu => "BPF_END",
        unary::MOV if is_alu => "BPF_MOV",
        _ if is_alu => "BPF_ALU",
        _ if class == Class::St.code() => "BPF_ST",
        _ if class == Class::Stx.code() => "BPF_STX",
        _ if opcode == crate::structure::WIDE_LOAD => "BPF_LD_IMM64",
        _ if class == Class::Ld.code() => "BPF_LD_[ABS|IND]",
        jump::JA => "BPF_JA",
        jump::CALL => "BPF_CALL",
        jump::EXIT => "BPF_EXIT",
        _ => "BPF_JMP/JMP32",
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(pc) = self.pc {
            write!(f, "insn {pc}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl core::error::Error for Rejection {}
