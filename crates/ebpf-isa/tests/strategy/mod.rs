//! Generators of instructions and programs.

use std::collections::BTreeMap;

use ebpf_isa::uapi::HelperId;
use ebpf_isa::{
    AluOp, AtomicOp, ByteOrder, CallTarget, CmpOp, Extend, Imm64, Insn, LineTable, MapForm, MapIdx,
    Operand, Pc, Program, Reg, Size, SubprogInfo, WideSource, Width,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

fn reg() -> impl Strategy<Value = Reg> {
    select(&Reg::ALL)
}

fn width() -> impl Strategy<Value = Width> {
    select(&[Width::W32, Width::W64])
}

fn size() -> impl Strategy<Value = Size> {
    select(Size::ALL)
}

fn operand() -> impl Strategy<Value = Operand> {
    prop_oneof![reg().prop_map(Operand::Reg), imm().prop_map(Operand::Imm)]
}

fn imm() -> impl Strategy<Value = i32> {
    prop_oneof![any::<i32>(), select(&[0, 1, -1, i32::MIN, i32::MAX])]
}

/// Targets that the offset field of a conditional jump at `at` reaches.
fn near(at: Pc) -> impl Strategy<Value = Pc> {
    any::<i16>().prop_filter_map("before the program", move |off| at.jump(off.into()))
}

/// Targets that a 32-bit offset at `at` reaches.
fn far(at: Pc) -> impl Strategy<Value = Pc> {
    any::<i32>().prop_filter_map("before the program", move |off| at.jump(off.into()))
}

fn arithmetic() -> impl Strategy<Value = Insn> {
    let signed =
        || prop_oneof![(width(), select(&[Size::B, Size::H])), Just((Width::W64, Size::W)),];
    prop_oneof![
        4 => (select(AluOp::ALL), width(), reg(), operand())
            .prop_map(|(op, width, dst, src)| Insn::Alu { op, width, dst, src }),
        1 => (width(), reg(), operand()).prop_map(|(width, dst, src)| Insn::Mov { width, dst, src }),
        1 => (signed(), reg(), reg())
            .prop_map(|((width, from), dst, src)| Insn::MovSx { width, dst, src, from }),
        1 => (width(), reg()).prop_map(|(width, dst)| Insn::Neg { width, dst }),
        1 => (select(ByteOrder::ALL), select(&[Size::H, Size::W, Size::Dw]), reg())
            .prop_map(|(order, size, dst)| Insn::Swap { order, size, dst }),
        1 => (reg(), reg(), any::<u16>(), 1..=u16::MAX)
            .prop_map(|(dst, src, to, from)| Insn::AddrSpaceCast { dst, src, to, from }),
    ]
}

fn loads_and_stores() -> impl Strategy<Value = Insn> {
    let extended = prop_oneof![
        size().prop_map(|size| (size, Extend::Zero)),
        select(&[Size::B, Size::H, Size::W]).prop_map(|size| (size, Extend::Sign)),
    ];
    prop_oneof![
        (extended, reg(), reg(), any::<i16>()).prop_map(|((size, extend), dst, base, off)| {
            Insn::Load { size, extend, dst, base, off }
        }),
        (size(), reg(), any::<i16>(), operand()).prop_map(|(size, base, off, src)| Insn::Store {
            size,
            base,
            off,
            src
        }),
        (select(&[Size::B, Size::H, Size::W]), option::of(reg()), imm())
            .prop_map(|(size, index, imm)| Insn::LoadPacket { size, index, imm }),
    ]
}

fn atomics() -> impl Strategy<Value = Insn> {
    prop_oneof![
        4 => (select(AtomicOp::ALL), select(&[Size::W, Size::Dw]), any::<bool>(), reg(), reg(), any::<i16>())
            .prop_map(|(op, size, fetch, base, src, off)| {
                Insn::Atomic { op, size, fetch: fetch || op.always_fetches(), base, off, src }
            }),
        1 => (size(), reg(), reg(), any::<i16>())
            .prop_map(|(size, dst, base, off)| Insn::LoadAcquire { size, dst, base, off }),
        1 => (size(), reg(), reg(), any::<i16>())
            .prop_map(|(size, src, base, off)| Insn::StoreRelease { size, base, off, src }),
    ]
}

fn wide(at: Pc) -> impl Strategy<Value = Insn> {
    let form = || select(&[MapForm::Fd, MapForm::Idx]);
    let map = || any::<u32>().prop_map(MapIdx);
    let source = prop_oneof![
        2 => any::<u64>().prop_map(|imm| WideSource::Imm(Imm64::new(imm))),
        1 => (map(), form()).prop_map(|(map, form)| WideSource::Map(map, form)),
        1 => (map(), any::<u32>(), form())
            .prop_map(|(map, offset, form)| WideSource::MapValue(map, offset, form)),
        1 => any::<(u32, u32)>().prop_map(|(id, module)| WideSource::Btf { id, module }),
        1 => any::<u32>().prop_map(|id| WideSource::Btf { id, module: 0 }),
        1 => far(at).prop_map(WideSource::Func),
    ];
    (reg(), source).prop_map(|(dst, source)| Insn::LoadWide { dst, source })
}

fn control(at: Pc) -> impl Strategy<Value = Insn> {
    let callee = prop_oneof![
        (0..250_u32).prop_map(|number| CallTarget::Helper(HelperId(number))),
        any::<u32>().prop_map(|number| CallTarget::Helper(HelperId(number))),
        far(at).prop_map(CallTarget::Subprog),
        any::<(u32, i16)>().prop_map(|(btf_id, module)| CallTarget::Kfunc { btf_id, module }),
        any::<u32>().prop_map(|btf_id| CallTarget::Kfunc { btf_id, module: 0 }),
    ];
    prop_oneof![
        1 => near(at).prop_map(|target| Insn::Jump { target, long: false }),
        1 => far(at).prop_map(|target| Insn::Jump { target, long: true }),
        1 => near(at).prop_map(|target| Insn::MayGoto { target }),
        4 => (select(CmpOp::ALL), width(), reg(), operand(), near(at)).prop_map(
            |(op, width, lhs, rhs, target)| Insn::Branch { op, width, lhs, rhs, target }
        ),
        2 => callee.prop_map(Insn::Call),
        1 => Just(Insn::Exit),
    ]
}

/// Every form that has an encoding, at a position.
pub(crate) fn insn(at: Pc) -> impl Strategy<Value = Insn> {
    prop_oneof![
        3 => arithmetic(),
        2 => loads_and_stores(),
        1 => atomics(),
        1 => wide(at),
        2 => control(at),
    ]
}

/// Sound programs of up to four subprograms, each with or without a name.
pub(crate) fn program() -> impl Strategy<Value = Program> {
    program_of(|_| true)
}

/// The same, of instructions that are wanted.
pub(crate) fn program_of(wanted: fn(&Insn) -> bool) -> impl Strategy<Value = Program> {
    let insn = insn(Pc(1 << 20)).prop_filter("not wanted", wanted);
    let body = vec(insn, 0..16);
    vec((body, any::<bool>()), 1..=4).prop_map(link)
}

fn link(bodies: Vec<(Vec<Insn>, bool)>) -> Program {
    let mut subprogs = Vec::new();
    let mut slots: Vec<Option<Insn>> = Vec::new();
    for (body, _) in &bodies {
        let mut starts = Vec::new();
        for &insn in body.iter().chain([&Insn::Exit]) {
            starts.push(Pc(slots.len() as u32));
            slots.push(Some(insn));
            slots.resize(slots.len() - 1 + insn.slots() as usize, None);
        }
        subprogs.push(starts);
    }
    let entries: Vec<Pc> = subprogs.iter().map(|starts| starts[0]).collect();
    for starts in &subprogs {
        for &at in starts {
            slots[at.index()] = slots[at.index()].map(|insn| with_targets(insn, starts, &entries));
        }
    }
    let called = |at: &Pc| {
        *at == Pc::ENTRY || slots.iter().flatten().any(|insn| insn.subprog_ref() == Some(*at))
    };
    let named = entries.iter().zip(&bodies).filter(|(at, (_, named))| *named && called(at));
    let infos: BTreeMap<_, _> = named
        .map(|(&at, _)| (at, SubprogInfo { name: Some(format!("sub_{at}")), btf_id: None }))
        .collect();
    Program::new(slots, infos, LineTable::new()).expect("sound by construction")
}

/// The instruction with its jump in its own subprogram, and its call at the start of one.
fn with_targets(insn: Insn, starts: &[Pc], entries: &[Pc]) -> Insn {
    let one_of = |targets: &[Pc], seed: Pc| targets[seed.index() % targets.len()];
    match insn {
        Insn::Jump { target, long } => Insn::Jump { target: one_of(starts, target), long },
        Insn::MayGoto { target } => Insn::MayGoto { target: one_of(starts, target) },
        Insn::Branch { op, width, lhs, rhs, target } => {
            Insn::Branch { op, width, lhs, rhs, target: one_of(starts, target) }
        }
        Insn::Call(CallTarget::Subprog(target)) => {
            Insn::Call(CallTarget::Subprog(one_of(entries, target)))
        }
        Insn::LoadWide { dst, source: WideSource::Func(target) } => {
            Insn::LoadWide { dst, source: WideSource::Func(one_of(entries, target)) }
        }
        other => other,
    }
}
