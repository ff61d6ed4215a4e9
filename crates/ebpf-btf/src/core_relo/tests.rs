//! Questions about types, and answers.

use super::*;
use crate::BtfExt;
use crate::testing::{Blob, KIND_FLAG, NO_FLAG, ext};

const INT: u32 = 1;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const ENUM: u32 = 6;

/// Types, and the relocations that `access` and `kind` make of each root.
struct Local {
    btf: Btf,
    relocations: Vec<CoreRelo>,
}

fn local(types: impl FnOnce(&mut Blob), questions: &[(u32, &str, CoreKind)]) -> Local {
    let mut blob = Blob::new();
    types(&mut blob);
    let section = blob.name("xdp");
    let mut table = alloc::vec![16, section, questions.len() as u32];
    for &(root, access, kind) in questions {
        let access = blob.name(access);
        table.extend([0, root, access, kind as u32]);
    }
    let btf = Btf::parse(&blob.finish()).unwrap();
    let ext = BtfExt::parse(&ext(&[], &[], &table), &btf).unwrap();
    Local { relocations: ext.core_relos("xdp").to_vec(), btf }
}

fn target(types: impl FnOnce(&mut Blob)) -> TypeIndex {
    let mut blob = Blob::new();
    types(&mut blob);
    TypeIndex::new(Btf::parse(&blob.finish()).unwrap())
}

fn answers(local: &Local, target: &TypeIndex) -> Vec<Result<CoreAnswer, CoreError>> {
    let mut answers = CoreAnswers::new(&local.btf, Some(target));
    local.relocations.iter().map(|relocation| answers.answer(relocation)).collect()
}

fn values(local: &Local, target: &TypeIndex) -> Vec<Option<u64>> {
    answers(local, target).into_iter().map(|answer| answer.unwrap().value).collect()
}

/// `int` as type 1, and structs of the named members, which are that, 4 bytes each.
fn structs(blob: &mut Blob, structs: &[(&str, &[&str])]) {
    blob.int();
    for (name, members) in structs {
        let words: Vec<u32> = members
            .iter()
            .zip(0..)
            .flat_map(|(member, at)| [blob.name(member), INT, at * 32])
            .collect();
        blob.ty(name, STRUCT, NO_FLAG, members.len() as u32, members.len() as u32 * 4, &words);
    }
}

#[test]
fn the_first_answer_decides_between_types_of_a_name() {
    let questions = [
        (2, "0:0", CoreKind::FieldExists),
        (2, "0:1", CoreKind::FieldByteOffset),
        (2, "0:2", CoreKind::FieldByteOffset),
    ];
    let local = local(|blob| structs(blob, &[("s", &["none", "a", "b"])]), &questions);
    let split = target(|blob| structs(blob, &[("s___x", &["a"]), ("s___y", &["x", "b"])]));
    assert_eq!(values(&local, &split), [Some(0), Some(0), None]);
    // Types that say the same are as good as one.
    let same = target(|blob| structs(blob, &[("s___x", &["a", "b"]), ("s", &["a", "b", "c"])]));
    assert_eq!(values(&local, &same), [Some(0), Some(0), Some(4)]);
    let other = target(|blob| structs(blob, &[("s", &["a", "b"]), ("s", &["b", "a"])]));
    let ambiguous = CoreError::Ambiguous { first: TypeId(2), second: TypeId(3) };
    assert_eq!(answers(&local, &other)[1], Err(ambiguous));
}

#[test]
fn accesses_must_fit_the_own_types() {
    for access in ["", "x", "0:", "-1", "0:3", "0:0:0", "99999999999", &"0:".repeat(80)] {
        let local = local(
            |blob| structs(blob, &[("s", &["a", "b"])]),
            &[(2, access, CoreKind::FieldByteOffset)],
        );
        let target = target(|blob| structs(blob, &[("s", &["a", "b"])]));
        let bad = CoreError::BadAccess { root: TypeId(2), access: access.into() };
        assert_eq!(answers(&local, &target), [Err(bad)], "{access:?}");
    }
    let local = local(
        |blob| structs(blob, &[("", &["a"])]),
        &[(2, "0:0", CoreKind::FieldByteOffset), (2, "0:0", CoreKind::TypeIdLocal)],
    );
    let answers = answers(&local, &target(|blob| structs(blob, &[])));
    assert_eq!(answers[0], Err(CoreError::Anonymous { root: TypeId(2) }));
    assert_eq!(answers[1], Ok(CoreAnswer::of(Some(2))));
}

#[test]
fn elements_of_open_arrays_are_those_at_the_end() {
    // struct s { int n; int list[]; } or struct s { int list[]; int n; }
    let open = |blob: &mut Blob, len: u32, last: bool| {
        blob.int();
        blob.ty("", ARRAY, NO_FLAG, 0, 0, &[INT, INT, len]);
        let [n, list] = [blob.name("n"), blob.name("list")];
        let members = if last { [n, 1, 0, list, 2, 32] } else { [list, 2, 0, n, 1, 0] };
        blob.ty("s", STRUCT, NO_FLAG, 2, 4, &members);
    };
    let local = local(|blob| open(blob, 4, true), &[(3, "0:1:3", CoreKind::FieldByteOffset)]);
    let values = |len, last| values(&local, &target(|blob| open(blob, len, last)));
    assert_eq!(values(4, true), [Some(16)]);
    assert_eq!(values(0, true), [Some(16)]);
    assert_eq!(values(3, true), [None]);
    assert_eq!(values(0, false), [None]);
    assert_eq!(values(5, false), [Some(12)]);
}

