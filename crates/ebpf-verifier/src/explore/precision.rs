//! Which earlier numbers a decision rests on.
//!
//! When a number decides something (a branch, an offset, a size), the path is walked back to find
//! the numbers that it was computed from, and these are marked in every checkpoint on the way: a
//! state in which they differ is not covered by that checkpoint. Numbers that nothing was decided
//! by may differ.

use alloc::vec::Vec;

use ebpf_isa::uapi::HelperId;
use ebpf_isa::{AtomicOp, CallTarget, Insn, Operand, Pc, Program, Reg, RegSet, SubprogIdx};

use super::checkpoint::{CheckpointId, Checkpoints, Way};
use super::history::{Entry, History, Stretch};
use super::watch::Watch;
use crate::error::{Checked, Payload, Unsupported};
use crate::rules::calls_back;
use crate::state::{At, Cell, CellSet, FRAMES_MAX, LinkedCells, State, Value};

/// A piece of path that is walked back.
#[derive(Debug)]
struct Piece<'a> {
    first: Pc,
    /// What was remembered of it and has not been walked over.
    entries: &'a [Entry],
}

/// Where a walk starts.
#[derive(Debug)]
pub(super) struct Start<'a> {
    /// The instruction at which the path is. It is not walked over.
    pub(super) pc: Pc,
    /// The way there since the last checkpoint.
    pub(super) way: &'a Way,
    pub(super) stretch: Stretch,
    /// Index of the frame of that instruction.
    pub(super) frame: usize,
    /// Whether operations that fetch are taken for stores, as Linux does.
    pub(super) shares_mistakes: bool,
}

/// What was looked for on the way since the last checkpoint, and was all marked in checkpoints: how
/// many steps into the way, and there which cells. Walks need not look for it again.
#[derive(Debug, Default)]
pub(super) struct Explained(Vec<(u32, CellSet)>);

impl Explained {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Why a walk ends early.
enum Lost {
    /// It cannot be told what a number was computed from.
    Origin,
    /// What is wanted cannot be there.
    Bug,
    /// The kernel would look in a callee for what is the caller's.
    Caller,
    /// A slot is wanted of a stack that has only so many.
    NoSlot { slot: u8, slots: u8 },
}

/// What is being looked for.
struct Walk<'a> {
    program: &'a Program,
    /// The frame of the function that is walked through.
    frame: usize,
    wanted: CellSet,
    shares_mistakes: bool,
}

/// Marks what `wanted` was computed from, in all checkpoints of the path.
pub(super) fn rely_on<W: Watch>(
    wanted: &CellSet,
    start: Start<'_>,
    program: &Program,
    history: &History,
    checkpoints: &mut Checkpoints,
    explained: &mut Explained,
    watch: &mut W,
) -> Checked {
    let (newest, steps) = (start.way.parent, start.way.steps);
    let mut walk = Walk {
        program,
        frame: start.frame,
        wanted: *wanted,
        shares_mistakes: start.shares_mistakes,
    };
    let frame = start.frame;
    match walk.run(start, history, checkpoints, explained, watch) {
        Ok(()) => {}
        Err(Lost::Origin) => {
            watch.gives_up(frame);
            rely_on_everything(newest, checkpoints, watch);
        }
        Err(Lost::Caller) => return Err(Unsupported::PacketLoadReturn.into()),
        Err(Lost::Bug) => return Err(Unsupported::UnknownOrigin.into()),
        Err(Lost::NoSlot { slot, slots }) => {
            let (slot, slots) = (slot.into(), slots.into());
            return Err(Payload::NoStackSlot { slot, slots }.into());
        }
    }
    if !W::EVERYTHING {
        explained.0.push((steps, *wanted));
    }
    Ok(())
}

/// Marks all numbers in a checkpoint and all those before it.
fn rely_on_everything(
    checkpoint: Option<CheckpointId>,
    checkpoints: &mut Checkpoints,
    watch: &mut impl Watch,
) {
    let (mut next, mut marked) = (checkpoint, 0);
    while let Some(id) = next {
        let checkpoint = checkpoints.get_mut(id);
        for (cell, value) in checkpoint.state.cells() {
            if matches!(value, Value::Scalar(_)) && !checkpoint.precise.contains(cell) {
                checkpoint.precise.insert(cell);
                marked += 1;
                watch.forces(cell);
            }
        }
        next = checkpoint.way.parent;
    }
    checkpoints.marked += marked;
}

