//! What can be said without exploring: references to maps, reachability, the depth of calls.

mod fields;
mod slots;

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

use ebpf_isa::uapi::{AttachType, HelperId, MapDesc, MapType, ProgramType};
use ebpf_isa::{AluOp, CallTarget, Insn, MapIdx, Pc, Program, SubprogIdx, WideSource};

use crate::environment::Environment;
use crate::error::{Checked, Payload, Unsupported};
use crate::explore::Explored;
use crate::kfunc::KfuncProto;
use crate::outline::{Outline, lacks_feature, uses_auxiliary};
use crate::rules::{calls_back, calls_later};
use crate::step::ContextUse;

pub(crate) use slots::WIDE_LOAD;
pub use slots::check_slots;

/// A fault and the instruction it is at.
pub(crate) type Located = (Box<Payload>, Option<Pc>);

/// Offsets into a map's value in a wide load must stay below this.
const VALUE_OFFSET_LIMIT: u32 = 1 << 29;

/// The checks before exploration, in the kernel's order.
pub(crate) fn check(
    program: &Program,
    outline: &Outline,
    env: &Environment,
) -> Result<(), Located> {
    check_size(program, env).map_err(|fault| (fault, None))?;
    check_kfuncs(outline, env)?;
    check_ends_in_subprograms(program, outline, env)?;
    check_known(outline, env)?;
    check_maps(outline, env)?;
    if env.has_exception_callback() {
        return Err((Unsupported::ExceptionCallback.into(), None));
    }
    check_reachable(outline)?;
    check_sleepable(env).map_err(|fault| (fault, None))?;
    check_target(env).map_err(|fault| (fault, None))?;
    check_everywhere(outline)
}

/// Checks what the kernel looks at before any instruction.
fn check_size(program: &Program, env: &Environment) -> Checked {
    let (slots, max) = (program.len() as usize, env.profile.max_slots as usize);
    if slots > max {
        return Err(Payload::LimitSlots { slots, max }.into());
    }
    let max = env.profile.max_subprograms;
    if program.subprogs().len() > max as usize {
        return Err(Payload::LimitSubprograms { max }.into());
    }
    let (program_type, attach_type) = (env.program_type.program_type(), env.attach_type);
    if !env.program_type.may_attach(attach_type) {
        return Err(Payload::AttachType { program_type, attach_type }.into());
    }
    Ok(())
}

/// Checks what a program is attached to that sees it with its types.
fn check_target(env: &Environment) -> Checked {
    if env.program_type.program_type() != ProgramType::Tracing {
        return Ok(());
    }
    if env.kernel_types.is_none() {
        return Err(Unsupported::KernelTypes.into());
    }
    if env.attach_target.is_none() {
        return Err(Payload::TargetMissing.into());
    }
    env.target().map(|_| ()).ok_or_else(|| Unsupported::AttachTarget.into())
}

/// Functions that may end otherwise than by an exit must return numbers; those without a type are
/// not known to.
fn check_ends_in_subprograms(
    program: &Program,
    outline: &Outline,
    env: &Environment,
) -> Result<(), Located> {
    let ends = outline.notable().iter().filter_map(|&(pc, insn)| {
        let index = program.subprog_of(pc);
        let end = End::of(insn).filter(|_| index != SubprogIdx::MAIN)?;
        Some((index, end, pc))
    });
    // Of those of a function, packet loads come first.
    let mut ends: Vec<_> = ends.collect();
    ends.sort_unstable();
    for (index, end, pc) in ends {
        let ty = program.subprogs()[index.index()].info.btf_id;
        let fault: Box<Payload> = match (end, ty.map(|ty| env.returns_number(ty))) {
            (_, Some(Some(true))) => continue,
            (_, Some(None)) => Unsupported::UntypedFunction.into(),
            (End::PacketLoad, None) => Payload::UntypedPacketLoad.into(),
            (End::TailCall, None) => Payload::UntypedTailCall.into(),
            (End::PacketLoad, Some(Some(false))) => Payload::PacketLoadResult.into(),
            (End::TailCall, Some(Some(false))) => Payload::TailCallResult.into(),
        };
        return Err((fault, Some(pc)));
    }
    Ok(())
}

/// What may end a function besides exits, in the order in which the kernel looks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    PacketLoad,
    TailCall,
}

