//! The benchmark programs: `benches/programs/*.c`, compiled for BPF into the objects beside them.

use std::path::PathBuf;

use ebpf_runtime::isa::{Program, RawInsn};
use ebpf_runtime::object::{Object, ObjectError};

/// Bytes of the block that a program runs on: `BLOCK` of `program.h`.
pub const BLOCK_BYTES: usize = 4096;

/// A program and what it runs on.
#[derive(Debug, Clone, Copy)]
pub struct BenchProgram {
    /// The name of its source and object.
    pub name: &'static str,
    /// Fills the block.
    input: fn(&mut [u8]),
    /// What it makes of that.
    pub result: u64,
}

/// Why a program cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ProgramsError {
    /// Its object cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    File {
        /// The object.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// Its object is not what it should be.
    #[error("{program}: {error}")]
    Object {
        /// The program.
        program: &'static str,
        /// What is wrong with it.
        error: ObjectError,
    },
    /// The linked program has no encoding.
    #[error("{program}: {error}")]
    Encode {
        /// The program.
        program: &'static str,
        /// Why.
        error: ebpf_runtime::isa::EncodeError,
    },
}

/// The program that does nothing, by which the cost of a call is known.
pub const EMPTY: BenchProgram =
    BenchProgram { name: "empty", input: noise, result: BLOCK_BYTES as u64 };

/// The ten programs that are measured. The results were computed outside of this project's code and of
/// clang: SHA-256 and CRC-32 by the standard library of Python, the rest by the algorithm written
/// down there once more.
pub const PROGRAMS: [BenchProgram; 10] = [
    BenchProgram { name: "arithmetic", input: noise, result: 0x0000_a2bb_9deb_3a13 },
    BenchProgram { name: "sieve", input: noise, result: 0x0000_0234_0010_540b },
    BenchProgram { name: "checksum", input: noise, result: 0x2888_a235_9a95_0911 },
    BenchProgram { name: "packet", input: frames, result: 0x889b_82eb_278a_9e86 },
    BenchProgram { name: "state_machine", input: text, result: 0xa416_7556_9e0d_ee5b },
    BenchProgram { name: "calls", input: noise, result: 0x2f07_c832_04ea_abc1 },
    BenchProgram { name: "sha256", input: noise, result: 0x62a3_f758_930c_2a3f },
    BenchProgram { name: "crc32", input: noise, result: 0x270e_9e50 },
    BenchProgram { name: "binary_search", input: sorted, result: 0xabb6_aaf2_c267_b6a6 },
    BenchProgram { name: "siphash", input: noise, result: 0xb347_b375_a0ce_ca24 },
];

/// The program whose time goes into calls, which ratios to the kernel's compiler leave out.
pub const CALLS: &str = "calls";

impl BenchProgram {
    /// The program as `u64 prog(void *mem, u64 len)`.
    ///
    /// # Errors
    /// Its object is missing or broken.
    pub fn flat(&self) -> Result<Program, ProgramsError> {
        self.linked("prog")
    }

    /// The program for the kernel, whose only wide load of a map is that of the block.
    ///
    /// # Errors
    /// Its object is missing or broken.
    pub fn for_kernel(&self) -> Result<Vec<RawInsn>, ProgramsError> {
        let program = self.linked("prog_kernel")?;
        program.to_slots().map_err(|error| ProgramsError::Encode { program: self.name, error })
    }

    /// The block as the program finds it.
    #[must_use]
    pub fn block(&self) -> Vec<u8> {
        let mut block = vec![0; BLOCK_BYTES];
        (self.input)(&mut block);
        block
    }

    /// Where its source is.
    #[must_use]
    pub fn source(&self) -> PathBuf {
        directory().join(self.name).with_extension("c")
    }

    fn linked(&self, function: &str) -> Result<Program, ProgramsError> {
        let path = directory().join(self.name).with_extension("o");
        let bytes = std::fs::read(&path).map_err(|error| ProgramsError::File { path, error })?;
        let told = |error| ProgramsError::Object { program: self.name, error };
        let object = Object::parse(&bytes).map_err(told)?;
        Ok(object.program(function).map_err(told)?.program)
    }
}

/// The 32 bits that the kernel's variant makes of a result.
#[must_use]
pub const fn folded(result: u64) -> u32 {
    (result ^ result >> 32) as u32
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("programs")
}

/// xorshift64, which gives the same numbers everywhere.
struct Noise(u64);

impl Noise {
    const fn new() -> Self {
        Self(0x2545_f491_4f6c_dd1d)
    }

    const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

fn noise(block: &mut [u8]) {
    let mut noise = Noise::new();
    for bytes in block.chunks_exact_mut(8) {
        bytes.copy_from_slice(&noise.next().to_le_bytes());
    }
}

/// Ascending words.
fn sorted(block: &mut [u8]) {
    let mut noise = Noise::new();
    for (index, bytes) in (0_u32..).zip(block.chunks_exact_mut(4)) {
        let word = index * 4_000_000 + (noise.next() % 3_000_000) as u32;
        bytes.copy_from_slice(&word.to_le_bytes());
    }
}

/// Words, numbers, strings and comments in no order.
fn text(block: &mut [u8]) {
    const PIECES: [&str; 8] =
        ["alpha ", "x_1=", "42, ", "3.14 ", "\"say \\\"no\\\"\" ", "# and so on\n", "b+c ", "   "];
    let mut noise = Noise::new();
    let mut bytes = Vec::new();
    while bytes.len() < block.len() {
        bytes.extend_from_slice(PIECES[(noise.next() >> 32) as usize % PIECES.len()].as_bytes());
    }
    block.copy_from_slice(&bytes[..block.len()]);
}

/// A frame each 128 bytes, with noise for addresses, ports and payload.
fn frames(block: &mut [u8]) {
    // What follows the two addresses: types and tags, and the first bytes of the header behind.
    const TCP: u8 = 6;
    const UDP: u8 = 17;
    let kinds: [(&[u8], u8, u8); 8] = [
        (&[0x08, 0x00], 0x45, UDP),
        (&[0x08, 0x00], 0x46, TCP),
        (&[0x81, 0x00, 0x00, 0x07, 0x08, 0x00], 0x45, TCP),
        (&[0x88, 0xa8, 0x00, 0x07, 0x81, 0x00, 0x00, 0x09, 0x86, 0xdd], 0x60, TCP),
        (&[0x08, 0x06], 0x00, 0),
        (&[0x86, 0xdd], 0x60, UDP),
        (&[0x08, 0x00], 0x45, 1),
        (&[0x08, 0x00], 0x4f, UDP),
    ];
    noise(block);
    for (index, frame) in block.chunks_exact_mut(128).enumerate() {
        let (types, version, protocol) = kinds[(index * 5 + index / 8) % kinds.len()];
        let ip = 12 + types.len();
        frame[12..ip].copy_from_slice(types);
        frame[ip] = version;
        if version == 0x60 {
            frame[ip + 6] = protocol;
        } else {
            // Not a fragment.
            frame[ip + 6..ip + 8].copy_from_slice(&[0x40, 0]);
            frame[ip + 9] = protocol;
        }
    }
}
