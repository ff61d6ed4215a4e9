//! A program's run beside the states that were explored.

use ebpf_runtime::interp::{Moment, Vm};
use ebpf_runtime::isa::abi::TrapKind;
use ebpf_runtime::isa::{Pc, Program};
use ebpf_runtime::verifier::{
    Environment, ExploredState, Observer, Options, Rewritten, verify_observed,
};
use ebpf_testkit::Rng;

use super::frames::Frames;
use super::world::{Hooks, World, can_run, target};

/// Programs that need more are left out, for the memory that their states take.
pub(crate) const MAX_PROCESSED: u32 = 30_000;
/// Instructions of a run.
pub(crate) const FUEL: i64 = 20_000;

/// What became of a program.
pub(crate) enum Ended {
    /// The verifier does not accept it.
    Rejected,
    /// It cannot be run here.
    NotRun,
    /// It ran, and at so many instructions all was as some state says.
    Ran { moments: u64 },
}

/// The explored states, by slot.
struct States(Vec<Vec<ExploredState>>);

impl Observer for States {
    fn before(&mut self, pc: Pc, state: ExploredState) {
        self.0[pc.index()].push(state);
    }
}

/// Verifies a program and runs it in a random world. Fails where a moment of the run is none that
/// was explored, or where an accepted program traps.
pub(crate) fn run_beside(
    program: &Program,
    env: &Environment,
    rng: &mut Rng,
) -> Result<Ended, String> {
    let mut states = States(vec![Vec::new(); program.slots().len()]);
    let mut options = Options::default();
    options.max_processed = Some(MAX_PROCESSED);
    // Where a path ends early, what is not looked at any more may be otherwise.
    options.exploration.without_pruning = true;
    let Ok(verified) = verify_observed(program, env, &options, &mut states) else {
        return Ok(Ended::Rejected);
    };
    let Ok(rewritten) = verified.rewrite_for(&Hooks::of(env), &target()) else {
        return Ok(Ended::NotRun);
    };
    if !can_run(env) {
        return Ok(Ended::NotRun);
    }
    let mut world = World::new(env, rng);
    let Ok(vm) = Vm::new(&rewritten.program, Some(&rewritten.facts), &world.links(env, program))
    else {
        return Ok(Ended::NotRun);
    };
    let mut watch = Watch { states, frames: Frames::default(), moments: 0, wrong: None };
    let end = world.run(&vm, FUEL, |moment, places| watch.see(&rewritten, moment, places));
    match (watch.wrong, end) {
        (Some(wrong), _) => Err(wrong),
        (None, Ok(_)) => Ok(Ended::Ran { moments: watch.moments }),
        (None, Err(trap)) if trap.kind == TrapKind::OutOfFuel => {
            Ok(Ended::Ran { moments: watch.moments })
        }
        (None, Err(trap)) => Err(format!("accepted, and traps: {trap:?}")),
    }
}

/// What sees the run.
struct Watch {
    states: States,
    frames: Frames,
    moments: u64,
    wrong: Option<String>,
}

impl Watch {
    fn see(&mut self, rewritten: &Rewritten, moment: &Moment<'_>, places: &super::world::Places) {
        self.frames.update(rewritten, moment);
        // Only where an instruction of the verified program begins is there something to compare.
        let Some(pc) = rewritten.map.old(moment.pc()).filter(|_| self.wrong.is_none()) else {
            return;
        };
        let concrete = self.frames.concrete(places);
        let states = &mut self.states.0[pc.index()];
        let admitting = states.iter().position(|state| state.admits(&concrete).is_ok());
        match admitting {
            // Neighbours in time are likely to be in the same state.
            Some(index) => states.swap(0, index),
            None => {
                let why = states.iter().map(|state| state.admits(&concrete).unwrap_err());
                let why: Vec<String> = why.take(4).map(|excluded| excluded.to_string()).collect();
                self.wrong = Some(format!("insn {pc}: in none of {}: {why:#?}", states.len()));
            }
        }
        self.moments += 1;
    }
}
