//! The child process that asks the kernel, and its successors.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
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
    directory: PathBuf,
    log_level: u32,
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
        Self { directory: directory.to_owned(), log_level, child: None }
    }

    /// The answer to the case on a line.
    pub(crate) fn ask(&mut self, id: &str, line: &str) -> Result<Value, TaskError> {
        let mut worker = match self.child.take() {
            Some(worker) if worker.asked < BATCH => worker,
            Some(worker) => {
                worker.end();
                Worker::start(&self.directory, self.log_level)?
            }
            None => Worker::start(&self.directory, self.log_level)?,
        };
        match worker.ask(line) {
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
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(worker) = self.child.take() {
            worker.end();
        }
    }
}

impl Worker {
    fn start(directory: &Path, log_level: u32) -> Result<Self, TaskError> {
        let failed = |error: std::io::Error| {
            TaskError::Failed(format!("a process that asks the kernel: {error}"))
        };
        let mut process = Command::new(std::env::current_exe().map_err(failed)?)
            .args(["oracle", "--log-level", &log_level.to_string(), WORKER])
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
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

    fn ask(&mut self, line: &str) -> Result<String, Silence> {
        self.asked += 1;
        writeln!(self.stdin, "{}", line.trim_end()).map_err(|_| Silence::Gone)?;
        self.answers.recv_timeout(PATIENCE).map_err(|error| match error {
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
