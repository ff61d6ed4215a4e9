//! The state of a run: what operations read and write.

#![allow(unsafe_code, reason = "the register file and the environment are reached unchecked")]

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr;
use core::sync::atomic::{AtomicI64, Ordering};

use ebpf_isa::abi::{ExecEnv, MAX_CALL_DEPTH, Region, Trap, TrapKind};
use ebpf_isa::{Pc, Reg, Size};

use crate::code::{Cell, Code, SAVED, Saved};
use crate::dispatch::Dispatcher;
use crate::memory::{Frame, Memory, Stack};
use crate::vm::Vm;

/// Why a run ends early, and the address of the access that it ends at, or 0.
pub(crate) type Fault = (TrapKind, u64);

/// The fuel of programs that are not charged any.
static UNLIMITED: AtomicI64 = AtomicI64::new(i64::MAX);

/// What a return restores.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a> {
    /// Its program: a callee may have gone on to another one by a tail call.
    pub(crate) vm: &'a Vm,
    /// Its call, which tells what was saved.
    pub(crate) call: *const Cell,
    /// The registers that the call saves.
    pub(crate) saved: [u64; SAVED],
    /// `r10` is saved by every call: only a verifier keeps a program from writing it.
    pub(crate) fp: u64,
    /// One past the highest byte of its frame; the lowest is where the callee's begins.
    pub(crate) frame_top: u64,
}

/// What ended the dispatching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing yet.
    Running,
    /// The run came to its end, with its result in `r0`.
    Done,
    /// The run was ended.
    Trapped(Trap),
    /// The run goes on at [`State::pc`] of a program that another dispatcher runs.
    Switch,
}

/// Frames that a run has at most above the one that runs.
const MAX_CALLERS: usize = MAX_CALL_DEPTH - 1;

/// The room that a run takes, of which little is ever touched, and which nobody moves. The state of
/// the run alone reaches into it, and its program into the stack.
pub(crate) struct Room<'a> {
    stack: Stack,
    callers: UnsafeCell<[MaybeUninit<Caller<'a>>; MAX_CALLERS]>,
    /// For checked runs only.
    windows: UnsafeCell<MaybeUninit<Windows>>,
}

impl Room<'_> {
    #[inline(always)]
    pub(crate) const fn new() -> Self {
        Self {
            stack: Stack::new(),
            callers: UnsafeCell::new([const { MaybeUninit::uninit() }; MAX_CALLERS]),
            windows: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }
}

/// The state of one run. What handlers use most comes first, where it is near; what is 0 at the
/// start comes together, so that it is cleared as a whole.
#[repr(C)]
pub(crate) struct State<'a> {
    /// By slot of the program that runs.
    pub(crate) regs: [u64; Reg::COUNT],
    /// By how much more was run than the position tells: see [`crate::ops::branch`].
    pub(crate) count: i64,
    /// How many of the callers are there: the first ones.
    pub(crate) depth: usize,
    /// The operation that handlers without an operation of their own are for.
    pub(crate) pending: *const Cell,
    /// What a checked program may touch; `None` for a verified one.
    pub(crate) memory: Option<&'a Memory<'a>>,
    /// Where the run goes on, while it is not dispatched.
    pub(crate) pc: Pc,
    /// What runs it now.
    pub(crate) dispatcher: Dispatcher,
    /// The fuel that there was when the run began, from which only its end takes; whoever stops the
    /// run stores 0.
    fuel: *const AtomicI64,
    /// The program that is running: a tail call changes it.
    pub(crate) vm: &'a Vm,
    /// Lent to the run.
    pub(crate) env: *mut ExecEnv,
    pub(crate) outcome: Outcome,
    room: &'a Room<'a>,
    pub(crate) frame: Frame,
    /// The lowest address of the stack that was cleared.
    cleared: u64,
}

