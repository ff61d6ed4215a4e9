//! From BPF instructions to machine code, one file for each family.

mod alu;
mod atomic;
mod branch;
mod call;
mod frame;
mod length;
mod memory;
mod muldiv;
mod plan;
mod shift;
mod swap;

use ebpf_image::{CodeOffset, EntryPoint, Image, ImageParts, SourcePc};
use ebpf_isa::{AluOp, Facts, Insn, Operand, Pc, Program, SubprogIdx, Width};

use crate::JitError;
use crate::emitter::Emitter;
use frame::Frame;
use plan::Plan;

/// Compiles a whole program: see [`compile`](crate::compile).
pub(crate) fn compile(program: &Program, facts: Option<&Facts>) -> Result<Image, JitError> {
    let Plan { frames, thunk, estimates } = Plan::new(program, facts);
    let mut emitter = Emitter::new(estimates);
    if thunk {
        frame::thunk(&mut emitter);
    }
    for (subprog, frame) in program.subprogs().iter().zip(&frames) {
        emitter.positions.begin_subprog(subprog.start, emitter.here());
        frame::prologue(&mut emitter, frame);
        let mut lowering = Lowering { emitter: &mut emitter, program, frame };
        for pc in (subprog.start.0..subprog.end.0).map(Pc) {
            if let Some(insn) = program.get(pc) {
                lowering.insn(pc, insn)?;
            }
        }
    }
    finish(program, thunk, emitter)
}

fn finish(program: &Program, thunk: bool, emitter: Emitter) -> Result<Image, JitError> {
    let (mut code, relocs, positions) = emitter.finish();
    positions.resolve(&mut code)?;
    let entry = |(index, subprog): (u32, &ebpf_isa::Subprog)| EntryPoint {
        offset: match index {
            0 if thunk => CodeOffset(0),
            _ => positions.subprog(SubprogIdx(index)),
        },
        pc: SourcePc(subprog.start.0),
        name: subprog.info.name.clone().unwrap_or_default(),
    };
    let entries = (0..).zip(program.subprogs()).map(entry).collect();
    Ok(Image::new(ImageParts { code, relocs, entries, pc_map: positions.into_pc_map() })?)
}

/// What the lowering of an instruction has at hand.
struct Lowering<'a> {
    emitter: &'a mut Emitter,
    program: &'a Program,
    frame: &'a Frame,
}

impl Lowering<'_> {
    /// Emits the code of the instruction at `pc`.
    fn insn(&mut self, pc: Pc, insn: Insn) -> Result<(), JitError> {
        let start = self.emitter.here();
        self.emitter.positions.begin_insn(pc, start);
        let e = &mut *self.emitter;
        match insn {
            Insn::Alu { op, width, dst, src } => alu_op(e, op, width, dst.into(), src),
            Insn::Mov { width, dst, src } => alu::mov(e, width, dst.into(), src),
            Insn::MovSx { width, dst, src, from } => {
                e.mov_extend(ebpf_isa::Extend::Sign, from, width, dst.into(), src.into());
            }
            Insn::Neg { width, dst } => alu::neg(e, width, dst.into()),
            Insn::Swap { order, size, dst } => swap::swap(e, order, size, dst.into()),
            Insn::LoadWide { dst, source } => {
                memory::load_wide(self, dst.into(), source)
                    .ok_or(unsupported(pc, "the address of a kernel variable"))?;
            }
            Insn::Load { .. }
            | Insn::Store { .. }
            | Insn::LoadAcquire { .. }
            | Insn::StoreRelease { .. } => memory::access(e, insn),
            Insn::Atomic { op, size, fetch, base, off, src } => {
                let operands = atomic::Operands::new(size, base, off, src)
                    .ok_or(unsupported(pc, "an atomic operation of less than 4 bytes"))?;
                atomic::atomic(e, op, fetch, operands);
            }
            Insn::Jump { target, .. } => branch::jump(e, pc, target),
            Insn::Branch { op, width, lhs, rhs, target } => {
                branch::compare(e, op, width, lhs.into(), rhs);
                branch::jump_if(e, op, pc, target);
            }
            Insn::Call(target) => call::call(self, pc, target)?,
            Insn::Exit => frame::epilogue(e, self.frame),
            Insn::AddrSpaceCast { .. } => return Err(unsupported(pc, "an address space cast")),
            Insn::LoadPacket { .. } => return Err(unsupported(pc, "a packet load")),
            Insn::MayGoto { .. } => return Err(unsupported(pc, "may_goto")),
        }
        let len = self.emitter.here().0 - start.0;
        debug_assert!(len <= length::max_len(insn), "{insn:?} took {len} bytes");
        Ok(())
    }
}

fn alu_op(e: &mut Emitter, op: AluOp, width: Width, dst: crate::regs::Gpr, src: Operand) {
    use crate::emitter::{Arith, Shift};
    match op {
        AluOp::Add => alu::arith(e, Arith::Add, width, dst, src),
        AluOp::Sub => alu::arith(e, Arith::Sub, width, dst, src),
        AluOp::And => alu::arith(e, Arith::And, width, dst, src),
        AluOp::Or => alu::arith(e, Arith::Or, width, dst, src),
        AluOp::Xor => alu::arith(e, Arith::Xor, width, dst, src),
        AluOp::Lsh => shift::shift(e, Shift::Shl, width, dst, src),
        AluOp::Rsh => shift::shift(e, Shift::Shr, width, dst, src),
        AluOp::Arsh => shift::shift(e, Shift::Sar, width, dst, src),
        AluOp::Mul => muldiv::multiply(e, width, dst, src),
        AluOp::Div => muldiv::divide(e, muldiv::Division::DIV, width, dst, src),
        AluOp::SDiv => muldiv::divide(e, muldiv::Division::SDIV, width, dst, src),
        AluOp::Mod => muldiv::divide(e, muldiv::Division::MOD, width, dst, src),
        AluOp::SMod => muldiv::divide(e, muldiv::Division::SMOD, width, dst, src),
    }
}

const fn unsupported(pc: Pc, what: &'static str) -> JitError {
    JitError::Unsupported { pc, what }
}
