//! Unverified programs, most of which no verifier would let pass: both checked engines give the same
//! value or trap, leave the same memory, and use the same fuel.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ebpf_runtime::flat::{Block, FlatEngine, FlatProgram};
use ebpf_runtime::isa::abi::ExecEnv;
use ebpf_runtime::isa::{
    AluOp, AtomicOp, CallTarget, CmpOp, Extend, Insn, LineTable, Operand, Pc, Program, Reg, Size,
    Width,
};
use ebpf_runtime::pack::{Pack, PackOptions};
use proptest::prelude::*;
use proptest::sample::select;

const BLOCK: usize = 64;
/// Holds numbers and the block's address, never that of a stack: it would differ.
const NUMBERS: [Reg; 8] = [Reg::R0, Reg::R2, Reg::R3, Reg::R4, Reg::R5, Reg::R6, Reg::R7, Reg::R8];

/// An instruction of a function, with jumps and calls by where they go in relation to it.
#[derive(Debug, Clone, Copy)]
enum Item {
    Insn(Insn),
    /// Goes to the instruction of the function that this number leads to.
    Jump(u16),
    Branch(CmpOp, Width, Reg, Operand, u16),
    /// Calls the next function.
    Call,
}

fn number() -> impl Strategy<Value = Reg> {
    select(&NUMBERS[..])
}

fn operand() -> impl Strategy<Value = Operand> {
    let imm = select(vec![0, 1, -1, 2, 8, 63, 200, i32::MAX, i32::MIN]);
    prop_oneof![number().prop_map(Operand::Reg), imm.prop_map(Operand::Imm)]
}

fn width() -> impl Strategy<Value = Width> {
    select(vec![Width::W32, Width::W64])
}

/// Mostly inside of the block or the frame, some at their limits, a few anywhere.
fn address() -> impl Strategy<Value = (Reg, i16)> {
    prop_oneof![
        8 => (0..BLOCK as i16 - 8).prop_map(|off| (Reg::R1, off & !7)),
        8 => (1..=64i16).prop_map(|slot| (Reg::R10, -8 * slot)),
        2 => (-9..BLOCK as i16 + 9).prop_map(|off| (Reg::R1, off)),
        2 => select(vec![-513, -512, -505, -8, -7, -1, 0, 504, 505]).prop_map(|off| (Reg::R10, off)),
        1 => (number(), any::<i16>()),
    ]
}

fn access() -> impl Strategy<Value = Insn> {
    let size = || select(Size::ALL);
    let wide = select(vec![Size::W, Size::Dw]);
    let extend = select(vec![Extend::Zero, Extend::Sign]);
    prop_oneof![
        3 => (size(), extend, number(), address()).prop_map(|(size, extend, dst, (base, off))| {
            Insn::Load { size, extend, dst, base, off }
        }),
        3 => (size(), address(), operand()).prop_map(|(size, (base, off), src)| {
            Insn::Store { size, base, off, src }
        }),
        1 => (size(), number(), address())
            .prop_map(|(size, dst, (base, off))| Insn::LoadAcquire { size, dst, base, off }),
        1 => (size(), number(), address())
            .prop_map(|(size, src, (base, off))| Insn::StoreRelease { size, base, off, src }),
        1 => (select(AtomicOp::ALL), wide, any::<bool>(), number(), address()).prop_map(
            |(op, size, fetch, src, (base, off))| {
                let fetch = fetch || matches!(op, AtomicOp::Xchg | AtomicOp::Cmpxchg);
                Insn::Atomic { op, size, fetch, base, off, src }
            }
        ),
    ]
}

fn item() -> impl Strategy<Value = Item> {
    let alu = (select(AluOp::ALL), width(), number(), operand())
        .prop_map(|(op, width, dst, src)| Item::Insn(Insn::Alu { op, width, dst, src }));
    let mov = (width(), number(), operand())
        .prop_map(|(width, dst, src)| Item::Insn(Insn::Mov { width, dst, src }));
    let branch = (select(CmpOp::ALL), width(), number(), operand(), any::<u16>())
        .prop_map(|(op, width, lhs, rhs, to)| Item::Branch(op, width, lhs, rhs, to));
    prop_oneof![
        3 => alu,
        2 => mov,
        6 => access().prop_map(Item::Insn),
        3 => branch,
        1 => any::<u16>().prop_map(Item::Jump),
        2 => Just(Item::Call),
    ]
}

/// A program of these functions, each ended by an exit; the last one calls itself.
fn program(functions: &[Vec<Item>]) -> Program {
    let mut starts = vec![0];
    for function in functions {
        starts.push(starts.last().unwrap() + function.len() as u32 + 1);
    }
    let mut insns = Vec::new();
    for (index, function) in functions.iter().enumerate() {
        let goal = |to: u16| Pc(starts[index] + u32::from(to) % (function.len() as u32 + 1));
        let callee = Pc(starts[(index + 1).min(functions.len() - 1)]);
        insns.extend(function.iter().map(|&item| match item {
            Item::Insn(insn) => insn,
            Item::Jump(to) => Insn::Jump { target: goal(to), long: false },
            Item::Branch(op, width, lhs, rhs, to) => {
                Insn::Branch { op, width, lhs, rhs, target: goal(to) }
            }
            Item::Call => Insn::Call(CallTarget::Subprog(callee)),
        }));
        insns.push(Insn::Exit);
    }
    let slots = insns.into_iter().map(Some).collect();
    Program::new(slots, Default::default(), LineTable::new()).unwrap()
}

/// What can be seen of a run; the address of a trap may be one of a stack.
type Seen = (Result<u64, String>, Vec<u8>, i64);

fn seen(program: &Program, engine: FlatEngine<'_>, block: &mut Block, fuel: i64) -> Seen {
    for (byte, value) in block.bytes_mut().iter_mut().zip(0x80..) {
        *byte = value;
    }
    let mut env = ExecEnv::new();
    *env.fuel.get_mut() = fuel;
    let result = FlatProgram::new(program, engine, &[]).unwrap().run(block, &mut env);
    let result = result.map_err(|trap| format!("{:?} @{}", trap.kind, trap.pc));
    (result, block.bytes_mut().to_vec(), env.fuel.into_inner())
}

#[test]
fn a_trap_is_not_remembered() {
    let pack = Pack::new(PackOptions::default()).unwrap();
    let program = |text| ebpf_runtime::isa::text::assemble(text).unwrap();
    for engine in [FlatEngine::Interp, FlatEngine::Jit(&pack)] {
        let bad = FlatProgram::new(&program("r0 = *(u8 *)(r1 +1)\nexit"), engine, &[]).unwrap();
        let good = FlatProgram::new(&program("r0 = 3\nexit"), engine, &[]).unwrap();
        let (mut block, mut env) = (Block::new(&[0]), ExecEnv::new());
        assert!(bad.run(&mut block, &mut env).is_err());
        assert_eq!(good.run(&mut block, &mut env), Ok(3));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn both_checked_engines_agree(
        functions in prop::collection::vec(prop::collection::vec(item(), 0..24), 2..5),
        fuel in select(vec![0, 1, 20, 300, 5_000, 40_000]),
    ) {
        thread_local!(static PACK: Pack = Pack::new(PackOptions::default()).unwrap());
        let program = program(&functions);
        let mut block = Block::new(&[0; BLOCK]);
        let wanted = seen(&program, FlatEngine::Interp, &mut block, fuel);
        let got = PACK.with(|pack| seen(&program, FlatEngine::Jit(pack), &mut block, fuel));
        prop_assert_eq!(got, wanted);
    }
}
