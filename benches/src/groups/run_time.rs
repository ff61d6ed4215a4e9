//! What the groups that run the benchmark programs share: the same columns for each program, less what
//! they need for the empty one, as ratios.

use std::fmt::Write as _;

use crate::harness::{Cell, Column, Effort, Workload, measure};
use crate::output::{Claim, Goal, geomean};
use crate::programs::{BenchProgram, EMPTY, PROGRAMS};

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
    pub(super) fn measure<'a, S: 'a>(
        subjects: &'a [S],
        program: impl Fn(&S) -> BenchProgram,
        columns: impl Fn(&'a S) -> Result<Vec<Column<'a>>, Box<dyn std::error::Error>>,
        effort: Effort,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let mut cells = Vec::new();
        for subject in subjects {
            let columns = columns(subject)?;
            let name = program(subject).name.to_string();
            let mut workload = Workload { name, units_per_run: 1, unit: "ns", columns };
            cells.extend(measure(&mut workload, effort));
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

    /// A bar a column: how many times as long as `unit` it needs, as geometric mean.
    pub(super) fn plot(&self, columns: &[&'static str], unit: &'static str) -> String {
        const WIDTH: f64 = 50.0;
        let bars: Vec<(&str, f64)> = columns
            .iter()
            .filter_map(|column| Some((*column, self.ratio(column, unit, |_| true)?.geomean())))
            .collect();
        let longest = bars.iter().map(|(_, value)| *value).fold(1.0, f64::max);
        let mut text = format!("times as long as `{unit}`, geometric mean:\n");
        for (column, value) in bars {
            let bar = "#".repeat((value / longest * WIDTH).round() as usize);
            let _ = writeln!(text, "  {column:<12} {bar} {value:.2}");
        }
        text
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
pub(super) fn add_claim(
    report: &mut crate::output::Report,
    ratio: Option<Ratio>,
    name: &'static str,
    goal: Goal,
) {
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
