//! Unverified programs on one block of memory: `r1` is its address, `r2` its length.
//!
//! Such a program runs with each access checked, in the interpreter or compiled: it may touch the
//! block and its stack, nothing else.

use ebpf_interp::{LinkError, Links, Memory, Vm};
use ebpf_isa::abi::{ExecEnv, Trap};
use ebpf_isa::{Extend, Insn, Pc, Program, Reg, Size};
use ebpf_jit_x86::JitError;
use ebpf_pack::{Pack, PackError};
use ebpf_patch::{Landing, Patch, PatchError, Patched};

use crate::checked;

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
    /// The compiler cannot compile the program.
    #[error(transparent)]
    Jit(#[from] JitError),
    /// No executable memory, or a symbol without address: a call of a helper.
    #[error(transparent)]
    Pack(#[from] PackError),
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
    on_block(&patched, block, |ctx, memory| vm.run(ctx, memory, env))
}

/// Runs `program` on `block`, compiled with checked memory and placed in `pack` for the time. Gives
/// `r0`.
///
/// # Errors
/// As for [`run`], with the compiler in the interpreter's place.
#[allow(unsafe_code, reason = "the call of code that checks itself")]
pub fn run_compiled(
    program: &Program,
    block: &mut Block,
    env: &mut ExecEnv,
    pack: &Pack,
) -> Result<u64, FlatError> {
    let patched = with_entry(program)?;
    let options = ebpf_jit_x86::Options::checked();
    let image = ebpf_jit_x86::compile(&patched.program, None, &options)?;
    let placed = pack.place(&image, &|_| None)?;
    on_block(&patched, block, |ctx, memory| {
        // SAFETY: the code was compiled with checked memory, and has no symbols.
        unsafe { checked::run(&placed, ctx, memory, env) }
    })
}

/// Runs a program that [`with_entry`] made on `block`, by `run`: context and memory in, `r0` out.
fn on_block(
    patched: &Patched,
    block: &mut Block,
    run: impl FnOnce(u64, &Memory<'_>) -> Result<u64, Trap>,
) -> Result<u64, FlatError> {
    let bytes = block.bytes_mut();
    let len = bytes.len() as u64;
    let mut memory = Memory::new();
    let context = FlatContext { memory: memory.add_mut(bytes), len }.to_bytes();
    let ctx = memory.add(&context);
    run(ctx, &memory).map_err(|trap| {
        let pc = patched.map.old(trap.pc).unwrap_or(trap.pc);
        FlatError::Trap(Trap { pc, ..trap })
    })
}
