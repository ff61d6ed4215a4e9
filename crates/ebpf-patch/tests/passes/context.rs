//! What accesses to a context become, and what they give.

use ebpf_isa::{Extend, Insn, Operand, Pc, Reg, Size, semantics};
use ebpf_patch::{ContextError, HostField, Patch, PatchError, convert_context_access};

use crate::program;

/// Instructions that take the place of the one that accesses the field.
fn converted(access: &str, field: HostField) -> Result<Vec<Insn>, ContextError> {
    let program = program(&format!("{access}\nexit"));
    let mut patch = Patch::new(&program);
    convert_context_access(&mut patch, Pc(0), &field)?;
    let patched = patch.linearize().expect("a sound program").program;
    let mut insns: Vec<Insn> = patched.insns().map(|(_, insn)| insn).collect();
    assert_eq!(insns.pop(), Some(Insn::Exit));
    Ok(insns)
}

fn lines(access: &str, field: HostField) -> Vec<String> {
    let insns = converted(access, field).expect("the field is accessed as it may be");
    insns.into_iter().map(|insn| insn.text(Pc(0)).to_string()).collect()
}

/// What `r2` is after a load from a host's context, which holds these bytes.
fn loaded(access: &str, field: HostField, host: [u8; 16]) -> u64 {
    let mut r2 = 0xdead_beef_dead_beef;
    for insn in converted(access, field).expect("the field is accessed as it may be") {
        r2 = match insn {
            Insn::Load { size, extend: Extend::Zero, dst: Reg::R2, base: Reg::R1, off } => {
                let at = usize::try_from(off).expect("an offset into the context");
                let bytes = &host[at..at + usize::from(size.bytes())];
                bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
            }
            Insn::Alu { op, width, dst: Reg::R2, src: Operand::Imm(imm) } => {
                semantics::alu(op, width, r2, semantics::immediate(imm))
            }
            Insn::MovSx { width, dst: Reg::R2, src: Reg::R2, from } => {
                semantics::movsx(width, from, r2)
            }
            other => panic!("{other:?}"),
        };
    }
    r2
}

/// 0x8877665544332211 at 0, 0xffeeddccbbaa9988 at 8.
const HOST: [u8; 16] = [
    0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff,
];

#[test]
fn a_pointer_is_read_wholly_at_the_width_that_programs_see() {
    let pointer = HostField::whole(4, Size::W, 8, Size::Dw);
    assert_eq!(lines("r2 = *(u32 *)(r1 +4)", pointer), ["r2 = *(u64 *)(r1 +8)"]);
    assert_eq!(loaded("r2 = *(u32 *)(r1 +4)", pointer, HOST), 0xffee_ddcc_bbaa_9988);
}

#[test]
fn parts_of_a_field_are_its_bytes() {
    let field = HostField::whole(8, Size::W, 0, Size::W);
    for (access, value) in [
        ("r2 = *(u32 *)(r1 +8)", 0x4433_2211),
        ("r2 = *(u16 *)(r1 +8)", 0x2211),
        ("r2 = *(u16 *)(r1 +10)", 0x4433),
        ("r2 = *(u8 *)(r1 +8)", 0x11),
        ("r2 = *(u8 *)(r1 +9)", 0x22),
        ("r2 = *(u8 *)(r1 +11)", 0x44),
    ] {
        assert_eq!(loaded(access, field, HOST), value, "{access}");
    }
    let wide = HostField::whole(0, Size::Dw, 8, Size::Dw);
    assert_eq!(loaded("r2 = *(u32 *)(r1 +0)", wide, HOST), 0xbbaa_9988);
    assert_eq!(loaded("r2 = *(u32 *)(r1 +4)", wide, HOST), 0xffee_ddcc);
    assert_eq!(loaded("r2 = *(u64 *)(r1 +0)", wide, HOST), 0xffee_ddcc_bbaa_9988);
}

/// A field of 32 bits that the host keeps in a word of 16: its upper bytes are 0.
#[test]
fn what_the_host_does_not_have_is_zero() {
    let narrow = HostField::whole(0, Size::W, 8, Size::H);
    assert_eq!(loaded("r2 = *(u32 *)(r1 +0)", narrow, HOST), 0x9988);
    assert_eq!(loaded("r2 = *(u8 *)(r1 +1)", narrow, HOST), 0x99);
    assert_eq!(loaded("r2 = *(u16 *)(r1 +2)", narrow, HOST), 0);
}

