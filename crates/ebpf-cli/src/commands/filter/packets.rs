//! What a filter says of the packets of a capture, on one engine or all of them.

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use ebpf_runtime::classic::{Ancillary, Filter, Insn, Packet, Target};
use ebpf_runtime::filter::PacketFilter;
use ebpf_runtime::isa::abi::ExecEnv;
use ebpf_runtime::{Engine, Runtime};
use serde_json::{Value, json};

use super::{EngineArg, FilterArgs, OrRefuse, Refusal, Stop};
use crate::capture::Capture;
use crate::console::{Console, one_line};
use crate::error::{CliError, InFile};
use crate::packets::INGRESS;
use crate::progress::Progress;
use crate::read::{self, MAX_CAPTURE_BYTES};
use crate::render::table;

/// Length of an Ethernet header.
const ETHERNET_HEADER: usize = 14;

/// Lets the filter judge each packet, and prints how many it accepts and how long that takes.
pub(super) fn judge(
    args: &FilterArgs,
    name: &str,
    filter: &Filter,
    pcap: &Path,
    console: &mut Console,
) -> Result<(), Stop> {
    let pcap_name = pcap.display().to_string();
    let bytes = read::bytes(pcap, MAX_CAPTURE_BYTES).in_file(&pcap_name)?;
    let capture = Capture::parse(&bytes).in_file(&pcap_name)?;
    let packets: Vec<Packet<'_>> = capture.packets().iter().map(|bytes| packet(bytes)).collect();
    let runtime = Runtime::new().map_err(CliError::from)?;
    let expected: Vec<u32> = packets.iter().map(|packet| filter.run(packet)).collect();
    let mut report = Report::new(args, name, filter, &expected);
    let mut progress =
        Progress::new(args.repeat.times * (packets.len() * args.engines().len()) as u64);
    let mut done = 0;
    for engine in args.engines() {
        let start = Instant::now();
        let judge = Judge::new(&runtime, filter, args.target.into(), engine).or_refuse()?;
        let load = start.elapsed();
        let (mut values, mut time) = (Vec::with_capacity(packets.len()), Duration::ZERO);
        for _ in 0..args.repeat.times {
            values.clear();
            let mut env = ExecEnv::new();
            let start = Instant::now();
            values.extend(packets.iter().map(|packet| judge.judge(packet, &mut env)));
            time += start.elapsed();
            done += packets.len() as u64;
            progress.at(done);
        }
        if !differs_by_engine(filter) {
            compare(engine, &values, &expected).or_refuse()?;
        }
        report.add(engine, &judge, load, time);
    }
    drop(progress);
    if args.json {
        writeln!(console.out, "{}", report.json())?;
    } else {
        report.write(&pcap_name, &mut console.out)?;
    }
    Ok(())
}

/// A packet as it comes in by Ethernet: its type is that of the header, it has no tag but the one in
/// its bytes, and its interface is that of `ebpf run`.
fn packet(bytes: &[u8]) -> Packet<'_> {
    let mut packet = Packet::new(bytes);
    packet.metadata.ifindex = INGRESS.ifindex;
    if let Some(header) = bytes.first_chunk::<ETHERNET_HEADER>() {
        packet.network_header = Some(ETHERNET_HEADER as u32);
        packet.metadata.protocol = u16::from_be_bytes([header[12], header[13]]);
    }
    packet
}

/// Whether what a filter says may differ from run to run.
fn differs_by_engine(filter: &Filter) -> bool {
    let random = Insn::LoadAncillary(Ancillary::Random);
    filter.insns().contains(&random)
}

fn compare(engine: EngineArg, values: &[u32], expected: &[u32]) -> Result<(), Refusal> {
    let differs = |(value, expected): (&u32, &u32)| value != expected;
    match values.iter().zip(expected).position(differs) {
        None => Ok(()),
        Some(index) => Err(Refusal::Disagreement {
            engine: engine.name(),
            value: values[index],
            expected: expected[index],
        }),
    }
}

/// A filter on an engine.
enum Judge<'a> {
    Classic(&'a Filter),
    Converted(Box<PacketFilter>),
}

