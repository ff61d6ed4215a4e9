//! From bytes to types. One pass; time and memory are linear in the blob.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use crate::reader::{Reader, Strings};
use crate::{
    Array, Btf, BtfError, Composite, DeclTag, Enum, EnumValue, Func, FuncProto, Int, Kind, Linkage,
    Member, NameOff, Param, SecVar, Type, TypeId, Var,
};

/// The longest blob that is read, in bytes. It is the kernel's own limit, and the length that keeps
/// every name below the format's highest offset (`BTF_MAX_NAME_OFFSET`).
pub const MAX_BTF_BYTES: usize = 16 << 20;
/// The highest type id (`BTF_MAX_TYPE`).
pub const MAX_TYPES: u32 = 0x000f_ffff;

const MAGIC: u16 = 0xeb9f;
const VERSION: u8 = 1;
/// Bytes of `struct btf_header`.
const HEADER_LEN: u32 = 24;
/// Bytes of the header up to and including its own length, which are common to BTF and BTF.ext.
const PREFIX_LEN: usize = 8;

const INT_SIGNED: u32 = 1;
const INT_CHAR: u32 = 2;
const INT_BOOL: u32 = 4;

/// A blob split at the end of its header.
pub(crate) struct Header<'a> {
    /// The header's fields after its length.
    pub(crate) fields: Reader<'a>,
    /// What follows the header, where the sections lie.
    body: &'a [u8],
    /// Where `body` starts in the blob.
    body_offset: usize,
}

impl<'a> Header<'a> {
    /// Checks the prefix that BTF and BTF.ext share; `min` is the shortest header and `known` the
    /// fields' end.
    pub(crate) fn parse(bytes: &'a [u8], min: u32, known: usize) -> Result<Self, BtfError> {
        if bytes.len() > MAX_BTF_BYTES {
            return Err(BtfError::TooLarge { len: bytes.len(), limit: MAX_BTF_BYTES });
        }
        let prefix = Reader::new(bytes, 0).take(PREFIX_LEN)?;
        let magic = u16::from_le_bytes([prefix[0], prefix[1]]);
        if magic == MAGIC.swap_bytes() {
            return Err(BtfError::BigEndian);
        }
        if magic != MAGIC {
            return Err(BtfError::BadMagic { found: magic });
        }
        if prefix[2] != VERSION {
            return Err(BtfError::UnsupportedVersion { version: prefix[2] });
        }
        if prefix[3] != 0 {
            return Err(BtfError::UnsupportedFlags { flags: prefix[3] });
        }
        let len = u32::from_le_bytes([prefix[4], prefix[5], prefix[6], prefix[7]]);
        if len < min {
            return Err(BtfError::BadHeaderLength { len, min });
        }
        let header = Reader::new(bytes, 0).take(len as usize)?;
        if header.iter().skip(known).any(|&byte| byte != 0) {
            return Err(BtfError::BadHeaderLength { len, min });
        }
        let fields = Reader::new(&header[PREFIX_LEN..], PREFIX_LEN);
        Ok(Self { fields, body: &bytes[header.len()..], body_offset: header.len() })
    }

    /// The section whose offset and length are the header's next two fields.
    pub(crate) fn section(
        &mut self,
        section: &'static str,
        align: u32,
    ) -> Result<Reader<'a>, BtfError> {
        let [offset, len] = self.fields.words()?;
        let bad = BtfError::BadSection { section, offset, len };
        if !offset.is_multiple_of(align) {
            return Err(bad);
        }
        let from = self.body.get(offset as usize..).ok_or(bad.clone())?;
        let bytes = from.get(..len as usize).ok_or(bad)?;
        Ok(Reader::new(bytes, self.body_offset + offset as usize))
    }
}

impl Btf {
    /// Reads a `.BTF` section or a file of `/sys/kernel/btf` that stands alone.
    ///
    /// Strings that are not UTF-8 (source lines may be in any encoding) are kept with `?` for each
    /// offending byte.
    ///
    /// # Errors
    /// Anything that the format does not allow, with its place; a kind that is not known; a reference to a type or
    /// a name that is not there; a blob beyond [`MAX_BTF_BYTES`] or [`MAX_TYPES`].
    pub fn parse(bytes: &[u8]) -> Result<Btf, BtfError> {
        let mut header = Header::parse(bytes, HEADER_LEN, HEADER_LEN as usize)?;
        let mut types = header.section("type", 4)?;
        let strings = parse_strings(header.section("string", 1)?.rest())?;
        let types = parse_types(&mut types, Strings(&strings))?;

        let count = types.len();
        for (id, ty) in (0..).map(TypeId).zip(&types) {
            if let Some(target) = ty.dangling(|id| (id.0 as usize) < count) {
                return Err(BtfError::DanglingReference { id, target });
            }
        }
        Ok(Btf::new(types, strings))
    }
}

