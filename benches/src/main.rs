//! `ebpf-benches GROUP [--quick] [--json]`, as `cargo xtask bench` runs it.
#![forbid(unsafe_code)]

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use ebpf_benches::{Counting, Effort, GROUPS, json_lines, pin_to_one_core, table};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(text) => match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &[String]) -> Result<String, Box<dyn std::error::Error>> {
    let (mut effort, mut json, mut name) = (Effort::FULL, false, None);
    for argument in arguments {
        match argument.as_str() {
            "--quick" => effort = Effort::QUICK,
            "--json" => json = true,
            other if name.is_none() && !other.starts_with('-') => name = Some(other),
            other => return Err(format!("unexpected `{other}`; {}", usage()).into()),
        }
    }
    let name = name.ok_or_else(usage)?;
    let group = GROUPS
        .iter()
        .find(|group| group.name == name)
        .ok_or_else(|| format!("no group `{name}`; {}", usage()))?;
    if group.fresh_memory && std::env::var_os(MMAP_THRESHOLD).is_none() {
        // The allocator reads its environment when a process starts.
        let program = std::env::current_exe()?;
        let mut again = std::process::Command::new(program);
        return Err(again.args(arguments).env(MMAP_THRESHOLD, "131072").exec().into());
    }
    pin_to_one_core()?;
    let report = (group.run)(effort)?;
    Ok(if json { json_lines(name, &report) } else { table(name, &report) })
}

/// glibc: allocations of this many bytes come from the system and go back to it.
const MMAP_THRESHOLD: &str = "MALLOC_MMAP_THRESHOLD_";

fn usage() -> String {
    let groups: Vec<String> =
        GROUPS.iter().map(|group| format!("{} ({})", group.name, group.about)).collect();
    format!("usage: GROUP [--quick] [--json]; groups: {}", groups.join(", "))
}
