//! What cannot be linked.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use ebpf_interp::{LinkError, Links, Vm};
use ebpf_isa::text::assemble;
use ebpf_isa::uapi::HelperId;
use ebpf_isa::{AtomicOp, Insn, Pc, Reg, Size, WideSource};

#[track_caller]
fn refusal(asm: &str) -> LinkError {
    Vm::new(&assemble(asm).unwrap(), None, &Links::default()).unwrap_err()
}

#[test]
fn symbols_that_nobody_gave() {
    let id = HelperId(77);
    assert_eq!(refusal("r0 = 0\ncall 77\nexit"), LinkError::UnknownHelper { pc: Pc(1), id });
    let unknown = LinkError::UnknownMap { pc: Pc(0), map: 3 };
    assert_eq!(refusal("r1 = map[3] ll\nexit"), unknown);
    assert_eq!(refusal("r1 = map[3][0]+8 ll\nexit"), unknown);
    let unknown = LinkError::UnknownKfunc { pc: Pc(0), btf_id: 7, module: 2 };
    assert_eq!(refusal("call kfunc#7 module#2\nexit"), unknown);
}

#[test]
fn symbols_that_only_a_kernel_has() {
    let load = |source| Insn::LoadWide { dst: Reg::R1, source };
    let unsupported =
        [(load(WideSource::Btf { id: 1, module: 0 }), "addresses of kernel variables")];
    for (insn, what) in unsupported {
        let program = common::program(&[insn, Insn::Exit]);
        let error = Vm::new(&program, None, &Links::default()).unwrap_err();
        assert_eq!(error, LinkError::Unsupported { pc: Pc::ENTRY, what });
    }
}

#[test]
fn atomic_operations_have_4_or_8_bytes() {
    for (size, works) in [(Size::B, false), (Size::H, false), (Size::W, true), (Size::Dw, true)] {
        let (op, base, src) = (AtomicOp::Add, Reg::FP, Reg::R0);
        let atomic = Insn::Atomic { op, size, fetch: false, base, off: -8, src };
        let program = common::program(&[atomic, Insn::Exit]);
        assert_eq!(Vm::new(&program, None, &Links::default()).is_ok(), works, "{size:?}");
    }
}

#[test]
fn packet_loads_have_at_most_4_bytes() {
    let load = |size| {
        let program =
            common::program(&[Insn::LoadPacket { size, index: None, imm: 0 }, Insn::Exit]);
        Vm::new(&program, None, &Links::default()).map(|_| ())
    };
    assert_eq!(load(Size::W), Ok(()));
    let what = "packet loads of 8 bytes";
    assert_eq!(load(Size::Dw), Err(LinkError::Unsupported { pc: Pc::ENTRY, what }));
}
