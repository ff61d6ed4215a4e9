//! Hooks that misbehave: each is named in a typed error, and the verified program is still there.

use ebpf_isa::uapi::HelperId;
use ebpf_isa::{CmpOp, Insn, Operand, Pc, Reg, Size, Width};
use ebpf_verifier::{
    ContextAccessInsn, Hook, HookCode, HookFault, HostField, JumpTarget, PatchInsn, RewriteError,
    RewriteHooks, Target,
};

use crate::host::Host;
use crate::{lines, verified};

const PROGRAM: &str = "r0 = *(u32 *)(r1 +16)\nexit";

/// What is wrong with a hook's code.
#[track_caller]
fn fault_of(hook: Hook, code: &str) -> HookFault {
    let mut host = Host::default();
    match hook {
        Hook::Prologue => host.prologue = code,
        Hook::Epilogue => host.epilogue = code,
    }
    let verified = verified(PROGRAM);
    let mut target = Target::default();
    target.natives = 2;
    target.helpers = Some([HelperId(5)].into());
    let error = verified.rewrite_for(&host, &target).expect_err("the hook misbehaves");
    let RewriteError::Hook { hook: named, fault } = error else { panic!("{error}") };
    assert_eq!(named, hook);
    let text = verified.program().listing().to_string();
    assert_eq!(text, "   0: r0 = *(u32 *)(r1 +16)\n   1: exit\n");
    assert!(verified.rewrite(&Host::default()).is_ok(), "others rewrite it still");
    fault
}

const BOTH: [Hook; 2] = [Hook::Prologue, Hook::Epilogue];

#[test]
fn a_budget_is_kept() {
    let most = "r0 = 0\n".repeat(HookCode::BUDGET as usize);
    for (prologue, epilogue) in [(&*most, ""), ("", &*most)] {
        let done = verified(PROGRAM).rewrite(&Host { prologue, epilogue }).unwrap();
        assert!(done.program.len() > HookCode::BUDGET);
    }
    for hook in BOTH {
        let fault = fault_of(hook, &format!("{most}r0 = 0"));
        assert_eq!(fault, HookFault::OverBudget);
        assert_eq!(fault.to_string(), "misconfigured: more than 31 slots of code");
        // A wide load takes two.
        let fault = fault_of(hook, &format!("{}r0 = 1 ll", &most[7..]));
        assert_eq!(fault, HookFault::OverBudget);
    }
}

#[test]
fn jumps_stay_inside_and_lead_ahead() {
    for hook in BOTH {
        assert_eq!(
            fault_of(hook, "r0 = 0\nif r0 == 0 goto +2\nr0 = 0"),
            HookFault::JumpsOut { slot: 1 }
        );
        assert_eq!(fault_of(hook, "goto +1\nr0 = 0 ll"), HookFault::JumpsOut { slot: 0 });
        assert_eq!(fault_of(hook, "goto +1\nr0 = 0\nr0 = 0"), HookFault::Unreached { slot: 1 });
    }
}

#[test]
fn registers_are_defined_before_they_are_used() {
    let undefined = |slot, reg| HookFault::Undefined { slot, reg };
    assert_eq!(fault_of(Hook::Prologue, "r2 = r0"), undefined(0, Reg::R0));
    assert_eq!(fault_of(Hook::Epilogue, "r2 = r1"), undefined(0, Reg::R1));
    for hook in BOTH {
        assert_eq!(fault_of(hook, "r2 = 1\nr3 += r2"), undefined(1, Reg::R3));
        assert_eq!(fault_of(hook, "r1 = 1\nr2 = 1\nnative 0 3"), undefined(2, Reg::R3));
        assert_eq!(fault_of(hook, "native 0 0\nr0 += r1"), undefined(1, Reg::R1));
        assert_eq!(
            fault_of(hook, "r6 = 1\nif r6 == 0 goto +1\nr7 = 1\nr7 += 1"),
            undefined(3, Reg::R7)
        );
    }
}

#[test]
fn functions_are_offered_by_the_host() {
    for hook in BOTH {
        assert_eq!(fault_of(hook, "native 2 0"), HookFault::NoNative { slot: 0, number: 2 });
        let id = HelperId(7);
        assert_eq!(fault_of(hook, "r0 = 0\nhelper 7 0"), HookFault::NoHelper { slot: 1, id });
    }
    let code = "r6 = r1\nhelper 5 0\nnative 1 0\nr1 = r6";
    let mut target = Target::default();
    target.natives = 2;
    let host = Host { prologue: code, epilogue: "" };
    assert!(verified(PROGRAM).rewrite_for(&host, &target).is_ok());
}

#[test]
fn the_context_reaches_the_program() {
    let lost = ["r1 = 0", "native 0 1", "r6 = r1\nif r6 == 0 goto +1\nr1 = 0", "w1 = w1"];
    for code in lost {
        assert_eq!(fault_of(Hook::Prologue, code), HookFault::ContextLost, "{code}");
    }
    assert_eq!(fault_of(Hook::Prologue, "r0 = 0\nexit"), HookFault::NeverEnds);
    let slot = 1;
    assert_eq!(fault_of(Hook::Prologue, "r0 = 0\nsaved r2"), HookFault::NoSavedContext { slot });
}

