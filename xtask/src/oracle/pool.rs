//! The child process that asks the kernel, and its successors.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::WORKER;
use crate::error::TaskError;

/// How long a child may take for one case.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a child that was killed may take to go. One that the kernel holds is left alone then.
const MOURNING: Duration = Duration::from_secs(5);
/// Cases that one child is given.
const BATCH: u32 = 512;

/// Asks the kernel about cases, one after the other.
pub(crate) struct Pool {
    /// How a child is started.
    command: Box<dyn Fn() -> io::Result<Command> + Send>,
    patience: Duration,
    child: Option<Worker>,
}

struct Worker {
    process: Child,
    stdin: ChildStdin,
    answers: Receiver<String>,
    asked: u32,
}

/// Why a child has no answer.
enum Silence {
    /// It takes too long.
    Timeout,
    /// It is gone.
    Gone,
}

impl Pool {
    /// For cases whose files are in `directory`.
    pub(crate) fn new(directory: &Path, log_level: u32) -> Self {
        let directory = directory.to_owned();
        let command = move || {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["oracle", "--log-level", &log_level.to_string(), WORKER]);
            command.arg(&directory);
            Ok(command)
        };
        Self { command: Box::new(command), patience: PATIENCE, child: None }
    }

    /// The answer to the case on a line.
    pub(crate) fn ask(&mut self, id: &str, line: &str) -> Result<Value, TaskError> {
        let mut worker = match self.child.take() {
            Some(worker) if worker.asked < BATCH => worker,
            Some(worker) => {
                worker.end();
                self.start()?
            }
            None => self.start()?,
        };
        match worker.ask(line, self.patience) {
            Ok(answer) => {
                self.child = Some(worker);
                let mut answer: Value = serde_json::from_str(&answer)
                    .map_err(|error| TaskError::Failed(format!("{id}: bad answer: {error}")))?;
                // A child numbers lines for itself.
                answer["id"] = id.into();
                Ok(answer)
            }
            Err(Silence::Timeout) => {
                worker.end();
                Ok(json!({"id": id, "verdict": "timeout"}))
            }
            Err(Silence::Gone) => {
                let how = worker.end().unwrap_or_default();
                Ok(json!({"id": id, "verdict": "crash", "msg": how}))
            }
        }
    }

    fn start(&self) -> Result<Worker, TaskError> {
        let started = (self.command)().and_then(Worker::start);
        started
            .map_err(|error| TaskError::Failed(format!("a process that asks the kernel: {error}")))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(worker) = self.child.take() {
            worker.end();
        }
    }
}

impl Worker {
    fn start(mut command: Command) -> io::Result<Self> {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = process.stdin.take().expect("the input is a pipe");
        let stdout = process.stdout.take().expect("the output is a pipe");
        let (sender, answers) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { process, stdin, answers, asked: 0 })
    }

    fn ask(&mut self, line: &str, patience: Duration) -> Result<String, Silence> {
        self.asked += 1;
        writeln!(self.stdin, "{}", line.trim_end()).map_err(|_| Silence::Gone)?;
        self.answers.recv_timeout(patience).map_err(|error| match error {
            RecvTimeoutError::Timeout => Silence::Timeout,
            RecvTimeoutError::Disconnected => Silence::Gone,
        })
    }

    /// Kills the child; says how it ended, if it did.
    fn end(mut self) -> Option<String> {
        // Where it is gone already, that is how it ended.
        let _ = self.process.kill();
        let start = Instant::now();
        while start.elapsed() < MOURNING {
            if let Ok(Some(status)) = self.process.try_wait() {
                return Some(status.to_string());
            }
            thread::sleep(Duration::from_millis(2));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pool whose children are shells that run this.
    fn pool(script: &'static str) -> Pool {
        let command = move || {
            let mut shell = Command::new("sh");
            shell.args(["-c", script]);
            Ok(shell)
        };
        Pool { command: Box::new(command), patience: Duration::from_millis(500), child: None }
    }

    /// A shell that answers each case with its own process number.
    const TELLS_ITS_NUMBER: &str = r#"while read line; do echo "{\"pid\":$$}"; done"#;

    fn is_there(pid: &Value) -> bool {
        Path::new("/proc").join(pid.to_string()).exists()
    }

    #[test]
    fn a_kernel_that_does_not_come_back_costs_one_case() {
        let mut pool = pool("read line; exec sleep 1000");
        assert_eq!(pool.ask("a", "{}").unwrap(), json!({"id": "a", "verdict": "timeout"}));
        assert!(pool.child.is_none());
    }

    #[test]
    fn a_kernel_that_hangs_up_costs_one_case() {
        let mut hangs_up = pool("read line; kill -9 $$");
        for id in ["a", "b"] {
            let answer = hangs_up.ask(id, "{}").unwrap();
            assert_eq!((&answer["id"], &answer["verdict"]), (&json!(id), &json!("crash")));
            assert!(answer["msg"].as_str().unwrap().contains("signal: 9"), "{answer}");
        }
        let mut gone = pool("exit 7");
        assert_eq!(gone.ask("a", "{}").unwrap()["verdict"], "crash");
    }

    #[test]
    fn an_answer_that_is_none_is_an_error() {
        let error = pool("read line; echo nonsense").ask("a", "{}").unwrap_err();
        assert!(error.to_string().starts_with("a: bad answer: "), "{error}");
    }

    #[test]
    fn no_child_stays_behind() {
        let mut pool = pool(TELLS_ITS_NUMBER);
        let first = pool.ask("a", "{}").unwrap()["pid"].clone();
        assert!(is_there(&first));
        for _ in 1..BATCH {
            assert_eq!(pool.ask("a", "{}").unwrap()["pid"], first);
        }
        let second = pool.ask("a", "{}").unwrap()["pid"].clone();
        assert!(second != first && !is_there(&first), "a batch has {BATCH} cases");
        drop(pool);
        assert!(!is_there(&second));
    }
}
