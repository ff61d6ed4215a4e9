//! Generated programs come to the same result, whatever dispatches them, fused or not, checked or
//! not, as instruction by instruction.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, HashSet};

use common::bytes_of;
use ebpf_interp::{Dispatcher, Links, Memory, Moment, Options, Vm};
use ebpf_isa::abi::{ExecEnv, Trap, TrapKind};
use ebpf_isa::{
    AluOp, ByteOrder, CmpOp, Extend, Imm64, Insn, Operand, Pc, Program, Reg, Size, WideSource,
    Width,
};
use ebpf_lower::lower;
use ebpf_testkit::Rng;

/// Numbers; `r1` is the context, `r9` a copy of it, `r10` the stack. The last one is not part of the
/// result, so that it may be dead.
const NUMBERS: [Reg; 8] = [Reg::R0, Reg::R2, Reg::R3, Reg::R4, Reg::R5, Reg::R6, Reg::R7, Reg::R8];
const WIDTHS: [Width; 2] = [Width::W32, Width::W64];
/// How many kinds of operations there are: the variants of [`Fused`](ebpf_lower::Fused).
const FUSED: usize = 13;
/// What programs that do not end would run for.
const FUEL: i64 = 3_000;

#[test]
fn the_dispatcher_is_the_expected_one() {
    let program = ebpf_isa::text::assemble("exit").unwrap();
    let vm = Vm::new(&program, None, &Links::default()).unwrap();
    match std::env::var("EXPECTED_DISPATCHER") {
        Ok(expected) => assert_eq!(format!("{:?}", vm.dispatcher()), expected),
        Err(_) => assert!([Dispatcher::Loop, Dispatcher::Threaded].contains(&vm.dispatcher())),
    }
}

#[test]
fn all_ways_of_running_a_program_agree() {
    let cases = if cfg!(miri) { 50 } else { 4_000 };
    let (mut kinds, mut fused) = (BTreeMap::new(), HashSet::new());
    // One for all runs: programs compute with its address.
    let mut context = CONTEXT;
    let context = &mut context;
    for seed in 0..cases {
        let program = program(&mut Rng::seed(seed));
        fused.extend(lower(&program).iter().map(|op| std::mem::discriminant(&op.op)));
        let wanted = stepped(&program, context);
        let kind = wanted.result.map_or_else(|trap| format!("{:?}", trap.kind), |_| "value".into());
        *kinds.entry(kind).or_insert(0) += 1;
        for options in all_options() {
            let vm = Vm::with_options(&program, None, &Links::default(), &options).unwrap();
            compare(&program, &options, checked(&vm, context), &wanted);
            let is_safe = match wanted.result {
                Ok(_) => true,
                Err(trap) => trap.kind == TrapKind::OutOfFuel,
            };
            if is_safe {
                // SAFETY: the checked run of the same program did no bad access.
                compare(&program, &options, unsafe { unchecked(&vm, context) }, &wanted);
            }
        }
    }
    // The generator reaches values, bad accesses and endless loops, and every kind of operation.
    assert!(cfg!(miri) || kinds.len() >= 3, "{kinds:?}");
    assert!(cfg!(miri) || fused.len() == FUSED, "{} kinds of operations", fused.len());
}

fn all_options() -> Vec<Options> {
    let mut all = Vec::new();
    for dispatcher in [Dispatcher::Loop, Dispatcher::Threaded] {
        for fuse in [false, true] {
            let mut options = Options::default();
            (options.dispatcher, options.fuse) = (Some(dispatcher), fuse);
            all.push(options);
        }
    }
    all
}

/// What can be seen of a run, apart from addresses of the stack.
#[derive(Debug, PartialEq)]
struct Seen {
    result: Result<u64, Trap>,
    context: [u64; 2],
    fuel: i64,
}

#[track_caller]
fn compare(program: &Program, options: &Options, got: Seen, wanted: &Seen) {
    let without_address =
        |seen: &Seen| (seen.result.map_err(|trap| (trap.kind, trap.pc)), seen.context, seen.fuel);
    let same = without_address(&got) == without_address(wanted);
    assert!(same, "{options:?}: {got:x?}, not {wanted:x?}, in\n{}", program.listing());
}

fn environment() -> ExecEnv {
    let mut env = ExecEnv::new();
    *env.fuel.get_mut() = FUEL;
    env
}

const CONTEXT: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

fn checked(vm: &Vm, context: &mut [u64; 2]) -> Seen {
    *context = CONTEXT;
    let mut env = environment();
    let result = {
        let mut memory = Memory::new();
        let ctx = memory.add_mut(bytes_of(context));
        vm.run(ctx, &memory, &mut env)
    };
    Seen { result, context: *context, fuel: env.fuel.into_inner() }
}

