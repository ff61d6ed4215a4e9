//! What distinguishes program types, as data: context fields, helpers, packet access, exit range.

mod context;
mod helper;
mod object;
pub mod program_types;
mod tables;

use alloc::vec::Vec;

use ebpf_isa::uapi::{AttachType, HelperId, ProgramType};

pub use context::{ContextAccess, ContextField, ContextQuery, FieldAccess, FieldKind};
pub use helper::{ArgKind, HelperProto, RetKind};
pub(crate) use helper::{calls_back, calls_later};
pub use object::{Object, Structure};

use tables::availability;
pub(crate) use tables::map_helpers::{
    holds_sockets, may_change_sockets, takes as helper_takes_map,
};

use crate::digest::DigestWriter;

/// The rules of a program type. [`TableRules`] answers from tables, which is all that the
/// kernel's own types need.
pub trait ProgramTypeRules: Send + Sync {
    /// Which type.
    fn program_type(&self) -> ProgramType;
    /// Whether such programs can be attached so; `None` is attach type 0.
    fn may_attach(&self, attach_type: Option<AttachType>) -> bool;
    /// What an access to the context gives.
    fn context_access(&self, query: &ContextQuery) -> ContextAccess;
    /// The prototype of a helper, if there is one here.
    fn helper(&self, id: HelperId) -> Option<&HelperProto>;
    /// Whether programs of this type that are attached so may call a helper. If there is no
    /// prototype of it here, such a call is unsupported.
    fn may_call(&self, id: HelperId, attach_type: Option<AttachType>) -> bool;
    /// Whether programs may access the packet directly.
    fn packet_access(&self) -> PacketAccess;
    /// What the program may return; `None` if anything.
    fn exit_range(&self, attach_type: Option<AttachType>) -> Option<ExitRange>;
    /// Takes in all of the above, so that two types with different rules differ.
    fn digest(&self, digest: &mut DigestWriter);
}

/// Direct access to the packet, through the pointers that the context holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketAccess {
    /// Reading, if the context has such pointers, but not by helpers.
    None,
    /// Reading.
    Read,
    /// Reading and writing.
    ReadWrite,
    /// Reading and writing, by all helpers that take memory: the packet is a buffer that does not
    /// move.
    Buffer,
}

/// What a program may return, ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ExitRange {
    /// Smallest value.
    pub min: i32,
    /// Greatest value.
    pub max: i32,
}

/// What callbacks may return: 0 to be called again, 1 to have the helper return.
pub(crate) const CALLBACK_RANGE: ExitRange = ExitRange { min: 0, max: 1 };

/// What functions may return that run later.
pub(crate) const LATER_RANGE: ExitRange = ExitRange { min: 0, max: 0 };

/// What programs may return that are attached in some way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitRule {
    /// The attach types; empty for all.
    pub only_for: &'static [AttachType],
    /// What they may return.
    pub range: ExitRange,
}

/// Which helpers programs of a type may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HelperSet {
    /// Those that have a prototype.
    Prototypes,
    /// Those of the kernel's type. Some of them are not supported here.
    Kernel,
}

/// Rules that answer from tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRules {
    /// Which type.
    pub program_type: ProgramType,
    /// How such programs can be attached; empty for in any way.
    pub attach_types: &'static [AttachType],
    /// What attach type 0 stands for.
    pub default_attach: AttachType,
    /// The context's fields. Bytes outside of all of them are not accessible.
    pub context: Vec<ContextField>,
    /// Prototypes of helpers.
    pub helpers: Vec<HelperProto>,
    /// Which helpers may be called.
    pub helper_set: HelperSet,
    /// Direct access to the packet.
    pub packet: PacketAccess,
    /// What the program may return: the first rule for its attach type, or anything.
    pub exit: Vec<ExitRule>,
}

impl TableRules {
    /// The attach type, or what stands for it.
    fn attach(&self, attach_type: Option<AttachType>) -> Option<AttachType> {
        attach_type.or(Some(self.default_attach))
    }
}

impl ProgramTypeRules for TableRules {
    fn program_type(&self) -> ProgramType {
        self.program_type
    }

    fn may_attach(&self, attach_type: Option<AttachType>) -> bool {
        attached(self.attach_types, self.attach(attach_type))
    }

    fn context_access(&self, query: &ContextQuery) -> ContextAccess {
        let attach_type = self.attach(query.attach_type);
        context::access(&self.context, &ContextQuery { attach_type, ..*query })
    }

    fn helper(&self, id: HelperId) -> Option<&HelperProto> {
        self.helpers.iter().find(|proto| proto.id == id)
    }

    fn may_call(&self, id: HelperId, attach_type: Option<AttachType>) -> bool {
        match self.helper_set {
            HelperSet::Prototypes => self.helper(id).is_some(),
            HelperSet::Kernel => {
                availability::may_call(self.program_type, self.attach(attach_type), id)
            }
        }
    }

    fn packet_access(&self) -> PacketAccess {
        self.packet
    }

    fn exit_range(&self, attach_type: Option<AttachType>) -> Option<ExitRange> {
        let attach_type = self.attach(attach_type);
        let rule = self.exit.iter().find(|rule| attached(rule.only_for, attach_type))?;
        Some(rule.range)
    }

    fn digest(&self, digest: &mut DigestWriter) {
        digest.u32(self.program_type.number());
        digest_attach_types(self.attach_types, digest);
        digest.u32(self.default_attach.number());
        digest.u64(self.context.len() as u64);
        self.context.iter().for_each(|field| field.digest(digest));
        digest.u64(self.helpers.len() as u64);
        self.helpers.iter().for_each(|helper| helper.digest(digest));
        digest.u32(self.helper_set as u32);
        digest.u32(self.packet as u32);
        digest.u64(self.exit.len() as u64);
        for ExitRule { only_for, range } in &self.exit {
            digest_attach_types(only_for, digest);
            [range.min, range.max].into_iter().for_each(|end| digest.u32(end.cast_unsigned()));
        }
    }
}

/// Whether an attach type is one of these, or these are all.
fn attached(only_for: &[AttachType], attach_type: Option<AttachType>) -> bool {
    only_for.is_empty() || attach_type.is_some_and(|attach_type| only_for.contains(&attach_type))
}

fn digest_attach_types(attach_types: &[AttachType], digest: &mut DigestWriter) {
    digest.u64(attach_types.len() as u64);
    attach_types.iter().for_each(|attach_type| digest.u32(attach_type.number()));
}
