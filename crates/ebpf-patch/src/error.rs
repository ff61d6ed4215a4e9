//! What can be wrong with an edit, or with all of them together.

use ebpf_isa::Pc;

/// Why an edit is refused, or why the edited program cannot be made. Positions are those of the
/// original program; for inserted code, `pc` is the instruction that it was inserted at.
///
/// An edit that is refused leaves the patch as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatchError {
    /// An edit, or a jump of inserted code, beyond the end of the program.
    #[error("insn {pc}: the program has no such instruction")]
    OutOfRange {
        /// The position that does not exist.
        pc: Pc,
    },
    /// An edit, or a jump of inserted code, at the second slot of a wide load.
    #[error("insn {pc}: this is the second slot of a wide load; name its first one")]
    InWideLoad {
        /// The position.
        pc: Pc,
    },
    /// An instruction that was replaced is replaced again or deleted.
    #[error("insn {pc} is already replaced")]
    Replaced {
        /// The instruction.
        pc: Pc,
    },
    /// An edit at an instruction that was deleted.
    #[error("insn {pc} is already deleted")]
    Deleted {
        /// The instruction.
        pc: Pc,
    },
    /// A replacement without instructions.
    #[error("insn {pc}: nothing to replace it with; delete it instead")]
    EmptySequence {
        /// The instruction.
        pc: Pc,
    },
    /// The edited program would have more slots than the patch allows.
    #[error("insn {pc}: the program would grow beyond {limit} slots")]
    TooLong {
        /// Where the edit was.
        pc: Pc,
        /// See [`crate::Patch::with_limit`].
        limit: u32,
    },
    /// A [`crate::Target`] for an instruction that does not jump.
    #[error("insn {pc}: slot {slot} of the inserted code has a target but is no jump")]
    NotAJump {
        /// Where the edit was.
        pc: Pc,
        /// The instruction, in slots from the start of its sequence.
        slot: u32,
    },
    /// A jump within a sequence that leads to no instruction of it.
    #[error("insn {pc}: the inserted code has no instruction at its slot {target}")]
    NoSuchLocal {
        /// Where the edit was.
        pc: Pc,
        /// Where the jump leads, in slots from the start of its sequence.
        target: u32,
    },
    /// A jump of inserted code to another subprogram.
    #[error("insn {pc}: the inserted jump to {target} leaves the subprogram")]
    JumpLeavesSubprog {
        /// Where the edit was.
        pc: Pc,
        /// Where the jump leads.
        target: Pc,
    },
    /// A call or function address of inserted code to where no subprogram starts.
    #[error("insn {pc}: no subprogram starts at {target}, so inserted code cannot call it")]
    NotASubprog {
        /// Where the edit was.
        pc: Pc,
        /// What is called.
        target: Pc,
    },
    /// A jump to a deleted instruction after which nothing of the subprogram is left.
    #[error("insn {pc}: jumps to {target}, which is deleted with all that follows it")]
    TargetDeleted {
        /// Where the jump is.
        pc: Pc,
        /// Where it leads.
        target: Pc,
    },
    /// A call to a subprogram of which nothing is left.
    #[error("insn {pc}: refers to the subprogram at {target}, which is deleted")]
    SubprogDeleted {
        /// Where the call is.
        pc: Pc,
        /// Start of the subprogram.
        target: Pc,
    },
    /// Nothing of the main program is left.
    #[error("the main program is deleted; leave an exit at least")]
    MainDeleted,
    /// The edited subprogram does not end in `exit` or an unconditional jump, or inserted code at
    /// its end jumps past it.
    #[error("insn {pc}: control would run past the end of the subprogram")]
    FallsThrough {
        /// The last instruction that is left, or where the jump was inserted.
        pc: Pc,
    },
    /// A jump that its 16-bit offset field can no longer hold.
    #[error("insn {pc}: the jump would need an offset of {offset}, beyond 16 bits")]
    JumpTooFar {
        /// Where the jump is.
        pc: Pc,
        /// The offset that it would need, in slots.
        offset: i64,
    },
}
