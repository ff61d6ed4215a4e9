//! Many small programs in shared executable pages that are never writable and executable at once.
//!
//! # The problem
//!
//! A JIT must write code and then run it. A page per program, switched from writable to executable, wastes most of the page
//! (a filter has a hundred bytes), a mapping and an iTLB entry each; and programs that share a page cannot be switched:
//! while the page is writable, threads running in its other programs fault. Pages that are writable *and* executable
//! turn every stray write into code execution.
//!
//! # The approach
//!
//! An *arena* (2 MiB of address space unless said otherwise) is one anonymous file, a memfd, mapped twice:
//!
//! ```text
//!                        committed                      reserved
//! write view      guard [ program | int3 | program     | not backed ] guard   rw-   text_copy, text_invalidate
//!                        the same physical pages
//! executable view guard [ program | int3 | program     ]              guard   r-x   placed code runs here
//!                                                      [            ]         ---
//! ```
//!
//! Neither view ever changes its protection while code runs, so placing and freeing never disturb a running program.
//! [`Pack::place`] finds room for an [`Image`](ebpf_image::Image) in chunks of [`CHUNK_BYTES`], links it for the address it gets,
//! writes it through the write view, and hands out a [`Placed`]: a counted reference that keeps the code where it is.
//! When the last one goes, the chunks are filled with `int3` again. They rest until every core has been made to forget
//! what it fetched from there, are merged with what is free around them, and used again.
//!
//! Where a system refuses this there are two other ways, with weaker promises: see [`Backing`]. Which one it is, is found out
//! when a pack is made, by trying, and said by [`Pack::capabilities`].
//!
//! # Invariants
//!
//! - **No page is writable and executable through one address.** The memfd is sealed after its write view is mapped, so
//!   the kernel refuses any further writable mapping of it, `write(2)` to it, and making the executable view writable.
//!   [`Pack::seal`] gives the write view up, too.
//! - **What no program occupies is `int3`**, from birth: memory is backed in small steps, each of which is filled through
//!   the write view before it is mapped executable. Nothing ever runs stale bytes or zeros.
//! - **Reference counting is the quiescence.** Whoever calls code holds its [`Placed`] or an [`Entry`] of it, and placed code
//!   that calls other placed code keeps it; code without a handle is called by nobody. Between wiping and reuse
//!   stands a `membarrier(2)` that makes all cores of the process serialize.
//! - **Instructions that may be running never change.** What a caller calls can be [replaced](Placed::replace) through an
//!   aligned slot of data, where that was asked for when it was placed.
//! - **No displacement is truncated.** A `call rel32` goes straight to its target where it reaches, else through a stub in the
//!   same placement. Arenas lie near the binary's own text where there is room, so reaching is the rule.
//! - **A child process cannot change what its parent runs.** The pages are shared over `fork`, the write view is
//!   not inherited, and placing in a child is [`PackError::Forked`]. A child may go on calling what was placed before the
//!   fork, but only as long as the parent keeps it placed.
//! - **Failure is early and whole.** What the system refuses is reported by [`Pack::new`] or [`Pack::place`], and
//!   nothing half-done stays behind.
//!
//! It runs on x86-64 Linux, best from 5.14 on. Calling code is the embedder's matter, and `unsafe`: this crate gives
//! addresses.
//!
//! # Layout
//!
//! Pure: `chunks` (which chunks are free), `link` (an image at a base address becomes bytes), `position` (which addresses
//! are near or far). `os` holds the system calls, `backing` the ways to get memory, `arena` the only two functions that write text,
//! `room` the arenas of a pack with their locks and barriers. `pack`, `placed`, `target` and `call_slot` are what users see.

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
compile_error!(
    "ebpf-pack places x86-64 code with Linux's memfd: build it for x86_64 Linux, or interpret instead"
);

mod arena;
mod backing;
mod call_slot;
mod chunks;
mod error;
mod link;
mod os;
mod pack;
mod perf_map;
mod placed;
mod position;
mod room;
mod stats;
mod target;

pub use arena::MAX_STEP_BYTES;
pub use backing::Backing;
pub use call_slot::CallSlot;
pub use chunks::CHUNK_BYTES;
pub use error::PackError;
pub use link::MAX_PLACEMENT_BYTES;
pub use os::PAGE_BYTES;
pub use pack::{ARENA_BYTES, MAX_ARENA_BYTES, Pack, PackOptions};
pub use perf_map::write_perf_map;
pub use placed::{Entry, Placed};
pub use position::Position;
pub use stats::{Capabilities, PackStats};
pub use target::Target;
