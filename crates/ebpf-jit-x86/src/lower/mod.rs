//! From BPF instructions to machine code, one file for each family.

mod alu;
mod atomic;
mod branch;
mod call;
mod callback;
mod checked;
mod cold;
mod entry;
mod env;
mod frame;
mod fuel;
mod fuse;
mod leaders;
mod length;
mod memory;
mod muldiv;
mod packet;
mod plan;
mod shift;
mod source;
mod swap;
mod tail;

use ebpf_image::{CodeOffset, EntryPoint, Image, ImageParts, SourcePc};
use ebpf_isa::{AluOp, Facts, Insn, Operand, Pc, Program, Subprog, SubprogIdx, Width};

use crate::emitter::{Emitter, Shift};
use crate::regs::Gpr;
use crate::{JitError, Options};
use callback::{Callback, Taken};
use checked::{Checks, Traps};
use cold::Cold;
use entry::{Entry, Exits, Unwindable};
use frame::Frame;
use fuel::Meter;
use leaders::Leaders;
use plan::Plan;
use source::Source;
use tail::TailCalls;

/// Compiles a whole program: see [`compile`](crate::compile).
pub(crate) fn compile(
    program: &Program,
    facts: Option<&Facts>,
    options: &Options,
) -> Result<Image, JitError> {
    let source = Source::new(program, facts, options.blinding)?;
    let program = &*source.program;
    let plan = Plan::new(&source, options);
    let (frames, entry) = (plan.frames, plan.entry);
    let mut emitter = Emitter::new(plan.positions);
    let e = &mut emitter;
    let exits = match entry {
        Entry::Direct => None,
        Entry::Thunk => {
            entry::thunk(e);
            None
        }
        Entry::Unwindable => Some(Unwindable::new(options, plan.callbacks).emit(e)),
    };
    let tail_calls = plan.tail_calls.then(|| TailCalls::emit(e, exits, options));
    let fuel = exits.filter(|_| options.fuel);
    let checked = exits.filter(|_| options.checks_memory());
    let traps = fuel.or(checked).map(|exits| Traps::emit(e, exits));
    let metered = fuel.and(traps);
    let meter = metered.map(|traps| Meter::new(program.slots().len(), fuel::allow(e, traps)));
    let checks = checked.map(|exits| Checks::emit(e, exits, options.fuel));
    let mut lowering = Lowering {
        emitter: e,
        program,
        source: &source,
        options,
        frame: frames[SubprogIdx::MAIN.index()],
        is_main: true,
        has_callbacks: plan.callbacks,
        exits,
        tail_calls,
        traps,
        checks,
        meter,
        leaders: plan.leaders,
        cold: Vec::new(),
        taken: Vec::new(),
    };
    for ((index, subprog), frame) in (0..).map(SubprogIdx).zip(program.subprogs()).zip(frames) {
        lowering.is_main = index == SubprogIdx::MAIN;
        lowering.frame = frame;
        lowering.subprog(index, subprog)?;
    }
    let callbacks = lowering.emit_callbacks();
    lowering.emit_cold()?;
    finish(&source, entry, &callbacks, emitter)
}

fn finish(
    source: &Source<'_>,
    entry: Entry,
    callbacks: &[Callback],
    emitter: Emitter,
) -> Result<Image, JitError> {
    let (mut code, relocs, positions) = emitter.finish();
    positions.resolve_calls(&mut code)?;
    let subprogs = source.program.subprogs();
    let name = |subprog: &Subprog| subprog.info.name.clone().unwrap_or_default();
    let entry_point = |(index, subprog): (u32, &Subprog)| EntryPoint {
        offset: match index {
            0 if entry != Entry::Direct => CodeOffset(0),
            _ => positions.subprog(SubprogIdx(index)),
        },
        pc: SourcePc(source.origin(subprog.start).0),
        name: name(subprog),
    };
    let callback = |&Callback { subprog, start }: &Callback| {
        let subprog = &subprogs[subprog.index()];
        let name = format!("{}.callback", name(subprog));
        EntryPoint { offset: start, pc: SourcePc(source.origin(subprog.start).0), name }
    };
    let own = (0..).zip(subprogs).map(entry_point);
    let entries = own.chain(callbacks.iter().map(callback)).collect();
    Ok(Image::new(ImageParts { code, relocs, entries, pc_map: positions.into_pc_map() })?)
}

