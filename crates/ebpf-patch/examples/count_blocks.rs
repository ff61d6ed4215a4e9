//! Counts the basic blocks that a program executes: the program is rewritten so that it returns
//! their number. It must leave one of the registers r6 to r9 alone and have no subprograms.

use std::collections::BTreeSet;
use std::error::Error;

use ebpf_isa::{AluOp, CmpOp, Insn, Operand, Pc, Program, Reg, Width, semantics};
use ebpf_patch::{Landing, Patch, PatchError, Patched};

const WIDTH: Width = Width::W64;

fn count_blocks(program: &Program, counter: Reg) -> Result<Patched, PatchError> {
    let mut leaders = BTreeSet::from([Pc::ENTRY]);
    for (pc, insn) in program.insns() {
        let next = insn.successors(pc).next;
        leaders.extend(insn.jump_target());
        leaders.extend(next.filter(|_| insn.jump_target().is_some()));
    }
    let clear = Insn::Mov { width: WIDTH, dst: counter, src: Operand::Imm(0) };
    let count = Insn::Alu { op: AluOp::Add, width: WIDTH, dst: counter, src: Operand::Imm(1) };
    let give = Insn::Mov { width: WIDTH, dst: Reg::R0, src: Operand::Reg(counter) };

    let mut patch = Patch::new(program);
    // Loops back to the first instruction do not clear the counter again, but they count.
    patch.prepend(Pc::ENTRY, [clear], Landing::Insn)?;
    for leader in leaders {
        patch.prepend(leader, [count], Landing::Inserted)?;
    }
    for (pc, _) in program.insns().filter(|(_, insn)| *insn == Insn::Exit) {
        patch.prepend(pc, [give], Landing::Inserted)?;
    }
    patch.linearize()
}

/// Runs the few kinds of instructions that occur here.
fn run(program: &Program) -> Option<u64> {
    let (mut pc, mut regs) = (Pc::ENTRY, [0; Reg::ALL.len()]);
    loop {
        let insn = program.get(pc)?;
        let value = |src, regs: &[u64]| match src {
            Operand::Reg(reg) => regs[Reg::index(reg)],
            Operand::Imm(imm) => semantics::immediate(imm),
        };
        let mut next = insn.successors(pc).next;
        match insn {
            Insn::Mov { dst, src, .. } => regs[dst.index()] = value(src, &regs),
            Insn::Alu { op, width, dst, src } => {
                regs[dst.index()] = semantics::alu(op, width, regs[dst.index()], value(src, &regs));
            }
            Insn::Branch { op, width, lhs, rhs, target } => {
                if semantics::compare(op, width, regs[lhs.index()], value(rhs, &regs)) {
                    next = Some(target);
                }
            }
            Insn::Exit => return Some(regs[0]),
            _ => return None,
        }
        pc = next?;
    }
}

#[allow(clippy::print_stdout, reason = "this is what the example is for")]
fn main() -> Result<(), Box<dyn Error>> {
    // r0 += 1; if r0 != 5 goto 0; exit: five times round the loop, then the exit.
    let insns = [
        Insn::Alu { op: AluOp::Add, width: WIDTH, dst: Reg::R0, src: Operand::Imm(1) },
        Insn::Branch {
            op: CmpOp::Ne,
            width: WIDTH,
            lhs: Reg::R0,
            rhs: Operand::Imm(5),
            target: Pc::ENTRY,
        },
        Insn::Exit,
    ];
    let program = Program::new(insns.map(Some).to_vec(), Default::default(), Default::default())?;
    let counting = count_blocks(&program, Reg::R9)?.program;
    let blocks = run(&counting).ok_or("the program does more than this example can run")?;
    assert_eq!(blocks, 6);
    println!("{} instructions became {}, {blocks} blocks ran", program.len(), counting.len());
    Ok(())
}
