//! What stands in texts beside instructions: directives, and the columns and headings of listings.

use super::cursor::{Cursor, Result, is_word_char};
use super::error::Expected;
use crate::RawInsn;

/// Directives that place no bytes: about symbols, the debugger and alignment.
const WITHOUT_BYTES: &[&str] = &[
    ".addrsig",
    ".addrsig_sym",
    ".align",
    ".balign",
    ".file",
    ".global",
    ".globl",
    ".hidden",
    ".ident",
    ".loc",
    ".local",
    ".p2align",
    ".protected",
    ".size",
    ".type",
    ".weak",
];

/// Whether the lines of a text are in a section of code.
#[derive(Debug, Clone, Copy)]
pub(super) struct Section {
    is_code: bool,
}

impl Section {
    /// Where a text starts.
    pub(super) const TEXT: Self = Self { is_code: true };

    /// Whether a line is none of the program: a directive, a heading, or not in a section of code.
    ///
    /// # Errors
    /// A directive in code that is not known, such as one that places bytes there.
    pub(super) fn skips(&mut self, cursor: &Cursor<'_>) -> Result<bool> {
        let (rest, word) = (cursor.rest(), cursor.peek_word());
        let is_directive = word.starts_with('.') && !rest[word.len()..].starts_with(':');
        if !is_directive {
            return Ok(!self.is_code || is_heading(rest));
        }
        match word {
            ".text" => self.is_code = true,
            ".data" | ".bss" => self.is_code = false,
            ".section" => self.is_code = names_code(rest[word.len()..].trim()),
            _ if !self.is_code || WITHOUT_BYTES.contains(&word) || word.starts_with(".cfi_") => {}
            _ => return Err(cursor.error(Expected::Instruction)),
        }
        Ok(true)
    }
}

/// Whether a section (`xdp,"ax",@progbits`) is executable: it has the flag `x`, or no flags and the
/// name of a section that has it.
fn names_code(section: &str) -> bool {
    let (name, attributes) = section.split_once(',').unwrap_or((section, ""));
    match attributes.split('"').nth(1) {
        Some(flags) => flags.contains('x'),
        None => name == ".text" || name.starts_with(".text."),
    }
}

/// Headings of `llvm-objdump -d`.
fn is_heading(line: &str) -> bool {
    line.starts_with("Disassembly of section ") || line.contains(":\tfile format ")
}

/// Reads a label, if one stands here: `name:`, or `<name>:` with or without an address in front, as
/// disassemblers have it.
pub(super) fn label<'t>(cursor: &mut Cursor<'t>) -> Option<&'t str> {
    let (rest, word) = (cursor.rest(), cursor.peek_word());
    let behind = &rest[word.len()..];
    if is_name(word) && behind.starts_with(':') {
        cursor.eat(word);
        cursor.eat(":");
        return Some(word);
    }
    let is_address = word.chars().all(|c| c.is_ascii_hexdigit());
    let name = behind.trim_start().strip_prefix('<')?.strip_suffix(">:");
    let name = name.filter(|name| is_address && is_name(name))?;
    cursor.skip_past(">:").ok()?;
    Some(name)
}

/// Whether a listing can have this as the name of a subprogram: a word that is no number.
fn is_name(word: &str) -> bool {
    word.chars().all(is_word_char) && !word.chars().all(|c| c.is_ascii_digit())
}

/// Skips the number that listings put before an instruction: `12:`.
pub(super) fn skip_number(cursor: &mut Cursor<'_>) {
    let word = cursor.peek_word();
    let is_number = !word.is_empty() && word.chars().all(|c| c.is_ascii_digit());
    if is_number && cursor.rest()[word.len()..].starts_with(':') {
        cursor.eat(word);
        cursor.eat(":");
    }
}

/// The slots of an instruction, from the column of bytes that disassemblers put before its text:
/// `b7 00 00 00 05 00 00 00`.
pub(super) fn bytes(rest: &str) -> Option<(RawInsn, Option<RawInsn>)> {
    let first = slot(rest)?;
    let second = rest.get(SLOT_COLUMN..).and_then(|rest| slot(rest.strip_prefix(' ')?));
    Some((first, second))
}

/// Characters of the bytes of a slot: eight times two digits, with a blank between.
const SLOT_COLUMN: usize = 8 * 3 - 1;

fn slot(rest: &str) -> Option<RawInsn> {
    let column = rest.get(..SLOT_COLUMN)?;
    let mut slot = [0; 8];
    let mut pairs = column.split(' ');
    for byte in &mut slot {
        let digits = pairs.next().filter(|digits| digits.len() == 2)?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(RawInsn::from_bytes(slot))
}
