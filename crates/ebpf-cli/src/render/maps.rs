//! The contents of maps.

use std::io::{self, Write};

use ebpf_runtime::isa::uapi::MapType;
use ebpf_runtime::maps::Map;
use serde_json::{Value, json};

use crate::console::one_line;

/// Elements of one map that people are shown. Data has all.
const SHOWN_ELEMENTS: usize = 64;
/// Bytes of one key or value that people are shown. Data has all.
const SHOWN_BYTES: usize = 64;

type Element = (Vec<u8>, Vec<u8>);

/// Writes what is in a map. Elements are sorted by key: key and value in hex, and values of 1, 2, 4 or 8
/// bytes as a number too. Elements of arrays are always there, so those that are all zero are only
/// counted.
pub(crate) fn write(out: &mut impl Write, map: &Map) -> io::Result<()> {
    if map.takes_events() {
        write_events(out, map)
    } else if map.inner_desc().is_some() {
        write_inner(out, map)
    } else {
        write_plain(out, map)
    }
}

fn write_plain(out: &mut impl Write, map: &Map) -> io::Result<()> {
    let desc = map.desc();
    let elements = map.elements();
    writeln!(
        out,
        "map {}: {}, key {} bytes, value {} bytes, {} of {} elements",
        one_line(map.name()),
        desc.map_type,
        desc.key_size,
        desc.value_size,
        elements.len(),
        desc.max_entries
    )?;
    write_elements(out, desc.map_type, &elements)
}

/// Writes the maps of a map of maps, each with its elements.
fn write_inner(out: &mut impl Write, map: &Map) -> io::Result<()> {
    let (inner, desc) = (map.inner_maps(), map.desc());
    let name = one_line(map.name());
    writeln!(out, "map {name}: {}, {} of {} maps", desc.map_type, inner.len(), desc.max_entries)?;
    for (key, inner) in inner.iter().take(SHOWN_ELEMENTS) {
        write!(out, "  {}  ", shortened(key))?;
        write_plain(out, inner)?;
    }
    match inner.len().saturating_sub(SHOWN_ELEMENTS) {
        0 => Ok(()),
        rest => writeln!(out, "  ... and {rest} more"),
    }
}

/// Writes the events of a map, in their order.
fn write_events(out: &mut impl Write, map: &Map) -> io::Result<()> {
    let (events, lost) = (map.take_events(), map.lost_events());
    let name = one_line(map.name());
    writeln!(out, "map {name}: {}, {} events, {lost} lost", map.desc().map_type, events.len())?;
    for event in events.iter().take(SHOWN_ELEMENTS) {
        writeln!(out, "  {}", shortened(event))?;
    }
    match events.len().saturating_sub(SHOWN_ELEMENTS) {
        0 => Ok(()),
        rest => writeln!(out, "  ... and {rest} more"),
    }
}

fn write_elements(out: &mut impl Write, map_type: MapType, elements: &[Element]) -> io::Result<()> {
    let is_zero = |value: &[u8]| value.iter().all(|&byte| byte == 0);
    let hidden = |value: &[u8]| map_type == MapType::Array && is_zero(value);
    let mut shown = elements.iter().filter(|(_, value)| !hidden(value));
    for (key, value) in shown.by_ref().take(SHOWN_ELEMENTS) {
        write!(out, "  {}  {}", shortened(key), shortened(value))?;
        match number(value) {
            Some(number) => writeln!(out, "  {number}")?,
            None => writeln!(out)?,
        }
    }
    let rest = shown.count();
    if rest != 0 {
        writeln!(out, "  ... and {rest} more")?;
    }
    match elements.iter().filter(|(_, value)| hidden(value)).count() {
        0 => Ok(()),
        zero => writeln!(out, "  zero elements: {zero}"),
    }
}

/// Hex, cut after [`SHOWN_BYTES`].
fn shortened(bytes: &[u8]) -> String {
    match bytes.get(..SHOWN_BYTES) {
        Some(start) if bytes.len() > SHOWN_BYTES => {
            format!("{}... ({} bytes)", hex::encode(start), bytes.len())
        }
        _ => hex::encode(bytes),
    }
}

/// The bytes as an unsigned number, little-endian, if they have the size of one.
fn number(bytes: &[u8]) -> Option<u64> {
    if !matches!(bytes.len(), 1 | 2 | 4 | 8) {
        return None;
    }
    let mut wide = [0; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Some(u64::from_le_bytes(wide))
}

/// A map with all its elements, maps, or events.
pub(crate) fn json(map: &Map) -> Value {
    let mut object = plain_json(map);
    if map.takes_events() {
        object["events"] = map.take_events().iter().map(hex::encode).collect();
        object["lost"] = map.lost_events().into();
    }
    if map.inner_desc().is_some() {
        let inner = map.inner_maps();
        let held = inner
            .iter()
            .map(|(key, map)| json!({ "key": hex::encode(key), "map": plain_json(map) }));
        object["maps"] = held.collect();
    }
    object
}

fn plain_json(map: &Map) -> Value {
    let desc = map.desc();
    let element =
        |(key, value): Element| json!({ "key": hex::encode(&key), "value": hex::encode(&value) });
    json!({
        "name": map.name(),
        "type": desc.map_type.name(),
        "key_size": desc.key_size,
        "value_size": desc.value_size,
        "max_entries": desc.max_entries,
        "elements": map.elements().into_iter().map(element).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(map_type: MapType, elements: &[Element]) -> String {
        let mut out = Vec::new();
        write_elements(&mut out, map_type, elements).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn keys_and_values_in_hex_and_numbers() {
        let elements = [(vec![1, 0], vec![0xff, 1, 0, 0]), (vec![2, 0], vec![1, 2, 3])];
        assert_eq!(text(MapType::Hash, &elements), "  0100  ff010000  511\n  0200  010203\n");
    }

    #[test]
    fn zeroes_of_arrays_are_counted_and_those_of_hash_maps_shown() {
        let elements = [(vec![0], vec![0]), (vec![1], vec![7]), (vec![2], vec![0])];
        assert_eq!(text(MapType::Array, &elements), "  01  07  7\n  zero elements: 2\n");
        assert_eq!(text(MapType::Hash, &elements), "  00  00  0\n  01  07  7\n  02  00  0\n");
    }

    #[test]
    fn long_maps_are_cut_on_both_sides_of_the_limit() {
        let elements = |count: usize| -> Vec<Element> {
            (0..count).map(|index| (vec![index as u8], vec![1])).collect()
        };
        let at_limit = text(MapType::Hash, &elements(SHOWN_ELEMENTS));
        assert_eq!(at_limit.lines().count(), SHOWN_ELEMENTS);
        assert!(!at_limit.contains("more"));
        let beyond = text(MapType::Hash, &elements(SHOWN_ELEMENTS + 2));
        assert!(beyond.ends_with("\n  ... and 2 more\n"), "{beyond}");
    }

    #[test]
    fn long_values_are_cut_on_both_sides_of_the_limit() {
        assert_eq!(shortened(&[0xab; SHOWN_BYTES]), "ab".repeat(SHOWN_BYTES));
        let expected = format!("{}... (65 bytes)", "ab".repeat(SHOWN_BYTES));
        assert_eq!(shortened(&[0xab; SHOWN_BYTES + 1]), expected);
    }
}
