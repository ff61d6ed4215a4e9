//! A place in one line of text, and the tokens that are read from there.

use super::error::{AsmError, Expected};
use crate::Reg;
use crate::opcode::Width;

pub(super) type Result<T> = core::result::Result<T, AsmError>;

/// Characters of an [`AsmError::Syntax`]'s `found`.
const FOUND_MAX: usize = 40;

/// A line, and how much of it has been read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'t> {
    /// The whole line.
    text: &'t str,
    /// What has not been read. It never starts with a blank.
    rest: &'t str,
    /// Number of the line, from 1.
    line: u32,
}

impl<'t> Cursor<'t> {
    /// At the start of a line, whose comment is taken off.
    pub(super) fn new(line: u32, text: &'t str) -> Self {
        let text = without_comment(text);
        Self { text, rest: text.trim(), line }
    }

    /// What has not been read.
    pub(super) const fn rest(&self) -> &'t str {
        self.rest
    }

    fn advance(&mut self, bytes: usize) {
        self.rest = self.rest[bytes..].trim_start();
    }

    /// Reads `token` if it stands here.
    pub(super) fn eat(&mut self, token: &str) -> bool {
        let found = self.rest.starts_with(token);
        if found {
            self.advance(token.len());
        }
        found
    }

    pub(super) fn expect(&mut self, token: &'static str) -> Result<()> {
        if self.eat(token) { Ok(()) } else { Err(self.error(Expected::Text(token))) }
    }

    /// The word that stands here: letters, digits, `_`, `.`, `$`. It may be empty.
    pub(super) fn peek_word(&self) -> &'t str {
        let end = self.rest.find(|c: char| !is_word_char(c)).unwrap_or(self.rest.len());
        &self.rest[..end]
    }

    /// Reads a word that is not empty.
    pub(super) fn word(&mut self, expected: Expected) -> Result<&'t str> {
        let word = self.peek_word();
        if word.is_empty() {
            return Err(self.error(expected));
        }
        self.advance(word.len());
        Ok(word)
    }

    /// Reads `word` if it is the whole word that stands here.
    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        self.peek_word() == word && self.eat(word)
    }

    pub(super) fn expect_word(&mut self, word: &'static str) -> Result<()> {
        if self.eat_word(word) { Ok(()) } else { Err(self.error(Expected::Text(word))) }
    }

    /// Reads up to and with `end`.
    pub(super) fn skip_past(&mut self, end: &'static str) -> Result<()> {
        let at = self.rest.find(end).ok_or_else(|| self.error(Expected::Text(end)))?;
        self.advance(at + end.len());
        Ok(())
    }

    /// Reads the longest of the spellings of `rows` that stands here.
    pub(super) fn row<T: Copy>(
        &mut self,
        rows: &[T],
        spelling: fn(T) -> &'static str,
    ) -> Option<T> {
        let fits = rows.iter().copied().filter(|&row| self.rest.starts_with(spelling(row)));
        let row = fits.max_by_key(|&row| spelling(row).len())?;
        self.advance(spelling(row).len());
        Some(row)
    }

    /// Whether a word stands here that starts as registers do.
    pub(super) fn at_register(&self) -> bool {
        self.peek_word().starts_with(['r', 'w'])
    }

    /// Reads a register of either width.
    pub(super) fn register(&mut self) -> Result<(Width, Reg)> {
        let word = self.peek_word();
        let register = parse_register(word).ok_or_else(|| self.error(Expected::Register))?;
        self.advance(word.len());
        Ok(register)
    }

    /// Reads a register of this width.
    pub(super) fn register_of(&mut self, width: Width) -> Result<Reg> {
        let start = *self;
        match self.register()? {
            (found, reg) if found == width => Ok(reg),
            _ => Err(start.error(Expected::RegisterOf(width))),
        }
    }

    /// Reads this register.
    pub(super) fn that_register(&mut self, width: Width, reg: Reg) -> Result<()> {
        let start = *self;
        if self.register()? != (width, reg) {
            return Err(start.error(Expected::ThatRegister(width, reg)));
        }
        Ok(())
    }

    /// Whether an integer stands here.
    pub(super) fn at_integer(&self) -> bool {
        let digits = self.rest.strip_prefix('-').map_or(self.rest, str::trim_start);
        digits.starts_with(|c: char| c.is_ascii_digit())
    }

    /// Reads an integer from `min` to `max`: decimal, or hexadecimal with `0x`.
    pub(super) fn integer<T>(&mut self, min: T, max: T) -> Result<T>
    where
        T: Into<i128> + TryFrom<i128>,
    {
        self.integer_between(min, max.into())
    }

    /// Reads a 32-bit immediate. Hexadecimal may give the bits: `0xffffffff` is -1, as the kernel
    /// prints it in comparisons.
    pub(super) fn imm32(&mut self) -> Result<i32> {
        if self.rest.starts_with("0x") {
            return Ok(self.integer(0, u32::MAX)? as i32);
        }
        self.integer(i32::MIN, i32::MAX)
    }

    /// Reads a 64-bit immediate, signed or unsigned.
    pub(super) fn imm64(&mut self) -> Result<u64> {
        let value: i128 = self.integer(i64::MIN.into(), u64::MAX.into())?;
        Ok(value as u64)
    }

    fn integer_between<T>(&mut self, min: T, max: i128) -> Result<T>
    where
        T: Into<i128> + TryFrom<i128>,
    {
        let (start, min) = (*self, min.into());
        let negative = self.eat("-");
        let word = self.peek_word();
        let magnitude = match word.strip_prefix("0x") {
            Some(digits) => parse_digits(digits, 16),
            // Octal for some assemblers, decimal for others.
            None if word.len() > 1 && word.starts_with('0') => None,
            None => parse_digits(word, 10),
        };
        let value = magnitude
            .map(|magnitude| if negative { -i128::from(magnitude) } else { magnitude.into() })
            .filter(|value| (min..=max).contains(value))
            .and_then(|value| T::try_from(value).ok())
            .ok_or_else(|| start.error(Expected::Integer { min, max }))?;
        self.advance(word.len());
        Ok(value)
    }

    /// Whether a displacement stands here.
    pub(super) fn at_displacement(&self) -> bool {
        self.rest.starts_with(['+', '-'])
    }

    /// Reads a signed distance that must have its sign: `+8`, `-8`, `+ 8`, `+ -8`.
    pub(super) fn displacement<T>(&mut self, min: T, max: T) -> Result<T>
    where
        T: Into<i128> + TryFrom<i128>,
    {
        if !self.at_displacement() {
            return Err(self.error(Expected::Displacement));
        }
        self.eat("+");
        self.integer(min, max)
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn end(&self) -> Result<()> {
        if self.is_at_end() { Ok(()) } else { Err(self.error(Expected::EndOfLine)) }
    }

    /// That `expected` does not stand here.
    pub(super) fn error(&self, expected: Expected) -> AsmError {
        let read = self.text.trim_end().len() - self.rest.len();
        let column = u32::try_from(self.text[..read].chars().count() + 1).unwrap_or(u32::MAX);
        let found = self.found().chars().take(FOUND_MAX).collect();
        AsmError::Syntax { line: self.line, column, found, expected }
    }

    /// What stands here: a number with its sign, a word, or all up to the next blank.
    fn found(&self) -> &'t str {
        let sign = usize::from(self.rest.starts_with('-'));
        let ends = |c: char| !is_word_char(c);
        let word = self.rest[sign..].find(ends).unwrap_or(self.rest.len() - sign);
        if word > 0 {
            return &self.rest[..sign + word];
        }
        self.rest.split_whitespace().next().unwrap_or_default()
    }
}

