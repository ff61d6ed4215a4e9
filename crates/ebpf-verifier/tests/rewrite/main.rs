//! What an accepted program becomes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod faults;
mod fixtures;
mod host;
#[path = "../support/mod.rs"]
mod support;

use ebpf_isa::text::assemble;
use ebpf_isa::{Pc, Size};
use ebpf_verifier::{
    ContextAccessInsn, ContextError, Environment, HostField, Options, RewriteError, RewriteHooks,
    Rewritten, Verified, program_types, verify,
};

/// Every field of the context is eight bytes, at four times its offset.
struct Wide;

impl RewriteHooks for Wide {
    fn context_field(&self, access: &ContextAccessInsn) -> Result<HostField, RewriteError> {
        let off = i16::try_from(access.offset * 4).map_err(|_| access.unsupported())?;
        Ok(HostField::whole(access.offset, access.size, off, Size::Dw))
    }
}

fn verified(asm: &str) -> Verified {
    let env = Environment::new(program_types::xdp());
    verify(&assemble(asm).unwrap(), &env, &Options::default()).unwrap()
}

fn rewritten(asm: &str) -> Rewritten {
    verified(asm).rewrite(&Wide).unwrap()
}

fn lines(rewritten: &Rewritten) -> Vec<String> {
    rewritten.program.insns().map(|(pc, insn)| insn.text(pc).to_string()).collect()
}

#[test]
fn context_accesses_are_converted() {
    let done = rewritten("r0 = *(u32 *)(r1 +16)\nexit");
    assert_eq!(lines(&done), ["r0 = *(u64 *)(r1 +64)", "exit"]);
}

#[test]
fn sign_extension_is_added() {
    let done = rewritten("r0 = *(s32 *)(r1 +16)\nexit");
    assert_eq!(lines(&done), ["r0 = *(u64 *)(r1 +64)", "r0 = (s32)r0", "exit"]);
}

#[test]
fn other_memory_is_left_alone() {
    let done = rewritten("*(u64 *)(r10 -8) = r1\nr0 = *(u64 *)(r10 -8)\nexit");
    assert_eq!(lines(&done), ["*(u64 *)(r10 -8) = r1", "r0 = *(u64 *)(r10 -8)", "exit"]);
}

#[test]
fn what_no_path_reaches_is_gone() {
    let done = rewritten(
        "r0 = 0\nif r0 == 0 goto out\nr0 = *(u64 *)(r9 +0)\nif r0 != 0 goto out\nout:\nexit",
    );
    assert_eq!(lines(&done), ["r0 = 0", "exit"]);
    let done = rewritten("r0 = 0\nif r0 != 0 goto bad\nexit\nbad:\nr0 = *(u64 *)(r9 +0)\nexit");
    assert_eq!(lines(&done), ["r0 = 0", "exit"]);
    assert_eq!(done.map.insn(Pc(2)), Some(Pc(1)));
    assert_eq!(done.map.insn(Pc(3)), None);
}

#[test]
fn unreached_functions_go_with_their_facts() {
    let done = rewritten(
        "r0 = 0\nif r0 == 0 goto out\ncall dead\nout:\ncall live\nexit\n\
         dead:\n*(u64 *)(r10 -64) = 0\nexit\nlive:\n*(u64 *)(r10 -24) = 0\nr0 = 0\nexit",
    );
    assert_eq!(done.program.subprogs().len(), 2);
    let depths: Vec<u16> = done.facts.subprogs.iter().map(|facts| facts.stack_depth).collect();
    assert_eq!(depths, [0, 24]);
}

#[test]
fn a_branch_that_goes_both_ways_stays() {
    let asm = "call bpf_get_prandom_u32#7\nif r0 == 0 goto out\nr0 = 1\nout:\nexit";
    assert_eq!(rewritten(asm).program.len(), 4);
}

#[test]
fn hooks_may_refuse_but_not_name_another_field() {
    struct Refuses;
    impl RewriteHooks for Refuses {
        fn context_field(&self, access: &ContextAccessInsn) -> Result<HostField, RewriteError> {
            Err(access.unsupported())
        }
    }
    struct Wrong;
    impl RewriteHooks for Wrong {
        fn context_field(&self, _: &ContextAccessInsn) -> Result<HostField, RewriteError> {
            Ok(HostField::whole(12, Size::W, 0, Size::W))
        }
    }
    let verified = verified("r0 = *(u32 *)(r1 +16)\nexit");
    let refused = RewriteError::UnsupportedField { pc: Pc(0), offset: 16, size: Size::W };
    assert_eq!(verified.rewrite(&Refuses).unwrap_err(), refused);
    let wrong = ContextError::NoAccess { pc: Pc(0), seen_at: 12 };
    assert_eq!(verified.rewrite(&Wrong).unwrap_err(), RewriteError::Context(wrong));
}
