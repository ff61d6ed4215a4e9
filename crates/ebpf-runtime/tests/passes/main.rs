//! A program does the same after a pass as before: on every engine, and on a machine that needs what
//! the pass inserts.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod count_blocks;
mod engines;

use ebpf_runtime::flat::Block;
use ebpf_runtime::isa::Program;
use ebpf_runtime::isa::abi::Trap;
use ebpf_runtime::isa::text::assemble;
use ebpf_runtime::jit;
use ebpf_runtime::patch::{
    Patch, Patched, PcMap, blind_constants, guard_divisions, insert_zero_extensions, remove_nops,
};
use ebpf_testkit::{
    BLOCK_BYTES, Fixture, Machine, Ran, Rng, RunResult, UpperHalf, fixture_paths, fixtures_dir,
    for_each_fixture, tame_program,
};
use engines::{Engine, Engines};

const GENERATED: u64 = 1_000;

/// What is done to a program before it runs.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Passes {
    None,
    NopRemoval,
    Divisions,
    ZeroExtension,
    Blinding,
    All,
}

impl Passes {
    const ALL: [Self; 6] = [
        Self::None,
        Self::NopRemoval,
        Self::Divisions,
        Self::ZeroExtension,
        Self::Blinding,
        Self::All,
    ];
    /// Those after which a machine may leave upper halves as they are.
    const EXTENDING: [Self; 2] = [Self::ZeroExtension, Self::All];

    fn apply(self, program: &Program, unread: &[bool], seed: [u64; 2]) -> Patched {
        let does = |pass| self == pass || self == Self::All;
        let mut patch = Patch::new(program);
        if does(Self::NopRemoval) {
            remove_nops(&mut patch);
        }
        if does(Self::Divisions) {
            guard_divisions(&mut patch).unwrap();
        }
        if does(Self::ZeroExtension) {
            insert_zero_extensions(&mut patch, unread).unwrap();
        }
        if does(Self::Blinding) {
            blind_constants(&mut patch, seed).unwrap();
        }
        patch.linearize().unwrap()
    }
}

/// `out-of-bounds @3`, with the position in the program as it was.
fn describe(trap: Trap, map: &PcMap) -> String {
    let with_dash =
        |c: char| c.is_ascii_uppercase().then_some('-').into_iter().chain([c.to_ascii_lowercase()]);
    let kind: String = format!("{:?}", trap.kind).chars().flat_map(with_dash).collect();
    format!("{} @{}", kind.trim_start_matches('-'), map.origin(trap.pc).unwrap())
}

fn parts(fixture: &Fixture) -> Result<(Program, &RunResult), String> {
    let asm = fixture.section("asm").ok_or("no section `asm`")?;
    let program = assemble(asm).map_err(|error| error.to_string())?;
    Ok((program, fixture.result().ok_or("no section `result`")?))
}

/// All fixtures that there are, unless only some are asked for.
fn assert_none_is_skipped(dir: &str, ran: usize) {
    if std::env::var("FIXTURE").is_err() {
        assert_eq!(ran, fixture_paths(&fixtures_dir().join(dir)).unwrap().len());
    }
}

