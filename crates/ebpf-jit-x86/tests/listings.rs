//! Listings by instruction family: what each form becomes. `INSTA_UPDATE=always` rewrites them.

use std::collections::BTreeMap;

use Operand::{Imm, Reg as R};
use Reg::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10};
use Width::{W32, W64};
use ebpf_isa::uapi::HelperId;
use ebpf_isa::{
    AluOp, AtomicOp, ByteOrder, CallTarget, CmpOp, Extend, Facts, Imm64, Insn, LineTable, MapForm,
    MapIdx, Operand, Pc, Program, Reg, Size, SubprogFacts, SubprogInfo, WideSource, Width,
};
use ebpf_jit_x86::{Listing, Options, compile};

fn program(insns: &[Insn], names: &[(u32, &str)]) -> Program {
    let second_slot = |insn: &Insn| (insn.slots() == 2).then_some(None);
    let slots = insns.iter().flat_map(|insn| [Some(Some(*insn)), second_slot(insn)]).flatten();
    let info = |&(pc, name): &(u32, &str)| {
        (Pc(pc), SubprogInfo { name: Some(name.into()), ..SubprogInfo::default() })
    };
    let infos: BTreeMap<_, _> = names.iter().map(info).collect();
    Program::new(slots.collect(), infos, LineTable::new()).expect("a sound program")
}

fn listing(program: &Program, facts: Option<&Facts>) -> String {
    listing_with(program, facts, &Options::default())
}

fn listing_with(program: &Program, facts: Option<&Facts>, options: &Options) -> String {
    let image = compile(program, facts, options).expect("nothing unsupported");
    Listing::new(program, &image).to_string()
}

/// The listing of these instructions, ended by an exit, with checked memory; without the entry and
/// the routines, which are always the same.
fn checked(insns: &[Insn]) -> String {
    let mut insns = insns.to_vec();
    insns.push(Insn::Exit);
    of_subprograms(&listing_with(&program(&insns, &[]), None, &Options::checked()))
}

/// A listing without the entry and the routines, which are always the same.
fn of_subprograms(listing: &str) -> String {
    let frame = listing.find("      frame").or(listing.find("   0: "));
    let frame = frame.expect("there is a first instruction");
    listing[frame..].to_string()
}

/// The listing of these instructions, ended by an exit.
fn of(insns: &[Insn]) -> String {
    let mut insns = insns.to_vec();
    insns.push(Insn::Exit);
    listing(&program(&insns, &[]), None)
}

fn alu(op: AluOp, width: Width, dst: Reg, src: Operand) -> Insn {
    Insn::Alu { op, width, dst, src }
}

fn mov(width: Width, dst: Reg, src: Operand) -> Insn {
    Insn::Mov { width, dst, src }
}

fn load(size: Size, extend: Extend, dst: Reg, base: Reg, off: i16) -> Insn {
    Insn::Load { size, extend, dst, base, off }
}

fn store(size: Size, base: Reg, off: i16, src: Operand) -> Insn {
    Insn::Store { size, base, off, src }
}

fn branch(op: CmpOp, width: Width, lhs: Reg, rhs: Operand, target: u32) -> Insn {
    Insn::Branch { op, width, lhs, rhs, target: Pc(target) }
}

fn helper(id: HelperId) -> Insn {
    Insn::Call(CallTarget::Helper(id))
}

fn subprog(pc: u32) -> Insn {
    Insn::Call(CallTarget::Subprog(Pc(pc)))
}

#[test]
fn moves() {
    insta::assert_snapshot!(of(&[
        mov(W64, R6, R(R1)),
        mov(W64, R1, R(R1)),
        mov(W32, R1, R(R1)),
        mov(W32, R9, R(R5)),
        mov(W64, R0, Imm(0)),
        mov(W64, R8, Imm(1)),
        mov(W64, R1, Imm(-1)),
        mov(W32, R1, Imm(-1)),
        Insn::MovSx { width: W64, dst: R0, src: R1, from: Size::B },
        Insn::MovSx { width: W32, dst: R0, src: R4, from: Size::B },
        Insn::MovSx { width: W32, dst: R5, src: R1, from: Size::H },
        Insn::MovSx { width: W64, dst: R1, src: R9, from: Size::W },
    ]));
}

