//! Whether a state allows no more than an earlier one.
//!
//! The earlier state was explored to the end of all paths, and was fine. What it does not show to
//! have mattered may differ: registers and slots that nothing reads, and numbers on which nothing
//! relied. Of the others the current state must be a special case. What is not understood here is
//! different.

mod pointers;

use alloc::vec::Vec;

use ebpf_isa::{Pc, Reg, RegSet};

use super::ids::{IdMap, TAG};
use crate::state::{
    ByteKind, Cell, CellSet, Distance, Dynptr, ElementId, Frame, Iter, Link, ScalarValue, Slot,
    SlotMask, SlotSets, State, Value,
};

/// The earlier state, and what mattered of it.
#[derive(Clone, Copy)]
pub(super) struct Old<'a> {
    pub(super) state: &'a State,
    pub(super) pc: Pc,
    /// Numbers that something relied on; `None` to take all for such.
    pub(super) precise: Option<&'a CellSet>,
    /// Slots that something reads.
    pub(super) live_slots: &'a SlotSets,
}

/// Whether the current state, in a round of a loop, is a special case of that in an earlier round. What
/// mattered of that one is not known before its paths have ended, so everything counts that a
/// register or a slot says, but for registers that are not live, and slots that are known not to be.
pub(super) fn is_within(
    old: &State,
    current: &State,
    pc: Pc,
    live_slots: Option<&SlotSets>,
    ids: &mut IdMap,
    live: impl Fn(Pc) -> RegSet,
) -> bool {
    ids.clear();
    let mut comparison = Comparison { ids, depth: Depth::Within };
    comparison.held(old, current)
        && (0..old.depth()).all(|index| {
            let live_regs = live(old.place_in(index, pc)).without(Reg::FP);
            let live_slots = live_slots.map_or(SlotMask::MAX, |live| live.of(index));
            let (old, current) = (old.frame_at(index), current.frame_at(index));
            comparison.frame_repeats(old, current, live_regs, live_slots)
        })
}

/// Forgets the numbers on which nothing relies, where they changed since an earlier round: of any
/// number of rounds, they may be anything. `relied_on` says what something relied on in that round.
pub(super) fn widen(
    old: &State,
    current: &mut State,
    relied_on: impl Fn(Cell) -> bool,
    ids: &mut IdMap,
) {
    ids.clear();
    let mut comparison = Comparison { ids, depth: Depth::Exact };
    let mut changed = Vec::new();
    for index in (0..old.depth()).rev() {
        for (cell, value) in old.cells_in(index) {
            let (Value::Scalar(old), Value::Scalar(now)) = (value, current.cell(cell)) else {
                continue;
            };
            if !relied_on(cell) && !comparison.scalar(old, now, true) {
                changed.push(cell);
            }
        }
    }
    for cell in changed {
        if let Some(value) = current.cell_mut(cell) {
            *value = Value::UNKNOWN;
        }
    }
}

/// Whether the current state, at the same instruction of the same chain of calls, is a special case
/// of the earlier one. `live` says which registers are live before an instruction.
pub(super) fn covers(
    old: Old<'_>,
    current: &State,
    ids: &mut IdMap,
    live: impl Fn(Pc) -> RegSet,
) -> bool {
    ids.clear();
    let mut comparison = Comparison { ids, depth: Depth::AsFarAsItMatters };
    if !comparison.held(old.state, current) {
        return false;
    }
    (0..old.state.depth()).rev().all(|index| {
        let (old_frame, frame) = (old.state.frame_at(index), current.frame_at(index));
        if old_frame.rounds > frame.rounds {
            return false;
        }
        let is_precise = |cell| old.precise.is_none_or(|precise| precise.contains(cell));
        let live_regs = live(old.state.place_in(index, old.pc)).without(Reg::FP);
        let regs = live_regs.iter().all(|reg| {
            let (old_value, value) = (&old_frame.regs[reg.index()], &frame.regs[reg.index()]);
            comparison.value(old_value, value, is_precise(Cell::reg(index, reg)))
        });
        let live_slots = old.live_slots.of(index);
        regs && old_frame.stack.slots().enumerate().all(|(slot, old_slot)| {
            let is_live = live_slots & 1 << slot != 0;
            let present = frame.stack.get(slot);
            !is_live || comparison.slot(old_slot, present, is_precise(Cell::slot(index, slot)))
        })
    })
}

/// The register in which states differed last time: it is most likely to differ again.
#[derive(Debug, Default)]
pub(super) struct Telltale(usize);

