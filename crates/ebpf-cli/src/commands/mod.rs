//! The commands, a file each.

pub(crate) mod asm;
pub(crate) mod cases;
pub(crate) mod disasm;
pub(crate) mod filter;
pub(crate) mod jited;
pub(crate) mod pack_info;
pub(crate) mod profile;
pub(crate) mod run;
pub(crate) mod verify;
pub(crate) mod xlated;
