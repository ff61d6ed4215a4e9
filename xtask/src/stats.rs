//! `cargo xtask stats [FILE…]`: what is fused in the programs of object files, and which instructions
//! follow one another where nothing is. By default, those of `fixtures` and those of the benchmarks,
//! apart.
//!
//! Merges are chosen by what real programs do often: give it many objects.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ebpf_lower::{Fused, lower};
use ebpf_runtime::isa::{Insn, Operand, Program, Width};
use ebpf_runtime::object::Object;

use crate::error::TaskError;
use crate::say;

/// How many pairs are shown.
const PAIRS: usize = 25;

/// What was counted.
#[derive(Default)]
struct Stats {
    programs: usize,
    /// Programs that do not link alone.
    refused: usize,
    insns: usize,
    operations: usize,
    /// Instructions by the kind of operation that they became.
    fused: BTreeMap<&'static str, usize>,
    /// Pairs of instructions, the second of which reads what the first one writes, that are apart.
    pairs: BTreeMap<String, usize>,
}

pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    if let Some(option) = arguments.iter().find(|argument| argument.starts_with('-')) {
        return Err(TaskError::Usage(format!("stats takes files, not `{option}`")));
    }
    if !arguments.is_empty() {
        let files: Vec<PathBuf> = arguments.iter().map(PathBuf::from).collect();
        return report("the given files", &files);
    }
    let root = ebpf_testkit::workspace_root();
    report("fixtures", &objects(&root.join("fixtures")))?;
    report("benchmarks", &objects(&root.join("benches/programs")))
}

/// Object files in a directory and those below, in order.
fn objects(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files = Vec::new();
    for path in entries.map(|entry| entry.path()) {
        if path.is_dir() {
            files.extend(objects(&path));
        } else if path.extension().is_some_and(|extension| extension == "o") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn report(title: &str, files: &[PathBuf]) -> Result<(), TaskError> {
    let mut stats = Stats::default();
    for path in files {
        let bytes = std::fs::read(path)
            .map_err(|error| TaskError::Failed(format!("{}: {error}", path.display())))?;
        let Ok(object) = Object::parse(&bytes) else {
            stats.refused += 1;
            continue;
        };
        for info in object.programs() {
            match object.program(&info.name) {
                Ok(linked) => stats.add(&linked.program),
                Err(_) => stats.refused += 1,
            }
        }
    }
    stats.print(title);
    Ok(())
}

impl Stats {
    fn add(&mut self, program: &Program) {
        self.programs += 1;
        let ops = lower(program);
        self.operations += ops.len();
        for op in &ops {
            let window = (op.pc.0..op.end().0).map(ebpf_runtime::isa::Pc);
            let insns = window.filter(|&pc| program.get(pc).is_some()).count();
            if let Some(kind) = kind(op.op, insns) {
                *self.fused.entry(kind).or_default() += insns;
            }
        }
        self.insns += program.insns().count();
        for pair in ops.windows(2) {
            let [Fused::Insn(first), Fused::Insn(second)] = [pair[0].op, pair[1].op] else {
                continue;
            };
            if first.writes().iter().any(|reg| second.reads().contains(reg)) {
                let pair = format!("{}, {}", shape(first), shape(second));
                *self.pairs.entry(pair).or_default() += 1;
            }
        }
    }

    fn print(&self, title: &str) {
        let percent = |count: usize| 100.0 * count as f64 / self.insns.max(1) as f64;
        let Self { programs, refused, insns, operations, .. } = self;
        say(&format!("{title}: {programs} programs ({refused} do not link alone)"));
        say(&format!("{insns} instructions, {operations} operations"));
        say("of the instructions, fused into:");
        for (kind, count) in &self.fused {
            say(&format!("  {:5.2} %  {kind}", percent(*count)));
        }
        say("pairs that depend on one another and are apart:");
        let mut pairs: Vec<_> = self.pairs.iter().collect();
        pairs.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (pair, count) in pairs.into_iter().take(PAIRS) {
            say(&format!("  {:5.2} %  {pair}", percent(*count)));
        }
    }
}

/// What kind of merge made this operation of more than one instruction; `None` where none did.
fn kind(op: Fused, insns: usize) -> Option<&'static str> {
    Some(match op {
        Fused::Insn(_) if insns == 1 => return None,
        Fused::Insn(Insn::Load { .. }) => "load of several bytes",
        Fused::Insn(_) => "extension",
        Fused::Alu3 { .. } => "move and arithmetic",
        Fused::Rotate { .. } => "rotation",
        Fused::Shifted { .. } => "arithmetic with a shifted operand",
        Fused::LoadSwapped { .. } if insns == 2 => "load and swap",
        Fused::LoadSwapped { .. } => "swapped load of several bytes",
        Fused::LoadPair { .. } => "two loads",
        Fused::LoadMasked { .. } => "load and mask",
        Fused::LoadAlu { .. } => "arithmetic with an operand in memory",
        Fused::LoadIndexed { .. } => "indexed load",
        Fused::LoadBranch { .. } => "load and branch",
        Fused::AddBranch { .. } => "addition and branch",
        Fused::SumBranch { .. } => "comparison of a sum",
        Fused::ExitWith { .. } => "return of a constant",
    })
}

/// The kind of an instruction, without registers and numbers.
fn shape(insn: Insn) -> String {
    let width = |width| if width == Width::W32 { "w" } else { "r" };
    let operand = |operand| if matches!(operand, Operand::Reg(_)) { "reg" } else { "imm" };
    match insn {
        Insn::Alu { op, width: of, src, .. } => {
            format!("{} {} {}", width(of), op.mnemonic(), operand(src))
        }
        Insn::Mov { width: of, src, .. } => format!("{} = {}", width(of), operand(src)),
        Insn::Load { size, .. } => format!("load {}", size.mnemonic()),
        Insn::Store { size, src, .. } => format!("store {} {}", size.mnemonic(), operand(src)),
        Insn::Branch { op, width: of, rhs, .. } => {
            format!("if {} {} {}", width(of), op.mnemonic(), operand(rhs))
        }
        Insn::LoadWide { .. } => "wide load".into(),
        Insn::Call(_) => "call".into(),
        Insn::Exit => "exit".into(),
        _ => "other".into(),
    }
}

#[cfg(test)]
mod tests {
    use ebpf_runtime::isa::text::assemble;

    use super::*;

    #[test]
    fn merges_and_pairs_are_counted() {
        let mut stats = Stats::default();
        let asm = "r0 = r1\nr0 += 7\nr2 = *(u32 *)(r1 +0)\n*(u32 *)(r10 -4) = r2\nexit";
        stats.add(&assemble(asm).unwrap());
        assert_eq!((stats.insns, stats.operations), (5, 4));
        assert_eq!(stats.fused, BTreeMap::from([("move and arithmetic", 2)]));
        assert_eq!(stats.pairs, BTreeMap::from([("load u32, store u32 reg".to_string(), 1)]));
    }

    #[test]
    fn the_objects_of_the_fixtures_are_found() {
        let found = objects(&ebpf_testkit::fixtures_dir());
        assert!(found.iter().any(|path| path.ends_with("xdp/xdp_minimal.o")), "{found:?}");
    }
}
