//! BTF's types as plain data.

use alloc::boxed::Box;
use core::fmt;

/// The number of a type: 0 is `void`, the others count from 1 in the order of the blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TypeId(pub u32);

impl TypeId {
    /// `void`, which has no entry in the blob.
    pub const VOID: TypeId = TypeId(0);
}

impl fmt::Display for TypeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "type {}", self.0)
    }
}

/// A string of a [`Btf`](crate::Btf), as its offset in the string section:
/// [`Btf::name`](crate::Btf::name) gives the text. 0 is the empty string, the name of what has
/// none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NameOff(pub(crate) u32);

impl NameOff {
    /// The empty string.
    pub const ANONYMOUS: NameOff = NameOff(0);

    /// The offset in bytes from the start of the string section.
    pub fn offset(self) -> u32 {
        self.0
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $number:literal, $text:literal;)*) => {
        /// What a type is. The numbers are those of the format (`BTF_KIND_*`).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Kind { $($(#[$doc])* $kind = $number,)* }

        impl Kind {
            /// The kind with this number.
            pub fn from_raw(number: u8) -> Option<Kind> {
                match number { $($number => Some(Kind::$kind),)* _ => None }
            }

            /// The kernel's name of the kind, as its log prints it.
            pub fn as_str(self) -> &'static str {
                match self { $(Kind::$kind => $text,)* }
            }
        }
    };
}

kinds! {
    /// `void`: type 0.
    Void = 0, "VOID";
    /// An integer, character or boolean.
    Int = 1, "INT";
    /// A pointer.
    Ptr = 2, "PTR";
    /// An array.
    Array = 3, "ARRAY";
    /// A struct.
    Struct = 4, "STRUCT";
    /// A union.
    Union = 5, "UNION";
    /// An enum of values of at most 32 bits.
    Enum = 6, "ENUM";
    /// A forward declaration of a struct or union.
    Fwd = 7, "FWD";
    /// A typedef.
    Typedef = 8, "TYPEDEF";
    /// `volatile`.
    Volatile = 9, "VOLATILE";
    /// `const`.
    Const = 10, "CONST";
    /// `restrict`.
    Restrict = 11, "RESTRICT";
    /// A function.
    Func = 12, "FUNC";
    /// The prototype of a function.
    FuncProto = 13, "FUNC_PROTO";
    /// A variable.
    Var = 14, "VAR";
    /// The variables of an ELF section.
    Datasec = 15, "DATASEC";
    /// A floating point number.
    Float = 16, "FLOAT";
    /// `btf_decl_tag` on a declaration, a member or a parameter.
    DeclTag = 17, "DECL_TAG";
    /// `btf_type_tag` on a type.
    TypeTag = 18, "TYPE_TAG";
    /// An enum of values of 64 bits.
    Enum64 = 19, "ENUM64";
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Type {
    /// `void`, type 0.
    Void,
    /// An integer, character or boolean.
    Int(Int),
    /// A pointer to the type.
    Ptr(TypeId),
    /// An array.
    Array(Array),
    /// A struct.
    Struct(Composite),
    /// A union.
    Union(Composite),
    /// An enum of values of at most 32 bits.
    Enum(Enum),
    /// A forward declaration.
    Fwd {
        /// The tag.
        name: NameOff,
        /// Whether it is a union's, not a struct's.
        is_union: bool,
    },
    /// A typedef.
    Typedef {
        /// The new name.
        name: NameOff,
        /// What it names.
        target: TypeId,
    },
    /// A `volatile` type.
    Volatile(TypeId),
    /// A `const` type.
    Const(TypeId),
    /// A `restrict` pointer.
    Restrict(TypeId),
    /// A function.
    Func(Func),
    /// The prototype of a function.
    FuncProto(FuncProto),
    /// A variable.
    Var(Var),
    /// The variables of an ELF section.
    Datasec {
        /// The section's name.
        name: NameOff,
        /// The section's size in bytes; clang leaves 0 for the loader to fill in.
        size: u32,
        /// The variables.
        vars: Box<[SecVar]>,
    },
    /// A floating point number.
    Float {
        /// Its name.
        name: NameOff,
        /// Its size in bytes.
        size: u32,
    },
    /// A tag on a declaration.
    DeclTag(DeclTag),
    /// A tag on a type.
    TypeTag {
        /// The tag's text.
        name: NameOff,
        /// The tagged type.
        target: TypeId,
    },
    /// An enum of values of 64 bits.
    Enum64(Enum),
}

/// An integer type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Int {
    /// Its name.
    pub name: NameOff,
    /// Bytes it takes: 1, 2, 4, 8 or 16.
    pub size: u32,
    /// Bits of the value, at most `8 * size`; fewer only for bit fields in the old encoding.
    pub bits: u8,
    /// Where the value's bits start, in the old encoding of bit fields; else 0.
    pub bit_offset: u8,
    /// Whether values are signed.
    pub signed: bool,
    /// Whether it holds a character.
    pub is_char: bool,
    /// Whether it is a boolean.
    pub is_bool: bool,
}

