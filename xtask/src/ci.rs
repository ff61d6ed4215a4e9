//! `cargo xtask ci`: everything that must hold before a change goes in; exactly what CI runs.
//!
//! Quick steps come first. All cargo steps share one target directory and one set of flags, so each
//! compiles only what the earlier ones did not.

use std::io::{BufRead, BufReader, IsTerminal as _, Read, Write};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::TaskError;
use crate::{policy, say};

/// How tests and tasks begin the line that says what was not measured.
const SKIP_MARK: &str = "skipped: ";

/// A step: a command that must succeed.
struct Step {
    name: String,
    command: Command,
}

/// What a step left out, and why.
struct Skip {
    step: String,
    why: String,
}

/// Runs all steps; stops at the first that fails.
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    if !arguments.is_empty() {
        return Err(TaskError::Usage("ci takes no arguments".into()));
    }
    let start = Instant::now();
    let (steps, mut skips) = steps()?;
    for mut step in steps {
        say(&format!("=== {}", step.name));
        let start = Instant::now();
        let found = run_step(&mut step.command)
            .map_err(|why| TaskError::Failed(format!("ci step `{}` failed: {why}", step.name)))?;
        say(&format!("=== {}: {}", step.name, seconds(start.elapsed())));
        let of_step = |why| Skip { step: step.name.clone(), why };
        skips.extend(found.into_iter().map(of_step));
    }
    say(&format!("=== all steps passed: {}", seconds(start.elapsed())));
    say(&format!("{} skipped", skips.len()));
    for Skip { step, why } in &skips {
        say(&format!("  {step}: {why}"));
    }
    Ok(())
}

/// All steps, and those that cannot be run here.
fn steps() -> Result<(Vec<Step>, Vec<Skip>), TaskError> {
    let mut steps = vec![
        cargo_step("fmt", &["fmt", "--all", "--check"]),
        own_step("tidy", &["tidy"])?,
        own_step("fixtures", &["fixtures", "--check"])?,
        own_step("pcap", &["pcap", "--check"])?,
        own_step("parity", &["parity"])?,
        cargo_step("clippy", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    ];
    steps.extend(no_std_crates().map(|name| {
        let arguments = ["check", "--package", name, "--no-default-features"];
        cargo_step(&format!("no_std {name}"), &arguments)
    }));
    let mut doc = cargo_step("doc", &["doc", "--workspace", "--no-deps"]);
    doc.command.env("RUSTDOCFLAGS", "-D warnings");
    let mut test = cargo_step("test", &["test", "--workspace"]);
    test.command.env("INSTA_UPDATE", "no").env_remove("BLESS").env_remove("FIXTURE");
    let examples = cargo_step("examples", &["build", "--workspace", "--examples"]);
    // Any file is a packet.
    let (filter, packet) = ("fixtures/classic/port_22.ddd", "fixtures/classic/port_22.txt");
    let run = ["run", "--package", "ebpf-runtime", "--example", "filter_buffer", filter, packet];
    let example = cargo_step("example filter_buffer", &run);
    steps.extend([test, threaded()]);
    steps.extend([own_step("conformance", &["conformance"])?, own_step("corpus", &["corpus"])?]);
    steps.push(own_step("soundness", &["soundness", "--check"])?);
    steps.extend([examples, example, doc]);
    let mut skips = Vec::new();
    match libpcap() {
        Ok(libpcap) => steps.extend(libpcap),
        Err(skip) => skips.push(skip),
    }
    Ok((steps, skips))
}

/// Expressions of tcpdump, a feature that needs a library of the system.
fn libpcap() -> Result<[Step; 2], Skip> {
    let (name, package) = ("libpcap", ["--package", "ebpf-cli", "--features", "libpcap"]);
    let found = Command::new("pkg-config").args(["--exists", "libpcap"]).status();
    if !found.is_ok_and(|status| status.success()) {
        let why = "pkg-config knows no libpcap; install libpcap-dev".to_string();
        return Err(Skip { step: name.to_string(), why });
    }
    let clippy = [&["clippy"], &package[..], &["--all-targets", "--", "-D", "warnings"]].concat();
    let test = [&["test"], &package[..], &["--test", "cli", "filter"]].concat();
    Ok([clippy, test].map(|arguments| cargo_step(name, &arguments)))
}

/// The interpreter as it is in optimised builds, over its tests and the fixtures. Fails if handlers
/// do not jump to one another there.
fn threaded() -> Step {
    let packages = ["--package", "ebpf-interp", "--package", "ebpf-runtime"];
    let tests = ["--lib", "--test", "*"];
    let arguments = [&["test", "--profile", "threaded"], &packages[..], &tests[..]].concat();
    let mut step = cargo_step("threaded dispatcher", &arguments);
    step.command.env("EXPECTED_DISPATCHER", "Threaded");
    step
}

/// The crates that promise to build without the standard library, as far as they exist.
fn no_std_crates() -> impl Iterator<Item = &'static str> {
    let exists = |name: &&str| ebpf_testkit::workspace_root().join("crates").join(name).is_dir();
    let crates = policy::CRATES.iter().filter(|policy| policy.no_std);
    crates.map(|policy| policy.name).filter(exists)
}

