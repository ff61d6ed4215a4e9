//! One way to run a program on each engine.

use ebpf_runtime::flat::{Block, FlatContext, FlatEngine, FlatProgram, with_entry};
use ebpf_runtime::image::Symbol;
use ebpf_runtime::interp::{Links, Vm};
use ebpf_runtime::isa::Program;
use ebpf_runtime::isa::abi::{EntryFn, ExecEnv, Trap};
use ebpf_runtime::jit;
use ebpf_runtime::pack::{Pack, PackOptions};

/// More than any program of these tests needs.
const FUEL: i64 = 1_000_000;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Engine {
    Interp,
    InterpUnchecked,
    Jit,
    JitChecked,
}

impl Engine {
    pub(crate) const ALL: [Self; 4] =
        [Self::Interp, Self::InterpUnchecked, Self::Jit, Self::JitChecked];

    pub(crate) const fn is_checked(self) -> bool {
        matches!(self, Self::Interp | Self::JitChecked)
    }
}

pub(crate) struct Engines {
    pack: Pack,
}

impl Engines {
    pub(crate) fn new() -> Self {
        Self { pack: Pack::new(PackOptions::default()).unwrap() }
    }

    /// Runs `program` on `block`.
    ///
    /// # Safety
    /// If the engine is not a checked one, a checked one runs the program without a trap.
    pub(crate) unsafe fn run(
        &self,
        engine: Engine,
        program: &Program,
        block: &mut Block,
    ) -> Result<u64, Trap> {
        let checked = |engine, block: &mut Block| {
            FlatProgram::new(program, engine, &[]).unwrap().run(block, &mut env())
        };
        match engine {
            Engine::Interp => checked(FlatEngine::Interp, block),
            Engine::JitChecked => checked(FlatEngine::Jit(&self.pack), block),
            Engine::InterpUnchecked => {
                let entry = with_entry(program).unwrap().program;
                let vm = Vm::new(&entry, None, &Links::default()).unwrap();
                let (mut context, mut env) = context_and_env(block);
                // SAFETY: the caller's promise.
                unsafe { vm.run_unchecked((&raw mut context).cast(), &mut env) }
            }
            Engine::Jit => {
                let entry = with_entry(program).unwrap().program;
                let image = jit::compile(&entry, None, &jit::Options::default()).unwrap();
                let placed = self.pack.place(&image, &|_: Symbol| None).unwrap();
                let (mut context, mut env) = context_and_env(block);
                // SAFETY: this is the entry of compiled code, which `placed` keeps.
                let run: EntryFn = unsafe { std::mem::transmute(placed.entry_ptr()) };
                // SAFETY: the caller's promise.
                Ok(unsafe { run((&raw mut context).cast(), &mut env) })
            }
        }
    }
}

fn env() -> ExecEnv {
    let mut env = ExecEnv::new();
    *env.fuel.get_mut() = FUEL;
    env
}

/// The context of a program on `block`, which is also its packet.
pub(crate) fn context_and_env(block: &mut Block) -> (FlatContext, ExecEnv) {
    let bytes = block.bytes_mut();
    let len = bytes.len() as u64;
    let memory = bytes.as_mut_ptr().expose_provenance() as u64;
    (FlatContext { memory, len }, ExecEnv { packet: bytes.as_ptr(), packet_len: len, ..env() })
}
