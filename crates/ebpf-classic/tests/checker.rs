//! The checker's rules, each on both sides.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ebpf_classic::{CheckError, ClassicPc, Filter, SockFilter, text};

fn check(text: &str) -> Result<(), String> {
    let program = text::parse(text).unwrap();
    Filter::new(program).map(|_| ()).map_err(|error| error.to_string())
}

#[track_caller]
fn refused(text: &str, message: &str) {
    assert_eq!(check(text), Err(message.to_string()));
}

#[test]
fn lengths() {
    let ret = SockFilter::new(0x06, 1);
    assert_eq!(Filter::new([]), Err(CheckError::Empty));
    assert!(Filter::new([ret; 4096]).is_ok());
    assert_eq!(Filter::new([ret; 4097]), Err(CheckError::TooLong { len: 4097 }));
}

#[test]
fn opcodes() {
    let refused = Filter::new([SockFilter::new(0x0e, 0)]);
    assert_eq!(refused, Err(CheckError::UnknownOpcode { pc: ClassicPc(0), code: 0x0e }));
}

#[test]
fn jumps() {
    assert_eq!(check("ja 2\nret #0\nret #1"), Ok(()));
    refused("ja 3\nret #0\nret #1", "insn 0: jump to 3 leaves the filter of 3 instructions");
    assert_eq!(check("jeq #1 jt 1 jf 2\nret #0\nret #1"), Ok(()));
    refused(
        "jeq #1 jt 1 jf 3\nret #0\nret #1",
        "insn 0: jump to 3 leaves the filter of 3 instructions",
    );
    refused(
        "jeq #1 jt 3 jf 1\nret #0\nret #1",
        "insn 0: jump to 3 leaves the filter of 3 instructions",
    );
    let far = [SockFilter::new(0x05, u32::MAX), SockFilter::new(0x06, 0)];
    let error = CheckError::BackwardJump { pc: ClassicPc(0), back: 1 };
    assert_eq!(Filter::new(far), Err(error));
    let far = [SockFilter::new(0x05, i32::MAX as u32), SockFilter::new(0x06, 0)];
    let error = CheckError::JumpOutOfRange { pc: ClassicPc(0), target: 0x8000_0000, len: 2 };
    assert_eq!(Filter::new(far), Err(error));
}

#[test]
fn scratch_memory_exists() {
    assert_eq!(check("st M[15]\nldx M[15]\nret #0"), Ok(()));
    refused("st M[16]\nret #0", "insn 0: there is no M[16], use M[0] to M[15]");
    refused("stx M[16]\nret #0", "insn 0: there is no M[16], use M[0] to M[15]");
    refused("ld M[16]\nret #0", "insn 0: there is no M[16], use M[0] to M[15]");
    refused("ldx M[-1]\nret #0", "insn 0: there is no M[4294967295], use M[0] to M[15]");
}

#[test]
fn scratch_memory_is_written_on_every_way() {
    refused("ld M[3]\nret a", "insn 0: M[3] is not written on every way to here");
    let one_way = "jeq #1, skip\nst M[3]\nskip: ld M[3]\nret a";
    refused(one_way, "insn 2: M[3] is not written on every way to here");
    let both_ways = "jeq #1, other\nst M[3]\nja out\nother: stx M[3]\nout: ld M[3]\nret a";
    assert_eq!(check(both_ways), Ok(()));
}

/// As in Linux: what follows a `ret` counts as reached from it.
#[test]
fn a_return_does_not_end_the_check_of_scratch_memory() {
    let behind = "jeq #1, store, load\nret #0\nstore: st M[0]\nja load2\nload: ret #1\nload2: ld M[0]\nret a";
    refused(behind, "insn 5: M[0] is not written on every way to here");
}

#[test]
fn constants_of_arithmetic() {
    assert_eq!(check("div #1\nmod #1\nlsh #31\nrsh #31\ndiv x\nlsh x\nret a"), Ok(()));
    refused("div #0\nret a", "insn 0: division by zero");
    refused("mod #0\nret a", "insn 0: division by zero");
    refused("lsh #32\nret a", "insn 0: shift by 32, which is more than 31");
    refused("rsh #32\nret a", "insn 0: shift by 32, which is more than 31");
}

#[test]
fn ancillary_data() {
    assert_eq!(
        check("ld #vlan_tpid\nldb [-1]\nret a").unwrap_err(),
        "insn 1: there is no ancillary data at 0xffffffff"
    );
    refused("ld [-4032]\nret a", "insn 0: there is no ancillary data at 0xfffff040");
    refused("ldh [-4095]\nret a", "insn 0: there is no ancillary data at 0xfffff001");
    // Only loads at a constant look for it.
    assert_eq!(check("ldb [x + -1]\nldxb 4*([-1]&0xf)\nldb [-4097]\nret a"), Ok(()));
}

#[test]
fn the_last_instruction_returns() {
    refused("ret #0\nja 2\nld #1\n", "insn 2: the last instruction must be a ret");
    assert_eq!(check("ret #0\nret a"), Ok(()));
}

#[test]
fn the_original_is_kept() {
    // Fields that an instruction does not use are not lost.
    let odd = SockFilter { code: 0x07, jt: 3, jf: 4, k: 5 };
    let program = [odd, SockFilter::new(0x16, 9)];
    assert_eq!(Filter::new(program).unwrap().original(), program);
}
