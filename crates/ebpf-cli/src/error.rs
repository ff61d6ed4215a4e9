//! Why a command has no result: exit code 2.

use std::io;

use ebpf_runtime::LoadError;
use ebpf_runtime::btf::BtfError;
use ebpf_runtime::classic::text::TextError;
use ebpf_runtime::flat::FlatError;
use ebpf_runtime::isa::text::AsmError;
use ebpf_runtime::isa::{EncodeError, ProgramError, SlotBytesError};
use ebpf_runtime::object::ObjectError;
use ebpf_runtime::object::cases::CaseError;
use ebpf_runtime::open::OpenError;
use ebpf_runtime::pack::PackError;

use crate::capture::CaptureError;
use crate::map_args::MapArgError;
use crate::profile::ProfileError;
use crate::read::{ReadError, reason};

/// Why a command has no result. Displays as `PLACE: reason`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// Something is wrong with a file.
    #[error("{file}: {source}")]
    File {
        /// The file as it was named.
        file: String,
        /// What is wrong.
        source: Box<FileError>,
    },
    /// `--map` cannot be followed.
    #[error("--map {argument}: {source}")]
    Map {
        /// The argument.
        argument: String,
        /// Why.
        source: MapArgError,
    },
    /// `--mem` is not bytes in hex.
    #[error("--mem: {0}")]
    Mem(#[from] hex::FromHexError),
    /// Options that do not go together.
    #[error("{0}")]
    Usage(&'static str),
    /// The system does not give executable memory.
    #[error("executable memory: {0}")]
    Pack(#[from] PackError),
    /// The running kernel cannot be asked.
    #[error("the running kernel: {0}")]
    Kernel(#[from] ebpf_runtime::kernel::KernelError),
    /// Results cannot be written.
    #[error("standard output: {}", reason(.0))]
    Output(#[from] io::Error),
}

/// Says which file an error is about.
pub(crate) trait InFile<T> {
    /// The error, as one of `file`.
    fn in_file(self, file: &str) -> Result<T, CliError>;
}

impl<T, E: Into<FileError>> InFile<T> for Result<T, E> {
    fn in_file(self, file: &str) -> Result<T, CliError> {
        self.map_err(|error| CliError::File {
            file: file.to_owned(),
            source: Box::new(error.into()),
        })
    }
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It cannot be written.
    #[error("{}", reason(.0))]
    Write(io::Error),
    /// Not one of the forms that programs come in.
    #[error("not an ELF file; text assembly is named .bpf or .s, raw instructions need --raw")]
    UnknownForm,
    /// An object that is not sound, or one of its programs.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// An object without types where there should be some.
    #[error("the object has no types (section .BTF)")]
    NoTypes,
    /// Types that cannot be read.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// Text that does not assemble.
    #[error(transparent)]
    Asm(#[from] AsmError),
    /// A fixture file without a program.
    #[error("no section `-- asm`")]
    NoAsmSection,
    /// Something that is not text, where text is wanted.
    #[error("an ELF file, not text assembly")]
    NotAssembly,
    /// Text that is no classic filter.
    #[error(transparent)]
    Filter(#[from] TextError),
    /// A classic filter in another form than was asked for.
    #[error("not in the form of tcpdump -{option}; without -{option} the form is found out")]
    WrongForm {
        /// The form that was asked for.
        option: String,
    },
    /// An expression that does not compile.
    #[cfg(feature = "libpcap")]
    #[error("not a file, and no expression: {0}")]
    Expression(String),
    /// Raw bytes that are no instructions.
    #[error(transparent)]
    Slots(#[from] SlotBytesError),
    /// Raw instructions that are no program.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// Instructions that have no encoding.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The file has no program of this name.
    #[error("no program {name}; {}", names(.available))]
    NoSuchProgram {
        /// The name asked for.
        name: String,
        /// The names there are.
        available: Vec<String>,
    },
    /// The file has several programs, and none was named.
    #[error("several programs; name one with --prog: {}", .available.join(", "))]
    SeveralPrograms {
        /// Their names.
        available: Vec<String>,
    },
    /// An object without programs.
    #[error("no programs")]
    NoPrograms,
    /// The program's type, or one of its maps.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// An accepted program that the runtime cannot run.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A program that packets cannot be given to.
    #[error("only XDP programs run on packets")]
    NotXdp,
    /// A program whose source lines are wanted and not known.
    #[error("no line information for --coverage; compile it with clang -g")]
    NoLines,
    /// An unverified program that cannot be run.
    #[error(transparent)]
    Flat(#[from] FlatError),
    /// A line that is no case.
    #[error("line {line}: {error}")]
    Case {
        /// Its number, from 1.
        line: u64,
        /// What is wrong with it.
        error: CaseError,
    },
    /// Not a kernel profile.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// Not a capture that programs can be run on.
    #[error(transparent)]
    Capture(#[from] CaptureError),
}

fn names(names: &[String]) -> String {
    if names.is_empty() {
        "there are none".into()
    } else {
        format!("there are: {}", names.join(", "))
    }
}