impl<'a> Judge<'a> {
    fn new(
        runtime: &Runtime,
        filter: &'a Filter,
        target: Target,
        engine: EngineArg,
    ) -> Result<Self, Refusal> {
        let engine = match engine {
            EngineArg::Classic => return Ok(Self::Classic(filter)),
            EngineArg::Interp => Engine::Interp,
            EngineArg::Jit => Engine::Jit,
        };
        Ok(Self::Converted(Box::new(PacketFilter::load(runtime, filter, target, engine)?)))
    }

    fn judge(&self, packet: &Packet<'_>, env: &mut ExecEnv) -> u32 {
        match self {
            Self::Classic(filter) => filter.run(packet),
            Self::Converted(filter) => filter
                .run(packet, env)
                .expect("invariant: a filter has no loops, and fuel for years"),
        }
    }
}

/// What there is to say. In the form for people, what depends on the clock stands on lines that begin
/// with `time`.
struct Report<'a> {
    args: &'a FilterArgs,
    name: &'a str,
    filter: &'a Filter,
    packets: u64,
    accepted: u64,
    /// Instructions after conversion.
    converted: Option<usize>,
    engines: Vec<Timed>,
}

struct Timed {
    engine: EngineArg,
    load: Duration,
    time: Duration,
}

impl<'a> Report<'a> {
    fn new(args: &'a FilterArgs, name: &'a str, filter: &'a Filter, values: &[u32]) -> Self {
        let accepted = values.iter().filter(|&&value| value != 0).count() as u64;
        let packets = values.len() as u64;
        let engines = Vec::new();
        Self { args, name, filter, packets, accepted, converted: None, engines }
    }

    fn add(&mut self, engine: EngineArg, judge: &Judge<'_>, load: Duration, time: Duration) {
        if let Judge::Converted(filter) = judge {
            self.converted = Some(filter.converted().program.insns().count());
        }
        self.engines.push(Timed { engine, load, time });
    }

    /// Nanoseconds a packet.
    fn ns(&self, timed: &Timed) -> f64 {
        timed.time.as_nanos() as f64 / (self.packets * self.args.repeat.times) as f64
    }

    fn write(&self, pcap: &str, out: &mut impl Write) -> io::Result<()> {
        let insns = self.filter.insns().len();
        writeln!(out, "filter    {} with {insns} instructions", one_line(self.name))?;
        if let Some(converted) = self.converted {
            let target = Target::from(self.args.target);
            writeln!(out, "program   {converted} instructions as {target}")?;
        }
        writeln!(out, "packets   {}, {} times", one_line(pcap), self.args.repeat.times)?;
        for timed in &self.engines {
            let (name, load) = (timed.engine.name(), timed.load.as_secs_f64() * 1e6);
            write!(out, "time      {name}: {:.1} ns per packet", self.ns(timed))?;
            match timed.engine {
                EngineArg::Classic => writeln!(out)?,
                EngineArg::Interp | EngineArg::Jit => writeln!(out, ", {load:.0} us to load")?,
            }
        }
        writeln!(out)?;
        let rejected = self.packets - self.accepted;
        let rows = [("ACCEPT", self.accepted), ("DROP", rejected), ("total", self.packets)];
        table::write(out, ("verdict", "packets"), &rows)
    }

    fn json(&self) -> Value {
        let engine = |timed: &Timed| {
            json!({
                "engine": timed.engine.name(),
                "load_usec": timed.load.as_micros() as u64,
                "run_ns": timed.time.as_nanos() as u64,
                "ns_per_packet": self.ns(timed),
            })
        };
        json!({
            "file": self.name,
            "type": Target::from(self.args.target).name(),
            "insns": self.filter.insns().len(),
            "converted_insns": self.converted,
            "packets": self.packets,
            "repeat": self.args.repeat.times,
            "accepted": self.accepted,
            "dropped": self.packets - self.accepted,
            "engines": self.engines.iter().map(engine).collect::<Vec<_>>(),
        })
    }
}
