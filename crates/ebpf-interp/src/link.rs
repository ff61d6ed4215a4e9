//! Programs with their symbols resolved.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use ebpf_isa::abi::{HelperFn, STACK_SIZE};
use ebpf_isa::uapi::HelperId;
use ebpf_isa::{CallTarget, Facts, Imm64, Insn, Pc, Program, Reg, SubprogIdx, WideSource};

/// Why a program cannot be interpreted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// A call of a helper that is not registered.
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

/// Native functions by helper number.
#[derive(Debug, Clone, Default)]
pub struct Helpers(BTreeMap<HelperId, HelperFn>);

impl Helpers {
    /// No helpers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes `function` the helper `id`, in place of what it was before.
    ///
    /// # Safety
    /// Where the program is run by [`Vm::run`], the function must be sound for **every** value of
    /// its five arguments. Where it is run by [`Vm::run_unchecked`], it must be sound for the
    /// arguments that the verifier lets a program pass.
    #[allow(unsafe_code, reason = "calling a native function is a promise of the caller")]
    pub unsafe fn register(&mut self, id: HelperId, function: HelperFn) {
        self.0.insert(id, function);
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
}

/// One slot of a linked program.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Op {
    /// An instruction that needs no link.
    Insn(Insn),
    /// A wide load of a number.
    LoadWide { dst: Reg, value: Imm64 },
    /// A call of a native function, by its place in [`Vm::natives`].
    CallNative(u32),
    /// A call of a subprogram.
    CallSubprog { target: Pc, frame: u16 },
    /// The second slot of a wide load.
    Hole,
}

/// A program that is ready to run. It can be run any number of times, from any thread.
#[derive(Debug, Clone)]
pub struct Vm {
    pub(crate) ops: Vec<Op>,
    pub(crate) natives: Vec<HelperFn>,
    /// Bytes of stack of the main program.
    pub(crate) main_frame: u16,
}

impl Vm {
    /// Resolves the symbols of `program`. Facts, where there are any, make frames smaller.
    ///
    /// # Errors
    /// A symbol that `links` does not have, or an instruction that is not supported.
    pub fn new(program: &Program, facts: Option<&Facts>, links: &Links) -> Result<Self, LinkError> {
        let mut linker = Linker { program, facts, links, natives: Vec::new() };
        let ops = program
            .slots()
            .iter()
            .enumerate()
            .map(|(at, slot)| match slot {
                Some(insn) => linker.op(Pc(at as u32), *insn),
                None => Ok(Op::Hole),
            })
            .collect::<Result<_, _>>()?;
        let main_frame = linker.frame(SubprogIdx::MAIN);
        let natives = linker.natives.into_iter().map(|(_, function)| function).collect();
        Ok(Self { ops, natives, main_frame })
    }
}

struct Linker<'a> {
    program: &'a Program,
    facts: Option<&'a Facts>,
    links: &'a Links,
    natives: Vec<(HelperId, HelperFn)>,
}

impl Linker<'_> {
    fn op(&mut self, pc: Pc, insn: Insn) -> Result<Op, LinkError> {
        let unsupported = |what| Err(LinkError::Unsupported { pc, what });
        match insn {
            Insn::LoadWide { dst, source } => {
                Ok(Op::LoadWide { dst, value: Imm64::new(self.wide(pc, source)?) })
            }
            Insn::Call(CallTarget::Helper(HelperId::TAIL_CALL)) => unsupported("tail calls"),
            Insn::Call(CallTarget::Helper(id)) => Ok(Op::CallNative(self.native(pc, id)?)),
            Insn::Call(CallTarget::Subprog(target)) => {
                let frame = self.frame(self.program.subprog_of(target));
                Ok(Op::CallSubprog { target, frame })
            }
            Insn::Call(CallTarget::Kfunc { .. }) => unsupported("calls of kernel functions"),
            Insn::LoadPacket { .. } => unsupported("packet loads"),
            Insn::AddrSpaceCast { .. } => unsupported("address-space casts"),
            Insn::MayGoto { .. } => unsupported("may_goto"),
            other => Ok(Op::Insn(other)),
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

    fn native(&mut self, pc: Pc, id: HelperId) -> Result<u32, LinkError> {
        let known = self.natives.iter().position(|&(other, _)| other == id);
        let index = match known {
            Some(index) => index,
            None => {
                let function = self.links.helpers.0.get(&id);
                self.natives.push((id, *function.ok_or(LinkError::UnknownHelper { pc, id })?));
                self.natives.len() - 1
            }
        };
        Ok(index as u32)
    }

    /// Bytes of stack that a frame of this subprogram needs: the whole frame where nothing is
    /// known.
    fn frame(&self, subprog: SubprogIdx) -> u16 {
        self.facts
            .and_then(|facts| facts.subprog(subprog))
            .map_or(STACK_SIZE as u16, |known| known.stack_depth.min(STACK_SIZE as u16))
    }
}