impl End {
    fn of(insn: Insn) -> Option<Self> {
        match insn {
            Insn::LoadPacket { .. } => Some(Self::PacketLoad),
            Insn::Call(CallTarget::Helper(HelperId::TAIL_CALL)) => Some(Self::TailCall),
            _ => None,
        }
    }
}

/// Refuses instructions that this kernel does not know.
fn check_known(outline: &Outline, env: &Environment) -> Result<(), Located> {
    for &(pc, insn) in outline.notable() {
        if matches!(insn, Insn::Call(CallTarget::Reg(_))) {
            return Err((Payload::CallThroughRegister.into(), Some(pc)));
        }
        if let Some(feature) = lacks_feature(&insn, env) {
            return Err((Payload::InsnUnknown { feature }.into(), Some(pc)));
        }
    }
    Ok(())
}

/// Most kernel functions that a program calls.
const KFUNCS_MAX: usize = 256;

/// Checks that the kernel functions exist. Those of the kernel itself are not known here.
fn check_kfuncs(outline: &Outline, env: &Environment) -> Result<(), Located> {
    let mut seen = BTreeSet::new();
    for &(pc, insn) in outline.notable() {
        let Insn::Call(CallTarget::Kfunc { btf_id, module }) = insn else { continue };
        check_kfunc(env, btf_id, module).map_err(|fault| (fault, Some(pc)))?;
        seen.insert((module, btf_id));
        if seen.len() > KFUNCS_MAX {
            return Err((Payload::LimitKfuncs { max: KFUNCS_MAX }.into(), Some(pc)));
        }
    }
    Ok(())
}

fn check_kfunc(env: &Environment, btf_id: u32, module: i16) -> Checked {
    if !env.license_gpl && is_kernels_own(env, btf_id, module) {
        return Err(Payload::KfuncLicense.into());
    }
    let Ok(from) = env.modules.get(module) else {
        return Err(match module {
            ..0 => Payload::KfuncModule { module }.into(),
            _ => Unsupported::KernelFunction.into(),
        });
    };
    match from.function(btf_id) {
        Ok(function) if from.is_special(function) && !function.takes_dynptr() => {
            Err(Unsupported::SpecialFunction.into())
        }
        Ok(_) => Ok(()),
        Err(_) if from.has_others() => Err(Unsupported::KernelFunction.into()),
        Err(_) => Err(Payload::KfuncMissing { btf_id, module }.into()),
    }
}

/// Whether a function is the kernel's: its licence is not the business of a host's own functions.
fn is_kernels_own(env: &Environment, btf_id: u32, module: i16) -> bool {
    let is_known = |function: &KfuncProto| function.iter_use().is_some() || function.takes_dynptr();
    module == 0
        && env
            .modules
            .get(module)
            .map_or(true, |base| base.has_others() || base.function(btf_id).is_ok_and(is_known))
}

fn check_maps(outline: &Outline, env: &Environment) -> Result<(), Located> {
    let mut seen = BTreeSet::new();
    for &(pc, insn) in outline.notable() {
        let Insn::LoadWide { source, .. } = insn else { continue };
        let (map, value_off) = match source {
            WideSource::Map(map, _) => (map, None),
            WideSource::MapValue(map, off, _) => (map, Some(off)),
            WideSource::Imm(_) | WideSource::Btf { .. } | WideSource::Func(_) => continue,
        };
        check_map(env, map, value_off).map_err(|fault| (fault, Some(pc)))?;
        if !seen.insert(map) {
            continue;
        }
        let max = env.profile.max_maps;
        if seen.len() > max as usize {
            return Err((Payload::LimitMaps { max }.into(), Some(pc)));
        }
        let map_type = |map: MapIdx| env.map(map).map(|info| info.desc.map_type);
        let storage = map_type(map).filter(|&map_type| is_cgroup_storage(map_type));
        if storage.is_some_and(|_| seen.iter().any(|&old| old != map && map_type(old) == storage)) {
            return Err((Payload::MapStorage { map }.into(), Some(pc)));
        }
    }
    Ok(())
}

