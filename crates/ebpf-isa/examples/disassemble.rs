//! Prints a program given as hexadecimal digits, blanks ignored:
//!
//! ```text
//! $ cargo run -p ebpf-isa --example disassemble -- b700000001000000 9500000000000000
//!    0: r0 = 1
//!    1: exit
//! ```
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::error::Error;

use ebpf_isa::{Program, RawInsn};

fn main() -> Result<(), Box<dyn Error>> {
    let digits: String = std::env::args().skip(1).collect();
    let digits: Vec<u8> = digits.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pairs = digits.chunks(2).map(str::from_utf8);
    let bytes = pairs.map(|pair| Ok(u8::from_str_radix(pair?, 16)?));
    let bytes = bytes.collect::<Result<Vec<u8>, Box<dyn Error>>>()?;
    let program = Program::from_slots(&RawInsn::slots(&bytes)?)?;
    print!("{}", program.listing());
    Ok(())
}