#[test]
fn fixtures_on_every_engine() {
    let engines = Engines::new();
    let (mut fixtures, mut runs, mut traps) = (0, 0, 0);
    for_each_fixture("exec", |fixture| {
        let (program, expected) = parts(fixture)?;
        let is_value = matches!(expected, RunResult::Value(_));
        // One block for all, as programs may store its address.
        let before = fixture.mem().unwrap_or_default();
        let mut block = Block::new(before);
        let mut after: Option<Vec<u8>> = None;
        for passes in Passes::ALL {
            let patched = passes.apply(&program, &[], [fixtures as u64, 7]);
            for engine in Engine::ALL.into_iter().filter(|engine| is_value || engine.is_checked()) {
                block.bytes_mut().copy_from_slice(before);
                // SAFETY: `Engine::ALL` begins with a checked engine, which gave a value.
                let got = unsafe { engines.run(engine, &patched.program, &mut block) };
                let got = got.map_err(|trap| describe(trap, &patched.map));
                let same = match expected {
                    RunResult::Value(value) => got == Ok(*value),
                    RunResult::Trap(trap) => got.as_ref() == Err(trap),
                };
                if !same {
                    return Err(format!("{engine:?} after {passes:?}: {got:x?}"));
                }
                let wanted = after.get_or_insert_with(|| block.bytes_mut().to_vec());
                if block.bytes_mut() != wanted {
                    return Err(format!("{engine:?} after {passes:?}: other memory"));
                }
                runs += 1;
            }
        }
        traps += usize::from(!is_value);
        fixtures += 1;
        Ok(())
    });
    assert_none_is_skipped("exec", fixtures);
    assert_eq!(runs, (fixtures * 4 - traps * 2) * Passes::ALL.len());
    println!("{fixtures} programs, {traps} of them trap: {runs} runs");
}

#[test]
fn generated_programs_on_every_engine() {
    let engines = Engines::new();
    for seed in 0..GENERATED {
        let program = tame_program(&mut Rng::seed(seed));
        let before = Rng::seed(seed).bytes(BLOCK_BYTES);
        let mut block = Block::new(&before);
        let Ran { end, memory, .. } = Machine::new(&program, &before).run();
        let expected = end.expect("generated programs do not trap");
        for passes in Passes::ALL {
            let patched = passes.apply(&program, &[], [seed, !seed]);
            for engine in Engine::ALL {
                block.bytes_mut().copy_from_slice(&before);
                // SAFETY: `Engine::ALL` begins with a checked engine, which gave a value.
                let got = unsafe { engines.run(engine, &patched.program, &mut block) };
                assert_eq!(got, Ok(expected), "seed {seed}: {engine:?} after {passes:?}");
                assert_eq!(block.bytes_mut(), memory, "seed {seed}: {engine:?} after {passes:?}");
            }
        }
    }
}

/// The machine with garbage does what it should where all is extended, and also where only what the
/// run reads is.
#[test]
fn fixtures_where_upper_halves_stay() {
    let (mut fixtures, mut broken) = (0, 0);
    for_each_fixture("exec", |fixture| {
        let (program, expected) = parts(fixture)?;
        let memory = fixture.mem().unwrap_or_default();
        let run = |patched: &Patched, upper| {
            let ran = Machine::new(&patched.program, memory).with_upper(upper).run();
            (ran.end.map_err(|trap| describe(trap, &patched.map)), ran.memory, ran.unread)
        };
        let plain = Passes::None.apply(&program, &[], [0; 2]);
        let (wanted, after, unread) = run(&plain, UpperHalf::Zero);
        let as_written = match expected {
            RunResult::Value(value) => wanted == Ok(*value),
            RunResult::Trap(trap) => wanted.as_ref() == Err(trap),
        };
        if !as_written {
            return Err(format!("the machine itself gives {wanted:x?}"));
        }
        broken += usize::from(run(&plain, UpperHalf::Garbage).0 != wanted);
        for passes in Passes::EXTENDING {
            for known in [&[][..], &unread] {
                let (end, memory, _) =
                    run(&passes.apply(&program, known, [1, 2]), UpperHalf::Garbage);
                if (&end, &memory) != (&wanted, &after) {
                    return Err(format!("{end:x?} after {passes:?}, {} known", known.len()));
                }
            }
        }
        fixtures += 1;
        Ok(())
    });
    assert_none_is_skipped("exec", fixtures);
    println!("{fixtures} programs, {broken} of them break without zero extensions");
    assert!(
        broken >= fixtures / 4,
        "only {broken} of {fixtures} programs break without extensions"
    );
}

