//! Programs that no verifier lets pass, on the engines that check each access, against the plain
//! machine: the value or the trap, the memory, the fuel.

use std::sync::atomic::AtomicI64;

use ebpf_runtime::flat::{Block, FlatProgram};
use ebpf_runtime::interp::{Links, Memory, Vm};
use ebpf_runtime::isa::Program;
use ebpf_runtime::isa::abi::{ExecEnv, Trap, TrapKind};
use ebpf_runtime::jit::{self, MemoryMode};
use ebpf_runtime::pack::Pack;
use ebpf_testkit::{BLOCK_BYTES, Machine, Ran, Rng, same_end, wild_program};

use super::{compiler, interp_options};

/// What can be seen of a run.
type Seen = (Result<u64, Trap>, i64);

pub(super) fn case(rng: &mut Rng, pack: &Pack) -> Result<(), String> {
    let statements = rng.range(0..40);
    let program = wild_program(rng, statements);
    let before = rng.bytes(BLOCK_BYTES);
    let fuel = *rng.pick(&[0, 1, 20, 300, 5_000, 40_000]);
    let mut block = Block::new(&before);
    let address = block.bytes_mut().as_mut_ptr() as u64;
    let machine = Machine::new(&program, &before).with_block_at(address);
    let wanted = machine.with_fuel(fuel).run();
    let is_endless = matches!(wanted.end, Err(Trap { kind: TrapKind::OutOfFuel, .. }));
    for mut options in interp_options() {
        options.fuel |= is_endless;
        let vm = Vm::with_options(&program, None, &Links::default(), &options);
        let vm = vm.map_err(|error| error.to_string())?;
        block.bytes_mut().copy_from_slice(&before);
        let (end, left) = interpreted(&vm, &mut block, fuel);
        let executed = if options.fuel { fuel as i64 - left } else { wanted.executed as i64 };
        compare(&wanted, (end, executed), &mut block)
            .map_err(|wrong| format!("{options:?}, {wrong}\n{}", program.listing()))?;
    }
    let mut options = compiler(rng).options().with_memory(MemoryMode::Checked);
    options.fuel |= is_endless;
    block.bytes_mut().copy_from_slice(&before);
    let (end, left) = compiled(&program, pack, &options, &mut block, fuel)?;
    let executed = if options.fuel { fuel as i64 - left } else { wanted.executed as i64 };
    compare(&wanted, (end, executed), &mut block)
        .map_err(|wrong| format!("{options:?}, {wrong}\n{}", program.listing()))
}

fn interpreted(vm: &Vm, block: &mut Block, fuel: u64) -> Seen {
    let mut memory = Memory::new();
    let packet_len = BLOCK_BYTES as u64;
    let ctx = memory.add_mut(block.bytes_mut());
    let packet = std::ptr::with_exposed_provenance(ctx as usize);
    let fuel = AtomicI64::new(fuel as i64);
    let mut env = ExecEnv { fuel, packet, packet_len, ..ExecEnv::new() };
    let end = vm.run(ctx, &memory, &mut env);
    (end, env.fuel.into_inner())
}

fn compiled(
    program: &Program,
    pack: &Pack,
    options: &jit::Options,
    block: &mut Block,
    fuel: u64,
) -> Result<Seen, String> {
    let program = FlatProgram::compiled(program, pack, &[], options);
    let program = program.map_err(|error| error.to_string())?;
    // Two loads in front of the program are charged, and given back where it ends.
    let mut env = ExecEnv { fuel: AtomicI64::new(fuel as i64 + 2), ..ExecEnv::new() };
    let end = program.run(block, &mut env);
    Ok((end, env.fuel.into_inner() - 2))
}

/// Whether a run with this end, that executed so many instructions and left this block, is as the
/// machine's.
fn compare(
    wanted: &Ran,
    (end, executed): (Result<u64, Trap>, i64),
    block: &mut Block,
) -> Result<(), String> {
    let block = block.bytes_mut();
    let same_fuel = executed == wanted.executed as i64;
    if same_end(end, wanted.end) && same_fuel && *block == *wanted.memory {
        return Ok(());
    }
    Err(format!("{end:x?}, {executed} executed, {block:02x?}\nnot {wanted:x?}\nin"))
}
