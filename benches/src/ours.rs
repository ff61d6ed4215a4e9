//! Our engines without checks, as `ebpf-runtime` uses them for verified programs.

#![allow(unsafe_code, reason = "programs run unchecked")]

use ebpf_runtime::flat::{Block, FlatContext, FlatEngine, FlatError, FlatProgram, with_entry};
use ebpf_runtime::interp::{Dispatcher, Helpers, Links, Memory as Regions, Options, Vm};
use ebpf_runtime::isa::abi::{EntryFn, ExecEnv};
use ebpf_runtime::isa::{
    AluOp, CallTarget, Facts, Insn, Operand, Program, Reg, SubprogFacts, SubprogIdx,
};
use ebpf_runtime::jit;
use ebpf_runtime::pack::{Pack, Placed};

use crate::memory::Memory;
use crate::programs::{BLOCK_BYTES, BenchProgram};

/// Why one of our engines does not run a program.
type Error = Box<dyn std::error::Error>;

/// A program that ran with all its accesses checked on the block that it is to run on. Programs
/// here depend on nothing else, and leave the block such that the next run is the same; so each
/// later run does the same accesses, and needs no checks.
#[derive(Debug)]
pub struct Trusted {
    /// The program behind the loads that take its context apart.
    program: Program,
    facts: Facts,
    block: Vec<u8>,
}

impl Trusted {
    /// Runs a program checked, on stack frames as small as the engines will make them.
    ///
    /// # Errors
    /// It traps, or comes to another result than is known.
    pub fn new(bench: &BenchProgram) -> Result<Self, Error> {
        let block = bench.block();
        let program = with_entry(&bench.flat()?)?.program;
        let facts = stack_facts(&program);
        let vm = Vm::new(&program, Some(&facts), &Links::default())?;
        let mut bytes = Block::new(&block);
        for _ in 0..2 {
            let mut regions = Regions::new();
            let memory = regions.add_mut(bytes.bytes_mut());
            let context = FlatContext { memory, len: BLOCK_BYTES as u64 }.to_bytes();
            let context = regions.add(&context);
            let result = vm.run(context, &regions, &mut ExecEnv::new());
            let result = result.map_err(|trap| format!("{}: {trap:?}", bench.name))?;
            if result != bench.result {
                return Err(format!("{} gives {result:#x}", bench.name).into());
            }
        }
        Ok(Self { program, facts, block })
    }

    /// In the interpreter.
    ///
    /// # Errors
    /// The interpreter does not take it.
    pub fn interpreted(&self, options: &Options) -> Result<Interpreted, Error> {
        let links = Links::default();
        let vm = Vm::with_options(&self.program, Some(&self.facts), &links, options)?;
        Ok(Interpreted { vm, run: Run::new(&self.block) })
    }

    /// Compiled.
    ///
    /// # Errors
    /// The compiler does not take it, or there is no place for the code.
    pub fn compiled(&self, options: &jit::Options, pack: &Pack) -> Result<Compiled, Error> {
        let image = jit::compile(&self.program, Some(&self.facts), options)?;
        Ok(Compiled { placed: pack.place(&image, &|_| None)?, run: Run::new(&self.block) })
    }
}

/// What a run needs besides the program.
#[derive(Debug)]
struct Run {
    memory: Memory,
    env: ExecEnv,
}

impl Run {
    fn new(block: &[u8]) -> Self {
        Self { memory: Memory::new(block), env: ExecEnv::new() }
    }

    fn start(&mut self) -> FlatContext {
        self.env.start_run();
        let memory = self.memory.as_mut_ptr().expose_provenance() as u64;
        FlatContext { memory, len: BLOCK_BYTES as u64 }
    }
}

/// A trusted program in the unchecked interpreter.
#[derive(Debug)]
pub struct Interpreted {
    vm: Vm,
    run: Run,
}

impl Interpreted {
    /// What dispatches its operations.
    #[must_use]
    pub fn dispatcher(&self) -> Dispatcher {
        self.vm.dispatcher()
    }

