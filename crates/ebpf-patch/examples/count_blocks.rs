//! Makes a program count the basic blocks that it executes, in memory that outlives the run.

use std::collections::BTreeSet;
use std::error::Error;

use ebpf_isa::text::assemble;
use ebpf_isa::{
    AtomicOp, Extend, Facts, Insn, MapForm, MapIdx, Operand, Pc, Program, Reg, Size, SubprogFacts,
    WideSource, Width,
};
use ebpf_patch::{Landing, Patch, PatchError, Patched};

/// The first instructions of basic blocks.
pub(crate) fn leaders(program: &Program) -> BTreeSet<Pc> {
    let starts = program.subprogs().iter().map(|subprog| subprog.start);
    let jumps = program.insns().filter_map(|(pc, insn)| Some((pc, insn, insn.jump_target()?)));
    let around = jumps.flat_map(|(pc, insn, target)| [Some(target), insn.successors(pc).next]);
    starts.chain(around.flatten()).collect()
}

/// The program with code at the start of each basic block that adds one to the 8 bytes at `counter`. It
/// saves its two registers below the stack of the subprogram, whose depth is a fact: what a
/// verifier found, or [`ebpf_isa::Facts`] made by hand.
pub(crate) fn count_blocks(
    program: &Program,
    facts: &Facts,
    counter: WideSource,
) -> Result<Patched, PatchError> {
    let [address, one] = [Reg::R1, Reg::R2];
    let size = Size::Dw;
    let mut patch = Patch::new(program);
    for pc in leaders(program) {
        let depth = facts.subprog(program.subprog_of(pc)).map_or(0, |facts| facts.stack_depth);
        let places = [(address, -(depth as i16) - 8), (one, -(depth as i16) - 16)];
        let save = places.map(|(reg, off)| Insn::Store {
            size,
            base: Reg::FP,
            off,
            src: Operand::Reg(reg),
        });
        let restore = places.map(|(dst, off)| Insn::Load {
            size,
            extend: Extend::Zero,
            dst,
            base: Reg::FP,
            off,
        });
        let count = [
            Insn::LoadWide { dst: address, source: counter },
            Insn::Mov { width: Width::W64, dst: one, src: Operand::Imm(1) },
            Insn::Atomic { op: AtomicOp::Add, size, fetch: false, base: address, off: 0, src: one },
        ];
        let seq = save.into_iter().chain(count).chain(restore);
        patch.prepend(pc, seq, Landing::Inserted)?;
    }
    patch.linearize()
}

#[allow(clippy::print_stdout, reason = "this is what the example is for")]
#[allow(dead_code, reason = "a test takes the functions above from here")]
fn main() -> Result<(), Box<dyn Error>> {
    let program = assemble("r0 = 0\nr0 += 1\nif r0 != 5 goto -2\nexit")?;
    let facts = Facts { subprogs: vec![SubprogFacts { stack_depth: 0 }] };
    let counter = WideSource::MapValue(MapIdx(0), 0, MapForm::Fd);
    let counting = count_blocks(&program, &facts, counter)?.program;
    println!("{}\nbecomes\n\n{}", program.listing(), counting.listing());
    Ok(())
}
