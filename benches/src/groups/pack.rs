//! Small programs in shared pages, beside a page for each program.

mod native;
mod neighbour;

use std::error::Error;
use std::time::{Duration, Instant};

use ebpf_runtime::pack::{CHUNK_BYTES, PAGE_BYTES, Pack, PackOptions, PackStats};

use super::GroupError;
use crate::counter::{Counter, Event};
use crate::harness::{Cell, Effort};
use crate::output::{Claim, Goal, Report};
use native::{Callable, Constant, own_pages, packed};

/// Length of a tiny program, in bytes.
const TINY: usize = 96;

/// Different images of a set.
const IMAGES: u32 = 16;

pub(super) fn run(effort: Effort) -> Result<Report, GroupError> {
    measure(effort).map_err(GroupError::new("pack"))
}

fn measure(effort: Effort) -> Result<Report, Box<dyn Error>> {
    let mut report = Report::default();
    // The larger the set, the fewer rounds are needed for a stable minimum, and the longer each takes.
    let set = |name, count, len, part| Set {
        name,
        count,
        len,
        rounds: effort.rounds.div_ceil(part),
        turn: effort.turn,
    };
    let sets = [
        set("10k", 10_000, TINY, 1),
        set("100k", 100_000, TINY, 5),
        set("10k of 1 KiB", 10_000, 1024, 3),
    ];
    for set in &sets {
        set.measure(&mut report)?;
    }
    runqslower(&mut report)?;
    place_and_link(effort, &mut report)?;
    free_with_barrier(effort, &mut report)?;
    soak(effort, &mut report)?;
    neighbour::measure(effort, &mut report)?;
    let ratio = |row: &str| {
        let value = |column| report.value(row, column).unwrap_or(f64::NAN);
        value("naive") / value("packed")
    };
    let claims = [("naive/pages", "10k: pages", 40.0), ("naive/alloc", "10k: alloc", 50.0)];
    let at_least = claims.map(|(name, row, goal)| claim(name, ratio(row), Goal::AtLeast(goal)));
    let calls = claim("naive/calls-10k", ratio("10k: in turn"), Goal::AtLeast(3.0));
    report.claims.splice(0..0, at_least.into_iter().chain([calls]));
    Ok(report)
}

fn claim(name: &'static str, value: f64, goal: Goal) -> Claim {
    Claim { name, value, goal }
}

fn cell(workload: impl Into<String>, column: &'static str, value: f64, unit: &'static str) -> Cell {
    Cell { workload: workload.into(), column, value, unit }
}

/// So many programs of one length.
struct Set {
    name: &'static str,
    count: usize,
    len: usize,
    rounds: u32,
    turn: Duration,
}

/// Repeats a way for as long as a turn lasts, at least once.
fn turn(
    way: &mut dyn FnMut() -> Result<Figures, Box<dyn Error>>,
    turn: Duration,
) -> Result<Figures, Box<dyn Error>> {
    let start = Instant::now();
    let mut best = way()?;
    while start.elapsed() < turn {
        best = best.least(way()?);
    }
    Ok(best)
}

/// What is measured of a set in one of the ways to place it. Times in nanoseconds a program, the fastest round of each.
#[derive(Debug, Clone, Copy)]
struct Figures {
    pages: f64,
    mappings: f64,
    alloc: f64,
    in_turn: f64,
    at_random: f64,
    free: f64,
    itlb_misses: Option<f64>,
}

/// One way to place a set: places, calls, and frees it once.
type Way<'a> = (&'static str, Box<dyn FnMut() -> Result<Figures, Box<dyn Error>> + 'a>);

