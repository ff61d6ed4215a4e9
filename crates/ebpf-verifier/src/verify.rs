//! The entry point: a program in, a verdict out.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use ebpf_isa::uapi::HelperId;
use ebpf_isa::{CallTarget, Facts, Insn, Pc, Program, SubprogFacts};

use crate::digest::Digest;
use crate::environment::Environment;
use crate::error::Rejection;
use crate::explore::{Explored, States, Watch, explore};
use crate::function::Functions;
use crate::kfunc::ModuleTable;
use crate::log::{KernelLog, Log, LogLevel};
use crate::observe::Observer;
use crate::outline::Outline;
use crate::profile::KernelProfile;
use crate::structure;

/// How to verify, as far as the verdict does not depend on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Stop after so many processed instructions, if that is below the kernel's limit. A program
    /// that needs more is rejected as it would be at the kernel's limit.
    pub max_processed: Option<u32>,
    /// Stop when the states that are kept take more bytes, if that is below 512 MiB.
    pub max_state_bytes: Option<usize>,
    /// For tests of the verifier: ways to explore that take longer.
    pub exploration: Exploration,
}

/// Ways to explore that must not change a verdict but for the limits: each does without one of the
/// arguments by which paths are ended early.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exploration {
    /// Explore every path to its end.
    pub without_pruning: bool,
    /// Take each number for one that something is decided by.
    pub all_precise: bool,
    /// Keep the state wherever paths may meet.
    pub keep_every_state: bool,
    /// Believe what Linux believes wrongly: [`kernel_verdict`].
    pub(crate) shares_mistakes: bool,
}

/// What verification took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Instructions processed, over all paths.
    pub processed: u32,
    /// Paths explored.
    pub paths: u64,
    /// States that were kept to compare others with.
    pub total_states: u32,
    /// Most states that were kept at the same time.
    pub peak_states: u32,
    /// Most states that were compared at one instruction.
    pub max_states_per_insn: u32,
    /// Most branches that waited at the same time.
    pub peak_pending: u32,
    /// Bytes of stack of all functions together, each counted once.
    pub stack_depth: u32,
}

/// An accepted program.
#[derive(Debug, Clone)]
pub struct Verified {
    pub(crate) program: Program,
    pub(crate) facts: Facts,
    pub(crate) stats: Stats,
    digest: Digest,
    pub(crate) reached: Vec<bool>,
    pub(crate) context_use: Vec<crate::step::ContextUse>,
    pub(crate) modules: ModuleTable,
    pub(crate) writes_packet: bool,
    /// The calls of helpers that call back, as far as some path comes to them.
    pub(crate) callback_calls: BTreeMap<Pc, crate::step::CallbackCall>,
}

#[cfg(test)]
impl Verified {
    /// For tests of passes: a program that was not verified, all of which counts as reached.
    pub(crate) fn assumed(program: Program) -> Self {
        let slots = program.slots().len();
        let facts =
            Facts { subprogs: alloc::vec![SubprogFacts::default(); program.subprogs().len()] };
        Self {
            program,
            facts,
            stats: Stats::default(),
            digest: crate::digest::DigestWriter::new().finish(),
            reached: alloc::vec![true; slots],
            context_use: alloc::vec![crate::step::ContextUse::Other; slots],
            modules: ModuleTable::new(),
            writes_packet: false,
            callback_calls: BTreeMap::new(),
        }
    }
}

impl Verified {
    /// The program, as it was given.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// What was proved about it.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Whether some path comes to an instruction.
    pub(crate) fn is_reached(&self, pc: Pc) -> bool {
        self.reached.get(pc.index()) == Some(&true)
    }

    /// What verification took.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The modules whose functions it calls, by the indices that it has for them.
    #[must_use]
    pub fn modules(&self) -> &ModuleTable {
        &self.modules
    }