#[test]
fn what_would_leave_the_code_or_the_stack_is_not_there() {
    let exit = "an exit (the epilogue's comes behind it)";
    let not_allowed = |what| HookFault::NotAllowed { slot: 0, what };
    assert_eq!(fault_of(Hook::Epilogue, "exit"), not_allowed(exit));
    for hook in BOTH {
        assert_eq!(fault_of(hook, "call bpf_tail_call#12"), not_allowed("a tail call"));
        assert_eq!(fault_of(hook, "callx r1"), not_allowed("a call through a register"));
        let load = "a packet load, which can end the program,";
        assert_eq!(fault_of(hook, "r0 = *(u8 *)skb[0]"), not_allowed(load));
        for code in ["r2 = *(u64 *)(r10 -8)", "r6 = r10", "*(u64 *)(r10 -8) = 0"] {
            assert_eq!(fault_of(hook, code), HookFault::FramePointer { slot: 0 }, "{code}");
        }
    }
    // Where a prologue ends the program, it gives its result.
    let undefined = HookFault::Undefined { slot: 1, reg: Reg::R0 };
    assert_eq!(fault_of(Hook::Prologue, "if r1 != 0 goto +1\nexit"), undefined);
}

#[test]
fn accesses_to_the_context_are_those_that_the_host_has() {
    for (hook, code) in BOTH.into_iter().zip(["load r2 r1 2 u32", "saved r1\nload r2 r1 2 u32"]) {
        let HookFault::Context(error) = fault_of(hook, code) else { panic!("it is converted") };
        let slot = if hook == Hook::Prologue { Pc(0) } else { Pc(1) };
        assert!(
            error.to_string().starts_with(&format!("insn {slot}: no load or store")),
            "{error}"
        );
    }
    let HookFault::Context(error) = fault_of(Hook::Prologue, "load r2 r1 -4 u32") else {
        panic!("it is converted")
    };
    assert!(matches!(*error, RewriteError::Context(_)));
    let HookFault::Context(error) = fault_of(Hook::Prologue, "store r1 0 u32 r1") else {
        panic!("it is converted")
    };
    assert!(error.to_string().contains("whole field"), "{error}");
    let HookFault::Context(error) = fault_of(Hook::Prologue, "load r2 r1 32764 u16") else {
        panic!("it is converted")
    };
    let refused = RewriteError::UnsupportedField { pc: Pc(0), offset: 32764, size: Size::H };
    assert_eq!(*error, refused);
}

/// Hooks that write their code directly.
struct Direct(fn(&mut HookCode<'_>));

impl RewriteHooks for Direct {
    fn context_field(&self, access: &ContextAccessInsn) -> Result<HostField, RewriteError> {
        Host::default().context_field(access)
    }

    fn gen_epilogue(&self, code: &mut HookCode<'_>) {
        (self.0)(code);
    }
}

const SET: Insn = Insn::Mov { width: Width::W64, dst: Reg::R0, src: Operand::Imm(0) };
const GOTO: Insn = Insn::Jump { target: Pc::ENTRY, long: false };

#[test]
fn targets_are_slots_behind_the_jump() {
    let faults: [(fn(&mut HookCode<'_>), _); 4] = [
        (
            |code| {
                code.push(SET);
                code.push(PatchInsn::jump(GOTO, JumpTarget::Local(0)));
            },
            HookFault::JumpsBack { slot: 1 },
        ),
        (
            |code| code.push(PatchInsn::jump(GOTO, JumpTarget::Local(0))),
            HookFault::JumpsBack { slot: 0 },
        ),
        (
            |code| code.push(PatchInsn::jump(GOTO, JumpTarget::Pc(Pc(1)))),
            HookFault::JumpsOut { slot: 0 },
        ),
        (|code| code.push(GOTO), HookFault::JumpsOut { slot: 0 }),
    ];
    for (write, fault) in faults {
        let error = verified(PROGRAM).rewrite(&Direct(write)).unwrap_err();
        assert_eq!(error, RewriteError::Hook { hook: Hook::Epilogue, fault });
    }
}

#[test]
fn jumps_land_where_it_is_said_or_at_the_end() {
    let write = |code: &mut HookCode<'_>| {
        let (width, rhs) = (Width::W64, Operand::Imm(1));
        let one = code.branch(CmpOp::Eq, width, Reg::R0, rhs);
        let _end = code.branch(CmpOp::Gt, width, Reg::R0, rhs);
        code.push(SET);
        code.land(one);
        code.push(SET);
    };
    let done = verified("r0 = 1\nexit").rewrite(&Direct(write)).unwrap();
    let expected = [
        "*(u64 *)(r10 -8) = r1",
        "r0 = 1",
        "if r0 == 0x1 goto pc+2",
        "if r0 > 0x1 goto pc+2",
        "r0 = 0",
        "r0 = 0",
        "exit",
    ];
    assert_eq!(lines(&done), expected);
}

#[test]
fn a_hook_may_refuse_a_program() {
    let write = |code: &mut HookCode<'_>| code.refuse("not today");
    let error = verified(PROGRAM).rewrite(&Direct(write)).unwrap_err();
    assert_eq!(error.to_string(), "gen_epilogue: not today");
}
