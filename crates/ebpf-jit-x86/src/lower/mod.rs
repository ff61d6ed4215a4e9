//! From BPF instructions to machine code, one file for each family.

mod alu;
mod atomic;
mod branch;
mod call;
mod checked;
mod entry;
mod env;
mod frame;
mod length;
mod memory;
mod muldiv;
mod packet;
mod plan;
mod shift;
mod swap;
mod tail;

use ebpf_image::{CodeOffset, EntryPoint, Image, ImageParts, SourcePc};
use ebpf_isa::{AluOp, Facts, Insn, Operand, Pc, Program, Subprog, SubprogIdx, Width};

use crate::emitter::Emitter;
use crate::{JitError, MemoryMode, Options};
use checked::{Meter, Routines};
use entry::{Entry, Exits};
use frame::Frame;
use plan::Plan;

/// Compiles a whole program: see [`compile`](crate::compile).
pub(crate) fn compile(
    program: &Program,
    facts: Option<&Facts>,
    options: &Options,
) -> Result<Image, JitError> {
    let Plan { frames, entry, tail_calls, estimates } = Plan::new(program, facts, options);
    let mut emitter = Emitter::new(estimates);
    let exits = match entry {
        Entry::Direct => None,
        Entry::Thunk => {
            entry::thunk(&mut emitter);
            None
        }
        Entry::Unwindable => Some(entry::unwindable(&mut emitter, options.memory)),
    };
    let after_tail_call =
        exits.filter(|_| tail_calls).map(|exits| tail::emit_after(&mut emitter, exits));
    let checked = exits.filter(|_| options.memory == MemoryMode::Checked);
    let routines = checked.map(|exits| Routines::emit(&mut emitter, exits));
    let mut lowering = Lowering {
        emitter: &mut emitter,
        program,
        options,
        frame: frames[SubprogIdx::MAIN.index()],
        is_main: true,
        exits,
        after_tail_call,
        routines,
        meter: routines.map(|_| Meter::new(plan::jump_targets(program))),
    };
    for ((index, subprog), frame) in program.subprogs().iter().enumerate().zip(frames) {
        lowering.is_main = index == SubprogIdx::MAIN.index();
        lowering.frame = frame;
        lowering.subprog(subprog)?;
    }
    finish(program, entry, emitter)
}

fn finish(program: &Program, entry: Entry, emitter: Emitter) -> Result<Image, JitError> {
    let (mut code, relocs, positions) = emitter.finish();
    positions.resolve(&mut code)?;
    let entry_point = |(index, subprog): (u32, &ebpf_isa::Subprog)| EntryPoint {
        offset: match index {
            0 if entry != Entry::Direct => CodeOffset(0),
            _ => positions.subprog(SubprogIdx(index)),
        },
        pc: SourcePc(subprog.start.0),
        name: subprog.info.name.clone().unwrap_or_default(),
    };
    let entries = (0..).zip(program.subprogs()).map(entry_point).collect();
    Ok(Image::new(ImageParts { code, relocs, entries, pc_map: positions.into_pc_map() })?)
}

/// What the lowering of an instruction has at hand.
struct Lowering<'a> {
    emitter: &'a mut Emitter,
    program: &'a Program,
    options: &'a Options,
    /// The frame of the current subprogram.
    frame: Frame,
    /// Whether that is the main program.
    is_main: bool,
    /// Where the program may end early.
    exits: Option<Exits>,
    /// Where the program may end early and has tail calls.
    after_tail_call: Option<CodeOffset>,
    /// With checked memory.
    routines: Option<Routines>,
    /// With checked memory.
    meter: Option<Meter>,
}

impl Lowering<'_> {
    fn subprog(&mut self, subprog: &Subprog) -> Result<(), JitError> {
        self.emitter.positions.begin_subprog(subprog.start, self.emitter.here());
        frame::prologue(self.emitter, &self.frame, self.routines);
        for pc in (subprog.start.0..subprog.end.0).map(Pc) {
            if let Some(insn) = self.program.get(pc) {
                self.insn(pc, insn)?;
            }
        }
        Ok(())
    }

    /// Emits the code of the instruction at `pc`.
    fn insn(&mut self, pc: Pc, insn: Insn) -> Result<(), JitError> {
        self.count(pc);
        let start = self.emitter.here();
        self.emitter.positions.begin_insn(pc, start);
        self.check_access(pc);
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
                    .map_err(|what| unsupported(pc, what))?;
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
            Insn::AddrSpaceCast { dst, src, .. } => e.mov(Width::W64, dst.into(), src.into()),
            Insn::LoadPacket { size, index, imm } => packet::load(self, pc, size, index, imm),
            Insn::Jump { target, .. } => self.jump(pc, target),
            Insn::Branch { op, width, lhs, rhs, target } => {
                self.branch(pc, op, width, (lhs.into(), rhs), target);
            }
            Insn::MayGoto { target } => self.may_goto(pc, target),
            Insn::Call(target) => call::call(self, pc, target)?,
            Insn::Exit => self.exit(pc),
        }
        let len = self.emitter.here().0 - start.0;
        debug_assert!(len <= length::max_len(insn, self.options), "{insn:?} took {len} bytes");
        Ok(())
    }

    /// Emits a return from the current function with `r0`.
    fn exit(&mut self, pc: Pc) {
        self.before_return(pc);
        frame::epilogue(self.emitter, &self.frame);
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