#[test]
fn wide_loads() {
    let wide = |dst, source| Insn::LoadWide { dst, source };
    let imm = |value| WideSource::Imm(Imm64::new(value));
    let map = MapIdx(2);
    insta::assert_snapshot!(of(&[
        wide(R1, imm(0)),
        wide(R1, imm(0xffff_ffff)),
        wide(R1, imm(0xffff_ffff_8000_0000)),
        wide(R8, imm(0x1122_3344_5566_7788)),
        wide(R1, WideSource::Map(map, MapForm::Fd)),
        wide(R9, WideSource::MapValue(map, 16, MapForm::Fd)),
    ]));
}

#[test]
fn arithmetic() {
    insta::assert_snapshot!(of(&[
        alu(AluOp::Add, W64, R1, R(R2)),
        alu(AluOp::Add, W32, R1, R(R2)),
        alu(AluOp::Sub, W64, R8, R(R10)),
        alu(AluOp::Add, W64, R7, Imm(127)),
        alu(AluOp::Add, W64, R7, Imm(128)),
        alu(AluOp::Or, W64, R0, Imm(0x1000)),
        alu(AluOp::Xor, W32, R0, Imm(0x1000)),
        alu(AluOp::And, W64, R1, Imm(0xff)),
        alu(AluOp::And, W64, R1, Imm(-8)),
        Insn::Neg { width: W32, dst: R3 },
        Insn::Neg { width: W64, dst: R9 },
    ]));
}

#[test]
fn shifts() {
    insta::assert_snapshot!(of(&[
        alu(AluOp::Lsh, W64, R1, Imm(1)),
        alu(AluOp::Rsh, W32, R8, Imm(31)),
        alu(AluOp::Arsh, W32, R2, Imm(32)),
        alu(AluOp::Arsh, W64, R2, Imm(64)),
        alu(AluOp::Lsh, W64, R1, R(R4)),
        alu(AluOp::Rsh, W32, R4, R(R4)),
        alu(AluOp::Arsh, W64, R1, R(R2)),
        alu(AluOp::Lsh, W32, R4, R(R2)),
    ]));
}

#[test]
fn multiplication_and_division() {
    insta::assert_snapshot!(of(&[
        alu(AluOp::Mul, W64, R1, R(R9)),
        alu(AluOp::Mul, W32, R1, Imm(10)),
        alu(AluOp::Mul, W64, R8, Imm(1000)),
        alu(AluOp::Div, W64, R1, R(R2)),
        alu(AluOp::Div, W32, R0, Imm(10)),
        alu(AluOp::Mod, W32, R3, R(R0)),
        alu(AluOp::SDiv, W64, R6, R(R3)),
        alu(AluOp::SMod, W32, R0, R(R1)),
        alu(AluOp::Div, W64, R1, Imm(0)),
        alu(AluOp::Mod, W32, R1, Imm(0)),
        alu(AluOp::SDiv, W64, R1, Imm(-1)),
        alu(AluOp::SMod, W64, R1, Imm(-1)),
    ]));
}

#[test]
fn byte_swaps() {
    let swap = |order, size, dst| Insn::Swap { order, size, dst };
    insta::assert_snapshot!(of(&[
        swap(ByteOrder::Be, Size::H, R1),
        swap(ByteOrder::Be, Size::W, R8),
        swap(ByteOrder::Swap, Size::Dw, R0),
        swap(ByteOrder::Le, Size::H, R2),
        swap(ByteOrder::Le, Size::W, R2),
        swap(ByteOrder::Le, Size::Dw, R2),
    ]));
}

#[test]
fn memory() {
    insta::assert_snapshot!(of(&[
        load(Size::B, Extend::Zero, R0, R1, 0),
        load(Size::H, Extend::Zero, R0, R10, -2),
        load(Size::W, Extend::Zero, R9, R7, 0),
        load(Size::Dw, Extend::Zero, R1, R1, 128),
        load(Size::B, Extend::Sign, R0, R2, 127),
        load(Size::H, Extend::Sign, R0, R2, -129),
        load(Size::W, Extend::Sign, R5, R8, 4),
        store(Size::B, R10, -1, R(R1)),
        store(Size::B, R10, -1, R(R6)),
        store(Size::H, R10, -2, R(R8)),
        store(Size::W, R6, 0, R(R2)),
        store(Size::Dw, R6, 8, R(R10)),
        store(Size::B, R10, -1, Imm(-1)),
        store(Size::H, R10, -2, Imm(-2)),
        store(Size::W, R10, -4, Imm(-3)),
        store(Size::Dw, R10, -8, Imm(-4)),
        Insn::LoadAcquire { size: Size::H, dst: R0, base: R1, off: 2 },
        Insn::StoreRelease { size: Size::Dw, base: R1, off: 8, src: R2 },
    ]));
}

