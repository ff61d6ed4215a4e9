//! How things are measured.

use std::time::{Duration, Instant};

/// One way of doing a workload.
pub struct Column<'a> {
    /// What the table calls it.
    pub name: &'static str,
    /// Does the work once; gives a number that depends on its result.
    pub run: Box<dyn FnMut() -> u64 + 'a>,
    /// Whether the number must be that of the other columns with this flag.
    pub comparable: bool,
}

/// Something to do, in several ways.
pub struct Workload<'a> {
    /// What the table calls it.
    pub name: String,
    /// What one run is divided by: instructions, packets, ...
    pub units_per_run: u64,
    /// The unit of the cells.
    pub unit: &'static str,
    /// The ways.
    pub columns: Vec<Column<'a>>,
}

/// One measured number.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// The workload.
    pub workload: String,
    /// The way of doing it.
    pub column: &'static str,
    /// Fastest round, divided by the workload's units.
    pub value: f64,
    /// Unit of the value.
    pub unit: &'static str,
}

/// How long a measurement takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// Rounds, in each of which every column has its turn.
    pub rounds: u32,
    /// Least time of one turn.
    pub turn: Duration,
}

impl Effort {
    /// For numbers that are to be quoted.
    pub const FULL: Self = Self { rounds: 15, turn: Duration::from_millis(20) };
    /// For a look.
    pub const QUICK: Self = Self { rounds: 3, turn: Duration::from_millis(5) };

    /// The same time in ten times as many turns: for short runs on a machine that others use too,
    /// where a long turn is hardly ever undisturbed.
    #[must_use]
    pub fn finer(self) -> Self {
        Self { rounds: self.rounds * 10, turn: self.turn / 10 }
    }
}

/// Keeps this thread on one core, so that rounds see the same caches and clock.
///
/// # Errors
/// The system refuses it.
pub fn pin_to_one_core() -> std::io::Result<()> {
    use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};
    let mut cores = CpuSet::new();
    cores.set(sched_getcpu());
    sched_setaffinity(None, &cores)?;
    Ok(())
}

/// Measures a workload: the columns take turns, and the fastest turn of each counts, because
/// everything that disturbs only adds time.
///
/// # Panics
/// Comparable columns come to different results, or one column does from run to run.
pub fn measure(workload: &mut Workload<'_>, effort: Effort) -> Vec<Cell> {
    let repeats: Vec<u32> =
        workload.columns.iter_mut().map(|column| repeats(column, effort.turn)).collect();
    check_results(workload);
    let mut best = vec![f64::INFINITY; workload.columns.len()];
    for _ in 0..effort.rounds {
        for ((column, &repeats), best) in workload.columns.iter_mut().zip(&repeats).zip(&mut best) {
            let start = Instant::now();
            for _ in 0..repeats {
                std::hint::black_box((column.run)());
            }
            *best = best.min(start.elapsed().as_nanos() as f64 / f64::from(repeats));
        }
    }
    let cell = |(column, best): (&Column<'_>, f64)| Cell {
        workload: workload.name.clone(),
        column: column.name,
        value: best / workload.units_per_run as f64,
        unit: workload.unit,
    };
    workload.columns.iter().zip(best).map(cell).collect()
}

/// How often a column runs in one turn.
fn repeats(column: &mut Column<'_>, turn: Duration) -> u32 {
    let mut repeats = 1;
    loop {
        let start = Instant::now();
        for _ in 0..repeats {
            std::hint::black_box((column.run)());
        }
        if start.elapsed() >= turn || repeats > u32::MAX / 2 {
            return repeats;
        }
        repeats *= 2;
    }
}

fn check_results(workload: &mut Workload<'_>) {
    let mut agreed: Option<(&'static str, u64)> = None;
    for column in &mut workload.columns {
        let result = (column.run)();
        assert_eq!(result, (column.run)(), "{}: {} changes", workload.name, column.name);
        if !column.comparable {
            continue;
        }
        let (first, expected) = *agreed.get_or_insert((column.name, result));
        assert_eq!(
            result, expected,
            "{}: {} and {first} come to different results",
            workload.name, column.name
        );
    }
}
