//! Blobs made by hand, good and bad.

use super::*;
use crate::MAX_STRING_LEN;
use crate::testing::{Blob, KIND_FLAG, NO_FLAG, bytes};
use proptest::prelude::*;

fn parse(blob: &Blob) -> Result<Btf, BtfError> {
    Btf::parse(&blob.finish())
}

/// The only type of a blob made by `ty`.
#[track_caller]
fn check(blob: &Blob, id: u32, expected: Type) {
    let btf = parse(blob).unwrap();
    assert_eq!(btf.type_by_id(TypeId(id)), Ok(&expected));
}

/// A blob with each kind once: ids are the kinds' numbers.
fn every_kind() -> Blob {
    let mut blob = Blob::new();
    blob.int();
    blob.ty("", 2, NO_FLAG, 0, 4, &[]);
    blob.ty("", 3, NO_FLAG, 0, 0, &[1, 1, 16]);
    let (x, y) = (blob.name("x"), blob.name("y"));
    blob.ty("point", 4, NO_FLAG, 2, 8, &[x, 1, 0, y, 1, 32]);
    blob.ty("", 5, NO_FLAG, 1, 4, &[x, 1, 0]);
    blob.ty("color", 6, KIND_FLAG, 2, 4, &[x, 7, y, u32::MAX]);
    blob.ty("later", 7, KIND_FLAG, 0, 0, &[]);
    blob.ty("u32", 8, NO_FLAG, 0, 1, &[]);
    blob.ty("", 9, NO_FLAG, 0, 8, &[]);
    blob.ty("", 10, NO_FLAG, 0, 9, &[]);
    blob.ty("", 11, NO_FLAG, 0, 2, &[]);
    blob.ty("main", 12, NO_FLAG, 1, 13, &[]);
    blob.ty("", 13, NO_FLAG, 2, 1, &[x, 2, 0, 0]);
    blob.ty("counter", 14, NO_FLAG, 0, 8, &[1]);
    blob.ty(".data", 15, NO_FLAG, 1, 64, &[14, 8, 4]);
    blob.ty("double", 16, NO_FLAG, 0, 8, &[]);
    blob.ty("tag", 17, NO_FLAG, 0, 4, &[u32::MAX]);
    blob.ty("user", 18, NO_FLAG, 0, 1, &[]);
    blob.ty("wide", 19, NO_FLAG, 1, 8, &[x, 0x89ab_cdef, 0x0123_4567]);
    blob
}

#[test]
fn each_kind_is_read() {
    let mut blob = every_kind();
    let [tag, counter, wide] = ["tag", "counter", "wide"].map(|name| name_in(&blob, name));
    let (x, y) = (name_in(&blob, "x"), name_in(&blob, "y"));
    let member = |name, bit_offset| Member { name, ty: TypeId(1), bit_offset, bitfield_bits: None };
    check(&blob, 0, Type::Void);
    check(&blob, 2, Type::Ptr(TypeId(4)));
    check(&blob, 3, Type::Array(Array { element: TypeId(1), index: TypeId(1), len: 16 }));
    let members = Box::new([member(x, 0), member(y, 32)]);
    check(&blob, 4, Type::Struct(Composite { name: name_in(&blob, "point"), size: 8, members }));
    let members = Box::new([member(x, 0)]);
    check(&blob, 5, Type::Union(Composite { name: NameOff::ANONYMOUS, size: 4, members }));
    let values =
        Box::new([EnumValue { name: x, value: 7 }, EnumValue { name: y, value: u64::MAX }]);
    check(
        &blob,
        6,
        Type::Enum(Enum { name: name_in(&blob, "color"), size: 4, signed: true, values }),
    );
    check(&blob, 7, Type::Fwd { name: name_in(&blob, "later"), is_union: true });
    check(&blob, 8, Type::Typedef { name: name_in(&blob, "u32"), target: TypeId(1) });
    check(&blob, 9, Type::Volatile(TypeId(8)));
    check(&blob, 10, Type::Const(TypeId(9)));
    check(&blob, 11, Type::Restrict(TypeId(2)));
    let name = name_in(&blob, "main");
    check(&blob, 12, Type::Func(Func { name, proto: TypeId(13), linkage: Linkage::Global }));
    let params = Box::new([
        Param { name: x, ty: TypeId(2) },
        Param { name: NameOff::ANONYMOUS, ty: TypeId::VOID },
    ]);
    check(&blob, 13, Type::FuncProto(FuncProto { ret: TypeId(1), params }));
    check(&blob, 14, Type::Var(Var { name: counter, ty: TypeId(8), linkage: Linkage::Global }));
    let vars = Box::new([SecVar { var: TypeId(14), offset: 8, size: 4 }]);
    check(&blob, 15, Type::Datasec { name: name_in(&blob, ".data"), size: 64, vars });
    check(&blob, 16, Type::Float { name: name_in(&blob, "double"), size: 8 });
    check(&blob, 17, Type::DeclTag(DeclTag { name: tag, target: TypeId(4), component: None }));
    check(&blob, 18, Type::TypeTag { name: name_in(&blob, "user"), target: TypeId(1) });
    let values = Box::new([EnumValue { name: x, value: 0x0123_4567_89ab_cdef }]);
    check(&blob, 19, Type::Enum64(Enum { name: wide, size: 8, signed: false, values }));

    for (id, ty) in parse(&blob).unwrap().types() {
        assert_eq!(ty.kind() as u32, id.0);
    }
    blob.ty("tag", 17, NO_FLAG, 0, 4, &[1]);
    let name = NameOff(blob.strings.len() as u32 - 4);
    check(&blob, 20, Type::DeclTag(DeclTag { name, target: TypeId(4), component: Some(1) }));
}

