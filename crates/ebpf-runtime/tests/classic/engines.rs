//! What runs converted filters.

use std::sync::{Arc, LazyLock};

use ebpf_classic::{Converted, Filter, Options, Packet, Returns, Target, convert};
use ebpf_runtime::flat::{Block, FlatEngine, FlatProgram};
use ebpf_runtime::interp::{Links, Memory, Vm};
use ebpf_runtime::isa::abi::ExecEnv;
use ebpf_runtime::isa::{Program, Size};
use ebpf_runtime::pack::{Pack, PackOptions};
use ebpf_runtime::patch::HostField;
use ebpf_runtime::verifier::{
    ContextAccessInsn, Environment, KernelProfile, RewriteError, RewriteHooks, program_types,
    verify,
};
use ebpf_runtime::xdp::{self, Ingress, XdpProgram};
use ebpf_runtime::{Bindings, Engine, Runtime, verifier};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
static PACK: LazyLock<Pack> = LazyLock::new(|| Pack::new(PackOptions::default()).unwrap());

/// Converts for a target, where the filter's value is returned.
pub(crate) fn converted(filter: &Filter, target: Target) -> Converted {
    convert(filter, &Options { target, returns: Returns::Value }).unwrap()
}

/// What the converted filter says of packets.
pub(crate) trait Judge {
    fn judge(&self, packet: &[u8]) -> u32;
}

/// Verified and loaded as XDP.
pub(crate) fn xdp(filter: &Filter, engine: Engine) -> impl Judge + use<> {
    let program = converted(filter, Target::Xdp).program;
    let bindings = Bindings {
        kind: xdp::kind(),
        maps: Vec::new(),
        btf: None,
        gpl_compatible: false,
        profile: KernelProfile::default(),
    };
    let loaded = RUNTIME.load(&program, bindings, &verifier::Options::default(), engine);
    let loaded = loaded.unwrap_or_else(|error| panic!("{error}\n{}", program.listing()));
    XdpProgram::new(loaded).unwrap()
}

impl Judge for XdpProgram {
    fn judge(&self, packet: &[u8]) -> u32 {
        let ingress = Ingress { ifindex: 1, rx_queue: 0 };
        self.run(&mut packet.to_vec(), ingress, &mut ExecEnv::new()).unwrap().0
    }
}

/// On flat memory, checked access by access. Socket filters run there too, as long as they use the
/// packet alone.
pub(crate) fn flat(filter: &Filter, target: Target, jit: bool) -> impl Judge + use<> {
    let program = converted(filter, target).program;
    let engine = if jit { FlatEngine::Jit(&PACK) } else { FlatEngine::Interp };
    FlatProgram::new(&program, engine, &[]).unwrap()
}

impl Judge for FlatProgram {
    fn judge(&self, packet: &[u8]) -> u32 {
        let value = self.run(&mut Block::new(packet), &mut ExecEnv::new()).unwrap();
        u32::try_from(value).expect("the upper half is zero")
    }
}

/// Verified as traffic control, and run on a socket buffer made here.
pub(crate) struct SchedCls(Vm);

pub(crate) fn sched_cls(filter: &Filter) -> SchedCls {
    let program = converted(filter, Target::SchedCls).program;
    let environment = Environment::new(program_types::sched_cls());
    let verified = verify(&program, &environment, &verifier::Options::default());
    let verified = verified.unwrap_or_else(|error| panic!("{error}\n{}", program.listing()));
    let rewritten = verified.rewrite(&SkBuff).unwrap();
    SchedCls(Vm::new(&rewritten.program, None, &Links::default()).unwrap())
}

/// `struct __sk_buff` with addresses of 64 bits in front: data, its end, the length.
struct SkBuff;

impl RewriteHooks for SkBuff {
    fn context_field(&self, access: &ContextAccessInsn) -> Result<HostField, RewriteError> {
        let (off, size) = match access.offset {
            0 => (16, Size::W),
            76 => (0, Size::Dw),
            80 => (8, Size::Dw),
            _ => return Err(access.unsupported()),
        };
        Ok(HostField::whole(access.offset, Size::W, off, size))
    }
}

impl Judge for SchedCls {
    fn judge(&self, packet: &[u8]) -> u32 {
        let mut memory = Memory::new();
        let data = memory.add(packet);
        let end = data + packet.len() as u64;
        let len = packet.len() as u64;
        let context: Vec<u8> =
            [data, end, len].iter().flat_map(|word| word.to_ne_bytes()).collect();
        let ctx = memory.add(&context);
        self.0.run(ctx, &memory, &mut ExecEnv::new()).unwrap() as u32
    }
}

/// Asserts that every engine says what the classic interpreter says.
pub(crate) struct Engines {
    filter: Filter,
    judges: Vec<(&'static str, Box<dyn Judge>)>,
}

impl Engines {
    pub(crate) fn new(filter: &Filter) -> Self {
        let judges: Vec<(&'static str, Box<dyn Judge>)> = vec![
            ("xdp, interpreter", Box::new(xdp(filter, Engine::Interp))),
            ("xdp, compiled", Box::new(xdp(filter, Engine::Jit))),
            ("sched_cls, interpreter", Box::new(sched_cls(filter))),
            ("flat, interpreter", Box::new(flat(filter, Target::Flat, false))),
            ("flat, compiled", Box::new(flat(filter, Target::Flat, true))),
        ];
        Self { filter: filter.clone(), judges }
    }

    pub(crate) fn assert_agree(&self, packet: &[u8]) {
        let expected = self.filter.run(&Packet::new(packet));
        for (name, judge) in &self.judges {
            assert_eq!(judge.judge(packet), expected, "{name}, {} bytes", packet.len());
        }
    }
}

/// Programs verified by an environment of their own.
pub(crate) fn accepted(program: &Program, rules: Arc<dyn verifier::ProgramTypeRules>) {
    let verified = verify(program, &Environment::new(rules), &verifier::Options::default());
    verified.unwrap_or_else(|error| panic!("{error}\n{}", program.listing()));
}
