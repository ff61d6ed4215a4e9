//! Real code of any length, for what is done once for each program.

use std::collections::BTreeMap;

use ebpf_runtime::isa::{LineTable, Program, RawInsn, decode_all};
use ebpf_runtime::object::Object;

use super::{FIREWALL, firewall};
use crate::programs::PROGRAMS;

/// Lengths at which the cost of an instruction is measured: name and slots.
pub(super) const SIZES: [(&str, usize); 4] =
    [("1k", 1_000), ("10k", 10_000), ("64k", 64_000), ("1M", 1_000_000)];

/// The programs of which there is more than enough arithmetic without.
const LEFT_OUT: &str = "sha256";

/// About `slots` slots: the firewall and the benchmark programs over and over, each copy with its own
/// functions, cut in front of the first copy that would make it longer.
pub(super) fn of_length(slots: usize) -> Result<Program, Box<dyn std::error::Error>> {
    let mut pieces: Vec<Vec<RawInsn>> = Vec::new();
    let object = Object::parse(&firewall()?)?;
    pieces.push(object.program(FIREWALL)?.program.to_slots()?);
    for program in PROGRAMS.iter().filter(|program| program.name != LEFT_OUT) {
        pieces.push(program.flat()?.to_slots()?);
    }
    let mut all: Vec<RawInsn> = Vec::with_capacity(slots);
    for piece in pieces.iter().cycle() {
        if all.len() + piece.len() > slots {
            break;
        }
        all.extend(piece);
    }
    Ok(Program::new(decode_all(&all)?, BTreeMap::new(), LineTable::new())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_about_as_long_as_asked_for() {
        for (name, slots) in &SIZES[..3] {
            let program = of_length(*slots).unwrap();
            let len = program.slots().len();
            assert!(len <= *slots && len > slots * 6 / 10, "{name}: {len}");
        }
    }
}
