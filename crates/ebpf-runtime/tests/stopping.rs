//! Compiled runs that another thread stops, or whose fuel is taken away: they end within an
//! allowance, whatever they were compiled with, and what they used is counted all the same.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use ebpf_runtime::flat::{Block, FlatEngine, FlatProgram};
use ebpf_runtime::image::Symbol;
use ebpf_runtime::interp::{Links, Memory, Vm};
use ebpf_runtime::isa::Program;
use ebpf_runtime::isa::abi::{EntryFn, ExecEnv, HelperFn, MAX_ALLOWANCE, Stopper, Trap, TrapKind};
use ebpf_runtime::isa::text::assemble;
use ebpf_runtime::jit::{self, MemoryMode, Options};
use ebpf_runtime::pack::{Pack, PackOptions, Placed};

/// With fuel, and each combination of the other options.
fn fuelled() -> Vec<Options> {
    let mut all = vec![Options::default().with_fuel(true)];
    for switch in [
        |options: Options| options.with_memory(MemoryMode::Checked),
        |options: Options| options.with_frame_pointers(true),
        |options: Options| options.with_blinding([3, 4]),
    ] {
        let switched: Vec<_> = all.iter().cloned().map(switch).collect();
        all.extend(switched);
    }
    all
}

fn place(program: &Program, pack: &Pack, options: &Options) -> Placed {
    let image = jit::compile(program, None, options).unwrap();
    let resolve =
        |symbol| (symbol == Symbol::Helper(1)).then_some(on_call as HelperFn as usize as u64);
    pack.place(&image, &resolve).unwrap()
}

/// Runs code that touches no memory.
fn run(placed: &Placed, env: &mut ExecEnv) -> Option<Trap> {
    env.start_run();
    // SAFETY: this is the entry of compiled code, which `placed` keeps.
    let entry: EntryFn = unsafe { std::mem::transmute(placed.entry_ptr()) };
    // SAFETY: the programs here touch no memory; `on_call` finds what it asks for.
    unsafe { entry(std::ptr::null_mut(), env) };
    env.trap.trap()
}

fn env(fuel: i64) -> ExecEnv {
    ExecEnv { fuel: AtomicI64::new(fuel), ..ExecEnv::new() }
}

/// Loops that never end: by a jump, a conditional one, and calls.
const ENDLESS: [&str; 3] = [
    "goto -1",
    "r1 = 0\nloop:\nr1 += 2\nif r1 != 1 goto loop\nr0 = 0\nexit",
    "loop:\ncall sub\ngoto loop\nsub:\nr0 = 1\nif r0 == 2 goto sub\nexit",
];

#[test]
fn another_thread_stops_a_run_that_would_not_end() {
    let pack = Pack::new(PackOptions::default()).unwrap();
    for text in ENDLESS {
        let program = assemble(text).unwrap();
        for options in fuelled() {
            let placed = place(&program, &pack, &options);
            let mut env = ExecEnv::new();
            let stopper = env.stopper();
            let trap = std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(2));
                    stopper.stop();
                });
                run(&placed, &mut env)
            });
            assert_eq!(trap.unwrap().kind, TrapKind::OutOfFuel, "{options:?}");
            assert!(*env.fuel.get_mut() < i64::MAX, "what ran is charged");
            assert_eq!((env.allowance, env.allowed, env.unwind), (0, 0, 0));
            // It stays stopped until it is allowed to run, and then has the fuel that is left.
            let before = *env.fuel.get_mut();
            assert!(run(&placed, &mut env).is_some());
            assert!(before - *env.fuel.get_mut() < 10, "at the first jump back, call or return");
            stopper.allow();
            let short = assemble("r0 = 9\nloop:\nr0 -= 1\nif r0 != 0 goto loop\nexit").unwrap();
            assert_eq!(run(&place(&short, &pack, &options), &mut env), None);
        }
    }
}

/// As an embedder meets it: any program, the safe interface, both engines.
#[test]
fn a_flat_program_is_stopped() {
    let pack = Pack::new(PackOptions::default()).unwrap();
    for engine in [FlatEngine::Interp, FlatEngine::Jit(&pack)] {
        for text in ENDLESS {
            let program = FlatProgram::new(&assemble(text).unwrap(), engine, &[]).unwrap();
            let mut env = ExecEnv::new();
            let stopper: Stopper = env.stopper();
            let result = std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(2));
                    stopper.stop();
                });
                program.run(&mut Block::new(&[]), &mut env)
            });
            assert_eq!(result.unwrap_err().kind, TrapKind::OutOfFuel, "{engine:?}: {text}");
        }
    }
}

