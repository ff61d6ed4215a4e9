//! Maps from the host's side: every operation, every error, and agreement with a plain model.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;

use ebpf_runtime::isa::uapi::{MapDesc, MapType, map_flags};
use ebpf_runtime::maps::{CreateMapError, Map, MapError, UpdateMode};
use ebpf_testkit::Rng;

fn desc(map_type: MapType, key_size: u32, value_size: u32, max_entries: u32) -> MapDesc {
    MapDesc { map_type, key_size, value_size, max_entries, flags: 0 }
}

fn hash(key_size: u32, value_size: u32, max_entries: u32) -> Map {
    Map::new("m", desc(MapType::Hash, key_size, value_size, max_entries)).unwrap()
}

fn array(value_size: u32, max_entries: u32) -> Map {
    Map::new("m", desc(MapType::Array, 4, value_size, max_entries)).unwrap()
}

#[test]
fn a_hash_map_inserts_replaces_and_deletes() {
    let map = hash(2, 3, 8);
    assert_eq!(map.lookup(b"ab"), Ok(None));
    assert_eq!(map.update(b"ab", &[1, 2, 3], UpdateMode::Exist), Err(MapError::NotFound));
    assert_eq!(map.update(b"ab", &[1, 2, 3], UpdateMode::NoExist), Ok(()));
    assert_eq!(map.update(b"ab", &[4, 5, 6], UpdateMode::NoExist), Err(MapError::Exists));
    assert_eq!(map.lookup(b"ab"), Ok(Some(vec![1, 2, 3])));
    assert_eq!(map.update(b"ab", &[7, 8, 9], UpdateMode::Any), Ok(()));
    assert_eq!(map.elements(), [(b"ab".to_vec(), vec![7, 8, 9])]);
    assert_eq!(map.delete(b"ab"), Ok(()));
    assert_eq!(map.delete(b"ab"), Err(MapError::NotFound));
    assert_eq!(map.elements(), []);
}

#[test]
fn a_full_hash_map_takes_no_more_until_something_is_deleted() {
    let map = hash(1, 1, 2);
    assert_eq!(map.update(&[1], &[1], UpdateMode::Any), Ok(()));
    assert_eq!(map.update(&[2], &[2], UpdateMode::Any), Ok(()));
    assert_eq!(map.update(&[3], &[3], UpdateMode::Any), Err(MapError::Full));
    assert_eq!(map.update(&[2], &[4], UpdateMode::Any), Ok(()));
    assert_eq!(map.delete(&[1]), Ok(()));
    assert_eq!(map.update(&[3], &[3], UpdateMode::Any), Ok(()));
    assert_eq!(map.lookup(&[3]), Ok(Some(vec![3])));
}

#[test]
fn an_array_is_always_full_of_elements() {
    let map = array(8, 3);
    let key = |index: u32| index.to_ne_bytes();
    assert_eq!(map.lookup(&key(2)), Ok(Some(vec![0; 8])));
    assert_eq!(map.lookup(&key(3)), Ok(None));
    assert_eq!(map.update(&key(3), &[1; 8], UpdateMode::Any), Err(MapError::Full));
    assert_eq!(map.update(&key(0), &[1; 8], UpdateMode::NoExist), Err(MapError::Exists));
    assert_eq!(map.update(&key(0), &[1; 8], UpdateMode::Exist), Ok(()));
    assert_eq!(map.delete(&key(0)), Err(MapError::CannotDelete));
    assert_eq!(map.elements().len(), 3);
}

#[test]
fn sizes_are_checked() {
    let map = hash(4, 8, 1);
    let wrong = |what, got, want| Err(MapError::WrongSize { what, got, want });
    assert_eq!(map.lookup(&[0; 3]), Err(MapError::WrongSize { what: "key", got: 3, want: 4 }));
    assert_eq!(map.update(&[0; 5], &[0; 8], UpdateMode::Any), wrong("key", 5, 4));
    assert_eq!(map.update(&[0; 4], &[0; 7], UpdateMode::Any), wrong("value", 7, 8));
    assert_eq!(map.delete(&[]), wrong("key", 0, 4));
}

#[test]
fn a_frozen_map_is_constant_only_where_programs_cannot_write() {
    let read_only = MapDesc { flags: map_flags::RDONLY_PROG, ..desc(MapType::Array, 4, 2, 1) };
    let map = Map::new("m", read_only).unwrap();
    map.update(&[0; 4], &[7, 8], UpdateMode::Any).unwrap();
    assert_eq!(map.constant_value(), None);
    map.freeze();
    assert_eq!(map.constant_value(), Some(vec![7, 8]));
    assert_eq!(map.update(&[0; 4], &[0, 0], UpdateMode::Any), Err(MapError::Frozen));
    assert_eq!(map.delete(&[0; 4]), Err(MapError::Frozen));

    let writable = array(2, 1);
    writable.freeze();
    assert_eq!(writable.constant_value(), None);
}

