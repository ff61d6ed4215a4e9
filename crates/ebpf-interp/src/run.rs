//! Runs of programs.

#![allow(unsafe_code, reason = "the contract of verified programs, and the start of dispatching")]

use alloc::boxed::Box;
use core::ptr::{self, NonNull};

use ebpf_isa::abi::{ExecEnv, Trap, TrapKind, TrapRecord};
use ebpf_isa::{Pc, Reg};

use crate::memory::{Memory, declare};
use crate::observe::{Moment, Observer};
use crate::ops::call::done;
use crate::state::{Outcome, Room, State};
use crate::step::Next;
use crate::vm::Vm;

impl Vm {
    /// Runs the program on `memory`, with `ctx` in `r1`: safe for any program. Gives `r0`.
    ///
    /// Packet loads read the packet of `env` like any other memory: its bytes must be in `memory`.
    ///
    /// # Errors
    /// The trap that ended the run: see [`TrapKind`]. After a tail call its position is one of the
    /// program that was called.
    pub fn run(&self, ctx: u64, memory: &Memory<'_>, env: &mut ExecEnv) -> Result<u64, Trap> {
        result(self.finish(ctx, Some(memory), env), env)
    }

    /// Runs a verified program with `ctx` in `r1`, without checking its accesses. Gives `r0`.
    ///
    /// # Errors
    /// The trap that ended the run: a helper failed, or the fuel is used up. After a tail call its
    /// position is one of the program that was called.
    ///
    /// # Safety
    /// A verifier accepted the program, for an environment that `ctx` and the links given to
    /// [`Vm::new`] match. In particular:
    /// - every load and store is inside of the stack frame, the context, or memory that the
    ///   context, a map or a helper gave to the program, and that memory stays valid and is not
    ///   referenced by anybody else in a way that forbids the access during the run;
    /// - addresses of that memory come from pointers whose provenance is exposed (see
    ///   [`core::ptr`]), and which may write even where the program only reads: all accesses are
    ///   atomic, and ask for that;
    /// - writes go to writable memory only, atomic accesses are aligned;
    /// - if the program loads from the packet, all of it, as `env` has it, is such memory;
    /// - calls of helpers pass what their prototypes ask for, and no helper calls the address of a
    ///   subprogram: here, that is a number;
    /// - frames use no more stack than the facts say, and are never more than
    ///   [`MAX_CALL_DEPTH`](ebpf_isa::abi::MAX_CALL_DEPTH) deep;
    /// - all of this holds for the programs that tail calls lead to, too.
    #[inline]
    pub unsafe fn run_unchecked(&self, ctx: *mut u8, env: &mut ExecEnv) -> Result<u64, Trap> {
        // SAFETY: the caller's promise.
        result(unsafe { self.enter(ctx, env) }, env)
    }

    /// The same in the way of compiled code ([`EntryFn`](ebpf_isa::abi::EntryFn)): gives `r0`, and
    /// the trap that ended the run, if any, is in [`ExecEnv::trap`].
    ///
    /// # Safety
    /// What [`Self::run_unchecked`] asks for.
    pub unsafe fn enter(&self, ctx: *mut u8, env: &mut ExecEnv) -> u64 {
        self.finish(ctx.expose_provenance() as u64, None, env)
    }

    /// The same as [`Self::run`], as a run that can be stopped and resumed. Nothing is run yet.
    pub fn start<'a>(&'a self, ctx: u64, memory: &'a Memory<'a>) -> Run<'a> {
        Run::new(self, ctx, Some(memory))
    }

    /// The same as [`Self::run_unchecked`], as a run that can be stopped and resumed. Nothing is run
    /// yet.
    ///
    /// # Safety
    /// What [`Self::run_unchecked`] asks for, until the run comes to its end or is dropped.
    pub unsafe fn start_unchecked(&self, ctx: *mut u8) -> Run<'_> {
        Run::new(self, ctx.expose_provenance() as u64, None)
    }
}

