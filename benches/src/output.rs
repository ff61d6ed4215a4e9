//! Tables and JSON.

use std::fmt::Write;

use serde_json::json;

use crate::harness::Cell;

/// The cells as a table: a row a workload, a column a column.
#[must_use]
pub fn table(group: &str, cells: &[Cell]) -> String {
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

/// The cells as JSON, an object a line.
#[must_use]
pub fn json_lines(group: &str, cells: &[Cell]) -> String {
    let mut text = String::new();
    for cell in cells {
        let line = json!({
            "group": group,
            "workload": cell.workload,
            "column": cell.column,
            "value": cell.value,
            "unit": cell.unit,
        });
        let _ = writeln!(text, "{line}");
    }
    text
}