impl<'a> State<'a> {
    /// The state of a run before the entry of the program: see [`Self::begin`].
    #[inline(always)]
    pub(crate) fn new(
        vm: &'a Vm,
        memory: Option<&'a Memory<'a>>,
        room: &'a Room<'a>,
        env: *mut ExecEnv,
    ) -> Self {
        let top = room.stack.top();
        let low = top - u64::from(vm.program.main_frame);
        let mut state = Self {
            regs: [0; Reg::COUNT],
            count: 0,
            depth: 0,
            pending: ptr::null(),
            memory,
            pc: Pc::ENTRY,
            dispatcher: vm.dispatcher,
            fuel: ptr::null(),
            vm,
            env,
            outcome: Outcome::Running,
            room,
            frame: Frame { low, top },
            cleared: low,
        };
        if memory.is_some() {
            state.open_windows();
        }
        state
    }

    fn open_windows(&mut self) {
        let (frame, fp) = (self.stack_region(), self.vm.slots.of(Reg::FP));
        // SAFETY: the state alone reaches into the room.
        let windows = unsafe { &mut *self.room.windows.get() };
        windows.write(Windows::new()).fill(fp, &frame);
    }

    /// Goes to the entry of the program, with `ctx` in `r1`.
    #[inline(always)]
    pub(crate) fn begin(&mut self, ctx: u64) {
        let Frame { low, top } = self.frame;
        for (slot, value) in
            [(Reg::R1, ctx), (Reg::FP, top)].map(|(reg, value)| (self.vm.slots.of(reg), value))
        {
            self.set_reg(slot, value);
        }
        if low != top {
            self.clear_frame();
        }
    }

    /// Finds the fuel in the environment, if the run is charged any.
    #[inline(always)]
    pub(crate) fn fill_up(&mut self) {
        self.fuel = match self.vm.is_metered {
            // SAFETY: the environment is lent to the run.
            true => unsafe { (*self.env).fuel_cell() },
            false => &raw const UNLIMITED,
        };
    }

    #[cold]
    #[inline(never)]
    fn clear_frame(&mut self) {
        self.room.stack.clear(self.frame.low, self.frame.top);
    }

