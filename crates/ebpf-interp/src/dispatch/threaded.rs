//! The threaded dispatcher: handlers that jump to one another.

use core::marker::PhantomData;

use super::{Body, Cold, FILE, Regs};
use crate::code::{Cell, HOT};
use crate::state::State;

pub(super) const BUILT: bool = true;

/// A handler: position, state, and what is in the first places of the register file.
///
/// The calling convention has six argument registers, the fourth of which, `rcx`, is also the one
/// that shifts need; the least used of the four travels there.
pub(super) type Threaded =
    unsafe extern "sysv64" fn(*const Cell, *mut State<'static>, u64, u64, u64, u64);

unsafe extern "sysv64" fn hot<B: Body, const A: usize, const B_: usize, const C: usize>(
    at: *const Cell,
    state: *mut State<'static>,
    r0: u64,
    r3: u64,
    r1: u64,
    r2: u64,
) {
    // SAFETY: `run` and the handlers pass the state of the run, which nobody else touches.
    let mut regs = Regs { hot: [r0, r1, r2, r3], state: unsafe { &mut *state } };
    // SAFETY: the code at `at` was made with this handler for its operation and operands; what
    // follows it is an operation of the same code.
    unsafe {
        let next = B::run::<A, B_, C>(at, &mut regs);
        let [r0, r1, r2, r3] = regs.hot;
        ((*next).op.handler.threaded)(next, state, r0, r3, r1, r2);
    }
}

/// Puts the hot registers where cold operations find them, and back.
unsafe extern "sysv64" fn spilling<C: Cold>(
    at: *const Cell,
    state: *mut State<'static>,
    r0: u64,
    r3: u64,
    r1: u64,
    r2: u64,
) {
    // SAFETY: as for `hot`.
    unsafe {
        (*state).regs[0] = r0;
        (*state).regs[1] = r1;
        (*state).regs[2] = r2;
        (*state).regs[3] = r3;
        let next = outlined::<C>(at, state);
        let [r0, r1, r2, r3, ..] = (*state).regs;
        ((*next).op.handler.threaded)(next, state, r0, r3, r1, r2);
    }
}

/// Keeps the locals of cold operations out of the frames of handlers.
#[inline(never)]
unsafe fn outlined<C: Cold>(at: *const Cell, state: *mut State<'static>) -> *const Cell {
    // SAFETY: as for `hot`.
    unsafe { C::run(at, &mut *state) }
}

/// [`hot`] for a body that may end the dispatching. What is in the hot registers then is lost, but for
/// what the body puts into the file.
unsafe extern "sysv64" fn ending_hot<B: Body, const A: usize>(
    at: *const Cell,
    state: *mut State<'static>,
    r0: u64,
    r3: u64,
    r1: u64,
    r2: u64,
) {
    // SAFETY: as for `hot`.
    let mut regs = Regs { hot: [r0, r1, r2, r3], state: unsafe { &mut *state } };
    // SAFETY: as for `hot`.
    unsafe {
        let next = B::run::<A, FILE, FILE>(at, &mut regs);
        let [r0, r1, r2, r3] = regs.hot;
        if !next.is_null() {
            ((*next).op.handler.threaded)(next, state, r0, r3, r1, r2);
        }
    }
}

pub(super) fn cold<C: Cold>() -> Threaded {
    spilling::<C>
}

/// The place of an operand in this slot.
fn place(slot: u8) -> usize {
    usize::from(slot).min(FILE)
}

pub(super) fn none<B: Body>() -> Threaded {
    hot::<B, FILE, FILE, FILE>
}

pub(super) fn ending<B: Body>(slot: u8) -> Threaded {
    Handlers::<B>::ENDING[place(slot)]
}

pub(super) fn one<B: Body>(slot: u8) -> Threaded {
    Handlers::<B>::ONE[place(slot)]
}

pub(super) fn two<B: Body>(slots: [u8; 2]) -> Threaded {
    let [a, b] = slots.map(place);
    Handlers::<B>::TWO[a][b]
}

pub(super) fn three<B: Body>(slots: [u8; 3]) -> Threaded {
    let [a, b, c] = slots.map(place);
    Handlers::<B>::THREE[a][b][c]
}

/// # Safety
/// As for [`super::Dispatcher::run`].
pub(super) unsafe fn run(at: *const Cell, state: &mut State<'_>) {
    let [r0, r1, r2, r3, ..] = state.regs;
    let state = core::ptr::from_mut(state).cast::<State<'static>>();
    // SAFETY: the caller's promise; handlers do not keep the state, so its lifetime does not matter.
    unsafe { ((*at).op.handler.threaded)(at, state, r0, r3, r1, r2) }
}

/// The places that an operand can be in.
const PLACES: usize = HOT + 1;

/// The handlers of a body for each combination of places.
struct Handlers<B>(PhantomData<B>);

macro_rules! each_place {
    ($handler:ident) => {
        [$handler!(0), $handler!(1), $handler!(2), $handler!(3), $handler!(4)]
    };
}

impl<B: Body> Handlers<B> {
    const ONE: [Threaded; PLACES] = {
        macro_rules! one {
            ($a:tt) => {
                hot::<B, $a, FILE, FILE>
            };
        }
        each_place!(one)
    };

    const ENDING: [Threaded; PLACES] = {
        macro_rules! ending {
            ($a:tt) => {
                ending_hot::<B, $a>
            };
        }
        each_place!(ending)
    };

    const TWO: [[Threaded; PLACES]; PLACES] = {
        macro_rules! two {
            ($a:tt) => {
                [
                    hot::<B, $a, 0, FILE>,
                    hot::<B, $a, 1, FILE>,
                    hot::<B, $a, 2, FILE>,
                    hot::<B, $a, 3, FILE>,
                    hot::<B, $a, 4, FILE>,
                ]
            };
        }
        each_place!(two)
    };

    const THREE: [[[Threaded; PLACES]; PLACES]; PLACES] = {
        macro_rules! row {
            ($a:tt, $b:tt) => {
                [
                    hot::<B, $a, $b, 0>,
                    hot::<B, $a, $b, 1>,
                    hot::<B, $a, $b, 2>,
                    hot::<B, $a, $b, 3>,
                    hot::<B, $a, $b, 4>,
                ]
            };
        }
        macro_rules! three {
            ($a:tt) => {
                [row!($a, 0), row!($a, 1), row!($a, 2), row!($a, 3), row!($a, 4)]
            };
        }
        each_place!(three)
    };
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use ebpf_isa::text::assemble;
    use iced_x86::{Code, Decoder, DecoderOptions};

    use super::super::{Dispatcher, Handler};
    use crate::link::Links;
    use crate::vm::{Options, Vm};

    /// The instruction by which a handler is left: the first indirect jump, return or trap.
    fn way_out(handler: Handler) -> Code {
        // SAFETY: programs made for the threaded dispatcher have its handlers. Code is readable, and
        // a handler is followed by others.
        let code = unsafe { core::slice::from_raw_parts(handler.threaded as *const u8, 512) };
        let mut codes = Decoder::new(64, code, DecoderOptions::NONE).into_iter().map(|i| i.code());
        codes.find(|code| matches!(code, Code::Jmp_rm64 | Code::Retnq | Code::Ud2)).unwrap()
    }

    #[test]
    fn handlers_end_in_a_jump() {
        let text = "r6 = r1\nr0 = 1\nr2 = 7 ll\nr0 += r2\nw0 *= 3\nr2 = r0\nr2 ^= r6\nr2 <<= 5\n\
                    r3 = *(u32 *)(r6 +0)\n*(u16 *)(r10 -2) = r3\n*(u8 *)(r10 -3) = 1\nr4 = r3\n\
                    r4 <<= 9\nr3 >>= 55\nr4 |= r3\nr4 = be32 r4\nr4 = (s8)r4\nr5 = *(u8 *)(r6 +1)\n\
                    if r5 == 3 goto +1\nr0 += 1\nr7 = *(u8 *)(r6 +0)\nr0 ^= r7\nr7 += 1\n\
                    if r7 s< r0 goto -5\nif w7 > 5 goto +1\ngoto -8\ncall f\nexit\nf:\nr0 += r4\n\
                    r8 = *(u8 *)(r6 +6)\nr9 = *(u8 *)(r6 +7)\nr9 <<= 8\nr8 |= r9\nr0 += r8\n\
                    r8 = *(u64 *)(r6 +0)\nr9 = *(u64 *)(r6 +8)\nr7 = *(u16 *)(r6 +0)\nr7 = be16 r7\n\
                    r7 = *(u8 *)(r6 +0)\nw7 &= 15\nr7 = r6\nr7 += 14\nif r7 > r8 goto +1\nexit\nexit";
        let program = assemble(text).unwrap();
        for fuse in [false, true] {
            let dispatcher = Some(Dispatcher::Threaded);
            let options = Options { dispatcher, fuse, ..Options::default() };
            let vm = Vm::with_options(&program, None, &Links::default(), &options).unwrap();
            for code in [vm.codes.checked(), vm.codes.unchecked()] {
                for (pc, _) in program.insns() {
                    // SAFETY: there is an operation for each position.
                    let handler = unsafe { (*code.at(pc)).op.handler };
                    assert_eq!(way_out(handler), Code::Jmp_rm64, "{pc}");
                }
            }
        }
    }

    #[test]
    fn this_build_is_confirmed() {
        assert_eq!(Dispatcher::best(), Dispatcher::Threaded);
    }
}
