//! Classic packet filters as eBPF: converted, verified where the verifier can say something, and run.
//!
//! ```
//! use ebpf_runtime::classic::{Filter, Packet, Target, text};
//! use ebpf_runtime::filter::PacketFilter;
//! use ebpf_runtime::isa::abi::ExecEnv;
//! use ebpf_runtime::{Engine, Runtime};
//!
//! // `tcpdump -y EN10MB -ddd arp`
//! let arp = Filter::new(text::parse("4,40 0 0 12,21 0 1 2054,6 0 0 262144,6 0 0 0")?)?;
//! let arp = PacketFilter::load(&Runtime::new()?, &arp, Target::SchedCls, Engine::Jit)?;
//!
//! let mut packet = [0; 60];
//! packet[12..14].copy_from_slice(&[0x08, 0x06]);
//! assert_eq!(arp.run(&Packet::new(&packet), &mut ExecEnv::new()), Ok(262_144));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![allow(unsafe_code, reason = "programs that only read are run on packets that are only lent")]

use ebpf_classic::{
    ClassicPc, ConvertError, Converted, Filter, Insn as ClassicInsn, Options, Packet, Returns,
    Target, convert,
};
use ebpf_isa::abi::{ExecEnv, Trap};
use ebpf_isa::{Insn, Program, Reg};
use ebpf_verifier::Options as VerifierOptions;

use crate::flat::{FlatEngine, FlatError, FlatProgram, GET_PRANDOM_U32, GET_SMP_PROCESSOR_ID};
use crate::kind::ProgramKind;
use crate::load::{Bindings, LoadError, Runtime};
use crate::loaded::{Engine, Loaded};
use crate::skb;
use crate::xdp::{self, Ingress};

