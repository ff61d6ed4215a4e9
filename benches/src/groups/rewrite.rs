//! Rewriting of accepted programs: an access to the context that is converted every eighth instruction,
//! and an epilogue at every exit. All passes together, in nanoseconds an instruction of the program.
//!
//! `rewrite` finds the memory that the rewriting before it has freed, as in a process that goes on loading
//! programs; the claims are about it. `fresh` is the same in memory that the system has just given.
//!
//! The running kernel converts the same accesses where it verifies, so its figure is the time of its verifier,
//! less that for the same program with accesses that stay as they are. It has no epilogue to put in.

mod epilogue;
mod lookups;

use std::collections::BTreeMap;
use std::time::Duration;

use ebpf_runtime::isa::uapi::ProgramType;
use ebpf_runtime::isa::{
    CmpOp, Extend, Insn, LineTable, Operand, Pc, Program, ProgramError, Reg, Size, Width,
};
use ebpf_runtime::kernel::{Oracle, ProgramLoad};
use ebpf_runtime::verifier::{
    ContextAccessInsn, Environment, HookCode, HostField, Options, RewriteError, RewriteHooks,
    Target, Verified, program_types, verify,
};

use super::GroupError;
use crate::allocated::{give_back_freed, keep_freed};
use crate::harness::{Cell, Column, Effort, Workload, measure};
use crate::output::{Claim, Goal, Report};

type Error = Box<dyn std::error::Error>;

/// Instructions from one converted access to the next.
const EVERY: u32 = 8;
/// Instructions from one exit to the next.
const EXITS: u32 = 64;
/// Lengths of programs. Those in between have 15,000 and 45,000 converted accesses.
const SIZES: [u32; 4] = [15_000, 15_000 * EVERY, 45_000 * EVERY, MILLION];
const MILLION: u32 = 1_000_000;

const REWRITE: &str = "rewrite";
const FRESH: &str = "fresh";
const KERNEL: &str = "kernel";
const UNIT: &str = "ns/insn";

pub(super) fn run(effort: Effort) -> Result<Report, GroupError> {
    report(effort).map_err(GroupError::new("rewrite"))
}

fn report(effort: Effort) -> Result<Report, Error> {
    keep_freed();
    let mut report = Report::default();
    let kernel = Oracle::new();
    if let Err(error) = &kernel {
        report.notes.push(format!("kernel: not measured: {error}"));
    }
    for size in SIZES {
        report.cells.extend(rewriting(size, effort)?);
        let is_asked = match size / EVERY {
            15_000 => true,
            // It takes half a minute.
            45_000 => effort == Effort::FULL,
            _ => false,
        };
        if kernel.is_ok() && is_asked {
            let value = in_kernel(size)?.as_nanos() as f64 / f64::from(size);
            report.cells.push(Cell { workload: name(size), column: KERNEL, value, unit: UNIT });
        }
    }
    report.claims = claims(&report);
    if kernel.is_ok() && effort != Effort::FULL {
        report.notes.push("kernel/rewrite-45k: not measured: leave out --quick".into());
    }
    epilogue::measure_into(&mut report, effort)?;
    report.cells.extend(lookups::measured(effort)?);
    Ok(report)
}

fn claims(report: &Report) -> Vec<Claim> {
    let ns = |size: u32, column| report.value(&name(size), column);
    let [smallest, _, large, million] = SIZES;
    let at_most = |name, value: Option<f64>, most| {
        Some(Claim { name, value: value?, goal: Goal::AtMost(most) })
    };
    let growth = |size| Some(ns(million, REWRITE)? / ns(size, REWRITE)?);
    let over_ours = |size| Some(ns(size, KERNEL)? / ns(size, REWRITE)?);
    let claims = [
        at_most("rewrite-ns-1m", ns(million, REWRITE), 30.0),
        at_most("rewrite-1m/15k", growth(smallest), 1.5),
        over_ours(large).map(|value| Claim {
            name: "kernel/rewrite-45k",
            value,
            goal: Goal::AtLeast(100.0),
        }),
    ];
    claims.into_iter().flatten().collect()
}

fn name(size: u32) -> String {
    format!("{}k, {} accesses", size / 1000, size / EVERY)
}

/// A host that keeps the type of a packet in three bits of a word, and counts what programs return.
struct Host;