#[test]
fn atomics() {
    let atomic = |op, size, fetch, base, src| Insn::Atomic { op, size, fetch, base, off: 8, src };
    insta::assert_snapshot!(of(&[
        atomic(AtomicOp::Add, Size::Dw, false, R1, R2),
        atomic(AtomicOp::Xor, Size::W, false, R7, R9),
        atomic(AtomicOp::Add, Size::W, true, R1, R2),
        atomic(AtomicOp::Xchg, Size::Dw, true, R10, R2),
        atomic(AtomicOp::Cmpxchg, Size::Dw, true, R1, R2),
        atomic(AtomicOp::Cmpxchg, Size::W, true, R1, R2),
        atomic(AtomicOp::And, Size::Dw, true, R1, R2),
        atomic(AtomicOp::Or, Size::W, true, R0, R0),
    ]));
}

#[test]
fn branches() {
    insta::assert_snapshot!(of(&[
        branch(CmpOp::Eq, W64, R1, R(R2), 3),
        branch(CmpOp::Ne, W32, R1, Imm(0), 3),
        branch(CmpOp::Gt, W64, R8, Imm(1), 0),
        branch(CmpOp::Sle, W32, R0, Imm(0x1000), 9),
        branch(CmpOp::Set, W64, R1, R(R2), 9),
        branch(CmpOp::Set, W64, R1, Imm(0x80), 9),
        branch(CmpOp::Set, W64, R2, Imm(0x100), 9),
        branch(CmpOp::Set, W64, R2, Imm(-2), 9),
        Insn::Jump { target: Pc(9), long: false },
        Insn::Jump { target: Pc(0), long: true },
    ]));
}

#[test]
fn a_jump_too_far_for_eight_bits() {
    let mut insns = vec![Insn::Jump { target: Pc(20), long: false }];
    insns.extend([alu(AluOp::Add, W64, R1, Imm(0x1000)); 19]);
    insns.push(branch(CmpOp::Eq, W64, R1, Imm(0), 1));
    insta::assert_snapshot!(of(&insns));
}

#[test]
fn calls_and_frames() {
    let insns = [
        mov(W64, R6, R(R1)),
        helper(HelperId::KTIME_GET_NS),
        store(Size::Dw, R10, -8, R(R0)),
        subprog(6),
        subprog(10),
        Insn::Exit,
        // 6: saves two registers, has no stack
        mov(W64, R7, Imm(1)),
        mov(W64, R8, Imm(2)),
        subprog(10),
        Insn::Exit,
        // 10: nothing to save, nothing on the stack
        mov(W64, R0, R(R6)),
        Insn::Exit,
    ];
    let program = program(&insns, &[(0, "main"), (6, "middle"), (10, "leaf")]);
    let subprogs = vec![SubprogFacts { stack_depth: 8 }, SubprogFacts::default()];
    insta::assert_snapshot!(listing(&program, Some(&Facts { subprogs })));
}

#[test]
fn a_main_program_that_is_called_has_a_thunk() {
    let insns = [
        helper(HelperId::GET_PRANDOM_U32),
        branch(CmpOp::Eq, W64, R0, Imm(0), 3),
        subprog(0),
        Insn::Exit,
    ];
    insta::assert_snapshot!(listing(&program(&insns, &[(0, "main")]), None));
}

/// The address of a callback, as helpers that iterate take it.
#[test]
fn function_addresses() {
    let insns = [
        Insn::LoadWide { dst: R2, source: WideSource::Func(Pc(4)) },
        mov(W64, R0, Imm(0)),
        Insn::Exit,
        mov(W64, R0, Imm(1)),
        Insn::Exit,
    ];
    insta::assert_snapshot!(listing(&program(&insns, &[(4, "callback")]), None));
}

