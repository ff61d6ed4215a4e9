//! Whole programs, sound by construction.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::lines::LineTable;
use crate::{
    Code, DecodeError, EncodeError, Insn, Pc, ProgramBuilder, RawInsn, decode_all, encode_all,
};

/// A subprogram, by its place in the program; 0 is the main program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubprogIdx(pub u32);

impl SubprogIdx {
    /// The main program.
    pub const MAIN: Self = Self(0);

    /// As an index into arrays that have one element a subprogram.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a loader knows about a subprogram.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SubprogInfo {
    /// Name of the function.
    pub name: Option<String>,
    /// Its type in the program's BTF.
    pub btf_id: Option<u32>,
}

/// A closed part of a program: no jump enters or leaves it, only calls do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subprog {
    /// First slot.
    pub start: Pc,
    /// One past the last slot.
    pub end: Pc,
    /// What the loader knows.
    pub info: SubprogInfo,
}

/// Why instructions do not make a program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// No instructions.
    #[error("the program has no instructions")]
    Empty,
    /// More slots than [`Program::MAX_SLOTS`].
    #[error("the program has {slots} slots, more than the limit of {}", Program::MAX_SLOTS)]
    TooLong {
        /// Number of slots.
        slots: usize,
    },
    /// A slot that is no instruction.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A wide load without room for its second half, or a second half without wide load.
    #[error("insn {pc}: a wide load takes two slots")]
    SplitWideLoad {
        /// Where.
        pc: Pc,
    },
    /// A jump, call or function address beyond the last instruction.
    #[error("insn {pc}: jump or call to {target} leaves the program")]
    TargetOutOfRange {
        /// Where.
        pc: Pc,
        /// Where it leads.
        target: Pc,
    },
    /// A jump, call or function address into the second half of a wide load.
    #[error("insn {pc}: jump or call to {target} lands in the middle of a wide load")]
    TargetInWideLoad {
        /// Where.
        pc: Pc,
        /// Where it leads.
        target: Pc,
    },
    /// A jump into another subprogram.
    #[error("insn {pc}: jump to {target} leaves the subprogram at {start}")]
    JumpLeavesSubprog {
        /// Where.
        pc: Pc,
        /// Where it leads.
        target: Pc,
        /// Start of the subprogram that the jump is in.
        start: Pc,
    },
    /// The last instruction of a subprogram is neither `exit` nor an unconditional jump.
    #[error("insn {pc}: the last instruction of a subprogram must be an exit or a jump")]
    FallsThrough {
        /// The last instruction.
        pc: Pc,
    },
    /// Information about a subprogram that starts nowhere.
    #[error("no subprogram starts at {pc}")]
    NoSubprogAt {
        /// The claimed start.
        pc: Pc,
    },
    /// Line entries that do not ascend, or lie outside of the program.
    #[error("line entry at {pc} is out of order or not at an instruction")]
    BadLine {
        /// The entry's position.
        pc: Pc,
    },
}

impl ProgramError {
    /// The instruction at fault, where there is one.
    #[must_use]
    pub const fn pc(&self) -> Option<Pc> {
        match *self {
            Self::Empty | Self::TooLong { .. } => None,
            Self::Decode(error) => Some(error.pc()),
            Self::SplitWideLoad { pc }
            | Self::TargetOutOfRange { pc, .. }
            | Self::TargetInWideLoad { pc, .. }
            | Self::JumpLeavesSubprog { pc, .. }
            | Self::FallsThrough { pc }
            | Self::NoSubprogAt { pc }
            | Self::BadLine { pc } => Some(pc),
        }
    }
}

/// A program that every consumer can rely on: targets are instructions of the program, wide loads
/// are whole, each subprogram is closed under jumps and ends in `exit` or an unconditional jump.
///
/// Subprograms are what is called or whose address is taken (the rule of the kernel's verifier).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    code: Arc<Code>,
    subprogs: Vec<Subprog>,
    lines: LineTable,
}

impl Program {
    /// The most slots a program may have, far above what any verifier accepts: it keeps positions
    /// and sizes of generated code within 32 bits.
    pub const MAX_SLOTS: usize = 1 << 25;

    /// Decodes slots into a program without names and lines.
    ///
    /// # Errors
    /// A malformed slot, or a structure that is not sound.
    pub fn from_slots(slots: &[RawInsn]) -> Result<Self, ProgramError> {
        check_len(slots.len())?;
        Self::new(decode_all(slots)?, BTreeMap::new(), LineTable::new())
    }

    /// Makes a program of instructions given one element a slot (the second slot of a wide load is
    /// `None`), what is known about the subprograms by their start, and source lines.
    ///
    /// # Errors
    /// A structure that is not sound: see [`ProgramError`].
    pub fn new(
        slots: Vec<Option<Insn>>,
        infos: BTreeMap<Pc, SubprogInfo>,
        lines: LineTable,
    ) -> Result<Self, ProgramError> {
        check_len(slots.len())?;
        ProgramBuilder::from(Code::from(slots)).finish(infos, lines)
    }

    /// From code whose wide loads are whole, and all that its instructions refer to.
    pub(crate) fn of_references(
        code: Code,
        references: &References,
        mut infos: BTreeMap<Pc, SubprogInfo>,
        lines: LineTable,
    ) -> Result<Self, ProgramError> {
        check_len(code.len())?;
        let mut subprogs = references.cut(&code)?;
        references.check_jumps(&code, &subprogs)?;
        for subprog in &mut subprogs {
            check_end(&code, subprog)?;
            if let Some(info) = infos.remove(&subprog.start) {
                subprog.info = info;
            }
        }
        if let Some(&pc) = infos.keys().next() {
            return Err(ProgramError::NoSubprogAt { pc });
        }
        check_lines(&code, &lines)?;
        Ok(Self { code: Arc::new(code), subprogs, lines })
    }

