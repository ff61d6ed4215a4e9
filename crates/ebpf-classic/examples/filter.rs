//! Explains a filter that `tcpdump -ddd` printed, judges a packet by it, and shows it as eBPF:
//!
//! ```text
//! $ tcpdump -y EN10MB -ddd 'tcp port 22' > ssh.txt
//! $ cargo run -p ebpf-classic --example filter -- ssh.txt
//! ```
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::error::Error;

use ebpf_classic::explain::{Subject, explain};
use ebpf_classic::{Filter, Options, Packet, convert, text};

/// `tcpdump -y EN10MB -ddd arp`
const ARP: &str = "4,40 0 0 12,21 0 1 2054,6 0 0 262144,6 0 0 0";

fn main() -> Result<(), Box<dyn Error>> {
    let program = match std::env::args().nth(1) {
        Some(path) => std::fs::read_to_string(path)?,
        None => ARP.into(),
    };
    let filter = Filter::new(text::parse(&program)?)?;
    println!("accepted bytes:\n{}", explain(&filter, Subject::Packet, 100));

    let mut packet = [0; 60];
    packet[12..14].copy_from_slice(&[0x08, 0x06]);
    println!("of an ARP packet: {}\n", filter.run(&Packet::new(&packet)));

    println!("for traffic control:\n{}", convert(&filter, &Options::default())?.program.listing());
    Ok(())
}
