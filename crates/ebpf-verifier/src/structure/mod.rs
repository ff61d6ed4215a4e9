//! What can be said without exploring: references to maps, reachability, the depth of calls.

mod slots;

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use ebpf_isa::uapi::{HelperId, MapType};
use ebpf_isa::{AluOp, CallTarget, Insn, MapIdx, Pc, Program, Reg, SubprogIdx, WideSource};

use crate::environment::Environment;
use crate::error::{Checked, ErrorCode, Fault};
use crate::explore::Explored;
use crate::profile::Feature;
use crate::step::ContextUse;

pub(crate) use slots::WIDE_LOAD;
pub use slots::check_slots;

/// A fault and the instruction it is at.
pub(crate) type Located = (Box<Fault>, Option<Pc>);

/// Offsets into a map's value in a wide load must stay below this.
const VALUE_OFFSET_LIMIT: u32 = 1 << 29;

/// The checks before exploration, in the kernel's order.
pub(crate) fn check(program: &Program, env: &Environment) -> Result<(), Located> {
    let (slots, max) = (program.len(), env.profile.max_slots);
    if slots > max {
        let message = format!("the program has {slots} slots, more than the limit of {max}");
        return Err((Fault::new(ErrorCode::LimitSlots, message), None));
    }
    if program.subprogs().len() > env.profile.max_subprograms as usize {
        return Err((Fault::new(ErrorCode::LimitSubprograms, "too many subprograms"), None));
    }
    if !env.program_type.may_attach(env.attach_type) {
        let message = "programs of this type cannot be attached so";
        return Err((Fault::new(ErrorCode::AttachType, message), None));
    }
    check_known(program, env)?;
    check_maps(program, env)?;
    if env.has_exception_callback() {
        return Err((Fault::unsupported("an exception callback"), None));
    }
    check_reachable(program)?;
    check_everywhere(program)
}

/// Refuses instructions that this kernel does not know.
fn check_known(program: &Program, env: &Environment) -> Result<(), Located> {
    let unknown = |insn| Feature::of_insn(insn).filter(|&f| !env.profile.features.has(f));
    for (pc, insn) in program.insns() {
        if matches!(insn, Insn::Call(CallTarget::Reg(_))) {
            return Err((Fault::new(ErrorCode::InsnUnknown, "unknown opcode 8d"), Some(pc)));
        }
        if let Some(feature) = unknown(insn) {
            let (feature, since) = (feature.name(), feature.span().since);
            let message = format!("unknown opcode: {feature} came with Linux {since}");
            return Err((Fault::new(ErrorCode::InsnUnknown, message), Some(pc)));
        }
    }
    Ok(())
}

fn check_maps(program: &Program, env: &Environment) -> Result<(), Located> {
    let mut seen = BTreeSet::new();
    for (pc, insn) in program.insns() {
        let Insn::LoadWide { source, .. } = insn else { continue };
        let (map, value_off) = match source {
            WideSource::Map(map, _) => (map, None),
            WideSource::MapValue(map, off, _) => (map, Some(off)),
            WideSource::Imm(_) | WideSource::Btf { .. } | WideSource::Func(_) => continue,
        };
        check_map(env, map, value_off).map_err(|fault| (fault, Some(pc)))?;
        seen.insert(map);
        if seen.len() > env.profile.max_maps as usize {
            let limit = env.profile.max_maps;
            let message =
                format!("The total number of maps per program has reached the limit of {limit}");
            return Err((Fault::new(ErrorCode::LimitMaps, message), Some(pc)));
        }
    }
    Ok(())
}

