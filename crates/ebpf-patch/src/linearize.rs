//! From the log of edits to the new program, in time linear in both.
//!
//! 1. The log is brought into the order of the layout.
//! 2. [`layout`] adds up lengths: the new position of everything.
//! 3. [`check`] looks at everything that has a target, before anything is moved. Jumps that no
//!    longer reach theirs are given another form ([`crate::relax`]), which is one more edit, and
//!    everything is laid out again.
//! 4. [`merge`] puts inserted code and original instructions together. Where nothing of the original is
//!    left, the pool of inserted code is the program already.
//! 5. Subprograms and lines follow from the new positions.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use ebpf_isa::{Code, Insn, LineInfo, LineTable, Pc, Program, ProgramBuilder, SubprogIdx};

use crate::PatchError;
use crate::layout::{Piece, layout, pieces};
use crate::log::{Edit, Inserted, ReferenceKind};
use crate::map::{Patched, PcMap};
use crate::patch::{Fate, Patch};
use crate::relax;
use crate::seq::{Link, retarget};

impl Patch<'_> {
    /// Carries out all edits. Jumps that no longer reach their target within 16 bits of offset get
    /// another form: `goto` becomes `gotol`, a conditional jump its inverse over a `gotol` (see
    /// [`Patch::forbid_relaxation`]).
    ///
    /// # Errors
    /// The edited program is not sound: control runs past the end of a subprogram, a call or jump
    /// leads to where nothing is left, or longer forms of jumps make the program too long. See
    /// [`PatchError`].
    pub fn linearize(mut self) -> Result<Patched, PatchError> {
        self.log = self.log.into_layout_order(self.fates.len());
        let mut map = layout(&self);
        let checked = check(&self, &map)?;
        if checked.jumps_too_far {
            relax::relax(&mut self, &map)?;
            map = layout(&self);
        }
        let program = self.program;
        let (builder, inserted) = merge(self, &map);
        check_ends(program, &map, builder.code())?;
        let mut infos = BTreeMap::new();
        for (subprog, referenced) in program.subprogs().iter().zip(checked.referenced) {
            let present = map.starts[subprog.start.index()] < map.starts[subprog.end.index()];
            if present && referenced {
                let start = Pc(map.starts[subprog.start.index()]);
                infos.insert(start, subprog.info.clone());
            }
            let current = SubprogIdx((infos.len() as u32).saturating_sub(1));
            map.subprogs.push(present.then_some(current));
        }
        let program = builder.finish(infos, lines(program.lines(), &map)).expect(
            "invariant: targets are instructions of their subprogram, subprograms end in \
             terminators, information is given where a subprogram starts, lines ascend",
        );
        Ok(Patched { program, map, inserted })
    }
}

/// What the references in a patch come to.
struct Checked {
    /// By old subprogram, whether anything refers to it.
    referenced: Vec<bool>,
    /// Whether any jump does not reach its target.
    jumps_too_far: bool,
}

/// Checks that every jump, call and function address leads to something.
fn check(patch: &Patch<'_>, map: &PcMap) -> Result<Checked, PatchError> {
    let subprogs = patch.program.subprogs();
    if map.starts[subprogs[SubprogIdx::MAIN.index()].end.index()] == 0 {
        return Err(PatchError::MainDeleted);
    }
    let mut referenced = vec![false; subprogs.len()];
    referenced[SubprogIdx::MAIN.index()] = true;
    let mut jumps_too_far = false;
    let mut check_one = |pc: Pc, kind: ReferenceKind, at: u32, seq_start: u32| {
        match kind {
            ReferenceKind::LongJump(target) => {
                jump_target(patch.program, map, pc, target, seq_start)?;
            }
            ReferenceKind::ShortJump(target) => {
                let target = jump_target(patch.program, map, pc, target, seq_start)?;
                let offset = Pc(at).offset_to(target);
                if !patch.reach.contains(&offset) {
                    if !patch.may_relax {
                        return Err(PatchError::JumpTooFar { pc, offset });
                    }
                    jumps_too_far = true;
                }
            }
            ReferenceKind::Subprog(target) => {
                let callee = patch.program.subprog_of(target);
                let end = subprogs[callee.index()].end;
                if map.starts[target.index()] == map.starts[end.index()] {
                    return Err(PatchError::SubprogDeleted { pc, target });
                }
                referenced[callee.index()] = true;
            }
        }
        Ok(())
    };
    let mut references = patch.log.references().iter().peekable();
    for (at, piece) in pieces(patch) {
        match piece {
            Piece::Kept(pc, insn) => {
                if let Some(kind) = ReferenceKind::of(insn) {
                    check_one(pc, kind, at, at)?;
                }
            }
            Piece::Inserted(edit) => {
                let Range { start, end } = edit.code();
                while let Some(it) = references.next_if(|it| (it.slot as usize) < end) {
                    check_one(edit.pc(), it.kind, at + it.slot - start as u32, at)?;
                }
            }
        }
    }
    Ok(Checked { referenced, jumps_too_far })
}

