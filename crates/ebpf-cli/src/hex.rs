//! Bytes as hex digits.

/// Why text is not bytes in hex.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HexError {
    /// A character that is no hex digit.
    #[error("`{0}` is not a hex digit")]
    NotADigit(char),
    /// An odd number of digits.
    #[error("an odd number of hex digits")]
    HalfByte,
}

/// The bytes that `text` gives, two digits each, without anything between them.
pub(crate) fn decode(text: &str) -> Result<Vec<u8>, HexError> {
    let digit = |c: char| c.to_digit(16).map(|value| value as u8).ok_or(HexError::NotADigit(c));
    let digits: Vec<u8> = text.chars().map(digit).collect::<Result<_, _>>()?;
    let (pairs, rest) = digits.as_chunks();
    if rest.is_empty() {
        Ok(pairs.iter().map(|&[high, low]| high << 4 | low).collect())
    } else {
        Err(HexError::HalfByte)
    }
}

/// Two lower-case digits a byte.
pub(crate) fn encode(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_digits() {
        assert_eq!(decode("00fFa9").unwrap(), [0, 0xff, 0xa9]);
        assert!(decode("").unwrap().is_empty());
        assert_eq!(encode(&[0, 0xff, 0xa9]), "00ffa9");
    }

    #[test]
    fn what_is_no_hex() {
        assert_eq!(decode("0"), Err(HexError::HalfByte));
        assert_eq!(decode("0g"), Err(HexError::NotADigit('g')));
        assert_eq!(decode("0é"), Err(HexError::NotADigit('é')));
        assert_eq!(decode("00 00"), Err(HexError::NotADigit(' ')));
    }
}