fn parse_strings(bytes: &[u8]) -> Result<Box<str>, BtfError> {
    let (Some(0), Some(0)) = (bytes.first(), bytes.last()) else {
        return Err(BtfError::BadStrings);
    };
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        // One `?` for each byte keeps the offsets of everything behind it.
        text.extend(chunk.invalid().iter().map(|_| '?'));
    }
    Ok(text.into_boxed_str())
}

fn parse_types(reader: &mut Reader<'_>, strings: Strings<'_>) -> Result<Vec<Type>, BtfError> {
    let mut types = Vec::new();
    types.push(Type::Void);
    for id in (1..).map(TypeId) {
        if reader.is_empty() {
            break;
        }
        if id.0 > MAX_TYPES {
            return Err(BtfError::TooManyTypes { limit: MAX_TYPES });
        }
        types.push(TypeParser::next(id, reader, strings)?);
    }
    Ok(types)
}

/// One `struct btf_type` with what follows it.
struct TypeParser<'r, 'a, 's> {
    id: TypeId,
    kind: Kind,
    /// The 16 bits of `info` that count what follows, or hold a function's linkage.
    vlen: u16,
    /// The top bit of `info`, whose meaning depends on the kind.
    kind_flag: bool,
    name: NameOff,
    /// The third word: a size in bytes or a type id.
    size_or_type: u32,
    reader: &'r mut Reader<'a>,
    strings: Strings<'s>,
}

impl<'r, 'a, 's> TypeParser<'r, 'a, 's> {
    fn next(
        id: TypeId,
        reader: &'r mut Reader<'a>,
        strings: Strings<'s>,
    ) -> Result<Type, BtfError> {
        let offset = reader.offset();
        let [name_off, info, size_or_type] = reader.words()?;
        // info: bits 0–15 vlen, 24–28 kind, 31 kind_flag.
        let number = (info >> 24 & 0x1f) as u8;
        let kind = Kind::from_raw(number).ok_or(BtfError::UnknownKind { id, kind: number })?;
        let name = strings.check(name_off, offset)?;
        let vlen = (info & 0xffff) as u16;
        Self { id, kind, vlen, kind_flag: info >> 31 != 0, name, size_or_type, reader, strings }
            .parse()
    }

    fn parse(mut self) -> Result<Type, BtfError> {
        let (name, size, target) = (self.name, self.size_or_type, TypeId(self.size_or_type));
        Ok(match self.kind {
            Kind::Void => {
                return Err(BtfError::UnknownKind { id: self.id, kind: Kind::Void as u8 });
            }
            Kind::Int => Type::Int(self.int()?),
            Kind::Ptr => Type::Ptr(target),
            Kind::Array => Type::Array(self.array()?),
            Kind::Struct => Type::Struct(self.composite()?),
            Kind::Union => Type::Union(self.composite()?),
            Kind::Enum => Type::Enum(self.enumeration()?),
            Kind::Fwd => Type::Fwd { name, is_union: self.kind_flag },
            Kind::Typedef => Type::Typedef { name, target },
            Kind::Volatile => Type::Volatile(target),
            Kind::Const => Type::Const(target),
            Kind::Restrict => Type::Restrict(target),
            Kind::Func => {
                Type::Func(Func { name, proto: target, linkage: self.linkage(self.vlen.into())? })
            }
            Kind::FuncProto => Type::FuncProto(self.func_proto()?),
            Kind::Var => Type::Var(self.var()?),
            Kind::Datasec => Type::Datasec { name, size, vars: self.datasec()? },
            Kind::Float => Type::Float { name, size },
            Kind::DeclTag => Type::DeclTag(self.decl_tag()?),
            Kind::TypeTag => Type::TypeTag { name, target },
            Kind::Enum64 => Type::Enum64(self.enumeration64()?),
        })
    }

    fn bad(&self, field: &'static str, value: u32) -> BtfError {
        BtfError::BadField { id: self.id, kind: self.kind, field, value }
    }

    /// The `vlen` records of `N` words that follow; the first word of each is its name.
    fn records<const N: usize, T>(
        &mut self,
        make: impl Fn(NameOff, [u32; N]) -> T,
    ) -> Result<Box<[T]>, BtfError> {
        let offset = self.reader.offset();
        let mut records = Reader::new(self.reader.take(usize::from(self.vlen) * N * 4)?, offset);
        let mut made = Vec::with_capacity(self.vlen.into());
        for _ in 0..self.vlen {
            let offset = records.offset();
            let words = records.words()?;
            made.push(make(self.strings.check(words[0], offset)?, words));
        }
        Ok(made.into_boxed_slice())
    }

