//! Programs that are ready to run.

#![allow(unsafe_code, reason = "the call into verified code is here")]

use std::ops::Range;
use std::sync::Arc;

use ebpf_image::Image;
use ebpf_interp::{Observer, Vm};
use ebpf_isa::abi::{EntryFn, ExecEnv, Trap};
use ebpf_pack::Placed;
use ebpf_verifier::{Rewritten, Verified};

use crate::load::Bindings;
use crate::maps::Epoch;

/// What runs a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// The interpreter.
    Interp,
    /// Machine code for x86-64.
    Jit,
}

impl Engine {
    /// `interp` or `jit`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Interp => "interp",
            Self::Jit => "jit",
        }
    }
}

/// What the engine runs.
#[derive(Debug)]
pub(crate) enum Code {
    Interp(Box<Vm>),
    Jit {
        /// Before the code: a debugger forgets the program while it is still there.
        #[cfg(feature = "gdb")]
        _registration: Option<crate::gdb::Registration>,
        image: Box<Image>,
        placed: Placed,
    },
}

/// A program that was verified, rewritten, and bound to the maps and helpers it was verified with.
///
/// Dropping it frees its code; its maps live as long as anybody holds them.
#[derive(Debug)]
pub struct Loaded {
    bindings: Bindings,
    verified: Verified,
    rewritten: Rewritten,
    code: Code,
    /// Whether there are maps of maps among its maps.
    finds_maps: bool,
}

/// Compiled code as it lies in memory.
#[derive(Debug)]
pub struct MachineCode<'a> {
    /// The code before placement: bytes, symbols, and which instruction they come from.
    pub image: &'a Image,
    /// Where it is.
    pub addresses: Range<u64>,
}

impl Loaded {
    pub(crate) fn new(
        bindings: Bindings,
        verified: Verified,
        rewritten: Rewritten,
        code: Code,
    ) -> Self {
        let finds_maps = bindings.maps.iter().any(|map| map.inner_desc().is_some());
        Self { bindings, verified, rewritten, code, finds_maps }
    }

    /// What runs it.
    #[must_use]
    pub fn engine(&self) -> Engine {
        match self.code {
            Code::Interp(_) => Engine::Interp,
            Code::Jit { .. } => Engine::Jit,
        }
    }

    /// What it was verified against and bound to.
    #[must_use]
    pub fn bindings(&self) -> &Bindings {
        &self.bindings
    }

    /// The program as it was verified, and what the verifier found out.
    #[must_use]
    pub fn verified(&self) -> &Verified {
        &self.verified
    }

    /// The program as it runs.
    #[must_use]
    pub fn rewritten(&self) -> &Rewritten {
        &self.rewritten
    }

    /// The machine code, if the program was compiled.
    #[must_use]
    pub fn machine_code(&self) -> Option<MachineCode<'_>> {
        match &self.code {
            Code::Interp(_) => None,
            Code::Jit { image, placed, .. } => {
                Some(MachineCode { image, addresses: placed.code_range() })
            }
        }
    }

    /// The interpreter's form of the program, unless it was compiled. It was made of the program
    /// [as it runs](Self::rewritten).
    #[must_use]
    pub fn vm(&self) -> Option<&Vm> {
        match &self.code {
            Code::Interp(vm) => Some(vm),
            Code::Jit { .. } => None,
        }
    }

    /// Interprets the program like [`Self::run_with_context`], each instruction seen by `observer`
    /// before it is run. `None` if it was compiled: machine code cannot be observed.
    ///
    /// # Safety
    /// As for [`Self::run_with_context`].
    pub(crate) unsafe fn observe_with_context(
        &self,
        ctx: *mut u8,
        env: &mut ExecEnv,
        observer: &mut dyn Observer,
    ) -> Option<Result<u64, Trap>> {
        let vm = self.vm()?;
        env.start_run();
        let _held = self.hold_inner_maps();
        // SAFETY: `Runtime::load` verified the program for this environment; the context is the
        // caller's promise.
        Some(unsafe { vm.start_unchecked(ctx) }.resume_observed(env, observer))
    }

    /// Runs the program once with the context at `ctx`. Gives `r0`.
    ///
    /// # Errors
    /// The trap that a helper noted, or that ended the run.
    ///
    /// # Safety
    /// `ctx` is a context of the program's [kind](crate::ProgramKind), laid out as its hooks
    /// convert accesses to, and what it points to is the program's alone during the run.
    #[inline]
    pub(crate) unsafe fn run_with_context(
        &self,
        ctx: *mut u8,
        env: &mut ExecEnv,
    ) -> Result<u64, Trap> {
        if self.finds_maps {
            // SAFETY: the caller's promise.
            return unsafe { self.run_with_inner_maps(ctx, env) };
        }
        // SAFETY: the caller's promise.
        unsafe { self.enter(ctx, env) }
    }

    /// The same, where the program may find maps that it uses until it ends.
    ///
    /// # Safety
    /// As for [`Self::run_with_context`].
    #[cold]
    unsafe fn run_with_inner_maps(&self, ctx: *mut u8, env: &mut ExecEnv) -> Result<u64, Trap> {
        let _held = self.hold_inner_maps();
        // SAFETY: the caller's promise.
        unsafe { self.enter(ctx, env) }
    }

    fn hold_inner_maps(&self) -> Vec<Arc<Epoch>> {
        self.bindings.maps.iter().filter_map(|map| map.hold()).collect()
    }

    /// # Safety
    /// As for [`Self::run_with_context`], and the inner maps that the program may find are held.
    #[inline(always)]
    unsafe fn enter(&self, ctx: *mut u8, env: &mut ExecEnv) -> Result<u64, Trap> {
        env.start_run();
        let result = match &self.code {
            // SAFETY: `Runtime::load` verified the program for this environment; the context is
            // the caller's promise.
            Code::Interp(vm) => unsafe { vm.enter(ctx, env) },
            Code::Jit { placed, .. } => {
                // SAFETY: the entry is compiled code with this signature, which `placed` keeps
                // in memory.
                let entry: EntryFn = unsafe { std::mem::transmute(placed.entry_ptr()) };
                // SAFETY: as for the interpreter.
                unsafe { entry(ctx, env) }
            }
        };
        // Looked at first, so that what is returned stays in registers.
        if env.trap.kind == 0 { Ok(result) } else { trapped(result, env) }
    }
}

/// What a run came to in which something may have been noted.
#[cold]
#[inline(never)]
fn trapped(result: u64, env: &ExecEnv) -> Result<u64, Trap> {
    env.trap.trap().map_or(Ok(result), Err)
}
