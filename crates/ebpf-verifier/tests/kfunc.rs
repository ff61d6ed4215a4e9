//! Calls of kernel functions: modules, their digest, and the rules of calls.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::sync::Arc;

use ebpf_isa::Pc;
use ebpf_isa::text::assemble;
use ebpf_isa::uapi::ProgramType;
use ebpf_verifier::{
    Environment, ErrorCode, KfuncArg, KfuncProto, KfuncRet, Module, ObjectType, Options,
    program_types, verify,
};

fn xdp() -> Environment {
    Environment::new(program_types::xdp())
}

#[test]
fn prototypes_of_kernel_functions_change_the_digest() {
    let digest = |name, index, functions: &[KfuncProto]| {
        let mut env = xdp();
        let module = Module::new(name, functions.to_vec()).unwrap();
        env.modules.insert(index, &Arc::new(module)).unwrap();
        env.digest()
    };
    let ty = ObjectType::new("object");
    let base = || KfuncProto::new(1, "f").args([KfuncArg::object(&ty)]);
    let digests = [
        xdp().digest(),
        digest("m", 1, &[]),
        digest("m", 1, &[base()]),
        digest("m", 2, &[base()]),
        digest("other", 1, &[base()]),
        digest("m", 1, &[KfuncProto { btf_id: 2, ..base() }]),
        digest("m", 1, &[KfuncProto { name: "g".into(), ..base() }]),
        digest("m", 1, &[base().args([KfuncArg::object(&ty).or_null()])]),
        digest("m", 1, &[base().args([KfuncArg::memory(8)])]),
        digest("m", 1, &[base().args([KfuncArg::memory(9)])]),
        digest("m", 1, &[base().args([KfuncArg::object(&ty), KfuncArg::object(&ty)])]),
        digest(
            "m",
            1,
            &[base().args([ty.clone(), ObjectType::new("object")].map(|ty| KfuncArg::object(&ty)))],
        ),
        digest("m", 1, &[base().returns(KfuncRet::Void)]),
        digest("m", 1, &[base().returns(KfuncRet::Object(ty.clone()))]),
        digest("m", 1, &[base().acquires(&ty)]),
        digest("m", 1, &[base().acquires(&ty).or_null()]),
        digest("m", 1, &[base().releases()]),
        digest("m", 1, &[base().trusted_args()]),
    ];
    for (index, digest) in digests.iter().enumerate() {
        assert!(!digests[..index].contains(digest), "{index}");
    }
    // Types made anew each time, in the same places, make no difference.
    let again = KfuncProto::new(1, "f").args([KfuncArg::object(&ObjectType::new("object"))]);
    assert_eq!(digest("m", 1, &[again]), digests[2]);
}

/// An environment for programs of type XDP with the functions that these lines declare.
fn with(functions: &str) -> Environment {
    let lines: String =
        functions.lines().map(|line| format!("kfunc 1 {}\n", line.trim())).collect();
    support::parse_env(&lines).unwrap()
}

fn judge(env: &Environment, asm: &str) -> Result<(), (ErrorCode, String)> {
    let program = assemble(asm).unwrap();
    match verify(&program, env, &Options::default()) {
        Ok(_) => Ok(()),
        Err(rejection) => Err((rejection.code, rejection.message)),
    }
}

/// Calls `function#1 module#1` after `setup`.
fn call(env: &Environment, setup: &str) -> Result<(), (ErrorCode, String)> {
    judge(env, &format!("{setup}\ncall kfunc#1 module#1\nr0 = 0\nexit"))
}

fn refused(code: ErrorCode, message: &str) -> Result<(), (ErrorCode, String)> {
    Err((code, message.to_owned()))
}

#[test]
fn the_context_is_taken_as_the_program_got_it() {
    let env = with("1 f ctx -> scalar");
    assert_eq!(call(&env, ""), Ok(()));
    let modified = "dereference of modified ctx ptr R1 off=8 disallowed";
    assert_eq!(call(&env, "r1 += 8"), refused(ErrorCode::ContextModified, modified));
    let no_context = "arg#0 expected pointer to ctx, but got fp";
    assert_eq!(call(&env, "r1 = r10"), refused(ErrorCode::KfuncArgument, no_context));
    let null = "Possibly NULL pointer passed to trusted arg0";
    assert_eq!(call(&env, "r1 = 0"), refused(ErrorCode::KfuncNull, null));
    assert_eq!(call(&with("1 f ctx? -> scalar"), "r1 = 0"), Ok(()));
}