    /// Runs it.
    ///
    /// # Panics
    /// It traps, which it did not when it was checked.
    pub fn run(&mut self) -> u64 {
        let mut context = self.run.start();
        let context = (&raw mut context).cast();
        // SAFETY: the program did these very accesses under checks, on frames of this size
        // (`Trusted`).
        let result = unsafe { self.vm.run_unchecked(context, &mut self.run.env) };
        result.expect("the program ran without a trap before")
    }
}

/// A trusted program as machine code.
#[derive(Debug)]
pub struct Compiled {
    placed: Placed,
    run: Run,
}

impl Compiled {
    /// Runs it.
    pub fn run(&mut self) -> u64 {
        let mut context = self.run.start();
        let context = (&raw mut context).expose_provenance();
        // SAFETY: the entry is compiled code with this signature, which `placed` keeps in memory.
        let entry: EntryFn = unsafe { std::mem::transmute(self.placed.entry_ptr()) };
        // SAFETY: as for the interpreter.
        unsafe { entry(std::ptr::with_exposed_provenance_mut(context), &mut self.run.env) }
    }
}

/// Any program on a block with checked accesses: our safe interface.
#[derive(Debug)]
pub struct Checked {
    program: FlatProgram,
    block: Block,
    env: ExecEnv,
}

impl Checked {
    /// Makes a program ready to run.
    ///
    /// # Errors
    /// The engine does not take it.
    pub fn new(program: &Program, block: &[u8], engine: FlatEngine<'_>) -> Result<Self, FlatError> {
        let program = FlatProgram::new(program, engine, &[])?;
        Ok(Self { program, block: Block::new(block), env: ExecEnv::new() })
    }

    /// Runs it.
    ///
    /// # Panics
    /// It traps.
    pub fn run(&mut self) -> u64 {
        *self.env.fuel.get_mut() = i64::MAX;
        let result = self.program.run(&mut self.block, &mut self.env);
        result.expect("the benchmark programs do not trap")
    }
}

/// How much stack each function uses. A verifier would know; here it is the lowest address that is
/// ever named relative to the frame pointer, which for what clang compiles is the frame.
fn stack_facts(program: &Program) -> Facts {
    let mut depths = vec![0_i32; program.subprogs().len()];
    let mut previous = None;
    for (pc, insn) in program.insns() {
        let named = match insn {
            Insn::Load { base: Reg::R10, off, .. }
            | Insn::Store { base: Reg::R10, off, .. }
            | Insn::Atomic { base: Reg::R10, off, .. } => i32::from(off),
            Insn::Alu { op: AluOp::Add, dst, src: Operand::Imm(imm), .. }
                if matches!(
                    previous,
                    Some(Insn::Mov { dst: copy, src: Operand::Reg(Reg::R10), .. }) if copy == dst
                ) =>
            {
                imm
            }
            _ => 0,
        };
        let SubprogIdx(index) = program.subprog_of(pc);
        let depth = &mut depths[index as usize];
        *depth = (*depth).max(-named);
        previous = Some(insn);
    }
    let facts = |depth: i32| SubprogFacts { stack_depth: depth.clamp(0, 512) as u16 };
    Facts { subprogs: depths.into_iter().map(facts).collect() }
}

/// Links for a program that is made ready, and never run: every helper does nothing, every map is at
/// address 0.
#[must_use]
pub fn links_for_lowering(program: &Program) -> Links {
    unsafe extern "sysv64" fn nothing(
        _: u64,
        _: u64,
        _: u64,
        _: u64,
        _: u64,
        _: *mut ExecEnv,
    ) -> u64 {
        0
    }
    let mut helpers = Helpers::new();
    let mut maps = 0;
    for (_, insn) in program.insns() {
        match insn {
            // SAFETY: the function is sound for all arguments.
            Insn::Call(CallTarget::Helper(id)) => unsafe { helpers.register(id, nothing) },
            Insn::LoadWide { .. } => maps = maps.max(256),
            _ => {}
        }
    }
    Links { helpers, maps: vec![0; maps], map_values: vec![Some(0); maps], ..Links::default() }
}
