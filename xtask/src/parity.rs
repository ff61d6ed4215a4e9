//! `cargo xtask parity`: which instructions, in which operand forms, no program of `fixtures/exec`
//! executes.
//!
//! The forms come from the decoder, so a new row of an opcode table is missing here until a fixture
//! runs it. Whether an instruction is executed is seen from outside: the program runs out of fuel
//! where the instruction is replaced by a jump to itself.

mod forms;

use std::collections::HashSet;

use ebpf_runtime::flat::{Block, FlatEngine, FlatProgram};
use ebpf_runtime::isa::abi::{ExecEnv, TrapKind};
use ebpf_runtime::isa::text::assemble;
use ebpf_runtime::isa::{CallTarget, Insn, Pc, Program, WideSource};
use ebpf_testkit::{Fixture, fixture_paths, fixtures_dir};

use crate::error::TaskError;
use crate::say;
use forms::Form;

/// Instructions that a program may run here: more than any fixture needs, and little for a loop.
const FUEL: i64 = 20_000;

/// A form that no program on bare memory can execute.
struct Exemption {
    covers: fn(Insn) -> bool,
    why: &'static str,
}

const EXEMPTIONS: [Exemption; 6] = [
    Exemption {
        covers: |insn| matches!(insn, Insn::Call(CallTarget::Helper(_))),
        why: "helpers belong to a program type; fixtures have none",
    },
    Exemption {
        covers: |insn| matches!(insn, Insn::Call(CallTarget::Kfunc { .. })),
        why: "kernel functions belong to a program type; fixtures have none",
    },
    Exemption {
        covers: |insn| matches!(insn, Insn::Call(CallTarget::Reg(_))),
        why: "calls through registers are the interpreter's alone; fixtures are for every engine",
    },
    Exemption {
        covers: |insn| matches!(source(insn), Some(WideSource::Map(..) | WideSource::MapValue(..))),
        why: "maps are bound when a program is loaded",
    },
    Exemption {
        covers: |insn| matches!(source(insn), Some(WideSource::Btf { .. })),
        why: "variables of the kernel have no address here",
    },
    Exemption {
        covers: |insn| matches!(source(insn), Some(WideSource::Func(_))),
        why: "an address of a subprogram is for helpers that call back",
    },
];

fn source(insn: Insn) -> Option<WideSource> {
    match insn {
        Insn::LoadWide { source, .. } => Some(source),
        _ => None,
    }
}

fn exemption(form: Form) -> Option<&'static Exemption> {
    EXEMPTIONS.iter().find(|exemption| (exemption.covers)(form.insn()))
}

/// Says what is missing, and fails if anything is.
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    if !arguments.is_empty() {
        return Err(TaskError::Usage("parity takes no arguments".into()));
    }
    let programs = load()?;
    let executed = executed(&programs);
    let (exempt, owed): (Vec<Form>, Vec<Form>) =
        Form::all().into_iter().partition(|&form| exemption(form).is_some());
    for &form in &exempt {
        say(&format!("exempt: {form}: {}", exemption(form).map_or("", |found| found.why)));
    }
    let missing = missing(&owed, &executed);
    say(&format!(
        "{} of {} instructions × operand forms are executed by {} programs; {} are exempt",
        owed.len() - missing.len(),
        owed.len(),
        programs.len(),
        exempt.len()
    ));
    if missing.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = missing.iter().map(|form| format!("  {form}")).collect();
    let count = missing.len();
    Err(TaskError::Failed(format!("{count} are executed by none:\n{}", lines.join("\n"))))
}

fn missing(owed: &[Form], executed: &HashSet<Form>) -> Vec<Form> {
    owed.iter().copied().filter(|form| !executed.contains(form)).collect()
}

/// A program of `fixtures/exec`, and its memory.
struct Runnable {
    program: Program,
    memory: Vec<u8>,
}

fn load() -> Result<Vec<Runnable>, TaskError> {
    let dir = fixtures_dir().join("exec");
    let paths = fixture_paths(&dir).map_err(|error| TaskError::file(&dir, error))?;
    let load = |path: &std::path::PathBuf| {
        let text = std::fs::read_to_string(path).map_err(|error| TaskError::file(path, error))?;
        let fixture =
            Fixture::parse(path, &text).map_err(|error| TaskError::Failed(error.to_string()))?;
        let asm = fixture.section("asm").unwrap_or_default();
        let program = assemble(asm).map_err(|error| TaskError::file(path, error))?;
        Ok(Runnable { program, memory: fixture.mem().unwrap_or_default().to_vec() })
    };
    paths.iter().map(load).collect()
}

/// The forms that the programs execute.
fn executed(programs: &[Runnable]) -> HashSet<Form> {
    let mut executed = HashSet::new();
    for runnable in programs {
        for (pc, insn) in runnable.program.insns() {
            let form = Form::of(insn);
            if !executed.contains(&form) && reaches(runnable, pc) {
                executed.insert(form);
            }
        }
    }
    executed
}

/// Whether the program executes the instruction at `pc`.
fn reaches(runnable: &Runnable, pc: Pc) -> bool {
    let mut slots = runnable.program.slots().to_vec();
    slots[pc.index()] = Some(Insn::Jump { target: pc, long: false });
    // The second slot of a wide load must not be left over.
    if let Some(slot @ None) = slots.get_mut(pc.index() + 1) {
        *slot = Some(Insn::Exit);
    }
    let Ok(program) = Program::new(slots, Default::default(), Default::default()) else {
        return false;
    };
    let Ok(program) = FlatProgram::new(&program, FlatEngine::Interp, &[]) else { return false };
    let mut env = ExecEnv::new();
    *env.fuel.get_mut() = FUEL;
    let outcome = program.run(&mut Block::new(&runnable.memory), &mut env);
    matches!(outcome, Err(trap) if trap.kind == TrapKind::OutOfFuel && trap.pc == pc)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runnable(asm: &str) -> Runnable {
        Runnable { program: assemble(asm).unwrap(), memory: vec![0; 8] }
    }

    #[test]
    fn the_fixtures_execute_every_form() {
        run(&[]).unwrap();
    }

    #[test]
    fn what_is_jumped_over_is_not_executed() {
        let program = runnable("r0 = 1 ll\ngoto pc+3\nw0 += 1\nr0 = 2 ll\nexit");
        let reached: Vec<bool> =
            program.program.insns().map(|(pc, _)| reaches(&program, pc)).collect();
        assert_eq!(reached, [true, true, false, false, true]);
    }

    #[test]
    fn what_comes_after_a_trap_is_not_executed() {
        let program = runnable("r0 = 0\nr0 = *(u8 *)(r0 +0)\nexit");
        let reached: Vec<bool> =
            program.program.insns().map(|(pc, _)| reaches(&program, pc)).collect();
        assert_eq!(reached, [true, true, false]);
    }

    #[test]
    fn a_form_without_a_program_is_missing() {
        let executed = executed(&[runnable("r0 = 0\nexit")]);
        let all = Form::all();
        let missing = missing(&all, &executed);
        assert_eq!(missing.len() + 2, all.len());
    }

    #[test]
    fn each_exemption_covers_something() {
        let all = Form::all();
        for Exemption { covers, why } in EXEMPTIONS {
            assert!(all.iter().any(|form| covers(form.insn())), "{why}");
        }
    }
}
