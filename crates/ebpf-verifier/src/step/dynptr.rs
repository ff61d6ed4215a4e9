//! Dynptrs: what stands for memory whose size is known when the program runs. A program keeps one in
//! two slots of its stack, and only hands them on; slices of it are memory like other memory, and go
//! when the dynptr goes.

use alloc::boxed::Box;
use alloc::vec::Vec;

use ebpf_isa::uapi::HelperId;
use ebpf_isa::{Reg, Size};

use super::Machine;
use super::memory::{Access, Place, check_unmodified};
use super::stack::StackRange;
use crate::error::{
    ArgumentRule, Checked, Misplaced, ObjectAccess, ObjectFault, Payload, Unsupported,
};
use crate::kfunc::{KfuncArgKind, KfuncProto, NewDynptr};
use crate::rules::{ArgKind, HelperProto, PacketAccess};
use crate::state::{
    Dynptr, DynptrId, DynptrKind, MapValueRef, Pointer, PointerKind, RefId, SliceOf, Slot,
    StackOff, Value,
};

/// Where in a frame an object of the kernel's starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ObjectPlace {
    pub(super) frame: usize,
    /// Counted from the frame pointer; a multiple of 8.
    pub(super) off: i64,
}

impl ObjectPlace {
    /// The place that a pointer into the stack has for an object of so many slots, which may lie below
    /// the frame, or at the frame pointer.
    pub(super) fn of(
        object: &'static str,
        slots: usize,
        frame: usize,
        pointer: &Pointer,
    ) -> Result<Self, Misplaced> {
        let off = pointer.const_off().ok_or(Misplaced { object, off: None })?;
        // For the kernel, the frame pointer itself is in the first slot.
        let above = (-off - 1) / 8;
        if off % 8 != 0 || above + 1 < slots as i64 {
            return Err(Misplaced { object, off: Some(off) });
        }
        Ok(Self { frame, off })
    }

    /// The slot in which it starts; `None` if it is not in the frame.
    pub(super) fn slot(self) -> Option<usize> {
        StackOff::new(self.off).map(StackOff::slot)
    }
}

