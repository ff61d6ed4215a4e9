//! The tasks of this workspace: `cargo xtask COMMAND`. One file per command.
#![forbid(unsafe_code)]

mod bench;
mod bless;
mod ci;
mod concrete;
mod conformance;
mod corpus;
mod domain;
mod error;
mod fixtures;
mod fuzz;
mod miri;
mod oracle;
mod parity;
mod pcap;
mod policy;
mod soundness;
mod stats;
mod tidy;

use std::process::ExitCode;

use error::TaskError;

/// A task.
struct Command {
    name: &'static str,
    arguments: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Result<(), TaskError>,
}

const COMMANDS: [Command; 16] = [
    Command {
        name: "ci",
        arguments: "",
        about: "everything that must hold before a change goes in",
        run: ci::run,
    },
    Command {
        name: "tidy",
        arguments: "",
        about: "check layers, manifests, licences, and the form of files",
        run: tidy::run,
    },
    Command {
        name: "bless",
        arguments: "[FILTER]",
        about: "run the tests and write what they see into fixtures and snapshots",
        run: bless::run,
    },
    Command {
        name: "bench",
        arguments: "GROUP [--quick] [--json] [--record]",
        about: "measure a group of workloads",
        run: bench::run,
    },
    Command {
        name: "concrete",
        arguments: "[--cases N] [--corpus DIR]",
        about: "run programs beside the states that the verifier explored",
        run: concrete::run,
    },
    Command {
        name: "conformance",
        arguments: "[--suite DIR] [--engine interp|jit]",
        about: "run fixtures/exec, or a directory of .data files, through the conformance plugin",
        run: conformance::run,
    },
    Command {
        name: "corpus",
        arguments: "[--build] [--record] [--dir DIR] [--differences]",
        about: "judge the kernel's own test programs, and compare with the running kernel",
        run: corpus::run,
    },
    Command {
        name: "domain",
        arguments: "[--pairs N] [--seed S]",
        about: "compare what we know of numbers with the running kernel, bounds for bounds",
        run: domain::run,
    },
    Command {
        name: "fixtures",
        arguments: "[--check]",
        about: "compile the C fixtures, or check the committed objects",
        run: fixtures::run,
    },
    Command {
        name: "fuzz",
        arguments: "TARGET [--seconds N] [--seed S]",
        about: "generated input for decode, asm, object or engines",
        run: fuzz::run,
    },
    Command {
        name: "miri",
        arguments: "",
        about: "the interpreter's tests under Miri",
        run: miri::run,
    },
    Command {
        name: "oracle",
        arguments: "[FILE.jsonl…] [--log-level N]",
        about: "what the running kernel says about cases, one JSON line each",
        run: oracle::run,
    },
    Command {
        name: "parity",
        arguments: "",
        about: "which instructions and operand forms the fixtures do not execute",
        run: parity::run,
    },
    Command {
        name: "pcap",
        arguments: "[--check]",
        about: "write the captures of fixtures/xdp, or check them",
        run: pcap::run,
    },
    Command {
        name: "soundness",
        arguments: "[--check]",
        about: "prove the scalar domain and write the table of proofs, or check it",
        run: soundness::run,
    },
    Command {
        name: "stats",
        arguments: "[FILE…]",
        about: "what is fused in the programs of object files",
        run: stats::run,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error}"));
            ExitCode::from(exit_code(&error))
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<(), TaskError> {
    let Some((name, rest)) = arguments.split_first() else {
        return Err(TaskError::Usage(format!("no command\n{}", usage())));
    };
    match COMMANDS.iter().find(|command| command.name == name) {
        Some(command) => (command.run)(rest),
        None => Err(TaskError::Usage(format!("no command `{name}`\n{}", usage()))),
    }
}

fn exit_code(error: &TaskError) -> u8 {
    match error {
        TaskError::Usage(_) => 2,
        TaskError::Kernel(_) => 3,
        _ => 1,
    }
}

fn usage() -> String {
    let mut text = "usage: cargo xtask COMMAND\n".to_string();
    for Command { name, arguments, about, .. } in &COMMANDS {
        let call = format!("{name} {arguments}");
        text.push_str(&format!("  {call:<20} {about}\n"));
    }
    text
}

/// Writes a line to standard error, where everything goes that tasks say.
#[expect(clippy::print_stderr, reason = "a command line tool speaks")]
fn say(line: &str) {
    eprintln!("{line}");
}

/// Words as a command is given them.
#[cfg(test)]
fn arguments(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(words: &[&str]) -> Result<(), TaskError> {
        dispatch(&arguments(words))
    }

    #[test]
    fn wrong_usage_exits_with_2_and_shows_the_commands() {
        for arguments in [&[][..], &["nonsense"]] {
            let error = run(arguments).unwrap_err();
            assert_eq!(exit_code(&error), 2);
            assert!(error.to_string().contains("pcap [--check]"), "{error}");
        }
        for command in &COMMANDS {
            let error = run(&[command.name, "--nonsense"]).unwrap_err();
            assert_eq!(exit_code(&error), 2, "{}", command.name);
        }
    }

    #[test]
    fn a_failure_exits_with_1() {
        assert_eq!(exit_code(&TaskError::Failed("no".into())), 1);
    }

    #[test]
    fn a_kernel_that_cannot_be_asked_exits_with_3() {
        assert_eq!(exit_code(&ebpf_runtime::kernel::KernelError::NoRights.into()), 3);
    }
}
