//! Filters of system calls.

use alloc::borrow::ToOwned;
use core::fmt;

use ebpf_isa::{AluOp, Size};

use crate::ancillary::Place;
use crate::convert::{self, ConvertError, Converted, Options, Returns, Target};
use crate::filter::{ClassicPc, Filter, Insn};
use crate::interp::{self, Source};

/// Length of `struct seccomp_data` in bytes.
pub const DATA_LEN: u32 = 64;

/// A system call: `struct seccomp_data` of `linux/seccomp.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SeccompData {
    /// Number of the system call.
    pub nr: i32,
    /// The calling convention, an `AUDIT_ARCH_*` value: see [`AUDIT_ARCH_X86_64`].
    pub arch: u32,
    /// Where the call was made.
    pub instruction_pointer: u64,
    /// The arguments.
    pub args: [u64; 6],
}

/// The calling convention of 64-bit programs on x86-64.
pub const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

impl SeccompData {
    /// As filters see it.
    #[must_use]
    pub fn to_ne_bytes(&self) -> [u8; DATA_LEN as usize] {
        let mut bytes = [0; DATA_LEN as usize];
        bytes[..4].copy_from_slice(&self.nr.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.arch.to_ne_bytes());
        bytes[8..16].copy_from_slice(&self.instruction_pointer.to_ne_bytes());
        for (place, arg) in bytes[16..].chunks_exact_mut(8).zip(self.args) {
            place.copy_from_slice(&arg.to_ne_bytes());
        }
        bytes
    }
}

/// What happens to a system call (`SECCOMP_RET_*`), from the least to the most permissive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// The process is killed. So it is by values that are no action.
    KillProcess,
    /// The thread is killed.
    KillThread,
    /// The process gets a `SIGSYS` with this number.
    Trap(u16),
    /// The call fails with this error; above 4095, with 4095.
    Errno(u16),
    /// A supervisor decides.
    UserNotif,
    /// A tracer decides, and gets this number.
    Trace(u16),
    /// The call is made and logged.
    Log,
    /// The call is made.
    Allow,
}

/// The largest number of an error.
const MAX_ERRNO: u16 = 4095;

impl Action {
    /// The action that a filter's value stands for.
    #[must_use]
    pub const fn of(value: u32) -> Self {
        let data = value as u16;
        match value >> 16 {
            0x0000 => Self::KillThread,
            0x0003 => Self::Trap(data),
            0x0005 => Self::Errno(if data > MAX_ERRNO { MAX_ERRNO } else { data }),
            0x7fc0 => Self::UserNotif,
            0x7ff0 => Self::Trace(data),
            0x7ffc => Self::Log,
            0x7fff => Self::Allow,
            _ => Self::KillProcess,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KillProcess => f.pad("KILL_PROCESS"),
            Self::KillThread => f.pad("KILL_THREAD"),
            Self::Trap(data) => write!(f, "TRAP({data})"),
            Self::Errno(errno) => write!(f, "ERRNO({errno})"),
            Self::UserNotif => f.pad("USER_NOTIF"),
            Self::Trace(data) => write!(f, "TRACE({data})"),
            Self::Log => f.pad("LOG"),
            Self::Allow => f.pad("ALLOW"),
        }
    }
}

/// Why a filter cannot judge system calls. Linux answers both with `EINVAL`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SeccompError {
    /// An instruction that such filters may not have.
    #[error("insn {pc}: seccomp filters have no {what}")]
    Instruction {
        /// Where.
        pc: ClassicPc,
        /// What it is.
        what: &'static str,
    },
    /// A load that is no aligned word of `struct seccomp_data`.
    #[error("insn {pc}: load at {off}: use multiples of 4 below {DATA_LEN}")]
    Offset {
        /// Where.
        pc: ClassicPc,
        /// The constant of the load.
        off: u32,
    },
}

impl SeccompError {
    /// The instruction that it is about.
    #[must_use]
    pub const fn pc(&self) -> ClassicPc {
        match *self {
            Self::Instruction { pc, .. } | Self::Offset { pc, .. } => pc,
        }
    }
}

/// What `seccomp(2)` asks of a filter besides the classic checker's rules.
pub(crate) fn check(filter: &Filter) -> Result<(), SeccompError> {
    filter.iter().try_for_each(|(pc, insn)| {
        let what = match insn {
            Insn::LoadAbs { size: Size::W, place: Place::Data(off) }
                if off < DATA_LEN && off.is_multiple_of(4) =>
            {
                return Ok(());
            }
            Insn::LoadAbs { size: Size::W, .. } => {
                let off = filter.original()[pc.index()].k;
                return Err(SeccompError::Offset { pc, off });
            }
            Insn::LoadAbs { .. } => "loads of less than 32 bits",
            Insn::LoadInd { .. } => "loads at X",
            Insn::LoadMsh { .. } => "loads of header lengths",
            Insn::LoadAncillary(_) => "ancillary data",
            Insn::Alu(AluOp::Mod, _) => "remainders",
            _ => return Ok(()),
        };
        Err(SeccompError::Instruction { pc, what })
    })
}

/// A filter that can judge system calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeccompFilter {
    filter: Filter,
}

impl SeccompFilter {
    /// Takes a filter that `seccomp(2)` would take.
    ///
    /// # Errors
    /// The first instruction that it would not.
    pub fn new(filter: Filter) -> Result<Self, SeccompError> {
        check(&filter)?;
        Ok(Self { filter })
    }

    /// The filter.
    #[must_use]
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// The filter's value for a system call.
    #[must_use]
    pub fn run(&self, data: &SeccompData) -> u32 {
        interp::run(&self.filter, &DataSource(data.to_ne_bytes()))
    }

    /// What happens to a system call.
    #[must_use]
    pub fn action(&self, data: &SeccompData) -> Action {
        Action::of(self.run(data))
    }

    /// An eBPF program whose context is a `struct seccomp_data`, and which returns the filter's
    /// value.
    ///
    /// # Errors
    /// See [`convert`](convert::convert).
    pub fn convert(&self) -> Result<Converted, ConvertError> {
        let options = Options { target: Target::Seccomp, returns: Returns::Value };
        convert::convert(&self.filter, &options)
    }
}

/// `struct seccomp_data` as the packet.
struct DataSource([u8; DATA_LEN as usize]);

impl Source for DataSource {
    fn load(&self, place: Place, _size: Size) -> Option<u32> {
        let Place::Data(off) = place else {
            return None;
        };
        let word = self.0.get(off as usize..)?.first_chunk()?;
        Some(u32::from_ne_bytes(word.to_owned()))
    }

    fn len(&self) -> u32 {
        DATA_LEN
    }

    fn ancillary(&self, _: crate::Ancillary, _: u32, _: u32) -> Option<u32> {
        None
    }
}
