//! Programs that may do anything, on every engine and made ready in every way, against the plain
//! machine, which shares nothing with them: `r0` or the trap, the memory, the fuel.
//!
//! `PROPTEST_CASES` is for longer runs.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::sync::atomic::AtomicI64;

use ebpf_runtime::flat::{Block, FlatContext, FlatEngine, FlatProgram, with_entry};
use ebpf_runtime::image::Symbol;
use ebpf_runtime::interp::{Dispatcher, Links, Memory, Options, Vm};
use ebpf_runtime::isa::Program;
use ebpf_runtime::isa::abi::{EntryFn, ExecEnv, Trap, TrapKind};
use ebpf_runtime::jit;
use ebpf_runtime::pack::{Pack, PackOptions};
use ebpf_testkit::{BLOCK_BYTES, Machine, Ran, Rng, same_end, wild_program};
use proptest::prelude::*;

/// Fuel where nothing is said about it, so that endless programs end soon.
const FUEL: u64 = 2_000;

/// What can be seen of a run; fuel where the engine charges it.
struct Seen {
    end: Result<u64, Trap>,
    memory: Vec<u8>,
    executed: Option<u64>,
}

/// A case: a program and what it finds.
struct Case {
    program: Program,
    block: Block,
    before: Vec<u8>,
    fuel: u64,
}

impl Case {
    fn new(seed: u64, statements: u64, fuel: u64) -> Self {
        let mut rng = Rng::seed(seed);
        let before = rng.bytes(BLOCK_BYTES);
        let program = wild_program(&mut rng, statements);
        Self { program, block: Block::new(&before), before, fuel }
    }

    /// What the machine says.
    fn expected(&mut self) -> Ran {
        let address = self.block.bytes_mut().as_mut_ptr() as u64;
        Machine::new(&self.program, &self.before).with_block_at(address).with_fuel(self.fuel).run()
    }

    /// The environment of a run on the block as it was.
    fn start(&mut self) -> ExecEnv {
        let bytes = self.block.bytes_mut();
        bytes.copy_from_slice(&self.before);
        let (packet, packet_len) = (bytes.as_ptr(), bytes.len() as u64);
        ExecEnv { fuel: AtomicI64::new(self.fuel as i64), packet, packet_len, ..ExecEnv::new() }
    }

    fn seen(&mut self, end: Result<u64, Trap>, env: ExecEnv, is_metered: bool) -> Seen {
        let executed = (self.fuel as i64 - env.fuel.into_inner()) as u64;
        assert!(is_metered || executed == 0, "charged without being asked to");
        let memory = self.block.bytes_mut().to_vec();
        Seen { end, memory, executed: is_metered.then_some(executed) }
    }

    fn checked(&mut self, vm: &Vm, is_metered: bool) -> Seen {
        let mut env = self.start();
        let mut memory = Memory::new();
        let ctx = memory.add_mut(self.block.bytes_mut());
        env.packet = std::ptr::with_exposed_provenance(ctx as usize);
        let end = vm.run(ctx, &memory, &mut env);
        self.seen(end, env, is_metered)
    }

    /// # Safety
    /// The program ends without trap but for fuel, which is charged if it needs that, and does not
    /// stray.
    unsafe fn unchecked(&mut self, vm: &Vm, is_metered: bool) -> Seen {
        let mut env = self.start();
        let ctx = self.block.bytes_mut().as_mut_ptr();
        // SAFETY: the machine did these very accesses in the block and in frames of full size.
        let end = unsafe { vm.run_unchecked(ctx, &mut env) };
        self.seen(end, env, is_metered)
    }

    fn compiled_checked(&mut self, pack: &Pack) -> Seen {
        let program = FlatProgram::new(&self.program, FlatEngine::Jit(pack), &[]).unwrap();
        let mut env = self.start();
        // Two loads in front of the program are charged, and given back where it ends.
        *env.fuel.get_mut() += 2;
        let end = program.run(&mut self.block, &mut env);
        *env.fuel.get_mut() -= 2;
        self.seen(end, env, true)
    }

    /// # Safety
    /// The program ends without trap and does not stray.
    unsafe fn compiled(&mut self, pack: &Pack) -> Seen {
        let entry = with_entry(&self.program).unwrap().program;
        let image = jit::compile(&entry, None, &jit::Options::default()).unwrap();
        let placed = pack.place(&image, &|_: Symbol| None).unwrap();
        let mut env = self.start();
        let bytes = self.block.bytes_mut();
        let len = bytes.len() as u64;
        let memory = bytes.as_mut_ptr().expose_provenance() as u64;
        let mut context = FlatContext { memory, len };
        // SAFETY: this is the entry of compiled code, which `placed` keeps.
        let run: EntryFn = unsafe { std::mem::transmute(placed.entry_ptr()) };
        // SAFETY: the machine did these very accesses.
        let r0 = unsafe { run((&raw mut context).cast(), &mut env) };
        Seen { end: Ok(r0), memory: self.block.bytes_mut().to_vec(), executed: None }
    }
}

