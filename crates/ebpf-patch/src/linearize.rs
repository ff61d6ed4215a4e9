//! From the log of edits to the new program, in time linear in both.
//!
//! 1. The log is brought into the order of the layout, by counting.
//! 2. [`layout`] adds up lengths: the new position of everything.
//! 3. [`Emitter`] copies instructions there, looking up their targets.
//! 4. Subprograms and lines follow from the new positions.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::iter::Peekable;
use core::slice;

use ebpf_isa::{Insn, LineInfo, LineTable, Pc, Program, Subprog, SubprogIdx, SubprogInfo};

use crate::PatchError;
use crate::map::{Patched, PcMap};
use crate::patch::{Edit, Fate, Patch, Place};
use crate::seq::{Link, retarget};

type Edits<'a> = Peekable<slice::Iter<'a, Edit>>;

impl Patch<'_> {
    /// Carries out all edits.
    ///
    /// # Errors
    /// The edited program is not sound: control runs past the end of a subprogram, a call or jump
    /// leads to where nothing is left, or a jump no longer reaches its target. See [`PatchError`].
    pub fn linearize(self) -> Result<Patched, PatchError> {
        let log = in_layout_order(&self.log, self.fates.len());
        let mut map = layout(&self, &log);
        let mut emitter = Emitter::new(&self, &map);
        emitter.emit_all(&log)?;
        let Emitter { slots, referenced, .. } = emitter;

        let old = self.program.subprogs();
        let mut infos = BTreeMap::new();
        for (subprog, &referenced) in old.iter().zip(&referenced) {
            let present = map.starts[subprog.start.index()] < map.starts[subprog.end.index()];
            if present && referenced {
                let start = Pc(map.starts[subprog.start.index()]);
                infos.insert(start, subprog.info.clone());
            }
            let current = SubprogIdx((infos.len() as u32).saturating_sub(1));
            map.subprogs.push(present.then_some(current));
        }
        let program = assemble(slots, infos, lines(self.program.lines(), &map));
        Ok(Patched { program, map })
    }
}

/// Makes the program of parts that linearisation has checked.
fn assemble(
    slots: Vec<Option<Insn>>,
    infos: BTreeMap<Pc, SubprogInfo>,
    lines: LineTable,
) -> Program {
    Program::new(slots, infos, lines).expect(
        "invariant: targets are instructions of their subprogram, subprograms end in terminators, \
         information is given where a subprogram starts, lines ascend",
    )
}

/// The log by position, place and age: as given if that is its order, else by counting positions.
fn in_layout_order(log: &[Edit], slots: usize) -> Cow<'_, [Edit]> {
    if log.is_sorted_by_key(|edit| (edit.pc, edit.place)) {
        return Cow::Borrowed(log);
    }
    let mut next = vec![0_u32; slots + 1];
    for edit in log {
        next[edit.pc.index() + 1] += 1;
    }
    for slot in 1..next.len() {
        next[slot] += next[slot - 1];
    }
    let mut ordered = log.to_vec();
    for place in Place::ALL {
        for edit in log.iter().filter(|edit| edit.place == place) {
            let at = &mut next[edit.pc.index()];
            ordered[*at as usize] = *edit;
            *at += 1;
        }
    }
    Cow::Owned(ordered)
}