#[test]
fn generated_programs_where_upper_halves_stay() {
    let (mut broken, mut inserted, mut needed) = (0, 0, 0);
    for seed in 0..GENERATED {
        let program = tame_program(&mut Rng::seed(seed));
        let memory = Rng::seed(seed).bytes(BLOCK_BYTES);
        let run = |program: &Program, upper| {
            let ran = Machine::new(program, &memory).with_upper(upper).run();
            (ran.end, ran.memory, ran.unread)
        };
        let (wanted, after, unread) = run(&program, UpperHalf::Zero);
        broken += u64::from(run(&program, UpperHalf::Garbage).0 != wanted);
        for passes in Passes::EXTENDING {
            for known in [&[][..], &unread] {
                let patched = passes.apply(&program, known, [seed, 3]).program;
                let (end, memory, _) = run(&patched, UpperHalf::Garbage);
                assert_eq!((end, &memory), (wanted, &after), "seed {seed}, {passes:?}");
                if passes == Passes::ZeroExtension {
                    let count = if known.is_empty() { &mut inserted } else { &mut needed };
                    *count += patched.len() - program.len();
                }
            }
        }
    }
    println!("{broken} programs break; {inserted} extensions inserted, {needed} of them needed");
    assert!(broken > GENERATED / 2, "only {broken} programs break without zero extensions");
    assert!(needed < inserted / 2);
}

/// A machine may trap on some divisions; behind the guards none of these is run.
#[test]
fn guarded_divisions_never_trap() {
    let mut hard = 0;
    for_each_fixture("exec", |fixture| {
        let (program, _) = parts(fixture)?;
        let memory = fixture.mem().unwrap_or_default();
        hard += Machine::new(&program, memory).run().hard_divisions;
        let guarded = Passes::Divisions.apply(&program, &[], [0; 2]).program;
        let left = Machine::new(&guarded, memory).run().hard_divisions;
        if left == 0 { Ok(()) } else { Err(format!("{left} divisions may trap")) }
    });
    let wanted = if std::env::var("FIXTURE").is_ok() { 0 } else { 10 };
    assert!(hard >= wanted, "only {hard} divisions of fixtures may trap");
}

/// Knowledge that is wrong shows, so the runs above say something about what is left out.
#[test]
fn a_wrong_claim_is_noticed() {
    let program = assemble("r0 = -1\nw0 += 0\nexit").unwrap();
    let run = |unread: &[bool]| {
        let patched = Passes::ZeroExtension.apply(&program, unread, [0; 2]).program;
        Machine::new(&patched, &[]).with_upper(UpperHalf::Garbage).run().end
    };
    assert_eq!(run(&[]), Ok(0xffff_ffff));
    assert_eq!(run(&[false, true]), Ok(0xdead_beef_ffff_ffff));
}

/// What blinding is for: numbers that a program's author chose are not in its machine code.
#[test]
fn no_chosen_number_is_in_machine_code() {
    let chosen: Vec<u32> = (0..8).map(|index| 0x3c90_d0c1 + index * 0x0101_0101).collect();
    let [a, b, c, d, e, f, g, h] = chosen[..] else { unreachable!() };
    let program = assemble(&format!(
        "r0 = {a}\nw0 += {b}\nr0 ^= {c}\n*(u32 *)(r10 -4) = {d}\nr2 = {e:#x}{f:08x} ll\n\
         if r0 == {g} goto +1\nr0 = *(u8 *)skb[{h}]\nexit"
    ))
    .unwrap();
    let found = |passes: Passes, options: &jit::Options| {
        let program = passes.apply(&program, &[], [0x5eed, 0xc0de]).program;
        let image = jit::compile(&program, None, options).unwrap();
        let numbers: Vec<u32> = image
            .code()
            .windows(4)
            .map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap()))
            .collect();
        chosen.iter().filter(|number| numbers.contains(number)).count()
    };
    for options in [jit::Options::default(), jit::Options::checked()] {
        assert_eq!(found(Passes::None, &options), chosen.len());
        assert_eq!(found(Passes::Blinding, &options), 0);
    }
}