fn name_in(blob: &Blob, name: &str) -> NameOff {
    let text = [b"\0", name.as_bytes(), b"\0"].concat();
    NameOff(blob.strings.windows(text.len()).position(|w| w == text).unwrap() as u32 + 1)
}

#[test]
fn integers_carry_their_encoding() {
    let mut blob = Blob::new();
    blob.ty("c", 1, NO_FLAG, 0, 1, &[3 << 24 | 8]);
    blob.ty("b", 1, NO_FLAG, 0, 1, &[4 << 24 | 8]);
    blob.ty("f", 1, NO_FLAG, 0, 4, &[5 << 16 | 3]);
    let plain = Int {
        name: NameOff(1),
        size: 1,
        bits: 8,
        bit_offset: 0,
        signed: false,
        is_char: false,
        is_bool: false,
    };
    check(&blob, 1, Type::Int(Int { signed: true, is_char: true, ..plain }));
    check(&blob, 2, Type::Int(Int { name: NameOff(3), is_bool: true, ..plain }));
    check(&blob, 3, Type::Int(Int { name: NameOff(5), size: 4, bits: 3, bit_offset: 5, ..plain }));
}

#[test]
fn bit_fields_need_the_kind_flag() {
    let mut blob = Blob::new();
    blob.int();
    blob.ty("s", 4, KIND_FLAG, 2, 8, &[0, 1, 3 << 24 | 5, 0, 1, 32]);
    blob.ty("t", 4, NO_FLAG, 1, 8, &[0, 1, 3 << 24 | 5]);
    let btf = parse(&blob).unwrap();
    let parts = |id| {
        btf.members(TypeId(id))
            .unwrap()
            .iter()
            .map(|m| (m.bit_offset, m.bitfield_bits))
            .collect::<Vec<_>>()
    };
    assert_eq!(parts(2), [(5, Some(3)), (32, None)]);
    assert_eq!(parts(3), [(3 << 24 | 5, None)]);
}

#[test]
fn source_text_of_another_encoding_is_kept_with_marks() {
    let mut blob = Blob::new();
    let first = blob.strings.len() as u32;
    blob.strings.extend(b"caf\xe9\0");
    let second = blob.name("next");
    let btf = parse(&blob).unwrap();
    assert_eq!((btf.name(NameOff(first)), btf.name(NameOff(second))), ("caf?", "next"));
}

#[track_caller]
fn rejects(blob: &Blob, expected: BtfError) {
    assert_eq!(parse(blob), Err(expected));
}

