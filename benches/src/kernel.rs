//! Benchmark programs in the running kernel: loaded by bpf(2), run by its test runs, never attached.
//!
//! They are traffic classifiers. A repeated test run of an XDP program first makes the kernel patch its
//! own text and wait for all cores, which takes longer than the runs.

#![allow(unsafe_code, reason = "bpf(2) is called, for which there is no safe wrapper here")]

use std::io::Error;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use ebpf_runtime::isa::RawInsn;

use crate::programs::{BLOCK_BYTES, BenchProgram, ProgramsError, folded};

/// Why a program does not run in the kernel.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The program cannot be had.
    #[error(transparent)]
    Program(#[from] ProgramsError),
    /// The kernel interprets programs.
    #[error("net.core.bpf_jit_enable is 0")]
    NoJit,
    /// The kernel refused something.
    #[error("the kernel refuses {what}: {error}")]
    Refused {
        /// What.
        what: &'static str,
        /// Why.
        error: Error,
    },
}

/// Commands of bpf(2), and types of programs and maps: `linux/bpf.h`.
const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;

/// Opcode of a wide load, and the kind of one that gives the address of a map's value.
const WIDE_LOAD: u8 = 0x18;
const BPF_PSEUDO_MAP_VALUE: u8 = 2;

/// The frame that test runs are given, and programs do not look at.
const FRAME: [u8; 64] = [0; 64];

/// The parts of `union bpf_attr` that are used.
#[repr(C)]
#[derive(Default)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

#[repr(C)]
#[derive(Default)]
struct MapUpdate {
    map_fd: u64,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_count: u32,
    insns: u64,
    license: u64,
}

#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
}

/// A program in the kernel, with the map that holds its block.
#[derive(Debug)]
pub struct InKernel {
    program: OwnedFd,
    /// What the runs are to give.
    result: u64,
    _map: OwnedFd,
}

impl InKernel {
    /// Loads a program.
    ///
    /// # Errors
    /// There is no right to, or the kernel rejects the program.
    pub fn new(program: &BenchProgram) -> Result<Self, KernelError> {
        let setting = std::fs::read_to_string("/proc/sys/net/core/bpf_jit_enable");
        if setting.is_ok_and(|setting| setting.trim() == "0") {
            return Err(KernelError::NoJit);
        }
        let map = block_map(&program.block())?;
        let mut slots = program.for_kernel()?;
        for slot in &mut slots {
            if slot.opcode == WIDE_LOAD && slot.src == BPF_PSEUDO_MAP_VALUE {
                slot.imm = map.as_raw_fd();
            }
        }
        let bytes: Vec<u8> = slots.iter().copied().flat_map(RawInsn::to_bytes).collect();
        let mut attributes = ProgLoad {
            prog_type: BPF_PROG_TYPE_SCHED_CLS,
            insn_count: slots.len() as u32,
            insns: bytes.as_ptr() as u64,
            license: c"Dual MIT/GPL".as_ptr() as u64,
        };
        // SAFETY: instructions and licence are valid for as long as the call lasts.
        let program_fd = unsafe { bpf("the program", BPF_PROG_LOAD, &mut attributes) }?;
        Ok(Self { program: owned(program_fd), result: program.result, _map: map })
    }

    /// Runs the program `repeat` times. Gives the result that was expected of it, or the 32 bits
    /// that it gave where those are not of that result.
    ///
    /// # Panics
    /// The kernel refuses the run.
    #[must_use]
    pub fn run(&self, repeat: u32) -> u64 {
        let mut attributes = TestRun {
            prog_fd: self.program.as_raw_fd() as u32,
            data_size_in: FRAME.len() as u32,
            data_in: FRAME.as_ptr() as u64,
            repeat,
            ..TestRun::default()
        };
        // SAFETY: the frame is valid for reads, and no output is asked for.
        let run = unsafe { bpf("a test run", BPF_PROG_TEST_RUN, &mut attributes) };
        run.expect("the kernel loaded the program, and so runs it");
        if attributes.retval == folded(self.result) {
            self.result
        } else {
            attributes.retval.into()
        }
    }
}

/// An array whose only value is the block.
fn block_map(block: &[u8]) -> Result<OwnedFd, KernelError> {
    let mut attributes = MapCreate {
        map_type: BPF_MAP_TYPE_ARRAY,
        key_size: 4,
        value_size: BLOCK_BYTES as u32,
        max_entries: 1,
    };
    // SAFETY: nothing is pointed to.
    let map = owned(unsafe { bpf("a map", BPF_MAP_CREATE, &mut attributes) }?);
    let key = 0_u32;
    assert_eq!(block.len(), BLOCK_BYTES, "programs run on blocks of this size");
    let mut attributes = MapUpdate {
        map_fd: map.as_raw_fd() as u64,
        key: &raw const key as u64,
        value: block.as_ptr() as u64,
        flags: 0,
    };
    // SAFETY: key and value are valid for reads of the map's sizes.
    unsafe { bpf("the block", BPF_MAP_UPDATE_ELEM, &mut attributes) }?;
    Ok(map)
}

/// Calls bpf(2); `what` is what an error calls it.
///
/// # Safety
/// `attributes` begin like `union bpf_attr` for this command (the kernel takes the rest as zeros),
/// and what they point to is valid as the command needs it.
unsafe fn bpf<T>(
    what: &'static str,
    command: libc::c_long,
    attributes: &mut T,
) -> Result<i32, KernelError> {
    // SAFETY: promised by the caller; the size is that of the attributes.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, std::mem::size_of::<T>())
    };
    i32::try_from(result)
        .ok()
        .filter(|&result| result >= 0)
        .ok_or_else(|| KernelError::Refused { what, error: Error::last_os_error() })
}

fn owned(fd: i32) -> OwnedFd {
    // SAFETY: the kernel just gave this descriptor, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
