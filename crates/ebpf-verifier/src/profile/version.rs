//! Versions of the kernel, and the spans of them that a rule holds in.

use core::fmt;

use crate::digest::DigestWriter;

/// A version of Linux.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    major: u16,
    minor: u16,
}

impl Version {
    /// `Version::new(6, 18)` is Linux 6.18.
    #[must_use]
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }

    /// Reads a version as `uname -r` begins: `6.18` or `6.18.44-x`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (major, rest) = text.split_once('.')?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        Some(Self { major: major.parse().ok()?, minor: rest[..end].parse().ok()? })
    }

    /// Both parts as one number that ascends with versions.
    pub(super) const fn number(self) -> u32 {
        (self.major as u32) << 16 | self.minor as u32
    }
}

/// As in `uname -r`: `6.18`.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The versions that something holds in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first one.
    pub since: Version,
    /// The first one in which it does not hold any more.
    pub until: Option<Version>,
}

impl Span {
    /// Every version.
    pub const ALWAYS: Self = Self::since(0, 0);

    /// From a version on.
    #[must_use]
    pub const fn since(major: u16, minor: u16) -> Self {
        Self { since: Version::new(major, minor), until: None }
    }

    /// Up to, but without, a version.
    #[must_use]
    pub const fn until(mut self, major: u16, minor: u16) -> Self {
        self.until = Some(Version::new(major, minor));
        self
    }

    /// Whether it holds in `version`.
    #[must_use]
    pub const fn contains(self, version: Version) -> bool {
        let ended = match self.until {
            Some(until) => until.number() <= version.number(),
            None => false,
        };
        self.since.number() <= version.number() && !ended
    }

    pub(crate) fn digest(self, digest: &mut DigestWriter) {
        digest.u32(self.since.number());
        digest.u32(self.until.map_or(u32::MAX, Version::number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_uname_says() {
        assert_eq!(Version::parse("6.18.44-fc-v669"), Some(Version::new(6, 18)));
        assert_eq!(Version::parse("7.0"), Some(Version::new(7, 0)));
        assert_eq!(Version::parse("6.9-rc1"), Some(Version::new(6, 9)));
        for text in ["", "6", "6.", "x.1", "6.x", "70000.1"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_span_has_its_first_version_and_not_its_last() {
        let span = Span::since(5, 2).until(6, 9);
        let contains = |major, minor| span.contains(Version::new(major, minor));
        assert!(!contains(5, 1) && contains(5, 2) && contains(6, 8) && !contains(6, 9));
        assert!(Span::ALWAYS.contains(Version::new(0, 0)));
    }
}
