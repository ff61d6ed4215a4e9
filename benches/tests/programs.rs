//! Every benchmark program comes to its known result on every engine.

use ebpf_benches::Memory;
use ebpf_benches::kernel::InKernel;
use ebpf_benches::native::{Clang, Flavour, Native};
use ebpf_benches::ours::{Checked, Trusted};
use ebpf_benches::peers::{self, Rbpf, Sbpf};
use ebpf_benches::programs::{BenchProgram, EMPTY, PROGRAMS};
use ebpf_runtime::flat::FlatEngine;
use ebpf_runtime::interp::Options;
use ebpf_runtime::jit;
use ebpf_runtime::pack::{Pack, PackOptions};
use ebpf_testkit::skip;

fn all() -> impl Iterator<Item = BenchProgram> {
    [EMPTY].into_iter().chain(PROGRAMS)
}

/// Two runs, the second on what the first left.
#[track_caller]
fn check(program: &BenchProgram, engine: &str, mut run: impl FnMut() -> u64) {
    for turn in 1..=2 {
        assert_eq!(run(), program.result, "{} on {engine}, run {turn}", program.name);
    }
}

#[test]
fn on_our_checked_engines() {
    let pack = Pack::new(PackOptions::default()).unwrap();
    for program in all() {
        let (flat, block) = (program.flat().unwrap(), program.block());
        for (name, engine) in [("interp", FlatEngine::Interp), ("jit", FlatEngine::Jit(&pack))] {
            let mut checked = Checked::new(&flat, &block, engine).unwrap();
            check(&program, name, || checked.run());
        }
    }
}

#[test]
fn on_our_unchecked_engines() {
    let pack = Pack::new(PackOptions::default()).unwrap();
    for program in all() {
        let trusted = Trusted::new(&program).unwrap();
        for fuel in [false, true] {
            let mut options = Options::default();
            options.fuel = fuel;
            let mut interpreted = trusted.interpreted(&options).unwrap();
            check(&program, "interp", || interpreted.run());
        }
        let mut compiled = trusted.compiled(&jit::Options::default(), &pack).unwrap();
        check(&program, "jit", || compiled.run());
    }
}

#[test]
fn on_the_peers() {
    for program in all() {
        let (flat, block) =
            (peers::with_length(&program.flat().unwrap()).unwrap(), program.block());
        let bytes = peers::bytes(&flat).unwrap();
        let mut rbpf = Rbpf::new(&bytes, &block).unwrap();
        check(&program, "rbpf", || rbpf.interpret());
        let mut rbpf = Rbpf::compiled(&bytes, &block).unwrap();
        check(&program, "rbpf's JIT", || rbpf.run_compiled());
        let bytes = peers::bytes(&peers::zero_extended(&flat).unwrap()).unwrap();
        let mut sbpf = Sbpf::new(&bytes, &block).unwrap();
        check(&program, "solana-sbpf", || sbpf.interpret());
        let mut sbpf = Sbpf::compiled(&bytes, &block).unwrap();
        check(&program, "solana-sbpf's JIT", || sbpf.run_compiled());
    }
}

#[test]
fn on_the_machine_itself() {
    let clang = match Clang::find() {
        Ok(clang) => clang,
        Err(error) => return skip(&error.to_string()),
    };
    for program in all() {
        for flavour in [Flavour::O2, Flavour::Scalar] {
            let native = Native::new(&clang, &program, flavour).unwrap();
            let mut memory = Memory::new(&program.block());
            check(&program, &format!("clang {flavour:?}"), || native.run(&mut memory));
        }
    }
}

/// Where the kernel lets us load the empty program, it takes the others too.
#[test]
fn in_the_kernel() {
    if let Err(error) = InKernel::new(&EMPTY) {
        return skip(&format!("benchmark programs in the kernel: {error}"));
    }
    for program in all() {
        let loaded = InKernel::new(&program).unwrap();
        check(&program, "the kernel", || loaded.run(3));
    }
}