impl Telltale {
    fn tells(&mut self, old: &[Value; 11], current: &[Value; 11]) -> bool {
        let differs = |reg: &usize| old[*reg] != current[*reg];
        let found = if differs(&self.0) { Some(self.0) } else { (0..11).find(differs) };
        self.0 = found.unwrap_or(self.0);
        found.is_some()
    }
}

/// Whether the two states are the same apart from the names of ids, so that a path which leads from
/// one to the other goes on for ever.
pub(super) fn repeats(
    old: &State,
    current: &State,
    pc: Pc,
    ids: &mut IdMap,
    telltale: &mut Telltale,
    live: impl Fn(Pc) -> RegSet,
) -> bool {
    // A quick answer for most loops; here ids must be the same, too, and dead registers.
    if telltale.tells(&old.frame().regs, &current.frame().regs) {
        return false;
    }
    ids.clear();
    let mut comparison = Comparison { ids, depth: Depth::Exact };
    let rounds = |state: &State| (state.rounds, state.may_gotos);
    if rounds(old) != rounds(current) || !comparison.held(old, current) {
        return false;
    }
    (0..old.depth()).all(|index| {
        let (old_frame, frame) = (old.frame_at(index), current.frame_at(index));
        let live_regs = live(old.place_in(index, pc)).without(Reg::FP);
        comparison.frame_repeats(old_frame, frame, live_regs, SlotMask::MAX)
    })
}

/// A comparison in progress.
struct Comparison<'a> {
    ids: &'a mut IdMap,
    depth: Depth,
}

/// How closely states are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// Everything must be the same, apart from ids.
    Exact,
    /// The current state must be a special case in everything.
    Within,
    /// It must be one in what mattered.
    AsFarAsItMatters,
}

impl Comparison<'_> {
    /// Slots that are not live hold nothing any more in the earlier state, and must not in the current one.
    fn frame_repeats(
        &mut self,
        old: &Frame,
        current: &Frame,
        live: RegSet,
        live_slots: SlotMask,
    ) -> bool {
        let none = &[ByteKind::Invalid; 8];
        old.rounds <= current.rounds
            && live
                .iter()
                .all(|reg| self.value(&old.regs[reg.index()], &current.regs[reg.index()], true))
            && old.stack.depth() <= current.stack.depth()
            && old.stack.slots().zip(current.stack.slots()).enumerate().all(
                |(index, (old_slot, slot))| match live_slots & 1 << index {
                    0 => slot.bytes() == none,
                    _ => old_slot.bytes() == slot.bytes() && self.slot(old_slot, Some(slot), true),
                },
            )
    }

    /// Whether as much was acquired, in the same order, and the same lock is held.
    fn held(&mut self, old: &State, current: &State) -> bool {
        let (refs, current_refs) = (old.refs.iter(), current.refs.iter());
        refs.len() == current_refs.len()
            && refs
                .zip(current_refs)
                .all(|(old, current)| self.ids.relate(named(old.id.0), named(current.id.0)))
            && match (old.lock, current.lock) {
                (None, None) => true,
                (Some(old), Some(current)) => {
                    old.map == current.map && self.element(old.element, current.element)
                }
                (Some(_), None) | (None, Some(_)) => false,
            }
    }

    fn element(&mut self, old: Option<ElementId>, current: Option<ElementId>) -> bool {
        self.ids.relate_both(old.map(|id| named(id.0)), current.map(|id| named(id.0)))
    }

    fn value(&mut self, old: &Value, current: &Value, precise: bool) -> bool {
        match (old, current) {
            (Value::Uninit, _) => {
                self.depth == Depth::AsFarAsItMatters || *current == Value::Uninit
            }
            (Value::Scalar(old), Value::Scalar(current)) => self.scalar(old, current, precise),
            (Value::Pointer(old), Value::Pointer(current)) => self.pointer(old, current),
            (Value::Scalar(_) | Value::Pointer(_), _) => false,
        }
    }

    fn scalar(&mut self, old: &ScalarValue, current: &ScalarValue, precise: bool) -> bool {
        if self.depth == Depth::Exact {
            return old.bounds == current.bounds
                && old.null_of == current.null_of
                && is_same_distance(old.link, current.link)
                && self.ids.relate_both(old.link.map(qualified), current.link.map(qualified));
        }
        if !precise {
            return true;
        }
        current.bounds.is_subset_of(&old.bounds) && self.link(old.link, current.link)
    }

    /// Whether a number is tied to others as an earlier one was. One that was not tied may be.
    fn link(&mut self, old: Option<Link>, current: Option<Link>) -> bool {
        let Some(old) = old else {
            return true;
        };
        let Some(current) = current else {
            let made_up = self.ids.make_up();
            return old.distance.is_none() && self.ids.relate(qualified(old), made_up);
        };
        is_same_distance(Some(old), Some(current))
            && self.ids.relate(qualified(old), qualified(current))
            && (old.distance.is_none() || self.ids.relate(plain(old), plain(current)))
    }

    /// Compares slots of dynptrs. Which slices are whose is compared with these.
    fn dynptr(&mut self, old: &Dynptr, current: &Dynptr) -> bool {
        let reference = |dynptr: &Dynptr| dynptr.reference.map(|id| named(id.0));
        old.kind == current.kind
            && old.first == current.first
            && self.ids.relate_both(reference(old), reference(current))
    }

    /// Compares slots of iterators. How much the path has got of one matters only where it seems to
    /// repeat itself.
    fn iter(&mut self, old: &Iter, current: &Iter) -> bool {
        let reference = |iter: &Iter| iter.reference.map(|id| named(id.0));
        old.ty == current.ty
            && old.active == current.active
            && self.ids.relate_both(reference(old), reference(current))
            && (self.depth != Depth::Exact || !old.active || old.depth == current.depth)
    }

    /// Compares two slots; `current` is `None` below everything that was accessed.
    fn slot(&mut self, old: &Slot, current: Option<&Slot>, precise: bool) -> bool {
        // Reading such bytes gives anything.
        let is_free = |&byte: &ByteKind| matches!(byte, ByteKind::Invalid | ByteKind::Misc);
        if old.bytes().iter().all(is_free) {
            return true;
        }
        let Some(current) = current else {
            return false;
        };
        if let (Some(old), Some(current)) = (whole_number(old), number_read(current)) {
            return self.scalar(&old, &current, precise);
        }
        let kinds = old.bytes().iter().zip(current.bytes());
        let kinds_fit = kinds.into_iter().all(|(old, current)| is_free(old) || old == current);
        if let (true, Some(old), Some(current)) = (kinds_fit, old.dynptr(), current.dynptr()) {
            return self.dynptr(old, current);
        }
        if let (true, Some(old), Some(current)) = (kinds_fit, old.iter(), current.iter()) {
            return self.iter(old, current);
        }
        match (kinds_fit, old.spilled(), current.spilled()) {
            (false, ..) => false,
            (true, None, _) => true,
            (true, Some(old), Some(current)) => self.value(old, current, precise),
            (true, Some(_), None) => false,
        }
    }
}