/// Where a jump leads that is or was inserted at the old `pc`, in a sequence that is at `seq_start`
/// now.
pub(crate) fn jump_target(
    program: &Program,
    map: &PcMap,
    pc: Pc,
    target: Pc,
    seq_start: u32,
) -> Result<Pc, PatchError> {
    let offset = match Link::from_pc(target) {
        Link::Original(target) => {
            return map.landing(target).ok_or(PatchError::TargetDeleted { pc, target });
        }
        Link::Local(offset) => offset,
    };
    let end = program.subprogs()[program.subprog_of(pc).index()].end;
    if seq_start + offset >= map.starts[end.index()] {
        return Err(PatchError::FallsThrough { pc });
    }
    Ok(Pc(seq_start + offset))
}

/// Makes the new program, whose positions are `map`, but for what goes with its code.
fn merge(patch: Patch<'_>, map: &PcMap) -> (ProgramBuilder, Inserted) {
    let original = patch.program.slots();
    let (pool, mut edits) = patch.log.into_parts();
    let len = map.new_len() as usize;
    let is_pool = pool.len() == len;
    let (pool, mut builder) = match is_pool {
        true => (Code::new(), ProgramBuilder::from(pool)),
        false => (pool, ProgramBuilder::with_capacity(len)),
    };
    let (mut at, mut old) = (0, 0);
    loop {
        let edit = edits.next();
        let mut stop = edit.map_or(patch.fates.len(), Edit::next_slot);
        if patch.fates.get(stop) == Some(&Fate::Second) {
            // Behind a wide load is behind both of its slots.
            stop += 1;
        }
        while old < stop {
            let kept = patch.fates[old..stop].iter().take_while(|fate| fate.stays()).count();
            if kept > 0 {
                builder.extend_from_slice(&original[old..old + kept]);
                builder.settle(kept, |insn| settle(insn, at, map));
                at += kept as u32;
            }
            // What ends it before `stop` is gone.
            old = stop.min(old + kept + 1);
        }
        let Some(edit) = edit else { return (builder, edits.finish()) };
        edits.place(at);
        if !is_pool {
            builder.extend_from_slice(&pool[edit.code()]);
        }
        builder.settle(edit.code().len(), |insn| settle(insn, at, map));
        at += edit.slots();
    }
}

/// The instruction with its target in the new program, which [`check`] has found to exist.
fn settle(insn: Insn, seq_start: u32, map: &PcMap) -> Insn {
    if let Some(target) = insn.jump_target() {
        let target = match Link::from_pc(target) {
            Link::Original(target) => map.landing(target).expect("invariant: jumps lead somewhere"),
            Link::Local(offset) => Pc(seq_start + offset),
        };
        retarget(insn, target)
    } else if let Some(target) = insn.subprog_ref() {
        retarget(insn, Pc(map.starts[target.index()]))
    } else {
        insn
    }
}

/// Checks that no subprogram runs into what follows.
fn check_ends(program: &Program, map: &PcMap, slots: &[Option<Insn>]) -> Result<(), PatchError> {
    for subprog in program.subprogs() {
        let begin = map.starts[subprog.start.index()] as usize;
        let end = map.starts[subprog.end.index()] as usize;
        let last = slots[begin..end].iter().rposition(Option::is_some);
        let Some((at, insn)) = last.and_then(|at| Some((at, slots[begin + at]?))) else { continue };
        if !insn.is_terminator() {
            let pc = map.origin(Pc((begin + at) as u32));
            return Err(PatchError::FallsThrough {
                pc: pc.expect("invariant: emitted code has an origin"),
            });
        }
    }
    Ok(())
}

/// The line entries at their new positions. An entry moves with the start of the code at its
/// instruction, so one whose instruction is deleted goes to the next that is left; where the next
/// entry comes to the same place, nothing of the line is left.
fn lines(old: &LineTable, map: &PcMap) -> LineTable {
    let mut new: Vec<LineInfo> = Vec::with_capacity(old.entries().len());
    for entry in old.entries() {
        let pc = Pc(map.starts[entry.pc.index()]);
        if new.last().is_some_and(|previous| previous.pc == pc) {
            new.pop();
        }
        new.push(LineInfo { pc, ..*entry });
    }
    if new.last().is_some_and(|last| last.pc.0 == map.new_len()) {
        new.pop();
    }
    old.with_entries(new)
}