impl Set {
    fn measure(&self, report: &mut Report) -> Result<(), Box<dyn Error>> {
        // As many images as stay in the cache: what is placed was compiled just before.
        let images: Vec<Constant> =
            (0..IMAGES).map(|index| Constant::straight(index << 8, self.len)).collect();
        let programs: Vec<&Constant> = images.iter().cycle().take(self.count).collect();
        let orders = Orders::new(&programs);
        let huge = PackOptions { huge_pages: true, ..PackOptions::default() };
        let mut ways: [Way<'_>; 4] = [
            ("naive", Box::new(|| once_naive(&programs, &orders, false))),
            ("guarded", Box::new(|| once_naive(&programs, &orders, true))),
            ("packed", Box::new(|| once_packed(&programs, &orders, PackOptions::default()))),
            ("huge", Box::new(|| once_packed(&programs, &orders, huge.clone()))),
        ];
        let mut best: [Option<Figures>; 4] = [None; 4];
        for _ in 0..self.rounds {
            for ((name, way), best) in ways.iter_mut().zip(&mut best) {
                match turn(way, self.turn) {
                    Ok(figures) => *best = Some(best.map_or(figures, |best| best.least(figures))),
                    // The system's limit on mappings, which is what is being compared.
                    Err(error) if *name == "guarded" => {
                        let note = format!("{} guarded: not measured: {error}", self.name);
                        if !report.notes.contains(&note) {
                            report.notes.push(note);
                        }
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        let figures = ways.iter().zip(best).filter_map(|((name, _), best)| Some((*name, best?)));
        for (name, figures) in figures {
            self.report(name, figures, report);
        }
        Ok(())
    }

    fn report(&self, column: &'static str, figures: Figures, report: &mut Report) {
        let rows = [
            ("pages", figures.pages, "pages of 4 KiB"),
            ("mappings", figures.mappings, "more lines in /proc/self/maps"),
            ("alloc", figures.alloc, "ns a program"),
            ("in turn", figures.in_turn, "ns a call"),
            ("at random", figures.at_random, "ns a call"),
            ("free", figures.free, "ns a program"),
        ];
        for (row, value, unit) in rows {
            report.cells.push(cell(format!("{}: {row}", self.name), column, value, unit));
        }
        let row = format!("{}: itlb", self.name);
        match figures.itlb_misses {
            Some(misses) => report.cells.push(cell(row, column, misses, "misses a call")),
            None => {
                let note = "iTLB misses: not measured: there is no such counter here".to_owned();
                if !report.notes.contains(&note) {
                    report.notes.push(note);
                }
            }
        }
    }
}

impl Figures {
    fn least(self, other: Self) -> Self {
        let least_misses = self.itlb_misses.zip(other.itlb_misses).map(|(a, b)| a.min(b));
        Self {
            pages: self.pages.min(other.pages),
            mappings: self.mappings.min(other.mappings),
            alloc: self.alloc.min(other.alloc),
            in_turn: self.in_turn.min(other.in_turn),
            at_random: self.at_random.min(other.at_random),
            free: self.free.min(other.free),
            itlb_misses: least_misses,
        }
    }
}

/// Orders in which a set is called, and what the calls add up to.
struct Orders {
    in_turn: Vec<u32>,
    at_random: Vec<u32>,
    sum: u64,
}

impl Orders {
    fn new(programs: &[&Constant]) -> Self {
        let in_turn: Vec<u32> = (0..programs.len() as u32).collect();
        let mut at_random = in_turn.clone();
        let mut numbers = Numbers(1);
        for index in (1..at_random.len()).rev() {
            at_random.swap(index, numbers.below(index + 1));
        }
        Self { in_turn, at_random, sum: programs.iter().map(|program| program.value).sum() }
    }

    /// Nanoseconds a call of each, and instruction TLB misses a call at random.
    fn call<K>(&self, programs: &Callable<K>) -> (f64, f64, Option<f64>) {
        let time = |order: &[u32]| {
            let mut best = f64::INFINITY;
            for _ in 0..3 {
                let start = Instant::now();
                assert_eq!(programs.call_all(order), self.sum, "each program returns its number");
                best = best.min(start.elapsed().as_nanos() as f64 / order.len() as f64);
            }
            best
        };
        let (in_turn, at_random) = (time(&self.in_turn), time(&self.at_random));
        let counter = Counter::start(Event::ItlbMisses).ok();
        programs.call_all(&self.at_random);
        let misses = counter.and_then(|counter| counter.count().ok());
        (in_turn, at_random, misses.map(|misses| misses as f64 / self.at_random.len() as f64))
    }
}

fn once_naive(
    programs: &[&Constant],
    orders: &Orders,
    guarded: bool,
) -> Result<Figures, Box<dyn Error>> {
    let before = mappings()?;
    let (placed, alloc) = timed(programs.len(), || own_pages(programs, guarded));
    let placed = placed?;
    let mappings = mappings()? - before;
    let (in_turn, at_random, itlb_misses) = orders.call(&placed);
    let ((), free) = timed(programs.len(), || drop(placed));
    let pages = programs.len() as f64;
    Ok(Figures { pages, mappings, alloc, in_turn, at_random, free, itlb_misses })
}

fn once_packed(
    programs: &[&Constant],
    orders: &Orders,
    options: PackOptions,
) -> Result<Figures, Box<dyn Error>> {
    let before = mappings()?;
    let pack = Pack::new(options)?;
    let (placed, alloc) = timed(programs.len(), || packed(&pack, programs));
    let placed = placed?;
    let mappings = mappings()? - before;
    let pages = pages(&pack.stats());
    let (in_turn, at_random, itlb_misses) = orders.call(&placed);
    let ((), free) = timed(programs.len(), || {
        drop(placed);
        drop(pack);
    });
    Ok(Figures { pages, mappings, alloc, in_turn, at_random, free, itlb_misses })
}

/// Physical pages of a pack, with its own account.
fn pages(stats: &PackStats) -> f64 {
    (stats.committed_bytes / PAGE_BYTES + stats.metadata_bytes.div_ceil(PAGE_BYTES)) as f64
}

/// The result, and nanoseconds a unit.
fn timed<T>(units: usize, work: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed().as_nanos() as f64 / units as f64)
}

/// Mappings of this process.
fn mappings() -> std::io::Result<f64> {
    Ok(std::fs::read_to_string("/proc/self/maps")?.lines().count() as f64)
}

/// The programs of the tool `runqslower`: three small probes and four tiny ones.
fn runqslower(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let programs = [512, 480, 320, 96, 64, 64, 48].map(|len| Constant::straight(0, len));
    let pack = Pack::new(PackOptions::default())?;
    let _placed = packed(&pack, &programs.each_ref())?;
    let unit = "pages of 4 KiB";
    report.cells.push(cell("seven programs", "naive", programs.len() as f64, unit));
    let committed = pack.stats().committed_bytes / PAGE_BYTES;
    report.cells.push(cell("seven programs", "packed", committed as f64, unit));
    Ok(())
}

/// An image with two calls into this binary.
fn place_and_link(effort: Effort, report: &mut Report) -> Result<(), Box<dyn Error>> {
    const COUNT: usize = 10_000;
    let image = Constant::calling();
    let programs = vec![&image; COUNT];
    let (mut place, mut free, mut again) = (f64::INFINITY, f64::INFINITY, f64::INFINITY);
    for _ in 0..effort.rounds {
        let pack = Pack::new(PackOptions::default())?;
        let (placed, time) = timed(COUNT, || packed(&pack, &programs));
        place = place.min(time);
        let placed = placed?;
        assert_eq!(placed.call(COUNT / 2), programs[0].value);
        free = free.min(timed(COUNT, || drop(placed)).1);
        // All of it rests, so the first of these waits for the barrier; the memory is there.
        let (placed, time) = timed(COUNT, || packed(&pack, &programs));
        drop(placed?);
        again = again.min(time);
    }
    for (row, value) in
        [("place and link", place), ("place again", again), ("free, no barrier", free)]
    {
        report.cells.push(cell(row, "packed", value, "ns a program"));
    }
    report.claims.push(claim("place-link-ns", place, Goal::AtMost(300.0)));
    Ok(())
}

/// Frees a program and places another where there is no other room: each time all cores have to serialize in between.
fn free_with_barrier(effort: Effort, report: &mut Report) -> Result<(), Box<dyn Error>> {
    const STEPS: usize = 1000;
    let chunk = Constant::straight(0, CHUNK_BYTES);
    let pack = Pack::new(PackOptions { arena_bytes: PAGE_BYTES, ..PackOptions::default() })?;
    let mut placed = Vec::new();
    while placed.len() < PAGE_BYTES / CHUNK_BYTES {
        placed.push(chunk.place(&pack)?);
    }
    let mut best = f64::INFINITY;
    for _ in 0..effort.rounds {
        let before = pack.stats().barriers;
        let (result, time) = timed(STEPS, || -> Result<(), Box<dyn Error>> {
            for step in 0..STEPS {
                drop(placed.swap_remove(step * 7 % placed.len()));
                placed.push(chunk.place(&pack)?);
            }
            Ok(())
        });
        result?;
        assert_eq!(pack.stats().barriers - before, STEPS as u64, "one barrier a step");
        best = best.min(time);
    }
    report.cells.push(cell("free, barrier, place", "packed", best, "ns a program"));
    Ok(())
}

/// Places and frees programs of mixed lengths at random, around a constant sum of their lengths.
fn soak(effort: Effort, report: &mut Report) -> Result<(), Box<dyn Error>> {
    const LIVE_BYTES: usize = 4 << 20;
    let steps = if effort == Effort::QUICK { 100_000 } else { 1_000_000 };
    // Lengths from 32 to 4096 bytes, each power of two as often as any other.
    let mut numbers = Numbers(7);
    let programs: Vec<Constant> = (0..512)
        .map(|_| {
            let power = 5 + numbers.below(7);
            Constant::straight(0, (1 << power) + numbers.below(1 << power))
        })
        .collect();
    let longest = programs.iter().map(Constant::len).max().unwrap_or(0);
    let pack = Pack::new(PackOptions::default())?;
    let (mut live, mut live_bytes) = (Vec::new(), 0);
    let (mut least, mut sum, mut samples, mut pieces) = (f64::INFINITY, 0.0, 0.0, 0.0_f64);
    let start = Instant::now();
    for step in 0..steps {
        if live_bytes < LIVE_BYTES {
            let program = &programs[numbers.below(programs.len())];
            live.push((program.len(), program.place(&pack)?));
            live_bytes += program.len();
        } else {
            live_bytes -= live.swap_remove(numbers.below(live.len())).0;
        }
        if step >= steps / 10 && step % 1000 == 0 {
            let stats = pack.stats();
            let utilisation = stats.placed_bytes as f64 / stats.committed_bytes as f64;
            least = least.min(utilisation);
            sum += utilisation;
            samples += 1.0;
            pieces = pieces.max(stats.fragmentation());
        }
    }
    let time = start.elapsed().as_nanos() as f64 / f64::from(steps);
    let stats = pack.stats();
    let barriers = stats.barriers as f64 / f64::from(steps) * 1000.0;
    for (row, value, unit) in [
        ("soak: utilisation", sum / samples, "of the memory, mean"),
        ("soak: at least", least, "of the memory"),
        ("soak: fragmentation", pieces, "of what is free, at most"),
        ("soak: step", time, "ns a place or free"),
        ("soak: barriers", barriers, "a thousand steps"),
    ] {
        report.cells.push(cell(row, "packed", value, unit));
    }
    report.notes.push(format!(
        "soak: {steps} steps, lengths from 32 to {longest} bytes, {} KiB at the end; rounding up \
         to chunks counts as unused",
        stats.committed_bytes / 1024
    ));
    report.claims.push(claim("soak-utilisation", least, Goal::AtLeast(0.85)));
    Ok(())
}

/// Numbers that look random: xorshift.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}
