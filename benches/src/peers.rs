//! The engines of crates.io that ours are compared with: rbpf and solana-sbpf.

#![allow(
    unsafe_code,
    reason = "machine code of another crate is run, and memory is mapped into its machine"
)]

use std::ptr::NonNull;
use std::sync::Arc;

use ebpf_runtime::isa::{AluOp, CallTarget, Insn, Operand, Pc, Program, RawInsn, Reg, Width};
use ebpf_runtime::patch::{Landing, Patch};
use rbpf::EbpfVmRaw;
use solana_sbpf::ebpf::{MM_INPUT_START, MM_STACK_START};
use solana_sbpf::elf::Executable;
use solana_sbpf::memory_region::{MemoryMapping, MemoryRegion};
use solana_sbpf::program::{BuiltinProgram, FunctionRegistry, SBPFVersion};
use solana_sbpf::vm::{CallFrame, Config, ContextObject, EbpfVm, ExecutionMode};

use crate::memory::Memory;
use crate::programs::BLOCK_BYTES;

/// Why a peer does not run a program.
type Error = Box<dyn std::error::Error>;

/// A program as bytes.
///
/// # Errors
/// The program has no encoding.
pub fn bytes(program: &Program) -> Result<Vec<u8>, Error> {
    Ok(program.to_slots()?.into_iter().flat_map(RawInsn::to_bytes).collect())
}

/// A benchmark program for engines that give the address of the memory in `r1` and no length: the
/// length is loaded first.
///
/// # Errors
/// The program cannot be patched.
pub fn with_length(program: &Program) -> Result<Program, Error> {
    let length = Operand::Imm(BLOCK_BYTES as i32);
    let load = Insn::Mov { width: Width::W64, dst: Reg::R2, src: length };
    let mut patch = Patch::new(program);
    patch.prepend(Pc::ENTRY, [load], Landing::Insn)?;
    Ok(patch.linearize()?.program)
}

/// A program for solana-sbpf, in which 32-bit additions, subtractions and multiplications sign-extend
/// their result: a move that zero-extends follows each.
///
/// # Errors
/// The program cannot be patched.
pub fn zero_extended(program: &Program) -> Result<Program, Error> {
    let mut patch = Patch::new(program);
    for (pc, insn) in program.insns() {
        if let Insn::Alu {
            op: AluOp::Add | AluOp::Sub | AluOp::Mul, width: Width::W32, dst, ..
        } = insn
        {
            patch.append(pc, [Insn::Mov { width: Width::W32, dst, src: Operand::Reg(dst) }])?;
        }
    }
    Ok(patch.linearize()?.program)
}

/// A program with plain stores for its atomic operations, which the peers do not have: something
/// else of the same length, to be compiled and not run.
///
/// # Errors
/// The program cannot be patched.
pub fn without_atomics(program: &Program) -> Result<Program, Error> {
    let mut patch = Patch::new(program);
    for (pc, insn) in program.insns() {
        if let Insn::Atomic { size, base, off, src, .. } = insn {
            patch.replace(pc, [Insn::Store { size, base, off, src: Operand::Reg(src) }])?;
        }
    }
    Ok(patch.linearize()?.program)
}

/// A program in rbpf, on its block.
pub struct Rbpf<'a> {
    vm: EbpfVmRaw<'a>,
    block: Vec<u8>,
}

impl<'a> Rbpf<'a> {
    /// Takes a program as [`with_length`] made it, for the interpreter.
    ///
    /// # Errors
    /// rbpf refuses it.
    pub fn new(program: &'a [u8], block: &[u8]) -> Result<Self, Error> {
        Ok(Self { vm: EbpfVmRaw::new(Some(program))?, block: block.to_vec() })
    }

    /// The same for machine code.
    ///
    /// # Errors
    /// rbpf refuses it.
    pub fn compiled(program: &'a [u8], block: &[u8]) -> Result<Self, Error> {
        let mut this = Self::new(program, block)?;
        this.vm.jit_compile()?;
        Ok(this)
    }

    /// Interprets the program.
    ///
    /// # Panics
    /// It fails.
    pub fn interpret(&mut self) -> u64 {
        let vm: &EbpfVmRaw<'_> = &self.vm;
        vm.execute_program(&mut self.block).expect("the benchmark programs do not trap")
    }

    /// Runs machine code.
    ///
    /// # Panics
    /// There is none.
    pub fn run_compiled(&mut self) -> u64 {
        let vm: &EbpfVmRaw<'_> = &self.vm;
        // SAFETY: the program is one that our checked interpreter ran on such a block (`Trusted`).
        let result = unsafe { vm.execute_program_jit(&mut self.block) };
        result.expect("the program was compiled")
    }
}