/// Where everything goes: all of the map except for subprograms, which depend on what is called.
fn layout(patch: &Patch<'_>, log: &[Edit]) -> PcMap {
    let slots = patch.program.slots();
    let mut starts = Vec::with_capacity(slots.len() + 1);
    let mut landings = Vec::with_capacity(slots.len());
    let mut insns = Vec::with_capacity(slots.len());
    let mut edits = log.iter().peekable();
    let mut at = 0;
    for (index, (slot, fate)) in slots.iter().zip(&patch.fates).enumerate() {
        let pc = Pc(index as u32);
        starts.push(at);
        at += len_of(&mut edits, pc, Place::AboveLanding);
        landings.push(at);
        at += len_of(&mut edits, pc, Place::BelowLanding);
        let present = slot.is_some() && *fate != Fate::Deleted;
        insns.push(if present { at } else { PcMap::NOWHERE });
        at += match (slot, fate) {
            (Some(insn), Fate::Kept) => insn.slots(),
            _ => len_of(&mut edits, pc, Place::Instead),
        };
        at += len_of(&mut edits, pc, Place::Behind);
    }
    starts.push(at);
    let mut map = PcMap { starts, landings, insns, subprogs: Vec::new() };
    for subprog in patch.program.subprogs() {
        forward_landings(&mut map, subprog, slots);
    }
    map
}

/// Total length of the next edits if they are for this place.
fn len_of(edits: &mut Edits<'_>, pc: Pc, place: Place) -> u32 {
    let mut len = 0;
    while let Some(edit) = edits.next_if(|edit| edit.pc == pc && edit.place == place) {
        len += edit.len;
    }
    len
}

/// Leads jumps to where nothing is left on to the next landing of the subprogram.
fn forward_landings(map: &mut PcMap, subprog: &Subprog, slots: &[Option<Insn>]) {
    let mut next = PcMap::NOWHERE;
    for index in (subprog.start.index()..subprog.end.index()).rev() {
        if slots[index].is_none() {
            map.landings[index] = PcMap::NOWHERE;
            continue;
        }
        if map.landings[index] == map.starts[index + 1] {
            map.landings[index] = next;
        }
        next = map.landings[index];
    }
}

/// Copies instructions to their new places.
struct Emitter<'a> {
    patch: &'a Patch<'a>,
    map: &'a PcMap,
    slots: Vec<Option<Insn>>,
    /// By old subprogram, whether anything refers to it.
    referenced: Vec<bool>,
    /// One past the end of the current subprogram, in the new program.
    end: u32,
}

impl<'a> Emitter<'a> {
    fn new(patch: &'a Patch<'a>, map: &'a PcMap) -> Self {
        let len = map.starts.last().map_or(0, |&len| len as usize);
        let mut referenced = vec![false; patch.program.subprogs().len()];
        referenced[SubprogIdx::MAIN.index()] = true;
        Self { patch, map, slots: Vec::with_capacity(len), referenced, end: 0 }
    }

    fn emit_all(&mut self, log: &[Edit]) -> Result<(), PatchError> {
        let mut edits = log.iter().peekable();
        for subprog in self.patch.program.subprogs() {
            let begin = self.slots.len();
            self.end = self.map.starts[subprog.end.index()];
            self.emit_subprog(subprog, &mut edits)?;
            self.check_end(begin)?;
        }
        if self.map.starts[self.patch.program.subprogs()[0].end.index()] == 0 {
            return Err(PatchError::MainDeleted);
        }
        Ok(())
    }

    fn emit_subprog(&mut self, subprog: &Subprog, edits: &mut Edits<'_>) -> Result<(), PatchError> {
        let patch = self.patch;
        for index in subprog.start.index()..subprog.end.index() {
            let pc = Pc(index as u32);
            let up_to_insn = |edit: &&Edit| edit.pc == pc && edit.place <= Place::Instead;
            while let Some(edit) = edits.next_if(up_to_insn) {
                self.emit_seq(edit)?;
            }
            if let (Some(insn), Fate::Kept) = (patch.program.slots()[index], patch.fates[index]) {
                self.emit(pc, insn, 0)?;
            }
            while let Some(edit) = edits.next_if(|edit| edit.pc == pc) {
                self.emit_seq(edit)?;
            }
        }
        Ok(())
    }

    fn emit_seq(&mut self, edit: &Edit) -> Result<(), PatchError> {
        let patch = self.patch;
        let seq_start = self.slots.len() as u32;
        let seq = &patch.pool[edit.first as usize..][..edit.len as usize];
        if !edit.linked {
            self.slots.extend_from_slice(seq);
            return Ok(());
        }
        for insn in seq.iter().flatten() {
            self.emit(edit.pc, *insn, seq_start)?;
        }
        Ok(())
    }

