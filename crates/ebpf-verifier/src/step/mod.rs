//! One instruction on one path: checks it and gives the state behind it.

mod alu;
mod branch;
mod call;
mod callback;
mod dynptr;
mod effects;
mod field;
mod global;
mod helper;
mod iter;
mod kfunc;
mod linked;
mod memory;
mod object;
mod packet;
mod pointer;
mod stack;
mod structure;
mod timer;

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use ebpf_isa::uapi::HelperId;
use ebpf_isa::{
    CallTarget, Insn, MapIdx, Operand, Pc, Program, Reg, SubprogIdx, WideSource, semantics,
};

use crate::environment::{Environment, MapInfo};
use crate::error::{Checked, Payload, Unsupported};
use crate::function::Functions;
use crate::kernel_types::Target;
use crate::kfunc::ObjectType;
use crate::liveness::LiveRegs;
use crate::state::{
    Cell, Link, MapValueRef, NullId, PacketId, Pointer, PointerKind, ScalarId, ScalarValue, State,
    Value,
};
use crate::verify::Subject;

pub(crate) use callback::CallbackCall;
pub(crate) use effects::Effects;
pub(crate) use memory::ContextUse;
use memory::Place;
use packet::forget_packet_pointers;

/// Offsets and sizes must stay below this in magnitude; what may reach it counts as unbounded.
const FAR: i64 = 1 << 29;

/// Where a path goes on.
#[derive(Debug)]
pub(crate) enum Next {
    /// At one place.
    Goto(Pc),
    /// At two: the state of the machine is that of the fall-through, the other one is left in
    /// [`Machine::taken_state`].
    Fork { fall_through: Pc, taken: Pc },
    /// Nowhere: the program has returned.
    End,
}

/// The state of the path being explored, and what is recorded over all paths.
#[derive(Debug)]
pub(crate) struct Machine<'a> {
    pub(crate) program: &'a Program,
    pub(crate) env: &'a Environment,
    pub(crate) state: State,
    /// The state on the other side of a fork, from the fork until it is taken from here.
    pub(crate) taken_state: Option<State>,
    pub(crate) pc: Pc,
    /// The next instruction in program order.
    fall_through: Pc,
    /// How functions may be called.
    pub(crate) functions: &'a Functions,
    /// By subprogram: whether a path calls it, if it is a global function.
    pub(crate) called: Vec<bool>,
    /// Whether the program has a call that gives all elements of a map to a callback.
    goes_through_maps: bool,
    /// By subprogram: whether it is one that runs later.
    pub(crate) runs_later: Vec<bool>,
    /// By subprogram: whether the kernel has remarked on a call of it, if it is a static function.
    remarked: Vec<bool>,
    /// What the program is attached to, if that says what it sees.
    target: Option<Target>,
    /// The types of objects that kernel functions take and return.
    object_types: Vec<ObjectType>,
    /// Processors of the machine; `None` for any number of them.
    processors: Option<u32>,
    /// Whether what Linux believes wrongly is believed here.
    shares_mistakes: bool,
    pub(crate) live: LiveRegs,
    /// Of the instruction that was processed last.
    pub(crate) effects: Effects,
    /// The last id given out.
    last_id: u32,
    /// By slot: whether a memory access there is to the context.
    pub(crate) context_use: Vec<ContextUse>,
    /// By subprogram: bytes of stack that some path uses.
    pub(crate) stack_depth: Vec<u16>,
    /// Whether some path stores into the packet.
    pub(crate) writes_packet: bool,
    /// The calls of helpers that call back, as far as some path comes to them.
    pub(crate) callback_calls: BTreeMap<Pc, CallbackCall>,
}

