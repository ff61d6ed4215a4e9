//! Any program gets a verdict, and what is accepted can be rewritten.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use ebpf_isa::uapi::{HelperId, MapDesc, MapType};
use ebpf_isa::{
    AluOp, AtomicOp, ByteOrder, CallTarget, CmpOp, Extend, Insn, LineTable, MapForm, MapIdx,
    Operand, Pc, Program, Reg, Size, WideSource, Width,
};
use ebpf_verifier::{
    ContextAccessInsn, Environment, HostField, MapInfo, Options, RewriteError, RewriteHooks,
    program_types, verify,
};
use proptest::prelude::*;
use proptest::sample::select;

fn reg() -> impl Strategy<Value = Reg> {
    select(&Reg::ALL[..])
}

fn operand() -> impl Strategy<Value = Operand> {
    let imm = prop_oneof![-32..32, select(vec![i32::MIN, i32::MAX, 255, 65535]), any::<i32>()];
    prop_oneof![reg().prop_map(Operand::Reg), imm.prop_map(Operand::Imm)]
}

fn width() -> impl Strategy<Value = Width> {
    select(vec![Width::W32, Width::W64])
}

fn off() -> impl Strategy<Value = i16> {
    prop_oneof![-32..32_i16, -520..=520_i16, any::<i16>()]
}

fn arithmetic() -> impl Strategy<Value = Insn> {
    prop_oneof![
        (select(AluOp::ALL), width(), reg(), operand())
            .prop_map(|(op, width, dst, src)| Insn::Alu { op, width, dst, src }),
        (width(), reg(), operand()).prop_map(|(width, dst, src)| Insn::Mov { width, dst, src }),
        (reg(), reg(), select(vec![Size::B, Size::H, Size::W]))
            .prop_map(|(dst, src, from)| { Insn::MovSx { width: Width::W64, dst, src, from } }),
        (width(), reg()).prop_map(|(width, dst)| Insn::Neg { width, dst }),
        (select(ByteOrder::ALL), select(vec![Size::H, Size::W, Size::Dw]), reg())
            .prop_map(|(order, size, dst)| Insn::Swap { order, size, dst }),
    ]
}

fn memory() -> impl Strategy<Value = Insn> {
    let extend = select(vec![Extend::Zero, Extend::Sign]);
    prop_oneof![
        (select(Size::ALL), extend, reg(), reg(), off()).prop_map(
            |(size, extend, dst, base, off)| {
                let extend = if size == Size::Dw { Extend::Zero } else { extend };
                Insn::Load { size, extend, dst, base, off }
            }
        ),
        (select(Size::ALL), reg(), off(), operand())
            .prop_map(|(size, base, off, src)| Insn::Store { size, base, off, src }),
        (
            select(AtomicOp::ALL),
            any::<bool>(),
            select(vec![Size::W, Size::Dw]),
            reg(),
            off(),
            reg()
        )
            .prop_map(|(op, fetch, size, base, off, src)| {
                let fetch = fetch || op.always_fetches();
                Insn::Atomic { op, size, fetch, base, off, src }
            }),
    ]
}

/// Targets are numbers of instructions, made positions later.
fn control() -> impl Strategy<Value = Insn> {
    let helper = select(vec![1, 2, 3, 5, 7, 28, 44, 189, 190, 4, 9999]);
    prop_oneof![
        4 => (select(CmpOp::ALL), width(), reg(), operand(), 0..64_u32).prop_map(
            |(op, width, lhs, rhs, target)| Insn::Branch { op, width, lhs, rhs, target: Pc(target) }
        ),
        1 => (0..64_u32).prop_map(|target| Insn::Jump { target: Pc(target), long: false }),
        3 => helper.prop_map(|id| Insn::Call(CallTarget::Helper(HelperId(id)))),
        2 => (reg(), 0..4_u32)
            .prop_map(|(dst, map)| wide(dst, WideSource::Map(MapIdx(map), MapForm::Fd))),
        1 => (reg(), 0..20_u32)
            .prop_map(|(dst, at)| wide(dst, WideSource::MapValue(MapIdx(1), at, MapForm::Fd))),
    ]
}

fn wide(dst: Reg, source: WideSource) -> Insn {
    Insn::LoadWide { dst, source }
}

/// A program that begins with all registers initialised and ends properly.
fn program() -> impl Strategy<Value = Program> {
    let insn = prop_oneof![2 => arithmetic(), 2 => memory(), 1 => control()];
    proptest::collection::vec(insn, 1..40).prop_map(|body| {
        let zero = |dst| Insn::Mov { width: Width::W64, dst, src: Operand::Imm(0) };
        let zeroed = Reg::ALL.into_iter().filter(|&reg| reg != Reg::R1 && reg != Reg::FP);
        let mut insns: Vec<Insn> = zeroed.map(zero).chain(body).collect();
        insns.extend([zero(Reg::R0), Insn::Exit]);
        assemble(&insns)
    })
}

fn assemble(insns: &[Insn]) -> Program {
    let mut positions = Vec::new();
    let mut slots = Vec::new();
    for insn in insns {
        positions.push(Pc(slots.len() as u32));
        slots.push(Some(*insn));
        slots.resize(slots.len() + insn.slots() as usize - 1, None);
    }
    for insn in slots.iter_mut().flatten() {
        if let Insn::Branch { target, .. } | Insn::Jump { target, .. } = insn {
            *target = positions[target.index() % positions.len()];
        }
    }
    Program::new(slots, Default::default(), LineTable::new()).unwrap()
}

struct AsIs;

impl RewriteHooks for AsIs {
    fn context_field(&self, access: &ContextAccessInsn) -> Result<HostField, RewriteError> {
        let off = i16::try_from(access.offset).map_err(|_| access.unsupported())?;
        Ok(HostField::whole(access.offset, access.size, off, access.size))
    }
}

fn environment() -> Environment {
    let map = |map_type, key_size, max_entries| {
        MapInfo::new("map", MapDesc { map_type, key_size, value_size: 16, max_entries, flags: 0 })
    };
    let mut env = Environment::new(program_types::xdp());
    env.maps = vec![map(MapType::Hash, 8, 64), map(MapType::Array, 4, 1)];
    env.maps.push(map(MapType::Queue, 0, 4));
    env
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_program_gets_a_verdict(program in program()) {
        let mut options = Options::default();
        options.max_processed = Some(5_000);
        match verify(&program, &environment(), &options) {
            Ok(verified) => {
                let rewritten = verified.rewrite(&AsIs);
                prop_assert!(rewritten.is_ok(), "{:?}", rewritten);
            }
            Err(rejection) => {
                prop_assert!(!rejection.message.is_empty());
                prop_assert!(rejection.stats.processed <= 5_001);
            }
        }
    }

    #[test]
    fn no_way_of_exploring_finds_a_fault_in_what_is_accepted(program in program()) {
        let accepted = verify(&program, &environment(), &Options::default()).is_ok();
        for options in support::other_ways(20_000) {
            match verify(&program, &environment(), &options) {
                Err(rejection) if accepted && !support::is_limit(&rejection) => {
                    return Err(TestCaseError::fail(format!("{options:?}: {rejection}")));
                }
                _ => {}
            }
        }
    }
}
