//! Making the corpus: the selftests' programs from the distribution's kernel sources.
//!
//! The sources are under the GPL: they, the objects and the programs stay below the directory of the
//! corpus. What is made:
//!
//! | | |
//! |---|---|
//! | `src`, `libbpf`, `include` | the sources, libbpf to relocate objects, the kernel's types as a header |
//! | `obj` | the selftests' programs, compiled |
//! | `arrays.jsonl` | the arrays of instructions of `verifier/*.c`, as cases |
//! | `objects.jsonl`, `btf` | the programs of the objects, as cases, and their types |

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

use crate::error::TaskError;
use crate::say;

/// Where Debian's package `linux-source-6.12` puts the sources.
const SOURCES: &str = "/usr/src/linux-source-6.12.tar.xz";
/// What is taken out of them.
const PARTS: [&str; 7] = [
    "tools/*",
    "include/*",
    "kernel/bpf/disasm.*",
    "scripts/*",
    "Documentation/bpf/*",
    "arch/x86/include/*",
    "samples/bpf/*",
];
const SELFTESTS: &str = "src/tools/testing/selftests/bpf";

/// The crate that carries libbpf, newer than that of the sources.
const LIBBPF_CRATE: &str = "libbpf-sys@=1.7.0";

const CLANG: &str = "clang-19";
/// How many compilers run at a time.
const JOBS: usize = 2;
/// Seconds that a compiler may take.
const COMPILER_SECONDS: &str = "60";
/// Programs whose functions must stay functions.
const NO_INLINE: [&str; 2] = ["test_l4lb_noinline", "test_xdp_noinline"];

const EMIT_OBJECTS: &str = include_str!("emit_objects.c");
const EMIT_ARRAYS: &str = include_str!("emit_arrays.c");

/// Makes what is not there yet.
pub(super) fn build(directory: &Path) -> Result<(), TaskError> {
    check_tools()?;
    fs::create_dir_all(directory).map_err(|error| TaskError::file(directory, error))?;
    let directory = directory.canonicalize().map_err(|error| TaskError::file(directory, error))?;
    let build = Build { directory: &directory };
    build.unpack()?;
    build.libbpf()?;
    build.kernel_header()?;
    build.compile_all()?;
    build.arrays()?;
    build.objects()
}

fn check_tools() -> Result<(), TaskError> {
    let missing = |what: &str| {
        let packages = "linux-source-6.12 clang-19 llvm-19 libelf-dev zlib1g-dev gcc make";
        TaskError::Failed(format!("no {what}; the corpus is made from Debian's {packages}"))
    };
    if !Path::new(SOURCES).exists() {
        return Err(missing(SOURCES));
    }
    for tool in [CLANG, "gcc", "make", "tar", "timeout"] {
        let found = Command::new(tool).arg("--version").output();
        if !found.is_ok_and(|output| output.status.success()) {
            return Err(missing(tool));
        }
    }
    Ok(())
}

struct Build<'a> {
    directory: &'a Path,
}

