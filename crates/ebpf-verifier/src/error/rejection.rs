//! A rejection: what is broken, and where.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use core::fmt;

use ebpf_isa::{Pc, Program, ProgramError, SourceLine};

use super::{ErrorCode, Payload};
use crate::Stats;

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
#[non_exhaustive]
pub struct Rejection {
    /// The rule that is broken, with the numbers that break it.
    pub payload: Payload,
    /// What kind of rule it is: [`Payload::code`].
    pub code: ErrorCode,
    /// The error number that the kernel gives, positive; [`ErrorCode::errno`] has its name.
    pub errno: i32,
    /// The reason in the kernel's wording: the last line of its log before the statistics.
    pub message: String,
    /// What the kernel says on the lines before, where it says more than one.
    pub detail: Option<String>,
    /// The instruction; `None` where the program as a whole is at fault.
    pub pc: Option<Pc>,
    /// The instruction's source line, where the program has one.
    pub line: Option<RejectedLine>,
    /// What was done before.
    pub stats: Stats,
}

impl Rejection {
    pub(crate) fn new(
        payload: Payload,
        pc: Option<Pc>,
        program: &Program,
        stats: Stats,
    ) -> Box<Self> {
        let line = pc.and_then(|pc| program.lines().at(pc)).map(Into::into);
        Box::new(Self { line, stats, ..Self::of_slots(payload, pc) })
    }

    /// The rejection of what is not known to be a program.
    pub(crate) fn of_slots(payload: Payload, pc: Option<Pc>) -> Self {
        let code = payload.code();
        Self {
            code,
            errno: code.errno().number(),
            message: payload.to_string(),
            detail: payload.detail(),
            payload,
            pc,
            line: None,
            stats: Stats::default(),
        }
    }

    /// The rejection of slots that are no program.
    #[must_use]
    pub fn malformed(error: &ProgramError) -> Box<Self> {
        Box::new(Self::of_slots(error.into(), error.pc()))
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

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(pc) = self.pc {
            write!(f, "insn {pc}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl core::error::Error for Rejection {}
