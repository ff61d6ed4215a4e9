//! Why an accepted program cannot be made runnable.

use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;

use ebpf_isa::uapi::HelperId;
use ebpf_isa::{Pc, Reg, Size};
use ebpf_patch::{ContextError, PatchError};

use super::HookCode;
use crate::kfunc::ModuleError;
use crate::rules::Object;

/// Why an accepted program cannot be made runnable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RewriteError {
    /// The host's context does not have the field.
    #[error("insn {pc}: the host provides no context field at offset {offset} of {} bytes", size.bytes())]
    UnsupportedField {
        /// The access.
        pc: Pc,
        /// Offset into the context.
        offset: u16,
        /// Width of the access.
        size: Size,
    },
    /// The host's object does not have the field.
    #[error(
        "insn {pc}: the host provides no field at offset {offset} of {} bytes in {}",
        size.bytes(),
        object.name()
    )]
    UnsupportedObject {
        /// The access.
        pc: Pc,
        /// What is accessed.
        object: Object,
        /// Offset into the object.
        offset: u16,
        /// Width of the access.
        size: Size,
    },
    /// A load from memory of the kernel that may not be there, which a host has no guard for.
    #[error("insn {pc}: loads from structures of the kernel cannot be run")]
    Guarded {
        /// The load.
        pc: Pc,
    },
    /// The field that a hook names is not what is accessed, or cannot be accessed so.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// A helper calls back one function on some path, and another one on another.
    #[error("insn {pc}: {helper} calls back different functions here; call it once for each")]
    VariousCallbacks {
        /// The call.
        pc: Pc,
        /// The helper.
        helper: HelperId,
    },
    /// The host does not offer to walk over the elements of a map.
    #[error("insn {pc}: the host cannot walk over the elements of a map")]
    NoElements {
        /// The call.
        pc: Pc,
    },
    /// The code that a hook gave is not what it has to be.
    #[error("{hook}: {fault}")]
    Hook {
        /// Which hook.
        hook: Hook,
        /// What is wrong.
        fault: HookFault,
    },
    /// The rewritten instructions do not make a program.
    #[error(transparent)]
    Patch(#[from] PatchError),
}

/// A hook that gives code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// [`RewriteHooks::gen_prologue`](super::RewriteHooks::gen_prologue).
    Prologue,
    /// [`RewriteHooks::gen_epilogue`](super::RewriteHooks::gen_epilogue).
    Epilogue,
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prologue => "gen_prologue",
            Self::Epilogue => "gen_epilogue",
        })
    }
}

/// What is wrong with the code of a hook. Slots are counted from its start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HookFault {
    /// More code than [`HookCode::BUDGET`].
    #[error("misconfigured: more than {} slots of code", HookCode::BUDGET)]
    OverBudget,
    /// A jump or call to an instruction of the program, or past the hook's own code.
    #[error("slot {slot}: a jump leads out of the hook's code")]
    JumpsOut {
        /// The jump.
        slot: u32,
    },
    /// A jump back: nothing would see to it that the code ends.
    #[error("slot {slot}: a jump leads back; a hook's code has no loops")]
    JumpsBack {
        /// The jump.
        slot: u32,
    },
    /// No path leads to an instruction.
    #[error("slot {slot}: no path leads here")]
    Unreached {
        /// The instruction.
        slot: u32,
    },
    /// A register that is used, but not set on every path.
    #[error("slot {slot}: {reg} is not defined")]
    Undefined {
        /// The instruction.
        slot: u32,
        /// The register.
        reg: Reg,
    },
    /// The frame pointer is used: the stack is the program's.
    #[error("slot {slot}: a hook's code has no stack of its own; keep values in r6 to r9")]
    FramePointer {
        /// The instruction.
        slot: u32,
    },
    /// An instruction that a hook must not give.
    #[error("slot {slot}: {what} in a hook's code")]
    NotAllowed {
        /// The instruction.
        slot: u32,
        /// What it is.
        what: &'static str,
    },
    /// No path leads from the prologue to the program.
    #[error("no path leads from the prologue to the program")]
    NeverEnds,
    /// The prologue ends with something else in `r1` than the context.
    #[error("r1 must hold the context when the prologue ends")]
    ContextLost,
    /// A native function that the host does not offer.
    #[error("slot {slot}: there is no native function {number}; register it with the program type")]
    NoNative {
        /// The call.
        slot: u32,
        /// The function's number.
        number: u32,
    },
    /// A helper that the host does not offer.
    #[error("slot {slot}: there is no helper {id}; register it with the program type")]
    NoHelper {
        /// The call.
        slot: u32,
        /// The helper.
        id: HelperId,
    },
    /// A kernel function that the host does not offer, or not to hooks; or there is no room for its
    /// module.
    #[error("slot {slot}: {error}")]
    Kfunc {
        /// The call.
        slot: u32,
        /// What is wrong.
        error: ModuleError,
    },
    /// An access to the context that cannot be converted.
    #[error(transparent)]
    Context(Box<RewriteError>),
    /// A prologue asks for the context that is saved behind it.
    #[error("slot {slot}: the context is saved behind the prologue; it is in r1")]
    NoSavedContext {
        /// The access.
        slot: u32,
    },
    /// There is an epilogue, but the program has a packet load, which ends it where the packet is too short.
    #[error("insn {pc}: a packet load can end the program without the epilogue")]
    PacketLoad {
        /// The packet load, in the program as it was verified.
        pc: Pc,
    },
    /// The hook refuses the program.
    #[error("{reason}")]
    Refused {
        /// Why.
        reason: String,
    },
}
