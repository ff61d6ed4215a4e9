//! Programs with their symbols resolved.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use ebpf_isa::abi::{ExecEnv, FRAME_SIZE, HelperFn, STACK_SIZE, subprog_address, subprog_at};
use ebpf_isa::uapi::HelperId;
use ebpf_isa::{
    CallTarget, Code, Facts, Insn, Pc, Program, Reg, RegSet, Size, SubprogIdx, WideSource,
};

use ebpf_lower::{Outline, SlotSet};

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
    /// A call of a kernel function that is not registered.
    #[error("insn {pc}: kernel function {btf_id} of module {module} is not registered")]
    UnknownKfunc {
        /// The call.
        pc: Pc,
        /// The function's BTF id.
        btf_id: u32,
        /// The index of its module.
        module: i16,
    },
    /// A call of a native function that is not registered.
    #[error("insn {pc}: native function {number} is not registered")]
    UnknownNative {
        /// The call.
        pc: Pc,
        /// Its number.
        number: u32,
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
struct Native {
    function: HelperFn,
    may_end: bool,
}

/// Native functions by what calls name them by.
#[derive(Debug, Clone)]
pub struct Functions<Id>(BTreeMap<Id, Native>);

/// Native functions by helper number.
pub type Helpers = Functions<HelperId>;
/// Kernel functions by the index of their module and their BTF id.
pub type Kfuncs = Functions<(i16, u32)>;
/// Native functions of the host that are no helpers, by number ([`CallTarget::Native`]).
pub type Natives = Functions<u32>;

impl<Id> Default for Functions<Id> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<Id: Ord + Copy> Functions<Id> {
    /// No functions.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes `function` the one that calls name by `id`, in place of what it was before.
    ///
    /// # Safety
    /// Where the program is run by [`Vm::run`](crate::Vm::run), the function must be sound for **every** value of
    /// its five arguments. Where it is run by [`Vm::run_unchecked`](crate::Vm::run_unchecked), it must be sound for the
    /// arguments that the verifier lets a program pass.
    #[allow(unsafe_code, reason = "calling a native function is a promise of the caller")]
    pub unsafe fn register(&mut self, id: Id, function: HelperFn) {
        self.0.insert(id, Native { function, may_end: false });
    }
}

impl Helpers {
    /// As [`Self::register`], for a function that may end the program: where it sets [`ExecEnv::ended`], the run
    /// ends at once, from any depth of calls, with what the function returns as `r0`.
    ///
    /// # Safety
    /// As for [`Self::register`].
    #[allow(unsafe_code, reason = "calling a native function is a promise of the caller")]
    pub unsafe fn register_ending(&mut self, id: HelperId, function: HelperFn) {
        self.0.insert(id, Native { function, may_end: true });
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
    /// The native functions behind helpers.
    pub helpers: Helpers,
    /// Kernel functions.
    pub kfuncs: Kfuncs,
    /// The host's other native functions.
    pub natives: Natives,
    /// What a wide load of a map gives, by the map's place in the program's list.
    pub maps: Vec<u64>,
    /// The address of a map's first value, for wide loads of addresses in it.
    pub map_values: Vec<Option<u64>>,
    /// Where tail calls lead. It stands for the helper `bpf_tail_call`, which `helpers` does not
    /// need to have.
    pub tail_target: Option<TailTarget>,
}

/// What an instruction that refers to something comes to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Linked {
    /// A wide load of a number.
    LoadWide { dst: Reg, value: u64 },
    /// A call of a native function, by its place in [`Vm::natives`](crate::Vm).
    CallNative(u32),
    /// The same for a function that may end the run.
    CallEnding(u32),
    /// A call of a subprogram.
    CallSubprog {
        callee: Callee,
        /// The registers that the caller saves: see [`Clobbers`].
        saved: RegSet,
    },
    /// A call of the subprogram whose address is in this register. The caller saves all that there
    /// are to save.
    CallReg(Reg),
    /// A call of the helper `bpf_tail_call`.
    TailCall,
    /// The instruction itself, which refers to nothing.
    Insn,
}

/// A subprogram as its callers know it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Callee {
    pub(crate) start: Pc,
    /// Bytes of stack.
    pub(crate) frame: u16,
}

/// A program whose symbols are resolved.
#[derive(Debug, Clone)]
pub(crate) struct LinkedProgram {
    slots: Arc<Code>,
    /// The second slots of wide loads.
    holes: SlotSet,
    /// Where calls, wide loads and a few others are, and what they come to.
    special: SlotSet,
    linked: Vec<Linked>,
    /// The subprograms whose address is taken, by position.
    callees: Vec<Callee>,
    pub(crate) natives: Vec<HelperFn>,
    pub(crate) tail_target: Option<TailTargetFn>,
    /// Bytes of stack of the main program.
    pub(crate) main_frame: u16,
}

impl LinkedProgram {
    /// The instruction at `pc`, where there is one.
    pub(crate) fn insn(&self, pc: Pc) -> Insn {
        self.slots[pc.index()].expect("targets are instructions in every Program")
    }

    /// What the call or wide load at `pc` comes to.
    pub(crate) fn linked(&self, pc: Pc) -> Linked {
        self.linked[self.special.rank(pc)]
    }

