//! The entry point: environments, rejections, rules of an embedder.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::sync::Arc;

use ebpf_isa::text::assemble;
use ebpf_isa::uapi::{HelperId, MapDesc, MapType, ProgramType};
use ebpf_isa::{Insn, LineTable, Operand, Pc, Program, Reg, SourceLine, SubprogInfo, Width};
use ebpf_verifier::rules::{
    ArgKind, ExitRange, ExitRule, HelperProto, HelperSet, RetKind, TableRules,
};
use ebpf_verifier::{
    Environment, ErrorCode, MapInfo, Options, Payload, ValueFields, program_types, verify,
};

fn xdp() -> Environment {
    Environment::new(program_types::xdp())
}

fn hash_map() -> MapInfo {
    let desc =
        MapDesc { map_type: MapType::Hash, key_size: 8, value_size: 16, max_entries: 64, flags: 0 };
    MapInfo::new("hash", desc)
}

#[test]
fn a_rejection_names_the_source_line() {
    let text = assemble("r0 = 0\nr0 = r3\nexit").unwrap();
    let mut lines = LineTable::new();
    lines.push(Pc(0), SourceLine { file: "a.c", text: "  int x = 0;", line: 3, col: 7 });
    lines.push(Pc(1), SourceLine { file: "a.c", text: "  return y;", line: 4, col: 10 });
    let program = Program::new(text.slots().to_vec(), BTreeMap::new(), lines).unwrap();
    let rejection = verify(&program, &xdp(), &Options::default()).unwrap_err();
    assert_eq!(rejection.to_string(), "insn 1: R3 !read_ok");
    assert_eq!((rejection.code, rejection.errno), (ErrorCode::RegisterUninit, 13));
    assert_eq!((rejection.errno_name(), rejection.stats.processed), ("EACCES", 2));
    let line = rejection.line.unwrap();
    assert_eq!((&*line.file, line.line, line.col, &*line.text), ("a.c", 4, 10, "return y;"));
}

#[test]
fn a_rejection_has_what_the_kernel_says_before() {
    let program = assemble("r2 = *(u32 *)(r1 +0)\nr0 = *(u8 *)(r2 +3)\nexit").unwrap();
    let rejection = verify(&program, &xdp(), &Options::default()).unwrap_err();
    assert_eq!(rejection.message, "R2 offset is outside of the packet");
    let detail = "invalid access to packet, off=3 size=1, R2(id=0,off=3,r=0)";
    assert_eq!(rejection.detail.as_deref(), Some(detail));
}

/// Only a rewriter can have made such a program, and engines need not keep the register.
#[test]
fn the_auxiliary_register_is_not_accepted() {
    let mov = |dst, src| Some(Insn::Mov { width: Width::W64, dst, src });
    let to = mov(Reg::Ax, Operand::Imm(1));
    let from = mov(Reg::R0, Operand::Reg(Reg::Ax));
    let slots = vec![mov(Reg::R0, Operand::Imm(0)), to, from, Some(Insn::Exit)];
    let program = Program::new(slots, BTreeMap::new(), LineTable::new()).unwrap();
    let rejection = verify(&program, &xdp(), &Options::default()).unwrap_err();
    assert_eq!((rejection.code, rejection.pc), (ErrorCode::Unsupported, Some(Pc(1))));
}

#[test]
fn facts_and_statistics_are_those_of_the_program() {
    let program =
        assemble("*(u32 *)(r10 -20) = 1\ncall f\nexit\nf:\n*(u8 *)(r10 -1) = 0\nr0 = 0\nexit")
            .unwrap();
    let verified = verify(&program, &xdp(), &Options::default()).unwrap();
    let depths: Vec<u16> = verified.facts().subprogs.iter().map(|f| f.stack_depth).collect();
    assert_eq!(depths, [24, 8]);
    let stats = verified.stats();
    assert_eq!(
        (stats.processed, stats.paths, stats.peak_pending, stats.stack_depth),
        (6, 1, 0, 32)
    );
    assert_eq!(verified.digest(), xdp().digest());
    assert_eq!(verified.program(), &program);
}