impl<'a> Machine<'a> {
    pub(crate) fn new(
        subject: Subject<'a>,
        processors: Option<u32>,
        shares_mistakes: bool,
    ) -> Self {
        let Subject { program, outline, functions, env } = subject;
        let goes_through = Insn::Call(CallTarget::Helper(HelperId::FOR_EACH_MAP_ELEM));
        let goes_through_maps = outline.notable().iter().any(|&(_, insn)| insn == goes_through);
        Self {
            shares_mistakes,
            program,
            env,
            functions,
            called: vec![false; program.subprogs().len()],
            goes_through_maps,
            runs_later: vec![false; program.subprogs().len()],
            remarked: vec![false; program.subprogs().len()],
            target: env.target(),
            object_types: env.modules.object_types(),
            processors,
            state: State::entry(),
            taken_state: None,
            pc: Pc::ENTRY,
            fall_through: Pc::ENTRY,
            live: LiveRegs::of(program, outline, env),
            effects: Effects::default(),
            last_id: 0,
            context_use: vec![ContextUse::Unknown; program.slots().len()],
            stack_depth: vec![0; program.subprogs().len()],
            writes_packet: false,
            callback_calls: BTreeMap::new(),
        }
    }

    /// Processes the instruction at `pc`.
    pub(crate) fn step(&mut self) -> Checked<Next> {
        self.effects.clear();
        let insn = self.program.get(self.pc).expect("jumps land on instructions");
        self.fall_through = Pc(self.pc.0 + insn.slots());
        match insn {
            Insn::Alu { op, width, dst, src } => return self.alu(op, width, dst, src),
            Insn::Mov { width, dst, src } => self.mov(width, dst, src)?,
            Insn::MovSx { width, dst, src, from } => self.movsx(width, dst, src, from)?,
            Insn::Neg { width, dst } => self.neg(width, dst)?,
            Insn::Swap { order, size, dst } => self.swap(order, size, dst)?,
            Insn::LoadWide { dst, source } => self.load_wide(dst, source)?,
            Insn::Load { size, extend, dst, base, off } => {
                self.load(dst, Place { reg: base, off, size }, extend, false)?;
            }
            Insn::LoadAcquire { size, dst, base, off } => {
                self.load_acquire(dst, Place { reg: base, off, size })?;
            }
            Insn::Store { size, base, off, src } => {
                self.store(Place { reg: base, off, size }, src, false)?;
            }
            Insn::StoreRelease { size, base, off, src } => {
                self.store_release(Place { reg: base, off, size }, src)?;
            }
            Insn::Atomic { op, size, fetch, base, off, src } => {
                self.atomic(op, size, fetch, base, off, src)?;
            }
            Insn::Jump { target, .. } => return Ok(Next::Goto(target)),
            Insn::Branch { op, width, lhs, rhs, target } => {
                return self.branch(op, width, lhs, rhs, target);
            }
            Insn::Call(CallTarget::Helper(id)) => {
                self.call_helper(id)?;
                if let Some(taken) = self.effects.call.called_back {
                    return Ok(Next::Fork { fall_through: self.fall_through, taken });
                }
                if id == HelperId::TAIL_CALL {
                    // What was called may have moved the packet, and may have returned anything.
                    return Ok(self.may_return(Value::UNKNOWN, forget_packet_pointers));
                }
            }
            Insn::Call(CallTarget::Kfunc { btf_id, module }) => {
                return self.call_kfunc(btf_id, module);
            }
            Insn::Call(CallTarget::Subprog(target)) => return self.call_subprog(target),
            Insn::Exit => return self.exit(),
            Insn::AddrSpaceCast { .. } => return Err(Unsupported::AddrSpaceCast.into()),
            Insn::LoadPacket { index, .. } => return self.load_packet(index),
            Insn::MayGoto { target } => {
                let mut state = self.state.clone();
                state.may_gotos += 1;
                self.taken_state = Some(state);
                return Ok(Next::Fork { fall_through: target, taken: self.fall_through });
            }
            Insn::Call(CallTarget::Reg(_) | CallTarget::Native(_)) => {
                unreachable!("refused before exploration")
            }
        }
        Ok(Next::Goto(self.fall_through))
    }

    fn value(&self, reg: Reg) -> &Value {
        &self.state.frame().regs[reg.index()]
    }

    /// The content of a register that an instruction uses.
    fn read(&self, reg: Reg) -> Checked<Value> {
        self.check_readable(reg)?;
        Ok(*self.value(reg))
    }

