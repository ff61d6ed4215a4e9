//! Calls through registers: the addresses of subprograms, and what else a register may hold.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{bytes_of, link, run};
use ebpf_interp::{Dispatcher, Links, Memory, Options, Runs, Vm};
use ebpf_isa::Pc;
use ebpf_isa::abi::{ExecEnv, Trap, TrapKind};
use ebpf_isa::text::assemble;
use ebpf_testkit::Machine;

fn bad_callee(pc: u32, addr: u64) -> Result<u64, Trap> {
    Err(Trap { kind: TrapKind::BadCallee, pc: Pc(pc), addr })
}

#[test]
fn the_subprogram_whose_address_a_register_holds() {
    let pick = |index| {
        format!(
            "r3 = func add ll\nr2 = {index}\nif r2 == 0 goto call\nr3 = func triple ll\n\
             call:\nr1 = 7\ncallx r3\nexit\n\
             add:\nr0 = r1\nr0 += 1\nexit\ntriple:\nr0 = r1\nr0 *= 3\nexit"
        )
    };
    assert_eq!(run(&pick(0)), Ok(8));
    assert_eq!(run(&pick(1)), Ok(21));
}

#[test]
fn what_the_caller_needs_is_preserved() {
    let asm = "r6 = 1\nr7 = 2\nr8 = 3\nr9 = 4\n*(u64 *)(r10 -8) = 5\nr1 = func f ll\ncallx r1\n\
               r0 += r6\nr0 += r7\nr0 += r8\nr0 += r9\nr1 = *(u64 *)(r10 -8)\nr0 += r1\nexit\n\
               f:\nr6 = 70\nr7 = 70\nr8 = 70\nr9 = 70\n*(u64 *)(r10 -8) = 70\nr0 = 100\nexit";
    assert_eq!(run(asm), Ok(115));
}

#[test]
fn what_is_no_address_is_not_called() {
    let call =
        |value: &str| format!("r2 = func f ll\nr0 = {value}\ncallx r0\nexit\nf:\nr0 = 1\nexit");
    assert_eq!(run(&call("r2")), Ok(1));
    assert_eq!(run(&call("0")), bad_callee(3, 0));
    // A helper's number, an instruction inside of the subprogram, something between two slots, the
    // main program, whose address nobody takes.
    assert_eq!(run(&call("1")), bad_callee(3, 1));
    let base = 1 << 32;
    for (value, addr) in [
        ("0x100000038 ll", base + 0x38),
        ("0x100000031 ll", base + 0x31),
        ("0x100000000 ll", base),
        ("-1", u64::MAX),
    ] {
        let pc = 3 + u32::from(value.ends_with("ll"));
        assert_eq!(run(&call(value)), bad_callee(pc, addr), "{value}");
    }
}

#[test]
fn an_address_is_where_the_subprogram_stands() {
    assert_eq!(run("r0 = func f ll\nexit\nf:\nr0 = 1\nexit"), Ok((1 << 32) + 3 * 8));
}

#[test]
fn the_main_program_and_the_caller_itself_can_be_called() {
    let asm = "r3 = func main ll\nif r1 == 77 goto end\nr1 = 77\ncallx r3\nr0 += 1\nexit\nend:\nr0 = 5\nexit";
    assert_eq!(run(&format!("main:\n{asm}")), Ok(6));
}

#[test]
fn depth_is_limited_and_fuel_is_charged() {
    let endless = "r1 = func f ll\ncallx r1\nexit\nf:\ncallx r1\nexit";
    let too_deep = Err(Trap { kind: TrapKind::CallDepth, pc: Pc(4), addr: 0 });
    assert_eq!(run(endless), too_deep);
    let asm = "r6 = 3\nr7 = func f ll\nagain:\ncallx r7\nr6 += -1\nif r6 != 0 goto again\nexit\n\
               f:\nr0 += 2\nexit";
    let (charged, _) = in_all_ways(asm, 1000);
    assert_eq!(charged, 2 + 3 * (1 + 2 + 2) + 1);
    for fuel in 0..charged {
        let (spent, result) = in_all_ways(asm, fuel);
        assert!(result.is_ok() || spent > fuel, "{fuel}: {spent}, {result:?}");
    }
}

/// Runs a program with every dispatcher, fused and not, made ready for every kind of runs, checked
/// and unchecked; all do what a plain machine does. Gives the fuel it took, and the result.
#[track_caller]
fn in_all_ways(asm: &str, fuel: i64) -> (i64, Result<u64, Trap>) {
    let program = assemble(asm).unwrap();
    let wanted = Machine::new(&program, &[]).with_fuel(fuel as u64).run();
    let wanted = (wanted.executed as i64, wanted.end);
    for dispatcher in [Dispatcher::Loop, Dispatcher::Threaded] {
        for (fuse, runs) in
            [(true, Runs::All), (false, Runs::All), (true, Runs::Checked), (true, Runs::Unchecked)]
        {
            let mut options = Options::default();
            (options.dispatcher, options.fuse, options.runs) = (Some(dispatcher), fuse, runs);
            let vm = Vm::with_options(&program, None, &Links::default(), &options).unwrap();
            let env = || {
                let mut env = ExecEnv::new();
                *env.fuel.get_mut() = fuel;
                env
            };
            let mut checked = env();
            let result = vm.run(0, &Memory::new(), &mut checked);
            assert_eq!((fuel - *checked.fuel.get_mut(), result), wanted, "{options:?}");
            let mut unchecked = env();
            // SAFETY: the program accesses no memory but its stack.
            let result = unsafe { vm.run_unchecked(core::ptr::null_mut(), &mut unchecked) };
            assert_eq!((fuel - *unchecked.fuel.get_mut(), result), wanted, "{options:?}");
        }
    }
    wanted
}

#[test]
fn every_way_of_running_it_agrees() {
    for asm in [
        "r1 = func f ll\ncallx r1\nexit\nf:\nr0 = 7\nexit",
        "r6 = func g ll\nr1 = func f ll\ncallx r1\nr0 += r6\nexit\nf:\nr6 = func g ll\nr8 = 1\n\
         callx r6\nr0 += r8\nexit\ng:\nr8 = 9\nr0 = 5\nexit",
        "r1 = func f ll\ncall f\ncallx r0\nexit\nf:\nr0 = 3\nexit",
        "r1 = func f ll\ncallx r1\nexit\nf:\ncallx r1\nexit",
    ] {
        let (spent, result) = in_all_ways(asm, 10_000);
        assert!(spent < 40, "{result:?}");
    }
}

#[test]
fn a_run_is_stepped_through_calls() {
    let vm = link("r1 = func f ll\ncallx r1\nexit\nf:\nr0 = 7\nexit", &Links::default());
    let mut context = [0; 2];
    let mut memory = Memory::new();
    let ctx = memory.add_mut(bytes_of(&mut context));
    let mut run = vm.start(ctx, &memory);
    let (mut env, mut pcs) = (ExecEnv::new(), Vec::new());
    let result = loop {
        pcs.push(run.pc().0);
        if let Some(result) = run.step(&mut env) {
            break result;
        }
    };
    assert_eq!((result, pcs.as_slice()), (Ok(7), [0, 2, 4, 5, 3].as_slice()));
}