    /// The instruction that starts at `pc`; `None` past the end and inside wide loads.
    #[must_use]
    pub fn get(&self, pc: Pc) -> Option<Insn> {
        self.code.get(pc.index()).copied().flatten()
    }

    /// All instructions with their positions.
    pub fn insns(&self) -> impl DoubleEndedIterator<Item = (Pc, Insn)> {
        let at = |(index, slot): (usize, &Option<Insn>)| slot.map(|insn| (Pc(index as u32), insn));
        self.code.iter().enumerate().filter_map(at)
    }

    /// One element a slot; the second slot of a wide load is `None`.
    #[must_use]
    pub fn slots(&self) -> &[Option<Insn>] {
        &self.code
    }

    /// The same, and where they are not plain; for who keeps them longer than the program, too.
    #[must_use]
    pub fn code(&self) -> &Arc<Code> {
        &self.code
    }

    /// Length in slots, which is what the kernel counts as instructions.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a program is never empty")]
    pub fn len(&self) -> u32 {
        self.code.len() as u32
    }

    /// Subprograms by position; the first is the main program.
    #[must_use]
    pub fn subprogs(&self) -> &[Subprog] {
        &self.subprogs
    }

    /// The subprogram that the instruction at `pc` belongs to.
    #[must_use]
    pub fn subprog_of(&self, pc: Pc) -> SubprogIdx {
        let after = self.subprogs.partition_point(|subprog| subprog.start <= pc);
        SubprogIdx(after.saturating_sub(1) as u32)
    }

    /// Source lines.
    #[must_use]
    pub fn lines(&self) -> &LineTable {
        &self.lines
    }

    /// The program as slots, for files and for a kernel.
    ///
    /// # Errors
    /// An instruction that exists only after rewriting, or a jump beyond its offset field.
    pub fn to_slots(&self) -> Result<Vec<RawInsn>, EncodeError> {
        encode_all(&self.code)
    }
}

fn check_len(slots: usize) -> Result<(), ProgramError> {
    match slots {
        0 => Err(ProgramError::Empty),
        1..=Program::MAX_SLOTS => Ok(()),
        _ => Err(ProgramError::TooLong { slots }),
    }
}

/// Every position that an instruction refers to, with that instruction's own.
#[derive(Debug, Clone, Default)]
pub(crate) struct References {
    pub(crate) jumps: Vec<(Pc, Pc)>,
    /// Calls, and addresses of functions.
    pub(crate) subprogs: Vec<(Pc, Pc)>,
}

impl References {
    /// Cuts the program where a subprogram is called or its address taken.
    fn cut(&self, code: &Code) -> Result<Vec<Subprog>, ProgramError> {
        for &(pc, target) in &self.subprogs {
            check_target(code, pc, target)?;
        }
        let mut starts: Vec<Pc> = self.subprogs.iter().map(|&(_, target)| target).collect();
        starts.push(Pc::ENTRY);
        starts.sort_unstable();
        starts.dedup();
        let ends = starts.iter().skip(1).copied().chain([Pc(code.len() as u32)]);
        let subprog = |(&start, end)| Subprog { start, end, info: SubprogInfo::default() };
        Ok(starts.iter().zip(ends).map(subprog).collect())
    }

    /// Checks that jumps lead to instructions of the subprogram that they are in.
    fn check_jumps(&self, code: &Code, subprogs: &[Subprog]) -> Result<(), ProgramError> {
        let mut jumps = self.jumps.iter();
        for subprog in subprogs {
            let inside = subprog.start..subprog.end;
            let count = jumps.as_slice().partition_point(|(pc, _)| *pc < subprog.end);
            for &(pc, target) in jumps.by_ref().take(count) {
                check_target(code, pc, target)?;
                if !inside.contains(&target) {
                    let start = subprog.start;
                    return Err(ProgramError::JumpLeavesSubprog { pc, target, start });
                }
            }
        }
        Ok(())
    }
}

fn check_target(code: &Code, pc: Pc, target: Pc) -> Result<(), ProgramError> {
    if target.index() >= code.len() {
        return Err(ProgramError::TargetOutOfRange { pc, target });
    }
    // A plain instruction needs no look at it.
    if code.is_marked(target) && code[target.index()].is_none() {
        return Err(ProgramError::TargetInWideLoad { pc, target });
    }
    Ok(())
}

/// Checks that control does not run past the end of a subprogram.
fn check_end(slots: &[Option<Insn>], subprog: &Subprog) -> Result<(), ProgramError> {
    // A subprogram does not begin inside of a wide load, so one that ends in `None` ends in one.
    let last = Pc(subprog.end.0 - 1);
    match slots[last.index()] {
        Some(insn) if insn.is_terminator() => Ok(()),
        Some(_) => Err(ProgramError::FallsThrough { pc: last }),
        None => Err(ProgramError::FallsThrough { pc: Pc(last.0 - 1) }),
    }
}

fn check_lines(slots: &[Option<Insn>], lines: &LineTable) -> Result<(), ProgramError> {
    let mut previous = None;
    for line in lines.entries() {
        let at_insn = matches!(slots.get(line.pc.index()), Some(Some(_)));
        if !at_insn || previous >= Some(line.pc) {
            return Err(ProgramError::BadLine { pc: line.pc });
        }
        previous = Some(line.pc);
    }
    Ok(())
}