fn check_map(env: &Environment, map: MapIdx, value_off: Option<u32>) -> Checked {
    let Some(info) = env.map(map) else {
        let message = format!("the program refers to map {}, which it does not have", map.0);
        return Err(Fault::new(ErrorCode::MapReference, message));
    };
    let map_type = info.desc.map_type;
    if !is_supported(map_type) {
        return Err(Fault::unsupported(format_args!("a map of type {map_type}")));
    }
    if info.special_fields {
        return Err(Fault::unsupported("a map whose values have locks, timers or kernel pointers"));
    }
    let Some(off) = value_off else {
        return Ok(());
    };
    let value_size = info.desc.value_size;
    let invalid = format!("invalid access to map value pointer, value_size={value_size} off={off}");
    if off >= VALUE_OFFSET_LIMIT {
        let message = format!("direct value offset of {off} is not allowed");
        return Err(Fault::new(ErrorCode::MapReference, message));
    }
    if !has_direct_values(map_type) {
        let message = "no direct value access support for this map type";
        return Err(Fault::new(ErrorCode::MapReference, message));
    }
    if info.desc.max_entries != 1 {
        return Err(Fault::new(ErrorCode::MapNoDirectValue, invalid));
    }
    if off >= value_size {
        return Err(Fault::new(ErrorCode::MapReference, invalid));
    }
    Ok(())
}

/// Whether what helpers do with such a map is known.
const fn is_supported(map_type: MapType) -> bool {
    matches!(
        map_type,
        MapType::Hash
            | MapType::Array
            | MapType::PercpuHash
            | MapType::PercpuArray
            | MapType::LruHash
            | MapType::LruPercpuHash
            | MapType::LpmTrie
            | MapType::ProgArray
            | MapType::PerfEventArray
            | MapType::StackTrace
            | MapType::CgroupArray
            | MapType::Devmap
            | MapType::DevmapHash
            | MapType::Cpumap
            | MapType::Xskmap
            | MapType::Sockmap
            | MapType::Sockhash
            | MapType::Queue
            | MapType::Stack
            | MapType::BloomFilter
            | MapType::Ringbuf
    )
}

/// Whether wide loads may refer to values of such a map.
pub(crate) fn has_direct_values(map_type: MapType) -> bool {
    map_type == MapType::Array
}

fn check_reachable(program: &Program) -> Result<(), Located> {
    let mut reached = vec![false; program.slots().len()];
    let mut waiting = vec![Pc::ENTRY];
    while let Some(pc) = waiting.pop() {
        if core::mem::replace(&mut reached[pc.index()], true) {
            continue;
        }
        let Some(insn) = program.get(pc) else { continue };
        let successors = insn.successors(pc);
        waiting.extend(successors.next.into_iter().chain(successors.target));
        waiting.extend(insn.subprog_ref());
    }
    match program.insns().find(|(pc, _)| !reached[pc.index()]) {
        Some((pc, _)) => {
            let message = format!("unreachable insn {pc}");
            Err((Fault::new(ErrorCode::CfgUnreachable, message), Some(pc)))
        }
        None => Ok(()),
    }
}

/// Refuses what the kernel looks at wherever it is, also where no path leads, and what is not known
/// here.
fn check_everywhere(program: &Program) -> Result<(), Located> {
    for (pc, insn) in program.insns() {
        let in_main = program.subprog_of(pc) == SubprogIdx::MAIN;
        let what = match insn {
            _ if insn.reads().union(insn.writes()).contains(Reg::Ax) => "the auxiliary register",
            Insn::Call(CallTarget::Kfunc { .. }) => "a call of a kernel function",
            Insn::LoadWide { source: WideSource::Btf { .. }, .. } => {
                "the address of a kernel variable"
            }
            Insn::LoadWide { source: WideSource::Func(_), .. } => "the address of a function",
            Insn::MayGoto { .. } => "may_goto",
            Insn::Call(CallTarget::Helper(HelperId::TAIL_CALL)) if !in_main => {
                "a tail call in a subprogram"
            }
            Insn::LoadPacket { .. } if !in_main => "a classic packet load in a subprogram",
            _ => continue,
        };
        return Err((Fault::unsupported(what), Some(pc)));
    }
    Ok(())
}

