//! Generated programs that no verifier would let pass: loops, recursion, accesses of any address,
//! little fuel. Checked machine code, compiled in any way, gives the value or trap of the checked
//! interpreter, leaves the same memory, and uses the same fuel.

use ebpf_runtime::flat::{Block, FlatEngine, FlatProgram};
use ebpf_runtime::isa::abi::{ExecEnv, Trap, TrapKind};
use ebpf_runtime::isa::{
    AluOp, AtomicOp, ByteOrder, CallTarget, CmpOp, Extend, Insn, LineTable, Operand, Pc, Program,
    Reg, Size, Width,
};
use ebpf_runtime::jit::MemoryMode;
use ebpf_runtime::pack::{Pack, PackOptions};
use ebpf_testkit::Rng;

use super::{Case, engines};
use crate::error::TaskError;

const BLOCK: usize = 64;
/// Holds numbers and the block's address, never that of a stack: it would differ.
const NUMBERS: [Reg; 8] = [Reg::R0, Reg::R2, Reg::R3, Reg::R4, Reg::R5, Reg::R6, Reg::R7, Reg::R8];
const WIDTHS: [Width; 2] = [Width::W32, Width::W64];

pub(super) fn prepare() -> Result<Case, TaskError> {
    let pack =
        Pack::new(PackOptions::default()).map_err(|error| TaskError::Failed(error.to_string()))?;
    Ok(Box::new(move |rng| case(rng, &pack)))
}

/// What can be seen of a run; the address of a trap may be one of a stack.
#[derive(Debug, PartialEq)]
struct Seen {
    result: Result<u64, (TrapKind, Pc)>,
    memory: Vec<u8>,
    fuel: i64,
}

fn case(rng: &mut Rng, pack: &Pack) -> Result<(), String> {
    let program = program(rng)?;
    let fuel = *rng.pick(&[0, 1, 20, 300, 5_000, 40_000]);
    let mut block = Block::new(&rng.bytes(BLOCK));
    let before = block.bytes_mut().to_vec();
    let model = FlatProgram::new(&program, FlatEngine::Interp, &[]).map_err(|e| e.to_string())?;
    let expected = seen(&model, &mut block, fuel);
    let mut options = engines::compiler(rng).options().with_memory(MemoryMode::Checked);
    let endless = matches!(expected.result, Err((TrapKind::OutOfFuel, _)));
    options.fuel |= endless;
    block.bytes_mut().copy_from_slice(&before);
    let compiled =
        FlatProgram::compiled(&program, pack, &[], &options).map_err(|error| error.to_string())?;
    let mut got = seen(&compiled, &mut block, fuel);
    if !options.fuel {
        got.fuel = expected.fuel;
    }
    if got == expected {
        return Ok(());
    }
    Err(format!("{options:?}, fuel {fuel}: {got:x?}, not {expected:x?}, in\n{}", program.listing()))
}

fn seen(program: &FlatProgram, block: &mut Block, fuel: i64) -> Seen {
    let mut env = ExecEnv::new();
    *env.fuel.get_mut() = fuel;
    let result = program.run(block, &mut env).map_err(|Trap { kind, pc, .. }| (kind, pc));
    Seen { result, memory: block.bytes_mut().to_vec(), fuel: env.fuel.into_inner() }
}

/// Functions that call the next one, the last one itself, each ended by an exit.
fn program(rng: &mut Rng) -> Result<Program, String> {
    let lens: Vec<u32> = (0..rng.range(1..5)).map(|_| rng.range(0..24) as u32).collect();
    let mut starts = vec![0];
    for len in &lens {
        starts.push(starts[starts.len() - 1] + len + 1);
    }
    let mut insns = Vec::new();
    for (index, &len) in lens.iter().enumerate() {
        let callee = Pc(starts[(index + 1).min(lens.len() - 1)]);
        for _ in 0..len {
            let target = Pc(starts[index] + rng.range(0..u64::from(len) + 1) as u32);
            insns.push(insn(rng, target, callee));
        }
        insns.push(Insn::Exit);
    }
    Program::new(insns.into_iter().map(Some).collect(), Default::default(), LineTable::new())
        .map_err(|error| error.to_string())
}

fn insn(rng: &mut Rng, target: Pc, callee: Pc) -> Insn {
    let (dst, src, width) = (number(rng), operand(rng), *rng.pick(&WIDTHS));
    match rng.range(0..18) {
        0..4 => Insn::Alu { op: *rng.pick(AluOp::ALL), width, dst, src },
        4..6 => Insn::Mov { width, dst, src },
        6 => Insn::Swap {
            order: *rng.pick(ByteOrder::ALL),
            size: *rng.pick(&[Size::H, Size::W, Size::Dw]),
            dst,
        },
        7..13 => access(rng),
        13..15 => {
            let op = *rng.pick(CmpOp::ALL);
            Insn::Branch { op, width, lhs: dst, rhs: src, target }
        }
        15 => Insn::Jump { target, long: false },
        16 => {
            let (size, index) = (*rng.pick(&[Size::B, Size::H, Size::W]), number(rng));
            let index = rng.chance(1, 2).then_some(index);
            Insn::LoadPacket { size, index, imm: rng.range(0..BLOCK as u64 + 4) as i32 }
        }
        _ => Insn::Call(CallTarget::Subprog(callee)),
    }
}

fn access(rng: &mut Rng) -> Insn {
    let (size, reg, (base, off)) = (*rng.pick(Size::ALL), number(rng), address(rng));
    match rng.range(0..9) {
        0..3 => {
            let sign = size != Size::Dw && rng.chance(1, 2);
            let extend = if sign { Extend::Sign } else { Extend::Zero };
            Insn::Load { size, extend, dst: reg, base, off }
        }
        3..6 => Insn::Store { size, base, off, src: operand(rng) },
        6 => Insn::LoadAcquire { size, dst: reg, base, off },
        7 => Insn::StoreRelease { size, src: reg, base, off },
        _ => {
            let (op, size) = (*rng.pick(AtomicOp::ALL), *rng.pick(&[Size::W, Size::Dw]));
            let fetch = op.always_fetches() || rng.chance(1, 2);
            Insn::Atomic { op, size, fetch, base, off, src: reg }
        }
    }
}

/// Mostly inside of the block or the frame, some at their limits, a few anywhere.
fn address(rng: &mut Rng) -> (Reg, i16) {
    match rng.range(0..21) {
        0..8 => (Reg::R1, rng.range(0..BLOCK as u64 - 8) as i16 & !7),
        8..16 => (Reg::R10, -8 * rng.range(1..65) as i16),
        16..18 => (Reg::R1, rng.range(0..BLOCK as u64 + 18) as i16 - 9),
        18..20 => (Reg::R10, *rng.pick(&[-513, -512, -505, -8, -7, -1, 0, 504, 505])),
        _ => (number(rng), rng.next_u64() as i16),
    }
}

fn number(rng: &mut Rng) -> Reg {
    *rng.pick(&NUMBERS)
}

fn operand(rng: &mut Rng) -> Operand {
    if rng.chance(1, 2) {
        return Operand::Reg(number(rng));
    }
    Operand::Imm(*rng.pick(&[0, 1, -1, 2, 8, 31, 63, 64, 200, i32::MAX, i32::MIN]))
}