#[test]
fn another_thread_takes_the_fuel_away() {
    let pack = Pack::new(PackOptions::default()).unwrap();
    for options in fuelled() {
        let placed = place(&assemble(ENDLESS[1]).unwrap(), &pack, &options);
        let mut env = ExecEnv::new();
        let fuel = std::ptr::from_ref(&env.fuel).expose_provenance();
        let taker = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(2));
            // SAFETY: the environment outlives this thread, which is joined below; nobody has
            // anything but atomic access to this field meanwhile.
            let fuel = unsafe { &*std::ptr::with_exposed_provenance::<AtomicI64>(fuel) };
            fuel.store(0, Ordering::Relaxed);
        });
        let trap = run(&placed, &mut env).unwrap();
        taker.join().unwrap();
        assert_eq!(trap.kind, TrapKind::OutOfFuel, "{options:?}");
        assert!(*env.fuel.get_mut() < 0, "the 0 is not overwritten");
    }
}

/// Each call of [`on_call`], and the one that stops the run.
struct Calls {
    made: AtomicU64,
    stops_at: u64,
    stopper: Stopper,
}

ebpf_runtime::native! {
    /// Stops the run from the inside, at a place that is known.
    fn on_call(env: *mut ExecEnv) -> u64 {
        // SAFETY: in these tests `user` points to calls.
        let calls = unsafe { &*(*env).user.cast::<Calls>() };
        if calls.made.fetch_add(1, Ordering::Relaxed) + 1 == calls.stops_at {
            calls.stopper.stop();
        }
        0
    }
}

#[test]
fn a_stop_is_noticed_within_one_allowance() {
    /// Instructions of a round.
    const ROUND: i64 = 2;
    let pack = Pack::new(PackOptions::default()).unwrap();
    let program = assemble("loop:\ncall 1\ngoto loop").unwrap();
    for options in fuelled() {
        let placed = place(&program, &pack, &options);
        let mut latest = 0;
        for stops_at in [1, 2, 4_000, 8_191, 8_192, 8_193, 20_000] {
            let mut env = ExecEnv::new();
            let mut calls = Calls { made: AtomicU64::new(0), stops_at, stopper: env.stopper() };
            env.user = (&raw mut calls).cast();
            assert_eq!(run(&placed, &mut env).unwrap().kind, TrapKind::OutOfFuel);
            let charged = i64::MAX - *env.fuel.get_mut();
            let late = charged - ROUND * stops_at as i64;
            assert!((0..=MAX_ALLOWANCE + ROUND).contains(&late), "{late} with {options:?}");
            latest = latest.max(late);
        }
        assert!(latest > MAX_ALLOWANCE / 2, "an allowance is what the constant says: {latest}");
    }
}

/// The fuel that a run has from the start is exact, however many allowances it makes.
#[test]
fn fuel_runs_out_at_the_same_place_after_any_number_of_allowances() {
    let text = "r6 = 0\nloop:\nr1 = r6\nr1 &= 3\nif r1 == 0 goto a\nif r1 == 1 goto b\nr0 = 1\n\
                a:\nr0 = 2\nr0 += 1\nb:\ncall sub\nr6 += 1\nif r6 != 0 goto loop\nexit\n\
                sub:\nr2 = r1\nif r2 != 0 goto out\nr2 = 7\nout:\nexit";
    let program = assemble(text).unwrap();
    let pack = Pack::new(PackOptions::default()).unwrap();
    let vm = Vm::new(&program, None, &Links::default()).unwrap();
    let around = |fuel: i64| fuel - 6..fuel + 6;
    for options in fuelled() {
        let placed = place(&program, &pack, &options);
        for fuel in [MAX_ALLOWANCE, 2 * MAX_ALLOWANCE, 100_000].into_iter().flat_map(around) {
            let (mut interpreted, mut compiled) = (env(fuel), env(fuel));
            let trap = vm.run(0, &Memory::new(), &mut interpreted).unwrap_err();
            assert_eq!(run(&placed, &mut compiled), Some(trap), "{fuel} with {options:?}");
            assert_eq!(compiled.fuel.into_inner(), interpreted.fuel.into_inner(), "{fuel}");
        }
    }
}