/// A program in solana-sbpf, on its block, in the crate's default configuration: with address
/// translation, metering, and its compiler's hardening.
pub struct Sbpf {
    executable: Executable<Machine>,
    machine: Machine,
    frames: Vec<CallFrame>,
    /// What the mapping of `machine` refers to.
    _stack: Vec<u8>,
    _block: Memory,
}

/// The host's side of a machine of solana-sbpf.
pub struct Machine {
    remaining: u64,
    mapping: MemoryMapping,
}

impl ContextObject for Machine {
    fn consume(&mut self, amount: u64) {
        self.remaining = self.remaining.saturating_sub(amount);
    }

    fn get_remaining(&self) -> u64 {
        self.remaining
    }

    fn active_mapping_ptr(&mut self) -> NonNull<MemoryMapping> {
        NonNull::from(&mut self.mapping)
    }
}

/// The version of the instruction set that knows 32-bit jumps.
const VERSION: SBPFVersion = SBPFVersion::V3;

/// A program as solana-sbpf takes it.
///
/// # Errors
/// solana-sbpf refuses it.
pub fn sbpf_executable(program: &[u8]) -> Result<Executable<Machine>, Error> {
    let loader = Arc::new(BuiltinProgram::new_loader(Config::default()));
    let functions = FunctionRegistry::default();
    Executable::from_text_bytes(program, loader, VERSION, functions)
        .map_err(|error| error.to_string().into())
}

impl Sbpf {
    /// Takes a program as [`with_length`] and [`zero_extended`] made it.
    ///
    /// # Errors
    /// solana-sbpf refuses it.
    pub fn new(program: &[u8], block: &[u8]) -> Result<Self, Error> {
        let executable = sbpf_executable(program)?;
        let config = executable.get_config();
        let mut stack = vec![0_u8; config.stack_size()];
        let mut block = Memory::new(block);
        let bytes = std::ptr::slice_from_raw_parts_mut(block.as_mut_ptr(), BLOCK_BYTES);
        let regions = vec![
            executable.get_ro_region(),
            MemoryRegion::new(&raw mut stack[..], MM_STACK_START),
            MemoryRegion::new(bytes, MM_INPUT_START),
        ];
        // SAFETY: stack and block live in the same value as the mapping, on the heap, untouched by
        // anybody else.
        let mapping = unsafe { MemoryMapping::new(regions, config, VERSION) };
        let mapping = mapping.map_err(|error| error.to_string())?;
        let frames = vec![CallFrame::default(); config.max_call_depth];
        let machine = Machine { remaining: 0, mapping };
        Ok(Self { executable, machine, frames, _stack: stack, _block: block })
    }

    /// The same for machine code.
    ///
    /// # Errors
    /// solana-sbpf refuses it.
    pub fn compiled(program: &[u8], block: &[u8]) -> Result<Self, Error> {
        let this = Self::new(program, block)?;
        this.executable.jit_compile().map_err(|error| error.to_string())?;
        Ok(this)
    }

    /// Interprets the program.
    ///
    /// # Panics
    /// It fails.
    pub fn interpret(&mut self) -> u64 {
        self.run(ExecutionMode::Interpreted)
    }

    /// Runs machine code.
    ///
    /// # Panics
    /// It fails, or there is none.
    pub fn run_compiled(&mut self) -> u64 {
        self.run(ExecutionMode::Jit)
    }

    fn run(&mut self, mut mode: ExecutionMode) -> u64 {
        self.machine.remaining = i64::MAX as u64;
        let loader = self.executable.get_loader().clone();
        let stack = self.executable.get_config().stack_size();
        let mut vm = EbpfVm::new(loader, VERSION, &mut self.machine, stack);
        vm.registers[1] = MM_INPUT_START;
        let (_, result) = vm.execute_program(&self.executable, &mut mode, &mut self.frames);
        Result::from(result).expect("the benchmark programs do not trap")
    }
}

/// A program in rbpf that is compiled, and never run: every helper does nothing.
///
/// # Errors
/// rbpf refuses it.
pub fn rbpf_for_compiling<'a>(program: &Program, bytes: &'a [u8]) -> Result<EbpfVmRaw<'a>, Error> {
    let mut vm = EbpfVmRaw::new(Some(bytes))?;
    for (_, insn) in program.insns() {
        if let Insn::Call(CallTarget::Helper(id)) = insn {
            vm.register_helper(id.0, |_, _, _, _, _| 0)?;
        }
    }
    Ok(vm)
}