/// Checks that jumps keep within 16 bits whatever the kernel puts in the place of the instructions
/// that they pass. It refuses a program of which it finds a jump too short only then; how much it
/// inserts depends on its configuration, so nothing is accepted that comes near.
pub(crate) fn check_jump_room(program: &Program, explored: &Explored) -> Result<(), Located> {
    let mut grown = vec![0; program.slots().len() + 1];
    for (index, &slot) in program.slots().iter().enumerate() {
        let grows = explored.reached[index] && may_grow(slot, explored.context_use[index]);
        grown[index + 1] = grown[index] + if grows { GROWN_SLOTS } else { 1 };
    }
    for (pc, insn) in program.insns() {
        let (Insn::Branch { target, .. } | Insn::Jump { target, long: false }) = insn else {
            continue;
        };
        let passed = grown[pc.index()].abs_diff(grown[target.index()]);
        if passed >= i16::MAX.unsigned_abs().into() {
            let what = "a jump over so much code that the kernel may not be able to rewrite it";
            return Err((Fault::unsupported(what), Some(pc)));
        }
    }
    Ok(())
}

/// More slots than the kernel puts in the place of any one instruction.
const GROWN_SLOTS: u32 = 16;

/// Whether the kernel may put several instructions in the place of this one: if it accesses the
/// context, divides, loads from the packet as classic programs do, or calls a helper.
fn may_grow(slot: Option<Insn>, context_use: ContextUse) -> bool {
    use AluOp::{Div, Mod, SDiv, SMod};
    let grows = matches!(
        slot,
        Some(
            Insn::Alu { op: Div | Mod | SDiv | SMod, .. }
                | Insn::Call(CallTarget::Helper(_))
                | Insn::LoadPacket { .. }
        )
    );
    grows || matches!(context_use, ContextUse::Context | ContextUse::Object(_))
}

/// Checks the stack that chains of calls use together, also those that no path takes.
pub(crate) fn check_stack_depth(
    program: &Program,
    env: &Environment,
    stack_depth: &[u16],
) -> Checked {
    let walk = CallWalk { callees: callees(program), env, stack_depth, seen: BTreeSet::new() };
    walk.check()
}

fn callees(program: &Program) -> Vec<Vec<SubprogIdx>> {
    let mut callees = vec![Vec::new(); program.subprogs().len()];
    for (pc, insn) in program.insns() {
        if let Insn::Call(CallTarget::Subprog(target)) = insn {
            callees[program.subprog_of(pc).index()].push(program.subprog_of(target));
        }
    }
    callees
}

/// A walk over all chains of calls, in program order.
struct CallWalk<'a> {
    callees: Vec<Vec<SubprogIdx>>,
    env: &'a Environment,
    stack_depth: &'a [u16],
    /// Function, frames above it and stack above it: what comes below is the same every time.
    seen: BTreeSet<(SubprogIdx, u32, u32)>,
}

impl CallWalk<'_> {
    fn check(mut self) -> Checked {
        self.enter(SubprogIdx::MAIN, 0, 0)
    }

    fn enter(&mut self, subprog: SubprogIdx, frames: u32, stack: u32) -> Checked {
        if frames >= self.env.profile.max_frames {
            let message = format!("the call stack of {frames} frames is too deep !");
            return Err(Fault::new(ErrorCode::LimitCallDepth, message));
        }
        if !self.seen.insert((subprog, frames, stack)) {
            return Ok(());
        }
        let own = u32::from(self.stack_depth[subprog.index()]);
        // Any profile gives a verdict: one that rounds to multiples of 0 does not round.
        let rounding = self.env.profile.stack_rounding.max(1);
        let rounded = own.checked_next_multiple_of(rounding).unwrap_or(u32::MAX);
        let stack = stack.saturating_add(rounded);
        if stack > self.env.profile.max_stack {
            let calls = frames + 1;
            let message = format!("combined stack size of {calls} calls is {stack}. Too large");
            return Err(Fault::new(ErrorCode::LimitStack, message));
        }
        for index in 0..self.callees[subprog.index()].len() {
            let callee = self.callees[subprog.index()][index];
            self.enter(callee, frames + 1, stack)?;
        }
        Ok(())
    }
}
