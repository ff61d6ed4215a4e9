//! Programs from files: ELF objects, text assembly, raw instructions.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use ebpf_runtime::Bindings;
use ebpf_runtime::btf::{Btf, Kind};
use ebpf_runtime::isa::text::assemble;
use ebpf_runtime::isa::{Program, RawInsn};
use ebpf_runtime::object::{KernelFunction, MissingType, Object, ObjectError, ObjectProgram};
use ebpf_runtime::open::{self, OpenError};
use ebpf_runtime::verifier::{Environment, KernelProfile, KernelTypes};
use ebpf_runtime::xdp;

use crate::error::{CliError, FileError, InFile};
use crate::read::{self, MAX_PROGRAM_BYTES};

const ELF_MAGIC: &[u8] = b"\x7fELF";
/// What the names of text assembly end in.
const TEXT_EXTENSIONS: [&str; 2] = ["bpf", "s"];

/// Which program of which file.
#[derive(Debug, Args)]
pub(crate) struct ProgramArgs {
    /// ELF object, or text assembly (.bpf, .s); `-` is standard input
    ///
    /// Text assembly may be a fixture file, whose `-- asm` section is taken. Text and raw
    /// instructions are judged as XDP programs without maps, under a GPL-compatible licence.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) choice: ChoiceArgs,
}

/// How to read a file, and which of its programs is meant.
#[derive(Debug, Args)]
pub(crate) struct ChoiceArgs {
    /// The program, by the name of its function
    #[arg(long, value_name = "NAME")]
    pub(crate) prog: Option<String>,
    /// The file holds the bytes of instructions and nothing else
    #[arg(long)]
    pub(crate) raw: bool,
    /// Types of the kernel that programs are for: a copy of its /sys/kernel/btf/vmlinux
    ///
    /// Programs that were compiled once for every kernel (CO-RE) ask what these look like. The types may
    /// also be those of an object file.
    #[arg(long, value_name = "FILE")]
    pub(crate) btf: Option<PathBuf>,
}

impl ChoiceArgs {
    /// The types of the kernel, where they are given.
    pub(crate) fn types(&self) -> Result<Option<Arc<KernelTypes>>, CliError> {
        let Some(path) = &self.btf else { return Ok(None) };
        let read = || -> Result<_, FileError> {
            let bytes = read::bytes(path, MAX_PROGRAM_BYTES)?;
            let btf = match bytes.starts_with(ELF_MAGIC) {
                true => Object::parse(&bytes)?.btf().cloned().ok_or(FileError::NoTypes)?,
                false => Btf::parse(&bytes)?,
            };
            Ok(Arc::new(KernelTypes::new(btf)))
        };
        read().map(Some).in_file(&path.display().to_string())
    }
}

impl ProgramArgs {
    /// The file, for messages.
    pub(crate) fn name(&self) -> String {
        self.file.display().to_string()
    }

    /// Reads the file.
    pub(crate) fn read(&self) -> Result<Input, CliError> {
        Input::read(&self.file, self.choice.raw, self.choice.types()?).in_file(&self.name())
    }
}

/// The programs of a file.
#[derive(Debug)]
pub(crate) enum Input {
    /// An object, whose programs are not linked yet, and the types of the kernel that they are for.
    Object(Box<Object>, Option<Arc<KernelTypes>>),
    /// Text or raw instructions: one program.
    Single(Program),
}

/// A program with what its file says about it.
#[derive(Debug)]
pub(crate) enum Subject<'a> {
    /// A program of an object, and the types of the kernel that it is for.
    Linked(&'a Object, Box<ObjectProgram>, Option<&'a Arc<KernelTypes>>),
    /// A program on its own.
    Single(&'a Program),
}