/// The number that fills a slot.
fn whole_number(slot: &Slot) -> Option<ScalarValue> {
    slot.spilled().filter(|_| slot.spill_size() == 8)?.as_scalar().copied()
}

/// What a load of the whole slot would give, if that is a number.
fn number_read(slot: &Slot) -> Option<ScalarValue> {
    let is_anything = |&byte: &ByteKind| matches!(byte, ByteKind::Invalid | ByteKind::Misc);
    let anything = || Value::UNKNOWN.as_scalar().copied();
    match slot.bytes().iter().all(is_anything) {
        true => anything(),
        false => whole_number(slot),
    }
}

fn is_same_distance(old: Option<Link>, current: Option<Link>) -> bool {
    let distance = |link: Option<Link>| -> Option<Distance> { link?.distance };
    distance(old) == distance(current)
}

/// An id by itself.
fn named(id: u32) -> u64 {
    u64::from(id) << 2
}

/// The id of a group, told apart for its members that are not its value if that is negative.
fn plain(link: Link) -> u64 {
    named(link.id.0) | if link.signed { TAG } else { 0 }
}

/// The id of a group, told apart for its members at a distance.
fn qualified(link: Link) -> u64 {
    plain(link) | link.distance.map_or(0, |distance| u64::from(distance.width.bits() / 32))
}

#[cfg(test)]
mod tests {
    use ebpf_isa::{MapIdx, Width};

    use super::*;
    use crate::domain::Scalar;
    use crate::state::{
        MapValueRef, NullId, PacketId, PacketRange, PacketRegion, Pointer, PointerKind, ScalarId,
        StackOff,
    };

    /// The state at the start of a program, with these in registers.
    fn state<const N: usize>(values: [(Reg, Value); N]) -> State {
        let mut state = State::entry();
        for (reg, value) in values {
            state.frame_mut().regs[reg.index()] = value;
        }
        state
    }

