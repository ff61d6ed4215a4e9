//! Where results and errors go.

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use crate::error::CliError;

/// Exit code where the reader of standard output is gone: that of a program which SIGPIPE (13) has
/// ended, since this one has not finished either.
const BROKEN_PIPE: u8 = 128 + 13;

/// How a command ended, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Status {
    /// Accepted, or ran.
    Fine,
    /// Rejected, or trapped.
    Refused,
    /// Wrong usage, or input that cannot be read.
    Unusable,
}

impl Status {
    /// The exit code that scripts rely on.
    pub(crate) const fn exit_code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Refused => 1,
            Self::Unusable => 2,
        }
    }
}

/// Standard output, for results, and standard error, for errors.
pub(crate) struct Console {
    /// Results.
    pub(crate) out: BufWriter<StdoutLock<'static>>,
}

impl Console {
    /// The console of this process.
    pub(crate) fn new() -> Self {
        Self { out: BufWriter::new(io::stdout().lock()) }
    }

    /// Whether results may have colours.
    pub(crate) fn out_has_colours(&self) -> bool {
        colours_wanted() && io::stdout().is_terminal()
    }

    /// Whether what goes to standard error may have colours.
    pub(crate) fn err_has_colours(&self) -> bool {
        colours_wanted() && io::stderr().is_terminal()
    }

    /// Writes text to standard error.
    pub(crate) fn complain(&mut self, text: &str) {
        // A closed standard error leaves nobody to tell.
        let _ = writeln!(io::stderr(), "{}", text.trim_end());
    }

    /// Reports an error on one line.
    pub(crate) fn error(&mut self, error: &CliError) {
        self.complain(&format!("error: {}", one_line(&error.to_string())));
    }

    /// Writes out what is left, and gives the exit code for `result`.
    pub(crate) fn finish(mut self, result: Result<Status, CliError>) -> u8 {
        let result = result.and_then(|status| {
            self.out.flush()?;
            Ok(status)
        });
        match result {
            Ok(status) => status.exit_code(),
            Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                BROKEN_PIPE
            }
            Err(error) => {
                // What was found before the error is worth seeing, if anybody can.
                let _ = self.out.flush();
                self.error(&error);
                Status::Unusable.exit_code()
            }
        }
    }
}

/// Whether the user lets us use colours: <https://no-color.org>.
fn colours_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Text from files as part of a line: control characters, with which a file could write over the
/// line or change the terminal, become visible.
pub(crate) fn one_line(text: &str) -> String {
    let visible = |c: char| if c.is_control() { c.escape_default().collect() } else { vec![c] };
    text.chars().flat_map(visible).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_status_is_the_greatest() {
        let mut all = [Status::Unusable, Status::Fine, Status::Refused];
        all.sort();
        assert_eq!(all.map(Status::exit_code), [0, 1, 2]);
    }

    #[test]
    fn control_characters_are_made_visible() {
        assert_eq!(one_line("a\nb\x1b[31mé"), "a\\nb\\u{1b}[31mé");
    }
}
