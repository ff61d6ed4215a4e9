//! Exploration: every path through the program, one after the other.
//!
//! The order is the kernel's. At a fork the path goes on with the fall-through, and the other side
//! waits on a stack; when a path ends, the newest waiting side is next.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use ebpf_isa::{Pc, Program};

use crate::Stats;
use crate::environment::Environment;
use crate::error::{ErrorCode, Fault};
use crate::state::State;
use crate::step::{ContextUse, Machine, Next};

/// What exploration found out about an acceptable program.
#[derive(Debug)]
pub(crate) struct Explored {
    /// By slot: whether some path comes here.
    pub(crate) reached: Vec<bool>,
    /// By slot: what a memory instruction accesses.
    pub(crate) context_use: Vec<ContextUse>,
    /// By subprogram: bytes of stack.
    pub(crate) stack_depth: Vec<u16>,
}

/// Explores all paths, or all up to the first fault, and counts: on a machine with so many
/// processors, or with any number.
pub(crate) fn explore(
    program: &Program,
    env: &Environment,
    processors: Option<u32>,
    max_processed: u32,
    stats: &mut Stats,
) -> Result<Explored, (Box<Fault>, Pc)> {
    let mut machine = Machine::new(program, env, processors);
    let mut waiting: Vec<(Pc, State)> = Vec::new();
    let mut reached = vec![false; program.slots().len()];
    stats.paths = 1;
    loop {
        let pc = machine.pc;
        stats.processed += 1;
        if stats.processed > max_processed {
            let message = format!("BPF program is too large. Processed {} insn", stats.processed);
            return Err((Fault::new(ErrorCode::LimitProcessed, message), pc));
        }
        reached[pc.index()] = true;
        match machine.step().map_err(|fault| (fault, pc))? {
            Next::Goto(next) => machine.pc = next,
            Next::Fork { fall_through, taken, taken_state } => {
                waiting.push((taken, taken_state));
                stats.peak_pending = stats.peak_pending.max(waiting.len() as u32);
                if waiting.len() > env.profile.max_pending as usize {
                    let jumps = waiting.len();
                    let message = format!("The sequence of {jumps} jumps is too complex.");
                    return Err((Fault::new(ErrorCode::LimitPending, message), pc));
                }
                machine.pc = fall_through;
            }
            Next::End => {
                let Some((next, state)) = waiting.pop() else { break };
                stats.paths += 1;
                machine.pc = next;
                machine.state = state;
            }
        }
    }
    let Machine { context_use, stack_depth, .. } = machine;
    Ok(Explored { reached, context_use, stack_depth })
}
