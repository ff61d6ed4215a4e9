//! Program types of an embedder's own: a context of any type, hooks, helpers and native functions.
//!
//! What such a type promises is what [`ProgramKind::of_host`] lists; it is checked nowhere, so making one is
//! `unsafe`. Loading and running its programs is not: [`HostProgram`] takes the contexts that the type is for.

#![allow(unsafe_code, reason = "the context is handed to programs by its address")]

use std::any::TypeId;
use std::marker::PhantomData;
use std::sync::Arc;

use ebpf_isa::abi::{ExecEnv, HelperFn, Trap};
use ebpf_isa::uapi::HelperId;
use ebpf_verifier::{ProgramTypeRules, RewriteHooks};

use crate::kind::ProgramKind;
use crate::loaded::Loaded;

impl ProgramKind {
    /// A program type whose context is a `C` of the host, without helpers but those that every type has,
    /// and without native functions.
    ///
    /// # Safety
    /// For every `C` that safe code can make:
    /// - each field that the hooks lead accesses to is inside of the `C`, and may be written where the
    ///   rules allow stores;
    /// - a field that the rules call a number gives no more bits than programs see: the verifier relies
    ///   on it ([`HostField::bits`](ebpf_verifier::HostField));
    /// - a field that the rules call a pointer holds one to what they say, which is there, and the program's
    ///   alone, while the `C` is borrowed for a run;
    /// - the code of prologue and epilogue is sound, where native functions and helpers do what they
    ///   are registered for.
    #[must_use]
    pub unsafe fn of_host<C: 'static>(
        rules: Arc<dyn ProgramTypeRules>,
        hooks: Arc<dyn RewriteHooks + Send + Sync>,
    ) -> Self {
        let layout = TypeId::of::<C>();
        let (helpers, natives) = ((&[]).into(), (&[]).into());
        Self { rules, attach_type: None, hooks, helpers, natives, layout }
    }

    /// The same with native functions behind helpers. They are used before those that every type has.
    ///
    /// # Safety
    /// Each function is sound for the arguments that its helper's prototype in the rules lets a program
    /// pass, and gives what the prototype says.
    #[must_use]
    pub unsafe fn with_helpers(mut self, helpers: Vec<(HelperId, HelperFn)>) -> Self {
        self.helpers = helpers.into();
        self
    }

    /// The same with native functions that prologue and epilogue call by number, counted from 0.
    ///
    /// # Safety
    /// Each function is sound for the arguments that the hooks' code passes. Where functions, here or behind
    /// helpers, use [`ExecEnv::user`], programs of this type are run with what they expect there: so keep
    /// kind and programs to code that sees to it.
    #[must_use]
    pub unsafe fn with_natives(mut self, natives: Vec<HelperFn>) -> Self {
        self.natives = natives.into();
        self
    }
}

/// A loaded program whose context is a `C`.
#[derive(Debug)]
pub struct HostProgram<C> {
    loaded: Loaded,
    context: PhantomData<fn(&mut C)>,
}

impl<C: 'static> HostProgram<C> {
    /// Takes a program that was loaded as one of a type [`of_host`](ProgramKind::of_host) with this
    /// context; gives it back if it was not.
    ///
    /// # Errors
    /// The program is for another context.
    pub fn new(loaded: Loaded) -> Result<Self, Box<Loaded>> {
        if loaded.bindings().kind.layout == TypeId::of::<C>() {
            Ok(Self { loaded, context: PhantomData })
        } else {
            Err(Box::new(loaded))
        }
    }

    /// What was loaded.
    #[must_use]
    pub fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// Runs the program and charges the environment's fuel. Gives `r0`.
    ///
    /// # Errors
    /// The trap that ended the run.
    #[inline]
    pub fn run(&self, context: &mut C, env: &mut ExecEnv) -> Result<u64, Trap> {
        // SAFETY: `new` checked that the program was verified for this type of context, whose
        // accesses `ProgramKind::of_host` vouches for; it is borrowed for this run alone.
        unsafe { self.loaded.run_with_context(std::ptr::from_mut(context).cast(), env) }
    }
}
