//! What the kernel has, row by row: contexts and objects, helpers, and which program type may call
//! which of them. `docs/kernel-facts.md` says where the rows are from.

pub(super) mod availability;
pub(super) mod contexts;
pub(super) mod helpers;
pub(super) mod map_helpers;
