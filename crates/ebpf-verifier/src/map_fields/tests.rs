//! Types of values, and what is found in them.

use alloc::string::ToString;
use alloc::vec;

use super::SpecialField::{Pointer, SpinLock, Timer, Workqueue};
use super::*;

/// BTF under construction, and what its kinds are numbered.
#[derive(Default)]
struct Types {
    words: Vec<u32>,
    strings: Vec<u8>,
    count: u32,
}

const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const TYPE_TAG: u32 = 18;

impl Types {
    fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32 + 1;
        self.strings.extend(name.bytes().chain([0]));
        at
    }

    fn add(&mut self, name: &str, kind: u32, vlen: u32, size: u32, rest: &[u32]) -> u32 {
        let name = self.name(name);
        self.words.extend([name, kind << 24 | vlen, size]);
        self.words.extend(rest);
        self.count += 1;
        self.count
    }

    fn int(&mut self) -> u32 {
        self.add("int", INT, 0, 4, &[1 << 24 | 32])
    }

    /// A structure, or a union, with members of these types at these places in bits.
    fn with(&mut self, name: &str, kind: u32, size: u32, members: &[(u32, u32)]) -> u32 {
        let words: Vec<u32> = members.iter().flat_map(|&(ty, bit)| [0, ty, bit]).collect();
        self.add(name, kind, members.len() as u32, size, &words)
    }

    fn guarded(&mut self, field: SpecialField) -> u32 {
        let kind = if field == Pointer { PTR } else { STRUCT };
        let tagged = |types: &mut Self| {
            let int = types.int();
            types.add("kptr", TYPE_TAG, 0, int, &[])
        };
        let size = if field == Pointer { tagged(self) } else { field.size() };
        self.add(if field == Pointer { "" } else { field.name() }, kind, 0, size, &[])
    }

    fn array(&mut self, element: u32, len: u32) -> u32 {
        let index = self.int();
        self.add("", ARRAY, 0, 0, &[element, index, len])
    }

    /// The fields of a value of this type and size.
    fn fields(&self, value: u32, size: u32) -> ValueFields {
        let (types, strings) = (self.words.len() as u32 * 4, self.strings.len() as u32 + 1);
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        let head = [24, 0, types, types, strings];
        bytes.extend(head.iter().chain(&self.words).flat_map(|word| word.to_le_bytes()));
        bytes.push(0);
        bytes.extend(&self.strings);
        let btf = Btf::parse(&bytes).expect("the tests write BTF");
        ValueFields::of(&btf, TypeId(value), size)
    }
}

/// What is found in a value of 64 bytes, whose members are these at these places.
fn found(make: impl FnOnce(&mut Types) -> Vec<(u32, u32)>) -> ValueFields {
    let mut types = Types::default();
    let members: Vec<_> = make(&mut types).iter().map(|&(ty, byte)| (ty, byte * 8)).collect();
    let value = types.with("value", STRUCT, 64, &members);
    types.fields(value, 64)
}

fn known<const N: usize>(fields: [(SpecialField, u32); N]) -> ValueFields {
    ValueFields::Known(fields.map(|(kind, off)| ValueField { off, kind }).into())
}

#[test]
fn fields_are_found_by_the_names_of_structures() {
    let each = [(SpinLock, 4), (Timer, 8), (Workqueue, 24)];
    let fields = found(|types| each.map(|(kind, off)| (types.guarded(kind), off)).into());
    assert_eq!(fields, known(each));
    assert_eq!((fields.has_lock(), fields.place_of(Timer)), (true, Some(8)));
    assert_eq!(found(|types| vec![(types.int(), 0)]), known([]));
    assert_eq!(found(|types| vec![(types.guarded(Pointer), 8)]), known([(Pointer, 8)]));
}

#[test]
fn they_are_found_in_structures_and_arrays_of_one() {
    let inside = found(|types| {
        let lock = types.guarded(SpinLock);
        let inner = types.with("inner", STRUCT, 8, &[(lock, 32)]);
        vec![(types.array(inner, 1), 8)]
    });
    assert_eq!(inside, known([(SpinLock, 12)]));
    let several = |len| {
        found(|types| {
            let lock = types.guarded(SpinLock);
            vec![(types.array(lock, len), 0)]
        })
    };
    assert_eq!((several(0), several(2)), (known([]), ValueFields::Unknown));
}

