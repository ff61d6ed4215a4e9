//! From fused operations to cells.

use alloc::vec;
use alloc::vec::Vec;

use ebpf_isa::{Insn, Pc, Program};
use ebpf_lower::{Fused, FusedOp};

use super::select::{Second, Selected, Selector};
use super::{Cell, Code, Jump, Origin};
use crate::ops::memory::Mode;

/// Makes code of `program`, whose operations are `ops`.
pub(crate) fn emit<M: Mode>(program: &Program, ops: &[FusedOp], selector: &Selector<'_>) -> Code {
    let mut emitter = Emitter {
        places: selector.places,
        cells: Vec::with_capacity(ops.len() + ops.len() / 4),
        origins: Vec::with_capacity(ops.len() + ops.len() / 4),
        starts: vec![0; selector.places.len()],
        known: 0,
        jumps: Vec::new(),
    };
    for op in ops {
        match selector.select::<M>(program, op) {
            Some(selected) => emitter.push(op, selected),
            // There is no such operation here: its instructions are.
            None => {
                for (pc, insn) in instructions(program, op) {
                    let op = FusedOp { pc, slots: insn.slots(), op: Fused::Insn(insn) };
                    let selected = selector.select::<M>(program, &op);
                    emitter.push(&op, selected.expect("each instruction is an operation"));
                }
            }
        }
    }
    emitter.finish()
}

fn instructions(program: &Program, op: &FusedOp) -> impl Iterator<Item = (Pc, Insn)> {
    let pcs = (op.pc.0..op.end().0).map(Pc);
    pcs.filter_map(|pc| program.get(pc).map(|insn| (pc, insn)))
}

struct Emitter<'a> {
    places: &'a [u32],
    cells: Vec<Cell>,
    origins: Vec<Origin>,
    /// By slot: the first operation that does not start before it.
    starts: Vec<u32>,
    /// Slots whose start is known.
    known: usize,
    /// Operations that jump, and where to.
    jumps: Vec<(u32, Pc)>,
}

impl Emitter<'_> {
    fn push(&mut self, op: &FusedOp, selected: Selected) {
        let at = self.cells.len() as u32;
        // Operations inside of a window start no earlier slot than what is known.
        if let Some(starts) = self.starts.get_mut(self.known..=op.pc.index()) {
            starts.fill(at);
            self.known = op.pc.index() + 1;
        }
        let origin = Origin { start: op.pc, end: op.end() };
        self.cells.push(Cell { op: selected.op });
        self.origins.push(origin);
        let second = match selected.second {
            Second::None => return,
            Second::Value(value) => Cell { value },
            Second::Jump { target, imm } => {
                self.jumps.push((at, target));
                // A jump is the last instruction of its window, and has one slot.
                let here = self.places[op.end().index() - 1] as i32 + 1;
                let gain = here - self.places[target.index()] as i32;
                Cell { jump: Jump { target: 0, here, gain, imm } }
            }
        };
        self.cells.push(second);
        self.origins.push(origin);
    }

    fn finish(mut self) -> Code {
        for (at, target) in self.jumps {
            let target = self.starts[target.index()] as i32 - at as i32;
            self.cells[at as usize + 1].jump.target = target;
        }
        Code { cells: self.cells, origins: self.origins }
    }
}
