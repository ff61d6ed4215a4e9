//! From fused operations to cells.

use alloc::vec;
use alloc::vec::Vec;

use ebpf_isa::{Insn, Pc, Program};
use ebpf_lower::{Fused, FusedOp};

use super::select::{Second, Selected, Selector};
use super::{Cell, Codes, Jump, Origin};
use crate::ops::memory::{CheckedMode, UncheckedMode};

/// Makes code of `program`, whose operations are `ops`.
pub(crate) fn emit(program: &Program, ops: &[FusedOp], selector: &Selector<'_>) -> Codes {
    // Some operations have two cells.
    let room = ops.len() + ops.len() / 4;
    let mut emitter = Emitter {
        program,
        selector,
        checked: Vec::with_capacity(room),
        unchecked: Vec::with_capacity(room),
        origins: Vec::with_capacity(room),
        starts: vec![0; selector.places.len()],
        known: 0,
        jumps: Vec::new(),
    };
    for op in ops {
        if emitter.push(op).is_some() {
            continue;
        }
        // There is no such operation here: its instructions are.
        for (pc, insn) in instructions(program, op) {
            let op = FusedOp { pc, slots: insn.slots(), op: Fused::Insn(insn) };
            emitter.push(&op).expect("each instruction is an operation");
        }
    }
    emitter.finish()
}

fn instructions(program: &Program, op: &FusedOp) -> impl Iterator<Item = (Pc, Insn)> {
    let pcs = (op.pc.0..op.end().0).map(Pc);
    pcs.filter_map(|pc| program.get(pc).map(|insn| (pc, insn)))
}

struct Emitter<'a> {
    program: &'a Program,
    selector: &'a Selector<'a>,
    checked: Vec<Cell>,
    unchecked: Vec<Cell>,
    origins: Vec<Origin>,
    /// By slot: the first operation that does not start before it.
    starts: Vec<u32>,
    /// Slots whose start is known.
    known: usize,
    /// Operations that jump, and where to.
    jumps: Vec<(u32, Pc)>,
}

impl Emitter<'_> {
    /// Emits `op`, if there is such an operation.
    fn push(&mut self, op: &FusedOp) -> Option<()> {
        let Selected { op: checked, second } =
            self.selector.select::<CheckedMode>(self.program, op)?;
        let unchecked = if differs_by_mode(op) {
            self.selector.select::<UncheckedMode>(self.program, op)?.op
        } else {
            checked
        };
        let at = self.origins.len() as u32;
        // Operations inside of a window start no earlier slot than what is known.
        if let Some(starts) = self.starts.get_mut(self.known..=op.pc.index()) {
            starts.fill(at);
            self.known = op.pc.index() + 1;
        }
        let origin = Origin { start: op.pc, end: op.end() };
        self.cell(origin, Cell { op: checked }, Cell { op: unchecked });
        let second = match second {
            Second::None => return Some(()),
            Second::Value(value) => Cell { value },
            Second::Jump { target, imm } => {
                self.jumps.push((at, target));
                // A jump is the last instruction of its window, and has one slot.
                let places = self.selector.places;
                let here = places[op.end().index() - 1] as i32 + 1;
                let gain = here - places[target.index()] as i32;
                Cell { jump: Jump { target: 0, here, gain, imm } }
            }
        };
        self.cell(origin, second, second);
        Some(())
    }

    fn cell(&mut self, origin: Origin, checked: Cell, unchecked: Cell) {
        self.origins.push(origin);
        self.checked.push(checked);
        self.unchecked.push(unchecked);
    }

    fn finish(mut self) -> Codes {
        for (at, target) in self.jumps {
            let target = self.starts[target.index()] as i32 - at as i32;
            for cells in [&mut self.checked, &mut self.unchecked] {
                cells[at as usize + 1].jump.target = target;
            }
        }
        let Self { checked, unchecked, origins, .. } = self;
        Codes { checked, unchecked, origins }
    }
}

/// Whether checked and unchecked runs have different handlers for `op`: those of accesses, calls and
/// returns.
fn differs_by_mode(op: &FusedOp) -> bool {
    !matches!(
        op.op,
        Fused::Insn(
            Insn::Alu { .. }
                | Insn::Mov { .. }
                | Insn::LoadWide { .. }
                | Insn::Jump { .. }
                | Insn::Branch { .. }
        ) | Fused::Alu3 { .. }
            | Fused::Rotate { .. }
            | Fused::Shifted { .. }
            | Fused::AddBranch { .. }
    )
}