#[test]
fn there_are_none_in_unions_and_behind_names_and_qualifiers() {
    let behind = |kind, name: &str| {
        let name = name.to_string();
        found(move |types| {
            let lock = types.guarded(SpinLock);
            vec![(types.add(&name, kind, 0, lock, &[]), 0)]
        })
    };
    assert_eq!(behind(TYPEDEF, "lock_t"), known([]));
    assert_eq!(behind(VOLATILE, ""), known([]));
    // The kernel goes by the name first.
    assert_eq!(behind(TYPEDEF, "bpf_spin_lock"), ValueFields::Unknown);
    let in_union = found(|types| {
        let lock = types.guarded(SpinLock);
        vec![(types.with("either", UNION, 4, &[(lock, 0)]), 0)]
    });
    assert_eq!(in_union, known([]));
}

#[test]
fn what_the_kernel_would_not_take_is_not_known() {
    let two = found(|types| {
        let lock = types.guarded(SpinLock);
        vec![(lock, 0), (lock, 4)]
    });
    let overlapping = found(|types| vec![(types.guarded(Timer), 0), (types.guarded(SpinLock), 8)]);
    let in_disorder = found(|types| vec![(types.guarded(Timer), 8), (types.guarded(SpinLock), 0)]);
    let misplaced = found(|types| vec![(types.guarded(SpinLock), 2)]);
    let large = found(|types| vec![(types.add("bpf_timer", STRUCT, 0, 24, &[]), 0)]);
    let beside_pointer =
        found(|types| vec![(types.guarded(SpinLock), 0), (types.guarded(Pointer), 8)]);
    let of_lists = found(|types| vec![(types.add("bpf_list_head", STRUCT, 0, 16, &[]), 0)]);
    for fields in [two, overlapping, in_disorder, misplaced, large, beside_pointer, of_lists] {
        assert_eq!(fields, ValueFields::Unknown);
    }
    let mut types = Types::default();
    let lock = types.guarded(SpinLock);
    let value = types.with("value", STRUCT, 64, &[(lock, 0)]);
    assert_eq!(types.fields(value, 64), known([(SpinLock, 0)]));
    assert_eq!(types.fields(value, 32), ValueFields::Unknown);
    assert_eq!(types.fields(0, 64), ValueFields::Untyped);
    let odd = types.int();
    let value = types.with("odd", STRUCT, 64, &[(lock, 0), (odd, 33)]);
    assert_eq!(types.fields(value, 64), ValueFields::Unknown);
    let value = types.with("odd", STRUCT, 64, &[(odd, 33)]);
    assert_eq!(types.fields(value, 64), known([]));
}

#[test]
fn variables_of_a_section_are_members() {
    let mut types = Types::default();
    let lock = types.guarded(SpinLock);
    let variable = types.add("lock", VAR, 0, lock, &[1]);
    let placed = types.add(".data", DATASEC, 1, 16, &[variable, 8, 4]);
    assert_eq!(types.fields(placed, 16), known([(SpinLock, 8)]));
    // As clang leaves it.
    let unplaced = types.add(".bss", DATASEC, 1, 0, &[variable, 0, 0]);
    assert_eq!(types.fields(unplaced, 16), ValueFields::Unknown);
}

#[test]
fn types_that_share_their_members_are_not_looked_through_for_ever() {
    let mut types = Types::default();
    let mut inner = types.int();
    for _ in 0..28 {
        inner = types.with("pair", STRUCT, 64, &[(inner, 0), (inner, 0)]);
    }
    assert_eq!(types.fields(inner, 64), ValueFields::Unknown);
}

#[test]
fn each_field_is_for_some_maps() {
    let desc =
        |map_type, flags| MapDesc { map_type, key_size: 4, value_size: 64, max_entries: 1, flags };
    let fits = |kind, map_type| known([(kind, 8)]).may_be_in(&desc(map_type, 0));
    assert!(fits(SpinLock, MapType::Hash) && fits(SpinLock, MapType::CgroupStorage));
    assert!(!fits(SpinLock, MapType::LruHash) && !fits(SpinLock, MapType::PercpuArray));
    assert!(fits(Timer, MapType::LruHash) && !fits(Timer, MapType::PercpuHash));
    assert!(fits(Pointer, MapType::PercpuHash) && !fits(Pointer, MapType::Queue));
    let read_only = desc(MapType::Array, map_flags::RDONLY_PROG);
    assert!(!known([(SpinLock, 8)]).may_be_in(&read_only) && known([]).may_be_in(&read_only));
    assert!(!known([(Timer, 56)]).may_be_in(&desc(MapType::Hash, 0)));
}
