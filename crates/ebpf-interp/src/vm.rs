//! Programs that are ready to run.

use ebpf_isa::{Facts, Pc, Program};
use ebpf_lower::Outline;

use crate::LinkError;
use crate::code::{Cell, Codes, Op, Selector, Slots, emit};
use crate::dispatch::Dispatcher;
use crate::link::{LinkedProgram, Links, link};
use crate::ops::call::{End, Slowly};
use crate::ops::plain::{Plainly, WithoutFuel};

/// How a program is made ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// What dispatches its operations; `None` for the best one. One that this build does not have is
    /// replaced by the loop.
    pub dispatcher: Option<Dispatcher>,
    /// Whether runs are charged fuel. Without, nothing stops a loop.
    pub fuel: bool,
    /// Whether instructions are fused.
    pub fuse: bool,
    /// What the program is made ready for.
    pub runs: Runs,
}

/// Kinds of runs. Runs for which a program was not made ready do the same, but instruction by
/// instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Runs {
    /// [`Vm::run`].
    Checked,
    /// [`Vm::run_unchecked`].
    Unchecked,
    /// Both of them, for which making it ready takes longer.
    #[default]
    All,
}

impl Runs {
    pub(crate) fn checked(self) -> bool {
        self != Self::Unchecked
    }

    pub(crate) fn unchecked(self) -> bool {
        self != Self::Checked
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { dispatcher: None, fuel: true, fuse: true, runs: Runs::All }
    }
}

/// A program that is ready to run. It can be run any number of times, from any thread.
#[derive(Debug, Clone)]
pub struct Vm {
    pub(crate) dispatcher: Dispatcher,
    pub(crate) is_metered: bool,
    pub(crate) slots: Slots,
    pub(crate) codes: Codes,
    pub(crate) exits: Exits,
    /// Single instructions.
    pub(crate) program: LinkedProgram,
}

/// Operations that are no part of the program, but follow what is.
#[derive(Clone)]
pub(crate) struct Exits {
    pub(crate) end: Cell,
    pub(crate) plainly: Cell,
    pub(crate) without_fuel: Cell,
    pub(crate) slowly: Cell,
}

impl core::fmt::Debug for Exits {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Exits")
    }
}

impl Vm {
    /// Resolves the symbols of `program` and makes operations of it. Facts, where there are any,
    /// make frames smaller.
    ///
    /// # Errors
    /// A symbol that `links` does not have, or an instruction that is not supported.
    pub fn new(program: &Program, facts: Option<&Facts>, links: &Links) -> Result<Self, LinkError> {
        Self::with_options(program, facts, links, &Options::default())
    }

    /// The same, by `options`. Programs that tail-call each other agree on [`Options::fuel`].
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn with_options(
        program: &Program,
        facts: Option<&Facts>,
        links: &Links,
        options: &Options,
    ) -> Result<Self, LinkError> {
        let outline = Outline::new(program);
        let linked = link(program, &outline, facts, links)?;
        let chosen = options.dispatcher.map(|wanted| wanted.if_built().unwrap_or(Dispatcher::Loop));
        let dispatcher = chosen.unwrap_or_else(Dispatcher::best);
        let slots = Slots::new(ebpf_lower::by_use(program, &outline));
        let is_metered = options.fuel;
        let main_end = program.subprogs()[0].end;
        let selector = Selector { dispatcher, is_metered, main_end, slots, linked: &linked };
        let codes = emit(program, &outline, &selector, options);
        let exit = |handler| Cell { op: Op { handler, a: 0, b: 0, off: 0, imm: 0 } };
        let exits = Exits {
            end: exit(dispatcher.ending::<End, End>(0)),
            plainly: exit(dispatcher.cold::<Plainly>()),
            without_fuel: exit(dispatcher.cold::<WithoutFuel>()),
            slowly: exit(dispatcher.cold::<Slowly>()),
        };
        Ok(Self { dispatcher, is_metered, slots, codes, exits, program: linked })
    }

    /// What dispatches the operations of this program.
    #[must_use]
    pub fn dispatcher(&self) -> Dispatcher {
        self.dispatcher
    }

    /// What a [`TailTarget`](crate::TailTarget) gives for this program: the address of this value.
    #[must_use]
    pub fn as_tail_target(&self) -> u64 {
        core::ptr::from_ref(self).expose_provenance() as u64
    }

    /// How many instructions are in front of the one at `pc`.
    pub(crate) fn place(&self, pc: Pc) -> i64 {
        self.program.place(pc).into()
    }

    /// The instruction behind the one at `pc`.
    pub(crate) fn next(&self, pc: Pc) -> Pc {
        Pc(pc.0 + self.program.insn(pc).slots())
    }
}