impl Walk<'_> {
    fn run(
        &mut self,
        start: Start<'_>,
        history: &History,
        checkpoints: &mut Checkpoints,
        explained: &Explained,
        watch: &mut impl Watch,
    ) -> Result<(), Lost> {
        let Way { mut parent, mut first, mut steps, .. } = *start.way;
        let mut explained = explained.0.as_slice();
        let mut stretch = start.stretch;
        // The instruction walked over last: that behind the next one.
        let mut behind = start.pc;
        watch.walks(self.frame, Some(start.pc), first, None);
        // Where the piece ends; not known of the first one.
        let mut end = None;
        loop {
            let mut piece = Piece { first, entries: history.of(&stretch) };
            let mut at = end.unwrap_or_else(|| piece.previous(start.pc, piece.entry(start.pc)));
            while let Some(pc) = at {
                let entry = piece.entry(pc);
                if let Some(Some(insn)) = self.program.slots().get(pc.index()) {
                    watch.walks_over(self.frame, &self.wanted, pc, *insn);
                    self.walk_over(pc, insn, entry, behind)?;
                    steps = steps.saturating_sub(1);
                    while let [earlier @ .., (at, cells)] = explained
                        && *at == steps
                    {
                        self.wanted.remove_all(cells, self.frame);
                        explained = earlier;
                    }
                }
                if self.is_done() {
                    return Ok(());
                }
                behind = pc;
                at = piece.previous(pc, entry);
            }
            let Some(id) = parent else {
                return Err(Lost::Origin);
            };
            let checkpoint = checkpoints.get_mut(id);
            let marked = self.mark(&checkpoint.state, &mut checkpoint.precise)?;
            for frame in (0..=self.frame).rev() {
                watch.marks(frame, &self.wanted, &checkpoint.state, &checkpoint.precise);
            }
            let way = checkpoint.way;
            let is_global = checkpoint.state.frame_at(0).subprog != SubprogIdx::MAIN;
            stretch = checkpoint.stretch.clone();
            checkpoints.marked += marked;
            if self.is_done() {
                return Ok(());
            }
            behind = first;
            watch.walks(self.frame, way.last, way.first, Some(behind));
            if way.last.is_none() && is_global {
                return self.end_at_entry();
            }
            (parent, first, end) = (way.parent, way.first, Some(way.last));
        }
    }

    /// Marks what is wanted in a checkpoint. What is no number there, or already marked, is not
    /// looked for any further. A slot may be wanted that was not there yet: of a state that was found
    /// equal to one in which the program had stored there. The kernel takes that for impossible, and
    /// refuses the program. Gives how many were not marked before.
    fn mark(&mut self, state: &State, precise: &mut CellSet) -> Result<usize, Lost> {
        let mut marked = 0;
        if self.frame != state.current() {
            return Err(Lost::Bug);
        }
        let wanted = self.wanted;
        for cell in (0..=self.frame).rev().flat_map(|frame| wanted.cells(frame)) {
            let slots = state.frame_at(cell.frame.into()).stack.slots().count();
            if let At::Slot(slot) = cell.at
                && usize::from(slot) >= slots
            {
                return Err(Lost::NoSlot { slot, slots: slots as u8 });
            }
            let is_number = matches!(state.cell(cell), Value::Scalar(_));
            if !is_number || precise.contains(cell) {
                self.wanted.remove(cell);
            } else {
                precise.insert(cell);
                marked += 1;
            }
        }
        Ok(marked)
    }

    /// At the start of a global function: nothing is wanted any more but its arguments.
    fn end_at_entry(&self) -> Result<(), Lost> {
        let others = Reg::ALL.into_iter().collect::<RegSet>().difference(ARGUMENTS);
        self.check_unwanted(others)?;
        if self.wanted.slots(self.frame) == 0 { Ok(()) } else { Err(Lost::Bug) }
    }

    /// From what is wanted after an instruction to what is wanted before it. `behind` is the
    /// instruction that followed on the path.
    fn walk_over(
        &mut self,
        pc: Pc,
        insn: &Insn,
        entry: Option<&Entry>,
        behind: Pc,
    ) -> Result<(), Lost> {
        let has_returned = || behind != Pc(pc.0 + insn.slots());
        self.want_linked(entry);
        let slot = entry.and_then(|entry| entry.slot);
        match *insn {
            Insn::Alu { dst, src: Operand::Reg(src), .. } if self.wants(dst) => self.want(src),
            Insn::Mov { dst, src: Operand::Reg(src), .. }
            | Insn::MovSx { dst, src, .. }
            | Insn::AddrSpaceCast { dst, src, .. }
                if self.take(dst) =>
            {
                self.want(src);
            }
            Insn::Mov { dst, src: Operand::Imm(_), .. } | Insn::LoadWide { dst, .. } => {
                self.take(dst);
            }
            Insn::Load { dst, .. } | Insn::LoadAcquire { dst, .. } => {
                self.walk_over_load(dst, slot);
            }
            Insn::Atomic { op, fetch: true, base, src, .. } => {
                self.walk_over_fetch(op, base, src, slot)?;
            }
            Insn::Store { base, src, .. } => self.walk_over_store(base, src.reg(), slot)?,
            Insn::StoreRelease { base, src, .. } | Insn::Atomic { base, src, .. } => {
                self.walk_over_store(base, Some(src), slot)?;
            }
            Insn::Branch { lhs, rhs: Operand::Reg(rhs), .. } => {
                self.walk_over_comparison(lhs, rhs, entry);
            }
            Insn::Call(CallTarget::Subprog(target)) if target == behind => self.leave_callee()?,
            Insn::Call(CallTarget::Helper(HelperId::TAIL_CALL)) if has_returned() => {
                self.enter_callee(behind)?;
                self.take(Reg::R0);
            }
            Insn::Call(_) if calls_back(insn) && has_returned() => self.leave_callback()?,
            // A global function is not gone into: the path went on behind the call.
            Insn::Call(
                CallTarget::Subprog(_) | CallTarget::Helper(_) | CallTarget::Kfunc { .. },
            ) => {
                self.take(Reg::R0);
                self.check_unwanted(ARGUMENTS)?;
            }
            Insn::Exit => self.enter_callee(behind)?,
            Insn::LoadPacket { .. } if self.wants(Reg::R0) => return Err(Lost::Origin),
            // The kernel does not notice that this is another function, and goes on to look there
            // for registers and slots of the caller.
            Insn::LoadPacket { .. } if has_returned() => return Err(Lost::Caller),
            _ => {}
        }
        self.want_linked(entry);
        Ok(())
    }

    fn walk_over_load(&mut self, dst: Reg, slot: Option<Cell>) {
        // Numbers that come from other memory than the stack are whatever they are.
        if let (true, Some(slot)) = (self.take(dst), slot) {
            self.wanted.insert(slot);
        }
    }

    fn walk_over_store(
        &mut self,
        base: Reg,
        src: Option<Reg>,
        slot: Option<Cell>,
    ) -> Result<(), Lost> {
        if self.wants(base) {
            // A number that was a pointer before: the difference of two.
            return Err(Lost::Origin);
        }
        if slot.is_some_and(|slot| self.wanted.take(slot)) {
            // A frame pointer, too, which is never found: then all numbers are marked.
            src.into_iter().for_each(|src| self.wanted.insert(Cell::reg(self.frame, src)));
        }
        Ok(())
    }

    /// Linux 6.18 takes what fetches for a store, and so goes on to look for the register that was
    /// fetched into. That alone would be wrong: what was fetched is what the slot held.
    fn walk_over_fetch(
        &mut self,
        op: AtomicOp,
        base: Reg,
        src: Reg,
        slot: Option<Cell>,
    ) -> Result<(), Lost> {
        let dst = if op == AtomicOp::Cmpxchg { Reg::R0 } else { src };
        let fetched = slot.filter(|_| self.wants(dst) && !self.shares_mistakes);
        self.walk_over_store(base, Some(src), slot)?;
        fetched.into_iter().for_each(|slot| self.wanted.insert(slot));
        Ok(())
    }

    /// What is learnt of one operand rests on the other.
    fn walk_over_comparison(&mut self, lhs: Reg, rhs: Reg, entry: Option<&Entry>) {
        if !self.wants(lhs) && !self.wants(rhs) {
            return;
        }
        let are_stack = entry.map_or([false; 2], |entry| entry.stack_operands);
        for (reg, is_stack) in [lhs, rhs].into_iter().zip(are_stack) {
            if !is_stack {
                self.wanted.insert(Cell::reg(self.frame, reg));
            }
        }
    }

    /// Over a call: from the callee's first instruction into the caller.
    fn leave_callee(&mut self) -> Result<(), Lost> {
        for reg in self.leave_function()?.iter() {
            self.want(reg);
        }
        Ok(())
    }

    /// Likewise into a helper that calls back. It makes the arguments itself, but for what it hands on:
    /// a stack pointer, or null, which the call relies on.
    fn leave_callback(&mut self) -> Result<(), Lost> {
        self.leave_function().map(|_| ())
    }

    /// To the frame of the caller; gives the arguments that are wanted.
    fn leave_function(&mut self) -> Result<RegSet, Lost> {
        self.check_unwanted(Reg::ALL.into_iter().collect::<RegSet>().difference(ARGUMENTS))?;
        if self.wanted.slots(self.frame) != 0 || self.frame == 0 {
            return Err(Lost::Bug);
        }
        let wanted = ARGUMENTS.iter().filter(|&reg| self.take(reg)).collect();
        self.frame -= 1;
        Ok(wanted)
    }

    /// Over a return: from behind the call into the callee.
    fn enter_callee(&mut self, behind: Pc) -> Result<(), Lost> {
        // From a callback control goes to the call of the helper, which made these registers.
        if self.program.get(behind).is_some_and(|insn| calls_back(&insn)) {
            for reg in ARGUMENTS.with(Reg::R0).iter() {
                self.take(reg);
            }
        }
        let result = self.take(Reg::R0);
        self.check_unwanted(ARGUMENTS)?;
        if self.frame + 1 == FRAMES_MAX {
            return Err(Lost::Bug);
        }
        self.frame += 1;
        if result {
            self.want(Reg::R0);
        }
        Ok(())
    }

    /// Fails if one of these registers is wanted: what was in them is not there any more.
    fn check_unwanted(&self, regs: RegSet) -> Result<(), Lost> {
        if regs.iter().any(|reg| self.wants(reg)) { Err(Lost::Bug) } else { Ok(()) }
    }

    /// Whether nothing is wanted any more; in frames that were left nothing is.
    fn is_done(&self) -> bool {
        self.wanted.is_empty_up_to(self.frame)
    }

    /// If one of the cells that learnt something together is wanted, so are the others.
    #[inline]
    fn want_linked(&mut self, entry: Option<&Entry>) {
        if let Some(Entry { linked, .. }) = entry
            && linked.is_group()
        {
            self.want_group(linked);
        }
    }

    fn want_group(&mut self, linked: &LinkedCells) {
        if linked.iter().any(|cell| self.wanted.contains(cell)) {
            linked.iter().for_each(|cell| self.wanted.insert(cell));
        }
    }

    fn wants(&self, reg: Reg) -> bool {
        self.wanted.contains(Cell::reg(self.frame, reg))
    }

    fn want(&mut self, reg: Reg) {
        if reg != Reg::FP {
            self.wanted.insert(Cell::reg(self.frame, reg));
        }
    }

    fn take(&mut self, reg: Reg) -> bool {
        self.wanted.take(Cell::reg(self.frame, reg))
    }
}

/// The registers that a call destroys, without `r0`.
const ARGUMENTS: RegSet =
    RegSet::EMPTY.with(Reg::R1).with(Reg::R2).with(Reg::R3).with(Reg::R4).with(Reg::R5);

impl<'a> Piece<'a> {
    /// What was remembered of `pc`, the instruction walked over next.
    #[inline]
    fn entry(&self, pc: Pc) -> Option<&'a Entry> {
        self.entries.last().filter(|entry| entry.pc == pc)
    }

    /// The slot before `pc`, up to which the piece is left, and whose entry is this; `None` at its start.
    #[inline]
    fn previous(&mut self, pc: Pc, entry: Option<&Entry>) -> Option<Pc> {
        let left = match (entry, self.entries) {
            (Some(_), [left @ .., _]) => left,
            (_, left) => left,
        };
        if pc == self.first && left.is_empty() {
            return None;
        }
        self.entries = left;
        match entry {
            Some(entry) => entry.from,
            None => pc.0.checked_sub(1).map(Pc),
        }
    }
}
