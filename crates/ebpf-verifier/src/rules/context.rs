//! Fields of contexts and of objects of the kernel: which may be read or written, at which widths,
//! and what they hold.

use alloc::borrow::Cow;

use ebpf_isa::Size;
use ebpf_isa::uapi::AttachType;

use super::{Object, attached};
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
    /// Not allowed.
    Invalid,
    /// Allowed; a load gives this.
    Allowed(FieldKind),
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
    /// A pointer to an object of the kernel.
    Object(Object),
    /// A pointer to an object of the kernel, or null.
    ObjectOrNull(Object),
    /// Arguments of what the program is attached to, of the types that these have.
    Argument,
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
    /// At this width or a smaller one, from the field's first byte on.
    FirstUpTo(Size),
    /// At these widths and those between, inside of the field.
    Between(Size, Size),
}

impl FieldAccess {
    /// At any width, inside of the field.
    pub const INSIDE: Self = Self::Between(Size::B, Size::Dw);
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
    /// The attach types that have the field; empty if all have it.
    pub only_for: &'static [AttachType],
}

impl ContextField {
    pub(super) fn digest(&self, digest: &mut DigestWriter) {
        digest.u32(u32::from(self.start) << 16 | u32::from(self.end));
        for access in [self.read, self.write] {
            let (rule, low, high) = match access {
                FieldAccess::Never => (0, 0, 0),
                FieldAccess::Exactly(size) => (1, 0, size.bytes()),
                FieldAccess::UpTo(size) => (2, 0, size.bytes()),
                FieldAccess::FirstUpTo(size) => (3, 0, size.bytes()),
                FieldAccess::Between(low, high) => (4, low.bytes(), high.bytes()),
            };
            digest.u32(rule << 16 | u32::from(low) << 8 | u32::from(high));
        }
        digest.u32(match self.kind {
            FieldKind::Scalar => 0,
            FieldKind::PacketData => 1,
            FieldKind::PacketEnd => 2,
            FieldKind::PacketMeta => 3,
            FieldKind::Unsupported => 4,
            FieldKind::Argument => 5,
            FieldKind::Object(object) => 0x100 | object as u32,
            FieldKind::ObjectOrNull(object) => 0x200 | object as u32,
        });
        super::digest_attach_types(self.only_for, digest);
    }

    fn covers(&self, off: u32, attach_type: Option<AttachType>) -> bool {
        (self.start.into()..self.end.into()).contains(&off) && attached(self.only_for, attach_type)
    }

    fn allows(&self, off: u32, size: Size, write: bool) -> bool {
        let bytes = u32::from(size.bytes());
        let in_unit = |unit: Size| off % u32::from(unit.bytes()) + bytes <= unit.bytes().into();
        let width_fits = match if write { self.write } else { self.read } {
            FieldAccess::Never => false,
            FieldAccess::Exactly(exact) => size == exact,
            FieldAccess::UpTo(unit) => in_unit(unit),
            FieldAccess::FirstUpTo(unit) => {
                off == self.start.into() && size.bytes() <= unit.bytes()
            }
            FieldAccess::Between(low, high) => {
                (low.bytes()..=high.bytes()).contains(&size.bytes())
                    && off + bytes <= self.end.into()
            }
        };
        width_fits && off.is_multiple_of(bytes)
    }
}

/// What the fields say of an access: the field in which it starts decides.
pub(super) fn access<'f>(
    fields: impl IntoIterator<Item = &'f ContextField>,
    query: &ContextQuery,
) -> ContextAccess {
    let field = u32::try_from(query.off).ok().and_then(|off| {
        let covers = |field: &&ContextField| field.covers(off, query.attach_type);
        let field = fields.into_iter().find(covers)?;
        field.allows(off, query.size, query.write).then_some(field)
    });
    match field.map(|field| field.kind) {
        None => ContextAccess::Invalid,
        Some(kind @ (FieldKind::Scalar | FieldKind::Argument | FieldKind::Unsupported)) => {
            ContextAccess::Allowed(kind)
        }
        Some(_) if query.sign_extended => ContextAccess::Invalid,
        Some(kind) => ContextAccess::Allowed(kind),
    }
}