/// What the lowering of an instruction has at hand.
struct Lowering<'a> {
    emitter: &'a mut Emitter,
    program: &'a Program,
    source: &'a Source<'a>,
    options: &'a Options,
    /// The frame of the current subprogram.
    frame: Frame,
    /// Whether that is the main program.
    is_main: bool,
    /// Whether native code may call subprograms.
    has_callbacks: bool,
    /// Where the program may end early.
    exits: Option<Exits>,
    /// Where there are any.
    tail_calls: Option<TailCalls>,
    /// With fuel or checked memory.
    traps: Option<Traps>,
    /// With checked memory.
    checks: Option<Checks>,
    /// With fuel.
    meter: Option<Meter>,
    leaders: Leaders,
    cold: Vec<Cold>,
    /// Addresses of subprograms that were taken.
    taken: Vec<Taken>,
}

impl Lowering<'_> {
    fn subprog(&mut self, index: SubprogIdx, subprog: &Subprog) -> Result<(), JitError> {
        self.emitter.positions.begin_subprog(index, self.emitter.here());
        frame::prologue(self.emitter, &self.frame, self.checks);
        self.set_pending(Some(0));
        let mut pc = subprog.start;
        while pc < subprog.end {
            self.arrive(pc);
            let here = self.emitter.here();
            self.emitter.positions.begin_insn(pc, here);
            let done = match self.program.get(pc) {
                Some(insn) => self.insn(pc, insn)?,
                None => 1,
            };
            for fused in 1..done {
                self.count(Pc(pc.0 + fused));
                self.emitter.positions.begin_insn(Pc(pc.0 + fused), here);
            }
            pc = Pc(pc.0 + done);
        }
        Ok(self.emitter.end_subprog()?)
    }

    /// Emits the code of the instruction at `pc`, perhaps together with those that come next: gives
    /// how many slots that is.
    fn insn(&mut self, pc: Pc, insn: Insn) -> Result<u32, JitError> {
        let start = self.emitter.here();
        self.count(pc);
        let fused = match insn {
            Insn::Mov { width, dst, src: Operand::Reg(src) } => self.fuse_mov(pc, width, dst, src),
            Insn::Alu { op: AluOp::Lsh, width, dst, src: Operand::Imm(count) } => {
                self.fuse_shift(pc, width, dst, count)
            }
            _ => 0,
        };
        if fused > 0 {
            return Ok(fused);
        }
        self.check_access(pc, insn);
        let e = &mut *self.emitter;
        match insn {
            Insn::Alu { op, width, dst, src } => {
                alu_op(e, op, width, dst.into(), src, self.meter.is_some());
            }
            Insn::Mov { width, dst, src } => alu::mov(e, width, dst.into(), src),
            Insn::MovSx { width, dst, src, from } => {
                e.mov_extend(ebpf_isa::Extend::Sign, from, width, dst.into(), src.into());
            }
            Insn::Neg { width, dst } => alu::neg(e, width, dst.into()),
            Insn::Swap { order, size, dst } => swap::swap(e, order, size, dst.into()),
            Insn::LoadWide { dst, source } => {
                memory::load_wide(self, dst.into(), source)
                    .map_err(|what| unsupported(self.source.origin(pc), what))?;
            }
            Insn::Load { .. }
            | Insn::Store { .. }
            | Insn::LoadAcquire { .. }
            | Insn::StoreRelease { .. } => memory::access(e, insn),
            Insn::Atomic { op, size, fetch, base, off, src } => {
                let operands = atomic::Operands::new(size, base, off, src).ok_or(unsupported(
                    self.source.origin(pc),
                    "an atomic operation of less than 4 bytes",
                ))?;
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
        Ok(1)
    }

    /// Emits a return from the current function with `r0`.
    fn exit(&mut self, pc: Pc) {
        self.before_return(pc);
        frame::epilogue(self.emitter, &self.frame);
        self.set_pending(None);
    }
}

fn alu_op(e: &mut Emitter, op: AluOp, width: Width, dst: Gpr, src: Operand, counts: bool) {
    use muldiv::{Division, divide};
    if let Some(op) = alu::arith_op(op) {
        return alu::arith(e, op, width, dst, src);
    }
    match op {
        // Done above.
        AluOp::Add | AluOp::Sub | AluOp::And | AluOp::Or | AluOp::Xor => {}
        AluOp::Lsh => shift::shift(e, Shift::Shl, width, dst, src),
        AluOp::Rsh => shift::shift(e, Shift::Shr, width, dst, src),
        AluOp::Arsh => shift::shift(e, Shift::Sar, width, dst, src),
        AluOp::Mul => muldiv::multiply(e, width, dst, src),
        AluOp::Div => divide(e, Division::DIV, width, dst, src, counts),
        AluOp::SDiv => divide(e, Division::SDIV, width, dst, src, counts),
        AluOp::Mod => divide(e, Division::MOD, width, dst, src, counts),
        AluOp::SMod => divide(e, Division::SMOD, width, dst, src, counts),
    }
}

const fn unsupported(pc: Pc, what: &'static str) -> JitError {
    JitError::Unsupported { pc, what }
}