/// A run that stops where its fuel is used up, or where somebody stops it, and goes on from there.
///
/// However often it is stopped, it does what an uninterrupted run does, and is charged the same
/// fuel. Resumed with any fuel but a negative amount, it comes at least to its next backward jump,
/// call or return.
pub struct Run<'a> {
    state: State<'a>,
    /// What `state` refers to.
    _room: OwnRoom<'a>,
    /// Where the fuel was used up: the trap that a helper had noted before.
    stopped: Option<TrapRecord>,
    ended: Option<Result<u64, Trap>>,
}

impl core::fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Run").field("pc", &self.pc()).field("ended", &self.ended).finish()
    }
}

impl<'a> Run<'a> {
    fn new(vm: &'a Vm, ctx: u64, memory: Option<&'a Memory<'a>>) -> Self {
        let room = OwnRoom(NonNull::from(Box::leak(Box::new(Room::new()))));
        // SAFETY: the room is freed when the run is dropped, and the state, which alone refers to
        // it, is not used after that. It lends nothing of it.
        let borrowed = unsafe { room.0.as_ref() };
        let mut state = State::new(vm, memory, borrowed, ptr::null_mut());
        state.begin(ctx);
        Self { state, _room: room, stopped: None, ended: None }
    }

    /// Goes on until the run comes to its end or is stopped. Gives `r0`; after the end, the same
    /// result again.
    ///
    /// # Errors
    /// As for [`Vm::run`]. After [`TrapKind::OutOfFuel`] the run can be resumed.
    pub fn resume(&mut self, env: &mut ExecEnv) -> Result<u64, Trap> {
        self.go(env, dispatch).expect("dispatching goes on until the run ends or stops")
    }

    /// The same, instruction by instruction, each of which `observer` sees before.
    ///
    /// # Errors
    /// As for [`Self::resume`].
    pub fn resume_observed(
        &mut self,
        env: &mut ExecEnv,
        observer: &mut dyn Observer,
    ) -> Result<u64, Trap> {
        let observed = self.go(env, |state| {
            while state.outcome == Outcome::Running {
                observer.before(&Moment::new(state));
                state.step_once();
            }
        });
        observed.expect("instructions are run until the run ends or stops")
    }

    /// Runs one instruction. Gives the run's result if it came to its end or stopped.
    pub fn step(&mut self, env: &mut ExecEnv) -> Option<Result<u64, Trap>> {
        self.go(env, State::step_once)
    }

    /// Where the run is. After its end, `r0` is the only register that has a meaning.
    #[must_use]
    pub fn moment(&self) -> Moment<'_> {
        Moment::new(&self.state)
    }

    /// The instruction that is next.
    #[must_use]
    pub fn pc(&self) -> Pc {
        self.state.pc
    }

    fn go(
        &mut self,
        env: &mut ExecEnv,
        how: impl FnOnce(&mut State<'a>),
    ) -> Option<Result<u64, Trap>> {
        if self.ended.is_some() {
            return self.ended;
        }
        if let Some(noted) = self.stopped.take() {
            env.trap = noted;
        }
        if let Some(memory) = self.state.memory {
            declare(memory, env);
        }
        self.state.env = env;
        self.state.fill_up();
        self.state.outcome = Outcome::Running;
        how(&mut self.state);
        let noted = env.trap;
        let result = take_back(&mut self.state, env)?;
        match result {
            Err(Trap { kind: TrapKind::OutOfFuel, .. }) => self.stopped = Some(noted),
            _ => self.ended = Some(result),
        }
        Some(result)
    }
}

/// Room at an address that does not change.
struct OwnRoom<'a>(NonNull<Room<'a>>);