    /// Emits `insn`, which is or was inserted at the old `pc`, in a sequence from `seq_start`.
    fn emit(&mut self, pc: Pc, insn: Insn, seq_start: u32) -> Result<(), PatchError> {
        let insn = if let Some(target) = insn.jump_target() {
            let target = self.jump_target(pc, target, seq_start)?;
            let at = Pc(self.slots.len() as u32);
            within_reach(pc, at, retarget(insn, target), target)?
        } else if let Some(target) = insn.subprog_ref() {
            retarget(insn, self.subprog_start(pc, target)?)
        } else {
            insn
        };
        self.slots.push(Some(insn));
        if insn.slots() == 2 {
            self.slots.push(None);
        }
        Ok(())
    }

    fn jump_target(&self, pc: Pc, target: Pc, seq_start: u32) -> Result<Pc, PatchError> {
        match Link::from_pc(target) {
            Link::Original(target) => {
                self.map.landing(target).ok_or(PatchError::TargetDeleted { pc, target })
            }
            Link::Local(offset) if seq_start + offset < self.end => Ok(Pc(seq_start + offset)),
            Link::Local(_) => Err(PatchError::FallsThrough { pc }),
        }
    }

    fn subprog_start(&mut self, pc: Pc, target: Pc) -> Result<Pc, PatchError> {
        let index = self.patch.program.subprog_of(target).index();
        let Subprog { start, end, .. } = self.patch.program.subprogs()[index];
        let new_start = self.map.starts[start.index()];
        if new_start == self.map.starts[end.index()] {
            return Err(PatchError::SubprogDeleted { pc, target });
        }
        self.referenced[index] = true;
        Ok(Pc(new_start))
    }

    /// Checks that the subprogram emitted from `begin` on does not run into what follows.
    fn check_end(&self, begin: usize) -> Result<(), PatchError> {
        let emitted = self.slots[begin..].iter().enumerate().rev();
        match emitted.filter_map(|(at, slot)| Some((at, (*slot)?))).next() {
            Some((at, last)) if !last.is_terminator() => {
                let new = Pc((begin + at) as u32);
                let pc = self.map.origin(new).expect("invariant: emitted code has an origin");
                Err(PatchError::FallsThrough { pc })
            }
            _ => Ok(()),
        }
    }
}

/// Refuses a jump at the new position `at` (from the old `pc`) that its offset field cannot hold.
///
/// The alternative would be to relax it here: `goto` to `gotol`, a conditional jump to its inverse
/// over a `gotol`. That makes code longer, so it must be settled in [`layout`] already.
fn within_reach(pc: Pc, at: Pc, insn: Insn, target: Pc) -> Result<Insn, PatchError> {
    let offset = at.offset_to(target);
    let short = !matches!(insn, Insn::Jump { long: true, .. });
    if short && i16::try_from(offset).is_err() {
        return Err(PatchError::JumpTooFar { pc, offset });
    }
    Ok(insn)
}

/// The line entries at their new positions. An entry moves with the start of the code at its
/// instruction, so one whose instruction is deleted goes to the next that is left; where the next
/// entry comes to the same place, nothing of the line is left.
fn lines(old: &LineTable, map: &PcMap) -> LineTable {
    let len = map.starts.last().map_or(0, |&len| len);
    let mut new: Vec<LineInfo> = Vec::with_capacity(old.entries().len());
    for entry in old.entries() {
        let pc = Pc(map.starts[entry.pc.index()]);
        if new.last().is_some_and(|previous| previous.pc == pc) {
            new.pop();
        }
        new.push(LineInfo { pc, ..*entry });
    }
    if new.last().is_some_and(|last| last.pc.0 == len) {
        new.pop();
    }
    old.with_entries(new)
}
