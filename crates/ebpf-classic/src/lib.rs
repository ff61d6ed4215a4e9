//! Classic BPF, the language of packet and system call filters: checked, explained, run, and
//! converted to eBPF that verifiers accept.
//!
//! - [`text`]: what `tcpdump -d`, `-dd`, `-ddd` and `bpf_asm` write, in and out, to and from
//!   [`SockFilter`], the eight bytes of one instruction.
//! - [`Filter`]: a program that passed the checker, which has exactly the rules of Linux. After
//!   that nobody looks at opcode bits: its [`Insn`]s are decoded, their jumps hold positions.
//! - [`Filter::run`]: the classic machine, simple and safe. It is what conversions must agree with.
//! - [`convert()`]: to an eBPF program of one of several [`Target`]s, with the original kept.
//! - [`explain`]: what a filter accepts, as conditions.
//! - [`seccomp`]: filters of system calls.
//!
//! ```
//! use ebpf_classic::{Filter, Options, Packet, convert, text};
//!
//! // `tcpdump -y EN10MB -ddd arp`
//! let program = text::parse("4,40 0 0 12,21 0 1 2054,6 0 0 262144,6 0 0 0")?;
//! let filter = Filter::new(program)?;
//!
//! let mut packet = [0; 60];
//! assert_eq!(filter.run(&Packet::new(&packet)), 0);
//! packet[12..14].copy_from_slice(&[0x08, 0x06]);
//! assert_eq!(filter.run(&Packet::new(&packet)), 262_144);
//!
//! let converted = convert(&filter, &Options::default())?;
//! assert_eq!(converted.original(), filter.original());
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! Where libpcap's interpreter and Linux differ, this follows Linux: shifts by `X` use its low five
//! bits (libpcap gives 0 from 32 on), and there is ancillary data.
//!
//! Sources: `linux/filter.h`, `linux/bpf_common.h`, `linux/seccomp.h`, the kernel's documentation of
//! socket filters, and the running kernel (`docs/kernel-facts.md`).

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
mod steps;
pub mod text;

pub use ancillary::{ANCILLARY_OFFSET, Ancillary, LINK_OFFSET, NETWORK_OFFSET, Place};
pub use convert::{ConvertError, Converted, Options, Returns, Target, convert};
pub use filter::{Cell, CheckError, ClassicPc, Filter, Insn, Operand};
pub use interp::{Metadata, Packet};
pub use op::{ALU_OPS, CMP_OPS, Op, SIZES, Src, Var};
pub use raw::{BytesError, SockFilter};
