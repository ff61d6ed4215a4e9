//! What distinguishes program types, as data: context fields, helpers, packet access, exit range.

mod context;
mod helper;
pub mod program_types;
mod tables;

use alloc::vec::Vec;

use ebpf_isa::uapi::{AttachType, HelperId, ProgramType};

pub use context::{ContextAccess, ContextField, ContextQuery, FieldAccess, FieldKind};
pub use helper::{ArgKind, HelperProto, RetKind};

use crate::digest::DigestWriter;

/// The rules of a program type. [`TableRules`] answers from tables, which is all that the
/// kernel's own types need.
pub trait ProgramTypeRules: Send + Sync {
    /// Which type.
    fn program_type(&self) -> ProgramType;
    /// What an access to the context gives.
    fn context_access(&self, query: &ContextQuery) -> ContextAccess;
    /// The prototype of a helper that programs of this type may call.
    fn helper(&self, id: HelperId) -> Option<&HelperProto>;
    /// Whether programs of this type may call a helper of which there is no prototype here: such a
    /// call is unsupported, any other one is refused.
    fn may_call_unknown(&self, id: HelperId) -> bool;
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
    /// None, also not by helpers.
    None,
    /// Reading and writing.
    ReadWrite,
}

/// What a program may return, ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitRange {
    /// Smallest value.
    pub min: i32,
    /// Greatest value.
    pub max: i32,
}

/// Rules that answer from tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRules {
    /// Which type.
    pub program_type: ProgramType,
    /// The context's fields. Bytes outside of all of them are not accessible.
    pub context: Vec<ContextField>,
    /// The helpers.
    pub helpers: Vec<HelperProto>,
    /// Helpers that programs of this type may call, but that are not supported here.
    pub unsupported_helpers: Vec<HelperId>,
    /// Direct access to the packet.
    pub packet: PacketAccess,
    /// What the program may return.
    pub exit: Option<ExitRange>,
}

impl ProgramTypeRules for TableRules {
    fn program_type(&self) -> ProgramType {
        self.program_type
    }

    fn context_access(&self, query: &ContextQuery) -> ContextAccess {
        context::access(&self.context, query)
    }

    fn helper(&self, id: HelperId) -> Option<&HelperProto> {
        self.helpers.iter().find(|proto| proto.id == id)
    }

    fn may_call_unknown(&self, id: HelperId) -> bool {
        self.unsupported_helpers.contains(&id)
    }

    fn packet_access(&self) -> PacketAccess {
        self.packet
    }

    fn exit_range(&self, _attach_type: Option<AttachType>) -> Option<ExitRange> {
        self.exit
    }

    fn digest(&self, digest: &mut DigestWriter) {
        digest.u32(self.program_type.number());
        digest.u64(self.context.len() as u64);
        self.context.iter().for_each(|field| field.digest(digest));
        digest.u64(self.helpers.len() as u64);
        self.helpers.iter().for_each(|helper| helper.digest(digest));
        digest.u64(self.unsupported_helpers.len() as u64);
        self.unsupported_helpers.iter().for_each(|id| digest.u32(id.0));
        digest.u32(u32::from(self.packet == PacketAccess::ReadWrite));
        let exit = self.exit.map_or([1, 0], |range| [range.min, range.max]);
        exit.into_iter().for_each(|end| digest.u32(end.cast_unsigned()));
    }
}
