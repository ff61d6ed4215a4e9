//! A rewriting of every program that tells on itself: what it counts is what a watched run shows.

#[path = "../../../ebpf-patch/examples/count_blocks.rs"]
mod example;

use std::sync::atomic::{AtomicU64, Ordering};

use ebpf_runtime::flat::{Block, with_entry};
use ebpf_runtime::interp::{Links, Moment, Vm};
use ebpf_runtime::isa::{Facts, Imm64, Insn, Operand, Program, Reg, SubprogFacts, WideSource};
use ebpf_testkit::{RunResult, for_each_fixture};

use crate::engines::{Engine, Engines, context_and_env};
use crate::parts;

/// What the example keeps of the stack.
const SAVED_BYTES: i32 = 16;

/// How deep each subprogram's stack is, or `None` if that is not plain to see: where the frame
/// pointer is used for more than the address of loads and stores, or no room is left.
fn stack_facts(program: &Program) -> Option<Facts> {
    let mut depths = vec![0; program.subprogs().len()];
    for (pc, insn) in program.insns().filter(|(_, insn)| insn.reads().contains(Reg::FP)) {
        let off = match insn {
            Insn::Load { off, .. } => off,
            Insn::Store { off, src, .. } if src != Operand::Reg(Reg::FP) => off,
            _ => return None,
        };
        let depth = &mut depths[program.subprog_of(pc).index()];
        *depth = i32::from(off).wrapping_neg().max(*depth);
    }
    let fact = |depth: i32| {
        let stack_depth = u16::try_from(depth).ok()?.next_multiple_of(8);
        (i32::from(stack_depth) + SAVED_BYTES <= 512).then_some(SubprogFacts { stack_depth })
    };
    Some(Facts { subprogs: depths.into_iter().map(fact).collect::<Option<_>>()? })
}

/// How often a run comes to the start of a basic block.
fn watched(program: &Program, block: &mut Block) -> u64 {
    let entered = with_entry(program).unwrap();
    let vm = Vm::new(&entered.program, None, &Links::default()).unwrap();
    let leaders = example::leaders(program);
    let (mut context, mut env) = context_and_env(block);
    let mut blocks = 0;
    // SAFETY: a checked engine ran the program without a trap.
    let mut run = unsafe { vm.start_unchecked((&raw mut context).cast()) };
    run.resume_observed(&mut env, &mut |at: &Moment<'_>| {
        let original = entered.map.origin(at.pc());
        let own = original.is_some_and(|pc| entered.map.insn(pc) == Some(at.pc()));
        blocks += u64::from(own && original.is_some_and(|pc| leaders.contains(&pc)));
    })
    .unwrap();
    blocks
}

#[test]
fn programs_count_the_blocks_that_they_execute() {
    let engines = Engines::new();
    let mut counted = 0;
    for_each_fixture("exec", |fixture| {
        let (program, expected) = parts(fixture)?;
        let (RunResult::Value(value), Some(facts)) = (expected, stack_facts(&program)) else {
            return Ok(());
        };
        let before = fixture.mem().unwrap_or_default();
        let mut block = Block::new(before);
        let wanted = watched(&program, &mut block);
        let counter = AtomicU64::new(0);
        let address = WideSource::Imm(Imm64::new(counter.as_ptr().expose_provenance() as u64));
        let counting = example::count_blocks(&program, &facts, address).unwrap().program;
        for engine in [Engine::InterpUnchecked, Engine::Jit] {
            block.bytes_mut().copy_from_slice(before);
            // SAFETY: a checked engine ran the program without a trap; what was put into it writes to the
            // counter and to the stack below what the program uses.
            let got = unsafe { engines.run(engine, &counting, &mut block) };
            let blocks = counter.swap(0, Ordering::Relaxed);
            if (got.as_ref(), blocks) != (Ok(value), wanted) {
                return Err(format!("{engine:?}: {got:x?}, {blocks} blocks, not {wanted}"));
            }
        }
        counted += 1;
        Ok(())
    });
    println!("{counted} programs count their blocks");
    assert!(counted > 100 || std::env::var("FIXTURE").is_ok(), "{counted} programs");
}