    /// Digest of the [`Environment`] it was verified against. The verdict holds for this one.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

/// Verifies a program.
///
/// # Errors
/// The program breaks a rule, or uses something that this verifier does not know
/// ([`crate::ErrorCode::Unsupported`]).
pub fn verify(
    program: &Program,
    env: &Environment,
    options: &Options,
) -> Result<Verified, Box<Rejection>> {
    verify_with(program, env, options, &mut ())
}

/// Verifies a program like [`verify`], every state seen by `observer` before the instruction that is
/// explored in it.
///
/// # Errors
/// As for [`verify`].
pub fn verify_observed(
    program: &Program,
    env: &Environment,
    options: &Options,
    observer: &mut dyn Observer,
) -> Result<Verified, Box<Rejection>> {
    verify_with(program, env, options, &mut States(observer))
}

/// What Linux says of a program, its mistakes included: it believes some things that are not so
/// (`docs/kernel-facts.md`), and accepts a few programs that are not safe. There is no [`Verified`]
/// here that could be run. [`verify`] accepts no more than this does.
///
/// # Errors
/// As for [`verify`].
pub fn kernel_verdict(
    program: &Program,
    env: &Environment,
    options: &Options,
) -> Result<Stats, Box<Rejection>> {
    verify(program, env, &with_mistakes(options)).map(|verified| verified.stats)
}

/// The log of what [`kernel_verdict`] gives.
#[must_use]
pub fn kernel_log(program: &Program, env: &Environment, options: &Options, level: LogLevel) -> Log {
    verify_logged(program, env, &with_mistakes(options), level).1
}

fn with_mistakes(options: &Options) -> Options {
    let mut options = options.clone();
    options.exploration.shares_mistakes = true;
    options
}

/// Verifies a program like [`verify`], and writes what the kernel's log says at a level.
pub fn verify_logged(
    program: &Program,
    env: &Environment,
    options: &Options,
    level: LogLevel,
) -> (Result<Verified, Box<Rejection>>, Log) {
    let functions = Functions::of(program, &Outline::of(program, env), env);
    let mut log = KernelLog::new(program, &functions, env, level);
    log.print_functions();
    let verdict = verify_with(program, env, options, &mut log);
    let log = log.finish(&verdict);
    (verdict, log)
}

fn verify_with(
    program: &Program,
    env: &Environment,
    options: &Options,
    watch: &mut impl Watch,
) -> Result<Verified, Box<Rejection>> {
    let known = env.profile.processors;
    let outline = Outline::of(program, env);
    let functions = Functions::of(program, &outline, env);
    let subject = Subject { program, outline: &outline, functions: &functions, env };
    let verified = verify_on(subject, known, options, watch)?;
    if known.is_none() && asks_for_the_processor(&outline) {
        for processors in KernelProfile::PROCESSORS_TRIED {
            verify_on(subject, Some(processors), options, &mut ())?;
        }
    }
    Ok(verified)
}

/// What is verified, and against what.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) program: &'a Program,
    pub(crate) outline: &'a Outline,
    pub(crate) functions: &'a Functions,
    pub(crate) env: &'a Environment,
}

/// Whether a verdict may depend on the number of processors.
fn asks_for_the_processor(outline: &Outline) -> bool {
    let asks = Insn::Call(CallTarget::Helper(HelperId::GET_SMP_PROCESSOR_ID));
    outline.notable().iter().any(|&(_, insn)| insn == asks)
}

/// Verifies a program for a machine with so many processors, or with any number.
fn verify_on(
    subject: Subject<'_>,
    processors: Option<u32>,
    options: &Options,
    watch: &mut impl Watch,
) -> Result<Verified, Box<Rejection>> {
    let Subject { program, outline, env, .. } = subject;
    let mut stats = Stats::default();
    structure::check(program, outline, env)
        .map_err(|(fault, pc)| Rejection::new(*fault, pc, program, stats))?;
    let explored = explore(subject, processors, options, watch, &mut stats)
        .map_err(|(fault, pc)| Rejection::new(*fault, Some(pc), program, stats))?;
    structure::check_jump_room(program, outline, &explored)
        .and_then(|()| structure::check_addresses(program, outline, &explored))
        .map_err(|(fault, pc)| Rejection::new(*fault, pc, program, stats))?;
    let Explored {
        reached,
        context_use,
        stack_depth,
        writes_packet,
        callback_calls,
        runs_later,
        ..
    } = explored;
    stats.stack_depth = stack_depth.iter().map(|&depth| u32::from(depth)).sum();
    structure::check_stack_depth(program, outline, env, &stack_depth, &runs_later)
        .map_err(|fault| Rejection::new(*fault, None, program, stats))?;
    let subprogs = stack_depth.into_iter().map(|stack_depth| SubprogFacts { stack_depth });
    Ok(Verified {
        program: program.clone(),
        facts: Facts { subprogs: subprogs.collect() },
        stats,
        digest: env.digest(),
        reached,
        context_use,
        modules: env.modules.clone(),
        writes_packet,
        callback_calls,
    })
}