#[test]
fn whatever_can_change_a_verdict_changes_the_digest() {
    let base = || Environment { maps: vec![hash_map()], ..xdp() };
    let mut others = vec![base(); 7];
    others[0].program_type = program_types::sched_cls();
    others[1].license_gpl = false;
    others[2].maps[0].desc.value_size = 24;
    others[3].maps[0].fields = ValueFields::Known(vec![]);
    others[4].maps[0].frozen = Some(vec![]);
    others[5].profile.max_processed = 10;
    others[6].strict_alignment = true;
    let digests: Vec<_> = others.iter().map(Environment::digest).collect();
    for (index, digest) in digests.iter().enumerate() {
        assert_ne!(*digest, base().digest(), "{index}");
        assert!(!digests[..index].contains(digest), "{index}");
    }
    let mut renamed = base();
    renamed.maps[0].name = "other".into();
    assert_eq!(renamed.digest(), base().digest());
}

#[test]
fn what_is_not_known_is_unsupported() {
    let judge = |asm: &str, env: &Environment| {
        verify(&assemble(asm).unwrap(), env, &Options::default()).unwrap_err()
    };
    let mut env = xdp();
    let rejection = judge("call bpf_per_cpu_ptr#153\nr0 = 0\nexit", &env);
    assert_eq!((rejection.code, rejection.errno_name()), (ErrorCode::Unsupported, "Unsupported"));
    assert_eq!(judge("call kfunc#7\nr0 = 0\nexit", &env).code, ErrorCode::Unsupported);
    let with_map = "r1 = map[0] ll\nr0 = 0\nexit";
    env.maps = vec![hash_map()];
    assert!(verify(&assemble(with_map).unwrap(), &env, &Options::default()).is_ok());
    env.maps[0].fields = ValueFields::Unknown;
    assert_eq!(judge(with_map, &env).code, ErrorCode::Unsupported);
    env.maps[0] = hash_map();
    env.maps[0].desc.map_type = MapType::ArrayOfMaps;
    assert_eq!(judge(with_map, &env).code, ErrorCode::Unsupported);
}

/// A program of which the function at 2 has a type.
fn typed(text: &str) -> Program {
    let info = SubprogInfo { name: None, btf_id: Some(3) };
    let infos = BTreeMap::from([(Pc(2), info)]);
    let slots = assemble(text).unwrap().slots().to_vec();
    Program::new(slots, infos, LineTable::new()).unwrap()
}

#[test]
fn a_typed_function_needs_its_types() {
    let program = typed("call f\nexit\nf:\nr0 = 0\nexit");
    let rejection = verify(&program, &xdp(), &Options::default()).unwrap_err();
    assert_eq!(rejection.code, ErrorCode::Unsupported);
}

#[test]
fn a_map_that_is_not_there_is_refused() {
    let program = assemble("r1 = map[3] ll\nr0 = 0\nexit").unwrap();
    let rejection = verify(&program, &xdp(), &Options::default()).unwrap_err();
    assert_eq!((rejection.code, rejection.errno), (ErrorCode::MapReference, 22));
}

#[test]
fn an_embedder_brings_its_own_rules() {
    let rules = TableRules {
        program_type: ProgramType::Unspec,
        helpers: vec![
            HelperProto::new(HelperId(7000), "log").args(&[ArgKind::Memory, ArgKind::Size]),
            HelperProto::new(HelperId(7001), "stop").returns(RetKind::Void),
        ],
        helper_set: HelperSet::Prototypes,
        exit: vec![ExitRule { only_for: &[], range: ExitRange { min: 0, max: 1 } }],
        ..(*program_types::xdp()).clone()
    };
    let env = Environment::new(Arc::new(rules));
    let judge = |asm: &str| {
        let verdict = verify(&assemble(asm).unwrap(), &env, &Options::default());
        verdict.map(drop).map_err(|rejection| (rejection.errno, rejection.message))
    };
    assert_eq!(judge("r1 = r10\nr1 += -8\nr2 = 8\ncall unknown#7000\nr0 = 1\nexit"), Ok(()));
    let message = "At program exit the register R0 has smin=2 smax=2 should have been in [0, 1]";
    assert_eq!(judge("r0 = 2\nexit"), Err((22, message.into())));
    let message =
        "At program exit the register R0 has unknown scalar value should have been in [0, 1]";
    assert_eq!(
        judge("call unknown#7000\nexit").unwrap_err().1,
        "R1 type=ctx expected=fp, pkt, pkt_meta, map_key, map_value, mem, ringbuf_mem, buf, trusted_ptr_"
    );
    assert_eq!(judge("r0 = *(u64 *)(r10 -8)\nexit"), Err((22, message.into())));
    assert_eq!(judge("call unknown#7001\nexit"), Err((13, "R0 !read_ok".into())));
    let message = "At program exit the register R0 is not a known value (ctx)";
    assert_eq!(judge("r0 = r1\nexit"), Err((22, message.into())));
}

