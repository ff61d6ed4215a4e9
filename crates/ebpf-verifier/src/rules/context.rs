//! Fields of contexts: which may be read or written, at which widths, and what they hold.

use alloc::borrow::Cow;

use ebpf_isa::Size;
use ebpf_isa::uapi::AttachType;

use crate::digest::DigestWriter;

/// A load from or a store to the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContextQuery {
    /// Offset in bytes from the start of the context; may be negative.
    pub off: i32,
    /// Width.
    pub size: Size,
    /// Whether it is a store.
    pub write: bool,
    /// Whether it is a load that extends the sign.
    pub sign_extended: bool,
    /// How the program is to be attached.
    pub attach_type: Option<AttachType>,
}

/// What an access to the context gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContextAccess {
    /// Allowed; a load gives a number.
    Scalar,
    /// A pointer to the start of the packet.
    PacketData,
    /// The end of the packet.
    PacketEnd,
    /// A pointer to the metadata before the packet.
    PacketMeta,
    /// Not allowed.
    Invalid,
    /// Allowed by the kernel, but what it gives is not known here.
    Unsupported,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// A number.
    Scalar,
    /// A pointer to the start of the packet.
    PacketData,
    /// The end of the packet.
    PacketEnd,
    /// A pointer to the metadata before the packet.
    PacketMeta,
    /// Something that is not known here.
    Unsupported,
}

/// At which widths a field may be accessed. Every access must be aligned to its own width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldAccess {
    /// Not at all.
    Never,
    /// At this width.
    Exactly(Size),
    /// At this width or a smaller one, inside of one unit of this width.
    UpTo(Size),
    /// At any width, inside of the field.
    Inside,
}

/// A field of a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextField {
    /// Name, for rewriting and messages.
    pub name: Cow<'static, str>,
    /// Offset of its first byte.
    pub start: u16,
    /// Offset behind its last byte.
    pub end: u16,
    /// How it may be read.
    pub read: FieldAccess,
    /// How it may be written.
    pub write: FieldAccess,
    /// What it holds.
    pub kind: FieldKind,
    /// The one attach type that has the field; `None` if all have it.
    pub only_for: Option<AttachType>,
}

impl ContextField {
    pub(super) fn digest(&self, digest: &mut DigestWriter) {
        digest.u32(u32::from(self.start) << 16 | u32::from(self.end));
        for access in [self.read, self.write] {
            let (rule, size) = match access {
                FieldAccess::Never => (0, 0),
                FieldAccess::Exactly(size) => (1, size.bytes()),
                FieldAccess::UpTo(size) => (2, size.bytes()),
                FieldAccess::Inside => (3, 0),
            };
            digest.u32(rule << 8 | u32::from(size));
        }
        digest.u32(match self.kind {
            FieldKind::Scalar => 0,
            FieldKind::PacketData => 1,
            FieldKind::PacketEnd => 2,
            FieldKind::PacketMeta => 3,
            FieldKind::Unsupported => 4,
        });
        digest.u32(self.only_for.map_or(u32::MAX, AttachType::number));
    }

    fn allows(&self, off: u32, query: &ContextQuery) -> bool {
        let size = u32::from(query.size.bytes());
        let access = if query.write { self.write } else { self.read };
        let width_fits = match access {
            FieldAccess::Never => false,
            FieldAccess::Exactly(exact) => query.size == exact,
            FieldAccess::UpTo(unit) => {
                let unit = u32::from(unit.bytes());
                off % unit + size <= unit
            }
            FieldAccess::Inside => off + size <= u32::from(self.end),
        };
        let attached = self.only_for.is_none() || self.only_for == query.attach_type;
        width_fits && attached && off.is_multiple_of(size)
    }
}

/// What the fields say of an access: the field in which it starts decides.
pub(super) fn access(fields: &[ContextField], query: &ContextQuery) -> ContextAccess {
    let Ok(off) = u32::try_from(query.off) else {
        return ContextAccess::Invalid;
    };
    let covers = |field: &&ContextField| (field.start.into()..field.end.into()).contains(&off);
    let Some(field) = fields.iter().find(covers) else {
        return ContextAccess::Invalid;
    };
    if !field.allows(off, query) {
        return ContextAccess::Invalid;
    }
    match field.kind {
        FieldKind::Scalar => ContextAccess::Scalar,
        FieldKind::Unsupported => ContextAccess::Unsupported,
        _ if query.sign_extended => ContextAccess::Invalid,
        FieldKind::PacketData => ContextAccess::PacketData,
        FieldKind::PacketEnd => ContextAccess::PacketEnd,
        FieldKind::PacketMeta => ContextAccess::PacketMeta,
    }
}