fn check_map(env: &Environment, map: MapIdx, value_off: Option<u32>) -> Checked {
    let info = env.map(map).ok_or(Payload::MapMissing { map })?;
    let map_type = info.desc.map_type;
    if !is_supported(map_type) {
        return Err(Unsupported::Map(map_type).into());
    }
    if env.sleepable && !is_for_sleepable(map_type) {
        return Err(Payload::SleepableMap { map }.into());
    }
    if holds_maps(map_type) {
        fields::check_inner(env, info)?;
    }
    fields::check_fields(env, info)?;
    let Some(off) = value_off else {
        return Ok(());
    };
    let MapDesc { value_size, max_entries, .. } = info.desc;
    if off >= VALUE_OFFSET_LIMIT {
        return Err(Payload::MapValueOffset { off }.into());
    }
    if !has_direct_values(map_type) {
        return Err(Payload::MapValueType { map_type }.into());
    }
    if max_entries != 1 {
        return Err(Payload::MapNoDirectValue { max_entries, value_size, off }.into());
    }
    if off >= value_size {
        return Err(Payload::MapValueBounds { value_size, off }.into());
    }
    Ok(())
}

/// Checks that a program which is to be one that may sleep is of a type that may.
fn check_sleepable(env: &Environment) -> Checked {
    let program_type = env.program_type.program_type();
    // The kernel has others that may: those that are not known here are refused for that.
    let may_sleep = match program_type {
        ProgramType::Kprobe | ProgramType::Syscall => true,
        ProgramType::Tracing => env.attach_type != Some(AttachType::TraceRawTp),
        _ => false,
    };
    match env.sleepable {
        true if !may_sleep => Err(Payload::Sleepable { program_type }.into()),
        false if program_type == ProgramType::Syscall => Err(Payload::SyscallAwake.into()),
        _ => Ok(()),
    }
}

/// Whether programs that may sleep may use such a map.
const fn is_for_sleepable(map_type: MapType) -> bool {
    matches!(
        map_type,
        MapType::Hash
            | MapType::Array
            | MapType::PercpuHash
            | MapType::PercpuArray
            | MapType::LruHash
            | MapType::LruPercpuHash
            | MapType::ArrayOfMaps
            | MapType::HashOfMaps
            | MapType::Queue
            | MapType::Stack
            | MapType::SkStorage
            | MapType::InodeStorage
            | MapType::TaskStorage
            | MapType::CgrpStorage
            | MapType::Ringbuf
            | MapType::UserRingbuf
            | MapType::Arena
    )
}

const fn holds_maps(map_type: MapType) -> bool {
    matches!(map_type, MapType::ArrayOfMaps | MapType::HashOfMaps)
}

/// Whether a program may have only one map of this type.
const fn is_cgroup_storage(map_type: MapType) -> bool {
    matches!(map_type, MapType::CgroupStorage | MapType::PercpuCgroupStorage)
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
            | MapType::CgroupStorage
            | MapType::PercpuCgroupStorage
            | MapType::Devmap
            | MapType::DevmapHash
            | MapType::Cpumap
            | MapType::Xskmap
            | MapType::ReuseportSockarray
            | MapType::SkStorage
            | MapType::Sockmap
            | MapType::Sockhash
            | MapType::Queue
            | MapType::Stack
            | MapType::BloomFilter
            | MapType::Ringbuf
            | MapType::ArrayOfMaps
            | MapType::HashOfMaps
    )
}

/// Whether wide loads may refer to values of such a map.
pub(crate) fn has_direct_values(map_type: MapType) -> bool {
    map_type == MapType::Array
}

/// Some path leads to every instruction. Paths go straight on up to where they may go elsewhere, so it
/// is enough to know from where on each such stretch is reached.
fn check_reachable(outline: &Outline) -> Result<(), Located> {
    let leads_on = |&&(_, insn): &&(Pc, Insn)| {
        insn.is_terminator() || insn.jump_target().or(insn.subprog_ref()).is_some()
    };
    let ends: Vec<(Pc, Insn)> = outline.notable().iter().filter(leads_on).copied().collect();
    let mut reached_from = vec![None; ends.len()];
    let mut waiting = vec![Pc::ENTRY];
    while let Some(mut pc) = waiting.pop() {
        let first = ends.partition_point(|&(end, _)| end < pc);
        for (&(end, insn), from) in ends.iter().zip(&mut reached_from).skip(first) {
            let before = from.replace(from.map_or(pc, |from: Pc| from.min(pc)));
            if before.is_some() {
                break;
            }
            waiting.extend(insn.jump_target().or(insn.subprog_ref()));
            if insn.is_terminator() {
                break;
            }
            pc = Pc(end.0 + insn.slots());
        }
    }
    let mut start = Pc::ENTRY;
    for (&(end, insn), from) in ends.iter().zip(reached_from) {
        if from != Some(start) {
            return Err((Payload::CfgUnreachable { insn: start }.into(), Some(start)));
        }
        start = Pc(end.0 + insn.slots());
    }
    Ok(())
}