    /// The subprogram with this address, if it is one whose address the program takes.
    pub(crate) fn callee(&self, address: u64) -> Option<Callee> {
        let start = subprog_at(address)?;
        let found = self.callees.binary_search_by_key(&start, |callee| callee.start);
        found.ok().map(|index| self.callees[index])
    }

    /// How many instructions are in front of the one at `pc`.
    pub(crate) fn place(&self, pc: Pc) -> u32 {
        pc.0 - self.holes.rank(pc) as u32
    }
}

/// Resolves the symbols of `program`, whose outline is `outline`.
pub(crate) fn link(
    program: &Program,
    outline: &Outline,
    facts: Option<&Facts>,
    links: &Links,
) -> Result<LinkedProgram, LinkError> {
    let clobbers = Clobbers::new(program, outline);
    let (natives, taken) = (Vec::new(), Vec::new());
    let mut linker = Linker { program, facts, links, clobbers, natives, taken };
    let mut linked = Vec::with_capacity(outline.special().len());
    for pc in outline.special().iter() {
        let insn = program.get(pc).expect("special slots have instructions");
        linked.push(linker.resolve(pc, insn)?);
    }
    Ok(LinkedProgram {
        slots: Arc::clone(program.code()),
        holes: outline.holes().clone(),
        special: outline.special().clone(),
        linked,
        callees: linker.callees(),
        main_frame: linker.callee(SubprogIdx::MAIN).frame,
        natives: linker.natives.into_iter().map(|(_, function)| function).collect(),
        tail_target: links.tail_target.map(|TailTarget(function)| function),
    })
}

struct Linker<'a> {
    program: &'a Program,
    facts: Option<&'a Facts>,
    links: &'a Links,
    clobbers: Clobbers,
    natives: Vec<(CallTarget, HelperFn)>,
    /// Subprograms whose address is taken.
    taken: Vec<Pc>,
}

impl Linker<'_> {
    /// What an instruction comes to.
    fn resolve(&mut self, pc: Pc, insn: Insn) -> Result<Linked, LinkError> {
        let unsupported = |what| Err(LinkError::Unsupported { pc, what });
        match insn {
            Insn::LoadWide { dst, source } => {
                Ok(Linked::LoadWide { dst, value: self.wide(pc, source)? })
            }
            Insn::Call(target) => self.call(pc, target),
            Insn::Atomic { size: Size::B | Size::H, .. } => {
                unsupported("atomic operations on 1 or 2 bytes")
            }
            Insn::LoadPacket { size: Size::Dw, .. } => unsupported("packet loads of 8 bytes"),
            _ => Ok(Linked::Insn),
        }
    }

    fn call(&mut self, pc: Pc, target: CallTarget) -> Result<Linked, LinkError> {
        match target {
            CallTarget::Helper(id @ HelperId::TAIL_CALL) => {
                let known = self.links.tail_target.is_some();
                if known { Ok(Linked::TailCall) } else { Err(LinkError::UnknownHelper { pc, id }) }
            }
            CallTarget::Helper(id) => {
                let helper = self.links.helpers.0.get(&id);
                Ok(self.native(target, *helper.ok_or(LinkError::UnknownHelper { pc, id })?))
            }
            CallTarget::Kfunc { btf_id, module } => {
                let function = self.links.kfuncs.0.get(&(module, btf_id));
                let unknown = LinkError::UnknownKfunc { pc, btf_id, module };
                Ok(self.native(target, *function.ok_or(unknown)?))
            }
            CallTarget::Native(number) => {
                let native = self.links.natives.0.get(&number);
                Ok(self.native(target, *native.ok_or(LinkError::UnknownNative { pc, number })?))
            }
            CallTarget::Subprog(target) => {
                let subprog = self.program.subprog_of(target);
                let saved = self.clobbers.of(subprog);
                Ok(Linked::CallSubprog { callee: self.callee(subprog), saved })
            }
            CallTarget::Reg(callee) => Ok(Linked::CallReg(callee)),
        }
    }

    /// The subprograms whose address is taken, by position.
    fn callees(&mut self) -> Vec<Callee> {
        self.taken.sort_unstable();
        self.taken.dedup();
        let callee = |&start| self.callee(self.program.subprog_of(start));
        self.taken.iter().map(callee).collect()
    }

    fn wide(&mut self, pc: Pc, source: WideSource) -> Result<u64, LinkError> {
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
            WideSource::Func(start) => {
                self.taken.push(start);
                Ok(subprog_address(start))
            }
        }
    }

    /// A call of a native function, which gets a place of its own at its first call.
    fn native(&mut self, target: CallTarget, native: Native) -> Linked {
        let known = self.natives.iter().position(|&(other, _)| other == target);
        let index = known.unwrap_or_else(|| {
            self.natives.push((target, native.function));
            self.natives.len() - 1
        }) as u32;
        if native.may_end { Linked::CallEnding(index) } else { Linked::CallNative(index) }
    }

    /// With bytes of stack in steps of 8: what a program may use where nothing is known.
    fn callee(&self, subprog: SubprogIdx) -> Callee {
        let known = self.facts.and_then(|facts| facts.subprog(subprog));
        let most = FRAME_SIZE as u16;
        let frame = known.map_or(STACK_SIZE as u16, |known| known.stack_depth.min(most));
        let frame = frame.next_multiple_of(8);
        Callee { start: self.program.subprogs()[subprog.index()].start, frame }
    }
}