impl Build<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A path as part of an argument.
    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn create(&self, name: &str) -> Result<PathBuf, TaskError> {
        let path = self.path(name);
        fs::create_dir_all(&path).map_err(|error| TaskError::file(&path, error))?;
        Ok(path)
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, TaskError> {
        let path = self.path(name);
        fs::write(&path, text).map_err(|error| TaskError::file(&path, error))?;
        Ok(path)
    }

    fn unpack(&self) -> Result<(), TaskError> {
        if self.path("src/tools/lib/bpf/libbpf.c").exists() {
            return Ok(());
        }
        say("unpacking the sources");
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(self.create("src")?);
        tar.args(["--strip-components=1", "-xJf", SOURCES, "--wildcards"]);
        tar.args(PARTS.map(|part| format!("linux-source-6.12/{part}")));
        succeed(&mut tar)
    }

    fn libbpf(&self) -> Result<(), TaskError> {
        if self.path("libbpf/lib/libbpf.a").exists() {
            return Ok(());
        }
        say("building libbpf");
        // A package of its own, which cargo fetches the sources into.
        let package = self.create("libbpf-crate")?;
        fs::create_dir_all(package.join("src"))
            .map_err(|error| TaskError::file(&package, error))?;
        let version = LIBBPF_CRATE.split_once('@').map_or("*", |(_, version)| version);
        self.write("libbpf-crate/src/lib.rs", "")?;
        self.write(
            "libbpf-crate/Cargo.toml",
            &format!(
                "[package]\nname = \"fetch\"\nedition = \"2024\"\n[workspace]\n\
                 [dependencies]\nlibbpf-sys = \"{version}\"\n"
            ),
        )?;
        let mut vendor = crate::ci::cargo();
        succeed(vendor.current_dir(&package).args(["vendor", "--quiet", "v"]))?;
        let mut make = Command::new("make");
        make.arg("-s").arg(format!("-j{JOBS}"));
        make.arg("-C").arg(package.join("v/libbpf-sys/libbpf/src"));
        make.arg("BUILD_STATIC_ONLY=1").arg(format!("OBJDIR={}", self.text("libbpf-build")));
        make.arg(format!("DESTDIR={}", self.text("libbpf"))).args(["PREFIX=", "LIBDIR=/lib"]);
        self.create("libbpf-build")?;
        succeed(make.args(["install", "install_uapi_headers"]))
    }

    /// The running kernel's types as a header, by the sources' own bpftool.
    fn kernel_header(&self) -> Result<(), TaskError> {
        let header = self.path("include/vmlinux.h");
        if header.exists() {
            return Ok(());
        }
        say("writing vmlinux.h");
        self.create("include")?;
        let tool = self.create("bpftool")?;
        let mut make = Command::new("make");
        make.arg("-s").arg(format!("-j{JOBS}"));
        make.arg("-C").arg(self.path("src/tools/bpf/bpftool"));
        succeed(make.arg(format!("OUTPUT={}/", tool.display())))?;
        let mut dump = Command::new(tool.join("bpftool"));
        dump.args(["btf", "dump", "file", "/sys/kernel/btf/vmlinux", "format", "c"]);
        output_to(&mut dump, &header)
    }

    /// Compiles each program. One that does not compile is left out.
    fn compile_all(&self) -> Result<(), TaskError> {
        let sources = self.files(&format!("{SELFTESTS}/progs"), "c")?;
        self.create("obj")?;
        let resources = Command::new(CLANG).arg("-print-resource-dir").output();
        let resources =
            resources.map_err(|error| TaskError::Failed(format!("{CLANG}: {error}")))?;
        let resources = String::from_utf8_lossy(&resources.stdout).trim().to_owned();
        say(&format!("compiling {} programs", sources.len()));
        let waiting = Mutex::new(sources.into_iter());
        thread::scope(|scope| {
            for _ in 0..JOBS {
                scope.spawn(|| {
                    let next = || waiting.lock().expect("no thread panics here").next();
                    while let Some(source) = next() {
                        if !self.compile(&source, &resources) {
                            say(&format!("left out: {} does not compile", source.display()));
                        }
                    }
                });
            }
        });
        Ok(())
    }

    fn compile(&self, source: &Path, resources: &str) -> bool {
        let name = source.file_stem().unwrap_or_default().to_string_lossy();
        let object = self.path(&format!("obj/{name}.o"));
        if object.exists() {
            return true;
        }
        // Some declare kernel functions that the header declares, too.
        let attempts: [&[&str]; 2] = [&[], &["-DBPF_NO_KFUNC_PROTOTYPES"]];
        attempts.iter().any(|more| {
            let mut compiler = Command::new("timeout");
            compiler.args([COMPILER_SECONDS, CLANG, "-g", "-O2", "--target=bpf", "-mcpu=v4", "-w"]);
            compiler.args(["-mlittle-endian", "-D__TARGET_ARCH_x86", "-DENABLE_ATOMICS_TESTS"]);
            for include in ["include", "libbpf/include", SELFTESTS, "src/tools/include/uapi"] {
                compiler.arg("-I").arg(self.path(include));
            }
            compiler.arg("-I").arg(self.path(&format!("{SELFTESTS}/progs")));
            for include in
                [&*format!("{resources}/include"), "/usr/include/x86_64-linux-gnu", "/usr/include"]
            {
                compiler.arg("-idirafter").arg(include);
            }
            if NO_INLINE.contains(&&*name) {
                compiler.arg("-fno-inline");
            }
            compiler.args(*more).arg("-c").arg(source).arg("-o").arg(&object);
            let status = compiler.stderr(Stdio::null()).status();
            let made = status.is_ok_and(|status| status.success());
            if !made {
                // Nothing may be left of a compiler that was stopped.
                let _ = fs::remove_file(&object);
            }
            made
        })
    }

    /// The arrays of `verifier/*.c`, which only their own compiler can read.
    fn arrays(&self) -> Result<(), TaskError> {
        let mut arrays = String::new();
        let mut table = String::new();
        for file in self.files(&format!("{SELFTESTS}/verifier"), "c")? {
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let include = file.display();
            arrays.push_str(&format!(
                "static struct bpf_test T_{name}[] = {{\n#include \"{include}\"\n}};\n"
            ));
            table.push_str(&format!(
                "{{\"{name}\", T_{name}, sizeof(T_{name}) / sizeof(T_{name}[0])}},"
            ));
        }
        self.create("gen/verifier")?;
        self.write("gen/verifier/tests.h", "")?;
        let head = "static struct { const char *name; struct bpf_test *t; int n; } FILES[] = ";
        self.write("gen/files.h", &format!("{arrays}{head}{{ {table} }};\n"))?;
        let source = self.write("gen/emit_arrays.c", EMIT_ARRAYS)?;
        let includes =
            ["gen", "", SELFTESTS, "libbpf/include", "src/tools/lib", "src/tools/include"];
        let mut gcc = self.gcc(&source, "emit_arrays", &includes);
        gcc.args(["-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections"]);
        succeed(gcc.arg("-Wl,--unresolved-symbols=ignore-all"))?;
        output_to(&mut Command::new(self.path("emit_arrays")), &self.path("arrays.jsonl"))
    }

    /// The programs of the objects, as libbpf relocates them for the running kernel.
    fn objects(&self) -> Result<(), TaskError> {
        say("relocating the objects");
        let source = self.write("gen/emit_objects.c", EMIT_OBJECTS)?;
        succeed(&mut self.gcc(&source, "emit_objects", &["libbpf/include"]))?;
        let mut emit = Command::new(self.path("emit_objects"));
        emit.arg(self.create("btf")?).args(self.files("obj", "o")?);
        output_to(&mut emit, &self.path("objects.jsonl"))
    }

    /// A compiler that makes `program` of `source`, with libbpf. Headers are looked for in
    /// `includes`, in this order, and then among those of the ABI.
    fn gcc(&self, source: &Path, program: &str, includes: &[&str]) -> Command {
        let mut gcc = Command::new("gcc");
        gcc.args(["-O1", "-w"]).arg(source).arg("-o").arg(self.path(program));
        for include in includes.iter().chain(&["src/tools/include/uapi"]) {
            gcc.arg("-I").arg(self.path(include));
        }
        gcc.arg(self.path("libbpf/lib/libbpf.a")).args(["-lelf", "-lz"]);
        gcc
    }

    /// The files of a directory with an extension, in order.
    fn files(&self, directory: &str, extension: &str) -> Result<Vec<PathBuf>, TaskError> {
        let path = self.path(directory);
        let failed = |error| TaskError::file(&path, error);
        let mut files = Vec::new();
        for entry in fs::read_dir(&path).map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            if file.extension() == Some(OsStr::new(extension)) {
                files.push(file);
            }
        }
        files.sort();
        Ok(files)
    }
}

fn succeed(command: &mut Command) -> Result<(), TaskError> {
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |why: String| TaskError::Failed(format!("{name}: {why}"));
    let status = command.status().map_err(|error| failed(error.to_string()))?;
    if status.success() { Ok(()) } else { Err(failed(status.to_string())) }
}

/// Writes what a command prints into a file, which is there only as a whole.
fn output_to(command: &mut Command, path: &Path) -> Result<(), TaskError> {
    let partial = path.with_extension("partial");
    let failed = |error| TaskError::file(&partial, error);
    let file = fs::File::create(&partial).map_err(failed)?;
    succeed(command.stdout(file))?;
    fs::rename(&partial, path).map_err(failed)
}
