//! Rewriting of BPF programs in linear time.
//!
//! Growing one instruction into several by moving the rest of the program, and adjusting every
//! jump, costs the length of the program for each edit. A [`Patch`] only notes the edits, against
//! positions of the **original** program; [`Patch::linearize`] then makes the new program in one
//! go: a prefix sum over the edits gives every instruction its new position, and one copy brings
//! it there with its target looked up. Several passes share one patch.
//!
//! ```
//! use ebpf_isa::{AluOp, Insn, LineTable, Operand, Pc, Program, Reg, Width};
//! use ebpf_patch::{Landing, Patch};
//!
//! let r0 = |imm| Insn::Mov { width: Width::W64, dst: Reg::R0, src: Operand::Imm(imm) };
//! let add = |imm| Insn::Alu { op: AluOp::Add, width: Width::W64, dst: Reg::R0, src: Operand::Imm(imm) };
//! let slots = vec![Some(r0(1)), Some(add(5)), Some(Insn::Exit)];
//! let program = Program::new(slots, Default::default(), LineTable::new())?;
//!
//! let mut patch = Patch::new(&program);
//! patch.replace(Pc(1), [add(2), add(3)])?;
//! patch.prepend(Pc(2), [add(1)], Landing::Inserted)?;
//! let patched = patch.linearize()?;
//!
//! let insns: Vec<Insn> = patched.program.insns().map(|(_, insn)| insn).collect();
//! assert_eq!(insns, [r0(1), add(2), add(3), add(1), Insn::Exit]);
//! assert_eq!(patched.map.insn(Pc(2)), Some(Pc(4)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where everything goes
//!
//! Code at an instruction is laid out in this order, whatever the order of the edits; several
//! sequences of one kind keep the order in which they were given:
//!
//! ```text
//!  calls, fall-through ──▶  prepended, Landing::Insn
//!  jumps ────────────────▶  prepended, Landing::Inserted
//!                           the instruction, or its replacement, or nothing where it was deleted
//!                           appended
//! ```
//!
//! - **Jumps** of the original program, and jumps of inserted code to original positions, follow
//!   their target; where nothing of a deleted target is left, they count as jumps to the next
//!   instruction of the subprogram. They never cross subprograms.
//! - **Jumps that grew too long** for the 16 bits of their offset field take a longer form, `gotol` or
//!   the inverse condition over one, unless that is forbidden: [`Patch::forbid_relaxation`].
//! - **Subprograms** keep their names and types. One whose instructions are all deleted is gone; one
//!   that nothing refers to any more is no subprogram either ([`ebpf_isa::Program`]'s rule), and
//!   its code becomes an unreachable part of the one before it.
//! - **Lines**: inserted code belongs to the line of the instruction that it was inserted at. When
//!   the first instruction of a line is deleted, the next one that is left begins the line; a line
//!   of which nothing is left vanishes. So each instruction that survives keeps its line.
//! - **Data by instruction**, of any type, stays where it is and is looked up through [`PcMap`], or is
//!   moved by [`PcMap::carry`]. Maps of several patches in a row become one by [`PcMap::then`].
//!
//! # Passes
//!
//! A pass edits the original instructions that are left ([`Cursor`]) and rewrites what earlier passes
//! inserted ([`Patch::inserted`], [`Patch::replace_inserted`]). Those that need no more than a patch are
//! here: [`blind_constants`], [`insert_zero_extensions`], [`remove_nops`], [`remove_unreached`],
//! [`convert_context_access`], [`guard_divisions`].

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod detours;
mod error;
mod inserted;
mod layout;
mod linearize;
mod log;
mod map;
mod passes;
mod patch;
mod relax;
mod rewriter;
mod seq;

pub use error::PatchError;
pub use log::{Inserted, InsertedCode};
pub use map::{Patched, PcMap};
pub use passes::{
    ContextError, HostField, blind_constants, convert_context_access, guard_divisions,
    insert_zero_extensions, remove_nops, remove_unreached,
};
pub use patch::{Cursor, Landing, Patch};
pub use seq::{PatchInsn, Target};
