//! Benchmark programs in the running kernel: loaded by bpf(2), run by its test runs, never attached.
//!
//! They are traffic classifiers. A repeated test run of an XDP program first makes the kernel patch its
//! own text and wait for all cores, which takes longer than the runs.

use ebpf_runtime::isa::RawInsn;
use ebpf_runtime::isa::uapi::{MapType, ProgramType};
use ebpf_runtime::kernel::{LoadedProgram, Map, MapSpec, ProgramLoad};

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
    /// The kernel cannot be asked, or refused something.
    #[error(transparent)]
    Kernel(#[from] ebpf_runtime::kernel::KernelError),
}

/// Opcode of a wide load, and the kind of one that gives the address of a map's value.
const WIDE_LOAD: u8 = 0x18;
const BPF_PSEUDO_MAP_VALUE: u8 = 2;

/// The frame that test runs are given, and programs do not look at.
const FRAME: [u8; 64] = [0; 64];

/// A program in the kernel, with the map that holds its block.
#[derive(Debug)]
pub struct InKernel {
    program: LoadedProgram,
    /// What the runs are to give.
    result: u64,
    _map: Map,
}

impl InKernel {
    /// Loads a program.
    ///
    /// # Errors
    /// There is no right to, or the kernel rejects the program.
    pub fn new(program: &BenchProgram) -> Result<Self, KernelError> {
        require_jit()?;
        let map = block_map(&program.block())?;
        let mut slots = program.for_kernel()?;
        for slot in &mut slots {
            if slot.opcode == WIDE_LOAD && slot.src == BPF_PSEUDO_MAP_VALUE {
                slot.imm = map.number();
            }
        }
        Ok(Self { program: load(&slots)?, result: program.result, _map: map })
    }

    /// Runs the program `repeat` times. Gives the result that was expected of it, or the 32 bits
    /// that it gave where those are not of that result.
    ///
    /// # Panics
    /// The kernel refuses the run.
    #[must_use]
    pub fn run(&self, repeat: u32) -> u64 {
        let run = self.program.test_run(&FRAME, &[], repeat);
        let retval = run.expect("the kernel loaded the program, and so runs it");
        if retval == folded(self.result) { self.result } else { retval.into() }
    }
}

/// A program in the kernel that judges packets.
#[derive(Debug)]
pub struct Classifier(LoadedProgram);

impl Classifier {
    /// Loads a program.
    ///
    /// # Errors
    /// As for [`InKernel::new`].
    pub fn new(slots: &[RawInsn]) -> Result<Self, KernelError> {
        require_jit()?;
        load(slots).map(Self)
    }

    /// Runs the program `repeat` times on a packet. Gives what it returned last.
    ///
    /// # Panics
    /// The kernel refuses the run: a packet has at least 14 bytes.
    #[must_use]
    pub fn run(&self, packet: &[u8], repeat: u32) -> u32 {
        let run = self.0.test_run(packet, &[], repeat);
        run.expect("the kernel loaded the program, and so runs it")
    }
}

/// The kernel compiles programs, where it says so.
fn require_jit() -> Result<(), KernelError> {
    let setting = std::fs::read_to_string("/proc/sys/net/core/bpf_jit_enable");
    if setting.is_ok_and(|setting| setting.trim() == "0") {
        return Err(KernelError::NoJit);
    }
    Ok(())
}

fn load(slots: &[RawInsn]) -> Result<LoadedProgram, KernelError> {
    let load = ProgramLoad {
        program_type: ProgramType::SchedCls.number(),
        license: "Dual MIT/GPL",
        slots,
        ..ProgramLoad::default()
    };
    Ok(load.load().map_err(ebpf_runtime::kernel::KernelError::from)?)
}

/// An array whose only value is the block.
fn block_map(block: &[u8]) -> Result<Map, KernelError> {
    assert_eq!(block.len(), BLOCK_BYTES, "programs run on blocks of this size");
    let map = Map::new(&MapSpec {
        map_type: MapType::Array.number(),
        key_size: 4,
        value_size: BLOCK_BYTES as u32,
        max_entries: 1,
        ..MapSpec::default()
    })?;
    map.update(&0_u32.to_ne_bytes(), block)?;
    Ok(map)
}
