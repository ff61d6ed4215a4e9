//! A place in a text, and the words and numbers from there on.

use alloc::string::ToString;

use super::{TextError, TextErrorKind};

/// Result of reading something.
pub(super) type Result<T> = core::result::Result<T, TextError>;

/// A place in a text. Blanks are skipped before each thing that is read; line ends are not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Cursor<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    /// Skips blanks and comments (`; …` and `/* … */`), but no line ends outside of comments.
    fn skip_blanks(&mut self) {
        loop {
            let rest = self.rest();
            let blanks = rest.len() - rest.trim_start_matches([' ', '\t', '\r']).len();
            self.at += blanks;
            let rest = self.rest();
            if rest.starts_with(';') {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if rest.starts_with("/*") {
                self.at += rest.find("*/").map_or(rest.len(), |end| end + 2);
            } else {
                return;
            }
        }
    }

    /// Skips line ends and blanks; `false` at the end of the text.
    pub(super) fn skip_lines(&mut self) -> bool {
        self.skip_blanks();
        while self.rest().starts_with('\n') {
            self.at += 1;
            self.skip_blanks();
        }
        !self.rest().is_empty()
    }

    /// Whether the line ends here.
    pub(super) fn at_line_end(&mut self) -> bool {
        self.skip_blanks();
        matches!(self.rest().as_bytes().first(), None | Some(b'\n'))
    }

    pub(super) fn peek(&mut self) -> Option<u8> {
        self.skip_blanks();
        self.rest().bytes().next()
    }

    /// Takes `token`, if it comes next, in small or capital letters.
    pub(super) fn eat(&mut self, token: &str) -> bool {
        self.skip_blanks();
        let next = self.rest().as_bytes().get(..token.len());
        let found = next.is_some_and(|next| next.eq_ignore_ascii_case(token.as_bytes()));
        if found {
            self.at += token.len();
        }
        found
    }

    /// Takes these tokens, up to the first that does not come next.
    pub(super) fn eat_all<const N: usize>(&mut self, tokens: [&str; N]) -> bool {
        tokens.iter().all(|token| self.eat(token))
    }

    pub(super) fn expect(&mut self, token: &'static str) -> Result<()> {
        match self.eat(token) {
            true => Ok(()),
            false => Err(self.expected(token)),
        }
    }

    /// Letters, digits, `_`, `-` and `.`, not beginning with a sign; empty where there are none.
    pub(super) fn word(&mut self) -> &'t str {
        self.skip_blanks();
        let rest = self.rest();
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let len = rest.bytes().take_while(|&byte| is_part(byte)).count();
        let len = if rest.starts_with('-') { 0 } else { len };
        self.at += len;
        &rest[..len]
    }

    /// Takes the next word, if it is this one, in small or capital letters.
    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        let mut ahead = *self;
        let found = ahead.word().eq_ignore_ascii_case(word);
        if found {
            *self = ahead;
        }
        found
    }

    /// The next word, which stays.
    pub(super) fn peek_word(&self) -> &'t str {
        let mut ahead = *self;
        ahead.word()
    }

    /// A number up to `max`: decimal, `0x…`, `0b…` or octal with a leading 0.
    pub(super) fn number(&mut self, max: u32) -> Result<u32> {
        self.skip_blanks();
        let start = *self;
        let rest = self.rest();
        let digits =
            rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric()).len();
        let word = &rest[..digits];
        let (radix, digits) = radix_of(word);
        if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
            return Err(start.expected("a number"));
        }
        self.at += word.len();
        match u32::from_str_radix(digits, radix) {
            Ok(value) if value <= max => Ok(value),
            _ => Err(start.error(TextErrorKind::TooLarge { max })),
        }
    }

    /// Whether a number comes next, or its sign.
    pub(super) fn is_at_number(&mut self) -> bool {
        matches!(self.peek(), Some(b'0'..=b'9' | b'-'))
    }

    /// A decimal number, which may begin with zeros.
    pub(super) fn decimal(&mut self) -> Result<u32> {
        let start = *self;
        self.word().parse().map_err(|_| start.expected("a decimal number"))
    }

    /// A number of 32 bits, which may have a sign.
    pub(super) fn signed(&mut self) -> Result<u32> {
        if self.eat("-") {
            const LOWEST: u32 = i32::MIN.unsigned_abs();
            return Ok(self.number(LOWEST)?.wrapping_neg());
        }
        self.number(u32::MAX)
    }

    pub(super) fn expected(&self, what: &'static str) -> TextError {
        self.error(TextErrorKind::Expected(what))
    }

    pub(super) fn unknown_instruction(&self, word: &str) -> TextError {
        self.error(TextErrorKind::UnknownInstruction(word.to_string()))
    }

    /// An error at this place.
    pub(super) fn error(&self, kind: TextErrorKind) -> TextError {
        let mut here = *self;
        here.skip_blanks();
        let before = &self.text[..here.at];
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
        TextError { line, column: here.at - line_start + 1, kind }
    }
}

fn radix_of(word: &str) -> (u32, &str) {
    let prefixes = [("0x", 16), ("0X", 16), ("0b", 2), ("0B", 2)];
    for (prefix, radix) in prefixes {
        if let Some(digits) = word.strip_prefix(prefix) {
            return (radix, digits);
        }
    }
    match word.strip_prefix('0') {
        Some(digits) if !digits.is_empty() => (8, digits),
        _ => (10, word),
    }
}