/// Passes IPv4 packets and counts them in a map.
#[test]
fn a_whole_xdp_program() {
    let map = WideSource::Map(MapIdx(0), MapForm::Fd);
    let insns = [
        mov(W64, R0, Imm(1)),
        load(Size::Dw, Extend::Zero, R2, R1, 8),
        load(Size::Dw, Extend::Zero, R1, R1, 0),
        mov(W64, R3, R(R1)),
        alu(AluOp::Add, W64, R3, Imm(14)),
        branch(CmpOp::Gt, W64, R3, R(R2), 18),
        load(Size::H, Extend::Zero, R1, R1, 12),
        branch(CmpOp::Ne, W64, R1, Imm(8), 18),
        store(Size::W, R10, -4, Imm(0)),
        mov(W64, R2, R(R10)),
        alu(AluOp::Add, W64, R2, Imm(-4)),
        Insn::LoadWide { dst: R1, source: map },
        helper(HelperId::MAP_LOOKUP_ELEM),
        branch(CmpOp::Eq, W64, R0, Imm(0), 17),
        mov(W64, R1, Imm(1)),
        Insn::Atomic { op: AtomicOp::Add, size: Size::Dw, fetch: false, base: R0, off: 0, src: R1 },
        mov(W32, R0, Imm(2)),
        Insn::Exit,
    ];
    insta::assert_snapshot!(listing(&program(&insns, &[(0, "xdp_count")]), None));
}

#[test]
fn packet_loads() {
    let load = |size, index, imm| Insn::LoadPacket { size, index, imm };
    insta::assert_snapshot!(of(&[
        load(Size::B, None, 0),
        load(Size::H, None, 12),
        load(Size::W, Some(R8), -4),
    ]));
}

#[test]
fn may_goto_and_casts() {
    insta::assert_snapshot!(of(&[
        Insn::MayGoto { target: Pc(3) },
        Insn::AddrSpaceCast { dst: R1, src: R2, to: 0, from: 1 },
        Insn::Jump { target: Pc(0), long: false },
    ]));
}

#[test]
fn tail_calls() {
    let call = helper(HelperId::TAIL_CALL);
    let insns = [mov(W64, R6, R(R1)), call, subprog(4), Insn::Exit, mov(W64, R7, R(R1)), call];
    let insns = [&insns[..], &[Insn::Exit]].concat();
    insta::assert_snapshot!(listing(&program(&insns, &[(0, "main"), (4, "second")]), None));
}

/// Helper 7 may end the program, helper 8 may not; the target of a tail call may end early, too.
#[test]
fn helpers_that_end_the_program() {
    let insns = [
        helper(HelperId(8)),
        subprog(3),
        Insn::Exit,
        helper(HelperId(7)),
        helper(HelperId::TAIL_CALL),
        Insn::Exit,
    ];
    let options = Options::default().with_ending_helpers([HelperId(7)]);
    let program = program(&insns, &[(0, "main"), (3, "second")]);
    insta::assert_snapshot!(listing_with(&program, None, &options));
}

#[test]
fn the_entry_and_the_routines_of_checked_programs() {
    let options = Options::checked();
    insta::assert_snapshot!(listing_with(&program(&[Insn::Exit], &[(0, "main")]), None, &options));
}

#[test]
fn checked_accesses() {
    let (base, off) = (R1, 8);
    insta::assert_snapshot!(checked(&[
        load(Size::B, Extend::Zero, R0, R1, 0),
        store(Size::W, R10, -4, Imm(1)),
        store(Size::Dw, R10, -512, R(R6)),
        Insn::Atomic { op: AtomicOp::Xor, size: Size::W, fetch: true, base, off, src: R2 },
        Insn::LoadAcquire { size: Size::H, dst: R0, base, off },
        Insn::StoreRelease { size: Size::Dw, base, off, src: R2 },
        Insn::LoadPacket { size: Size::H, index: None, imm: 12 },
    ]));
}

/// What was run is counted before jumps and their targets, and charged at jumps back.
#[test]
fn fuel() {
    insta::assert_snapshot!(checked(&[
        mov(W64, R1, Imm(10)),
        alu(AluOp::Sub, W64, R1, Imm(1)),
        branch(CmpOp::Eq, W64, R1, Imm(0), 5),
        alu(AluOp::Add, W64, R2, Imm(1)),
        branch(CmpOp::Ne, W64, R1, Imm(0), 1),
        Insn::MayGoto { target: Pc(1) },
        Insn::Jump { target: Pc(1), long: false },
    ]));
}