impl Drop for OwnRoom<'_> {
    fn drop(&mut self) {
        // SAFETY: the pointer is of a box that was leaked when this value was made.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

impl Vm {
    /// Runs a new run to its end. Gives `r0`; a trap is in the environment. It is part of its
    /// callers, so that what they know of the state needs no look: for small programs, this is most
    /// of the time.
    #[inline(always)]
    fn finish(&self, ctx: u64, memory: Option<&Memory<'_>>, env: &mut ExecEnv) -> u64 {
        if let Some(memory) = memory {
            declare(memory, env);
        }
        let room = Room::new();
        let mut state = State::new(self, memory, &room, env);
        state.begin(ctx);
        state.fill_up();
        let codes = &state.vm.codes;
        let code = if memory.is_some() { codes.checked() } else { codes.unchecked() };
        match code.boundary(Pc::ENTRY) {
            // SAFETY: the entry is in the code that the state runs, which is made for the dispatcher
            // of its program. Accesses are checked, or their safety was promised.
            Some(entry) => unsafe { state.dispatcher.run(entry, &mut state) },
            None => state.outcome = Outcome::Switch,
        }
        if state.outcome != Outcome::Done {
            finish_otherwise(&mut state);
        }
        if memory.is_some() {
            withdraw(env);
        }
        state.get(Reg::R0)
    }
}

/// The same for a run that another dispatcher goes on with, or that did not come to its end.
#[cold]
#[inline(never)]
fn finish_otherwise(state: &mut State<'_>) {
    if state.outcome == Outcome::Switch {
        dispatch(state);
    }
    if let Outcome::Trapped(trap) = state.outcome {
        // SAFETY: the environment is lent to the run.
        unsafe { (*state.env).trap = trap.into() };
    }
}

/// What a run came to that gave `r0`.
#[inline]
fn result(r0: u64, env: &ExecEnv) -> Result<u64, Trap> {
    if env.trap.kind == 0 { Ok(r0) } else { noted(r0, env) }
}

/// The same where there is a trap, or a helper noted that it failed.
#[cold]
#[inline(never)]
fn noted(r0: u64, env: &ExecEnv) -> Result<u64, Trap> {
    env.trap.trap().map_or(Ok(r0), Err)
}

/// Takes back what [`declare`] has put into the environment.
fn withdraw(env: &mut ExecEnv) {
    env.regions = ptr::null();
    env.region_count = 0;
}

/// Takes the environment back. Gives the result, if there is one.
fn take_back(state: &mut State<'_>, env: &mut ExecEnv) -> Option<Result<u64, Trap>> {
    if state.memory.is_some() {
        withdraw(env);
    }
    match state.outcome {
        Outcome::Done => Some(result(state.get(Reg::R0), env)),
        Outcome::Trapped(trap) => {
            env.trap = trap.into();
            Some(Err(trap))
        }
        Outcome::Running | Outcome::Switch => None,
    }
}

/// Runs operations until the run ends or stops.
#[inline(never)]
fn dispatch(state: &mut State<'_>) {
    loop {
        state.outcome = Outcome::Running;
        let Some(at) = state.code().boundary(state.pc) else {
            // Inside of what is one operation (it was stepped into), or made ready for other runs.
            state.step_once();
            if state.outcome == Outcome::Running {
                continue;
            }
            break;
        };
        state.dispatcher = state.vm.dispatcher;
        // SAFETY: the operation is in the code that the state runs, which is made for the
        // dispatcher of its program. Accesses are checked, or their safety was promised.
        unsafe { state.dispatcher.run(at, state) };
        if state.outcome != Outcome::Switch {
            break;
        }
    }
}

impl State<'_> {
    /// Runs the instruction at [`Self::pc`].
    fn step_once(&mut self) {
        let pc = self.pc;
        match self.step(pc) {
            Ok(Next::Insn) => self.pc = self.vm.next(pc),
            Ok(Next::At(target)) => self.pc = target,
            Ok(Next::Moved) => {}
            Ok(Next::Done) => {
                done(pc, self);
            }
            Err(fault) => {
                self.trap(pc, fault);
            }
        }
    }
}