impl RewriteHooks for Host {
    fn context_field(&self, access: &ContextAccessInsn) -> Result<HostField, RewriteError> {
        match access.offset {
            PKT_TYPE => {
                let word = HostField::whole(PKT_TYPE, Size::W, 16, Size::B);
                Ok(HostField { shift: 1, bits: 3, ..word })
            }
            _ => Err(access.unsupported()),
        }
    }

    fn gen_epilogue(&self, code: &mut HookCode<'_>) {
        code.push(mov(Reg::R6, Operand::Reg(Reg::R0)));
        code.load_saved_context(Reg::R1);
        code.call_native(0, 1);
        code.push(mov(Reg::R0, Operand::Reg(Reg::R6)));
    }
}

/// Offset of `pkt_type` in `struct __sk_buff`: the kernel, too, takes a part of a byte.
const PKT_TYPE: u16 = 4;

/// Offset of `mark`, which stays one load in the kernel.
const MARK: i16 = 8;

const fn mov(dst: Reg, src: Operand) -> Insn {
    Insn::Mov { width: Width::W64, dst, src }
}

/// A program of `size` instructions; `access` is the one that comes every eighth.
fn program(size: u32, access: Insn) -> Result<Program, ProgramError> {
    let insn = |pc| match pc {
        _ if pc + 1 == size || pc % EXITS == EXITS - 1 => Insn::Exit,
        _ if pc % EXITS == EXITS - 2 => Insn::Branch {
            op: CmpOp::Eq,
            width: Width::W64,
            lhs: Reg::R2,
            rhs: Operand::Imm(3),
            target: Pc(pc + 2),
        },
        _ if pc % EVERY == 1 => access,
        0 => mov(Reg::R0, Operand::Imm(0)),
        _ => mov(Reg::R3, Operand::Imm(pc as i32)),
    };
    // The last jump must not leave the program.
    let slots = (0..size).map(|pc| match insn(pc) {
        Insn::Branch { target, .. } if target.0 >= size => Some(mov(Reg::R3, Operand::Imm(0))),
        insn => Some(insn),
    });
    Program::new(slots.collect(), BTreeMap::new(), LineTable::new())
}

const fn load(base: Reg, off: i16) -> Insn {
    Insn::Load { size: Size::W, extend: Extend::Zero, dst: Reg::R2, base, off }
}

fn verified(size: u32) -> Result<Verified, Error> {
    let rules = program_types::of(ProgramType::SchedCls).ok_or("no traffic control here")?;
    let program = program(size, load(Reg::R1, PKT_TYPE as i16))?;
    verify(&program, &Environment::new(rules), &Options::default())
        .map_err(|rejection| rejection.to_string().into())
}

fn rewriting(size: u32, effort: Effort) -> Result<Vec<Cell>, Error> {
    let verified = verified(size)?;
    let mut target = Target::default();
    target.natives = 1;
    let rewrite = || verified.rewrite_for(&Host, &target);
    let length = || rewrite().map_or(0, |done| u64::from(done.program.len()));
    // Each access grows by two shifts. The context is saved by one instruction, and the first exit
    // becomes the epilogue's five; others jump to it.
    let (accesses, epilogue) = (size / EVERY, 1 + 4);
    let slots = rewrite()?.program.len();
    assert_eq!(slots, size + 2 * accesses + epilogue, "it is not rewritten as it should be");
    let mut workload = Workload {
        name: name(size),
        units_per_run: size.into(),
        unit: UNIT,
        columns: vec![
            Column { name: REWRITE, run: Box::new(length), comparable: true },
            Column {
                name: FRESH,
                run: Box::new(|| {
                    give_back_freed();
                    length()
                }),
                comparable: true,
            },
        ],
    };
    Ok(measure(&mut workload, effort))
}

/// What the kernel's verifier takes for the converted accesses.
fn in_kernel(size: u32) -> Result<Duration, Error> {
    let time = |access| -> Result<Duration, Error> {
        let slots = program(size, access)?.to_slots()?;
        let program_type = ProgramType::SchedCls.number();
        let load =
            ProgramLoad { program_type, license: "GPL", slots: &slots, ..Default::default() };
        let loaded = load.load().map_err(|refusal| refusal.message)?;
        let statistics = loaded.statistics.ok_or("the kernel does not tell its time")?;
        Ok(Duration::from_micros(statistics.usec.into()))
    };
    let converted = time(load(Reg::R1, PKT_TYPE as i16))?;
    Ok(converted.saturating_sub(time(load(Reg::R1, MARK))?))
}