#[test]
fn header_errors_are_told_apart() {
    let good = every_kind().finish();
    assert!(Btf::parse(&good).is_ok());
    let with = |at: usize, byte: u8| {
        let mut bad = good.clone();
        bad[at] = byte;
        Btf::parse(&bad).unwrap_err()
    };
    assert_eq!(with(0, 0x7f), BtfError::BadMagic { found: 0xeb7f });
    assert_eq!(with(2, 2), BtfError::UnsupportedVersion { version: 2 });
    assert_eq!(with(3, 1), BtfError::UnsupportedFlags { flags: 1 });
    assert_eq!(with(4, 23), BtfError::BadHeaderLength { len: 23, min: 24 });
    // Beyond the known fields the header must be zero; the types that now lie in it are not.
    assert_eq!(with(4, 28), BtfError::BadHeaderLength { len: 28, min: 24 });
    assert!(matches!(with(8, 2), BtfError::BadSection { section: "type", offset: 2, .. }));
    assert!(matches!(with(23, 1), BtfError::BadSection { section: "string", .. }));
    assert_eq!(Btf::parse(&[0xeb, 0x9f, 1, 0, 0, 0, 0, 24]), Err(BtfError::BigEndian));
    assert_eq!(
        Btf::parse(&[0x9f, 0xeb, 1]),
        Err(BtfError::Truncated { offset: 0, needed: 8, available: 3 })
    );
    assert_eq!(
        Btf::parse(&good[..20]),
        Err(BtfError::Truncated { offset: 0, needed: 24, available: 20 })
    );
}

#[test]
fn string_errors_are_told_apart() {
    let mut blob = Blob::new();
    blob.strings = vec![];
    rejects(&blob, BtfError::BadStrings);
    blob.strings = vec![b'a', 0];
    rejects(&blob, BtfError::BadStrings);
    blob.strings = vec![0, b'a'];
    rejects(&blob, BtfError::BadStrings);

    let mut blob = Blob::new();
    blob.int();
    blob.types[0..4].copy_from_slice(&5u32.to_le_bytes());
    rejects(&blob, BtfError::BadName { offset: 24, name_off: 5 });
    // An offset into the middle of a character is no name either.
    let mut blob = Blob::new();
    blob.ty("é", 16, NO_FLAG, 0, 8, &[]);
    blob.types[0] = 2;
    rejects(&blob, BtfError::BadName { offset: 24, name_off: 2 });
    // A member's name is checked like a type's.
    let mut blob = Blob::new();
    blob.int().ty("s", 4, NO_FLAG, 1, 4, &[99, 1, 0]);
    rejects(&blob, BtfError::BadName { offset: 24 + 16 + 12, name_off: 99 });
}

#[test]
fn type_errors_name_the_type() {
    for kind in [0, 20, 31] {
        let mut blob = Blob::new();
        blob.int().ty("", u32::from(kind), NO_FLAG, 0, 0, &[]);
        rejects(&blob, BtfError::UnknownKind { id: TypeId(2), kind });
    }
    let bad = |kind, field, value| BtfError::BadField { id: TypeId(1), kind, field, value };
    let one = |kind: Kind, vlen, size, rest: &[u32]| {
        let mut blob = Blob::new();
        blob.ty("", kind as u32, NO_FLAG, vlen, size, rest);
        parse(&blob).unwrap_err()
    };
    assert_eq!(one(Kind::Int, 0, 3, &[24]), bad(Kind::Int, "size", 3));
    assert_eq!(one(Kind::Int, 0, 4, &[33]), bad(Kind::Int, "encoding", 33));
    assert_eq!(one(Kind::Int, 0, 4, &[8 << 24 | 32]), bad(Kind::Int, "encoding", 8 << 24 | 32));
    assert_eq!(one(Kind::Enum, 0, 5, &[]), bad(Kind::Enum, "size", 5));
    assert_eq!(one(Kind::Enum, 1, 0, &[0, 1]), bad(Kind::Enum, "size", 0));
    assert_eq!(one(Kind::Func, 3, 0, &[]), bad(Kind::Func, "linkage", 3));
    assert_eq!(one(Kind::Var, 0, 0, &[9]), bad(Kind::Var, "linkage", 9));
    assert_eq!(
        one(Kind::DeclTag, 0, 0, &[-2i32 as u32]),
        bad(Kind::DeclTag, "component index", -2i32 as u32)
    );
    assert_eq!(
        one(Kind::Ptr, 0, 2, &[]),
        BtfError::DanglingReference { id: TypeId(1), target: TypeId(2) }
    );
    let truncated = BtfError::Truncated { offset: 36, needed: 12 * 0xffff, available: 12 };
    assert_eq!(one(Kind::Struct, 0xffff, 4, &[0, 1, 0]), truncated);
}

