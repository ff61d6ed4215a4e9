//! Compiles a program that sums the numbers below its argument, and prints its machine code.
//!
//! `cargo run -p ebpf-jit-x86 --features listing --example compile`

use ebpf_isa::{AluOp, CmpOp, Insn, LineTable, Operand, Pc, Program, Reg, Width};
use ebpf_jit_x86::{Listing, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let width = Width::W64;
    let add = |dst, src| Insn::Alu { op: AluOp::Add, width, dst, src };
    let (sum, bound, index) = (Reg::R0, Reg::R1, Reg::R2);
    let insns = [
        Insn::Mov { width, dst: sum, src: Operand::Imm(0) },
        Insn::Mov { width, dst: index, src: Operand::Imm(0) },
        Insn::Branch { op: CmpOp::Ge, width, lhs: index, rhs: Operand::Reg(bound), target: Pc(6) },
        add(sum, Operand::Reg(index)),
        add(index, Operand::Imm(1)),
        Insn::Jump { target: Pc(2), long: false },
        Insn::Exit,
    ];
    let slots = insns.into_iter().map(Some).collect();
    let program = Program::new(slots, Default::default(), LineTable::new())?;
    let image = ebpf_jit_x86::compile(&program, None, &Options::default())?;
    #[allow(clippy::print_stdout, reason = "the listing is what the example is about")]
    {
        print!("{}", Listing::new(&program, &image));
    }
    Ok(())
}