fn code_of(text: &str) -> ErrorCode {
    let program = assemble(text).unwrap();
    verify(&program, &xdp(), &Options::default()).unwrap_err().code
}

/// The kernel takes the number that is loaded with its sign extended for the one that was stored,
/// and accepts these programs. That is wrong: if 0xffff_ffff was stored, `r7` is -1 and `r8` is not.
#[test]
fn numbers_that_only_the_kernel_takes_for_equal_are_unsupported() {
    let spilled = "r8 = *(u32 *)(r10 -8)\n*(u32 *)(r10 -16) = r8\nr7 = *(s32 *)(r10 -16)\n";
    assert_eq!(
        code_of(&format!("{spilled}if r7 != -1 goto out\nr0 = r8\nout:\nr0 = 0\nexit")),
        ErrorCode::Unsupported
    );
    let known = "r8 = *(u8 *)(r10 -8)\n*(u32 *)(r10 -16) = r8\nr7 = *(s32 *)(r10 -16)\n";
    let program = assemble(&format!("{known}if r7 != 1 goto out\nr0 = r8\nout:\nr0 = 0\nexit"));
    assert!(verify(&program.unwrap(), &xdp(), &Options::default()).is_ok());
}

/// The kernel looks at these wherever they are, and refuses some of them.
#[test]
fn what_is_not_known_is_unsupported_in_dead_code_too() {
    let dead = |insn: &str| format!("r0 = 0\nif r0 == 0 goto out\n{insn}\nout:\nexit");
    for insn in ["call kfunc#7", "r1 = btf[1] ll"] {
        assert_eq!(code_of(&dead(insn)), ErrorCode::Unsupported, "{insn}");
    }
    for insn in ["call bpf_tail_call#12", "r0 = *(u8 *)skb[4]"] {
        let in_subprogram = format!("call f\nexit\nf:\n{}", dead(insn));
        assert_eq!(code_of(&in_subprogram), ErrorCode::SubprogramUntyped, "{insn}");
        let rejection = verify(&typed(&in_subprogram), &xdp(), &Options::default()).unwrap_err();
        assert_eq!(rejection.code, ErrorCode::Unsupported, "{insn}");
        let program = assemble(&dead(insn)).unwrap();
        assert!(verify(&program, &xdp(), &Options::default()).is_ok(), "{insn}");
    }
}

/// The kernel fails with a bug of its own (`EFAULT`) if a number computed from the loaded pointer is
/// added to another one.
#[test]
fn loads_of_frame_pointers_of_callees_are_unsupported() {
    let body = "*(u64 *)(r10 -8) = r10\nr4 = *(u64 *)(r10 -8)\nr0 = 0\nexit";
    assert_eq!(code_of(&format!("call f\nexit\nf:\n{body}")), ErrorCode::Unsupported);
    assert!(verify(&assemble(body).unwrap(), &xdp(), &Options::default()).is_ok());
}

/// Two functions use 1,024 bytes of stack together. In programs of some types each has a stack of its
/// own, and what is proved about the program has both.
#[test]
fn functions_may_have_stacks_of_their_own() {
    let text =
        "*(u64 *)(r10 -512) = 0\ncall f\nr0 = 0\nexit\nf:\n*(u64 *)(r10 -512) = 0\nr0 = 0\nexit";
    let verdict = |program_type| {
        let program = assemble(text).expect("it is text");
        let environment = Environment::new(program_types::of(program_type).expect("known"));
        verify(&program, &environment, &Options::default())
    };
    let verified = verdict(ProgramType::RawTracepoint).expect("Linux accepts it");
    let depths: Vec<u16> =
        verified.facts().subprogs.iter().map(|facts| facts.stack_depth).collect();
    assert_eq!(depths, [512, 512]);
    let refused = verdict(ProgramType::Xdp).expect_err("too much for one stack").payload;
    assert_eq!(refused, Payload::LimitStack { frames: 2, bytes: 1024 });
}