    /// The code that runs.
    #[inline]
    pub(crate) fn code(&self) -> Code<'a> {
        if self.memory.is_some() { self.vm.codes.checked() } else { self.vm.codes.unchecked() }
    }

    /// The operation of the call at `pc`. For a program that was made ready for other runs it is one
    /// of those: what it says of the call is the same.
    pub(crate) fn call_at(&self, pc: Pc) -> *const Cell {
        let code = self.code();
        if code.is_there() { code.at(pc) } else { self.vm.codes.any().at(pc) }
    }

    #[inline(always)]
    pub(crate) fn reg(&self, slot: u8) -> u64 {
        debug_assert!(usize::from(slot) < Reg::COUNT);
        // SAFETY: operands are slots, of which there are as many as registers.
        unsafe { *self.regs.get_unchecked(usize::from(slot)) }
    }

    #[inline(always)]
    pub(crate) fn set_reg(&mut self, slot: u8, value: u64) {
        debug_assert!(usize::from(slot) < Reg::COUNT);
        // SAFETY: operands are slots, of which there are as many as registers.
        unsafe { *self.regs.get_unchecked_mut(usize::from(slot)) = value };
    }

    #[inline]
    pub(crate) fn get(&self, reg: Reg) -> u64 {
        self.reg(self.vm.slots.of(reg))
    }

    #[inline]
    pub(crate) fn set(&mut self, reg: Reg, value: u64) {
        self.set_reg(self.vm.slots.of(reg), value);
    }

    /// The fuel that the run began with, or 0 if somebody stopped it.
    #[inline(always)]
    pub(crate) fn fuel(&self) -> i64 {
        // SAFETY: the environment is lent to the run.
        unsafe { (*self.fuel).load(Ordering::Relaxed) }
    }

    /// How many instructions were run, the one at `pc` included.
    pub(crate) fn total(&self, pc: Pc) -> i64 {
        self.count + self.vm.place(pc) + 1
    }

    /// Ends the dispatching as the fuel is used up before the operation at `at`.
    #[inline(always)]
    pub(crate) fn end_without_fuel(&mut self, at: *const Cell) -> *const Cell {
        self.pending = at;
        &raw const self.vm.exits.without_fuel
    }

    /// Goes on with the instructions of the operation at `at`, one by one.
    #[inline(always)]
    pub(crate) fn run_plainly(&mut self, at: *const Cell) -> *const Cell {
        self.pending = at;
        &raw const self.vm.exits.plainly
    }

    /// Ends the dispatching.
    #[inline]
    pub(crate) fn end(&mut self, outcome: Outcome) -> *const Cell {
        self.outcome = outcome;
        &raw const self.vm.exits.end
    }

    /// Takes what was run from the fuel: `total` instructions, the last of which is the `here`th of
    /// the program. It may be run again for nothing.
    #[inline]
    pub(crate) fn settle(&mut self, here: i64, total: i64) {
        if self.vm.is_metered {
            // SAFETY: the environment is lent to the run.
            unsafe { (*self.env).charge(total) };
        }
        self.count = -here;
    }

    /// Notes that the run is trapped by the instruction at `pc`.
    pub(crate) fn trap(&mut self, pc: Pc, (kind, addr): Fault) -> *const Cell {
        self.settle(self.vm.place(pc) + 1, self.total(pc));
        self.pc = pc;
        self.end(Outcome::Trapped(Trap { kind, pc, addr }))
    }

    /// Whether a verified program can have a frame of `size` bytes below the one that runs as it is.
    #[inline(always)]
    pub(crate) fn is_cleared(&self, size: u16) -> bool {
        self.frame.low - u64::from(size) >= self.cleared
    }

    /// Whether there can be another frame.
    #[inline(always)]
    pub(crate) fn has_room(&self) -> bool {
        self.depth < MAX_CALLERS
    }

    /// Makes a frame of `size` bytes below `top`, all of them zero.
    pub(crate) fn enter_cleared(&mut self, top: u64, size: u16) {
        let low = top - u64::from(size);
        self.room.stack.clear(low, top);
        self.cleared = self.cleared.min(low);
        self.set(Reg::FP, top);
        self.move_frame(Frame { low, top });
    }

    /// The same for the frame of a function that is called. A verified program does not depend on
    /// what it finds there, so what an earlier frame left is good enough for it.
    pub(crate) fn enter(&mut self, top: u64, size: u16) {
        let low = top - u64::from(size);
        if self.memory.is_some() || low < self.cleared {
            return self.enter_cleared(top, size);
        }
        self.set(Reg::FP, top);
        self.frame = Frame { low, top };
    }

    /// The regions that accesses of a checked run were in.
    #[inline(always)]
    pub(crate) fn windows(&self) -> &Windows {
        debug_assert!(self.memory.is_some());
        // SAFETY: the state alone reaches into the room; checked runs, which alone ask, begin with
        // windows.
        unsafe { (*self.room.windows.get()).assume_init_ref() }
    }

    pub(crate) fn windows_mut(&mut self) -> &mut Windows {
        assert!(self.memory.is_some(), "only checked runs have windows");
        // SAFETY: the state alone reaches into the room, and checked runs begin with windows.
        unsafe { (*self.room.windows.get()).assume_init_mut() }
    }

    /// Notes the function that runs as the caller of another one, unless there are too many.
    ///
    /// # Safety
    /// `call` is an operation that calls a subprogram, in the code that runs, or what
    /// [`Self::call_at`] gives.
    pub(crate) unsafe fn push_caller(&mut self, call: *const Cell) -> Result<(), Fault> {
        if !self.has_room() {
            return Err((TrapKind::CallDepth, 0));
        }
        // SAFETY: the caller's promise; there is room.
        unsafe { self.push(call, self.get(Reg::FP), Saved::of(call).slots()) };
        Ok(())
    }

    /// The same where there is room: `saved` are the registers that the call saves.
    ///
    /// Field by field, as they are read again: a load of several fields would wait for their stores.
    ///
    /// # Safety
    /// There is room, and the promise of [`Self::push_caller`].
    #[inline(always)]
    pub(crate) unsafe fn push(
        &mut self,
        call: *const Cell,
        fp: u64,
        saved: impl Iterator<Item = (usize, u8)>,
    ) {
        debug_assert!(self.has_room());
        // SAFETY: there is room. All fields are written, but for registers that the call does not
        // save, and nobody restores.
        unsafe {
            let caller = self.caller_at(self.depth);
            (&raw mut (*caller).vm).write(self.vm);
            (&raw mut (*caller).call).write(call);
            (&raw mut (*caller).fp).write(fp);
            (&raw mut (*caller).frame_top).write(self.frame.top);
            for (index, slot) in saved {
                (&raw mut (*caller).saved[index]).write(self.reg(slot));
            }
        }
        self.depth += 1;
    }

    /// The function that called the one that runs; `None` in the main program.
    #[inline(always)]
    pub(crate) fn caller(&self) -> Option<*const Caller<'a>> {
        let index = self.depth.checked_sub(1)?;
        // SAFETY: there are never more than there is room for.
        Some(unsafe { self.caller_at(index) })
    }

    /// Where the caller of this number is, or will be.
    ///
    /// # Safety
    /// There is room for it.
    #[inline(always)]
    unsafe fn caller_at(&self, index: usize) -> *mut Caller<'a> {
        debug_assert!(index < MAX_CALLERS);
        // SAFETY: the caller's promise.
        unsafe { self.room.callers.get().cast::<Caller<'a>>().add(index) }
    }

    /// Gives the registers back that the call of the caller at `index` saved.
    ///
    /// One by one, as they were stored: loads of several at once would wait for these stores.
    ///
    /// # Safety
    /// This caller is the last that was pushed or popped, and a function of the program that runs;
    /// its call saves `saved`.
    #[inline(always)]
    pub(crate) unsafe fn restore(
        &mut self,
        index: usize,
        saved: impl Iterator<Item = (usize, u8)>,
    ) {
        // SAFETY: the caller's promise; only registers that were saved are read.
        unsafe {
            let caller = self.caller_at(index);
            for (index, slot) in saved {
                self.set_reg(slot, (*caller).saved[index]);
            }
            self.set(Reg::FP, (*caller).fp);
        }
    }

    /// Makes `frame` the one that runs. What lies below is out of reach from now on.
    #[inline]
    pub(crate) fn move_frame(&mut self, frame: Frame) {
        let shrinks = frame.low > self.frame.low;
        self.frame = frame;
        if self.memory.is_some() {
            self.move_stack_window(shrinks);
        }
    }

    fn move_stack_window(&mut self, shrinks: bool) {
        let (stack, fp) = (self.stack_region(), self.vm.slots.of(Reg::FP));
        let windows = self.windows_mut();
        if shrinks {
            windows.clear();
        }
        windows.fill(fp, &stack);
    }

    /// The part of the stack that a checked program may touch: its own frame and its callers'.
    pub(crate) fn stack_region(&self) -> Region {
        let base = self.frame.low;
        Region { base, len: self.room.stack.top() - base, writable: 1 }
    }
}

