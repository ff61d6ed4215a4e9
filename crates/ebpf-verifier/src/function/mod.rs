//! What is known of a program's functions before any of them is explored: how they may be called.
//!
//! A *static* function is explored with its callers, at each call anew. A *global* one is explored
//! once, for all arguments that its prototype allows; a call of it checks the arguments and takes the
//! rest for granted. Which is which, and the prototypes, are said by the program's BTF.

mod context;
mod prototype;
mod reach;

use alloc::string::String;
use alloc::vec::Vec;

use ebpf_btf::{Btf, Linkage, Type, TypeId};
use ebpf_isa::{Program, SubprogIdx};

use crate::digest::DigestWriter;
use crate::environment::Environment;
use crate::outline::Outline;

use prototype::Prototypes;
pub(crate) use prototype::{Argument, Prototype, Unread};

/// A function, as its callers see it.
#[derive(Debug)]
pub(crate) struct Function {
    /// Its name; empty where it has no type.
    pub(crate) name: String,
    pub(crate) binding: Binding,
    pub(crate) prototype: Result<Prototype, Unread>,
    /// Whether it, or a function that it calls, has a call of a helper that moves the packet. It
    /// does not matter whether a path leads there.
    pub(crate) moves_packet: bool,
    /// Likewise for a helper that may sleep.
    pub(crate) may_sleep: bool,
}

/// How calls of a function are verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binding {
    /// Each with the function.
    Static,
    /// Apart from the function.
    Global,
    /// It has a type that is not given, or is defined elsewhere.
    Unknown,
}

/// All functions of a program.
#[derive(Debug)]
pub(crate) struct Functions(Vec<Function>);

impl Functions {
    pub(crate) fn of(program: &Program, outline: &Outline, env: &Environment) -> Self {
        let moves_packet = reach::calls_any_of(program, outline, reach::MOVES_PACKET);
        let may_sleep = reach::calls_any_of(program, outline, reach::MAY_SLEEP);
        let program_type = env.program_type.program_type();
        let prototypes = env.btf.as_deref().map(|btf| Prototypes::of(btf, program_type));
        let reached = moves_packet.into_iter().zip(may_sleep);
        let functions = program.subprogs().iter().zip(reached).map(|(subprog, reached)| {
            let (moves_packet, may_sleep) = reached;
            let binding = match env.is_static(&subprog.info) {
                Some(true) => Binding::Static,
                Some(false) => Binding::Global,
                None => Binding::Unknown,
            };
            let id = subprog.info.btf_id.map(TypeId);
            let name = env.btf.as_ref().zip(id).map(|(btf, id)| btf.type_name(id).into());
            let prototype = prototypes.as_ref().zip(id).map(|(all, id)| all.read(id));
            let prototype = prototype.unwrap_or(Err(Unread::Ignored));
            Function { name: name.unwrap_or_default(), binding, prototype, moves_packet, may_sleep }
        });
        Self(functions.collect())
    }

    pub(crate) fn get(&self, SubprogIdx(index): SubprogIdx) -> &Function {
        &self.0[index as usize]
    }

    /// All but the main program, in order.
    pub(crate) fn called(&self) -> impl Iterator<Item = SubprogIdx> + use<> {
        (1..self.0.len() as u32).map(SubprogIdx)
    }
}

/// Takes in what the types say of functions, as far as a verdict depends on it.
pub(crate) fn digest(btf: &Btf, env: &Environment, digest: &mut DigestWriter) {
    let prototypes = Prototypes::of(btf, env.program_type.program_type());
    for (id, ty) in btf.types() {
        let Type::Func(func) = ty else { continue };
        digest.u32(id.0);
        digest.u32(match func.linkage {
            Linkage::Static => 0,
            Linkage::Global => 1,
            Linkage::Extern => 2,
        });
        digest.u32(env.returns_number(id.0).map_or(2, u32::from));
        match prototypes.read(id) {
            Ok(prototype) => prototype.digest(digest),
            Err(_) => digest.u32(u32::MAX),
        }
    }
}
