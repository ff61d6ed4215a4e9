//! Runs a program on the packets of a capture and measures it.
//!
//! **What is timed is the program alone.** A program may change its packet, so it gets a copy.
//! Packets are copied in batches of [`BATCH`] into one buffer that is used again and again, the
//! clock is read before and after the runs of a batch, and copying and counting happen outside of
//! that. So the time of a run includes making its context and environment and the call, as any
//! caller would pay for them, and a small share of one reading of the clock.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Args;
use ebpf_runtime::isa::abi::{ExecEnv, Trap};
use ebpf_runtime::xdp::{HEADROOM, Ingress, TAILROOM, XdpAction};

use crate::capture::Capture;
use crate::progress::Progress;

/// The argument of commands that go over a capture given as `--pcap`.
#[derive(Debug, Args)]
pub(crate) struct RepeatArg {
    /// Go over the whole capture so many times
    #[arg(
        id = "repeat",
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u64).range(1..),
        requires = "pcap"
    )]
    pub(crate) times: u64,
}

/// Packets that are run between two readings of the clock.
const BATCH: usize = 64;

/// Where all packets come in. Captures do not say it.
pub(crate) const INGRESS: Ingress = Ingress { ifindex: 1, rx_queue: 0 };

/// The actions that have a name, by number.
pub(crate) const ACTIONS: [XdpAction; 5] =
    [XdpAction::ABORTED, XdpAction::DROP, XdpAction::PASS, XdpAction::TX, XdpAction::REDIRECT];

/// What the runs of a program came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Runs {
    /// How many there were.
    pub(crate) packets: u64,
    /// How many ended in each of [`ACTIONS`].
    pub(crate) actions: [u64; ACTIONS.len()],
    /// How many ended in a number that is no action. The kernel drops such packets.
    pub(crate) unknown: u64,
    /// Instructions that were charged. Compiled code charges none.
    pub(crate) executed: u64,
    /// Time of all runs.
    pub(crate) time: Duration,
}

impl Runs {
    /// Nanoseconds a run; `None` where there was none.
    pub(crate) fn ns_per_packet(&self) -> Option<f64> {
        (self.packets != 0).then(|| self.time.as_nanos() as f64 / self.packets as f64)
    }

    fn count(&mut self, action: XdpAction) {
        self.packets += 1;
        match self.actions.get_mut(action.0 as usize) {
            Some(packets) => *packets += 1,
            None => self.unknown += 1,
        }
    }
}

/// A run that ended early. No packet is run after it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("packet {packet}: {trap}")]
pub(crate) struct Trapped {
    /// The packet's number in the capture, from 1.
    pub(crate) packet: usize,
    /// Why.
    pub(crate) trap: Trap,
}

/// Runs a program, by `run`, which gets a packet with the room around it, on all packets in their order, `repeat` times.
pub(crate) fn run(
    mut run: impl FnMut(&mut [u8], &mut Range<usize>, &mut ExecEnv) -> Result<XdpAction, Trap>,
    capture: &Capture<'_>,
    repeat: u64,
) -> Result<Runs, Trapped> {
    let mut runs = Runs::default();
    let mut batch = Batch::default();
    let packets = capture.packets();
    let mut progress = Progress::new(repeat.saturating_mul(packets.len() as u64));
    for _ in 0..repeat {
        for (first, chunk) in (1..).step_by(BATCH).zip(packets.chunks(BATCH)) {
            batch.fill(chunk);
            batch
                .run(&mut run, &mut runs)
                .map_err(|trap| Trapped { packet: first + batch.results.len(), trap })?;
            batch.results.iter().for_each(|&action| runs.count(action));
            progress.at(runs.packets);
        }
    }
    Ok(runs)
}

/// Copies of packets, one behind the other, each with room around it.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    lengths: Vec<usize>,
    results: Vec<XdpAction>,
}

impl Batch {
    fn fill(&mut self, packets: &[&[u8]]) {
        self.bytes.clear();
        self.lengths.clear();
        self.results.clear();
        for packet in packets {
            self.bytes.resize(self.bytes.len() + HEADROOM, 0);
            self.bytes.extend_from_slice(packet);
            self.bytes.resize(self.bytes.len() + TAILROOM, 0);
            self.lengths.push(packet.len());
        }
        self.results.reserve(packets.len());
    }

    fn run(
        &mut self,
        run: &mut impl FnMut(&mut [u8], &mut Range<usize>, &mut ExecEnv) -> Result<XdpAction, Trap>,
        runs: &mut Runs,
    ) -> Result<(), Trap> {
        let mut rest = &mut self.bytes[..];
        let start = Instant::now();
        for &len in &self.lengths {
            let (room, after) = rest.split_at_mut(HEADROOM + len + TAILROOM);
            rest = after;
            let (mut packet, mut env) = (HEADROOM..HEADROOM + len, ExecEnv::new());
            self.results.push(run(room, &mut packet, &mut env)?);
            runs.executed += (i64::MAX - env.fuel.load(Ordering::Relaxed)) as u64;
        }
        runs.time += start.elapsed();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_no_action_are_counted_apart() {
        let mut runs = Runs::default();
        for action in [0, 4, 5, u32::MAX, 4] {
            runs.count(XdpAction(action));
        }
        assert_eq!(runs.actions, [1, 0, 0, 0, 2]);
        assert_eq!((runs.unknown, runs.packets), (2, 5));
    }

    #[test]
    fn time_is_shared_by_all_packets() {
        let runs = Runs { packets: 4, time: Duration::from_nanos(10), ..Runs::default() };
        assert_eq!(runs.ns_per_packet(), Some(2.5));
        assert_eq!(Runs::default().ns_per_packet(), None);
    }
}