    /// The same with a change to the slot right below the frame pointer.
    fn with_slot(change: impl FnOnce(&mut Slot)) -> State {
        let mut state = State::entry();
        change(state.frame_mut().stack.slot_mut(StackOff::new(-8).expect("it is in the frame")));
        state
    }

    fn all(_: Pc) -> RegSet {
        Reg::ALL.into_iter().collect()
    }

    /// Whether `old` covers `current`, all registers and slots being live.
    fn covers_if_precise(old: &State, current: &State, precise: &[Cell]) -> bool {
        let precise: CellSet = precise.iter().copied().collect();
        let mut live_slots = SlotSets::default();
        live_slots.insert_all(0, u64::MAX);
        let old = Old { state: old, pc: Pc(7), precise: Some(&precise), live_slots: &live_slots };
        covers(old, current, &mut IdMap::default(), all)
    }

    fn covered(old: &State, current: &State) -> bool {
        covers_if_precise(old, current, &[])
    }

    fn repeated(old: &State, current: &State) -> bool {
        repeats(old, current, Pc(7), &mut IdMap::default(), &mut Telltale::default(), all)
    }

    fn below(limit: u64) -> Scalar {
        Scalar::UNKNOWN.within_unsigned(0, limit - 1)
    }

    fn linked(id: u32, distance: Option<i32>) -> Value {
        let distance = distance.map(|by| Distance { by, width: Width::W64 });
        let link = Some(Link { id: ScalarId(id), distance, signed: false });
        Value::Scalar(ScalarValue { bounds: Scalar::UNKNOWN, link, null_of: None })
    }

    fn map_value(null: Option<u32>, var: Scalar) -> Value {
        let kind = PointerKind::MapValue(MapValueRef {
            map: MapIdx(0),
            null: null.map(NullId),
            element: None,
        });
        Value::Pointer(Pointer { kind, off: 0, var })
    }

    fn packet(id: u32, bytes: u32) -> Value {
        let (region, range) = (PacketRegion::Data, PacketRange::Bytes(bytes));
        Value::pointer(PointerKind::Packet { region, id: PacketId(id), range })
    }

    #[test]
    fn numbers_may_differ_as_long_as_nothing_relied_on_them() {
        let [five, six] = [5, 6].map(|number| state([(Reg::R6, Value::constant(number))]));
        let any = state([(Reg::R6, Value::UNKNOWN)]);
        let precise = [Cell::reg(0, Reg::R6)];
        assert!(covered(&five, &six) && covered(&five, &any));
        assert!(!covers_if_precise(&five, &six, &precise));
        assert!(covers_if_precise(&any, &six, &precise));
        assert!(!covers_if_precise(&six, &any, &precise));
    }

    #[test]
    fn what_was_not_there_or_is_not_read_may_be_anything() {
        let pointer = state([(Reg::R6, Value::pointer(PointerKind::Context))]);
        let number = state([(Reg::R6, Value::UNKNOWN)]);
        assert!(covered(&State::entry(), &pointer) && covered(&State::entry(), &number));
        assert!(!covered(&pointer, &number) && !covered(&number, &pointer));
        let none = SlotSets::default();
        let old = Old { state: &pointer, pc: Pc(7), precise: None, live_slots: &none };
        assert!(covers(old, &number, &mut IdMap::default(), |_| RegSet::of(Reg::R1)));
    }

    #[test]
    fn offsets_of_pointers_are_the_same_but_into_maps_and_packets_they_may_narrow() {
        let of = |value: fn(Scalar) -> Value, limit| state([(Reg::R6, value(below(limit)))]);
        let map_value = |var| map_value(None, var);
        assert!(covered(&of(map_value, 16), &of(map_value, 8)));
        assert!(!covered(&of(map_value, 8), &of(map_value, 16)));
        let stack =
            |var| Value::Pointer(Pointer { kind: PointerKind::Stack { frame: 0 }, off: -64, var });
        assert!(covered(&of(stack, 16), &of(stack, 16)));
        assert!(!covered(&of(stack, 16), &of(stack, 8)));
    }

    #[test]
    fn packets_may_have_more_bytes_but_not_fewer() {
        let [short, long] = [14, 20].map(|bytes| state([(Reg::R6, packet(0, bytes))]));
        assert!(covered(&short, &long) && !covered(&long, &short));
    }

