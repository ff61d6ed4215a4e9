//! `cargo xtask fixtures`: compiles the C sources under `fixtures` and `benches/programs` to the objects
//! beside them.
//!
//! The same compiler gives the same bytes: no path of this machine gets into an object, and debug
//! sections other than BTF are taken out.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ebpf_testkit::{fixtures_dir, skip, workspace_root};

use crate::error::TaskError;

/// The major version of clang that makes the committed objects; others make other code.
const CLANG_MAJOR: &str = "19";

/// Which clang made the objects of a directory; written there with them.
const RECORD: &str = "built-with.txt";

const CLANG_FLAGS: [&str; 9] = [
    "--target=bpfel",
    "-mcpu=v3",
    "-O2",
    "-g",
    "-fdebug-compilation-dir=.",
    "-Wall",
    "-Werror",
    "-fno-addrsig",
    "-c",
];

/// The programs that make an object.
struct Tools {
    clang: OsString,
    /// As in `19.1.7`.
    version: String,
    objcopy: OsString,
}

/// Writes the objects; with `--check`, compares the committed ones with what would be written.
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    let check = match arguments {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => return Err(TaskError::Usage("fixtures takes --check or nothing".into())),
    };
    let tools = match Tools::find() {
        Ok(tools) => tools,
        Err(why) => {
            skip(&format!("C fixtures: {why}"));
            return Ok(());
        }
    };
    for source in all_sources()? {
        let object = tools.compile(&source)?;
        if check {
            tools.compare(&source, &object)?;
        } else {
            tools.write(&source, &object)?;
        }
    }
    Ok(())
}

impl Tools {
    /// The tools, or why they cannot be had.
    fn find() -> Result<Self, String> {
        let named = |variable: &str, usual: &str| {
            std::env::var_os(variable).unwrap_or_else(|| OsString::from(usual))
        };
        let clang = named("CLANG", "clang-19");
        let objcopy = named("LLVM_OBJCOPY", "llvm-objcopy-19");
        let version = clang_version(&version_text(&clang)?)
            .ok_or_else(|| format!("{} does not tell its version", clang.display()))?;
        if version.split('.').next() != Some(CLANG_MAJOR) {
            return Err(format!("clang {version} found, {CLANG_MAJOR} wanted"));
        }
        version_text(&objcopy)?;
        Ok(Self { clang, version, objcopy })
    }

    /// The bytes of the object. Its BTF names the source by its path from the workspace, which has
    /// to lead there from where clang runs: clang reads the lines it quotes by that path.
    fn compile(&self, source: &Path) -> Result<Vec<u8>, TaskError> {
        let root = workspace_root();
        let mut compile = Command::new(&self.clang);
        compile
            .current_dir(root)
            .args(CLANG_FLAGS)
            .arg(source.strip_prefix(root).unwrap_or(source))
            .args(["-o", "-"]);
        let with_debug = output(&mut compile, &[])?;
        let mut strip = Command::new(&self.objcopy);
        strip.args(["--strip-debug", "-", "-"]);
        output(&mut strip, &with_debug)
    }

    fn compare(&self, source: &Path, object: &[u8]) -> Result<(), TaskError> {
        let path = source.with_extension("o");
        let committed = std::fs::read(&path).map_err(|error| TaskError::file(&path, error))?;
        if committed == object {
            return Ok(());
        }
        let record = record_of(source);
        let made_by =
            std::fs::read_to_string(&record).unwrap_or_else(|_| "an unknown clang".into());
        Err(TaskError::Failed(format!(
            "{} is not what its source gives: run `cargo xtask fixtures` and commit the object \
             (made by {}, compared with clang {})",
            path.display(),
            made_by.trim_end(),
            self.version
        )))
    }

    fn write(&self, source: &Path, object: &[u8]) -> Result<(), TaskError> {
        let record = format!("clang {}\n", self.version);
        for (path, bytes) in
            [(source.with_extension("o"), object), (record_of(source), record.as_bytes())]
        {
            std::fs::write(&path, bytes).map_err(|error| TaskError::file(&path, error))?;
        }
        Ok(())
    }
}

