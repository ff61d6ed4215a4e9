//! Judges two versions of a program that reads the first byte of a packet.
//!
//! `cargo run -p ebpf-verifier --example verify`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use ebpf_isa::text::assemble;
use ebpf_verifier::{Environment, Options, program_types, verify};

const UNCHECKED: &str = "
    r2 = *(u32 *)(r1 +0)    ; data
    r0 = *(u8 *)(r2 +0)
    exit
";

const CHECKED: &str = "
    r2 = *(u32 *)(r1 +0)    ; data
    r3 = *(u32 *)(r1 +4)    ; data_end
    r4 = r2
    r4 += 1
    r0 = 2
    if r4 > r3 goto out
    r0 = *(u8 *)(r2 +0)
out:
    exit
";

fn main() -> Result<(), Box<dyn Error>> {
    let env = Environment::new(program_types::xdp());
    for text in [UNCHECKED, CHECKED] {
        match verify(&assemble(text)?, &env, &Options::default()) {
            Ok(verified) => {
                println!("accepted: {} instructions processed", verified.stats().processed);
            }
            Err(rejection) => println!("rejected: {} ({rejection})", rejection.errno_name()),
        }
    }
    Ok(())
}