#[test]
fn memory_of_a_fixed_size_is_read_and_written() {
    let env = with("1 f mem=8 -> scalar");
    let stack = |off| format!("*(u64 *)(r10 -8) = 0\nr1 = r10\nr1 += {off}");
    assert_eq!(call(&env, &stack(-8)), Ok(()));
    assert!(matches!(call(&env, &stack(-7)), Err((ErrorCode::StackAbove, _))));
    // Spilled values are gone afterwards.
    let spill = "*(u64 *)(r10 -8) = r1\nr1 = r10\nr1 += -8\ncall kfunc#1 module#1\n\
                 r1 = *(u64 *)(r10 -8)\nr0 = *(u32 *)(r1 +0)\nexit";
    let number = "R1 invalid mem access 'scalar'";
    assert_eq!(judge(&env, spill), refused(ErrorCode::MemoryPointer, number));
    assert!(matches!(call(&env, "r1 = 0"), Err((ErrorCode::KfuncNull, _))));
    assert_eq!(call(&with("1 f mem=8? -> scalar"), "r1 = 0"), Ok(()));
}

#[test]
fn memory_may_lie_in_a_packet_that_may_be_written() {
    let asm = "r2 = *(u32 *)(r1 +4)\nr1 = *(u32 *)(r1 +0)\nr3 = r1\nr3 += 16\nif r3 > r2 goto out\n\
               call kfunc#1 module#1\nout:\nr0 = 0\nexit";
    assert_eq!(judge(&with("1 f mem=16"), asm), Ok(()));
    assert_eq!(judge(&with("1 f mem=17"), asm).unwrap_err().0, ErrorCode::PacketBounds);
    let mut env = with("1 f mem=16");
    env.program_type = program_types::of(ProgramType::CgroupSkb).unwrap();
    let asm = asm.replace("+4)", "+80)").replace("+0)", "+76)");
    let read_only = refused(ErrorCode::PacketForbidden, "cannot write into packet");
    assert_eq!(judge(&env, &asm), read_only);
}

#[test]
fn a_nullable_buffer_may_be_null_whatever_its_size() {
    let env = with("1 f buffer? size");
    assert_eq!(call(&env, "r1 = 0\nr2 = 100"), Ok(()));
    assert!(call(&env, "r1 = 1\nr2 = 100").is_err());
    let null = call(&with("1 f buffer size"), "r1 = 0\nr2 = 0");
    assert_eq!(null.unwrap_err().0, ErrorCode::KfuncNull);
}

const SESSION: &str = "1 get -> object=session acquire ret_null
    2 put object=session release
    3 use object=session -> scalar trusted_args
    4 look object=session -> scalar
    5 current -> object=session
    6 find -> object=session ret_null
    7 look_if object=session? -> scalar
    8 join object=session object=session release";

#[test]
fn an_object_that_was_not_acquired_is_not_trusted() {
    let env = with(SESSION);
    let with_current = |function| {
        format!("call kfunc#5 module#1\nr1 = r0\ncall kfunc#{function} module#1\nr0 = 0\nexit")
    };
    assert_eq!(judge(&env, &with_current(4)), Ok(()));
    let untrusted = refused(ErrorCode::KfuncArgument, "R1 must be referenced or trusted");
    assert_eq!(judge(&env, &with_current(2)), untrusted);
    assert_eq!(judge(&env, &with_current(3)), untrusted);
}

#[test]
fn null_is_taken_only_where_an_argument_says_so() {
    let env = with(SESSION);
    let found = |check, function| {
        format!(
            "call kfunc#6 module#1\n{check}\nr1 = r0\ncall kfunc#{function} module#1\nout:\nr0 = 0\nexit"
        )
    };
    let checked = "if r0 == 0 goto out";
    assert_eq!(judge(&env, &found(checked, 4)), Ok(()));
    assert_eq!(judge(&env, &found(checked, 7)), Ok(()));
    assert_eq!(judge(&env, &found("", 4)).unwrap_err().0, ErrorCode::KfuncNull);
    assert_eq!(judge(&env, &found("", 7)).unwrap_err().0, ErrorCode::KfuncNull);
    let null = |function| format!("r1 = 0\ncall kfunc#{function} module#1\nr0 = 0\nexit");
    assert_eq!(judge(&env, &null(7)), Ok(()));
    assert_eq!(judge(&env, &null(4)).unwrap_err().0, ErrorCode::KfuncNull);
}

