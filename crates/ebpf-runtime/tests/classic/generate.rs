//! Generators of classic programs that pass the checker, and of packets that they look into.

use ebpf_runtime::classic::{
    ALU_OPS, Ancillary, CMP_OPS, Filter, LINK_OFFSET, Op, SIZES, SockFilter, Src, Var,
};
use ebpf_runtime::isa::{AluOp, CmpOp, Size};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// A piece of a program. Distances are cut to what the program has.
#[derive(Debug, Clone)]
enum Piece {
    Plain(SockFilter),
    /// A conditional jump.
    Branch {
        op: CmpOp,
        src: Src,
        k: u32,
        yes: u8,
        no: u8,
    },
    Jump(u8),
    /// Neighbouring loads that must all be equal to constants.
    Chain {
        off: u32,
        sizes: Vec<Size>,
        down: bool,
        ks: Vec<u32>,
    },
}

/// Cells that programs use; all are written at the start.
const CELLS: u32 = 5;

fn offset() -> impl Strategy<Value = u32> {
    prop_oneof![
        40 => 0_u32..72,
        2 => 0x7ff0_u32..0x8010,
        1 => 0xfff0_u32..0x1_0008,
        1 => select(&[0x7fff_fffc, 0x7fff_ffff, 0x8000_0000, 0x9000_0000]),
        1 => (0_u32..72).prop_map(|off| LINK_OFFSET + off),
    ]
}

/// Values that bytes of the packets have, and others.
fn constant() -> impl Strategy<Value = u32> {
    prop_oneof![
        6 => 0_u32..4,
        2 => select(&[0x0101, 0x0100, 0x0001, 0x0101_0101, 0x0001_0001, 0x1_0001]),
        1 => any::<u32>(),
    ]
}

fn size() -> impl Strategy<Value = Size> {
    select(&SIZES)
}

fn src() -> impl Strategy<Value = Src> {
    prop_oneof![3 => Just(Src::K), 1 => Just(Src::X)]
}

fn var() -> impl Strategy<Value = Var> {
    select(&[Var::A, Var::X])
}

fn load() -> impl Strategy<Value = SockFilter> {
    prop_oneof![
        6 => (size(), offset()).prop_map(|(size, k)| (Op::LoadAbs(size), k)),
        4 => (size(), offset()).prop_map(|(size, k)| (Op::LoadInd(size), k)),
        3 => offset().prop_map(|k| (Op::LoadMsh, k)),
        1 => (var(), constant()).prop_map(|(var, k)| (Op::LoadImm(var), k)),
        1 => var().prop_map(|var| (Op::LoadLen(var), 0)),
        1 => size().prop_map(|size| (Op::LoadAbs(size), Ancillary::XorX.constant())),
        2 => (var(), 0..CELLS).prop_map(|(var, cell)| (Op::LoadMem(var), cell)),
    ]
    .prop_map(|(op, k)| SockFilter::new(op.code(), k))
}

fn alu() -> impl Strategy<Value = SockFilter> {
    (select(&ALU_OPS), src(), constant()).prop_map(|(op, src, k)| {
        let k = match op {
            AluOp::Lsh | AluOp::Rsh => k % 32,
            AluOp::Div | AluOp::Mod => k.max(1),
            _ => k,
        };
        SockFilter::new(Op::Alu(op, src).code(), k)
    })
}

fn other() -> impl Strategy<Value = SockFilter> {
    prop_oneof![
        2 => (var(), 0..CELLS).prop_map(|(var, cell)| (Op::Store(var), cell)),
        3 => Just((Op::Tax, 0)),
        1 => Just((Op::Txa, 0)),
        1 => Just((Op::Neg, 0)),
        1 => (0_u32..3).prop_map(|k| (Op::RetK, k)),
        1 => Just((Op::RetA, 0)),
    ]
    .prop_map(|(op, k)| SockFilter::new(op.code(), k))
}

fn piece() -> impl Strategy<Value = Piece> {
    let branch = (select(&CMP_OPS), src(), constant(), 0_u8..6, 0_u8..6)
        .prop_map(|(op, src, k, yes, no)| Piece::Branch { op, src, k, yes, no });
    let chain = (0_u32..24, vec(size(), 2..5), any::<bool>(), vec(select(&[0, 1, 0x101]), 5))
        .prop_map(|(off, sizes, down, ks)| Piece::Chain { off, sizes, down, ks });
    prop_oneof![
        10 => load().prop_map(Piece::Plain),
        4 => alu().prop_map(Piece::Plain),
        4 => other().prop_map(Piece::Plain),
        6 => branch,
        1 => (0_u8..4).prop_map(Piece::Jump),
        2 => chain,
    ]
}

/// A program of a few pieces: what comes of it has few enough ways for a verifier that follows each.
pub(crate) fn filter() -> impl Strategy<Value = Filter> {
    (vec(piece(), 0..16), select(&[0_u32, 1, 7])).prop_map(|(pieces, last)| {
        let mut program: Vec<SockFilter> =
            (0..CELLS).map(|cell| SockFilter::new(Op::Store(Var::A).code(), cell)).collect();
        for piece in pieces {
            put(&mut program, &piece);
        }
        // Targets for jumps from the last pieces.
        program.extend((0..6).map(|k| SockFilter::new(Op::RetK.code(), k % 2)));
        program.push(SockFilter::new(Op::RetK.code(), last));
        Filter::new(program).unwrap()
    })
}

fn put(program: &mut Vec<SockFilter>, piece: &Piece) {
    let branch = |op, src, k, jt, jf| SockFilter { code: Op::Branch(op, src).code(), jt, jf, k };
    match piece {
        Piece::Plain(insn) => program.push(*insn),
        &Piece::Branch { op, src, k, yes, no } => program.push(branch(op, src, k, yes, no)),
        &Piece::Jump(skip) => program.push(SockFilter::new(Op::Jump.code(), skip.into())),
        Piece::Chain { off, sizes, down, ks } => {
            let mut at = off + if *down { 16 } else { 0 };
            for (index, (&size, &k)) in sizes.iter().zip(ks).enumerate() {
                if *down {
                    at -= u32::from(size.bytes());
                }
                program.push(SockFilter::new(Op::LoadAbs(size).code(), at));
                if !down {
                    at += u32::from(size.bytes());
                }
                let after = 2 * (sizes.len() - 1 - index) as u8;
                program.push(branch(CmpOp::Eq, Src::K, k, 0, after + 1));
            }
            program.push(SockFilter::new(Op::RetK.code(), 1));
            // Where a comparison fails, the value loaded is not used, and short packets go on.
            program.push(SockFilter::new(Op::LoadAbs(Size::B).code(), 0));
        }
    }
}

/// A packet of few different bytes, so that comparisons hold now and then.
pub(crate) fn packet() -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![
        8 => 0_usize..80,
        1 => 0x7ff0_usize..0x8010,
        1 => 0xfff0_usize..=0xffff,
    ];
    let byte = prop_oneof![4 => 0_u8..2, 2 => 0_u8..8, 1 => any::<u8>()];
    (len, vec(byte, 80)).prop_map(|(len, bytes)| bytes.iter().copied().cycle().take(len).collect())
}
