//! Compiles text assembly, and prints the machine code below each instruction.
//!
//! `cargo run -p ebpf-jit-x86 --features listing --example compile [FILE]`

use ebpf_isa::text::assemble;
use ebpf_jit_x86::{Listing, Options};

/// Sums the numbers below the one that `r1` points to.
const SUM: &str = "
    r2 = *(u64 *)(r1 +0)
    r0 = 0
    r3 = 0
loop:
    if r3 >= r2 goto end
    r0 += r3
    r3 += 1
    goto loop
end:
    exit
";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let text = match std::env::args().nth(1) {
        Some(file) => std::fs::read_to_string(file)?,
        None => SUM.to_string(),
    };
    let program = assemble(&text)?;
    let image = ebpf_jit_x86::compile(&program, None, &Options::default())?;
    #[allow(clippy::print_stdout, reason = "the listing is what the example is about")]
    {
        print!("{}", Listing::new(&program, &image));
    }
    Ok(())
}
