//! Every engine computes what `fixtures/semantics` says: each row in both operand forms, on every
//! choice of registers, with all other registers untouched, plain and with constants blinded.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../../ebpf-isa/tests/rows/mod.rs"]
mod rows;
mod trial;

use ebpf_isa::abi::{EntryFn, ExecEnv};
use ebpf_isa::semantics::immediate;
use ebpf_isa::{AluOp, AtomicOp, CmpOp, Insn, Operand, Pc, Program, Reg, Size, Width};
use ebpf_runtime::image::Symbol;
use ebpf_runtime::interp::{Links, Memory, Vm};
use ebpf_runtime::jit;
use ebpf_runtime::pack::{Pack, PackOptions};
use ebpf_runtime::patch::{Patch, blind_constants};
use rows::UnaryOp;
use trial::{Trial, WRITABLE, mov, other_than, program, through};

/// Runs the trials on each engine.
struct Engines {
    pack: Pack,
}

impl Engines {
    fn new() -> Self {
        Self { pack: Pack::new(PackOptions::default()).unwrap() }
    }

    /// As the trials are, and with their constants blinded.
    #[track_caller]
    fn agree(&self, row: &dyn std::fmt::Debug, trials: &[Trial]) {
        let program = program(trials);
        self.run(row, trials, &program);
        let mut patch = Patch::new(&program);
        blind_constants(&mut patch, [1, 2]).unwrap();
        self.run(row, trials, &patch.linearize().unwrap().program);
    }

    #[track_caller]
    fn run(&self, row: &dyn std::fmt::Debug, trials: &[Trial], program: &Program) {
        let vm = Vm::new(program, None, &Links::default()).unwrap();
        let mut context = [0_u64; 2];
        let context = context.as_mut_ptr().cast();
        let checked = vm.run(0, &Memory::new(), &mut ExecEnv::new()).unwrap();
        assert_passed("the interpreter", checked, row, trials);
        // SAFETY: the checked interpreter ran the same program without a trap.
        let unchecked = unsafe { vm.run_unchecked(context, &mut ExecEnv::new()) }.unwrap();
        assert_passed("the unchecked interpreter", unchecked, row, trials);
        let image = jit::compile(program, None, &jit::Options::default()).unwrap();
        let placed = self.pack.place(&image, &|_: Symbol| None).unwrap();
        // SAFETY: this is the entry of compiled code, which `placed` keeps.
        let run: EntryFn = unsafe { std::mem::transmute(placed.entry_ptr()) };
        // SAFETY: the checked interpreter ran the same program without a trap.
        let compiled = unsafe { run(context, &mut ExecEnv::new()) };
        assert_passed("the compiled program", compiled, row, trials);
    }
}

#[track_caller]
fn assert_passed(engine: &str, result: u64, row: &dyn std::fmt::Debug, trials: &[Trial]) {
    let Some(number) = result.checked_sub(1) else { return };
    panic!("{engine} differs from {row:x?}: {:x?}", trials.get(number as usize));
}

/// All pairs of different registers.
fn pairs() -> impl Iterator<Item = (Reg, Reg)> {
    let others = |a| WRITABLE.into_iter().filter(move |&b| a != b).map(move |b| (a, b));
    WRITABLE.into_iter().flat_map(others)
}

/// An immediate that means `value` at this width.
fn as_immediate(width: Width, value: u64) -> Option<i32> {
    let imm = value as i32;
    (width == Width::W32 || immediate(imm) == value).then_some(imm)
}

/// What comes between registers and expectation: `f(a, second operand)`, where the first register
/// holds `left` and the second operand means `right`.
fn operand_forms(
    width: Width,
    (left, right): (u64, u64),
    trial: impl Fn(Reg, Operand) -> Trial,
) -> Vec<Trial> {
    let with = |set: &[(Reg, u64)], trial: Trial| Trial { set: set.to_vec(), ..trial };
    let mut trials: Vec<Trial> =
        pairs().map(|(a, b)| with(&[(a, left), (b, right)], trial(a, Operand::Reg(b)))).collect();
    if left == right {
        trials.extend(WRITABLE.map(|a| with(&[(a, left)], trial(a, Operand::Reg(a)))));
    }
    if let Some(imm) = as_immediate(width, right) {
        trials.extend(WRITABLE.map(|a| with(&[(a, left)], trial(a, Operand::Imm(imm)))));
    }
    trials
}

#[test]
fn binary_arithmetic() {
    let engines = Engines::new();
    for row in rows::alu() {
        let (op, width) = (row.op, row.width);
        let trials = operand_forms(width, (row.dst, row.src), |dst, src| Trial {
            body: vec![Insn::Alu { op, width, dst, src }],
            expect: vec![(dst, row.expected)],
            ..Trial::default()
        });
        engines.agree(&row, &trials);
    }
}

/// The frame pointer as second operand: its value is nobody's business, but `x - x` is.
#[test]
fn arithmetic_with_the_frame_pointer() {
    let rows = [
        (AluOp::Sub, 0),
        (AluOp::Xor, 0),
        (AluOp::Div, 1),
        (AluOp::SDiv, 1),
        (AluOp::Mod, 0),
        (AluOp::SMod, 0),
    ];
    let (width, fp) = (Width::W64, Operand::Reg(Reg::FP));
    for row @ (op, expected) in rows {
        let trials = WRITABLE.map(|dst| Trial {
            body: vec![mov(dst, fp), Insn::Alu { op, width, dst, src: fp }],
            expect: vec![(dst, expected)],
            ..Trial::default()
        });
        Engines::new().agree(&row, &trials);
    }
}