/// The interpreter in every form, by name.
fn vms(program: &Program) -> Vec<(String, bool, Vm)> {
    let mut vms = Vec::new();
    for dispatcher in [Dispatcher::Loop, Dispatcher::Threaded] {
        for (fuse, fuel) in [(true, true), (true, false), (false, true), (false, false)] {
            let mut options = Options::default();
            (options.dispatcher, options.fuse, options.fuel) = (Some(dispatcher), fuse, fuel);
            let vm = Vm::with_options(program, None, &Links::default(), &options).unwrap();
            if vm.dispatcher() == dispatcher {
                vms.push((format!("{dispatcher:?}, fuse {fuse}, fuel {fuel}"), fuel, vm));
            }
        }
    }
    vms
}

/// How the cases ended, and on how many engines they ran.
type Tally = HashMap<String, u64>;

/// Runs a case on all engines that it may run on; says what is wrong.
fn check(case: &mut Case, pack: &Pack, tally: &mut Tally) -> Result<(), String> {
    let wanted = case.expected();
    let out_of_fuel = matches!(wanted.end, Err(Trap { kind: TrapKind::OutOfFuel, .. }));
    // Between two points at which fuel is looked at, no instruction is run twice: nothing hangs.
    if out_of_fuel && wanted.executed > case.fuel + case.program.len() as u64 {
        return Err(format!("{} executed of {}", wanted.executed, case.fuel));
    }
    let is_tame = (wanted.end.is_ok() || out_of_fuel) && !wanted.strayed;
    let mut seen = Vec::new();
    for (name, is_metered, vm) in vms(&case.program) {
        if out_of_fuel && !is_metered {
            continue;
        }
        seen.push((format!("checked, {name}"), case.checked(&vm, is_metered)));
        if is_tame {
            // SAFETY: it was looked at just now.
            seen.push((name, unsafe { case.unchecked(&vm, is_metered) }));
        }
    }
    seen.push(("jit, checked".into(), case.compiled_checked(pack)));
    if is_tame && !out_of_fuel {
        // SAFETY: as for the interpreter.
        seen.push(("jit".into(), unsafe { case.compiled(pack) }));
    }
    let end = wanted.end.map_or_else(|trap| format!("{:?}", trap.kind), |_| "value".into());
    *tally.entry(end).or_default() += 1;
    *tally.entry("runs".into()).or_default() += seen.len() as u64;
    for (name, Seen { end, memory, executed }) in seen {
        let fuel_is_right = executed.is_none_or(|executed| executed == wanted.executed);
        if !same_end(end, wanted.end) || memory != wanted.memory || !fuel_is_right {
            return Err(format!(
                "{name}: {end:x?}, {executed:?} executed, {memory:02x?}\nnot {wanted:x?}\nin\n{}",
                case.program.listing()
            ));
        }
    }
    Ok(())
}

fn pack() -> Pack {
    Pack::new(PackOptions::default()).unwrap()
}

proptest! {
    #[test]
    fn all_engines_do_what_the_machine_does(
        seed: u64,
        statements in 0_u64..40,
        fuel in prop_oneof![Just(FUEL), 0..300_u64],
    ) {
        // Few pages are enough: nothing stays.
        thread_local!(static PACK: Pack = pack());
        let mut case = Case::new(seed, statements, fuel);
        let checked = PACK.with(|pack| check(&mut case, pack, &mut Tally::new()));
        prop_assert!(checked.is_ok(), "{}", checked.unwrap_err());
    }
}

/// The programs are worth something: they end in each of the ways that there are.
#[test]
fn wild_programs_end_in_every_way() {
    let (pack, mut tally) = (pack(), Tally::new());
    for seed in 0..1_000 {
        let mut case = Case::new(seed, seed % 40, if seed % 4 == 0 { seed % 300 } else { FUEL });
        check(&mut case, &pack, &mut tally).unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
    }
    println!("{tally:?}");
    for (end, least) in [
        ("value", 200),
        ("OutOfBounds", 100),
        ("OutOfFuel", 50),
        ("CallDepth", 10),
        ("Misaligned", 5),
    ] {
        assert!(tally.get(end).is_some_and(|&cases| cases >= least), "{end}: {tally:?}");
    }
}
