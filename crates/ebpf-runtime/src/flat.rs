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

/// Instructions that [`with_entry`] puts in front.
const ENTRY_LOADS: i64 = 2;

/// `program` behind two loads that put a [`FlatContext`] into `r1` and `r2`. Loops back to the
/// first instruction do not run them again.
///
/// # Errors
/// The program would grow beyond what patching allows.
pub fn with_entry(program: &Program) -> Result<Patched, PatchError> {
    let load =
        |dst, off| Insn::Load { size: Size::Dw, extend: Extend::Zero, dst, base: Reg::R1, off };
    let mut patch = Patch::new(program);
    patch.prepend(Pc::ENTRY, [load(Reg::R2, 8), load(Reg::R1, 0)], Landing::Insn)?;
    patch.linearize()
}

/// A block of memory that starts at a multiple of 8, so that whether an atomic access is aligned
/// depends on its offset alone.
#[derive(Debug, Clone)]
pub struct Block {
    room: Vec<u8>,
    start: usize,
    len: usize,
}

impl Block {
    /// A block with these bytes in it.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        let mut room = vec![0; bytes.len() + 8];
        let start = room.as_ptr().align_offset(8);
        room[start..start + bytes.len()].copy_from_slice(bytes);
        Self { room, start, len: bytes.len() }
    }

    /// The bytes.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.room[self.start..self.start + self.len]
    }
}

/// Runs `program` on `block` in the checked interpreter. Gives `r0`.
///
/// # Errors
/// The program needs what the interpreter does not have, or the run ended early; the position of a
/// trap is that of the program as given.
pub fn run(program: &Program, block: &mut Block, env: &mut ExecEnv) -> Result<u64, FlatError> {
    let patched = with_entry(program)?;
    let vm = Vm::new(&patched.program, None, &Links::default())?;
    let memory = block.bytes_mut();
    let len = memory.len() as u64;
    let mut regions = Memory::new();
    let context = FlatContext { memory: regions.add_mut(memory), len }.to_bytes();
    let ctx = regions.add(&context);
    let result = vm.run(ctx, &regions, env);
    // The two loads in front are not the program's.
    let fuel = env.fuel.get_mut();
    *fuel = fuel.saturating_add(ENTRY_LOADS);
    result.map_err(|trap| {
        let pc = patched.map.old(trap.pc).unwrap_or(trap.pc);
        FlatError::Trap(Trap { pc, ..trap })
    })
}