    #[inline]
    fn check_readable(&self, reg: Reg) -> Checked {
        if matches!(self.value(reg), Value::Uninit) {
            return Err(Payload::RegisterUninit { register: reg }.into());
        }
        Ok(())
    }

    fn check_operand(&self, src: Operand) -> Checked {
        src.reg().map_or(Ok(()), |reg| self.check_readable(reg))
    }

    /// The value of a second operand.
    fn operand(&self, src: Operand) -> Checked<Value> {
        match src {
            Operand::Reg(reg) => self.read(reg),
            Operand::Imm(imm) => Ok(Value::constant(semantics::immediate(imm))),
        }
    }

    /// Notes that the number in a register of the current frame decides something.
    fn rely_on(&mut self, reg: Reg) {
        self.effects.relied_on.push(Cell::reg(self.state.current(), reg));
    }

    /// Notes that the number in a register decides something, if it is one.
    fn rely_on_number(&mut self, reg: Reg) {
        if self.value(reg).as_scalar().is_some() {
            self.rely_on(reg);
        }
    }

    fn check_writable(&self, reg: Reg) -> Checked {
        if reg == Reg::FP {
            return Err(Payload::RegisterReadOnly.into());
        }
        Ok(())
    }

    fn set(&mut self, reg: Reg, value: Value) {
        self.state.frame_mut().regs[reg.index()] = value;
    }

    fn new_id(&mut self) -> u32 {
        self.last_id += 1;
        self.last_id
    }

    fn new_null_id(&mut self) -> NullId {
        NullId(self.new_id())
    }

    fn new_packet_id(&mut self) -> PacketId {
        PacketId(self.new_id())
    }

    /// The number in `reg`, to be copied into another place; `None` if it is none. If it stays the
    /// same there, both are in one group, unless it is a constant: there is nothing more to learn.
    #[inline]
    fn copied(
        &mut self,
        reg: Reg,
        stays_same: impl Fn(&ScalarValue) -> bool,
    ) -> Option<ScalarValue> {
        let Value::Scalar(scalar) = &mut self.state.frame_mut().regs[reg.index()] else {
            return None;
        };
        if !stays_same(scalar) {
            return Some(scalar.unlinked());
        }
        if scalar.link.is_some_and(|link| link.distance.is_some()) {
            scalar.link = None;
        }
        if scalar.link.is_none() && scalar.bounds.as_const().is_none() {
            self.last_id += 1;
            scalar.link = Some(Link { id: ScalarId(self.last_id), distance: None, signed: false });
        }
        Some(*scalar)
    }

    fn map(&self, map: MapIdx) -> &'a MapInfo {
        self.env.map(map).expect("references to maps were checked before")
    }

    fn load_wide(&mut self, dst: Reg, source: WideSource) -> Checked {
        self.check_writable(dst)?;
        let value = match source {
            WideSource::Imm(imm) => Value::constant(imm.get()),
            WideSource::Map(map, _) => Value::pointer(PointerKind::Map(map)),
            WideSource::MapValue(map, off, _) => {
                let kind = PointerKind::MapValue(MapValueRef { map, null: None, element: None });
                let off = i32::try_from(off).map_err(|_| Unsupported::LargeMapValue)?;
                Value::Pointer(Pointer { off, var: crate::domain::Scalar::constant(0), kind })
            }
            WideSource::Func(start) => self.function_address(start)?,
            WideSource::Btf { .. } => unreachable!("refused before exploration"),
        };
        self.set(dst, value);
        Ok(())
    }

    /// Notes that the function of the frame at `frame` uses `bytes` of stack.
    fn use_stack(&mut self, frame: usize, bytes: u16) {
        let SubprogIdx(subprog) = self.state.frame_at(frame).subprog;
        let depth = &mut self.stack_depth[subprog as usize];
        *depth = (*depth).max(bytes.next_multiple_of(8));
        if self.state.frame_at(frame).stack.depth() < usize::from(bytes) {
            self.state.frame_at_mut(frame).stack.grow(bytes);
        }
    }
}