fn record_of(source: &Path) -> PathBuf {
    source.with_file_name(RECORD)
}

/// What a program says when asked for its version, or why it says nothing.
fn version_text(program: &OsStr) -> Result<String, String> {
    match Command::new(program).arg("--version").output() {
        Ok(output) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(_) => Err(format!("{} not found", program.display())),
    }
}

/// The version in clang's words: `Some Vendor clang version 19.1.7 (more)`.
fn clang_version(text: &str) -> Option<String> {
    let (_, rest) = text.lines().next()?.split_once("clang version ")?;
    Some(rest.split([' ', '-', '+']).next()?.to_string())
}

/// The C files that have an object beside them.
fn all_sources() -> Result<Vec<PathBuf>, TaskError> {
    let mut all = sources(&fixtures_dir())?;
    all.extend(sources(&workspace_root().join("benches/programs"))?);
    Ok(all)
}

/// The C files below a directory, sorted.
fn sources(dir: &Path) -> Result<Vec<PathBuf>, TaskError> {
    let told = |error| TaskError::file(dir, error);
    let mut sources = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(told)? {
        let path = entry.map_err(told)?.path();
        if path.is_dir() {
            sources.extend(self::sources(&path)?);
        } else if path.extension().is_some_and(|suffix| suffix == "c") {
            sources.push(path);
        }
    }
    sources.sort();
    Ok(sources)
}

/// What a program makes of its input; it reads all of that before it writes.
fn output(command: &mut Command, input: &[u8]) -> Result<Vec<u8>, TaskError> {
    let name = command.get_program().display().to_string();
    let told = |error| TaskError::Failed(format!("{name}: {error}"));
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(told)?;
    let mut stdin = child.stdin.take().expect("the input is a pipe");
    let sent = stdin.write_all(input);
    drop(stdin);
    let output = child.wait_with_output().map_err(told)?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(TaskError::Failed(format!("{name}: {}\n{text}", output.status)));
    }
    sent.map_err(told)?;
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let debian = "Debian clang version 19.1.7 (3~deb12u1)\nTarget: x86_64-pc-linux-gnu\n";
        assert_eq!(clang_version(debian), Some("19.1.7".into()));
        assert_eq!(clang_version("clang version 20.0.0git"), Some("20.0.0git".into()));
        let ubuntu = "Ubuntu clang version 19.1.1-1ubuntu1~24.04";
        assert_eq!(clang_version(ubuntu), Some("19.1.1".into()));
        assert_eq!(clang_version("gcc (Debian) 12"), None);
        assert_eq!(clang_version(""), None);
    }

    #[test]
    fn a_missing_program_is_a_reason() {
        let why = version_text(OsStr::new("no-such-clang")).unwrap_err();
        assert_eq!(why, "no-such-clang not found");
    }

    /// Whether clang is there or not: each source has its object, whose BTF names it and quotes it,
    /// and no path of the machine it was made on.
    #[test]
    fn every_source_has_its_object() {
        let sources = all_sources().unwrap();
        for dir in ["fixtures", "benches"] {
            assert!(sources.iter().any(|source| source.starts_with(workspace_root().join(dir))));
        }
        for source in sources {
            assert!(record_of(&source).exists(), "{}", source.display());
            let object = std::fs::read(source.with_extension("o")).unwrap();
            let object = String::from_utf8_lossy(&object);
            let name = source.strip_prefix(workspace_root()).unwrap();
            assert!(object.contains(&format!("\0./{}\0", name.display())));
            assert!(!object.contains(&format!("{}", workspace_root().display())));
            let text = std::fs::read_to_string(&source).unwrap();
            let mut statements = text.lines().filter(|line| line.ends_with([';', ')']));
            assert!(statements.any(|line| object.contains(line)), "{}", name.display());
        }
    }

    #[test]
    fn output_passes_bytes_through_and_tells_failures() {
        assert_eq!(output(&mut Command::new("cat"), b"abc"), Ok(b"abc".to_vec()));
        assert!(output(&mut Command::new("false"), b"").is_err());
    }
}
