//! From fused operations to cells.

use alloc::vec::Vec;

use ebpf_isa::{Insn, Pc, Program};
use ebpf_lower::{Blocks, Fused, FusedOp, Outline};

use super::select::{Second, Selected, Selector};
use super::{Cell, Codes, Jump, Origin};
use crate::vm::{Options, Runs};

/// Makes code of `program`, as `options` say. `outline` is the program's.
pub(crate) fn emit(
    program: &Program,
    outline: &Outline,
    selector: &Selector<'_>,
    options: &Options,
) -> Codes {
    // Some operations have two cells, and some stand for several instructions.
    let room = program.slots().len() + program.slots().len() / 4;
    let mut emitter = Emitter {
        program,
        selector,
        blocks: outline.blocks(),
        runs: options.runs,
        checked: Vec::with_capacity(if options.runs.checked() { room } else { 0 }),
        unchecked: Vec::with_capacity(if options.runs.unchecked() { room } else { 0 }),
        origins: Vec::with_capacity(room),
        starts: Vec::with_capacity(outline.blocks().starts().len()),
        jumps: Vec::with_capacity(outline.blocks().starts().len()),
    };
    let emit = |op: FusedOp| {
        if emitter.push(&op).is_some() {
            return;
        }
        // There is no such operation here: its instructions are.
        for (pc, insn) in instructions(program, &op) {
            let op = FusedOp { pc, slots: insn.slots(), op: Fused::Insn(insn) };
            emitter.push(&op).expect("each instruction is an operation");
        }
    };
    if options.fuse {
        ebpf_lower::lower_each(program, outline, emit);
    } else {
        ebpf_lower::plain(program).for_each(emit);
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
    blocks: &'a Blocks,
    runs: Runs,
    checked: Vec<Cell>,
    unchecked: Vec<Cell>,
    origins: Vec<Origin>,
    /// By block: the first operation that does not start before it.
    starts: Vec<u32>,
    /// Operations that jump, and where to.
    jumps: Vec<(u32, Pc)>,
}

impl Emitter<'_> {
    /// Emits `op`, if there is such an operation.
    fn push(&mut self, op: &FusedOp) -> Option<()> {
        let Selected { checked, unchecked, second } = self.selector.select(self.program, op)?;
        let at = self.origins.len() as u32;
        while self.blocks.starts().get(self.starts.len()).is_some_and(|&start| start <= op.pc) {
            self.starts.push(at);
        }
        let origin = Origin::new(op.pc, op.slots);
        self.cell(origin, checked, unchecked);
        let second = match second {
            Second::None => return Some(()),
            Second::Value(value) => Cell { value },
            Second::Jump { target, imm } => {
                // A jump is the last instruction of its window, and has one slot.
                let place = |pc| self.selector.linked.place(pc) as i32;
                let here = place(Pc(op.end().0 - 1)) + 1;
                let gain = target.map_or(0, |target| here - place(target));
                self.jumps.extend(target.map(|target| (at, target)));
                Cell { jump: Jump { target: 0, here, gain, imm } }
            }
        };
        self.cell(origin, second, second);
        if matches!(op.op, Fused::Insn(Insn::Call(_)))
            && let Some(saved) = self.selector.saved(op.pc)
        {
            let landing = self.selector.landing(saved);
            self.cell(origin, landing, landing);
        }
        Some(())
    }

    fn cell(&mut self, origin: Origin, checked: Cell, unchecked: Cell) {
        self.origins.push(origin);
        if self.runs.checked() {
            self.checked.push(checked);
        }
        if self.runs.unchecked() {
            self.unchecked.push(unchecked);
        }
    }

    fn finish(mut self) -> Codes {
        for (at, target) in self.jumps {
            let distance = self.starts[self.blocks.at(target)] as i32 - at as i32;
            let target = distance * size_of::<Cell>() as i32;
            for cells in [&mut self.checked, &mut self.unchecked] {
                if let Some(second) = cells.get_mut(at as usize + 1) {
                    second.jump.target = target;
                }
            }
        }
        let Self { checked, unchecked, origins, .. } = self;
        Codes { checked, unchecked, origins }
    }
}