/// # Safety
/// The program does no bad access.
unsafe fn unchecked(vm: &Vm, context: &mut [u64; 2]) -> Seen {
    *context = CONTEXT;
    let mut env = environment();
    // SAFETY: the caller's promise.
    let result = unsafe { vm.run_unchecked((&raw mut *context).cast(), &mut env) };
    Seen { result, context: *context, fuel: env.fuel.into_inner() }
}

fn stepped(program: &Program, context: &mut [u64; 2]) -> Seen {
    let vm = Vm::new(program, None, &Links::default()).unwrap();
    *context = CONTEXT;
    let mut env = environment();
    let result = {
        let mut memory = Memory::new();
        let ctx = memory.add_mut(bytes_of(context));
        vm.start(ctx, &memory).resume_observed(&mut env, &mut |_: &Moment<'_>| {})
    };
    Seen { result, context: *context, fuel: env.fuel.into_inner() }
}

/// A program of pieces that are fused, pieces that look like it, and jumps between them.
fn program(rng: &mut Rng) -> Program {
    let mut insns = vec![mov(Reg::R9, Operand::Reg(Reg::R1))];
    for reg in NUMBERS {
        let value = Imm64::new(rng.next_u64() >> (rng.next_u64() % 64));
        insns.push(Insn::LoadWide { dst: reg, source: WideSource::Imm(value) });
    }
    for _ in 0..rng.range(1..24) {
        piece(rng, &mut insns);
    }
    for reg in &NUMBERS[1..NUMBERS.len() - 1] {
        insns.push(alu(AluOp::Mul, Width::W64, Reg::R0, Operand::Imm(31)));
        insns.push(alu(AluOp::Xor, Width::W64, Reg::R0, Operand::Reg(*reg)));
    }
    insns.push(Insn::Exit);
    link(rng, &insns)
}

/// Jumps hold anything so far: now the position of some instruction.
fn link(rng: &mut Rng, insns: &[Insn]) -> Program {
    let mut starts = Vec::new();
    let mut slots = Vec::new();
    for insn in insns {
        starts.push(slots.len() as u32);
        slots.push(Some(*insn));
        slots.resize(slots.len() + insn.slots() as usize - 1, None);
    }
    for (index, &start) in starts.iter().enumerate() {
        let near = |rng: &mut Rng| {
            let to = index as i64 + rng.range(0..16) as i64 - 3;
            Pc(starts[to.clamp(0, starts.len() as i64 - 1) as usize])
        };
        let slot = &mut slots[start as usize];
        if let Some(Insn::Branch { target, .. } | Insn::Jump { target, .. }) = slot {
            *target = near(rng);
        }
    }
    Program::new(slots, Default::default(), Default::default()).unwrap()
}

fn alu(op: AluOp, width: Width, dst: Reg, src: Operand) -> Insn {
    Insn::Alu { op, width, dst, src }
}

fn mov(dst: Reg, src: Operand) -> Insn {
    Insn::Mov { width: Width::W64, dst, src }
}

fn operand(rng: &mut Rng) -> Operand {
    if rng.chance(1, 2) {
        Operand::Reg(*rng.pick(&NUMBERS))
    } else {
        Operand::Imm(*rng.pick(&[0, 1, -1, 7, 31, 32, 63, 255, i32::MIN, i32::MAX]))
    }
}

fn piece(rng: &mut Rng, insns: &mut Vec<Insn>) {
    let [a, b, c] = [*rng.pick(&NUMBERS), *rng.pick(&NUMBERS), *rng.pick(&NUMBERS)];
    let width = *rng.pick(&WIDTHS);
    match rng.range(0..14) {
        0 => insns.push(alu(*rng.pick(AluOp::ALL), width, a, operand(rng))),
        1 => insns.push(Insn::Mov { width, dst: a, src: operand(rng) }),
        2 => insns.extend([load(rng, a), alu(*rng.pick(AluOp::ALL), width, b, Operand::Reg(a))]),
        3 => {
            let (size, base, off) = address(rng);
            insns.push(Insn::Store { size, base, off, src: operand(rng) });
        }
        4 => bytes(rng, insns),
        5 => {
            let bits = if width == Width::W64 { 64 } else { 32 };
            let by = rng.range(1..bits) as i32;
            let rest = if rng.chance(7, 8) { bits as i32 - by } else { 5 };
            insns.push(Insn::Mov { width, dst: a, src: Operand::Reg(b) });
            insns.push(alu(AluOp::Lsh, width, a, Operand::Imm(by)));
            insns.push(alu(AluOp::Rsh, width, b, Operand::Imm(rest)));
            insns.push(alu(
                *rng.pick(&[AluOp::Or, AluOp::Xor, AluOp::Add]),
                width,
                a,
                Operand::Reg(b),
            ));
            insns.push(alu(AluOp::Xor, width, c, Operand::Reg(a)));
        }
        6 => {
            insns.push(mov(a, Operand::Reg(*rng.pick(&[Reg::R1, Reg::R9, b]))));
            insns.push(alu(AluOp::And, Width::W64, b, Operand::Imm(7)));
            insns.push(alu(AluOp::Add, Width::W64, a, Operand::Reg(b)));
            insns.push(Insn::Load { size: Size::B, extend: Extend::Zero, dst: c, base: a, off: 1 });
        }
        7 => {
            insns.push(alu(AluOp::Add, width, a, Operand::Imm(rng.range(0..5) as i32 - 2)));
            insns.push(branch(rng, width, a));
        }
        8 => {
            let sum = *rng.pick(&[a, Reg::R8, Reg::R8]);
            insns.push(mov(sum, Operand::Reg(b)));
            insns.push(alu(
                AluOp::Add,
                Width::W64,
                sum,
                Operand::Imm(rng.range(0..40) as i32 - 20),
            ));
            let (lhs, rhs) = if rng.chance(3, 4) { (sum, c) } else { (c, sum) };
            let op = *rng.pick(&[CmpOp::Gt, CmpOp::Le, CmpOp::Lt, CmpOp::Ge, CmpOp::Sgt]);
            let (rhs, target) = (Operand::Reg(rhs), Pc::ENTRY);
            insns.push(Insn::Branch { op, width: Width::W64, lhs, rhs, target });
        }
        9 => {
            insns.push(branch(rng, width, a));
            insns.push(Insn::Mov { width, dst: Reg::R0, src: operand(rng) });
            insns.push(Insn::Exit);
        }
        10 => insns.extend([load(rng, a), alu(AluOp::And, width, a, operand(rng))]),
        11 => {
            let (size, base, off) = address(rng);
            insns.push(Insn::Load { size, extend: Extend::Zero, dst: a, base, off });
            let order = *rng.pick(&[ByteOrder::Be, ByteOrder::Le, ByteOrder::Swap]);
            let size = if size == Size::B { Size::H } else { size };
            insns.push(Insn::Swap { order, size, dst: a });
        }
        12 => {
            let (_, base, off) = address(rng);
            for (dst, off) in [(a, off), (b, off ^ 8)] {
                insns.push(Insn::Load { size: Size::Dw, extend: Extend::Zero, dst, base, off });
            }
        }
        _ => {
            let by = *rng.pick(&[32, 48, 56, 8]);
            insns.push(alu(AluOp::Lsh, Width::W64, a, Operand::Imm(by)));
            let back = *rng.pick(&[AluOp::Rsh, AluOp::Arsh]);
            insns.push(alu(back, Width::W64, a, Operand::Imm(by)));
            insns.push(load(rng, b));
            insns.push(branch(rng, width, b));
        }
    }
}

fn branch(rng: &mut Rng, width: Width, lhs: Reg) -> Insn {
    let (op, rhs) = (*rng.pick(CmpOp::ALL), operand(rng));
    Insn::Branch { op, width, lhs, rhs, target: Pc::ENTRY }
}

/// Mostly inside of the context or the frame.
fn address(rng: &mut Rng) -> (Size, Reg, i16) {
    let size = *rng.pick(Size::ALL);
    match rng.range(0..40) {
        0 => (size, *rng.pick(&NUMBERS), 0),
        1 => (size, Reg::R1, rng.range(0..40) as i16 - 12),
        2..20 => (size, *rng.pick(&[Reg::R1, Reg::R9]), rng.range(0..9) as i16),
        _ => (size, Reg::R10, -8 - rng.range(0..40) as i16),
    }
}

fn load(rng: &mut Rng, dst: Reg) -> Insn {
    let (size, base, off) = address(rng);
    Insn::Load { size, extend: Extend::Zero, dst, base, off }
}

/// Two, four or eight bytes put together, with something in between at times.
fn bytes(rng: &mut Rng, insns: &mut Vec<Insn>) {
    let count = *rng.pick(&[2, 4, 8]);
    let (whole, piece, base) = (*rng.pick(&NUMBERS), *rng.pick(&NUMBERS), Reg::R1);
    let swapped = rng.chance(1, 2);
    let first = rng.range(0..12) as i16;
    for place in 0..count {
        let off = first + if swapped { count - 1 - place } else { place };
        let dst = if place == 0 { whole } else { piece };
        insns.push(Insn::Load { size: Size::B, extend: Extend::Zero, dst, base, off });
        if rng.chance(1, 12) {
            insns.push(alu(AluOp::Add, Width::W64, *rng.pick(&NUMBERS), operand(rng)));
        }
        if place > 0 {
            insns.push(alu(AluOp::Lsh, Width::W64, piece, Operand::Imm(8 * i32::from(place))));
            insns.push(alu(AluOp::Or, Width::W64, whole, Operand::Reg(piece)));
        }
    }
}
