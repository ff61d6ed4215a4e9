//! What a run on packets came to.

use std::io::{self, Write};
use std::time::Duration;

use ebpf_runtime::{Engine, Loaded};
use serde_json::{Map, Value, json};

use crate::console::one_line;
use crate::input::Subject;
use crate::packets::{ACTIONS, Runs};
use crate::render::{json as verdict_json, maps, stack_depth, table};

/// Everything there is to say about a run.
///
/// In the form for people, what depends on the engine stands on lines that begin with `engine`,
/// what depends on the clock on lines that begin with `time`; all others are the same in every
/// run and on every engine.
pub(crate) struct Report<'a> {
    /// The file as it was named.
    pub(crate) file: &'a str,
    /// The program as it was given.
    pub(crate) subject: &'a Subject<'a>,
    /// The program as it ran.
    pub(crate) loaded: &'a Loaded,
    /// Time of loading.
    pub(crate) elapsed: Duration,
    /// What it did.
    pub(crate) runs: Runs,
}

impl Report<'_> {
    /// Writes the report for people.
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        self.write_program(out)?;
        self.write_times(out)?;
        writeln!(out)?;
        self.write_actions(out)?;
        for map in &self.loaded.bindings().maps {
            writeln!(out)?;
            maps::write(out, map)?;
        }
        Ok(())
    }

    fn write_program(&self, out: &mut impl Write) -> io::Result<()> {
        let (verified, rewritten) = (self.loaded.verified(), self.loaded.rewritten());
        let name = self.subject.name().unwrap_or("(no name)");
        let program_type = self.loaded.bindings().kind.rules().program_type();
        writeln!(out, "program   {} ({program_type}) of {}", one_line(name), one_line(self.file))?;
        writeln!(
            out,
            "verified  {} instructions processed, {} paths, stack depth {}",
            verified.stats().processed,
            verified.stats().paths,
            stack_depth(verified.facts())
        )?;
        writeln!(
            out,
            "loaded    {} instructions, {} after rewriting, {} subprograms",
            verified.program().len(),
            rewritten.program.len(),
            rewritten.program.subprogs().len()
        )?;
        match self.loaded.machine_code() {
            Some(code) => {
                let bytes = code.addresses.end - code.addresses.start;
                writeln!(out, "engine    jit, {bytes} bytes of code")
            }
            None => writeln!(out, "engine    interp, {} instructions executed", self.runs.executed),
        }
    }

    fn write_times(&self, out: &mut impl Write) -> io::Result<()> {
        let microseconds = self.elapsed.as_secs_f64() * 1e6;
        writeln!(out, "time      {microseconds:.0} us to verify and load")?;
        if let Some(ns) = self.runs.ns_per_packet() {
            writeln!(out, "time      {ns:.1} ns per packet")?;
        }
        Ok(())
    }

    fn write_actions(&self, out: &mut impl Write) -> io::Result<()> {
        let named = ACTIONS.iter().zip(self.runs.actions);
        let mut rows: Vec<(&str, u64)> =
            named.map(|(action, packets)| (action.name().unwrap_or_default(), packets)).collect();
        if self.runs.unknown != 0 {
            rows.push((UNKNOWN, self.runs.unknown));
        }
        rows.push(("total", self.runs.packets));
        table::write(out, ("action", "packets"), &rows)
    }

    /// The report as one object.
    pub(crate) fn json(&self) -> Value {
        let (verified, rewritten) = (self.loaded.verified(), self.loaded.rewritten());
        let bindings = self.loaded.bindings();
        let code = self.loaded.machine_code().map(|code| {
            json!({
                "start": format!("{:#x}", code.addresses.start),
                "end": format!("{:#x}", code.addresses.end),
                "bytes": code.addresses.end - code.addresses.start,
            })
        });
        let executed = (self.loaded.engine() == Engine::Interp).then_some(self.runs.executed);
        json!({
            "file": self.file,
            "prog": self.subject.name(),
            "section": self.subject.section(),
            "type": bindings.kind.rules().program_type().name(),
            "engine": self.loaded.engine().name(),
            "code": code,
            "executed": executed,
            "insns": verified.program().len(),
            "xlated_insns": rewritten.program.len(),
            "subprograms": rewritten.program.subprogs().len(),
            "verification": verdict_json::verification(verified.stats(), verified.facts()),
            "packets": self.runs.packets,
            "actions": self.actions_json(),
            "maps": bindings.maps.iter().map(|map| maps::json(map)).collect::<Vec<_>>(),
            "load_usec": self.elapsed.as_micros() as u64,
            "run_ns": self.runs.time.as_nanos() as u64,
            "ns_per_packet": self.runs.ns_per_packet(),
            "profile": bindings.profile.name,
        })
    }

    fn actions_json(&self) -> Value {
        let named = ACTIONS.iter().zip(self.runs.actions);
        let mut actions: Map<String, Value> =
            named.map(|(action, packets)| (action.to_string(), Value::from(packets))).collect();
        if self.runs.unknown != 0 {
            actions.insert(UNKNOWN.to_owned(), Value::from(self.runs.unknown));
        }
        Value::Object(actions)
    }
}

/// Numbers that are no action.
const UNKNOWN: &str = "UNKNOWN";
