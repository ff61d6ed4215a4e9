//! Programs with their symbols resolved.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use ebpf_isa::abi::{ExecEnv, HelperFn, STACK_SIZE};
use ebpf_isa::uapi::HelperId;
use ebpf_isa::{
    CallTarget, Facts, Imm64, Insn, Pc, Program, Reg, RegSet, Size, SubprogIdx, WideSource,
};

use ebpf_lower::Effects;

use crate::clobbers::Clobbers;

/// Why a program cannot be interpreted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// A call of a helper that is not registered; for tail calls, there is no [`TailTarget`].
    #[error("insn {pc}: helper {id} is not registered")]
    UnknownHelper {
        /// The call.
        pc: Pc,
        /// The helper.
        id: HelperId,
    },
    /// A wide load of a map or map value that is not bound.
    #[error("insn {pc}: map {map} is not bound, or has no directly addressable value")]
    UnknownMap {
        /// The wide load.
        pc: Pc,
        /// The map's place in the program's list.
        map: u32,
    },
    /// An instruction that the interpreter does not have.
    #[error("insn {pc}: the interpreter does not support {what}")]
    Unsupported {
        /// The instruction.
        pc: Pc,
        /// What it is.
        what: &'static str,
    },
}

/// A native function.
#[derive(Debug, Clone, Copy)]
struct Helper {
    function: HelperFn,
    may_end: bool,
}

/// Native functions by helper number.
#[derive(Debug, Clone, Default)]
pub struct Helpers(BTreeMap<HelperId, Helper>);

impl Helpers {
    /// No helpers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes `function` the helper `id`, in place of what it was before.
    ///
    /// # Safety
    /// Where the program is run by [`Vm::run`](crate::Vm::run), the function must be sound for **every** value of
    /// its five arguments. Where it is run by [`Vm::run_unchecked`](crate::Vm::run_unchecked), it must be sound for the
    /// arguments that the verifier lets a program pass.
    #[allow(unsafe_code, reason = "calling a native function is a promise of the caller")]
    pub unsafe fn register(&mut self, id: HelperId, function: HelperFn) {
        self.0.insert(id, Helper { function, may_end: false });
    }

    /// The same for a function that may end the program: where it sets [`ExecEnv::ended`], the run
    /// ends at once, from any depth of calls, with what the function returns as `r0`.
    ///
    /// # Safety
    /// As for [`Self::register`].
    #[allow(unsafe_code, reason = "calling a native function is a promise of the caller")]
    pub unsafe fn register_ending(&mut self, id: HelperId, function: HelperFn) {
        self.0.insert(id, Helper { function, may_end: true });
    }
}

/// Finds the program that a tail call leads to: handle of the map, index (of 32 bits), environment
/// in; [`Vm::as_tail_target`](crate::Vm::as_tail_target) of the program out, or 0 where there is none.
pub type TailTargetFn = unsafe extern "sysv64" fn(u64, u64, *mut ExecEnv) -> u64;

/// A [`TailTargetFn`] that somebody vouched for.
#[derive(Debug, Clone, Copy)]
pub struct TailTarget(TailTargetFn);

impl TailTarget {
    /// Vouches for `function`.
    ///
    /// # Safety
    /// - Where a program is run by [`Vm::run`](crate::Vm::run), the function must be sound for **every** handle and
    ///   index. Where it is run by [`Vm::run_unchecked`](crate::Vm::run_unchecked), it must be sound for the handles of maps
    ///   that the verifier lets a program pass, and every index.
    /// - It gives 0, or what [`Vm::as_tail_target`](crate::Vm::as_tail_target) gave for a `Vm` that is neither moved, changed
    ///   nor dropped before the run ends.
    /// - The target runs in the mode of its caller, so the promises made for the links of that `Vm`
    ///   hold for this mode.
    #[allow(unsafe_code, reason = "calling a native function is a promise of the caller")]
    #[must_use]
    pub const unsafe fn new(function: TailTargetFn) -> Self {
        Self(function)
    }
}

/// What the symbols of a program mean: helpers, and the addresses of maps and of their values.
#[derive(Debug, Clone, Default)]
pub struct Links {
    /// Native functions.
    pub helpers: Helpers,
    /// What a wide load of a map gives, by the map's place in the program's list.
    pub maps: Vec<u64>,
    /// The address of a map's first value, for wide loads of addresses in it.
    pub map_values: Vec<Option<u64>>,
    /// Where tail calls lead. It stands for the helper `bpf_tail_call`, which `helpers` does not
    /// need to have.
    pub tail_target: Option<TailTarget>,
}

/// One slot of a linked program.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Linked {
    /// An instruction that needs no link.
    Insn(Insn),
    /// A wide load of a number.
    LoadWide { dst: Reg, value: Imm64 },
    /// A call of a native function, by its place in [`Vm::natives`](crate::Vm).
    CallNative(u32),
    /// The same for a function that may end the run.
    CallEnding(u32),
    /// A call of a subprogram.
    CallSubprog {
        target: Pc,
        frame: u16,
        /// The registers that the caller saves: see [`Clobbers`].
        saved: RegSet,
    },
    /// A call of the helper `bpf_tail_call`.
    TailCall,
    /// The second slot of a wide load.
    Hole,
}