impl Input {
    /// Reads a file; `raw` says that it holds instructions and nothing else, `types` are those of the
    /// kernel that its programs are for.
    pub(crate) fn read(
        path: &Path,
        raw: bool,
        types: Option<Arc<KernelTypes>>,
    ) -> Result<Self, FileError> {
        let bytes = read::bytes(path, MAX_PROGRAM_BYTES)?;
        if raw {
            return Ok(Self::Single(Program::from_slots(&RawInsn::slots(&bytes)?)?));
        }
        if bytes.starts_with(ELF_MAGIC) {
            return Ok(Self::Object(Box::new(Object::parse(&bytes)?), types));
        }
        let extension = path.extension().unwrap_or_default();
        if path.as_os_str() != "-" && !TEXT_EXTENSIONS.iter().any(|&text| extension == text) {
            return Err(FileError::UnknownForm);
        }
        Ok(Self::Single(parse_text(bytes)?))
    }

    /// The names of the programs that are meant: the one that was `wanted`, else all. A program
    /// on its own may have none.
    pub(crate) fn names(&self, wanted: Option<&str>) -> Result<Vec<Option<&str>>, FileError> {
        let names: Vec<Option<&str>> = match self {
            Self::Object(object, _) => {
                object.programs().iter().map(|program| Some(program.name.as_str())).collect()
            }
            Self::Single(program) => vec![single_name(program)],
        };
        let Some(wanted) = wanted else {
            return if names.is_empty() { Err(FileError::NoPrograms) } else { Ok(names) };
        };
        match names.iter().find(|&&name| name == Some(wanted)) {
            Some(&name) => Ok(vec![name]),
            None => {
                let available = names.into_iter().flatten().map(str::to_owned).collect();
                Err(FileError::NoSuchProgram { name: wanted.to_owned(), available })
            }
        }
    }

    /// The program of this name, one of [`Input::names`].
    pub(crate) fn subject(&self, name: Option<&str>) -> Result<Subject<'_>, ObjectError> {
        match self {
            Self::Object(object, types) => {
                let name = name.unwrap_or_default();
                let index = types.as_deref().map(KernelTypes::index);
                let linked = object.program_with(name, index, |function| {
                    let id = index?.find(Kind::Func, function)?;
                    Some(KernelFunction { btf_id: id.0, module: 0 })
                })?;
                Ok(Subject::Linked(object, Box::new(linked), types.as_ref()))
            }
            Self::Single(program) => Ok(Subject::Single(program)),
        }
    }

    /// The program that is meant, where there must be one: the one that was `wanted`, else the
    /// only one.
    pub(crate) fn only(&self, wanted: Option<&str>) -> Result<Subject<'_>, FileError> {
        Ok(self.subject(only_name(&self.names(wanted)?)?)?)
    }

    /// The section of the program of this name, one of [`Input::names`].
    pub(crate) fn section(&self, name: Option<&str>) -> Option<&str> {
        let Self::Object(object, _) = self else { return None };
        let programs = object.programs();
        let program = programs.iter().find(|program| Some(program.name.as_str()) == name)?;
        Some(&program.section)
    }
}

impl Subject<'_> {
    /// Its instructions, as they are verified.
    pub(crate) fn program(&self) -> &Program {
        match self {
            Self::Linked(_, linked, _) => &linked.program,
            Self::Single(program) => program,
        }
    }

    /// Its name, where it has one.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Linked(_, linked, _) => Some(&linked.info.name),
            Self::Single(program) => single_name(program),
        }
    }

    /// Its section, where it comes from an object.
    pub(crate) fn section(&self) -> Option<&str> {
        match self {
            Self::Linked(_, linked, _) => Some(&linked.info.section),
            Self::Single(_) => None,
        }
    }

    /// What the kernel's types do not have of what it asks for.
    pub(crate) fn missing(&self) -> &[MissingType] {
        match self {
            Self::Linked(_, linked, _) => &linked.missing,
            Self::Single(_) => &[],
        }
    }

    /// What it is judged against.
    pub(crate) fn environment(&self, profile: &KernelProfile) -> Result<Environment, OpenError> {
        match self {
            Self::Linked(object, linked, types) => {
                open::environment(object, linked, *types, profile)
            }
            Self::Single(_) => Ok(single_bindings(profile).environment()),
        }
    }

    /// What it is judged against and runs with.
    pub(crate) fn bindings(&self, profile: &KernelProfile) -> Result<Bindings, OpenError> {
        match self {
            Self::Linked(object, linked, _) => open::bindings(object, linked, profile),
            Self::Single(_) => Ok(single_bindings(profile)),
        }
    }
}