#[test]
fn every_reference_is_checked() {
    // In the blob of every kind, each of these words is a type id: 99 there must be refused, with
    // the referrer.
    let mut blob = every_kind();
    let good = blob.types.clone();
    let offsets_of_ids = [
        (2, 8),
        (3, 12),
        (3, 16),
        (4, 16),
        (4, 28),
        (5, 16),
        (8, 8),
        (9, 8),
        (10, 8),
        (11, 8),
        (12, 8),
        (13, 8),
        (13, 16),
        (13, 24),
        (14, 8),
        (15, 12),
        (17, 8),
        (18, 8),
    ];
    let lengths = [16, 12, 24, 36, 24, 28, 12, 12, 12, 12, 12, 12, 28, 16, 24, 12, 16, 12, 24];
    for (id, offset) in offsets_of_ids {
        let at = lengths[..id - 1].iter().sum::<usize>() + offset;
        blob.types.clone_from(&good);
        blob.types[at..at + 4].copy_from_slice(&bytes(&[99]));
        rejects(&blob, BtfError::DanglingReference { id: TypeId(id as u32), target: TypeId(99) });
    }
}

#[test]
fn limits_hold_on_both_sides() {
    let with_types = |count: u32| {
        let mut blob = Blob::new();
        blob.types = bytes(&[0, 2 << 24, 0]).repeat(count as usize);
        parse(&blob)
    };
    assert_eq!(with_types(MAX_TYPES).unwrap().types().len(), MAX_TYPES as usize + 1);
    assert_eq!(with_types(MAX_TYPES + 1), Err(BtfError::TooManyTypes { limit: MAX_TYPES }));

    let with_bytes = |len: usize| {
        let mut blob = Blob::new();
        blob.strings = vec![0; len - HEADER_LEN as usize];
        parse(&blob)
    };
    assert!(with_bytes(MAX_BTF_BYTES).is_ok());
    let len = MAX_BTF_BYTES + 1;
    assert_eq!(with_bytes(len), Err(BtfError::TooLarge { len, limit: MAX_BTF_BYTES }));
}

#[test]
fn long_strings_are_cut() {
    let mut blob = Blob::new();
    let name = "x".repeat(MAX_STRING_LEN);
    let whole = NameOff(blob.name(&name));
    let longer = NameOff(blob.name(&format!("{name}y")));
    // The limit falls inside the last character.
    let uneven = NameOff(blob.name(&format!("{}é", &name[1..])));
    let btf = parse(&blob).unwrap();
    assert_eq!((btf.name(whole), btf.name(longer), btf.name(uneven)), (&*name, &*name, &name[1..]));
}

#[test]
fn a_type_takes_little_memory() {
    assert!(size_of::<Type>() <= 40);
}

/// Asks everything of whatever was read.
fn exercise(bytes: &[u8]) {
    let Ok(btf) = Btf::parse(bytes) else { return };
    for (id, ty) in btf.types() {
        let _ = (
            btf.name(ty.name()),
            btf.resolve(id),
            btf.size_of(id),
            btf.members(id),
            btf.func_proto(id),
        );
    }
}

proptest! {
    #[test]
    fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        exercise(&bytes);
        exercise(&[&[0x9f, 0xeb, 1, 0, 24, 0, 0, 0], &bytes[..]].concat());
    }

    #[test]
    fn truncations_are_errors(at in 0.0..1.0f64) {
        let good = every_kind().finish();
        let len = (at * good.len() as f64) as usize;
        prop_assert!(Btf::parse(&good[..len]).is_err());
    }
}

#[test]
fn single_byte_mutations_are_survived() {
    let good = every_kind().finish();
    for at in 0..good.len() {
        for byte in [
            0,
            1,
            2,
            3,
            4,
            0x0c,
            0x0f,
            0x13,
            0x7f,
            0x80,
            0xff,
            good[at] ^ 1,
            good[at].wrapping_add(1),
        ] {
            let mut bad = good.clone();
            bad[at] = byte;
            exercise(&bad);
        }
    }
}