impl Machine<'_> {
    /// Makes a dynptr in the stack: the copy of one that has this reference, or another.
    pub(super) fn create_dynptr(
        &mut self,
        reg: Reg,
        kind: DynptrKind,
        copied: Option<RefId>,
    ) -> Checked {
        let place = match self.dynptr_place(reg) {
            Some(Ok(place)) => place,
            Some(Err(place)) => return Err(fault(ObjectFault::DynptrRoom { place: Some(place) })),
            None => return Err(fault(ObjectFault::DynptrRoom { place: None })),
        };
        for off in [0, 8] {
            self.access(Place { reg, off, size: Size::Dw }, Access::Clobber, false)?;
        }
        let slot = place.slot().expect("what can be accessed is in the frame");
        let id = self.new_dynptr_id();
        let acquire = || self.acquire();
        let reference = kind.is_acquired().then(|| copied.unwrap_or_else(acquire));
        let dynptr = Dynptr { kind, id, reference, first: true };
        self.state.frame_at_mut(place.frame).stack.set_dynptr(slot, dynptr);
        [slot, slot - 1].into_iter().for_each(|slot| self.effects.fill_slot(slot));
        Ok(())
    }

    pub(super) fn new_dynptr_id(&mut self) -> DynptrId {
        DynptrId::new(self.new_id()).expect("ids are counted from 1")
    }

    /// A dynptr of any kind.
    pub(super) fn check_dynptr(&mut self, reg: Reg) -> Checked {
        let argument = usize::from(reg.number()) - 1;
        let missing = |place| fault(ObjectFault::DynptrMissing { argument, place });
        let place = match self.dynptr_place(reg) {
            Some(Ok(place)) => place,
            Some(Err(place)) => return Err(missing(Some(place))),
            None => return Ok(()),
        };
        let there = self.dynptr_at(place).is_some_and(|dynptr| dynptr.first);
        let slot = place.slot().filter(|_| there).ok_or_else(|| missing(None))?;
        for slot in [slot, slot - 1] {
            self.effects.read_slot(place.frame, slot);
            self.effects.fill_slot(slot);
        }
        Ok(())
    }

    /// A dynptr of what was acquired, to be released.
    pub(super) fn check_released_dynptr(&mut self, reg: Reg) -> Checked {
        let not_acquired = |place| fault(ObjectFault::NotAcquired { register: reg, place });
        let dynptr = match self.dynptr_place(reg) {
            Some(Ok(place)) => self.dynptr_at(place).copied(),
            Some(Err(place)) => return Err(not_acquired(Some(place))),
            None => return Err(fault(ObjectFault::NotOwned)),
        };
        if dynptr.is_none_or(|dynptr| dynptr.reference.is_none()) {
            return Err(not_acquired(None));
        }
        self.check_dynptr(reg)
    }

    /// Releases the dynptr that a helper is given, if it is given one to release.
    pub(super) fn release_dynptrs(&mut self, proto: &HelperProto) -> Checked {
        let released = proto.args.iter().position(|&kind| kind == ArgKind::ReleasedDynptr);
        let place = released.and_then(|index| self.dynptr_place(Reg::ARGS[index]));
        let Some(Ok(place)) = place else { return Ok(()) };
        let reference = self.dynptr_at(place).and_then(|dynptr| dynptr.reference);
        let Some(reference) = reference else { return Ok(()) };
        self.state.release(reference, self.shares_mistakes);
        for frame in 0..self.state.depth() {
            let slots = self.state.frame_at(frame).stack.slots().enumerate();
            let is_copy = |dynptr: &Dynptr| dynptr.first && dynptr.reference == Some(reference);
            let copies = slots.filter(|(_, slot)| slot.dynptr().is_some_and(is_copy));
            let copies: Vec<usize> = copies.map(|(slot, _)| slot).collect();
            if frame != place.frame && !copies.is_empty() {
                return Err(Unsupported::CopiedDynptr.into());
            }
            copies.into_iter().for_each(|slot| self.remove_dynptr(frame, slot));
        }
        Ok(())
    }

    /// Whether a helper writes a packet by a dynptr: it may move.
    pub(super) fn writes_skb(&self, proto: &HelperProto) -> bool {
        proto.id == HelperId::DYNPTR_WRITE && self.dynptr_of(Reg::R1).kind == DynptrKind::Skb
    }

    /// Only memory of a map's value may have a dynptr of its own.
    pub(super) fn check_dynptr_memory(&self, proto: &HelperProto) -> Checked {
        if proto.id != HelperId::DYNPTR_FROM_MEM {
            return Ok(());
        }
        let memory = self.value(Reg::R1);
        match memory.as_pointer().map(|pointer| pointer.kind) {
            Some(PointerKind::MapValue(MapValueRef { null: None, .. })) => Ok(()),
            _ => Err(Payload::StackObjectAccess {
                access: ObjectAccess::Memory { kind: memory.name() },
            }
            .into()),
        }
    }

    /// So many bytes of the dynptr in `r1`, or null.
    pub(super) fn slice(&mut self, size: u32) -> Value {
        let Dynptr { id: dynptr, reference, .. } = self.dynptr_of(Reg::R1);
        let null = Some(self.new_null_id());
        Value::pointer(PointerKind::Slice { size, null, dynptr, reference, of: SliceOf::Memory })
    }

    /// The dynptr that an argument was found to be.
    pub(super) fn dynptr_of(&self, reg: Reg) -> Dynptr {
        let in_stack = self.dynptr_place(reg).and_then(Result::ok);
        let in_stack = in_stack.and_then(|place| self.dynptr_at(place));
        let kind = self.value(reg).as_pointer().map(|pointer| pointer.kind);
        match (in_stack, kind) {
            (Some(dynptr), _) => *dynptr,
            (None, Some(PointerKind::Dynptr(id))) => {
                Dynptr { kind: DynptrKind::Local, id, reference: None, first: true }
            }
            _ => unreachable!("the argument was found to be a dynptr"),
        }
    }

    /// Where the dynptr is, or may be made, that a pointer into the stack points to; `None` if it points
    /// to one that is elsewhere.
    fn dynptr_place(&self, reg: Reg) -> Option<Result<ObjectPlace, Misplaced>> {
        let pointer = self.value(reg).as_pointer()?;
        let PointerKind::Stack { frame } = pointer.kind else { return None };
        Some(ObjectPlace::of("dynptr", Dynptr::SLOTS, frame, pointer))
    }

    fn dynptr_at(&self, place: ObjectPlace) -> Option<&Dynptr> {
        self.state.frame_at(place.frame).stack.get(place.slot()?)?.dynptr()
    }

    /// A store goes over these bytes, and fills the slot if it is `whole`. Dynptrs that it meets are no
    /// more, not even in part, nor are their slices; those that were acquired stay. `range` is of a store
    /// at a constant offset if it is `fixed`.
    pub(super) fn overwrite_objects(
        &mut self,
        frame: usize,
        range: StackRange,
        fixed: bool,
        whole: bool,
    ) -> Checked {
        for slot in range.slots() {
            let Some(found) = self.state.frame_at(frame).stack.get(slot) else { continue };
            if !whole && found.spilled().is_some_and(is_acquired_slice) {
                return Err(Unsupported::SliceOverwritten.into());
            }
            if !fixed && found.iter().is_some() {
                return Err(Unsupported::IterOverwritten.into());
            }
            let Some(&Dynptr { kind, id, first, .. }) = found.dynptr() else { continue };
            if kind.is_acquired() {
                return Err(fault(ObjectFault::Overwritten));
            }
            self.remove_dynptr(frame, if first { slot } else { slot + 1 });
            let is_slice = |value: &Value| match value.as_pointer().map(|pointer| pointer.kind) {
                Some(PointerKind::Slice { dynptr, of: SliceOf::Memory, .. }) => dynptr == id,
                _ => false,
            };
            self.state.update(is_slice, |value| *value = Value::UNKNOWN);
        }
        Ok(())
    }

    fn remove_dynptr(&mut self, frame: usize, first: usize) {
        self.state.frame_at_mut(frame).stack.remove_dynptr(first);
        for slot in [first, first - 1] {
            self.effects.write_slot(frame, slot);
            self.effects.fill_slot(slot);
        }
    }

    /// Memory that a helper fills may hold no dynptr: it could be the one that it reads.
    pub(super) fn check_fills_no_dynptr(&self, frame: usize, range: StackRange) -> Checked {
        match self.first_where(frame, range, |slot| slot.dynptr().is_some()) {
            Some(off) => {
                Err(Payload::StackObjectAccess { access: ObjectAccess::Filled { off } }.into())
            }
            None => Ok(()),
        }
    }

    /// Checks that nothing in these bytes is the kernel's, which a load or a helper would read.
    pub(super) fn check_range_readable(
        &self,
        register: Reg,
        pointer: &Pointer,
        frame: usize,
        range: StackRange,
        size: i64,
    ) -> Checked {
        match self.first_where(frame, range, Slot::is_kernels) {
            Some(found) => {
                let (off, at) = (range.min, found - range.min);
                let access = match pointer.var.as_const() {
                    Some(_) => ObjectAccess::Given { register, off, at, size },
                    None => {
                        let var_off = pointer.var.tnum();
                        ObjectAccess::Somewhere { register, var_off, at, size }
                    }
                };
                Err(Payload::StackObjectAccess { access }.into())
            }
            None => Ok(()),
        }
    }

    /// The lowest of these bytes whose slot `is_it`.
    fn first_where(
        &self,
        frame: usize,
        range: StackRange,
        is_it: impl Fn(&Slot) -> bool,
    ) -> Option<i64> {
        let stack = &self.state.frame_at(frame).stack;
        let slot = range.slots().find(|&slot| stack.get(slot).is_some_and(&is_it))?;
        Some(range.min.max(-8 * (slot as i64 + 1)))
    }
}

