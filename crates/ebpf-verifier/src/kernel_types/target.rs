//! What a program is attached to: its arguments are what the program sees.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use ebpf_btf::{Btf, Kind, Type, TypeId};
use ebpf_isa::uapi::AttachType;

use super::KernelTypes;
use super::facts::{ITERATORS, IteratorArgument, NULLABLE, UNKNOWN};
use super::trust::Trust;
use super::walk::Tag;
use crate::error::TargetFault;

/// What names of types of tracepoints begin with.
const TRACEPOINT: &str = "btf_trace_";
/// What names of iterators' functions begin with.
const ITERATOR: &str = "bpf_iter_";
/// Bytes of an argument in the context.
const SLOT: u32 = 8;

/// The tracepoint or iterator that a program is attached to.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// As messages have it.
    pub(crate) name: String,
    /// The arguments that programs see.
    arguments: Vec<TypeId>,
    /// Where the parameter at each place of the prototype ends in the context, and behind them the
    /// result.
    ends: Vec<u32>,
    kind: TargetKind,
}

#[derive(Debug, Clone)]
enum TargetKind {
    /// Which arguments may be null, as bits.
    Tracepoint(u16),
    Iterator(&'static [(usize, IteratorArgument)]),
}

/// What a load of an argument gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Argument {
    /// A number, or a pointer that programs make nothing of.
    Number,
    /// A pointer to a structure of this type.
    Structure {
        ty: TypeId,
        trust: Trust,
        may_be_null: bool,
        /// What the kernel says in its log.
        note: Option<String>,
    },
    /// A key or value of an iterator, or null.
    Buffer { writable: bool },
}

impl Target {
    /// The target of this type; `None` if it is of a kind that is not known.
    pub(crate) fn new(
        types: &KernelTypes,
        attach_type: Option<AttachType>,
        id: TypeId,
    ) -> Option<Self> {
        let btf = types.btf();
        let full_name = btf.type_name(id);
        let (name, proto, skipped, kind) = match (attach_type?, btf.type_by_id(id).ok()?) {
            (AttachType::TraceRawTp, &Type::Typedef { target, .. }) => {
                let Type::Ptr(proto) = btf.type_by_id(target).ok()? else { return None };
                let name = full_name.strip_prefix(TRACEPOINT)?;
                // The first parameter is the tracepoint's own.
                (name, *proto, 1, TargetKind::Tracepoint(nullable(name)))
            }
            (AttachType::TraceIter, Type::Func(func)) => {
                let name = full_name.strip_prefix(ITERATOR)?;
                let known = ITERATORS.iter().find(|row| row.0 == name)?;
                (full_name, func.proto, 0, TargetKind::Iterator(known.1))
            }
            _ => return None,
        };
        let Type::FuncProto(proto) = btf.type_by_id(proto).ok()? else { return None };
        let mut end = 0_u32;
        let mut ends = Vec::with_capacity(proto.params.len());
        for param in &proto.params {
            end = end.checked_add(slots(btf, param.ty)?)?;
            ends.push(end);
        }
        ends.push(end.checked_add(slots(btf, proto.ret)?)?);
        let arguments = proto.params.get(skipped..)?.iter().map(|param| param.ty).collect();
        Some(Self { name: name.to_owned(), arguments, ends, kind })
    }

    /// What a load of the context gives.
    pub(crate) fn argument(
        &self,
        types: &KernelTypes,
        off: i16,
        size: u8,
    ) -> Result<Option<Argument>, TargetFault> {
        let btf = types.btf();
        let at = u32::try_from(off).ok().filter(|off| off.is_multiple_of(SLOT));
        let at = at.ok_or(TargetFault::Offset { off })?;
        let place = self.ends.iter().position(|&end| at < end).unwrap_or(self.ends.len());
        let missing = TargetFault::Missing { number: place + 1 };
        let &ty = self.arguments.get(place).ok_or(missing)?;
        let Ok(argument) = btf.resolve(ty).and_then(|id| btf.type_by_id(id)) else {
            return Ok(None);
        };
        let to = match argument {
            Type::Int(int) if int.size <= SLOT => return Ok(Some(Argument::Number)),
            Type::Enum(_) | Type::Enum64(_) | Type::Struct(_) => return Ok(Some(Argument::Number)),
            Type::Ptr(to) => *to,
            _ => return Ok(None),
        };
        if u32::from(size) != SLOT {
            return Err(TargetFault::Size { size });
        }
        self.pointer(types, place, to)
    }

    fn pointer(
        &self,
        types: &KernelTypes,
        place: usize,
        to: TypeId,
    ) -> Result<Option<Argument>, TargetFault> {
        let btf = types.btf();
        let of_iterator = match self.kind {
            TargetKind::Iterator(arguments) => arguments.iter().find(|row| row.0 == place),
            TargetKind::Tracepoint(_) => None,
        };
        match of_iterator {
            Some((_, IteratorArgument::Buffer { writable })) => {
                return Ok(Some(Argument::Buffer { writable: *writable }));
            }
            Some(&(_, IteratorArgument::Structure(name, trust, may_be_null))) => {
                let ty = types.index().find(Kind::Struct, name);
                let structure = |ty| Argument::Structure { ty, trust, may_be_null, note: None };
                return Ok(ty.map(structure));
            }
            None => {}
        }
        let Ok(id) = btf.resolve(to) else { return Ok(None) };
        let Ok(ty) = btf.type_by_id(id) else { return Ok(None) };
        match ty {
            Type::Void | Type::Int(_) => return Ok(Some(Argument::Number)),
            Type::Struct(_) | Type::Union(_) => {}
            _ => {
                let kind = ty.kind().as_str();
                return Err(TargetFault::NoStructure { argument: place, kind });
            }
        }
        let is_tracepoint = matches!(self.kind, TargetKind::Tracepoint(_));
        if Tag::of(btf, to).is_some() || is_tracepoint && UNKNOWN.contains(&(&self.name, place)) {
            return Ok(None);
        }
        let may_be_null = match self.kind {
            TargetKind::Tracepoint(bits) => bits >> place & 1 != 0,
            TargetKind::Iterator(_) => false,
        };
        let (target, number, kind) = (&self.name, id.0, ty.kind().as_str());
        let name = btf.type_name(id);
        let note = format!("func '{target}' arg{place} has btf_id {number} type {kind} '{name}'");
        let trust = Trust::Trusted;
        Ok(Some(Argument::Structure { ty: id, trust, may_be_null, note: Some(note) }))
    }
}

/// Bytes that an argument takes in the context; `None` where its size is not known.
fn slots(btf: &Btf, ty: TypeId) -> Option<u32> {
    if ty == TypeId::VOID {
        return Some(0);
    }
    btf.size_of(ty).ok()?.checked_next_multiple_of(SLOT)
}

/// Which arguments of a tracepoint may be null, as bits.
fn nullable(tracepoint: &str) -> u16 {
    let rows = NULLABLE.iter().filter(|row| row.1.contains(&tracepoint));
    rows.fold(0, |bits, row| bits | row.0)
}
