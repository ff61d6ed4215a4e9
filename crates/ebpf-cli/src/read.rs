//! Reading files and standard input, up to a limit.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The largest object, text or memory image that is read, in bytes.
pub(crate) const MAX_PROGRAM_BYTES: u64 = 64 << 20;
/// The largest capture that is read, in bytes.
pub(crate) const MAX_CAPTURE_BYTES: u64 = 1 << 30;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The system says why.
    #[error("{}", reason(.0))]
    Io(io::Error),
    /// More bytes than the limit.
    #[error("larger than the limit of {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// Bytes that should be text.
    #[error("not UTF-8 text")]
    NotText,
}

/// The bytes of a file, or of standard input for `-`.
pub(crate) fn bytes(path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
    if path.as_os_str() == "-" {
        return read_all(io::stdin().lock(), limit);
    }
    read_all(File::open(path).map_err(ReadError::Io)?, limit)
}

/// The text of a file, or of standard input for `-`.
pub(crate) fn text(path: &Path) -> Result<String, ReadError> {
    String::from_utf8(bytes(path, MAX_PROGRAM_BYTES)?).map_err(|_| ReadError::NotText)
}

fn read_all(source: impl Read, limit: u64) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    source.take(limit + 1).read_to_end(&mut bytes).map_err(ReadError::Io)?;
    if bytes.len() as u64 > limit { Err(ReadError::TooLarge { limit }) } else { Ok(bytes) }
}

/// The system's words, without the number that the standard library puts behind them.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds_on_both_sides() {
        assert_eq!(read_all(&[1, 2, 3][..], 3).unwrap(), [1, 2, 3]);
        let error = read_all(&[1, 2, 3, 4][..], 3).unwrap_err();
        assert_eq!(error.to_string(), "larger than the limit of 3 bytes");
    }

    #[test]
    fn reasons_have_no_numbers() {
        assert_eq!(bytes(Path::new("/"), 1).unwrap_err().to_string(), "Is a directory");
        let missing = bytes(Path::new("/no/such/file"), 1).unwrap_err();
        assert_eq!(missing.to_string(), "No such file or directory");
    }
}