/// What kernel functions do with dynptrs.
impl Machine<'_> {
    /// A dynptr in the stack, or one that the function was given.
    pub(super) fn check_given_dynptr(&mut self, reg: Reg) -> Checked<Dynptr> {
        match self.value(reg).as_pointer() {
            Some(Pointer { kind: PointerKind::Stack { .. }, .. }) => {}
            Some(pointer @ Pointer { kind: PointerKind::Dynptr(_), .. }) => {
                check_unmodified(reg, pointer)?;
            }
            _ => return Err(Payload::Argument { register: reg, rule: ArgumentRule::Dynptr }.into()),
        }
        self.check_dynptr(reg)?;
        Ok(self.dynptr_of(reg))
    }

    /// Makes a dynptr, perhaps as a copy of the one in the argument before.
    pub(super) fn create_dynptr_of(
        &mut self,
        reg: Reg,
        of: NewDynptr,
        copied: Option<Dynptr>,
    ) -> Checked {
        match self.value(reg).as_pointer().map(|pointer| pointer.kind) {
            Some(PointerKind::Stack { .. }) => {}
            Some(PointerKind::Dynptr(_)) => return Err(Unsupported::DynptrOverGiven.into()),
            _ => return Err(Payload::Argument { register: reg, rule: ArgumentRule::Dynptr }.into()),
        }
        let copied = copied.filter(|_| of == NewDynptr::Copy);
        let kind = match (of, copied) {
            (NewDynptr::Skb, _) => DynptrKind::Skb,
            (NewDynptr::Xdp, _) => DynptrKind::Xdp,
            (NewDynptr::Copy, copied) => copied.map_or(DynptrKind::Local, |dynptr| dynptr.kind),
        };
        self.create_dynptr(reg, kind, copied.and_then(|dynptr| dynptr.reference))
    }

    /// The size of a slice is a constant. Linux 6.18.44 does not mark it where there is no buffer of that
    /// size.
    pub(super) fn check_slice_size(&mut self, reg: Reg) -> Checked {
        if !self.shares_mistakes {
            self.rely_on(reg);
        }
        let size = self.value(reg).as_scalar().and_then(|size| size.bounds.as_const());
        match size {
            Some(_) => Ok(()),
            None => Err(fault(ObjectFault::SliceSize { register: reg })),
        }
    }

    /// The slice that a function returns, or null.
    pub(super) fn slice_of(
        &mut self,
        function: &KfuncProto,
        dynptr: Dynptr,
        writable: bool,
    ) -> Checked<Value> {
        let at =
            |kind| function.args.iter().position(|arg| arg.kind == kind).map(|at| Reg::ARGS[at]);
        let constant = |reg| self.value(reg).as_scalar()?.bounds.as_const();
        // As the kernel, which keeps 32 bits.
        let size = at(KfuncArgKind::SliceSize).and_then(constant).unwrap_or_default() as u32;
        let buffer = at(KfuncArgKind::Buffer).and_then(|reg| self.value(reg).as_pointer());
        let in_stack =
            buffer.is_some_and(|buffer| matches!(buffer.kind, PointerKind::Stack { .. }));
        if dynptr.kind.is_acquired() {
            return Err(Unsupported::RecordSlice.into());
        }
        if writable {
            let access = self.env.program_type.packet_access();
            if !matches!(access, PacketAccess::ReadWrite | PacketAccess::Buffer) {
                return Err(fault(ObjectFault::SliceWritable));
            }
            if in_stack {
                return Err(Unsupported::SliceBuffer.into());
            }
            self.writes_packet = true;
        }
        let (null, of) = (Some(self.new_null_id()), SliceOf::Kind { kind: dynptr.kind, writable });
        let kind = PointerKind::Slice { size, null, dynptr: dynptr.id, reference: None, of };
        Ok(Value::pointer(kind))
    }
}

pub(super) fn fault(fault: ObjectFault) -> Box<Payload> {
    Payload::StackObject { fault }.into()
}

/// Whether it is a slice of a dynptr that was acquired.
pub(super) fn is_acquired_slice(value: &Value) -> bool {
    let kind = value.as_pointer().map(|pointer| pointer.kind);
    matches!(kind, Some(PointerKind::Slice { reference: Some(_), .. }))
}