/// For each base register, a region that its last access was in; for reads and for writes.
///
/// A window says only what holds anyhow: that accesses inside of it are right.
pub(crate) struct Windows {
    reads: [Window; Reg::COUNT],
    writes: [Window; Reg::COUNT],
}

#[derive(Clone, Copy)]
struct Window {
    base: u64,
    /// By size of the access, in the order of [`Size::ALL`]: how far from the base it may start, and
    /// one more; 0 where it does not fit at all.
    limits: [u32; 4],
}

impl Window {
    const CLOSED: Self = Self { base: 0, limits: [0; 4] };

    fn new(region: &Region) -> Self {
        let limit = |size: Size| {
            let starts = (region.len + 1).saturating_sub(u64::from(size.bytes()));
            // What lies further on is found the slow way.
            u32::try_from(starts).unwrap_or(u32::MAX)
        };
        let mut limits = [0; 4];
        for (to, &size) in limits.iter_mut().zip(Size::ALL) {
            *to = limit(size);
        }
        Self { base: region.base, limits }
    }

    #[inline(always)]
    fn holds<const SIZE: usize>(&self, addr: u64) -> bool {
        addr.wrapping_sub(self.base) < u64::from(self.limits[SIZE])
    }
}

impl Windows {
    const fn new() -> Self {
        Self { reads: [Window::CLOSED; Reg::COUNT], writes: [Window::CLOSED; Reg::COUNT] }
    }