    #[test]
    fn ids_correspond_one_to_one() {
        let pair = |a, b| {
            let [a, b] = [a, b].map(|id| map_value(Some(id), Scalar::constant(0)));
            state([(Reg::R6, a), (Reg::R7, b)])
        };
        assert!(covered(&pair(1, 1), &pair(3, 3)) && covered(&pair(1, 2), &pair(2, 1)));
        assert!(!covered(&pair(1, 1), &pair(3, 4)) && !covered(&pair(1, 2), &pair(3, 3)));
        let valid = state([(Reg::R6, map_value(None, Scalar::constant(0)))]);
        let or_null = state([(Reg::R6, map_value(Some(1), Scalar::constant(0)))]);
        assert!(!covered(&valid, &or_null) && !covered(&or_null, &valid));
    }

    #[test]
    fn numbers_that_were_tied_must_be_tied() {
        let pair = |a, b| state([(Reg::R6, a), (Reg::R7, b)]);
        let precise = [Cell::reg(0, Reg::R6), Cell::reg(0, Reg::R7)];
        let covered = |old: &State, current: &State| covers_if_precise(old, current, &precise);
        let tied = pair(linked(1, None), linked(1, None));
        let free = pair(Value::UNKNOWN, Value::UNKNOWN);
        let apart = pair(linked(1, None), linked(1, Some(4)));
        assert!(covered(&tied, &pair(linked(9, None), linked(9, None))));
        assert!(!covered(&tied, &free) && covered(&free, &tied));
        assert!(!covered(&tied, &apart) && !covered(&apart, &tied));
        // One alone is tied to nothing.
        let alone = pair(linked(1, None), Value::UNKNOWN);
        assert!(covered(&alone, &free));
    }

    #[test]
    fn bytes_of_the_stack_that_may_be_anything_cover_all_others() {
        let misc = with_slot(|slot| slot.set_bytes(0, 8, false));
        let zero = with_slot(|slot| slot.set_bytes(0, 8, true));
        let number = with_slot(|slot| slot.set_spill(Value::constant(5), 8));
        let pointer = with_slot(|slot| slot.set_spill(Value::pointer(PointerKind::Context), 8));
        let untouched = State::entry();
        for current in [&misc, &zero, &number, &pointer, &untouched] {
            assert!(covered(&misc, current) && covered(&untouched, current));
        }
        assert!(covered(&zero, &zero) && covered(&pointer, &pointer));
        for current in [&misc, &number, &pointer, &untouched] {
            assert!(!covered(&zero, current));
        }
        for current in [&misc, &zero, &number, &untouched] {
            assert!(!covered(&pointer, current));
        }
        // Bytes that hold something are a number that nothing is known of.
        let precise = [Cell::slot(0, 0)];
        assert!(covered(&number, &misc) && !covers_if_precise(&number, &misc, &precise));
        let unknown = with_slot(|slot| slot.set_spill(Value::UNKNOWN, 8));
        assert!(covers_if_precise(&unknown, &misc, &precise));
        assert!(!covered(&number, &pointer) && !covered(&number, &untouched));
    }

    #[test]
    fn slots_that_nothing_reads_may_differ() {
        let pointer = with_slot(|slot| slot.set_spill(Value::pointer(PointerKind::Context), 8));
        let none = SlotSets::default();
        let old = Old { state: &pointer, pc: Pc(7), precise: None, live_slots: &none };
        assert!(covers(old, &State::entry(), &mut IdMap::default(), all));
    }

    #[test]
    fn a_loop_repeats_a_state_only_if_nothing_changed() {
        let [five, six] = [5, 6].map(|number| state([(Reg::R6, Value::constant(number))]));
        assert!(repeated(&five, &five) && !repeated(&five, &six));
        let spilled = |value| with_slot(|slot| slot.set_spill(value, 8));
        assert!(repeated(&spilled(linked(1, None)), &spilled(linked(2, None))));
        assert!(!repeated(&spilled(Value::constant(5)), &spilled(Value::constant(6))));
        assert!(repeated(&State::entry(), &spilled(Value::constant(5))));
        assert!(!repeated(&spilled(Value::constant(5)), &State::entry()));
    }

    #[test]
    fn the_register_that_told_states_apart_is_looked_at_first() {
        let mut telltale = Telltale::default();
        let [five, six] = [5, 6].map(|number| state([(Reg::R6, Value::constant(number))]));
        let mut tells = |a: &State, b: &State| telltale.tells(&a.frame().regs, &b.frame().regs);
        assert!(tells(&five, &six) && !tells(&five, &five) && tells(&six, &five));
        assert_eq!(telltale.0, Reg::R6.index());
    }
}