/// An array type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Array {
    /// The type of an element.
    pub element: TypeId,
    /// The type of an index.
    pub index: TypeId,
    /// How many elements; 0 for a flexible array.
    pub len: u32,
}

/// A struct or a union.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Composite {
    /// Its tag, or none.
    pub name: NameOff,
    /// Its size in bytes.
    pub size: u32,
    /// Its members, in order.
    pub members: Box<[Member]>,
}

/// A member of a struct or union.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Member {
    /// Its name; none for an anonymous struct or union.
    pub name: NameOff,
    /// Its type.
    pub ty: TypeId,
    /// Where it starts, in bits from the start of the struct.
    pub bit_offset: u32,
    /// Its width in bits when it is a bit field.
    pub bitfield_bits: Option<u8>,
}

/// An enum, of either kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Enum {
    /// Its tag, or none.
    pub name: NameOff,
    /// Its size in bytes: 1, 2, 4 or 8; 0 for a forward declaration.
    pub size: u32,
    /// Whether values are signed.
    pub signed: bool,
    /// Its enumerators, in order.
    pub values: Box<[EnumValue]>,
}

/// One enumerator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EnumValue {
    /// Its name.
    pub name: NameOff,
    /// Its value as 64 bits, sign-extended where the enum is signed.
    pub value: u64,
}

/// How a function or variable is seen from other objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Linkage {
    /// In this object only.
    Static,
    /// From every object.
    Global,
    /// Defined elsewhere.
    Extern,
}

/// A function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Func {
    /// Its name.
    pub name: NameOff,
    /// Its prototype, a [`Type::FuncProto`] in sensible BTF.
    pub proto: TypeId,
    /// Its linkage.
    pub linkage: Linkage,
}

/// The prototype of a function.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FuncProto {
    /// What it returns.
    pub ret: TypeId,
    /// Its parameters; a last one without name and type stands for `...`.
    pub params: Box<[Param]>,
}

/// One parameter of a prototype.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Param {
    /// Its name, or none.
    pub name: NameOff,
    /// Its type.
    pub ty: TypeId,
}

/// A variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Var {
    /// Its name.
    pub name: NameOff,
    /// Its type.
    pub ty: TypeId,
    /// Its linkage.
    pub linkage: Linkage,
}

/// A variable's place in an ELF section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SecVar {
    /// The variable, a [`Type::Var`] in sensible BTF.
    pub var: TypeId,
    /// Bytes from the start of the section; clang leaves 0 for the loader to fill in.
    pub offset: u32,
    /// Bytes it takes.
    pub size: u32,
}

/// A tag on a declaration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeclTag {
    /// The tag's text.
    pub name: NameOff,
    /// The struct, union, function, variable or typedef that is tagged.
    pub target: TypeId,
    /// The member or parameter that is tagged, counted from 0; none when it is `target` itself.
    pub component: Option<u32>,
}

