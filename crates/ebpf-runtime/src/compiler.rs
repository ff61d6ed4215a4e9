//! How a runtime compiles programs.

use std::hash::{BuildHasher, RandomState};

use ebpf_jit_x86::Options;

/// Whether the constants of compiled programs are blinded, so that nobody can place machine code
/// in memory by choosing numbers: see [`ebpf_patch::blind_constants`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Blinding {
    /// No: for programs of trusted authors.
    #[default]
    Off,
    /// Yes, under a secret seed that is drawn for each program.
    On,
    /// Yes, under this seed: for tests that want the same code again.
    Seed([u64; 2]),
}

/// What a [`Runtime`](crate::Runtime) asks of its compiler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compiler {
    /// Whether compiled programs charge fuel. Verified programs end by themselves; with fuel they
    /// end as early as the host likes.
    pub fuel: bool,
    /// Whether each subprogram links its frame, for whoever walks stacks by frame pointers.
    pub frame_pointers: bool,
    /// Whether constants are blinded.
    pub blinding: Blinding,
    /// Whether compiled programs are written to `/tmp/perf-PID.map`, where `perf report` looks for
    /// the names of code that no file has.
    pub perf_map: bool,
    /// Whether GDB is told of compiled programs. Feature `gdb`.
    #[cfg(feature = "gdb")]
    pub gdb: bool,
}

impl Compiler {
    /// The options for one program.
    #[must_use]
    pub fn options(&self) -> Options {
        let options =
            Options::default().with_fuel(self.fuel).with_frame_pointers(self.frame_pointers);
        match self.blinding {
            Blinding::Off => options,
            Blinding::On => options.with_blinding(draw_seed()),
            Blinding::Seed(seed) => options.with_blinding(seed),
        }
    }
}

/// 128 bits that nobody can predict: the hashes of two numbers under keys from the system.
fn draw_seed() -> [u64; 2] {
    let keys = RandomState::new();
    [0_u8, 1].map(|number| keys.hash_one(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_gets_a_seed_of_its_own() {
        let compiler = Compiler { blinding: Blinding::On, ..Compiler::default() };
        let [one, other] = [compiler.options(), compiler.options()].map(|options| options.blinding);
        assert!(one.is_some() && one != other);
        assert_eq!(Compiler::default().options(), Options::default());
    }
}
