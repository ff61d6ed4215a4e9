//! What is to be seen of constants afterwards.

use ebpf_isa::{Insn, Operand, Program, Reg, WideSource};
use ebpf_patch::{Landing, Patch, PatchError, PatchInsn, Target, blind_constants};

use crate::common::*;
use crate::{listing, program};

const SEED: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

/// Every instruction that has an immediate, in both widths where there are two. Each constant is
/// told apart by its last byte.
const EVERY_FORM: &str = "
    r1 = 0x12345601
    w2 = 0x12345602
    r1 += 0x12345603
    w1 += 0x12345604
    r1 -= 0x12345605
    r1 *= 0x12345606
    r1 /= 0x12345607
    w1 s/= 0x12345608
    r1 %= 0x12345609
    r1 s%= 0x1234560a
    r1 |= 0x1234560b
    r1 &= 0x1234560c
    r1 ^= 0x1234560d
    r1 <<= 17
    w1 >>= 18
    r1 s>>= 19
    *(u8 *)(r10 -1) = 0x1234560e
    *(u64 *)(r10 -16) = 0x1234560f
    r3 = 0x1234561112345610 ll
    r0 = *(u32 *)skb[0x12345612]
    r0 = *(u8 *)skb[r7 + 0x12345613]
    if r1 == 0x12345614 goto +0
    if w1 s< 0x12345615 goto +0
    if r1 & 0x12345616 goto +0
    exit";

fn blinded(program: &Program, seed: [u64; 2]) -> Program {
    let mut patch = Patch::new(program);
    blind_constants(&mut patch, seed).expect("there is room");
    patch.linearize().expect("blinding keeps programs sound").program
}

/// The 32-bit constants of an instruction.
fn constants(insn: Insn) -> Vec<u32> {
    match insn {
        Insn::Alu { src: Operand::Imm(imm), .. }
        | Insn::Mov { src: Operand::Imm(imm), .. }
        | Insn::Store { src: Operand::Imm(imm), .. }
        | Insn::Branch { rhs: Operand::Imm(imm), .. }
        | Insn::LoadPacket { imm, .. } => vec![imm.cast_unsigned()],
        Insn::LoadWide { source: WideSource::Imm(imm), .. } => {
            vec![imm.get() as u32, (imm.get() >> 32) as u32]
        }
        _ => vec![],
    }
}

fn all_constants(program: &Program) -> Vec<u32> {
    program.insns().flat_map(|(_, insn)| constants(insn)).collect()
}

#[test]
fn no_constant_is_left() {
    let original = program(EVERY_FORM);
    let chosen = all_constants(&original);
    assert_eq!(chosen.len(), 25);
    let left = all_constants(&blinded(&original, SEED));
    // Packet loads are left with an offset of 0.
    assert!(left.iter().all(|constant| !chosen.contains(constant)), "{left:x?}");
    assert_eq!(left.iter().filter(|&&constant| constant == 0).count(), 2);
}

/// Whoever guesses one mask must not know them all.
#[test]
fn each_constant_has_a_mask_of_its_own() {
    let same = program(&format!("{}exit", "r1 = 5\n".repeat(100)));
    let mut left = all_constants(&blinded(&same, SEED));
    assert_eq!(left.len(), 200);
    left.sort_unstable();
    left.dedup();
    assert_eq!(left.len(), 200);
}

#[test]
fn the_result_follows_from_the_seed() {
    let original = program(EVERY_FORM);
    let once = blinded(&original, SEED);
    assert_eq!(blinded(&original, SEED), once);
    for seed in [[SEED[0] ^ 1, SEED[1]], [SEED[0], SEED[1] ^ 1 << 63]] {
        let other = all_constants(&blinded(&original, seed));
        let alike = all_constants(&once).into_iter().zip(other).filter(|(a, b)| a == b && *a != 0);
        assert_eq!(alike.count(), 0);
    }
}

