//! What symbols stand for.

use crate::Entry;

/// What a symbol of an image stands for: an address, and how it is kept good.
///
/// An address of the host's own (`Target::from(u64)`) must stay good for as long as the code may be called. An [`Entry`]
/// of placed code is kept alive by the code that calls it.
#[derive(Clone, Debug)]
pub struct Target {
    pub(crate) address: u64,
    pub(crate) kept: Option<Entry>,
    pub(crate) replaceable: bool,
}

impl Target {
    /// The same target, which [`Placed::replace`](crate::Placed::replace) can change later. Calls of it go through an
    /// aligned data slot also where a direct call would reach, which costs a jump.
    #[must_use]
    pub fn replaceable(mut self) -> Self {
        self.replaceable = true;
        self
    }
}

impl From<u64> for Target {
    fn from(address: u64) -> Self {
        Self { address, kept: None, replaceable: false }
    }
}

impl From<Entry> for Target {
    fn from(entry: Entry) -> Self {
        Self { address: entry.address(), kept: Some(entry), replaceable: false }
    }
}