/// Cargo, at the root of the workspace.
pub(crate) fn cargo() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(ebpf_testkit::workspace_root());
    command
}

fn cargo_step(name: &str, arguments: &[&str]) -> Step {
    let mut command = cargo();
    command.args(arguments);
    if std::io::stderr().is_terminal() {
        // The output goes through a pipe, where cargo would leave colours out.
        command.env("CARGO_TERM_COLOR", "always");
    }
    Step { name: name.to_string(), command }
}

/// A command of this program.
fn own_step(name: &str, arguments: &[&str]) -> Result<Step, TaskError> {
    let this = std::env::current_exe()
        .map_err(|error| TaskError::Failed(format!("cannot find this program: {error}")))?;
    let mut command = Command::new(this);
    command.args(arguments);
    Ok(Step { name: name.to_string(), command })
}

/// Runs the command, passes its output on, and returns what it says it skipped.
fn run_step(command: &mut Command) -> Result<Vec<String>, String> {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let stdout = child.stdout.take().expect("the output is a pipe");
    let stderr = child.stderr.take().expect("the error output is a pipe");
    let stdout = thread::spawn(move || pass_on(stdout, std::io::stderr()));
    let mut skips = pass_on(stderr, std::io::stderr());
    skips.extend(stdout.join().expect("passing lines on does not panic"));
    let status = child.wait().map_err(|error| error.to_string())?;
    if status.success() { Ok(skips) } else { Err(status.to_string()) }
}

/// Passes lines on, and returns what they tell of skips.
fn pass_on(from: impl Read, mut to: impl Write) -> Vec<String> {
    let mut skips = Vec::new();
    for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
        // Nobody may be reading any more, which is no reason to fail.
        let _ = to.write_all(&[&line, &b"\n"[..]].concat());
        let text = String::from_utf8_lossy(&line);
        // The test harness may have begun the line with the name of the test.
        if let Some((_, why)) = text.split_once(SKIP_MARK) {
            skips.push(why.trim_end().to_string());
        }
    }
    skips
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_passed_on_and_skips_are_found() {
        let lines = "skipped: no clang\nfine \u{fe}\ntest a ... skipped: no kernel\n";
        let mut passed_on = Vec::new();
        let skips = pass_on(lines.as_bytes(), &mut passed_on);
        assert_eq!(skips, ["no clang", "no kernel"]);
        assert_eq!(passed_on, lines.as_bytes());
    }

    #[test]
    fn a_step_that_succeeds_has_skipped_nothing_it_does_not_tell() {
        assert_eq!(run_step(&mut Command::new("true")), Ok(vec![]));
    }

    #[test]
    fn a_failing_step_fails() {
        assert!(run_step(&mut Command::new("false")).is_err());
        assert!(run_step(&mut Command::new("no-such-program")).is_err());
    }

    #[test]
    fn every_no_std_crate_is_checked_alone() {
        let names: Vec<String> = steps().unwrap().0.into_iter().map(|step| step.name).collect();
        for name in ["isa", "image", "btf", "patch", "lower", "verifier", "interp"] {
            assert!(names.contains(&format!("no_std ebpf-{name}")), "{name}");
        }
    }
}
