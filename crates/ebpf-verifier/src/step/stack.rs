//! Accesses to stack frames.

use ebpf_isa::{Extend, Operand, Reg, Size, semantics};

use super::memory::{Access, Place};
use super::{FAR, Machine};
use crate::domain::{self, Scalar};
use crate::error::{Checked, ObjectAccess, Payload, StackAccess, Unsupported};
use crate::state::{Cell, Link, Pointer, PointerKind, ScalarValue, Slot, StackOff, Value};

/// Bytes of a frame that an access may touch, counted from the frame pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StackRange {
    /// Lowest byte.
    pub(super) min: i64,
    /// Behind the highest byte.
    end: i64,
}

impl StackRange {
    pub(super) fn offs(self) -> impl Iterator<Item = StackOff> {
        (self.min..self.end).filter_map(StackOff::new)
    }

    /// The slots with these bytes, from the lowest address up.
    #[inline]
    pub(super) fn slots(self) -> impl Iterator<Item = usize> {
        let slot = |off| StackOff::new(off).map(StackOff::slot);
        let (lowest, highest) = (slot(self.min), slot(self.end - 1));
        let slots = lowest.zip(highest).map(|(lowest, highest)| (highest..=lowest).rev());
        slots.into_iter().flatten()
    }
}

impl Machine<'_> {
    pub(super) fn access_stack(
        &mut self,
        place: Place,
        pointer: &Pointer,
        frame: usize,
        access: Access,
    ) -> Checked<Value> {
        let Place { reg, off, size } = place;
        let (write, bytes) = (access.is_write(), i64::from(size.bytes()));
        let range = self.check_stack_range(reg, pointer, frame, off.into(), bytes, write)?;
        let fixed = pointer.const_off().and_then(|at| StackOff::new(at + i64::from(off)));
        if write {
            let whole = size == Size::Dw && matches!(access, Access::Store(_));
            self.overwrite_objects(frame, range, fixed.is_some(), whole)?;
        }
        match access {
            Access::Load(extend) => {
                if fixed.is_none() {
                    self.check_range_readable(reg, pointer, frame, range, bytes)?;
                }
                return self.load_stack(frame, range, fixed, size, extend);
            }
            Access::Peek => {
                let Some(at) = fixed else {
                    let off = i64::from(pointer.off) + i64::from(off);
                    let (var_off, size) = (pointer.var.tnum(), size.bytes());
                    return Err(Payload::StackVariable { var_off, off, size }.into());
                };
                self.peek_stack(frame, at, size)?;
            }
            Access::Store(src) => self.store_stack(frame, range, fixed, size, src)?,
            Access::Clobber => {
                if let (Some(at), Size::Dw) = (fixed, size) {
                    self.effects.write_slot(frame, at.slot());
                }
                self.state.frame_at_mut(frame).stack.clobber(range.offs());
            }
        }
        Ok(Value::UNKNOWN)
    }

    /// Loads from a constant offset, if it is `fixed`, or from somewhere in a range.
    fn load_stack(
        &mut self,
        frame: usize,
        range: StackRange,
        fixed: Option<StackOff>,
        size: Size,
        extend: Extend,
    ) -> Checked<Value> {
        let Some(at) = fixed else {
            self.note_stack_reads(frame, range);
            let stack = &self.state.frame_at(frame).stack;
            return Ok(match stack.all_zero(range.offs()) {
                true => Value::constant(0),
                false => Value::scalar(domain::load(size, extend)),
            });
        };
        let slot = self.state.frame_at(frame).stack.slot(at);
        let filled = fill(slot, at, size, extend)?;
        self.effects.read_slot(frame, at.slot());
        if filled.from_spill {
            self.effects.slot = Some(Cell::slot(frame, at.slot()));
        }
        Ok(filled.value)
    }

    /// Reads from a constant offset, and keeps nothing.
    fn peek_stack(&mut self, frame: usize, at: StackOff, size: Size) -> Checked {
        let slot = self.state.frame_at(frame).stack.slot(at);
        check_whole_fill(slot, at, size)?;
        let is_whole = is_whole(slot, size);
        self.effects.read_slot(frame, at.slot());
        if is_whole {
            self.effects.slot = Some(Cell::slot(frame, at.slot()));
        }
        Ok(())
    }

    /// Stores at a constant offset, if it is `fixed`, or somewhere in a range.
    fn store_stack(
        &mut self,
        frame: usize,
        range: StackRange,
        fixed: Option<StackOff>,
        size: Size,
        src: Operand,
    ) -> Checked {
        if let Some(at) = fixed {
            return self.spill(frame, at, size, src);
        }
        let zero = self.is_zero(src);
        let stack = &mut self.state.frame_at_mut(frame).stack;
        if let (true, Operand::Reg(reg)) = (stack.may_store(range.offs(), zero), src) {
            self.rely_on(reg);
        }
        Ok(())
    }

    /// Notes that each slot of a range may be read.
    pub(super) fn note_stack_reads(&mut self, frame: usize, range: StackRange) {
        range.offs().for_each(|off| self.effects.read_slot(frame, off.slot()));
    }

    /// Checks that an access stays within a frame, and notes how much of the frame it uses.
    pub(super) fn check_stack_range(
        &mut self,
        reg: Reg,
        pointer: &Pointer,
        frame: usize,
        off: i64,
        size: i64,
        write: bool,
    ) -> Checked<StackRange> {
        let (register, off) = (reg, off + i64::from(pointer.off));
        let var = &pointer.var;
        let (min, max) = match var.as_const() {
            Some(value) => (value.cast_signed(), value.cast_signed()),
            None => (var.smin(), var.smax()),
        };
        if var.as_const().is_none() && (max >= FAR || min <= -FAR) {
            return Err(Payload::StackUnbounded { register, write, min, max }.into());
        }
        let range =
            StackRange { min: min.saturating_add(off), end: max.saturating_add(off + size) };
        let start = StackOff::new(range.min);
        if let (Some(start), ..=0) = (start, range.end) {
            self.use_stack(frame, start.depth());
            return Ok(range);
        }
        let (lowest, var_off) = (range.min, var.tnum());
        let access = StackAccess { register, write, lowest, off, var_off, size };
        Err(match start {
            Some(_) => Payload::StackAbove { access }.into(),
            None => Payload::StackBounds { access }.into(),
        })
    }

    /// Stores a register or an immediate at a constant offset.
    fn spill(&mut self, frame: usize, at: StackOff, size: Size, src: Operand) -> Checked {
        let bytes = usize::from(size.bytes());
        let is_aligned = at.in_slot() == 0;
        let spilled = match src {
            Operand::Imm(imm) => is_aligned.then(|| Value::constant(semantics::immediate(imm))),
            Operand::Reg(reg) => match self.value(reg) {
                Value::Pointer(pointer) => {
                    self.check_pointer_spill(pointer, frame, size)?;
                    Some(*self.value(reg))
                }
                Value::Scalar(_) if is_aligned => {
                    self.copied(reg, |scalar| scalar.fits(size.bits().into())).map(Value::Scalar)
                }
                Value::Scalar(_) | Value::Uninit => None,
            },
        };
        if size == Size::Dw {
            self.effects.write_slot(frame, at.slot());
        }
        if let Some(value) = spilled {
            self.state.frame_at_mut(frame).stack.slot_mut(at).set_spill(value, bytes);
            self.effects.slot = Some(Cell::slot(frame, at.slot()));
            return Ok(());
        }
        let is_zero = self.is_zero(src);
        self.state.frame_at_mut(frame).stack.slot_mut(at).set_bytes(at.in_slot(), bytes, is_zero);
        match src {
            Operand::Reg(reg) if is_zero => self.rely_on(reg),
            _ => {}
        }
        Ok(())
    }

    /// Whether a stored operand is the number 0.
    fn is_zero(&self, src: Operand) -> bool {
        match src {
            Operand::Reg(reg) => self.value(reg).is_zero(),
            Operand::Imm(imm) => imm == 0,
        }
    }

    fn check_pointer_spill(&self, pointer: &Pointer, frame: usize, size: Size) -> Checked {
        if size != Size::Dw {
            return Err(Payload::StackSpillSize { size: size.bytes() }.into());
        }
        if frame != self.state.current() && matches!(pointer.kind, PointerKind::Stack { .. }) {
            return Err(Payload::StackSpillToCaller { frame }.into());
        }
        Ok(())
    }
}

