//! What a group measured, as a table or as JSON.

use std::fmt::Write;

use serde_json::json;

use crate::harness::Cell;

/// The outcome of a group.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// The measured numbers.
    pub cells: Vec<Cell>,
    /// What is said about them.
    pub claims: Vec<Claim>,
    /// What could not be measured here, and why; remarks; plots. Printed below the table.
    pub notes: Vec<String>,
}

impl From<Vec<Cell>> for Report {
    fn from(cells: Vec<Cell>) -> Self {
        Self { cells, ..Self::default() }
    }
}

impl Report {
    /// The number in a cell.
    #[must_use]
    pub fn value(&self, workload: &str, column: &str) -> Option<f64> {
        let here = |cell: &&Cell| cell.workload == workload && cell.column == column;
        self.cells.iter().find(here).map(|cell| cell.value)
    }
}

/// A number that the project promises, with the goal that it is held against.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// Its name. One of the form `x/y` is the figure of x over that of y; one that ends in `-ns` is
    /// in nanoseconds.
    pub name: &'static str,
    /// What was measured.
    pub value: f64,
    /// What is promised.
    pub goal: Goal,
}

/// The range that a claim's value must lie in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
}

impl Claim {
    /// Whether the value reaches the goal.
    #[must_use]
    pub fn holds(&self) -> bool {
        match self.goal {
            Goal::AtMost(most) => self.value <= most,
            Goal::AtLeast(least) => self.value >= least,
        }
    }
}

impl Goal {
    const fn number(self) -> f64 {
        match self {
            Self::AtMost(number) | Self::AtLeast(number) => number,
        }
    }
}

/// The geometric mean, which is how ratios over several workloads are brought together; 1 for none.
#[must_use]
pub fn geomean(ratios: impl IntoIterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0_u32);
    for ratio in ratios {
        sum += ratio.ln();
        count += 1;
    }
    (sum / f64::from(count.max(1))).exp()
}

/// The cells as a table, a row a workload and a column a column; below it the claims and notes.
#[must_use]
pub fn table(group: &str, report: &Report) -> String {
    let mut text = cell_table(group, &report.cells);
    for claim in &report.claims {
        let (relation, goal) = match claim.goal {
            Goal::AtMost(goal) => ('≤', goal),
            Goal::AtLeast(goal) => ('≥', goal),
        };
        let holds = if claim.holds() { "holds" } else { "does not hold" };
        let _ =
            writeln!(text, "{:<28}{:>10.3}  {relation} {goal:<8} {holds}", claim.name, claim.value);
    }
    for note in &report.notes {
        let _ = writeln!(text, "{note}");
    }
    text
}

fn cell_table(group: &str, cells: &[Cell]) -> String {
    let mut columns: Vec<&str> = Vec::new();
    let mut workloads: Vec<(&str, &str)> = Vec::new();
    for cell in cells {
        if !columns.contains(&cell.column) {
            columns.push(cell.column);
        }
        if !workloads.contains(&(&cell.workload, cell.unit)) {
            workloads.push((&cell.workload, cell.unit));
        }
    }
    let mut text = format!("{group:<24}");
    for column in &columns {
        let _ = write!(text, "{column:>12}");
    }
    text.push('\n');
    for (workload, unit) in workloads {
        let _ = write!(text, "{workload:<24}");
        for column in &columns {
            let find = |cell: &&Cell| cell.workload == workload && cell.column == *column;
            match cells.iter().find(find) {
                Some(cell) => {
                    let _ = write!(text, "{:>12.2}", cell.value);
                }
                None => text.push_str("           -"),
            }
        }
        let _ = writeln!(text, "  {unit}");
    }
    text
}

/// Cells and claims as JSON, an object a line.
#[must_use]
pub fn json_lines(group: &str, report: &Report) -> String {
    let mut text = String::new();
    for cell in &report.cells {
        let line = json!({
            "group": group,
            "workload": cell.workload,
            "column": cell.column,
            "value": cell.value,
            "unit": cell.unit,
        });
        let _ = writeln!(text, "{line}");
    }
    for claim in &report.claims {
        let line = json!({
            "group": group,
            "claim": claim.name,
            "value": claim.value,
            "goal": claim.goal.number(),
            "holds": claim.holds(),
        });
        let _ = writeln!(text, "{line}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_holds_on_its_side_of_the_goal() {
        let claim = |value, goal| Claim { name: "x/y", value, goal };
        assert!(claim(2.0, Goal::AtMost(2.0)).holds());
        assert!(!claim(2.1, Goal::AtMost(2.0)).holds());
        assert!(claim(2.0, Goal::AtLeast(2.0)).holds());
        assert!(!claim(1.9, Goal::AtLeast(2.0)).holds());
    }

    #[test]
    fn the_geometric_mean_of_a_number_and_its_inverse_is_one() {
        assert!((geomean([4.0, 0.25]) - 1.0).abs() < 1e-12);
        assert!((geomean([2.0, 8.0]) - 4.0).abs() < 1e-12);
        assert!((geomean([]) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn claims_follow_the_cells_in_json() {
        let cell = Cell { workload: "w".into(), column: "c", value: 1.5, unit: "ns" };
        let claim = Claim { name: "x/y", value: 3.0, goal: Goal::AtMost(2.0) };
        let report = Report { cells: vec![cell], claims: vec![claim], notes: vec!["-".into()] };
        let expected = "\
{\"group\":\"g\",\"workload\":\"w\",\"column\":\"c\",\"value\":1.5,\"unit\":\"ns\"}
{\"group\":\"g\",\"claim\":\"x/y\",\"value\":3.0,\"goal\":2.0,\"holds\":false}
";
        assert_eq!(json_lines("g", &report), expected);
    }
}
