//! Classic BPF, the language of packet and system call filters.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod ancillary;
mod convert;
pub mod explain;
mod filter;
mod interp;
mod netlink;
mod op;
mod raw;
pub mod seccomp;
pub mod text;

pub use ancillary::{ANCILLARY_OFFSET, Ancillary, LINK_OFFSET, NETWORK_OFFSET, Place};
pub use convert::{ConvertError, Converted, Options, Returns, Target, convert};
pub use filter::{Cell, CheckError, ClassicPc, Filter, Insn, Operand};
pub use interp::{Metadata, Packet};
pub use op::{ALU_OPS, CMP_OPS, Op, SIZES, Src, Var};
pub use raw::{BytesError, SockFilter};
