//! Unverified programs on one block of memory: `r1` is its address, `r2` its length.
//!
//! Such a program runs in the interpreter, which checks each access: it may touch the block and
//! its stack, nothing else.

use ebpf_interp::{LinkError, Links, Memory, Vm};
use ebpf_isa::abi::{ExecEnv, Trap};
use ebpf_isa::{Extend, Insn, Pc, Program, Reg, Size};
use ebpf_patch::{Landing, Patch, PatchError, Patched};

/// Why a program cannot be run on flat memory, or ended early.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FlatError {
    /// The two loads that set up the registers do not fit into the program.
    #[error(transparent)]
    Patch(#[from] PatchError),
    /// The interpreter cannot run the program.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The run ended early.
    #[error(transparent)]
    Trap(#[from] Trap),
}

/// The context of such a program, before its first two instructions take it apart.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct FlatContext {
    /// Address of the block.
    pub memory: u64,
    /// Its length in bytes.
    pub len: u64,
}

impl FlatContext {
    /// As the bytes that the program reads.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.memory.to_ne_bytes());
        bytes[8..].copy_from_slice(&self.len.to_ne_bytes());
        bytes
    }
}

/// `program` behind two loads that put a [`FlatContext`] into `r1` and `r2`. Loops back to the
/// first instruction do not run them again.
///
/// # Errors
/// The program would grow beyond what patching allows.
pub fn with_entry(program: &Program) -> Result<Patched, PatchError> {
    let load =
        |dst, off| Insn::Load { size: Size::Dw, extend: Extend::Zero, dst, base: Reg::R1, off };
    let mut patch = Patch::new(program);
    patch.prepend(Pc::ENTRY, [load(Reg::R2, 8), load(Reg::R1, 0)], Landing::Past)?;
    patch.linearize()
}

/// Runs `program` on `memory` in the checked interpreter. Gives `r0`.
///
/// # Errors
/// The program needs what the interpreter does not have, or the run ended early; the position of a
/// trap is that of the program as given.
pub fn run(program: &Program, memory: &mut [u8], env: &mut ExecEnv) -> Result<u64, FlatError> {
    let patched = with_entry(program)?;
    let vm = Vm::new(&patched.program, None, &Links::default())?;
    let len = memory.len() as u64;
    let mut regions = Memory::new();
    let context = FlatContext { memory: regions.add_mut(memory), len }.to_bytes();
    let ctx = regions.add(&context);
    vm.run(ctx, &regions, env).map_err(|trap| {
        let pc = patched.map.old(trap.pc).unwrap_or(trap.pc);
        FlatError::Trap(Trap { pc, ..trap })
    })
}
