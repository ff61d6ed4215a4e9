//! Programs as numbers: C arrays, and decimal text behind its length.

use alloc::vec::Vec;

use super::cursor::{Cursor, Result};
use super::{TextError, TextErrorKind};
use crate::raw::SockFilter;

/// `{ 0x28, 0, 0, 0x0000000c },` and so on.
pub(super) fn parse_c(text: &str) -> Result<Vec<SockFilter>> {
    let mut cursor = Cursor::new(text);
    let mut program = Vec::new();
    while cursor.skip_lines() {
        cursor.expect("{")?;
        let code = cursor.number(u16::MAX.into())? as u16;
        cursor.expect(",")?;
        let jt = cursor.number(u8::MAX.into())? as u8;
        cursor.expect(",")?;
        let jf = cursor.number(u8::MAX.into())? as u8;
        cursor.expect(",")?;
        let k = cursor.signed()?;
        cursor.expect("}")?;
        cursor.eat(",");
        program.push(SockFilter { code, jt, jf, k });
    }
    Ok(program)
}

/// `2,6 0 0 1,6 0 0 0`, or the same with line ends. All numbers are decimal.
pub(super) fn parse_decimal(text: &str) -> Result<Vec<SockFilter>> {
    let mut numbers = Decimals { text, at: 0 };
    let Some(announced) = numbers.next(u32::MAX)? else {
        return Ok(Vec::new());
    };
    let mut program = Vec::new();
    while let Some(code) = numbers.next(u16::MAX.into())? {
        let jt = numbers.expect(u8::MAX.into())? as u8;
        let jf = numbers.expect(u8::MAX.into())? as u8;
        let k = numbers.expect(u32::MAX)?;
        program.push(SockFilter { code: code as u16, jt, jf, k });
    }
    if program.len() as u64 != u64::from(announced) {
        let kind = TextErrorKind::Count { announced, found: program.len() };
        return Err(TextError { line: 1, column: 1, kind });
    }
    Ok(program)
}

/// Decimal numbers between blanks, line ends and commas.
struct Decimals<'t> {
    text: &'t str,
    at: usize,
}

impl Decimals<'_> {
    /// The next number; `None` at the end.
    fn next(&mut self, max: u32) -> Result<Option<u32>> {
        let bytes = self.text.as_bytes();
        let is_separator = |byte: &u8| byte.is_ascii_whitespace() || *byte == b',';
        self.at += bytes[self.at..].iter().take_while(|byte| is_separator(byte)).count();
        let digits = bytes[self.at..].iter().take_while(|byte| byte.is_ascii_digit());
        let end = self.at + digits.count();
        let word = &self.text[self.at..end];
        if word.is_empty() {
            return Ok(None);
        }
        match word.parse() {
            Ok(value) if value <= max => {
                self.at = end;
                Ok(Some(value))
            }
            _ => Err(self.error(TextErrorKind::TooLarge { max })),
        }
    }

    fn expect(&mut self, max: u32) -> Result<u32> {
        match self.next(max)? {
            Some(value) => Ok(value),
            None => Err(self.error(TextErrorKind::Expected("four numbers an instruction"))),
        }
    }

    fn error(&self, kind: TextErrorKind) -> TextError {
        let before = &self.text[..self.at];
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
        TextError { line, column: self.at - line_start + 1, kind }
    }
}
