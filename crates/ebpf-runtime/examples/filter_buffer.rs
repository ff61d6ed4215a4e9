//! Judges a buffer by the filter that `tcpdump -ddd` printed, with the converter and the interpreter
//! alone: no runtime, no verifier, no machine code, nothing unsafe.
//!
//! ```text
//! $ tcpdump -y EN10MB -ddd 'tcp port 22' > ssh.txt
//! $ cargo run -p ebpf-runtime --example filter_buffer -- ssh.txt packet.bin
//! ```
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::error::Error;

use ebpf_classic::{Filter, Options, Returns, Target, convert, text};
use ebpf_interp::{Links, Memory, Vm};
use ebpf_isa::abi::ExecEnv;

fn main() -> Result<(), Box<dyn Error>> {
    let mut files = std::env::args().skip(1);
    let (Some(filter), Some(packet)) = (files.next(), files.next()) else {
        return Err("usage: filter_buffer FILTER PACKET".into());
    };
    let filter = Filter::new(text::parse(&std::fs::read_to_string(filter)?)?)?;
    if let Some(pc) = filter.first_header_load() {
        return Err(format!("insn {pc}: may count from a header, which nobody knows here").into());
    }
    let options = Options { target: Target::SocketFilter, returns: Returns::Value };
    let vm = Vm::new(&convert(&filter, &options)?.program, None, &Links::default())?;

    let packet = std::fs::read(packet)?;
    let mut memory = Memory::new();
    memory.add(&packet);
    // All that the context is asked for is the length.
    let context = (packet.len() as u32).to_ne_bytes();
    let context = memory.add(&context);
    let mut env = ExecEnv::new();
    (env.packet, env.packet_len) = (packet.as_ptr(), packet.len() as u64);
    match vm.run(context, &memory, &mut env)? {
        0 => println!("drop"),
        len => println!("keep {len} bytes"),
    }
    Ok(())
}