pub(super) fn is_word_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$')
}

/// Cuts off a comment: from `;`, from `//`, or from a `#` at the start of a word (`call foo#1` has
/// one inside).
fn without_comment(text: &str) -> &str {
    let starts_comment = |&(at, _): &(usize, char)| {
        let (before, here) = text.split_at(at);
        let starts_word = before.is_empty() || before.ends_with(char::is_whitespace);
        here.starts_with(';') || here.starts_with("//") || here.starts_with('#') && starts_word
    };
    text.char_indices().find(starts_comment).map_or(text, |(at, _)| &text[..at])
}

/// `r0` to `r10`, `w0` to `w10`.
fn parse_register(word: &str) -> Option<(Width, Reg)> {
    let letter = word.chars().next()?;
    let width = [Width::W64, Width::W32].into_iter().find(|width| width.letter() == letter)?;
    let number = &word[1..];
    let has_leading_zero = number.len() > 1 && number.starts_with('0');
    let number = parse_digits(number, 10).filter(|_| !has_leading_zero)?;
    Some((width, Reg::new(u8::try_from(number).ok()?)?))
}

/// Digits alone: the standard parser also takes a sign.
fn parse_digits(digits: &str, radix: u32) -> Option<u64> {
    let all_digits = digits.chars().all(|c| c.is_digit(radix));
    u64::from_str_radix(digits, radix).ok().filter(|_| all_digits)
}
