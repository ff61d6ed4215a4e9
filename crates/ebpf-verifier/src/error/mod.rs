//! Why a program is rejected.
//!
//! A rule that is broken gives a [`Payload`]: which rule, and the numbers that break it. Everything
//! else is made from it: the [`ErrorCode`], the error number, and the kernel's words.

mod code;
#[cfg(feature = "serde")]
mod data;
mod facts;
mod field;
mod kinds;
mod malformed;
mod object;
mod payload;
mod prototype;
mod rejection;
mod structure;
mod text;
mod unsupported;

use alloc::boxed::Box;

pub use code::{Errno, ErrorCode};
pub use facts::{
    ArgumentRule, ArithmeticRule, BadSize, Ending, Extreme, FarOffset, Held, Region, StackAccess,
};
pub use field::{FieldFault, LaterFault, LockFault};
pub use kinds::PayloadKind;
pub use object::{Misplaced, ObjectAccess, ObjectFault};
pub use payload::Payload;
pub use prototype::PrototypeFault;
pub use rejection::{RejectedLine, Rejection};
pub use structure::{TargetFault, WalkFault};
pub use unsupported::Unsupported;

/// What every rule gives: the box keeps the good case small.
pub(crate) type Checked<T = ()> = Result<T, Box<Payload>>;