fn only_name<'a>(names: &[Option<&'a str>]) -> Result<Option<&'a str>, FileError> {
    match *names {
        [name] => Ok(name),
        _ => {
            let available = names.iter().flatten().map(|&name| name.to_owned()).collect();
            Err(FileError::SeveralPrograms { available })
        }
    }
}

fn single_name(program: &Program) -> Option<&str> {
    program.subprogs().first()?.info.name.as_deref()
}

/// Text and raw instructions do not say what they are.
fn single_bindings(profile: &KernelProfile) -> Bindings {
    let profile = profile.clone();
    Bindings { gpl_compatible: true, profile, ..Bindings::new(xdp::kind()) }
}

/// Reads text assembly, and nothing else.
pub(crate) fn read_text(path: &Path) -> Result<Program, FileError> {
    let bytes = read::bytes(path, MAX_PROGRAM_BYTES)?;
    if bytes.starts_with(ELF_MAGIC) {
        return Err(FileError::NotAssembly);
    }
    parse_text(bytes)
}

fn parse_text(bytes: Vec<u8>) -> Result<Program, FileError> {
    let text = String::from_utf8(bytes).map_err(|_| read::ReadError::NotText)?;
    Ok(assemble(&asm_section(&text).ok_or(FileError::NoAsmSection)?)?)
}

/// The `-- asm` section of a fixture file, with as many empty lines before it as there are lines
/// in the file, so that errors name the file's lines; the whole of any other text. `None` where a
/// fixture file has no such section.
fn asm_section(text: &str) -> Option<String> {
    let is_header = |line: &str| line == "--" || line.starts_with("-- ");
    if !text.lines().any(is_header) {
        return Some(text.to_owned());
    }
    let header = text.lines().position(|line| is_header(line) && line[2..].trim() == "asm")?;
    let body = text.lines().skip(header + 1).take_while(|line| !is_header(line));
    let above = std::iter::repeat_n("", header + 1);
    Some(above.chain(body).flat_map(|line| [line, "\n"]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_asm_section_keeps_its_line_numbers() {
        let text = "# Why.\n-- mem\n00\n-- asm\nr0 = 1\nexit\n-- result\n1\n";
        assert_eq!(asm_section(text).unwrap(), "\n\n\n\nr0 = 1\nexit\n");
        assert_eq!(asm_section("r0 = 1\nexit\n").unwrap(), "r0 = 1\nexit\n");
        assert_eq!(asm_section("# Why.\n-- mem\n00\n"), None);
    }

    #[test]
    fn errors_in_a_fixture_name_the_line_of_the_file() {
        let error = parse_text(b"# Why.\n-- asm\nr0 = 1\nexit now\n".to_vec()).unwrap_err();
        assert!(error.to_string().starts_with("line 4, column 6: "), "{error}");
    }

    #[test]
    fn one_of_several_programs_must_be_named() {
        assert_eq!(only_name(&[Some("a")]).unwrap(), Some("a"));
        assert_eq!(only_name(&[None]).unwrap(), None);
        let error = only_name(&[Some("a"), Some("b")]).unwrap_err();
        assert_eq!(error.to_string(), "several programs; name one with --prog: a, b");
    }

    #[test]
    fn a_program_on_its_own_is_named_by_its_label() {
        let input = Input::Single(parse_text(b"main:\nr0 = 1\nexit\n".to_vec()).unwrap());
        assert_eq!(input.names(None).unwrap(), [Some("main")]);
        assert_eq!(input.names(Some("main")).unwrap(), [Some("main")]);
        let error = input.names(Some("other")).unwrap_err();
        assert_eq!(error.to_string(), "no program other; there are: main");
        let unnamed = Input::Single(parse_text(b"r0 = 1\nexit\n".to_vec()).unwrap());
        assert_eq!(unnamed.names(None).unwrap(), [None]);
    }
}