#[test]
fn unary_arithmetic() {
    let engines = Engines::new();
    for row in rows::unary() {
        let in_place = |insn: &dyn Fn(Reg) -> Insn| {
            WRITABLE.map(|dst| Trial {
                set: vec![(dst, row.operand)],
                body: vec![insn(dst)],
                expect: vec![(dst, row.expected)],
                ..Trial::default()
            })
        };
        let trials = match row.op {
            UnaryOp::Neg(width) => in_place(&|dst| Insn::Neg { width, dst }).to_vec(),
            UnaryOp::Swap(order, size) => in_place(&|dst| Insn::Swap { order, size, dst }).to_vec(),
            UnaryOp::MovSx(width, from) => {
                moves(&row, |dst, src| Insn::MovSx { width, dst, src, from })
            }
            UnaryOp::Mov(width) => {
                let mov = |dst, src| Insn::Mov { width, dst, src };
                let mut trials = moves(&row, |dst, src| mov(dst, Operand::Reg(src)));
                let imm = as_immediate(width, row.operand);
                trials.extend(imm.into_iter().flat_map(|imm| {
                    WRITABLE.map(|dst| Trial {
                        body: vec![mov(dst, Operand::Imm(imm))],
                        expect: vec![(dst, row.expected)],
                        ..Trial::default()
                    })
                }));
                trials
            }
        };
        engines.agree(&row, &trials);
    }
}

/// Moves from each register to each other and to itself.
fn moves(row: &rows::Unary, insn: impl Fn(Reg, Reg) -> Insn) -> Vec<Trial> {
    let itself = WRITABLE.map(|reg| (reg, reg));
    let trial = |(dst, src)| Trial {
        set: vec![(src, row.operand)],
        body: vec![insn(dst, src)],
        expect: vec![(dst, row.expected)],
        ..Trial::default()
    };
    pairs().chain(itself).map(trial).collect()
}

#[test]
fn comparisons() {
    let engines = Engines::new();
    for row in rows::compare() {
        for &op in CmpOp::ALL {
            let holds = row.hold.contains(&op);
            let trials = operand_forms(row.width, (row.lhs, row.rhs), |lhs, rhs| {
                let seen = other_than(&[lhs, rhs.reg().unwrap_or(lhs)]);
                let jump = Insn::Branch { op, width: row.width, lhs, rhs, target: Pc(3) };
                let (yes, no) = (mov(seen, Operand::Imm(1)), mov(seen, Operand::Imm(0)));
                let expect = vec![(seen, u64::from(holds))];
                Trial { body: vec![yes, jump, no], expect, ..Trial::default() }
            });
            engines.agree(&(op, &row), &trials);
        }
    }
}

/// Pairs of a base register, the frame pointer included, and another.
fn base_and_other() -> impl Iterator<Item = (Reg, Reg)> {
    pairs().chain(WRITABLE.map(|reg| (Reg::FP, reg)))
}

#[test]
fn atomic_operations() {
    let engines = Engines::new();
    for row in rows::atomic() {
        let (op, size) = (row.op, row.size);
        let old = match size {
            Size::W => row.before & 0xffff_ffff,
            _ => row.before,
        };
        for fetch in [false, true] {
            if op.always_fetches() && !fetch {
                continue;
            }
            let is_cmpxchg = op == AtomicOp::Cmpxchg;
            let has_r0 = |(base, src): &(Reg, Reg)| *base == Reg::R0 || *src == Reg::R0;
            let registers = base_and_other().filter(|regs| !(is_cmpxchg && has_r0(regs)));
            let trials: Vec<Trial> = registers
                .map(|(base, src)| {
                    let insn = |off| Insn::Atomic { op, size, fetch, base, off, src };
                    let mut trial = through(base, false, insn);
                    trial.memory = Some((row.before, row.after));
                    trial.set.push((src, row.src));
                    if is_cmpxchg {
                        trial.set.push((Reg::R0, row.r0));
                        trial.expect.push((Reg::R0, old));
                    } else if fetch {
                        trial.expect.push((src, old));
                    }
                    trial
                })
                .collect();
            engines.agree(&(&row, fetch), &trials);
        }
    }
}

#[test]
fn loads() {
    let engines = Engines::new();
    for row in rows::load() {
        let (size, extend) = (row.size, row.extend);
        let itself = WRITABLE.map(|reg| (reg, reg));
        let trials: Vec<Trial> = base_and_other()
            .chain(itself)
            .map(|(base, dst)| {
                let insn = |off| Insn::Load { size, extend, dst, base, off };
                let mut trial = through(base, base == dst, insn);
                trial.memory = Some((row.memory, row.memory));
                trial.expect.push((dst, row.expected));
                trial
            })
            .collect();
        engines.agree(&row, &trials);
    }
}

#[test]
fn stores() {
    let engines = Engines::new();
    for row in rows::store() {
        let size = row.size;
        let store = |base, src, set: Vec<(Reg, u64)>| {
            let trial = through(base, false, |off| Insn::Store { size, base, off, src });
            Trial { memory: Some((row.before, row.after)), set, ..trial }
        };
        let mut trials: Vec<Trial> = base_and_other()
            .map(|(base, src)| store(base, Operand::Reg(src), vec![(src, row.src)]))
            .collect();
        // The immediate is sign-extended, of which a narrow store takes the low bytes.
        let width = if size == Size::Dw { Width::W64 } else { Width::W32 };
        if let Some(imm) = as_immediate(width, row.src) {
            let bases = WRITABLE.into_iter().chain([Reg::FP]);
            trials.extend(bases.map(|base| store(base, Operand::Imm(imm), Vec::new())));
        }
        engines.agree(&row, &trials);
    }
}
