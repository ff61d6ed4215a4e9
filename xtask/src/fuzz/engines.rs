//! Generated programs on every engine: the checked interpreter, the unchecked one, and machine code
//! with and without checks, made ready in any way, do what the plain machine of `ebpf-testkit` does,
//! for the same fuel.
//!
//! The unchecked engines run what the verifier accepts, which is nearly all of what is generated
//! here; programs that it would not accept are in `wild`.

mod wild;

use ebpf_runtime::flat::{Block, FlatEngine, FlatProgram};
use ebpf_runtime::interp::{self, Dispatcher};
use ebpf_runtime::isa::abi::ExecEnv;
use ebpf_runtime::isa::{
    AluOp, AtomicOp, ByteOrder, CmpOp, Extend, Imm64, Insn, Operand, Pc, Program, Reg, Size,
    WideSource, Width,
};
use ebpf_runtime::jit::MemoryMode;
use ebpf_runtime::verifier::Options;
use ebpf_runtime::xdp::{self, Ingress, XdpProgram};
use ebpf_runtime::{Bindings, Blinding, Compiler, Engine, LoadError, Runtime};
use ebpf_testkit::{Machine, Rng};

use super::Case;
use crate::error::TaskError;

/// The registers that programs compute with: all but the frame pointer.
const REGS: [Reg; 10] =
    [Reg::R0, Reg::R1, Reg::R2, Reg::R3, Reg::R4, Reg::R5, Reg::R6, Reg::R7, Reg::R8, Reg::R9];
/// Bytes of stack in use, in slots of 8.
const STACK: u64 = 64;
const WIDTHS: [Width; 2] = [Width::W32, Width::W64];

pub(super) fn prepare() -> Result<Case, TaskError> {
    let runtime = Runtime::new().map_err(|error| TaskError::Failed(error.to_string()))?;
    Ok(Box::new(move |rng| {
        case(rng, &runtime)?;
        wild::case(rng, runtime.pack())
    }))
}

/// The ways to make a program ready for the interpreter. Where there is one dispatcher, both are it.
fn interp_options() -> Vec<interp::Options> {
    let mut all = Vec::new();
    for dispatcher in [Dispatcher::Loop, Dispatcher::Threaded] {
        for (fuse, fuel) in [(true, true), (true, false), (false, true), (false, false)] {
            let mut options = interp::Options::default();
            (options.dispatcher, options.fuse, options.fuel) = (Some(dispatcher), fuse, fuel);
            all.push(options);
        }
    }
    all
}

fn case(rng: &mut Rng, runtime: &Runtime) -> Result<(), String> {
    let program = program(rng)?;
    let end = Machine::new(&program, &[]).run().end;
    let (options, compiler) = (*rng.pick(&interp_options()), compiler(rng));
    let runtime = runtime.clone().with_interp(options).with_compiler(compiler);
    let run = || {
        let expected = end.map_err(|trap| format!("machine: {trap}"))?;
        checked(&program, expected, &runtime, compiler)?;
        for (engine, is_metered) in [(Engine::Interp, options.fuel), (Engine::Jit, compiler.fuel)] {
            verified(&program, expected, &runtime, engine, is_metered)?;
        }
        Ok(())
    };
    run().map_err(|wrong: String| {
        format!("{options:?}, {compiler:?}: {wrong}\n{}", program.listing())
    })
}

/// Runs a program on the engines that check each access.
fn checked(
    program: &Program,
    expected: u64,
    runtime: &Runtime,
    compiler: Compiler,
) -> Result<(), String> {
    let options = compiler.options().with_memory(MemoryMode::Checked);
    let interpreted = FlatProgram::new(program, FlatEngine::Interp, &[]);
    let compiled = FlatProgram::compiled(program, runtime.pack(), &[], &options);
    for (name, program) in [("interp", interpreted), ("jit", compiled)] {
        let program = program.map_err(|error| error.to_string())?;
        let end = program.run(&mut Block::new(&[]), &mut ExecEnv::new());
        if end != Ok(expected) {
            return Err(format!("{name}, checked: {end:x?}, not {expected:#x}, in"));
        }
    }
    Ok(())
}

