//! What a program computes does not depend on how it is compiled: every combination of options, over
//! all programs of `fixtures/exec`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ebpf_runtime::flat::{Block, FlatContext, FlatEngine, FlatProgram, with_entry};
use ebpf_runtime::image::Symbol;
use ebpf_runtime::isa::Program;
use ebpf_runtime::isa::abi::{EntryFn, ExecEnv, Trap};
use ebpf_runtime::isa::text::assemble;
use ebpf_runtime::jit::{self, MemoryMode, Options};
use ebpf_runtime::pack::{Pack, PackOptions, Placed};
use ebpf_testkit::{Fixture, for_each_fixture};

/// More than any fixture needs.
const FUEL: i64 = 1_000_000;
const SEED: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

/// With and without each of: checked memory, fuel, linked frames, blinded constants.
fn combinations() -> Vec<Options> {
    let mut all = vec![Options::default()];
    for switch in [
        |options: Options| options.with_memory(MemoryMode::Checked),
        |options: Options| options.with_fuel(true),
        |options: Options| options.with_frame_pointers(true),
        |options: Options| options.with_blinding(SEED),
    ] {
        let switched: Vec<_> = all.iter().cloned().map(switch).collect();
        all.extend(switched);
    }
    assert_eq!(all.len(), 16);
    all
}

/// What can be seen of a run.
#[derive(Debug, PartialEq)]
struct Seen {
    result: Result<u64, Trap>,
    memory: Vec<u8>,
    fuel: i64,
}

fn env(fuel: i64) -> ExecEnv {
    let mut env = ExecEnv::new();
    *env.fuel.get_mut() = fuel;
    env
}

/// The stack is at another place in each run, so addresses far from the block are not compared.
fn comparable(result: Result<u64, Trap>, block: &mut Block) -> Result<u64, Trap> {
    let start = block.bytes_mut().as_ptr().addr() as u64;
    let near = |addr: u64| addr.wrapping_sub(start).wrapping_add(0x1000) < 0x2000;
    result.map_err(|trap| Trap { addr: if near(trap.addr) { trap.addr } else { 0 }, ..trap })
}

/// What the interpreter makes of the program, in a block that holds `before`.
fn expected(program: &Program, block: &mut Block, before: &[u8], fuel: i64) -> Seen {
    block.bytes_mut().copy_from_slice(before);
    let mut env = env(fuel);
    let model = FlatProgram::new(program, FlatEngine::Interp, &[]).unwrap();
    let result = comparable(model.run(block, &mut env), block);
    Seen { result, memory: block.bytes_mut().to_vec(), fuel: env.fuel.into_inner() }
}

fn checked(
    program: &Program,
    pack: &Pack,
    options: &Options,
    (block, before): (&mut Block, &[u8]),
    fuel: i64,
) -> Seen {
    block.bytes_mut().copy_from_slice(before);
    let mut env = env(fuel);
    let compiled = FlatProgram::compiled(program, pack, &[], options).unwrap();
    let result = comparable(compiled.run(block, &mut env), block);
    Seen { result, memory: block.bytes_mut().to_vec(), fuel: env.fuel.into_inner() }
}

fn place(program: &Program, pack: &Pack, options: &Options) -> Placed {
    let image = jit::compile(program, None, options).unwrap();
    pack.place(&image, &|_: Symbol| None).unwrap()
}

/// For programs that do not trap.
fn unchecked(
    program: &Program,
    pack: &Pack,
    options: &Options,
    (block, before): (&mut Block, &[u8]),
    fuel: i64,
) -> Seen {
    /// The loads in front, which are not the program's.
    const ENTRY_LOADS: i64 = 2;
    block.bytes_mut().copy_from_slice(before);
    let placed = place(&with_entry(program).unwrap().program, pack, options);
    let bytes = block.bytes_mut();
    let len = bytes.len() as u64;
    let memory = bytes.as_mut_ptr().expose_provenance() as u64;
    let mut context = FlatContext { memory, len };
    let mut env = ExecEnv { packet: bytes.as_ptr(), packet_len: len, ..env(fuel) };
    // SAFETY: this is the entry of compiled code, which `placed` keeps.
    let run: EntryFn = unsafe { std::mem::transmute(placed.entry_ptr()) };
    // SAFETY: the checked interpreter runs the same program without a trap.
    let value = unsafe { run((&raw mut context).cast(), &mut env) };
    assert_eq!(env.trap.trap(), None);
    let charged = if options.fuel { ENTRY_LOADS } else { 0 };
    let fuel = env.fuel.into_inner() + charged;
    Seen { result: Ok(value), memory: block.bytes_mut().to_vec(), fuel }
}