#[test]
fn no_register_of_the_program_is_borrowed() {
    let original = program(EVERY_FORM);
    let patched = blinded(&original, SEED);
    let written = |program: &Program| {
        program.insns().fold(ebpf_isa::RegSet::EMPTY, |set, (_, insn)| set.union(insn.writes()))
    };
    assert_eq!(written(&patched), written(&original).with(Reg::Ax));
}

#[test]
fn what_has_no_constant_stays() {
    let asm = "r1 = r2\nw1 += w2\nr1 = be16 r1\nr0 = *(u8 *)(r1 +4)\nr2 = map[3] ll\n\
               if r1 > r2 goto +1\ncall bpf_ktime_get_ns#5\ngoto +0\nexit";
    let original = program(asm);
    assert_eq!(blinded(&original, SEED), original);
}

/// Blinding what is blinded would take the auxiliary register for two things at once.
#[test]
fn blinded_code_is_blinded_once() {
    let original = program("r1 += 7\n*(u8 *)(r10 -1) = 9\nif r1 > 3 goto +0\nexit");
    let once = blinded(&original, SEED);
    assert_eq!(blinded(&once, [1, 2]), once);
}

/// A loop in inserted code: jumps to a constant must set it up, and the way back is as long as
/// the code has become.
#[test]
fn inserted_code_is_blinded_too() {
    let original = program("r0 = r1\nexit");
    let mut patch = Patch::new(&original);
    let counted = |imm| {
        let asm = program(&format!("r0 += {imm}\nexit"));
        PatchInsn::from(asm.get(ebpf_isa::Pc(0)).expect("an addition"))
    };
    let back = PatchInsn::jump(branch(0), Target::Local(0));
    let away = PatchInsn::jump(branch(0), Target::Next);
    let code = [counted(0x1234), away, counted(0x5678), back];
    patch.prepend(ebpf_isa::Pc(1), code, Landing::Inserted).expect("a sound edit");
    blind_constants(&mut patch, SEED).expect("there is room");
    let patched = patch.linearize().expect("a sound program").program;
    let shape: Vec<String> = listing(&patched).lines().map(mask_numbers).collect();
    assert_eq!(
        shape,
        [
            "r0 = r1",
            "r11 = N",
            "r11 ^= N",
            "r0 += r11",
            "r11 = N",
            "r11 ^= N",
            "if r0 == r11 goto pc+6",
            "r11 = N",
            "r11 ^= N",
            "r0 += r11",
            "r11 = N",
            "r11 ^= N",
            "if r0 == r11 goto pc-12",
            "exit"
        ]
    );
}

/// The line with the number at its end, if it is a constant, replaced by `N`.
fn mask_numbers(line: &str) -> String {
    match line.rsplit_once("= ") {
        Some((rest, number)) if number.parse::<i64>().is_ok() => format!("{rest}= N"),
        _ => line.into(),
    }
}

#[test]
fn a_program_that_grows_too_long_is_refused() {
    let original = program("r1 += 7\nexit");
    let mut patch = Patch::with_limit(&original, 4);
    assert_eq!(blind_constants(&mut patch, SEED), Ok(()));
    let mut patch = Patch::with_limit(&original, 3);
    let refused = PatchError::TooLong { pc: ebpf_isa::Pc(0), limit: 3 };
    assert_eq!(blind_constants(&mut patch, SEED), Err(refused));

    // The same of inserted code.
    let insert = |limit| {
        let mut patch = Patch::with_limit(&original, limit);
        patch.delete(ebpf_isa::Pc(0)).expect("it is there");
        patch.append(ebpf_isa::Pc(1), [set(7), EXIT]).expect("there is room");
        blind_constants(&mut patch, SEED)
    };
    assert_eq!(insert(4), Ok(()));
    assert_eq!(insert(3), Err(PatchError::TooLong { pc: ebpf_isa::Pc(1), limit: 3 }));
}