    fn clear(&mut self) {
        *self = Self::new();
    }

    /// Makes `region` the window of the register in `slot`.
    pub(crate) fn fill(&mut self, slot: u8, region: &Region) {
        let window = Window::new(region);
        self.reads[usize::from(slot)] = window;
        if region.writable != 0 {
            self.writes[usize::from(slot)] = window;
        }
    }

    #[inline(always)]
    pub(crate) fn may_read<const PLACE: usize, const SIZE: usize>(
        &self,
        slot: u8,
        addr: u64,
    ) -> bool {
        window::<PLACE>(&self.reads, slot).holds::<SIZE>(addr)
    }

    #[inline(always)]
    pub(crate) fn may_write<const PLACE: usize, const SIZE: usize>(
        &self,
        slot: u8,
        addr: u64,
    ) -> bool {
        window::<PLACE>(&self.writes, slot).holds::<SIZE>(addr)
    }
}

/// The window of the register in the place `PLACE`, or, for one in the file, in `slot`.
#[inline(always)]
fn window<const PLACE: usize>(windows: &[Window; Reg::COUNT], slot: u8) -> &Window {
    if PLACE < crate::dispatch::FILE {
        return &windows[PLACE];
    }
    debug_assert!(usize::from(slot) < Reg::COUNT);
    // SAFETY: operands are slots, of which there are as many as registers.
    unsafe { windows.get_unchecked(usize::from(slot)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(region: &Region, size: Size, addr: u64) -> bool {
        let window = Window::new(region);
        match size {
            Size::W => window.holds::<0>(addr),
            Size::H => window.holds::<1>(addr),
            Size::B => window.holds::<2>(addr),
            Size::Dw => window.holds::<3>(addr),
        }
    }

    #[test]
    fn a_window_holds_exactly_its_region() {
        let region = Region { base: 1000, len: 10, writable: 1 };
        for &size in Size::ALL {
            let last = 1010 - u64::from(size.bytes());
            assert!(holds(&region, size, 1000) && holds(&region, size, last), "{size:?}");
            for outside in [0, 999, 993, last + 1, 1010, u64::MAX, u64::MAX - 7] {
                assert!(!holds(&region, size, outside), "{size:?} at {outside}");
            }
        }
    }

    #[test]
    fn small_and_empty_regions_hold_what_fits() {
        let region = |len| Region { base: 1000, len, writable: 1 };
        assert!(holds(&region(3), Size::H, 1001) && !holds(&region(3), Size::H, 1002));
        assert!(!holds(&region(3), Size::W, 1000) && !holds(&region(0), Size::B, 1000));
        assert!(holds(&region(4), Size::W, 1000) && !holds(&region(4), Size::Dw, 1000));
    }

    #[test]
    fn a_region_at_the_end_of_the_address_space() {
        let region = Region { base: u64::MAX - 7, len: 8, writable: 1 };
        assert!(holds(&region, Size::Dw, u64::MAX - 7) && holds(&region, Size::B, u64::MAX));
        assert!(!holds(&region, Size::Dw, u64::MAX - 6) && !holds(&region, Size::B, 0));
    }

    #[test]
    fn closed_windows_hold_nothing() {
        let windows = Windows::new();
        assert!(!windows.may_read::<0, 2>(0, 0) && !windows.may_write::<4, 2>(7, 0));
    }

    #[test]
    fn read_only_regions_are_windows_for_reads() {
        let mut windows = Windows::new();
        windows.fill(7, &Region { base: 1000, len: 10, writable: 0 });
        assert!(windows.may_read::<4, 2>(7, 1000) && !windows.may_write::<4, 2>(7, 1000));
        assert!(!windows.may_read::<4, 2>(6, 1000));
    }
}