fn all_agree(program: &Program, pack: &Pack, memory: &[u8]) -> Result<(), String> {
    let mut block = Block::new(memory);
    let model = expected(program, &mut block, memory, FUEL);
    for options in combinations() {
        // What is not charged is still there.
        let fuel = if options.fuel { model.fuel } else { FUEL };
        let memory = (&mut block, memory);
        let seen = match options.memory {
            MemoryMode::Checked => checked(program, pack, &options, memory, FUEL),
            MemoryMode::Unchecked if model.result.is_err() => continue,
            MemoryMode::Unchecked => unchecked(program, pack, &options, memory, FUEL),
        };
        let wanted = Seen { result: model.result, memory: model.memory.clone(), fuel };
        if seen != wanted {
            return Err(format!("{options:?} gives {seen:x?}, not {wanted:x?}"));
        }
    }
    Ok(())
}

#[test]
fn every_combination_over_every_fixture() {
    let pack = Pack::new(PackOptions::default()).unwrap();
    for_each_fixture("exec", |fixture: &Fixture| {
        let asm = fixture.section("asm").ok_or("no section `asm`")?;
        let program = assemble(asm).map_err(|error| error.to_string())?;
        all_agree(&program, &pack, fixture.mem().unwrap_or_default())
    });
}

/// Each amount of fuel ends the run where it ends the interpreter's.
#[test]
fn fuel_runs_out_at_the_same_place() {
    let text = "r6 = 5\nr0 = 0\n\
                loop:\nr1 = r6\ncall sub\nr0 += r6\nr6 -= 1\nif r6 != 0 goto loop\nexit\n\
                sub:\nif r1 s> 2 goto skip\nr1 *= 3\nskip:\nr0 = r1\nr0 /= 2\ncall leaf\nexit\n\
                leaf:\nr0 ^= 1\nexit\n";
    let program = assemble(text).unwrap();
    let pack = Pack::new(PackOptions::default()).unwrap();
    let mut block = Block::new(&[0; 8]);
    let mut traps = 0;
    for fuel in 0..120 {
        let model = expected(&program, &mut block, &[0; 8], fuel);
        traps += u32::from(model.result.is_err());
        for options in combinations().into_iter().filter(|options| options.fuel) {
            let seen = match options.memory {
                MemoryMode::Checked => {
                    checked(&program, &pack, &options, (&mut block, &[0; 8]), fuel)
                }
                MemoryMode::Unchecked if model.result.is_err() => continue,
                MemoryMode::Unchecked => {
                    unchecked(&program, &pack, &options, (&mut block, &[0; 8]), fuel)
                }
            };
            assert_eq!(seen, model, "{fuel} with {options:?}");
        }
    }
    assert!((20..100).contains(&traps), "{traps}");
}

/// Without checks too, where only the position differs by the loads in front.
#[test]
fn a_verified_program_is_stopped_by_its_fuel() {
    let program = assemble("r0 = 0\nloop:\nr0 += 1\ngoto loop\n").unwrap();
    let pack = Pack::new(PackOptions::default()).unwrap();
    for options in combinations() {
        if !options.fuel || options.memory == MemoryMode::Checked {
            continue;
        }
        let placed = place(&program, &pack, &options);
        // SAFETY: this is the entry of compiled code, which `placed` keeps.
        let run: EntryFn = unsafe { std::mem::transmute(placed.entry_ptr()) };
        let mut env = env(100);
        // SAFETY: the program touches no memory.
        unsafe { run(std::ptr::null_mut(), &mut env) };
        let trap = env.trap.trap().map(|trap| trap.to_string());
        assert_eq!(trap.as_deref(), Some("insn 2: out of fuel"));
        // One instruction, and two in each of fifty rounds.
        assert_eq!(env.fuel.into_inner(), -1);
    }
}

/// And the code knows which instruction each of its own is of.
#[test]
fn constants_are_not_in_blinded_code() {
    let program = assemble("r0 = 0x11223344\nr0 += 0x55667788\nexit\n").unwrap();
    let plain = jit::compile(&program, None, &Options::default()).unwrap();
    let blinded = jit::compile(&program, None, &Options::default().with_blinding(SEED)).unwrap();
    for constant in [0x1122_3344_u32, 0x5566_7788] {
        let has = |code: &[u8]| code.windows(4).any(|bytes| bytes == constant.to_le_bytes());
        assert!(has(plain.code()) && !has(blinded.code()), "{constant:x}");
    }
    let origins: Vec<u32> = blinded.pc_map().iter().map(|(_, pc)| pc.0).collect();
    assert_eq!(origins, [0, 0, 0, 1, 1, 1, 2], "a frame, two, three and one instruction");
}