#[test]
fn sizes_of_numbers_may_change_unless_they_have_signs() {
    let question = [(2, "0:0", CoreKind::FieldByteOffset)];
    let number = |signed: u32, size: u32| {
        move |blob: &mut Blob| {
            blob.ty("number", INT, NO_FLAG, 0, size, &[(signed << 24) | (size * 8)]);
            let a = blob.name("a");
            blob.ty("s", STRUCT, NO_FLAG, 1, 8, &[a, 1, 0]);
        }
    };
    let resize = |own, other| answers(&local(own, &question), &target(other));
    let of = |resize| Ok(CoreAnswer { before: Some(0), value: Some(0), resize });
    assert_eq!(resize(number(0, 4), number(0, 4)), [of(Resize::None)]);
    assert_eq!(resize(number(1, 4), number(0, 4)), [of(Resize::None)]);
    assert_eq!(resize(number(0, 4), number(0, 8)), [of(Resize::To { from: 4, to: 8 })]);
    assert_eq!(resize(number(1, 4), number(1, 8)), [of(Resize::Unfit)]);
    assert_eq!(resize(number(0, 4), number(1, 2)), [of(Resize::Unfit)]);
}

#[test]
fn bit_fields_have_the_shortest_load_that_holds_them() {
    // A field of an `int` of 4 bytes.
    let question = |kind| (2, "0:0", kind);
    let questions = [
        question(CoreKind::FieldByteOffset),
        question(CoreKind::FieldByteSize),
        question(CoreKind::FieldLshiftU64),
        question(CoreKind::FieldRshiftU64),
    ];
    let bits = |at: u32, count: u32| {
        move |blob: &mut Blob| {
            blob.int();
            let a = blob.name("a");
            blob.ty("s", STRUCT, KIND_FLAG, 1, 32, &[a, 1, (count << 24) | at]);
        }
    };
    let local = local(bits(3, 2), &questions);
    let found = |at, count| values(&local, &target(bits(at, count)));
    assert_eq!(found(3, 2), [0, 4, 59, 62].map(Some));
    assert_eq!(found(40, 24), [4, 4, 32, 40].map(Some));
    // Across a boundary of 4 bytes, and of 8.
    assert_eq!(found(30, 6), [0, 8, 28, 58].map(Some));
    let wide = answers(&local, &target(bits(62, 6)));
    assert_eq!(wide[0], Err(CoreError::WideBitfield { ty: TypeId(1) }));
}

#[test]
fn enumerators_have_the_values_of_the_kernel() {
    let of = |names: [(&'static str, u32); 2]| {
        move |blob: &mut Blob| {
            let words: Vec<u32> =
                names.iter().flat_map(|&(name, value)| [blob.name(name), value]).collect();
            blob.ty("e", ENUM, KIND_FLAG, 2, 4, &words);
        }
    };
    let questions = [
        (1, "0", CoreKind::EnumvalValue),
        (1, "1", CoreKind::EnumvalExists),
        (1, "1", CoreKind::EnumvalValue),
    ];
    let local = local(of([("A", 1), ("B", 2)]), &questions);
    let minus_one = Some(u64::MAX);
    let target = target(of([("C", 3), ("A___later", u32::MAX)]));
    assert_eq!(values(&local, &target), [minus_one, Some(0), None]);
}

#[test]
fn types_of_themselves_have_an_end() {
    // struct s { struct s a; }, also without the name, and `typedef s *s` as a type of a name.
    let own = |name: &'static str| {
        move |blob: &mut Blob| {
            let a = blob.name(name);
            blob.ty("s", STRUCT, NO_FLAG, 2, 4, &[a, 1, 0, a, 1, 0]);
        }
    };
    let deep = "0:0".to_owned() + &":0".repeat(60);
    let questions = [
        (1, &*deep, CoreKind::FieldByteOffset),
        (1, "0", CoreKind::TypeMatches),
        (1, "0", CoreKind::TypeExists),
    ];
    let local = local(own("a"), &questions);
    let found = answers(&local, &target(own("a")));
    assert_eq!(found[0], Ok(CoreAnswer { before: Some(0), value: Some(0), resize: Resize::None }));
    assert_eq!(found[1], Err(CoreError::TooDeep { root: TypeId(1) }));
    assert_eq!(found[2], Ok(CoreAnswer::of(Some(1))));
    // The member is looked for inside of members without name.
    assert_eq!(answers(&local, &target(own("")))[0], Ok(CoreAnswer::of(None)));
}

#[test]
fn unknown_kinds_are_told() {
    let mut local = local(|blob| structs(blob, &[("s", &["a"])]), &[(2, "0", CoreKind::TypeSize)]);
    local.relocations[0].kind = 13;
    let target = target(|blob| structs(blob, &[("s", &["a"])]));
    assert_eq!(answers(&local, &target), [Err(CoreError::UnknownKind { kind: 13 })]);
    assert_eq!(describe(&local.btf, &local.relocations[0]), "what is not known: s");
}