/// Runs a program on an engine that does not check accesses, if the verifier accepts it.
fn verified(
    program: &Program,
    expected: u64,
    runtime: &Runtime,
    engine: Engine,
    is_metered: bool,
) -> Result<(), String> {
    let name = engine.name();
    let bindings = Bindings::new(xdp::kind());
    let loaded = match runtime.load(program, bindings, &Options::default(), engine) {
        Err(LoadError::Rejected(_)) => return Ok(()),
        other => other.map_err(|error| error.to_string())?,
    };
    let executed = Machine::new(&loaded.rewritten().program, &[]).run().executed as i64;
    let program = XdpProgram::new(loaded).map_err(|_| "not a program for XDP".to_string())?;
    let (ingress, mut env) = (Ingress { ifindex: 1, rx_queue: 0 }, ExecEnv::new());
    let end = program.run(&mut [0; 64], ingress, &mut env).map(|action| u64::from(action.0));
    let charged = i64::MAX - env.fuel.into_inner();
    if end != Ok(expected) || charged != if is_metered { executed } else { 0 } {
        return Err(format!(
            "{name}: {end:x?}, {charged} charged, not {expected:#x} for {executed}, in"
        ));
    }
    Ok(())
}

/// Any way to compile.
pub(super) fn compiler(rng: &mut Rng) -> Compiler {
    let seed = Blinding::Seed([rng.next_u64(), rng.next_u64()]);
    Compiler {
        fuel: rng.chance(1, 2),
        frame_pointers: rng.chance(1, 2),
        blinding: if rng.chance(1, 2) { seed } else { Blinding::Off },
        ..Compiler::default()
    }
}

/// A program that ends with all it computed folded into 32 bits of `r0`.
fn program(rng: &mut Rng) -> Result<Program, String> {
    let mut insns: Vec<Insn> = REGS.map(|reg| wide(reg, value(rng))).to_vec();
    for slot in 0..STACK / 8 {
        let src = Operand::Reg(*rng.pick(&REGS));
        insns.push(Insn::Store { size: Size::Dw, base: Reg::FP, off: stack_offset(slot), src });
    }
    for _ in 0..rng.range(1..40) {
        insns.push(insn(rng));
        // Few branches, or the verifier looks at too many paths.
        if rng.chance(1, 8) {
            insns.push(branch(rng));
        }
    }
    insns.extend(fold());
    Program::new(link(&insns), Default::default(), Default::default())
        .map_err(|error| error.to_string())
}

/// One element a slot, with branches that count the instructions they skip led to positions.
fn link(insns: &[Insn]) -> Vec<Option<Insn>> {
    let mut starts = vec![0];
    starts.extend(insns.iter().scan(0, |at, insn| {
        *at += insn.slots();
        Some(*at)
    }));
    let mut slots = Vec::new();
    for (index, &insn) in insns.iter().enumerate() {
        slots.push(Some(match insn {
            Insn::Branch { op, width, lhs, rhs, target } => {
                let target = Pc(starts[index + 1 + target.index()]);
                Insn::Branch { op, width, lhs, rhs, target }
            }
            other => other,
        }));
        slots.resize(starts[index + 1] as usize, None);
    }
    slots
}

const fn stack_offset(slot: u64) -> i16 {
    -8 * (slot as i16 + 1)
}

/// Everything goes into the result: registers, stack, and both halves.
fn fold() -> Vec<Insn> {
    let alu = |op, width, dst, src| Insn::Alu { op, width, dst, src };
    let add = |src| {
        [
            alu(AluOp::Mul, Width::W64, Reg::R0, Operand::Imm(31)),
            alu(AluOp::Add, Width::W64, Reg::R0, Operand::Reg(src)),
        ]
    };
    let mut insns: Vec<Insn> = REGS[1..].iter().flat_map(|&reg| add(reg)).collect();
    for slot in 0..STACK / 8 {
        let (size, extend, off) = (Size::Dw, Extend::Zero, stack_offset(slot));
        insns.push(Insn::Load { size, extend, dst: Reg::R1, base: Reg::FP, off });
        insns.extend(add(Reg::R1));
    }
    insns.push(Insn::Mov { width: Width::W64, dst: Reg::R1, src: Operand::Reg(Reg::R0) });
    insns.push(alu(AluOp::Rsh, Width::W64, Reg::R1, Operand::Imm(32)));
    insns.push(alu(AluOp::Xor, Width::W32, Reg::R0, Operand::Reg(Reg::R1)));
    insns.push(Insn::Exit);
    insns
}

