//! Where programs are from.

use std::sync::Arc;

use ebpf_runtime::isa::Program;
use ebpf_runtime::isa::text::assemble;
use ebpf_runtime::isa::uapi::ProgramType;
use ebpf_testkit::Rng;

use super::changed::Originals;
use super::maps::MAPS;
use super::programs;
use super::subject::{Subject, map_refs};
use crate::error::TaskError;

/// What the programs of a run are made from.
#[derive(Clone)]
pub(super) enum Source {
    /// Nothing.
    Generated,
    /// Programs that somebody wrote, with changes.
    Changed(Arc<Originals>),
}

const PROGRAM_TYPES: [ProgramType; 3] =
    [ProgramType::Xdp, ProgramType::SchedCls, ProgramType::SocketFilter];

const WIDE_LOAD: u8 = 0x18;

impl Source {
    /// The program of a seed.
    pub(super) fn subject(&self, seed: u64) -> Result<Subject, TaskError> {
        let mut rng = Rng::seed(seed);
        match self {
            Self::Generated => generated(seed, &mut rng),
            Self::Changed(originals) => Ok(originals.changed(&mut rng)),
        }
    }
}

fn generated(seed: u64, rng: &mut Rng) -> Result<Subject, TaskError> {
    let program_type = *rng.pick(&PROGRAM_TYPES);
    let text = programs::program(rng.next_u64(), program_type);
    let program = assemble(&text)
        .map_err(|error| TaskError::Failed(format!("seed {seed}: {error}, in\n{text}")))?;
    let changed = if rng.chance(1, 16) { mutated(&program, rng) } else { None };
    Ok(Subject::generated(program_type, &changed.unwrap_or(program)))
}

/// The program with other fields in some slots; `None` if that is no program, or one of other maps.
fn mutated(program: &Program, rng: &mut Rng) -> Option<Program> {
    let mut slots = program.to_slots().ok()?;
    for _ in 0..rng.range(1..3) {
        let at = rng.range(0..slots.len() as u64) as usize;
        let slot = &mut slots[at];
        match rng.range(0..6) {
            0 => slot.dst = rng.range(0..11) as u8,
            // A wide load stays what it is: other kinds refer to more than the program.
            1 if slot.opcode != WIDE_LOAD => slot.src = rng.range(0..11) as u8,
            2 => slot.off = *rng.pick(&[0, 1, 2, 4, 8, -8, -1, 16]),
            3 => slot.imm = *rng.pick(&[0, 1, -1, 8, 32, 64, i32::MIN]),
            4 => slot.opcode ^= 1 << rng.range(0..8),
            5 => drop(slots.remove(at)),
            _ => {}
        }
    }
    let program = Program::from_slots(&slots).ok()?;
    // The kernel would look for others among the descriptors of the process that asks.
    let has_maps = map_refs(&program).all(|(_, map)| (map as usize) < MAPS.len());
    has_maps.then_some(program)
}
