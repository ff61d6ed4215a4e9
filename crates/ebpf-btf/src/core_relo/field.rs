//! What is asked about a field.

use super::access::{Leaf, Place};
use super::{CoreError, CoreKind};
use crate::{Btf, Type, TypeId};

/// The most bytes that one load gives.
const MAX_LOAD: u64 = 8;

/// Bits of a field, and the load that gives them.
struct Bits {
    /// Where the field starts, in bits from the start of the type, and how many bits it has.
    at: u64,
    count: u64,
    /// Where the load starts and how long it is, in bytes.
    load: u64,
    bytes: u64,
    is_bitfield: bool,
}

/// An answer about a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FieldValue {
    pub(super) value: u64,
    /// Whether compilers give no other answer for the same types.
    pub(super) is_certain: bool,
    /// The type and size of what is loaded or stored at an offset; `None` of bit fields, which take
    /// more than one instruction, and where no offset is asked for.
    pub(super) loaded: Option<(TypeId, u32)>,
}

/// The answer to `kind` about the field at `place`.
pub(super) fn value(btf: &Btf, place: &Place, kind: CoreKind) -> Result<FieldValue, CoreError> {
    let bits = bits(btf, place)?;
    let answer = |value| FieldValue { value, is_certain: !bits.is_bitfield, loaded: None };
    let certain = |value| FieldValue { is_certain: true, ..answer(value) };
    let is_element = matches!(place.leaf, Leaf::Whole(_));
    Ok(match kind {
        CoreKind::FieldByteOffset if bits.is_bitfield => answer(bits.load),
        CoreKind::FieldByteOffset => {
            let loaded = Some((place.ty(), btf.size_of(place.ty())?));
            FieldValue { loaded, ..answer(bits.load) }
        }
        CoreKind::FieldByteSize => answer(bits.bytes),
        _ if is_element => return Err(CoreError::NoField { kind }),
        CoreKind::FieldSigned => certain(is_signed(btf, place.ty())?.into()),
        CoreKind::FieldLshiftU64 => {
            let end = bits.at + bits.count - bits.load * 8;
            answer(u64::from(u64::BITS).wrapping_sub(end))
        }
        CoreKind::FieldRshiftU64 => certain(u64::from(u64::BITS).wrapping_sub(bits.count)),
        _ => return Err(CoreError::NoField { kind }),
    })
}

fn bits(btf: &Btf, place: &Place) -> Result<Bits, CoreError> {
    let mut bytes = u64::from(btf.size_of(place.ty())?);
    let at = place.bits;
    let width = match place.leaf {
        Leaf::Member(member, _) => member.bitfield_bits.map(u64::from),
        Leaf::Whole(_) => None,
    };
    let Some(count) = width else {
        let load = at / 8;
        return Ok(Bits { at, count: bytes * 8, load, bytes, is_bitfield: false });
    };
    // The shortest aligned load that has all the bits.
    while bytes != 0 {
        let load = at / 8 / bytes * bytes;
        if at + count <= (load + bytes) * 8 {
            return Ok(Bits { at, count, load, bytes, is_bitfield: true });
        }
        if bytes >= MAX_LOAD {
            break;
        }
        bytes *= 2;
    }
    Err(CoreError::WideBitfield { ty: place.ty() })
}

fn is_signed(btf: &Btf, id: TypeId) -> Result<bool, CoreError> {
    Ok(match btf.type_by_id(btf.resolve(id)?)? {
        Type::Int(int) => int.signed,
        Type::Enum(of) | Type::Enum64(of) => of.signed,
        _ => false,
    })
}
