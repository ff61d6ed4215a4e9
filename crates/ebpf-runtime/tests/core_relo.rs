//! A program that was compiled once for every host (CO-RE), on two hosts with different types.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ebpf_runtime::btf::TypeIndex;
use ebpf_runtime::btf::core_relo::CoreError;
use ebpf_runtime::isa::Pc;
use ebpf_runtime::isa::abi::ExecEnv;
use ebpf_runtime::maps::UpdateMode;
use ebpf_runtime::object::{CoreProblem, Object, ObjectError, ObjectProgram};
use ebpf_runtime::verifier::{KernelProfile, Options};
use ebpf_runtime::xdp::{Ingress, XdpAction, XdpProgram};
use ebpf_runtime::{Engine, LoadError, Loaded, Runtime, open};
use ebpf_testkit::fixtures_dir;

fn object(name: &str) -> Object {
    let bytes = std::fs::read(fixtures_dir().join(format!("xdp/{name}.o"))).unwrap();
    Object::parse(&bytes).unwrap()
}

/// The types of a host, as the compiler has them.
fn types(name: &str) -> TypeIndex {
    TypeIndex::new(object(name).btf().unwrap().clone())
}

fn linked(object: &Object, program: &str, types: &TypeIndex) -> ObjectProgram {
    object.program_with(program, Some(types), |_| None).unwrap()
}

fn load(object: &Object, linked: &ObjectProgram, engine: Engine) -> Result<Loaded, LoadError> {
    let bindings = open::bindings(object, linked, &KernelProfile::default()).unwrap();
    Runtime::new().unwrap().load(&linked.program, bindings, &Options::default(), engine)
}

/// What the program leaves in `answers`, and the record when it has run. Byte N of the record is N at
/// first.
fn answers(types: &TypeIndex, engine: Engine) -> (Vec<u64>, Vec<u8>) {
    let object = object("xdp_core");
    let linked = linked(&object, "xdp_core", types);
    let program = XdpProgram::new(load(&object, &linked, engine).unwrap()).unwrap();
    let maps = &program.loaded().bindings().maps;
    let map = |name: &str| maps.iter().find(|map| map.name() == name).unwrap();
    let (zero, bytes) = ([0; 4], (0..128).collect::<Vec<u8>>());
    map("records").update(&zero, &bytes, UpdateMode::Any).unwrap();
    let ingress = Ingress::default();
    let action = program.run(&mut [], ingress, &mut ExecEnv::new()).unwrap();
    assert_eq!(action, XdpAction::PASS);
    let answers = map(".bss").lookup(&zero).unwrap().unwrap();
    let words = answers.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
    (words.collect(), map("records").lookup(&zero).unwrap().unwrap())
}

/// The questions of `xdp_core.c`, in its order.
const QUESTIONS: usize = 17;

/// The number in these bytes of the record.
fn bytes<const N: usize>(at: u8) -> u64 {
    (0..N as u8).rev().fold(0, |number, byte| number << 8 | u64::from(at + byte))
}

const ENGINES: [Engine; 2] = [Engine::Interp, Engine::Jit];

#[test]
fn answers_are_those_of_the_host() {
    let (a, b) = (types("core_types_a"), types("core_types_b"));
    for engine in ENGINES {
        let (found, record) = answers(&a, engine);
        assert_eq!(
            found[..QUESTIONS],
            [32, 12, 2, 1, 0, 4, 36, 60, 1, 0, 1, 0, 56, 1, 1, 5, 0],
            "on the first host"
        );
        assert_eq!(found[20..24], [bytes::<4>(32), bytes::<2>(0), bytes::<4>(16), bytes::<4>(48)]);
        assert_eq!(record[28..32], [7, 0, 0, 0]);

        let (found, record) = answers(&b, engine);
        let green = (-2_i64).cast_unsigned();
        assert_eq!(
            found[..QUESTIONS],
            [0, 32, 4, 0, 40, 8, 28, 58, 1, 1, 0, 0, 72, 0, 0, green, 1],
            "on the second host"
        );
        assert_eq!(found[20..24], [bytes::<8>(0), bytes::<4>(64), bytes::<4>(24), 0]);
        assert_eq!(record[48..52], [7, 0, 0, 0]);
    }
}

#[test]
fn what_a_host_does_not_have_must_not_be_reached() {
    let object = object("xdp_core");
    let hasty = linked(&object, "xdp_core_hasty", &types("core_types_a"));
    let [missing] = &hasty.missing[..] else { panic!("{:?}", hasty.missing) };
    assert_eq!(missing.what, "offset of a field: record___old.ident");
    let error = load(&object, &hasty, Engine::Interp).unwrap_err();
    let LoadError::Rejected(rejection) = error else { panic!("{error}") };
    assert_eq!(rejection.message, "invalid func unknown#195896080");
    assert_eq!(rejection.pc, Some(missing.pc));
    // The other host has it; and a program that asks first does not come there.
    let hasty = linked(&object, "xdp_core_hasty", &types("core_types_b"));
    assert_eq!(hasty.missing, []);
    assert!(load(&object, &hasty, Engine::Interp).is_ok());
    let careful = linked(&object, "xdp_core", &types("core_types_b"));
    let missing: Vec<&str> = careful.missing.iter().map(|missing| &*missing.what).collect();
    assert_eq!(missing, ["offset of a field: record___old.depth"]);
    assert!(careful.missing[0].pc > Pc(0));
}

#[test]
fn without_types_the_first_question_is_named() {
    let error = object("xdp_core").program("xdp_core_hasty").unwrap_err();
    let problem = CoreProblem::Types(CoreError::NoTypes);
    let ObjectError::CoreRelocation { what, problem: found, .. } = error else { panic!("{error}") };
    assert_eq!((&*what, found), ("offset of a field: record___old.ident", problem));
}