impl Type {
    /// What the type is.
    pub fn kind(&self) -> Kind {
        match self {
            Type::Void => Kind::Void,
            Type::Int(_) => Kind::Int,
            Type::Ptr(_) => Kind::Ptr,
            Type::Array(_) => Kind::Array,
            Type::Struct(_) => Kind::Struct,
            Type::Union(_) => Kind::Union,
            Type::Enum(_) => Kind::Enum,
            Type::Fwd { .. } => Kind::Fwd,
            Type::Typedef { .. } => Kind::Typedef,
            Type::Volatile(_) => Kind::Volatile,
            Type::Const(_) => Kind::Const,
            Type::Restrict(_) => Kind::Restrict,
            Type::Func(_) => Kind::Func,
            Type::FuncProto(_) => Kind::FuncProto,
            Type::Var(_) => Kind::Var,
            Type::Datasec { .. } => Kind::Datasec,
            Type::Float { .. } => Kind::Float,
            Type::DeclTag(_) => Kind::DeclTag,
            Type::TypeTag { .. } => Kind::TypeTag,
            Type::Enum64(_) => Kind::Enum64,
        }
    }

    /// The type's own name; [`NameOff::ANONYMOUS`] where it has none.
    pub fn name(&self) -> NameOff {
        match self {
            Type::Int(Int { name, .. })
            | Type::Struct(Composite { name, .. })
            | Type::Union(Composite { name, .. })
            | Type::Enum(Enum { name, .. })
            | Type::Enum64(Enum { name, .. })
            | Type::Fwd { name, .. }
            | Type::Typedef { name, .. }
            | Type::Func(Func { name, .. })
            | Type::Var(Var { name, .. })
            | Type::Datasec { name, .. }
            | Type::Float { name, .. }
            | Type::DeclTag(DeclTag { name, .. })
            | Type::TypeTag { name, .. } => *name,
            Type::Void
            | Type::Ptr(_)
            | Type::Array(_)
            | Type::Volatile(_)
            | Type::Const(_)
            | Type::Restrict(_)
            | Type::FuncProto(_) => NameOff::ANONYMOUS,
        }
    }

    /// What a typedef, qualifier or type tag stands before: the type it adds nothing to the layout
    /// of.
    pub fn modified(&self) -> Option<TypeId> {
        match *self {
            Type::Typedef { target, .. }
            | Type::Volatile(target)
            | Type::Const(target)
            | Type::Restrict(target)
            | Type::TypeTag { target, .. } => Some(target),
            _ => None,
        }
    }

    /// The first type that this one refers to and that does not satisfy `exists`.
    pub(crate) fn dangling(&self, exists: impl Fn(TypeId) -> bool) -> Option<TypeId> {
        let missing = |id: TypeId| (!exists(id)).then_some(id);
        match self {
            Type::Void
            | Type::Int(_)
            | Type::Enum(_)
            | Type::Enum64(_)
            | Type::Fwd { .. }
            | Type::Float { .. } => None,
            Type::Ptr(target)
            | Type::Typedef { target, .. }
            | Type::Volatile(target)
            | Type::Const(target)
            | Type::Restrict(target)
            | Type::TypeTag { target, .. }
            | Type::Func(Func { proto: target, .. })
            | Type::Var(Var { ty: target, .. })
            | Type::DeclTag(DeclTag { target, .. }) => missing(*target),
            Type::Array(array) => missing(array.element).or_else(|| missing(array.index)),
            Type::Struct(composite) | Type::Union(composite) => {
                composite.members.iter().find_map(|m| missing(m.ty))
            }
            Type::FuncProto(proto) => {
                missing(proto.ret).or_else(|| proto.params.iter().find_map(|p| missing(p.ty)))
            }
            Type::Datasec { vars, .. } => vars.iter().find_map(|v| missing(v.var)),
        }
    }
}
