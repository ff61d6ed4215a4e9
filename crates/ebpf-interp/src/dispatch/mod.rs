//! How one operation follows another.
//!
//! What an operation does is written once, as a [`Body`] or, where speed does not matter or where
//! functions are called, as a [`Cold`] one. Two dispatchers run them:
//!
//! - the *loop* calls one handler after the other. Its handlers find all registers in the register
//!   file. It is everywhere, and the one that tests compare with.
//! - the *threaded* one never returns to a loop: each handler ends in a jump to the next one, which
//!   is a call in tail position with the same signature. Position, state and the four registers that
//!   the program uses most travel as arguments, in machine registers; each handler exists once for
//!   each combination of places that its operands may be in.
//!
//! Rust does not promise that a call in tail position is a jump; its optimiser makes it one. So the
//! threaded dispatcher is built only where the crate is optimised and without debug assertions, for
//! x86-64, and [`confirmed`] measures once in each process that the stack does not grow. Handlers
//! have no destructors, and no locals whose address leaves them: everything that calls a function
//! does so through one that is not inlined. All handlers are compiled in this crate; nothing of them
//! depends on how its users are optimised.

#![allow(unsafe_code, reason = "handlers run on raw state and jump to one another")]

mod confirm;
#[cfg(all(optimised, not(debug_assertions), target_arch = "x86_64", not(miri)))]
mod threaded;
#[cfg(not(all(optimised, not(debug_assertions), target_arch = "x86_64", not(miri))))]
#[path = "not_threaded.rs"]
mod threaded;

use crate::code::Cell;
use crate::state::State;

/// How operations follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dispatcher {
    /// Each handler jumps to the next one.
    Threaded,
    /// A loop calls one handler after the other.
    Loop,
}

/// An operand that is in the register file.
pub(crate) const FILE: usize = crate::code::HOT;

/// The registers of the virtual machine, as a handler sees them.
pub(crate) struct Regs<'s, 'a> {
    /// The first places, under the threaded dispatcher.
    pub(crate) hot: [u64; crate::code::HOT],
    pub(crate) state: &'s mut State<'a>,
}

impl Regs<'_, '_> {
    /// The register in the place `PLACE`, or, for [`FILE`], in this place of the file.
    #[inline(always)]
    pub(crate) fn get<const PLACE: usize>(&self, slot: u8) -> u64 {
        if PLACE < FILE { self.hot[PLACE] } else { self.state.reg(slot) }
    }

    #[inline(always)]
    pub(crate) fn set<const PLACE: usize>(&mut self, slot: u8, value: u64) {
        if PLACE < FILE {
            self.hot[PLACE] = value;
        } else {
            self.state.set_reg(slot, value);
        }
    }
}

/// An operation that calls nothing. `A`, `B` and `C` are the places of its operands.
pub(crate) trait Body {
    /// Runs the operation at `at`; gives the one that follows. One that its dispatcher has
    /// [ending](Dispatcher::ending) handlers for gives null where it ends the dispatching.
    ///
    /// # Safety
    /// `at` is an operation of this kind in the code that `regs.state` runs, whose operands are in
    /// these places.
    unsafe fn run<const A: usize, const B: usize, const C: usize>(
        at: *const Cell,
        regs: &mut Regs<'_, '_>,
    ) -> *const Cell;
}

/// An operation that finds all registers in the file, and may call functions.
pub(crate) trait Cold {
    /// Runs the operation at `at`; gives the one that follows.
    ///
    /// # Safety
    /// `at` is an operation of this kind in the code that `state` runs.
    unsafe fn run(at: *const Cell, state: &mut State<'_>) -> *const Cell;
}

/// A handler of the loop. A null pointer ends it.
type Looped = unsafe fn(*const Cell, &mut State<'_>) -> *const Cell;

/// What an operation begins with: a function for the dispatcher that its code is made for.
#[derive(Clone, Copy)]
pub(crate) union Handler {
    looped: Looped,
    threaded: threaded::Threaded,
}

unsafe fn looped<B: Body>(at: *const Cell, state: &mut State<'_>) -> *const Cell {
    let mut regs = Regs { hot: [0; crate::code::HOT], state };
    // SAFETY: the caller's promise; code for the loop has all operands in the file.
    unsafe { B::run::<FILE, FILE, FILE>(at, &mut regs) }
}

impl Dispatcher {
    /// The faster one of those that this build has, and that work.
    pub(crate) fn best() -> Self {
        if confirm::is_threaded() { Self::Threaded } else { Self::Loop }
    }

    /// This one if this build has it.
    pub(crate) fn if_built(self) -> Option<Self> {
        (self == Self::Loop || threaded::BUILT).then_some(self)
    }

    /// The handler of a body without registers.
    pub(crate) fn none<B: Body>(self) -> Handler {
        match self {
            Self::Loop => Handler { looped: looped::<B> },
            Self::Threaded => Handler { threaded: threaded::none::<B>() },
        }
    }

    /// The handler of a body whose register is in this slot.
    pub(crate) fn one<B: Body>(self, slot: u8) -> Handler {
        match self {
            Self::Loop => Handler { looped: looped::<B> },
            Self::Threaded => Handler { threaded: threaded::one::<B>(slot) },
        }
    }

    /// The handler of a body whose two registers are in these slots.
    pub(crate) fn two<B: Body>(self, slots: [u8; 2]) -> Handler {
        match self {
            Self::Loop => Handler { looped: looped::<B> },
            Self::Threaded => Handler { threaded: threaded::two::<B>(slots) },
        }
    }

    /// The handler of a body whose three registers are in these slots.
    pub(crate) fn three<B: Body>(self, slots: [u8; 3]) -> Handler {
        match self {
            Self::Loop => Handler { looped: looped::<B> },
            Self::Threaded => Handler { threaded: threaded::three::<B>(slots) },
        }
    }

    /// The handler of a cold operation.
    pub(crate) fn cold<C: Cold>(self) -> Handler {
        match self {
            Self::Loop => Handler { looped: C::run },
            Self::Threaded => Handler { threaded: threaded::cold::<C>() },
        }
    }

    /// The handler of an operation that is cold in the loop, and has a faster body for registers in
    /// their places.
    pub(crate) fn either<C: Cold, B: Body>(self) -> Handler {
        match self {
            Self::Loop => Handler { looped: C::run },
            Self::Threaded => Handler { threaded: threaded::none::<B>() },
        }
    }

    /// The same for a body that may end the dispatching, whose register is in this slot.
    pub(crate) fn ending<C: Cold, B: Body>(self, slot: u8) -> Handler {
        match self {
            Self::Loop => Handler { looped: C::run },
            Self::Threaded => Handler { threaded: threaded::ending::<B>(slot) },
        }
    }

    /// Runs operations from `at` on, until one leads to the end.
    ///
    /// # Safety
    /// `at` is in the code that `state` runs, and that code is made for this dispatcher.
    #[inline(always)]
    pub(crate) unsafe fn run(self, at: *const Cell, state: &mut State<'_>) {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Self::Loop => run_loop(at, state),
                Self::Threaded => threaded::run(at, state),
            }
        }
    }
}

/// Outlined, so that nothing of the loop is in the way of short runs under the other dispatcher.
#[inline(never)]
unsafe fn run_loop(mut at: *const Cell, state: &mut State<'_>) {
    while !at.is_null() {
        // SAFETY: handlers give operations of the code that the state runs, or null.
        at = unsafe { ((*at).op.handler.looped)(at, state) };
    }
}