#[test]
fn bits_of_a_word() {
    let bits =
        |size, shift, bits| HostField { shift, bits, ..HostField::whole(0, Size::W, 8, size) };
    let whole = "r2 = *(u32 *)(r1 +0)";
    assert_eq!(loaded(whole, bits(Size::B, 0, 3), HOST), 0b000);
    assert_eq!(loaded(whole, bits(Size::B, 3, 1), HOST), 1);
    assert_eq!(loaded(whole, bits(Size::B, 7, 1), HOST), 1);
    assert_eq!(loaded(whole, bits(Size::W, 4, 12), HOST), 0x998);
    assert_eq!(loaded(whole, bits(Size::W, 4, 28), HOST), 0xbba_a998);
    assert_eq!(loaded(whole, bits(Size::Dw, 0, 31), HOST), 0x3baa_9988);
    assert_eq!(loaded(whole, bits(Size::Dw, 0, 32), HOST), 0xbbaa_9988);
    assert_eq!(loaded(whole, bits(Size::Dw, 20, 40), HOST), 0xfe_eddc_cbba);
    assert_eq!(loaded("r2 = *(u8 *)(r1 +1)", bits(Size::W, 4, 12), HOST), 0x9);
    assert_eq!(lines(whole, bits(Size::B, 0, 3)), ["r2 = *(u8 *)(r1 +8)", "r2 &= 7"]);
    assert_eq!(lines(whole, bits(Size::B, 7, 1)), ["r2 = *(u8 *)(r1 +8)", "r2 >>= 7"]);
}

#[test]
fn sign_extension_is_of_what_the_program_loads() {
    let field = HostField::whole(0, Size::W, 8, Size::W);
    assert_eq!(loaded("r2 = *(s32 *)(r1 +0)", field, HOST), 0xffff_ffff_bbaa_9988);
    assert_eq!(loaded("r2 = *(s16 *)(r1 +2)", field, HOST), 0xffff_ffff_ffff_bbaa);
    assert_eq!(loaded("r2 = *(s8 *)(r1 +0)", field, HOST), 0xffff_ffff_ffff_ff88);
}

#[test]
fn whole_fields_are_stored() {
    let field = HostField::whole(8, Size::W, 0, Size::W);
    assert_eq!(lines("*(u32 *)(r1 +8) = r3", field), ["*(u32 *)(r1 +0) = r3"]);
    assert_eq!(lines("*(u32 *)(r1 +8) = 7", field), ["*(u32 *)(r1 +0) = 7"]);
    let partial = Err(ContextError::PartialStore { pc: Pc(0) });
    assert_eq!(converted("*(u16 *)(r1 +8) = r3", field), partial);
    // The upper half of the register is not for the host to see.
    assert_eq!(converted("*(u32 *)(r1 +8) = r3", HostField { size: Size::Dw, ..field }), partial);
    assert_eq!(converted("*(u32 *)(r1 +8) = r3", HostField { bits: 31, ..field }), partial);
}

#[test]
fn what_is_no_access_of_the_field_is_refused() {
    let field = HostField::whole(8, Size::W, 0, Size::W);
    let no_access = Err(ContextError::NoAccess { pc: Pc(0), seen_at: 8 });
    for access in [
        "r2 = *(u32 *)(r1 +4)",
        "r2 = *(u16 *)(r1 +11)",
        "r2 = *(u64 *)(r1 +8)",
        "*(u8 *)(r1 +12) = r2",
        "r2 = *(u8 *)(r1 -8)",
        "r2 = r1",
        "lock *(u32 *)(r1 +8) += r2",
    ] {
        assert_eq!(converted(access, field), no_access, "{access}");
    }
    let original = program("r2 = *(u32 *)(r1 +8)\nexit");
    let mut patch = Patch::new(&original);
    convert_context_access(&mut patch, Pc(0), &field).expect("it is the field");
    let again = convert_context_access(&mut patch, Pc(0), &field);
    assert_eq!(again, Err(ContextError::NoAccess { pc: Pc(0), seen_at: 8 }));
}

#[test]
fn a_field_must_be_in_its_word() {
    let field = HostField::whole(0, Size::W, 0, Size::W);
    for (shift, bits) in [(0, 0), (0, 33), (1, 32), (32, 1), (255, 255)] {
        let refused = converted("r2 = *(u32 *)(r1 +0)", HostField { shift, bits, ..field });
        assert_eq!(refused, Err(ContextError::NoSuchBits { pc: Pc(0), shift, bits }));
    }
}

#[test]
fn a_program_that_grows_too_long_is_refused() {
    let original = program("r2 = *(u8 *)(r1 +0)\nexit");
    let field = HostField::whole(0, Size::W, 0, Size::W);
    let mut patch = Patch::with_limit(&original, 2);
    let refused = convert_context_access(&mut patch, Pc(0), &field);
    let too_long = PatchError::TooLong { pc: Pc(0), limit: 2 };
    assert_eq!(refused, Err(ContextError::Patch(too_long)));
    assert!(patch.get(Pc(0)).is_some());
}