/// Why a classic filter cannot be run as eBPF.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// The target does not have what the filter needs.
    #[error(transparent)]
    Convert(#[from] Box<ConvertError>),
    /// The converted program is not loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The converted program cannot be run with checks.
    #[error(transparent)]
    Flat(#[from] FlatError),
    /// A socket filter with a load that counts from a header, or may do so for some values of `X`:
    /// packet loads do not do that here.
    #[error("insn {pc}: may count from a header, which is not run as socket_filter; use sched_cls")]
    Header {
        /// The load.
        pc: ClassicPc,
    },
    /// System calls are no packets.
    #[error("seccomp filters judge no packets; load them as `SeccompProgram`")]
    SystemCalls,
}

/// A classic filter, converted and ready to judge packets.
///
/// The program is verified and runs unchecked, except for [`Target::Flat`], which is no program type:
/// there each access is checked. Packet loads, which socket filters are made of, do not count from
/// headers here: filters that do, or may, are refused.
#[derive(Debug)]
pub struct PacketFilter {
    converted: Converted,
    code: Code,
}

#[derive(Debug)]
enum Code {
    /// For traffic control, where only the packet is looked at.
    Packet(Box<Loaded>),
    SchedCls(Box<Loaded>),
    Xdp(Box<Loaded>),
    SocketFilter(Box<Loaded>),
    Flat(Box<FlatProgram>),
}

impl PacketFilter {
    /// Converts a filter for a target and makes it ready to run on an engine.
    ///
    /// # Errors
    /// It cannot be converted, or the engine does not take it. The verifier accepts every converted
    /// filter that it can walk through in the number of instructions that it allows itself.
    pub fn load(
        runtime: &Runtime,
        filter: &Filter,
        target: Target,
        engine: Engine,
    ) -> Result<Self, FilterError> {
        let converted =
            convert(filter, &Options { target, returns: Returns::Value }).map_err(Box::new)?;
        let program = &converted.program;
        let code = match target {
            Target::SchedCls if needs_metadata(filter) => {
                Code::SchedCls(Box::new(verified(runtime, program, skb::sched_cls(), engine)?))
            }
            Target::SchedCls => {
                let kind = skb::sched_cls_of_packet();
                Code::Packet(Box::new(verified(runtime, program, kind, engine)?))
            }
            Target::Xdp => Code::Xdp(Box::new(verified(runtime, program, xdp::kind(), engine)?)),
            Target::SocketFilter => {
                if let Some(pc) = filter.first_header_load() {
                    return Err(FilterError::Header { pc });
                }
                let kind = skb::socket_filter();
                Code::SocketFilter(Box::new(verified(runtime, program, kind, engine)?))
            }
            Target::Flat => Code::Flat(Box::new(checked(runtime, program, engine)?)),
            Target::Seccomp => return Err(FilterError::SystemCalls),
        };
        Ok(Self { converted, code })
    }

    /// The converted filter, with the one it was made of.
    #[must_use]
    pub fn converted(&self) -> &Converted {
        &self.converted
    }

    /// What was loaded; `None` where the program was not verified.
    #[must_use]
    pub fn loaded(&self) -> Option<&Loaded> {
        match &self.code {
            Code::Packet(loaded)
            | Code::SchedCls(loaded)
            | Code::Xdp(loaded)
            | Code::SocketFilter(loaded) => Some(loaded),
            Code::Flat(_) => None,
        }
    }

    /// The filter's value for a packet: the number of bytes to keep, 0 to drop it. It is that of
    /// [`Filter::run`], but for random numbers, and for the number of the processor, which is
    /// [`ExecEnv::cpu_slot`].
    ///
    /// # Errors
    /// The trap that ended the run: there is none but for lack of fuel.
    #[inline]
    pub fn run(&self, packet: &Packet<'_>, env: &mut ExecEnv) -> Result<u32, Trap> {
        let r0 = match &self.code {
            // SAFETY: `verified` loaded a program of this kind that stores to its stack alone.
            Code::Packet(loaded) => unsafe { skb::run_on_packet(loaded, packet, env) },
            _ => self.run_otherwise(packet, env),
        }?;
        Ok(r0 as u32)
    }

    #[inline(never)]
    fn run_otherwise(&self, packet: &Packet<'_>, env: &mut ExecEnv) -> Result<u64, Trap> {
        match &self.code {
            // SAFETY: `verified` loaded a program of this kind that stores to its stack alone.
            Code::Packet(loaded) => unsafe { skb::run_on_packet(loaded, packet, env) },
            // SAFETY: likewise.
            Code::SchedCls(loaded) => unsafe { skb::run_on_buffer(loaded, packet, env) },
            Code::Xdp(loaded) => {
                let meta = &packet.metadata;
                let ingress = Ingress { ifindex: meta.ifindex, rx_queue: meta.queue.into() };
                // SAFETY: likewise.
                unsafe { xdp::run_on_packet(loaded, packet.bytes, ingress, env) }
            }
            // SAFETY: likewise.
            Code::SocketFilter(loaded) => unsafe { skb::run_on_socket(loaded, packet, env) },
            Code::Flat(program) => program.run_on(packet.bytes, packet.bytes, env),
        }
    }
}

/// Loads a converted program.
///
/// # Panics
/// It stores to something else than its stack, which no conversion does.
fn verified(
    runtime: &Runtime,
    program: &Program,
    kind: ProgramKind,
    engine: Engine,
) -> Result<Loaded, LoadError> {
    let stores_elsewhere = |insn| match insn {
        Insn::Store { base, .. } => base != Reg::FP,
        Insn::Atomic { .. } | Insn::StoreRelease { .. } => true,
        _ => false,
    };
    assert!(
        !program.insns().any(|(_, insn)| stores_elsewhere(insn)),
        "invariant: converted filters write to their stack alone"
    );
    runtime.load(program, Bindings::new(kind), &VerifierOptions::default(), engine)
}

fn checked(runtime: &Runtime, program: &Program, engine: Engine) -> Result<FlatProgram, FlatError> {
    let engine = match engine {
        Engine::Interp => FlatEngine::Interp,
        Engine::Jit => FlatEngine::Jit(runtime.pack()),
    };
    FlatProgram::new(program, engine, &[GET_PRANDOM_U32, GET_SMP_PROCESSOR_ID])
}

/// Whether a filter looks at more than the packet.
fn needs_metadata(filter: &Filter) -> bool {
    filter.insns().iter().any(|insn| matches!(insn, ClassicInsn::LoadAncillary(_)))
}
