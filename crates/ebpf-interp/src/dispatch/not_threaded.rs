//! Stands in for the threaded dispatcher where it is not built.

use super::{Body, Cold};
use crate::code::Cell;
use crate::state::State;

pub(super) const BUILT: bool = false;

/// No handler.
#[derive(Clone, Copy)]
pub(super) struct Threaded;

fn not_built() -> Threaded {
    unreachable!("no program is made for a dispatcher that is not built")
}

pub(super) fn none<B: Body>() -> Threaded {
    not_built()
}

pub(super) fn one<B: Body>(_: u8) -> Threaded {
    not_built()
}

pub(super) fn two<B: Body>(_: [u8; 2]) -> Threaded {
    not_built()
}

pub(super) fn three<B: Body>(_: [u8; 3]) -> Threaded {
    not_built()
}

pub(super) fn cold<C: Cold>() -> Threaded {
    not_built()
}

pub(super) fn ending<B: Body>(_: u8) -> Threaded {
    not_built()
}

pub(super) unsafe fn run(_: *const Cell, _: &mut State<'_>) {
    not_built();
}
