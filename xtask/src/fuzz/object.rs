//! Bytes as object files: compiled fixtures with changes.

use ebpf_runtime::btf::TypeIndex;
use ebpf_runtime::object::Object;
use ebpf_testkit::{Rng, fixtures_dir};

use super::{Case, mutate};
use crate::error::TaskError;

pub(super) fn prepare() -> Result<Case, TaskError> {
    let dir = fixtures_dir().join("xdp");
    let mut objects = Vec::new();
    for entry in std::fs::read_dir(&dir).map_err(|error| TaskError::file(&dir, error))? {
        let path = entry.map_err(|error| TaskError::file(&dir, error))?.path();
        if path.extension().is_some_and(|suffix| suffix == "o") {
            objects.push(std::fs::read(&path).map_err(|error| TaskError::file(&path, error))?);
        }
    }
    // The order of directories is not that of every machine.
    objects.sort();
    Ok(Box::new(move |rng| case(rng, &objects)))
}

fn case(rng: &mut Rng, objects: &[Vec<u8>]) -> Result<(), String> {
    let original = rng.pick(objects).clone();
    let bytes = if rng.chance(1, 2) { mutate(rng, &original) } else { in_place(rng, original) };
    let Ok(object) = Object::parse(&bytes) else { return Ok(()) };
    // What it asks about types, it asks about its own or those of another object.
    let other = Object::parse(rng.pick::<Vec<u8>>(objects)).ok();
    let types = if rng.chance(1, 2) { object.btf() } else { other.as_ref().and_then(Object::btf) };
    let types = types.map(|btf| TypeIndex::new(btf.clone()));
    for program in object.programs() {
        let linked = object.program_with(&program.name, types.as_ref(), |_| None);
        let Ok(linked) = linked else { continue };
        linked.program.to_slots().map_err(|error| format!("{}: {error}", program.name))?;
    }
    Ok(())
}

/// Changes that leave the headers' offsets right, so that more of the file is read.
fn in_place(rng: &mut Rng, mut bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..rng.range(1..16) {
        let at = rng.range(0..bytes.len() as u64) as usize;
        bytes[at] = match rng.range(0..3) {
            0 => rng.next_u64() as u8,
            1 => bytes[at].wrapping_add(1),
            _ => bytes[at] ^ 1 << rng.range(0..8),
        };
    }
    bytes
}
