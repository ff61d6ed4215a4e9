//! What passes make of programs. That the programs still do the same is tested where there are
//! engines to run them.

#[path = "../common/mod.rs"]
mod common;

mod blinding;
mod context;
mod fixtures;
mod nops;
mod zero_extension;

use ebpf_isa::Program;
use ebpf_isa::text::assemble;

/// The instructions of a program, one a line.
fn listing(program: &Program) -> String {
    program.insns().map(|(pc, insn)| format!("{}\n", insn.text(pc))).collect()
}

fn program(asm: &str) -> Program {
    assemble(asm).expect("the test's program is well-formed")
}