/// What a load gives.
struct Filled {
    value: Value,
    /// Whether it is made of the spilled value.
    from_spill: bool,
}

/// What a load at a constant offset gives.
#[inline]
fn fill(slot: &Slot, at: StackOff, size: Size, extend: Extend) -> Checked<Filled> {
    let bytes = usize::from(size.bytes());
    check_whole_fill(slot, at, size)?;
    let aligned = at.in_slot() == 0;
    let spilled = |value| Ok(Filled { value, from_spill: true });
    match slot.spilled() {
        Some(Value::Pointer(pointer)) if is_frame_of_callee(pointer) => {
            return Err(Unsupported::CalleeFramePointer.into());
        }
        Some(&value @ Value::Pointer(_)) => return spilled(value),
        Some(Value::Scalar(scalar)) if aligned && bytes <= slot.spill_size() => {
            let kept = if scalar.fits(size.bits().into()) { *scalar } else { scalar.unlinked() };
            let bounds = domain::narrow(size, extend, &kept.bounds);
            // A sign extension may change even a number that fits.
            let may_change = extend == Extend::Sign && bounds != kept.bounds;
            let signed = |link: Link| Link { signed: link.signed || may_change, ..link };
            let link = kept.link.map(signed);
            return spilled(Value::Scalar(ScalarValue { bounds, link, ..kept }));
        }
        _ => {}
    }
    let constant = slot.constant_at(at.in_slot(), bytes);
    // Bytes of a spilled zero; other zero bytes were relied on where they were stored.
    let from_spill = constant.is_some() && at.in_slot() < slot.spill_size();
    let bounds = constant.unwrap_or(Scalar::UNKNOWN);
    let value = Value::scalar(domain::narrow(size, extend, &bounds));
    Ok(Filled { value, from_spill })
}

/// Whether it is the frame pointer of a function that was called. The kernel loses track of it once
/// it was stored and loaded again, and fails if a number computed from it matters afterwards.
fn is_frame_of_callee(pointer: &Pointer) -> bool {
    let is_callee = matches!(pointer.kind, PointerKind::Stack { frame: 1.. });
    is_callee && pointer.const_off() == Some(0)
}

/// Whether an access is of a whole slot, and that of a spilled value.
fn is_whole(slot: &Slot, size: Size) -> bool {
    size == Size::Dw && slot.spill_size() == 8
}

/// A spilled pointer can only be loaded as a whole, and what is the kernel's cannot be loaded.
fn check_whole_fill(slot: &Slot, at: StackOff, size: Size) -> Checked {
    if slot.is_kernels() {
        let (off, size) = (-i64::from(at.depth()), size.bytes());
        return Err(Payload::StackObjectAccess { access: ObjectAccess::Load { off, size } }.into());
    }
    match slot.spilled() {
        Some(Value::Pointer(_)) if !is_whole(slot, size) => {
            Err(Payload::StackFillSize { size: size.bytes() }.into())
        }
        _ => Ok(()),
    }
}
