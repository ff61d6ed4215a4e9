//! What the groups that run the benchmark programs share: the same columns for each program, less what
//! they need for the empty one, as ratios.

use std::fmt::Write as _;

use crate::harness::{Cell, Column, Effort, Workload, measure};
use crate::memory::Memory;
use crate::native::{Clang, Flavour, Native};
use crate::ours::Trusted;
use crate::output::{Claim, Goal, Report, geomean};
use crate::peers;
use crate::programs::{BenchProgram, EMPTY, PROGRAMS};

type Error = Box<dyn std::error::Error>;

/// What clang makes of the programs.
pub(super) const O2: &str = "-O2";
/// The same without what needs more than one instruction at a time.
pub(super) const SCALAR: &str = "scalar";

/// A program with what columns borrow.
pub(super) struct Subject {
    pub(super) program: BenchProgram,
    pub(super) trusted: Trusted,
    pub(super) block: Vec<u8>,
    pub(super) for_rbpf: Vec<u8>,
    pub(super) for_sbpf: Vec<u8>,
}

impl Subject {
    /// The empty program and the ten.
    pub(super) fn all() -> Result<Vec<Self>, Error> {
        [EMPTY].into_iter().chain(PROGRAMS).map(Self::new).collect()
    }

    fn new(program: BenchProgram) -> Result<Self, Error> {
        let flat = peers::with_length(&program.flat()?)?;
        Ok(Self {
            program,
            trusted: Trusted::new(&program)?,
            block: program.block(),
            for_rbpf: peers::bytes(&flat)?,
            for_sbpf: peers::bytes(&peers::zero_extended(&flat)?)?,
        })
    }
}

/// The two native columns, where there is a clang.
pub(super) fn native_columns<'a>(
    program: &BenchProgram,
    clang: Option<&Clang>,
) -> Result<Vec<Column<'a>>, Error> {
    let Some(clang) = clang else { return Ok(Vec::new()) };
    let column = |(name, flavour)| {
        let native = Native::new(clang, program, flavour)?;
        let mut memory = Memory::new(&program.block());
        Ok(Column { name, run: Box::new(move || native.run(&mut memory)), comparable: true })
    };
    [(O2, Flavour::O2), (SCALAR, Flavour::Scalar)].into_iter().map(column).collect()
}

/// The times of all programs and of the empty one.
pub(super) struct Times {
    pub(super) cells: Vec<Cell>,
}

/// One column over another, program by program.
pub(super) struct Ratio {
    over: &'static str,
    under: &'static str,
    by_program: Vec<(&'static str, f64)>,
}

impl Times {
    /// Measures the programs one after another, each with the columns that `columns` makes for it.
    pub(super) fn measure<'a>(
        subjects: &'a [Subject],
        columns: impl Fn(&'a Subject) -> Result<Vec<Column<'a>>, Error>,
        effort: Effort,
    ) -> Result<Self, Error> {
        let mut cells = Vec::new();
        for subject in subjects {
            let columns = columns(subject)?;
            let name = subject.program.name.to_string();
            let mut workload = Workload { name, units_per_run: 1, unit: "ns", columns };
            cells.extend(measure(&mut workload, effort.finer()));
        }
        Ok(Self { cells })
    }

    /// Time of a program, as measured.
    pub(super) fn gross(&self, program: &str, column: &str) -> Option<f64> {
        let here = |cell: &&Cell| cell.workload == program && cell.column == column;
        self.cells.iter().find(here).map(|cell| cell.value)
    }

    /// Time of a program, less that of the empty one; at least a tenth of a nanosecond.
    fn net(&self, program: &str, column: &str) -> Option<f64> {
        Some((self.gross(program, column)? - self.gross(EMPTY.name, column)?).max(0.1))
    }

    /// `over / under` for the programs that `programs` chooses; nothing where either column was not
    /// measured.
    pub(super) fn ratio(
        &self,
        over: &'static str,
        under: &'static str,
        programs: impl Fn(&str) -> bool,
    ) -> Option<Ratio> {
        let chosen = PROGRAMS.iter().map(|program| program.name).filter(|name| programs(name));
        let by_program = chosen
            .map(|name| Some((name, self.net(name, over)? / self.net(name, under)?)))
            .collect::<Option<Vec<_>>>()?;
        Some(Ratio { over, under, by_program })
    }

    /// A bar a column: how many times as long as [`SCALAR`] it needs, as geometric mean; nothing where
    /// that was not measured.
    pub(super) fn plot(&self, columns: &[&'static str]) -> Option<String> {
        const WIDTH: f64 = 50.0;
        let bars: Vec<(&str, f64)> = columns
            .iter()
            .filter_map(|column| Some((*column, self.ratio(column, SCALAR, |_| true)?.geomean())))
            .collect();
        if bars.is_empty() {
            return None;
        }
        let longest = bars.iter().map(|(_, value)| *value).fold(1.0, f64::max);
        let mut text = format!("times as long as `{SCALAR}`, geometric mean:\n");
        for (column, value) in bars {
            let bar = "#".repeat((value / longest * WIDTH).round() as usize);
            let _ = writeln!(text, "  {column:<12} {bar} {value:.2}");
        }
        Some(text)
    }
}

impl Ratio {
    pub(super) fn geomean(&self) -> f64 {
        geomean(self.by_program.iter().map(|(_, ratio)| *ratio))
    }

    /// The geometric mean as a claim.
    pub(super) fn claim(&self, name: &'static str, goal: Goal) -> Claim {
        Claim { name, value: self.geomean(), goal }
    }

    /// Smallest and largest, with their programs.
    pub(super) fn range(&self) -> String {
        let by_ratio = |a: &&(_, f64), b: &&(_, f64)| a.1.total_cmp(&b.1);
        let (Some((low, min)), Some((high, max))) =
            (self.by_program.iter().min_by(by_ratio), self.by_program.iter().max_by(by_ratio))
        else {
            return format!("{}/{}: of no program", self.over, self.under);
        };
        let Self { over, under, .. } = self;
        format!("{over} over {under}: from {min:.2} ({low}) to {max:.2} ({high})")
    }
}

/// Adds the claim and the range of a ratio, or says that it was not measured.
pub(super) fn add_claim(report: &mut Report, ratio: Option<Ratio>, name: &'static str, goal: Goal) {
    match ratio {
        Some(ratio) => {
            report.notes.push(ratio.range());
            report.claims.push(ratio.claim(name, goal));
        }
        None => report.notes.push(format!("{name}: not measured")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(cells: &[(&str, &'static str, f64)]) -> Times {
        let cell = |&(workload, column, value): &(&str, _, _)| Cell {
            workload: workload.to_string(),
            column,
            value,
            unit: "ns",
        };
        Times { cells: cells.iter().map(cell).collect() }
    }

    #[test]
    fn ratios_are_of_times_less_the_empty_call() {
        let times = times(&[
            ("empty", "a", 10.0),
            ("empty", "b", 2.0),
            ("sieve", "a", 50.0),
            ("sieve", "b", 12.0),
            ("crc32", "a", 20.0),
            ("crc32", "b", 12.0),
        ]);
        let ratio = times.ratio("a", "b", |name| ["sieve", "crc32"].contains(&name)).unwrap();
        assert!((ratio.geomean() - 2.0).abs() < 1e-9);
        assert_eq!(ratio.range(), "a over b: from 1.00 (crc32) to 4.00 (sieve)");
        assert!(times.ratio("a", "c", |name| name == "sieve").is_none());
        assert!(times.ratio("a", "b", |name| name == "calls").is_none());
    }
}
