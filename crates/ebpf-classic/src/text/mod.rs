//! Text forms of classic programs, in and out.
//!
//! | form | looks like | written by |
//! |---|---|---|
//! | [`Form::Listing`] | `(000) ldh      [12]` | `tcpdump -d` |
//! | [`Form::C`] | `{ 0x28, 0, 0, 0x0000000c },` | `tcpdump -dd`, C sources |
//! | [`Form::Decimal`] | `40 0 0 12`, behind a line with the length | `tcpdump -ddd` |
//! | [`Form::DecimalComma`] | `24,40 0 0 12,…` | `bpf_asm`, `nfbpf_compile`; for iptables and tc |
//! | [`Form::Assembly`] | `ldh [12]`, with labels | people, for `bpf_asm` |
//!
//! [`parse`] finds out which one it is given.
//!
//! ```
//! use ebpf_classic::text::{self, Form};
//!
//! let program = text::parse(
//!     "       ldh [12]
//!             jne #0x806, drop   ; ARP
//!             ret #-1
//!      drop:  ret #0",
//! )?;
//! assert_eq!(
//!     text::display(&program, Form::DecimalComma).to_string(),
//!     "4,40 0 0 12,21 0 1 2054,6 0 0 4294967295,6 0 0 0",
//! );
//! # Ok::<(), text::TextError>(())
//! ```

mod assembly;
mod cursor;
mod numbers;
mod write;

use alloc::string::String;
use alloc::vec::Vec;

pub use write::{Display, InsnText, display, insn};

use crate::raw::SockFilter;

/// A way to write programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// `tcpdump -d`: one line an instruction, with its position.
    Listing,
    /// `tcpdump -dd`: elements of a C array.
    C,
    /// `tcpdump -ddd`: the length, and the numbers of one instruction a line.
    Decimal,
    /// The same with commas, on one line.
    DecimalComma,
    /// Assembly, as `bpf_asm` reads it.
    Assembly,
}

/// Text that is no program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {kind}")]
#[non_exhaustive]
pub struct TextError {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in bytes.
    pub column: usize,
    /// What is wrong there.
    pub kind: TextErrorKind,
}

/// What is wrong with a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextErrorKind {
    /// No instructions.
    #[error("there are no instructions")]
    Empty,
    /// Something else should be here.
    #[error("expected {0}")]
    Expected(&'static str),
    /// A number that is too large for its place.
    #[error("the number is larger than {max}")]
    TooLarge {
        /// The largest that fits.
        max: u32,
    },
    /// A word that is no instruction.
    #[error("unknown instruction `{0}`")]
    UnknownInstruction(String),
    /// Another number of instructions than was announced.
    #[error("the number of instructions is announced as {announced}, but it is {found}")]
    Count {
        /// The first number of the text.
        announced: u32,
        /// How many there are.
        found: usize,
    },
    /// A line of a listing that is not in its place, as in a part of one: its jumps would lead
    /// elsewhere.
    #[error("instruction {at} of the text is written as {written}: listings must be complete")]
    Position {
        /// What the listing says.
        written: u32,
        /// Where the line is, in instructions.
        at: usize,
    },
    /// A label without an instruction.
    #[error("label `{0}` is not defined: write `{0}:` before an instruction")]
    UndefinedLabel(String),
    /// A label with two instructions.
    #[error("label `{0}` is defined twice")]
    DuplicateLabel(String),
    /// A jump backward.
    #[error("a jump must lead forward, `{0}` does not")]
    BackwardJump(String),
    /// A conditional jump over more than 255 instructions.
    #[error("`{label}` is {distance} instructions away: a conditional jump reaches 255, use `ja`")]
    TooFar {
        /// Where it should lead.
        label: String,
        /// How many instructions are skipped.
        distance: usize,
    },
}

/// Reads a program in whatever form it is.
///
/// # Errors
/// What is wrong with the text, and where. The program is not checked: see
/// [`Filter::new`](crate::Filter::new).
pub fn parse(text: &str) -> Result<Vec<SockFilter>, TextError> {
    let program = match Form::of(text) {
        Form::C => numbers::parse_c(text),
        Form::Decimal | Form::DecimalComma => numbers::parse_decimal(text),
        // A listing is assembly with positions in front.
        Form::Listing | Form::Assembly => assembly::parse(text),
    }?;
    if program.is_empty() {
        return Err(TextError { line: 1, column: 1, kind: TextErrorKind::Empty });
    }
    Ok(program)
}

impl Form {
    /// The form that a text is in, if it is one of a program.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let is_decimal = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_whitespace();
        match text.trim_start() {
            text if text.starts_with('{') => Self::C,
            text if text.starts_with('(') => Self::Listing,
            text if text.bytes().all(is_decimal) => Self::Decimal,
            text if text.bytes().all(|byte| is_decimal(byte) || byte == b',') => Self::DecimalComma,
            _ => Self::Assembly,
        }
    }
}
