//! The expected values a fixture states: memory, result, verdict.

use crate::FixtureErrorKind;

/// What running a program must give (`-- result`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunResult {
    /// The program ends with this value in `r0`.
    Value(u64),
    /// The program is stopped; the text is the trap's message.
    Trap(String),
}

/// What the verifier must say (`-- verdict`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The program is accepted.
    Accept,
    /// The program is rejected.
    Reject {
        /// Name of the error number (`EACCES`), or `Unsupported`.
        errno: String,
        /// The message, in the kernel's wording.
        message: String,
    },
}

/// A body that does not read as its section's type: the line inside the body, and what is wrong.
pub(crate) type BodyError = (usize, FixtureErrorKind);

/// Reads the hex bytes of `-- mem`; blanks and `#` comments are ignored.
pub(crate) fn parse_mem(body: &str) -> Result<Vec<u8>, BodyError> {
    let mut bytes = Vec::new();
    let mut high: Option<u8> = None;
    let mut last_line = 0;
    for (index, line) in body.lines().enumerate() {
        let digits = line.split('#').next().unwrap_or_default();
        for character in digits.chars().filter(|c| !c.is_whitespace()) {
            let digit = character
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
                .ok_or((index, FixtureErrorKind::BadHex(character)))?;
            last_line = index;
            high = match high {
                None => Some(digit),
                Some(high) => {
                    bytes.push(high << 4 | digit);
                    None
                }
            };
        }
    }
    match high {
        None => Ok(bytes),
        Some(_) => Err((last_line, FixtureErrorKind::HalfByte)),
    }
}

/// Reads `-- result`: a `u64` in decimal or hex, or `trap: text`.
pub(crate) fn parse_result(body: &str) -> Result<RunResult, BodyError> {
    let text = body.trim();
    if let Some(trap) = text.strip_prefix("trap:") {
        return Ok(RunResult::Trap(trap.trim().to_string()));
    }
    let value = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    value.map(RunResult::Value).map_err(|_| (0, FixtureErrorKind::BadResult(text.to_string())))
}

/// Reads `-- verdict`: `accept` or `reject ERRNO: message`.
pub(crate) fn parse_verdict(body: &str) -> Result<Verdict, BodyError> {
    let text = body.trim();
    if text == "accept" {
        return Ok(Verdict::Accept);
    }
    text.strip_prefix("reject ")
        .and_then(|rest| rest.split_once(':'))
        .map(|(errno, message)| (errno.trim(), message.trim()))
        .filter(|(errno, message)| is_word(errno) && !message.is_empty())
        .map(|(errno, message)| Verdict::Reject {
            errno: errno.to_string(),
            message: message.to_string(),
        })
        .ok_or_else(|| (0, FixtureErrorKind::BadVerdict(text.to_string())))
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mem_ignores_blanks_and_comments() {
        assert_eq!(parse_mem("00 ff\n a B # ethernet\n"), Ok(vec![0, 0xff, 0xab]));
        assert_eq!(parse_mem(""), Ok(vec![]));
    }

    #[test]
    fn mem_says_where_it_is_wrong() {
        assert_eq!(parse_mem("00\n0g"), Err((1, FixtureErrorKind::BadHex('g'))));
        assert_eq!(parse_mem("00\n0\n\n"), Err((1, FixtureErrorKind::HalfByte)));
    }

    #[test]
    fn results() {
        assert_eq!(parse_result("42\n"), Ok(RunResult::Value(42)));
        assert_eq!(parse_result("0x2A"), Ok(RunResult::Value(42)));
        assert_eq!(parse_result("0xffffffffffffffff"), Ok(RunResult::Value(u64::MAX)));
        assert_eq!(parse_result("trap: out of fuel\n"), Ok(RunResult::Trap("out of fuel".into())));
        for bad in ["", "-1", "0x1ffffffffffffffff", "1 2"] {
            assert!(parse_result(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn verdicts() {
        assert_eq!(parse_verdict("accept\n"), Ok(Verdict::Accept));
        assert_eq!(
            parse_verdict("reject EACCES: R1 !read_ok: twice"),
            Ok(Verdict::Reject { errno: "EACCES".into(), message: "R1 !read_ok: twice".into() })
        );
        for bad in ["", "accepted", "reject", "reject EACCES", "reject : x", "reject E:"] {
            assert!(parse_verdict(bad).is_err(), "{bad:?} was taken");
        }
    }
}