#[test]
fn programs_cannot_look_into_objects() {
    let env = with(SESSION);
    let access = |insn| format!("call kfunc#5 module#1\nr1 = 1\n{insn}\nr0 = 0\nexit");
    let refusal = |insn| judge(&env, &access(insn)).unwrap_err();
    let beyond = "access beyond struct session at off 4 size 8";
    assert_eq!(refusal("r1 = *(u64 *)(r0 +4)"), (ErrorCode::ObjectAccess, beyond.into()));
    assert_eq!(refusal("*(u8 *)(r0 +0) = 1").1, "only read is supported");
    assert_eq!(refusal("lock *(u64 *)(r0 +0) += r1").0, ErrorCode::ObjectAccess);
    assert_eq!(refusal("r0 += 8").0, ErrorCode::PointerArithmetic);
    assert_eq!(refusal("if r0 > 5 goto +1\nr1 = *(u8 *)(r0 -1)").0, ErrorCode::ObjectAccess);
}

#[test]
fn two_acquired_objects_are_too_many_for_one_release() {
    let env = with(SESSION);
    let text = "call kfunc#1 module#1\nr6 = r0\nif r6 == 0 goto out\nr1 = r6\nr2 = r6\n\
                call kfunc#8 module#1\nout:\nr0 = 0\nexit";
    assert_eq!(judge(&env, text).unwrap_err().0, ErrorCode::Unsupported);
}

#[test]
fn types_by_one_name_in_two_modules_differ() {
    let mut env = Environment::new(program_types::xdp());
    for index in [1, 2] {
        let session = ObjectType::new("session");
        let functions = [
            KfuncProto::new(1, "current").returns(KfuncRet::Object(session.clone())),
            KfuncProto::new(2, "look").args([KfuncArg::object(&session)]),
        ];
        let module = Module::new(format!("m{index}"), functions).unwrap();
        env.modules.insert(index, &Arc::new(module)).unwrap();
    }
    let look =
        |module| format!("call kfunc#1 module#1\nr1 = r0\ncall kfunc#2 module#{module}\nexit");
    assert_eq!(judge(&env, &look(1)), Ok(()));
    assert_eq!(judge(&env, &look(2)).unwrap_err().0, ErrorCode::KfuncArgument);
}

#[test]
fn functions_that_there_are_not_are_refused_by_name_or_as_unsupported() {
    let env = with("1 f");
    let id = |call: &str| judge(&env, &format!("{call}\nr0 = 0\nexit")).unwrap_err();
    assert_eq!(id("call kfunc#2 module#1").0, ErrorCode::KfuncUnknown);
    assert_eq!(id("call kfunc#1 module#-1").0, ErrorCode::KfuncUnknown);
    assert_eq!(id("call kfunc#1").0, ErrorCode::Unsupported);
    assert_eq!(id("call kfunc#1 module#2").0, ErrorCode::Unsupported);
    let mut env = xdp();
    let base = Module::new(Module::BASE, [KfuncProto::new(1, "bpf_throw")]).unwrap();
    env.modules.insert(0, &Arc::new(base)).unwrap();
    let special = judge(&env, "call kfunc#1\nr0 = 0\nexit").unwrap_err();
    assert_eq!(special.0, ErrorCode::Unsupported);
    assert!(special.1.contains("by name"));
}

#[test]
fn a_program_calls_at_most_256_kernel_functions() {
    let mut env = xdp();
    let functions = (1..=257).map(|id| KfuncProto::new(id, format!("f{id}")));
    env.modules.insert(1, &Arc::new(Module::new("m", functions).unwrap())).unwrap();
    let calls = |count| {
        let calls: String = (1..=count).map(|id| format!("call kfunc#{id} module#1\n")).collect();
        judge(&env, &format!("{calls}call kfunc#1 module#1\nexit"))
    };
    assert_eq!(calls(256), Ok(()));
    let too_many = "too many different kernel function calls";
    assert_eq!(calls(257), refused(ErrorCode::LimitKfuncs, too_many));
}

#[test]
fn leaks_are_told_with_what_was_acquired_where() {
    let program = assemble("call kfunc#1 module#1\nr0 = 0\nexit").unwrap();
    let rejection = verify(&program, &with(SESSION), &Options::default()).unwrap_err();
    assert_eq!((rejection.code, rejection.pc), (ErrorCode::ReferenceLeak, Some(Pc(2))));
    assert_eq!(rejection.detail.as_deref(), Some("Unreleased reference id=2 alloc_insn=0"));
}
