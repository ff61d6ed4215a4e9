//! Programs in the kernel.

use std::ffi::CString;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use ebpf_isa::RawInsn;

use super::error::{Errno, KernelError};
use super::log::Statistics;
use super::sys::{self, Load, Run};

/// Statistics alone; errors are in the log at every level.
const STATISTICS: u32 = 4;
/// Room for the log of a verdict: errors and statistics.
const LOG_BYTES: usize = 1 << 20;
/// Room for a log that shows what the verifier did.
const LONG_LOG_BYTES: usize = 16 << 20;

/// What is loaded as a program.
#[derive(Debug, Clone, Default)]
pub struct ProgramLoad<'a> {
    /// Type by its number, which need not be a known one.
    pub program_type: u32,
    /// Expected attach type by its number.
    pub attach_type: u32,
    /// Flags of `BPF_PROG_LOAD`.
    pub flags: u32,
    /// Licence.
    pub license: &'a str,
    /// Instructions, with descriptors in the wide loads that name maps.
    pub slots: &'a [RawInsn],
    /// The program's types.
    pub btf: Option<BorrowedFd<'a>>,
    /// First slot of each function, and its type.
    pub func_info: &'a [(u32, u32)],
    /// What the program is for, as a type of the kernel; 0 for nothing.
    pub attach_btf_id: u32,
}

/// A program in the kernel. It goes with this value.
#[derive(Debug)]
pub struct LoadedProgram {
    fd: OwnedFd,
    /// What verification took; `None` if the kernel does not tell.
    pub statistics: Option<Statistics>,
}

/// A program that the kernel does not load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub errno: Errno,
    /// The last line of the log before the statistics; empty if the verifier did not get to see
    /// the program.
    pub message: String,
    /// What verification took, if there was one.
    pub statistics: Option<Statistics>,
}

impl ProgramLoad<'_> {
    /// Loads the program.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn load(&self) -> Result<LoadedProgram, Refusal> {
        let mut log = vec![0; LOG_BYTES];
        let mut loaded = self.load_with(STATISTICS, &mut log);
        if loaded.as_ref().err() == Some(&Errno(libc::ENOSPC)) {
            // The kernel's complaints about itself are in the log at every level.
            log = vec![0; LONG_LOG_BYTES];
            loaded = self.load_with(STATISTICS, &mut log);
        }
        let log = super::log::text(&log);
        let statistics = Statistics::parse(&log);
        match loaded {
            Ok(fd) => Ok(LoadedProgram { fd, statistics }),
            Err(errno) => {
                let message = super::log::last_line(&log).to_owned();
                Err(Refusal { errno, message, statistics })
            }
        }
    }

    /// Loads the program once more, for its log at a level: 1 shows instructions and states, 2 also
    /// the state after each instruction. `None` where it is too long.
    #[must_use]
    pub fn log(&self, level: u32) -> Option<String> {
        let mut log = vec![0; LONG_LOG_BYTES];
        // The log is there for either verdict.
        let loaded = self.load_with(level | STATISTICS, &mut log);
        (loaded.err() != Some(Errno(libc::ENOSPC))).then(|| super::log::text(&log))
    }

    fn load_with(&self, log_level: u32, log: &mut [u8]) -> Result<OwnedFd, Errno> {
        let insns: Vec<[u8; 8]> = self.slots.iter().map(|slot| slot.to_bytes()).collect();
        let func_info: Vec<[u32; 2]> = self.func_info.iter().map(|&(pc, ty)| [pc, ty]).collect();
        let license = CString::new(self.license).map_err(|_| Errno(libc::EINVAL))?;
        sys::prog_load(&mut Load {
            prog_type: self.program_type,
            insns: &insns,
            license: &license,
            log_level,
            log,
            flags: self.flags,
            attach_type: self.attach_type,
            btf: self.btf,
            func_info: &func_info,
            attach_btf_id: self.attach_btf_id,
        })
    }
}

impl From<Refusal> for KernelError {
    fn from(refusal: Refusal) -> Self {
        Self::refused("a program", refusal.errno)
    }
}

impl LoadedProgram {
    /// Runs the program `repeat` times on a packet, or a context, whichever its type takes. Gives
    /// what it returned last.
    ///
    /// # Errors
    /// The kernel does not run such programs, or not on this.
    pub fn test_run(&self, data: &[u8], context: &[u8], repeat: u32) -> Result<u32, Errno> {
        sys::prog_test_run(self.fd.as_fd(), &Run { data, context, repeat })
    }

    /// The program as the kernel rewrote it, and the number of bytes of its machine code.
    ///
    /// # Errors
    /// The kernel does not show it.
    pub fn info(&self) -> Result<(Vec<RawInsn>, u32), Errno> {
        let (xlated, jited_bytes) = sys::prog_info(self.fd.as_fd())?;
        Ok((xlated.into_iter().map(RawInsn::from_bytes).collect(), jited_bytes))
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
