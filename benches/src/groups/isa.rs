//! Decoding and encoding, in nanoseconds a slot.

use ebpf_runtime::isa::{RawInsn, decode_all, encode_all};
use ebpf_runtime::object::Object;

use super::{FIREWALL, GroupError, firewall};
use crate::harness::{Column, Effort, Workload, measure};
use crate::output::Report;

/// Slots to decode in one run: enough that the caches do not hold them all.
const SLOTS: usize = 1 << 20;

pub(super) fn run(effort: Effort) -> Result<Report, GroupError> {
    let slots = slots().map_err(GroupError::new(FIREWALL))?;
    let insns = decode_all(&slots).map_err(|error| GroupError::new(FIREWALL)(error.into()))?;
    let column = |name, run| Column { name, run, comparable: true };
    let mut workload = Workload {
        name: format!("{FIREWALL} repeated"),
        units_per_run: slots.len() as u64,
        unit: "ns/slot",
        columns: vec![
            column("copy", Box::new(|| slots.to_vec().len() as u64)),
            column("decode", Box::new(|| decode_all(&slots).map_or(0, |all| all.len() as u64))),
            column("encode", Box::new(|| encode_all(&insns).map_or(0, |all| all.len() as u64))),
        ],
    };
    Ok(measure(&mut workload, effort).into())
}

/// The slots of a real program, over and over; calls go to their own copy.
fn slots() -> Result<Vec<RawInsn>, Box<dyn std::error::Error>> {
    let object = Object::parse(&firewall()?)?;
    let program = object.program(FIREWALL)?.program.to_slots()?;
    Ok(program.iter().copied().cycle().take(SLOTS / program.len() * program.len()).collect())
}
