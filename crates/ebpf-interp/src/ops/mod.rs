//! What operations do.

#![allow(unsafe_code, reason = "operands are read from untagged cells")]

pub(crate) mod alu;
pub(crate) mod branch;
pub(crate) mod call;
pub(crate) mod memory;
pub(crate) mod plain;
pub(crate) mod value;

use crate::code::{Cell, Jump, Op};

/// The operation at `at`.
///
/// # Safety
/// `at` is an operation.
#[inline(always)]
unsafe fn op<'c>(at: *const Cell) -> &'c Op {
    // SAFETY: the caller's promise; code outlives the run.
    unsafe { &(*at).op }
}

/// The second cell of the jump at `at`.
///
/// # Safety
/// `at` is an operation that has one.
#[inline(always)]
unsafe fn jump<'c>(at: *const Cell) -> &'c Jump {
    // SAFETY: the caller's promise; code outlives the run.
    unsafe { &(*at.add(1)).jump }
}
