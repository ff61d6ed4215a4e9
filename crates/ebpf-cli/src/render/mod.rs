//! Results as text for people, and as data.

pub(crate) mod diagnostic;
pub(crate) mod json;
pub(crate) mod maps;
pub(crate) mod table;
