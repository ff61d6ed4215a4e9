//! The system calls: views of memory, the file behind them, the mark that a forked child loses, the barrier over all cores.

mod barrier;
mod file;
mod owner;
mod refusal;
mod view;

pub(crate) use barrier::{register_sync_core, sync_core};
pub(crate) use file::{back_memory, create_memory, seal_memory};
pub(crate) use owner::Owner;
#[cfg(test)]
pub(crate) use refusal::refuse_nth;
pub(crate) use view::View;

/// Size of a page, in bytes: fixed on x86-64.
pub const PAGE_BYTES: usize = 4096;

/// Size of a huge page, in bytes: what one entry of a page directory maps.
pub(crate) const HUGE_PAGE_BYTES: usize = 2 << 20;
