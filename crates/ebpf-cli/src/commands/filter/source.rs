//! Where a filter comes from.

use std::path::PathBuf;

use clap::{ArgAction, Args};
use ebpf_runtime::classic::SockFilter;
use ebpf_runtime::classic::text::{self, Form};

use crate::error::{CliError, FileError, InFile};
use crate::read;

/// Which filter.
#[derive(Debug, Args)]
pub(super) struct SourceArgs {
    /// The filter, in one of the forms below; `-` is standard input
    ///
    /// Built with the feature `libpcap`: what is no file is an expression of tcpdump, such as
    /// `tcp port 22`, and is compiled for Ethernet, to keep 65,535 bytes of what it accepts.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The form that the file must be in: -d, -dd or -ddd, as of tcpdump
    #[arg(short = 'd', action = ArgAction::Count)]
    form: u8,
}

impl SourceArgs {
    /// The file, for messages.
    pub(super) fn name(&self) -> String {
        self.file.display().to_string()
    }

    /// The program, which nobody has checked.
    pub(super) fn read(&self) -> Result<Vec<SockFilter>, CliError> {
        self.read_file().in_file(&self.name())
    }

    fn read_file(&self) -> Result<Vec<SockFilter>, FileError> {
        #[cfg(feature = "libpcap")]
        if self.form == 0 && self.file.as_os_str() != "-" && !self.file.exists() {
            return expression(&self.file.to_string_lossy());
        }
        let text = read::text(&self.file)?;
        let is_expected = matches!(
            (self.form, Form::of(&text)),
            (0, _) | (1, Form::Listing) | (2, Form::C) | (3, Form::Decimal | Form::DecimalComma)
        );
        if !is_expected {
            let option = "d".repeat(self.form.into());
            return Err(FileError::WrongForm { option });
        }
        Ok(text::parse(&text)?)
    }
}

/// Compiles an expression for Ethernet.
#[cfg(feature = "libpcap")]
fn expression(expression: &str) -> Result<Vec<SockFilter>, FileError> {
    let failed = |error: pcap::Error| FileError::Expression(error.to_string());
    let capture = pcap::Capture::dead(pcap::Linktype::ETHERNET).map_err(failed)?;
    let program = capture.compile(expression, true).map_err(failed)?;
    let insns = program.get_instructions();
    // The crate shows instructions as text alone: their four numbers.
    let lines: Vec<String> = insns.iter().map(|insn| format!(",{insn}")).collect();
    Ok(text::parse(&format!("{}{}", lines.len(), lines.concat()))?)
}
