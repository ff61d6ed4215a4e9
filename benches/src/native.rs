//! Benchmark programs as clang compiles them for this machine: built into a shared object, loaded,
//! and called.

#![allow(unsafe_code, reason = "a function of a shared object is called")]

use std::ffi::{CString, OsString, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::memory::Memory;
use crate::programs::{BLOCK_BYTES, BenchProgram};

/// What clang is told besides `-O2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// Nothing.
    O2,
    /// To do what a compiler for one instruction at a time could: no vectors, no unrolling, no jump
    /// tables.
    Scalar,
}

/// Why there is no native program.
#[derive(Debug, thiserror::Error)]
pub enum NativeError {
    /// No clang.
    #[error("there is no clang: set CLANG, or install clang-19 or clang")]
    NoClang,
    /// Clang failed.
    #[error("{clang} does not compile {program}: {why}")]
    Compile {
        /// The compiler.
        clang: String,
        /// The program.
        program: &'static str,
        /// What it said.
        why: String,
    },
    /// The shared object cannot be loaded.
    #[error("cannot load {}", .0.display())]
    Load(PathBuf),
    /// There is no place for it.
    #[error("cannot write into the target directory: {0}")]
    Directory(#[from] std::io::Error),
}

/// A clang that was found.
#[derive(Debug, Clone)]
pub struct Clang(OsString);

impl Clang {
    /// `$CLANG`, or `clang-19`, or `clang`.
    ///
    /// # Errors
    /// None of them runs.
    pub fn find() -> Result<Self, NativeError> {
        let usual = ["clang-19", "clang"].map(OsString::from);
        let names = std::env::var_os("CLANG").into_iter().chain(usual);
        let runs = |name: &OsString| {
            Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
        };
        names.into_iter().find(runs).map(Self).ok_or(NativeError::NoClang)
    }

    fn compile(
        &self,
        program: &BenchProgram,
        flavour: Flavour,
        into: &Path,
    ) -> Result<PathBuf, NativeError> {
        let path = into.join(format!("{}-{flavour:?}.so", program.name));
        let mut command = Command::new(&self.0);
        command.args(["-O2", "-fPIC", "-shared", "-nostdlib", "-ffreestanding", "-o"]).arg(&path);
        if flavour == Flavour::Scalar {
            command.args(["-fno-vectorize", "-fno-slp-vectorize"]);
            command.args(["-fno-unroll-loops", "-fno-jump-tables"]);
        }
        let told = |why| NativeError::Compile {
            clang: self.0.display().to_string(),
            program: program.name,
            why,
        };
        let output =
            command.arg(program.source()).output().map_err(|error| told(error.to_string()))?;
        if output.status.success() {
            Ok(path)
        } else {
            Err(told(String::from_utf8_lossy(&output.stderr).into_owned()))
        }
    }
}

/// A program in machine code. It stays loaded: a benchmark has few of them.
#[derive(Debug, Clone, Copy)]
pub struct Native(unsafe extern "C" fn(*mut u8, u64) -> u64);

impl Native {
    /// Compiles and loads a program.
    ///
    /// # Errors
    /// Clang fails, or what it makes cannot be loaded.
    pub fn new(
        clang: &Clang,
        program: &BenchProgram,
        flavour: Flavour,
    ) -> Result<Self, NativeError> {
        // Beside the running program, which is in cargo's target directory.
        let directory = std::env::current_exe()?.with_extension(format!("{}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        let native = clang.compile(program, flavour, &directory).and_then(|path| load(&path));
        // What is loaded stays loaded without its file.
        std::fs::remove_dir_all(&directory)?;
        native
    }

    /// Runs the program.
    pub fn run(self, memory: &mut Memory) -> u64 {
        // SAFETY: the function is `prog` of a program of this package, which touches nothing but
        // the block of this size.
        unsafe { (self.0)(memory.as_mut_ptr(), BLOCK_BYTES as u64) }
    }
}

fn load(path: &Path) -> Result<Native, NativeError> {
    let failed = || NativeError::Load(path.into());
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| failed())?;
    // SAFETY: the name ends with a zero byte. The shared object has no initialisers: it is one
    // of our programs, linked with nothing.
    let library = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if library.is_null() {
        return Err(failed());
    }
    // SAFETY: the handle is that of a library that is not closed; the name ends with a zero byte.
    let function = unsafe { libc::dlsym(library, c"prog".as_ptr()) };
    if function.is_null() {
        return Err(failed());
    }
    // SAFETY: `program.h` gives `prog` this signature.
    let function = unsafe {
        std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut u8, u64) -> u64>(function)
    };
    Ok(Native(function))
}