    fn int(&mut self) -> Result<Int, BtfError> {
        // Bits 0–7 width, 16–23 offset, 24–27 encoding.
        let word = self.reader.u32()?;
        let (bits, bit_offset, encoding) = (word as u8, (word >> 16) as u8, word >> 24 & 0xf);
        let size = self.size_or_type;
        if !matches!(size, 1 | 2 | 4 | 8 | 16) {
            return Err(self.bad("size", size));
        }
        if u32::from(bits) + u32::from(bit_offset) > size * 8
            || encoding > INT_SIGNED | INT_CHAR | INT_BOOL
        {
            return Err(self.bad("encoding", word));
        }
        let has = |flag| encoding & flag != 0;
        let (signed, is_char, is_bool) = (has(INT_SIGNED), has(INT_CHAR), has(INT_BOOL));
        Ok(Int { name: self.name, size, bits, bit_offset, signed, is_char, is_bool })
    }

    fn array(&mut self) -> Result<Array, BtfError> {
        let [element, index, len] = self.reader.words()?;
        Ok(Array { element: TypeId(element), index: TypeId(index), len })
    }

    fn composite(&mut self) -> Result<Composite, BtfError> {
        let bitfields = self.kind_flag;
        let members = self.records(|name, [_, ty, offset]| {
            // With the kind flag, the offset word holds the width in its top 8 bits; 0 for an
            // ordinary member.
            let (bit_offset, width) =
                if bitfields { (offset & 0xff_ffff, (offset >> 24) as u8) } else { (offset, 0) };
            Member {
                name,
                ty: TypeId(ty),
                bit_offset,
                bitfield_bits: (width != 0).then_some(width),
            }
        })?;
        Ok(Composite { name: self.name, size: self.size_or_type, members })
    }

    fn enumeration(&mut self) -> Result<Enum, BtfError> {
        let signed = self.kind_flag;
        let values = self.records(|name, [_, value]| {
            let value = if signed {
                i64::from(value.cast_signed()).cast_unsigned()
            } else {
                u64::from(value)
            };
            EnumValue { name, value }
        })?;
        self.enumerators(values)
    }

    fn enumeration64(&mut self) -> Result<Enum, BtfError> {
        let values = self.records(|name, [_, low, high]| EnumValue {
            name,
            value: u64::from(high) << 32 | u64::from(low),
        })?;
        self.enumerators(values)
    }

    fn enumerators(&self, values: Box<[EnumValue]>) -> Result<Enum, BtfError> {
        let size = self.size_or_type;
        // Clang describes `enum name;` as one without size and enumerators.
        let is_declaration = size == 0 && values.is_empty();
        if !is_declaration && !matches!(size, 1 | 2 | 4 | 8) {
            return Err(self.bad("size", size));
        }
        Ok(Enum { name: self.name, size, signed: self.kind_flag, values })
    }

    fn func_proto(&mut self) -> Result<FuncProto, BtfError> {
        let params = self.records(|name, [_, ty]| Param { name, ty: TypeId(ty) })?;
        Ok(FuncProto { ret: TypeId(self.size_or_type), params })
    }

    fn var(&mut self) -> Result<Var, BtfError> {
        let linkage = self.reader.u32()?;
        Ok(Var { name: self.name, ty: TypeId(self.size_or_type), linkage: self.linkage(linkage)? })
    }

    fn linkage(&self, number: u32) -> Result<Linkage, BtfError> {
        match number {
            0 => Ok(Linkage::Static),
            1 => Ok(Linkage::Global),
            2 => Ok(Linkage::Extern),
            _ => Err(self.bad("linkage", number)),
        }
    }

    fn datasec(&mut self) -> Result<Box<[SecVar]>, BtfError> {
        (0..self.vlen)
            .map(|_| {
                let [var, offset, size] = self.reader.words()?;
                Ok(SecVar { var: TypeId(var), offset, size })
            })
            .collect()
    }

    fn decl_tag(&mut self) -> Result<DeclTag, BtfError> {
        let index = self.reader.u32()?.cast_signed();
        let component = match index {
            -1 => None,
            _ => Some(
                u32::try_from(index)
                    .map_err(|_| self.bad("component index", index.cast_unsigned()))?,
            ),
        };
        Ok(DeclTag { name: self.name, target: TypeId(self.size_or_type), component })
    }
}

#[cfg(test)]
mod tests;
