//! Iterators: what a program keeps in its stack, and asks for one thing after another until there is none.

use ebpf_isa::{Reg, Size};

use super::dynptr::{ObjectPlace, fault};
use super::memory::{Access, Place};
use super::{Machine, Next};
use crate::error::{Checked, Misplaced, ObjectFault, Unsupported};
use crate::kfunc::{IterType, IterUse};
use crate::state::{Iter, PointerKind, State, Value};

/// The iterator that a call is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct IterAt {
    frame: usize,
    /// The slot that it starts in.
    first: usize,
    iter: Iter,
}

impl Machine<'_> {
    /// The iterator that an argument points to: made, found, or found and ended.
    pub(super) fn check_iter(
        &mut self,
        argument: usize,
        reg: Reg,
        usage: IterUse,
        ty: &'static IterType,
    ) -> Checked<IterAt> {
        let pointer = self.value(reg).as_pointer().copied();
        let stack = pointer.and_then(|pointer| match pointer.kind {
            PointerKind::Stack { frame } => Some((frame, pointer)),
            _ => None,
        });
        let (frame, pointer) = stack.ok_or_else(|| fault(ObjectFault::IterPointer { argument }))?;
        if ty.slots == 1 && pointer.const_off() == Some(0) && usage != IterUse::New {
            return Err(Unsupported::IterAtFramePointer.into());
        }
        let place = ObjectPlace::of("iter", ty.slots.into(), frame, &pointer);
        match usage {
            IterUse::New => self.create_iter(argument, reg, place, ty),
            IterUse::Next => self.find_iter(argument, place, ty),
            IterUse::Destroy => {
                let found = self.find_iter(argument, place, ty)?;
                self.destroy_iter(&found);
                Ok(found)
            }
        }
    }

    fn create_iter(
        &mut self,
        argument: usize,
        reg: Reg,
        place: Result<ObjectPlace, Misplaced>,
        ty: &'static IterType,
    ) -> Checked<IterAt> {
        let occupied = |place| fault(ObjectFault::IterRoom { name: ty.name, argument, place });
        let place = place.map_err(|place| occupied(Some(place)))?;
        let stack = &self.state.frame_at(place.frame).stack;
        let mut slots = place.slot().into_iter().flat_map(|first| ty.slots_from(first));
        if slots.any(|slot| stack.get(slot).is_some_and(|slot| slot.iter().is_some())) {
            return Err(occupied(None));
        }
        for off in (0..i16::from(ty.slots)).map(|slot| slot * 8) {
            self.access(Place { reg, off, size: Size::Dw }, Access::Clobber, false)?;
        }
        let first = place.slot().expect("what can be accessed is in the frame");
        let iter = Iter { ty, reference: Some(self.acquire()), active: true, depth: 0 };
        self.state.frame_at_mut(place.frame).stack.set_iter(first, iter);
        ty.slots_from(first).for_each(|slot| self.effects.fill_slot(slot));
        Ok(IterAt { frame: place.frame, first, iter })
    }

    fn find_iter(
        &mut self,
        argument: usize,
        place: Result<ObjectPlace, Misplaced>,
        ty: &'static IterType,
    ) -> Checked<IterAt> {
        let missing = |place| fault(ObjectFault::IterMissing { name: ty.name, argument, place });
        let place = place.map_err(|place| missing(Some(place)))?;
        let stack = &self.state.frame_at(place.frame).stack;
        let part = |slot| stack.get(slot)?.iter().filter(|iter| iter.ty == ty);
        let whole = place.slot().and_then(|first| {
            let is_part =
                |slot| part(slot).is_some_and(|iter| iter.reference.is_some() == (slot == first));
            let iter = *part(first)?;
            ty.slots_from(first).all(is_part).then_some((first, iter))
        });
        let (first, iter) = whole.ok_or_else(|| missing(None))?;
        for slot in ty.slots_from(first) {
            self.effects.read_slot(place.frame, slot);
            self.effects.fill_slot(slot);
        }
        Ok(IterAt { frame: place.frame, first, iter })
    }

    fn destroy_iter(&mut self, found: &IterAt) {
        let &IterAt { frame, first, ref iter } = found;
        if let Some(reference) = iter.reference {
            self.state.release(reference, self.shares_mistakes);
        }
        self.state.frame_at_mut(frame).stack.remove_iter(first, iter);
        iter.ty.slots_from(first).for_each(|slot| self.effects.write_slot(frame, slot));
    }

    /// Whether the iterator that is asked for the next thing may have one.
    pub(crate) fn may_get_next(&self) -> bool {
        let pointer = self.value(Reg::R1).as_pointer();
        let iter = pointer.and_then(|pointer| {
            let PointerKind::Stack { frame } = pointer.kind else { return None };
            let place = ObjectPlace::of("iter", 1, frame, pointer).ok()?;
            self.state.frame_at(frame).stack.get(place.slot()?)?.iter()
        });
        iter.is_some_and(|iter| iter.active)
    }

    /// Behind a call that gets the next thing: the path goes on as if there was none, and if there may
    /// be one, another waits, with so many bytes of it.
    pub(super) fn get_next(&mut self, found: &IterAt, size: u32) -> Next {
        let next = self.fall_through;
        let id = self.new_null_id();
        let set = |state: &mut State, iter: Iter, result: Value| {
            state.frame_at_mut(found.frame).stack.set_iter_state(found.first, iter);
            state.frame_mut().regs[Reg::R0.index()] = result;
        };
        let active = found.iter.active;
        if let (true, Some(reference)) = (active, found.iter.reference) {
            let mut state = self.state.clone();
            let depth = found.iter.depth.saturating_add(1);
            let item = Value::pointer(PointerKind::Item { size, id, iter: reference });
            set(&mut state, Iter { depth, ..found.iter }, item);
            self.taken_state = Some(state);
            self.effects.of_call().got_next = true;
        }
        set(&mut self.state, Iter { active: false, ..found.iter }, Value::constant(0));
        match active {
            true => Next::Fork { fall_through: next, taken: next },
            false => Next::Goto(next),
        }
    }
}