/// Refuses what the kernel looks at wherever it is, also where no path leads, and what is not known
/// here.
fn check_everywhere(outline: &Outline) -> Result<(), Located> {
    for &(pc, insn) in outline.notable() {
        let what = match insn {
            _ if uses_auxiliary(outline.operands()[pc.index()]) => Unsupported::AuxiliaryRegister,
            Insn::Call(CallTarget::Native(_)) => Unsupported::NativeFunction,
            Insn::LoadWide { source: WideSource::Btf { .. }, .. } => Unsupported::KernelVariable,
            _ => continue,
        };
        return Err((what.into(), Some(pc)));
    }
    Ok(())
}

/// Refuses addresses of functions that no path comes to, but where no function but the main program is
/// left; and packet loads in functions that may be called back, also where no path comes to: the kernel
/// looks at these, too.
pub(crate) fn check_addresses(
    program: &Program,
    outline: &Outline,
    explored: &Explored,
) -> Result<(), Located> {
    let is_reached = |pc: Pc| explored.reached[pc.index()];
    let mut functions = program.subprogs().iter().skip(1);
    if !functions.any(|function| is_reached(function.start)) {
        return Ok(());
    }
    let calls = |calls: fn(&Insn) -> bool| outline.notable().iter().any(|(_, insn)| calls(insn));
    let (calls_back, calls_later) = (calls(calls_back), calls(calls_later));
    for &(pc, insn) in outline.notable() {
        let what = match insn {
            Insn::LoadWide { source: WideSource::Func(start), .. }
                if is_reached(pc) && !is_reached(start) =>
            {
                Unsupported::UnreachedFunction
            }
            _ if program.subprog_of(pc) == SubprogIdx::MAIN => continue,
            Insn::LoadPacket { .. } if calls_back => Unsupported::EndInCallback,
            _ if calls_later && End::of(insn).is_some() => Unsupported::EndInCallback,
            _ => continue,
        };
        return Err((what.into(), Some(pc)));
    }
    Ok(())
}

/// Checks that jumps keep within 16 bits whatever the kernel puts in the place of the instructions
/// that they pass. It refuses a program of which it finds a jump too short only then; how much it
/// inserts depends on its configuration, so nothing is accepted that comes near.
pub(crate) fn check_jump_room(
    program: &Program,
    outline: &Outline,
    explored: &Explored,
) -> Result<(), Located> {
    let room = u32::from(i16::MAX.unsigned_abs());
    if explored.longest_jump.saturating_mul(GROWN_SLOTS) < room {
        return Ok(());
    }
    let slots = program.slots().iter().zip(&explored.reached).zip(&explored.context_use);
    let sizes = slots.map(
        |((slot, &reached), &context_use)| {
            if reached && may_grow(*slot, context_use) { GROWN_SLOTS } else { 1 }
        },
    );
    if sizes.clone().sum::<u32>() < room {
        return Ok(());
    }
    let mut grown = vec![0];
    grown.extend(sizes.scan(0, |end, size| {
        *end += size;
        Some(*end)
    }));
    for &(pc, insn) in outline.notable() {
        let (Insn::Branch { target, .. } | Insn::Jump { target, long: false }) = insn else {
            continue;
        };
        let passed = grown[pc.index()].abs_diff(grown[target.index()]);
        if passed >= room {
            return Err((Unsupported::LongJump.into(), Some(pc)));
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
                | Insn::Call(CallTarget::Helper(_) | CallTarget::Kfunc { .. })
                | Insn::LoadPacket { .. }
                | Insn::MayGoto { .. }
        )
    );
    grows || matches!(context_use, ContextUse::Context | ContextUse::Object(_))
}