/// A program whose symbols are resolved.
pub(crate) struct LinkedProgram {
    pub(crate) slots: Vec<Linked>,
    pub(crate) natives: Vec<HelperFn>,
    pub(crate) tail_target: Option<TailTargetFn>,
    /// Bytes of stack of the main program.
    pub(crate) main_frame: u16,
}

/// Resolves the symbols of `program`, whose effects are `effects`.
pub(crate) fn link(
    program: &Program,
    effects: &Effects,
    facts: Option<&Facts>,
    links: &Links,
) -> Result<LinkedProgram, LinkError> {
    let clobbers = Clobbers::new(program, effects);
    let mut linker = Linker { program, facts, links, clobbers, natives: Vec::new() };
    let mut slots = Vec::with_capacity(program.slots().len());
    for (at, slot) in program.slots().iter().enumerate() {
        slots.push(match slot {
            Some(insn) => linker.op(Pc(at as u32), *insn)?,
            None => Linked::Hole,
        });
    }
    let main_frame = linker.frame(SubprogIdx::MAIN);
    let natives = linker.natives.into_iter().map(|(_, function)| function).collect();
    let tail_target = links.tail_target.map(|TailTarget(function)| function);
    Ok(LinkedProgram { slots, natives, tail_target, main_frame })
}

struct Linker<'a> {
    program: &'a Program,
    facts: Option<&'a Facts>,
    links: &'a Links,
    clobbers: Clobbers,
    natives: Vec<(HelperId, HelperFn)>,
}

impl Linker<'_> {
    fn op(&mut self, pc: Pc, insn: Insn) -> Result<Linked, LinkError> {
        let unsupported = |what| Err(LinkError::Unsupported { pc, what });
        match insn {
            Insn::LoadWide { dst, source } => {
                Ok(Linked::LoadWide { dst, value: Imm64::new(self.wide(pc, source)?) })
            }
            Insn::Call(CallTarget::Helper(id @ HelperId::TAIL_CALL)) => {
                let known = self.links.tail_target.is_some();
                if known { Ok(Linked::TailCall) } else { Err(LinkError::UnknownHelper { pc, id }) }
            }
            Insn::Call(CallTarget::Helper(id)) => self.native(pc, id),
            Insn::Call(CallTarget::Subprog(target)) => {
                let callee = self.program.subprog_of(target);
                let saved = self.clobbers.of(callee);
                Ok(Linked::CallSubprog { target, frame: self.frame(callee), saved })
            }
            Insn::Call(CallTarget::Kfunc { .. }) => unsupported("calls of kernel functions"),
            Insn::Atomic { size: Size::B | Size::H, .. } => {
                unsupported("atomic operations on 1 or 2 bytes")
            }
            Insn::LoadPacket { size: Size::Dw, .. } => unsupported("packet loads of 8 bytes"),
            other => Ok(Linked::Insn(other)),
        }
    }

    fn wide(&self, pc: Pc, source: WideSource) -> Result<u64, LinkError> {
        let unknown = |map: ebpf_isa::MapIdx| LinkError::UnknownMap { pc, map: map.0 };
        match source {
            WideSource::Imm(imm) => Ok(imm.get()),
            WideSource::Map(map, _) => {
                self.links.maps.get(map.index()).copied().ok_or_else(|| unknown(map))
            }
            WideSource::MapValue(map, offset, _) => {
                let base = self.links.map_values.get(map.index()).copied().flatten();
                base.map(|base| base.wrapping_add(u64::from(offset))).ok_or_else(|| unknown(map))
            }
            WideSource::Btf { .. } => {
                Err(LinkError::Unsupported { pc, what: "addresses of kernel variables" })
            }
            WideSource::Func(_) => {
                Err(LinkError::Unsupported { pc, what: "addresses of subprograms" })
            }
        }
    }

    fn native(&mut self, pc: Pc, id: HelperId) -> Result<Linked, LinkError> {
        let helper = self.links.helpers.0.get(&id).ok_or(LinkError::UnknownHelper { pc, id })?;
        let known = self.natives.iter().position(|&(other, _)| other == id);
        let index = known.unwrap_or_else(|| {
            self.natives.push((id, helper.function));
            self.natives.len() - 1
        }) as u32;
        Ok(if helper.may_end { Linked::CallEnding(index) } else { Linked::CallNative(index) })
    }

    /// Bytes of stack that a frame of this subprogram needs, in steps of 8: the whole frame where
    /// nothing is known.
    fn frame(&self, subprog: SubprogIdx) -> u16 {
        let known = self.facts.and_then(|facts| facts.subprog(subprog));
        let whole = STACK_SIZE as u16;
        known.map_or(whole, |known| known.stack_depth.min(whole).next_multiple_of(8))
    }
}