#[test]
fn checked_calls() {
    insta::assert_snapshot!(checked(&[
        helper(HelperId(8)),
        helper(HelperId::TAIL_CALL),
        subprog(4),
        Insn::Exit,
        mov(W64, R9, Imm(1)),
    ]));
}

#[test]
fn neighbours_as_one() {
    insta::assert_snapshot!(of(&[
        // sums and products of three operands
        mov(W64, R1, R(R2)),
        alu(AluOp::Add, W64, R1, Imm(-8)),
        mov(W64, R1, R(R10)),
        alu(AluOp::Sub, W64, R1, Imm(512)),
        mov(W64, R7, R(R8)),
        alu(AluOp::Add, W32, R7, R(R9)),
        mov(W64, R1, R(R10)),
        alu(AluOp::Add, W64, R1, R(R7)),
        mov(W64, R1, R(R2)),
        alu(AluOp::Add, W64, R1, R(R1)),
        mov(W32, R1, R(R2)),
        alu(AluOp::Mul, W32, R1, Imm(1000)),
        mov(W64, R1, R(R8)),
        alu(AluOp::And, W64, R1, Imm(0xff)),
        // a load from a sum
        mov(W64, R3, R(R10)),
        alu(AluOp::Add, W64, R3, R(R7)),
        load(Size::H, Extend::Zero, R3, R3, -64),
        // extensions
        alu(AluOp::Lsh, W64, R1, Imm(32)),
        alu(AluOp::Rsh, W64, R1, Imm(32)),
        mov(W64, R1, R(R8)),
        alu(AluOp::Lsh, W64, R1, Imm(56)),
        alu(AluOp::Arsh, W64, R1, Imm(56)),
        // rotations
        mov(W32, R1, R(R2)),
        alu(AluOp::Rsh, W32, R1, Imm(25)),
        mov(W32, R3, R(R2)),
        alu(AluOp::Lsh, W32, R3, Imm(7)),
        alu(AluOp::Or, W32, R3, R(R1)),
        mov(W64, R1, R(R2)),
        alu(AluOp::Rsh, W64, R1, Imm(32)),
        alu(AluOp::Lsh, W64, R2, Imm(32)),
        alu(AluOp::Or, W64, R2, R(R1)),
    ]));
}

#[test]
fn what_looks_alike_but_is_not() {
    insta::assert_snapshot!(of(&[
        // 32 bits moved, 64 added
        mov(W32, R1, R(R2)),
        alu(AluOp::Add, W64, R1, Imm(1)),
        // another register
        mov(W64, R1, R(R2)),
        alu(AluOp::Add, W64, R2, Imm(1)),
        // counts that leave a gap
        mov(W32, R1, R(R2)),
        alu(AluOp::Rsh, W32, R1, Imm(24)),
        mov(W32, R3, R(R2)),
        alu(AluOp::Lsh, W32, R3, Imm(7)),
        alu(AluOp::Or, W32, R3, R(R1)),
        // a jump leads between
        mov(W64, R1, R(R2)),
        alu(AluOp::Add, W64, R1, Imm(1)),
        Insn::Jump { target: Pc(10), long: false },
    ]));
}

#[test]
fn kernel_functions() {
    let kfunc = Insn::Call(CallTarget::Kfunc { btf_id: 7, module: 1 });
    insta::assert_snapshot!(of(&[kfunc]));
    insta::assert_snapshot!(checked(&[kfunc]));
}

/// A function whose address is taken.
fn calls_back(options: &Options) -> String {
    let source = WideSource::Func(Pc(4));
    let insns = [
        Insn::LoadWide { dst: R1, source },
        helper(HelperId(1)),
        Insn::Exit,
        mov(W64, R0, R(R1)),
        Insn::Exit,
    ];
    listing_with(&program(&insns, &[(0, "main"), (4, "callback")]), None, options)
}

#[test]
fn callbacks() {
    insta::assert_snapshot!(calls_back(&Options::default()));
    insta::assert_snapshot!(calls_back(&Options::default().with_fuel(true)));
    insta::assert_snapshot!(of_subprograms(&calls_back(&Options::checked())));
}