/// Checks the stack that chains of calls use together, also those that no path takes.
pub(crate) fn check_stack_depth(
    program: &Program,
    outline: &Outline,
    env: &Environment,
    stack_depth: &[u16],
    runs_later: &[bool],
) -> Checked {
    let is_tail_call = |insn| End::of(insn) == Some(End::TailCall);
    let tail_calls = outline.notable().iter().filter(|&&(_, insn)| is_tail_call(insn));
    let with_tail_call: BTreeSet<_> = tail_calls.map(|&(pc, _)| program.subprog_of(pc)).collect();
    let program_type = env.program_type.program_type();
    CallWalk {
        callees: callees(program, outline, runs_later),
        has_private_stacks: has_private_stacks(program_type)
            && with_tail_call.is_empty()
            && !runs_later.contains(&true),
        with_tail_call,
        env,
        stack_depth,
        seen: BTreeSet::new(),
    }
    .check(runs_later)
}

/// What is called may use as much stack again, and call on: so a subprogram with a tail call may not
/// have so many bytes of stack above it.
const TAIL_CALL_STACK: u32 = 256;

/// A function with at least so many bytes of stack has one of its own, where functions may.
const PRIVATE_STACK_MIN: u32 = 64;

/// Whether functions of such programs may have stacks of their own, if none makes a tail call or runs
/// later.
const fn has_private_stacks(program_type: ProgramType) -> bool {
    matches!(
        program_type,
        ProgramType::Kprobe
            | ProgramType::Tracepoint
            | ProgramType::RawTracepoint
            | ProgramType::PerfEvent
    )
}

fn callees(program: &Program, outline: &Outline, runs_later: &[bool]) -> Vec<Vec<SubprogIdx>> {
    let mut callees = vec![Vec::new(); program.subprogs().len()];
    for &(pc, insn) in outline.notable() {
        // A helper may call a function back whose address is taken, but for those that run later.
        let is_call = matches!(insn, Insn::Call(_));
        if let Some(callee) = insn.subprog_ref().map(|target| program.subprog_of(target))
            && (is_call || !runs_later[callee.index()])
        {
            callees[program.subprog_of(pc).index()].push(callee);
        }
    }
    callees
}

/// A walk over all chains of calls, in program order.
struct CallWalk<'a> {
    callees: Vec<Vec<SubprogIdx>>,
    with_tail_call: BTreeSet<SubprogIdx>,
    /// Whether the kernel gives functions stacks of their own, which do not add up.
    has_private_stacks: bool,
    env: &'a Environment,
    stack_depth: &'a [u16],
    /// Function, frames above it and stack above it: what comes below is the same every time.
    seen: BTreeSet<(SubprogIdx, u32, u32)>,
}

impl CallWalk<'_> {
    fn check(mut self, runs_later: &[bool]) -> Checked {
        let functions = runs_later.iter().enumerate().rev();
        for (index, _) in functions.filter(|(_, runs_later)| **runs_later) {
            self.enter(SubprogIdx(index as u32), 0, 0)?;
        }
        self.enter(SubprogIdx::MAIN, 0, 0)
    }

    fn enter(&mut self, subprog: SubprogIdx, frames: u32, stack: u32) -> Checked {
        if frames as usize >= self.env.profile.frames() {
            return Err(Payload::LimitCallChain { frames }.into());
        }
        if !self.seen.insert((subprog, frames, stack)) {
            return Ok(());
        }
        let has_tail_call = subprog != SubprogIdx::MAIN && self.with_tail_call.contains(&subprog);
        if has_tail_call && stack >= TAIL_CALL_STACK {
            return Err(Payload::LimitTailCallStack { bytes: stack }.into());
        }
        let own = u32::from(self.stack_depth[subprog.index()]);
        // Any profile gives a verdict: one that rounds to multiples of 0 does not round.
        let rounding = self.env.profile.stack_rounding.max(1);
        let rounded = own.checked_next_multiple_of(rounding).unwrap_or(u32::MAX);
        let is_private = self.has_private_stacks && rounded >= PRIVATE_STACK_MIN;
        let stack = if is_private { stack } else { stack.saturating_add(rounded) };
        if stack > self.env.profile.max_stack {
            return Err(Payload::LimitStack { frames: frames + 1, bytes: stack }.into());
        }
        for index in 0..self.callees[subprog.index()].len() {
            let callee = self.callees[subprog.index()][index];
            self.enter(callee, frames + 1, stack)?;
        }
        Ok(())
    }
}