/// Numbers that are often at the edges of their types.
fn value(rng: &mut Rng) -> u64 {
    let edge = *rng.pick(&[0, 1, 7, 31, 32, 63, 64, 0x7fff_ffff, 0x8000_0000, u64::MAX, 1 << 63]);
    match rng.range(0..4) {
        0 => rng.next_u64(),
        1 => edge.wrapping_neg(),
        2 => edge << 32 | rng.next_u64() >> 32,
        _ => edge,
    }
}

fn wide(dst: Reg, value: u64) -> Insn {
    Insn::LoadWide { dst, source: WideSource::Imm(Imm64::new(value)) }
}

fn operand(rng: &mut Rng) -> Operand {
    if rng.chance(1, 2) { Operand::Reg(*rng.pick(&REGS)) } else { Operand::Imm(value(rng) as i32) }
}

fn insn(rng: &mut Rng) -> Insn {
    let (dst, src, width) = (*rng.pick(&REGS), *rng.pick(&REGS), *rng.pick(&WIDTHS));
    let size = *rng.pick(Size::ALL);
    let off = -(size.bytes() as i16) * rng.range(1..STACK / u64::from(size.bytes())) as i16;
    match rng.range(0..16) {
        0 => Insn::Mov { width, dst, src: operand(rng) },
        1 => {
            let (width, from) =
                *rng.pick(&[(width, Size::B), (width, Size::H), (Width::W64, Size::W)]);
            Insn::MovSx { width, dst, src, from }
        }
        2 => Insn::Neg { width, dst },
        3 => {
            let size = *rng.pick(&[Size::H, Size::W, Size::Dw]);
            Insn::Swap { order: *rng.pick(ByteOrder::ALL), size, dst }
        }
        4 => wide(dst, value(rng)),
        5 => Insn::Store { size, base: Reg::FP, off, src: operand(rng) },
        6 => {
            let sign = size != Size::Dw && rng.chance(1, 2);
            let extend = if sign { Extend::Sign } else { Extend::Zero };
            Insn::Load { size, extend, dst, base: Reg::FP, off }
        }
        7 => {
            let (op, size) = (*rng.pick(AtomicOp::ALL), *rng.pick(&[Size::W, Size::Dw]));
            let fetch = op.always_fetches() || rng.chance(1, 2);
            let off = -8 * rng.range(1..STACK / 8) as i16;
            Insn::Atomic { op, size, fetch, base: Reg::FP, off, src }
        }
        _ => arithmetic(rng, dst, width),
    }
}

/// The verifier refuses immediate shifts by the width or more, and immediate divisors of zero.
fn arithmetic(rng: &mut Rng, dst: Reg, width: Width) -> Insn {
    let op = *rng.pick(AluOp::ALL);
    let src = match (op, operand(rng)) {
        (AluOp::Lsh | AluOp::Rsh | AluOp::Arsh, Operand::Imm(imm)) => {
            Operand::Imm(imm & (width.bits() as i32 - 1))
        }
        (AluOp::Div | AluOp::SDiv | AluOp::Mod | AluOp::SMod, Operand::Imm(0)) => Operand::Imm(-1),
        (_, src) => src,
    };
    Insn::Alu { op, width, dst, src }
}

/// A branch over a few instructions, of which the position counts how many.
fn branch(rng: &mut Rng) -> Insn {
    let (op, width) = (*rng.pick(CmpOp::ALL), *rng.pick(&WIDTHS));
    let (lhs, rhs) = (*rng.pick(&REGS), operand(rng));
    Insn::Branch { op, width, lhs, rhs, target: Pc(rng.range(0..6) as u32) }
}
