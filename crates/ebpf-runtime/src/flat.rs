//! Unverified programs on one block of memory: `r1` is its address, `r2` its length.
//!
//! Such a program runs with each access checked, in the interpreter or compiled: it may touch the
//! block and its stack, nothing else.

#![allow(unsafe_code, reason = "helpers that are sound for all arguments are declared and called")]

use ebpf_image::Symbol;
use ebpf_interp::{Helpers, LinkError, Links, Memory, Options, Runs, Vm};
use ebpf_isa::abi::{ExecEnv, HelperFn, Trap};
use ebpf_isa::uapi::HelperId;
use ebpf_isa::{CallTarget, Extend, Insn, Pc, Program, Reg, Size};
use ebpf_jit_x86::{self as jit, JitError, MemoryMode};
use ebpf_pack::{Pack, PackError, Placed};
use ebpf_patch::{Landing, Patch, PatchError, Patched, PcMap};

use crate::{checked, helpers};

/// Why a program cannot be run on flat memory.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FlatError {
    /// The two loads that set up the registers do not fit into the program.
    #[error(transparent)]
    Patch(#[from] PatchError),
    /// A call of a helper that was not given.
    #[error("insn {pc}: there is no helper {id}")]
    NoHelper {
        /// The call.
        pc: Pc,
        /// The helper.
        id: HelperId,
    },
    /// The interpreter cannot run the program.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The compiler cannot compile the program.
    #[error(transparent)]
    Jit(#[from] JitError),
    /// No executable memory.
    #[error(transparent)]
    Pack(#[from] PackError),
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

/// A native function that any program may call: it is sound for every value of its arguments.
#[derive(Debug, Clone, Copy)]
pub struct FlatHelper {
    id: HelperId,
    function: HelperFn,
    /// Whether it may end the program, by setting [`ExecEnv::ended`].
    may_end: bool,
}

/// Helper 5 of the public conformance suite, `unwind`: gives its first argument, and ends the program
/// with it where it is 0.
pub const UNWIND: FlatHelper =
    FlatHelper { id: HelperId(5), function: helpers::unwind, may_end: true };

/// `u32 bpf_get_prandom_u32(void)`
pub const GET_PRANDOM_U32: FlatHelper = FlatHelper {
    id: HelperId::GET_PRANDOM_U32,
    function: helpers::get_prandom_u32,
    may_end: false,
};

/// `u32 bpf_get_smp_processor_id(void)`: [`ExecEnv::cpu_slot`].
pub const GET_SMP_PROCESSOR_ID: FlatHelper = FlatHelper {
    id: HelperId::GET_SMP_PROCESSOR_ID,
    function: helpers::get_smp_processor_id,
    may_end: false,
};

/// What runs an unverified program.
#[derive(Debug, Clone, Copy)]
pub enum FlatEngine<'a> {
    /// The checked interpreter.
    Interp,
    /// Machine code with checked memory, placed in this pack.
    Jit(&'a Pack),
}

/// An unverified program, ready to run any number of times.
#[derive(Debug)]
pub struct FlatProgram {
    code: Code,
    /// From the program as given to the one with its entry loads.
    map: PcMap,
    /// Whether runs charge fuel.
    fuel: bool,
}

#[derive(Debug)]
enum Code {
    Interp(Box<Vm>),
    Jit(Placed),
}

impl FlatProgram {
    /// Makes `program` ready to run on `engine`, with these helpers and no others.
    ///
    /// # Errors
    /// The program needs what the engine does not have: [`FlatError`].
    pub fn new(
        program: &Program,
        engine: FlatEngine<'_>,
        helpers: &[FlatHelper],
    ) -> Result<Self, FlatError> {
        check_helpers(program, helpers)?;
        let Patched { program, map, .. } = with_entry(program)?;
        let code = match engine {
            FlatEngine::Interp => Code::Interp(Box::new(link(&program, helpers)?)),
            FlatEngine::Jit(pack) => {
                Code::Jit(compile(&program, helpers, pack, &jit::Options::checked())?)
            }
        };
        Ok(Self { code, map, fuel: true })
    }

    /// As [`FlatProgram::new`], compiled with these options into `pack`. Memory is checked whatever
    /// they say; without fuel a program may run for ever.
    ///
    /// # Errors
    /// The program needs what the compiler does not have: [`FlatError`].
    pub fn compiled(
        program: &Program,
        pack: &Pack,
        helpers: &[FlatHelper],
        options: &jit::Options,
    ) -> Result<Self, FlatError> {
        check_helpers(program, helpers)?;
        let Patched { program, map, .. } = with_entry(program)?;
        let code = Code::Jit(compile(&program, helpers, pack, options)?);
        Ok(Self { code, map, fuel: options.fuel })
    }

    /// Runs the program on `block`, which is also the packet that packet loads read. Gives `r0`.
    ///
    /// # Errors
    /// The trap that ended the run, at its position in the program as given.
    pub fn run(&self, block: &mut Block, env: &mut ExecEnv) -> Result<u64, Trap> {
        let bytes = block.bytes_mut();
        let len = bytes.len() as u64;
        let mut memory = Memory::new();
        let address = memory.add_mut(bytes);
        env.packet = std::ptr::with_exposed_provenance(address as usize);
        env.packet_len = len;
        self.run_in(memory, FlatContext { memory: address, len }, env)
    }

    /// Runs the program on bytes that it may only read, with packet loads that read `packet`. Gives
    /// `r0`.
    ///
    /// # Errors
    /// As for [`FlatProgram::run`].
    pub fn run_on(&self, bytes: &[u8], packet: &[u8], env: &mut ExecEnv) -> Result<u64, Trap> {
        let mut memory = Memory::new();
        let start = memory.add(packet);
        let address = if std::ptr::eq(bytes, packet) { start } else { memory.add(bytes) };
        env.packet = packet.as_ptr();
        env.packet_len = packet.len() as u64;
        self.run_in(memory, FlatContext { memory: address, len: bytes.len() as u64 }, env)
    }

    /// Runs the program in `memory`, on the packet of the environment, which forgets it then.
    fn run_in(
        &self,
        memory: Memory<'_>,
        context: FlatContext,
        env: &mut ExecEnv,
    ) -> Result<u64, Trap> {
        let context = context.to_bytes();
        // Lives no longer than what it is given here.
        let mut memory = memory;
        let ctx = memory.add(&context);
        env.start_run();
        let result = match &self.code {
            Code::Interp(vm) => vm.run(ctx, &memory, env),
            // SAFETY: the code was compiled with checked memory, and its symbols are helpers that
            // are sound for all arguments.
            Code::Jit(placed) => unsafe { checked::run(placed, ctx, &memory, env) },
        };
        env.packet = std::ptr::null();
        env.packet_len = 0;
        if self.fuel {
            // The two loads in front are not the program's.
            let fuel = env.fuel.get_mut();
            *fuel = fuel.saturating_add(ENTRY_LOADS);
        }
        result.map_err(|trap| Trap { pc: self.map.old(trap.pc).unwrap_or(trap.pc), ..trap })
    }
}

fn check_helpers(program: &Program, helpers: &[FlatHelper]) -> Result<(), FlatError> {
    for (pc, insn) in program.insns() {
        if let Insn::Call(CallTarget::Helper(id)) = insn
            && helpers.iter().all(|helper| helper.id != id)
        {
            return Err(FlatError::NoHelper { pc, id });
        }
    }
    Ok(())
}

fn link(program: &Program, helpers: &[FlatHelper]) -> Result<Vm, LinkError> {
    let mut natives = Helpers::new();
    for &FlatHelper { id, function, may_end } in helpers {
        // SAFETY: flat helpers are sound for all arguments.
        unsafe {
            if may_end {
                natives.register_ending(id, function);
            } else {
                natives.register(id, function);
            }
        }
    }
    let links = Links { helpers: natives, ..Links::default() };
    let mut options = Options::default();
    options.runs = Runs::Checked;
    Vm::with_options(program, None, &links, &options)
}

fn compile(
    program: &Program,
    helpers: &[FlatHelper],
    pack: &Pack,
    options: &jit::Options,
) -> Result<Placed, FlatError> {
    let ending = helpers.iter().filter(|helper| helper.may_end).map(|helper| helper.id);
    let options = options.clone().with_memory(MemoryMode::Checked).with_ending_helpers(ending);
    let image = jit::compile(program, None, &options)?;
    let resolve = |symbol| {
        let Symbol::Helper(number) = symbol else { return None };
        let helper = helpers.iter().find(|helper| helper.id == HelperId(number))?;
        Some(helper.function as usize as u64)
    };
    Ok(pack.place(&image, &resolve)?)
}