#[test]
fn maps_that_cannot_be_are_refused() {
    let refused = |desc| Map::new("m", desc).unwrap_err();
    let bad_size = |desc| matches!(refused(desc), CreateMapError::BadSize { .. });
    assert!(bad_size(desc(MapType::Hash, 0, 1, 1)));
    assert!(bad_size(desc(MapType::Hash, 1, 0, 1)));
    assert!(bad_size(desc(MapType::Hash, 1, 1, 0)));
    assert!(bad_size(desc(MapType::Array, 8, 1, 1)));
    assert!(bad_size(desc(MapType::Array, 4, 8, u32::MAX)));
    assert!(bad_size(desc(MapType::Hash, 4, u32::MAX, 1)));
    assert!(bad_size(desc(MapType::Ringbuf, 0, 0, 0)));
    assert!(bad_size(desc(MapType::Devmap, 8, 4, 1)));
    let queue = refused(desc(MapType::Queue, 4, 4, 1));
    assert_eq!(queue.to_string(), "map `m`: maps of type queue are not supported");
}

/// A map and a `BTreeMap` of at most that many elements go the same way.
#[test]
fn a_hash_map_agrees_with_its_model() {
    for seed in 0..50 {
        let mut rng = Rng::seed(seed);
        let (map, mut model) = (hash(1, 12, 16), BTreeMap::new());
        for _ in 0..300 {
            let key = vec![rng.range(0..24) as u8];
            if rng.chance(1, 3) {
                assert_eq!(map.delete(&key).is_ok(), model.remove(&key).is_some());
            } else {
                let value = rng.bytes(12);
                let mode = *rng.pick(&[UpdateMode::Any, UpdateMode::NoExist, UpdateMode::Exist]);
                let expected = match (model.contains_key(&key), mode) {
                    (true, UpdateMode::NoExist) => Err(MapError::Exists),
                    (false, UpdateMode::Exist) => Err(MapError::NotFound),
                    (false, _) if model.len() == 16 => Err(MapError::Full),
                    _ => Ok(()),
                };
                assert_eq!(map.update(&key, &value, mode), expected, "seed {seed}");
                if expected.is_ok() {
                    model.insert(key, value);
                }
            }
        }
        let elements: Vec<_> = model.into_iter().collect();
        assert_eq!(map.elements(), elements, "seed {seed}");
    }
}

#[test]
fn a_full_lru_map_makes_room() {
    let map = Map::new("m", desc(MapType::LruHash, 1, 1, 2)).unwrap();
    for key in 0..100 {
        assert_eq!(map.update(&[key], &[key], UpdateMode::NoExist), Ok(()));
        assert_eq!(map.lookup(&[key]), Ok(Some(vec![key])), "the newest stays");
    }
    assert_eq!(map.elements().len(), 2);
}

#[test]
fn per_cpu_maps_show_all_slots_to_the_host() {
    let map = Map::with_cpus("m", desc(MapType::PercpuArray, 4, 4, 2), 3).unwrap();
    let wrong = MapError::WrongSize { what: "value", got: 4, want: 24 };
    assert_eq!(map.update(&[0; 4], &[1; 4], UpdateMode::Any), Err(wrong));
    let all = [[1, 1, 1, 1, 0, 0, 0, 0], [2, 2, 2, 2, 0, 0, 0, 0], [0; 8]].concat();
    assert_eq!(map.update(&[0; 4], &all, UpdateMode::Any), Ok(()));
    assert_eq!(map.lookup(&[0; 4]), Ok(Some(all)));
}

#[test]
fn maps_of_maps_take_maps_like_their_first_description() {
    let inner = desc(MapType::Array, 4, 8, 1);
    let outer = Map::of_maps("m", desc(MapType::ArrayOfMaps, 4, 4, 2), inner).unwrap();
    let map = |desc| Arc::new(Map::new("inner", desc).unwrap());
    let key = |index: u32| index.to_ne_bytes();
    assert_eq!(outer.put(&key(0), map(inner), UpdateMode::Any), Ok(()));
    assert_eq!(outer.put(&key(2), map(inner), UpdateMode::Any), Err(MapError::Full));
    let longer = map(desc(MapType::Array, 4, 8, 2));
    assert_eq!(outer.put(&key(0), longer, UpdateMode::Any), Err(MapError::OtherInner));
    assert_eq!(outer.update(&key(0), &[0; 4], UpdateMode::Any), Err(MapError::HoldsMaps));
    assert_eq!(outer.lookup(&key(0)), Err(MapError::HoldsMaps));
    assert_eq!(outer.inner_maps().len(), 1);
    assert_eq!(outer.delete(&key(0)), Ok(()));
    assert_eq!(outer.delete(&key(0)), Err(MapError::NotFound));
    let plain = array(8, 1);
    assert_eq!(plain.put(&key(0), map(inner), UpdateMode::Any), Err(MapError::HoldsValues));
    let nested = Map::of_maps("m", *outer.desc(), *outer.desc());
    assert!(matches!(nested, Err(CreateMapError::BadSize { .. })));
}

#[test]
fn maps_of_sockets_say_that_there_are_no_sockets() {
    let error = Map::new("m", desc(MapType::Sockmap, 4, 4, 1)).unwrap_err();
    let text = "map `m`: maps of type sockmap hold sockets, and there are no sockets here; such programs can only be verified";
    assert_eq!(error.to_string(), text);
}
