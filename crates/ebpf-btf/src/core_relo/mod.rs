//! CO-RE: what programs ask about the types of the kernel that they are loaded into.
//!
//! A program is compiled against types of its own, as far as it knows them. Where it depends on the
//! layout of a type, clang leaves a relocation ([`CoreRelo`]): an access in the program's types and
//! what is asked about it. [`CoreAnswers`] finds the type and the access by their names in the types of a
//! kernel. The kernel's documentation has the records (`Documentation/bpf/llvm_reloc.rst`, "CO-RE
//! Relocations") and the kinds (`enum bpf_core_relo_kind` of `linux/bpf.h`); which types may
//! stand for each other is libbpf's practice.

mod access;
mod compatible;
mod field;
mod matching;
#[cfg(test)]
mod tests;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::index::{TypeIndex, without_flavour};
use crate::{Btf, BtfError, CoreRelo, Type, TypeId};
use access::{Part, Place};
use matching::Matching;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $number:literal, $about:literal;)*) => {
        /// What is asked (`enum bpf_core_relo_kind`).
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u32)]
        pub enum CoreKind { $($(#[$doc])* $kind = $number,)* }

        impl CoreKind {
            /// The kind with this number.
            #[must_use]
            pub fn from_raw(number: u32) -> Option<CoreKind> {
                match number { $($number => Some(CoreKind::$kind),)* _ => None }
            }

            /// What is asked, in words.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(CoreKind::$kind => $about,)* }
            }
        }
    };
}

kinds! {
    /// Where the field starts, in bytes; of a bit field, where a load starts that has all of it.
    FieldByteOffset = 0, "offset of a field";
    /// How many bytes the field has; of a bit field, how many that load has.
    FieldByteSize = 1, "size of a field";
    /// Whether there is such a field: 1 or 0.
    FieldExists = 2, "existence of a field";
    /// Whether the field is signed: 1 or 0.
    FieldSigned = 3, "sign of a field";
    /// How far to shift what was loaded to the left, so that the field's highest bit is the highest
    /// of 64.
    FieldLshiftU64 = 4, "left shift of a bit field";
    /// How far to shift it to the right after that.
    FieldRshiftU64 = 5, "right shift of a bit field";
    /// The id of the type among the program's types.
    TypeIdLocal = 6, "id of an own type";
    /// The id of the type among the kernel's.
    TypeIdTarget = 7, "id of a type";
    /// Whether there is such a type: 1 or 0.
    TypeExists = 8, "existence of a type";
    /// How many bytes the type has.
    TypeSize = 9, "size of a type";
    /// Whether the enum has this enumerator: 1 or 0.
    EnumvalExists = 10, "existence of an enumerator";
    /// The enumerator's value.
    EnumvalValue = 11, "value of an enumerator";
    /// Whether there is a type that has all that the program's type has.
    TypeMatches = 12, "match of a type";
}

/// What a relocation makes of its instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoreAnswer {
    /// What the instruction holds before, where that is certain.
    pub before: Option<u64>,
    /// What it is to hold: 0 for types that the kernel does not have. `None` if it has no such field or
    /// enumerator: the instruction must not be reached.
    pub value: Option<u64>,
    /// How the access at an offset changes.
    pub resize: Resize,
}

/// How the size of what is loaded or stored changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resize {
    /// It does not.
    None,
    /// From so many bytes to so many; both are pointers or unsigned integers.
    To {
        /// Bytes of the program's field.
        from: u32,
        /// Bytes of the kernel's field.
        to: u32,
    },
    /// It does, and the values would mean something else.
    Unfit,
}

/// Why a relocation has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CoreError {
    /// Nobody said what types the kernel has.
    #[error("the types of the kernel that it is for are needed (such as /sys/kernel/btf/vmlinux)")]
    NoTypes,
    /// No such kind is known.
    #[error("relocation kind {kind} is not known")]
    UnknownKind {
        /// Its number.
        kind: u32,
    },
    /// The access does not fit the program's own type.
    #[error("access `{access}` does not fit BTF {root}")]
    BadAccess {
        /// The type that it starts from.
        root: TypeId,
        /// The access.
        access: String,
    },
    /// A type without a name cannot be found elsewhere.
    #[error("BTF {root} has no name to be found by")]
    Anonymous {
        /// The type.
        root: TypeId,
    },
    /// This is asked about fields of structs and unions only.
    #[error("the {} was asked for of what is no field", kind.as_str())]
    NoField {
        /// What was asked.
        kind: CoreKind,
    },
    /// No load of 8 bytes has all bits of the field.
    #[error("a bit field of BTF {ty} is in no aligned load of up to 8 bytes")]
    WideBitfield {
        /// The field's type.
        ty: TypeId,
    },
    /// Several types of the name give different answers.
    #[error("BTF {first} and {second} of the kernel have the same name and differ")]
    Ambiguous {
        /// One of them.
        first: TypeId,
        /// Another.
        second: TypeId,
    },
    /// Types refer to one another without end.
    #[error("BTF {root} consists of too many types, or of itself")]
    TooDeep {
        /// Where they start.
        root: TypeId,
    },
    /// A question about the types themselves has no answer.
    #[error(transparent)]
    Btf(#[from] BtfError),
}

/// What is looked for among the kernel's types.
enum Wanted<'a> {
    /// The type itself.
    Type,
    /// The enumerator of this name.
    Enumerator(&'a str, u64),
    Field(Vec<Part>, Place),
}

/// What was found: the value, and what of it must be so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    value: u64,
    /// Where in the type.
    bits: u64,
    loaded: Option<(TypeId, u32)>,
}

/// Answers what one program asks about the types of a kernel.
///
/// Where the kernel has several types of a name, what is asked first decides between them: later
/// answers come from those that had one before.
#[derive(Debug)]
pub struct CoreAnswers<'a> {
    local: &'a Btf,
    target: Option<&'a TypeIndex>,
    /// The types of the kernel that a type of the program may be, once something of it was found.
    narrowed: BTreeMap<TypeId, Vec<TypeId>>,
}

impl<'a> CoreAnswers<'a> {
    /// For a program with types `local` and a kernel with types `target`. Without these, only
    /// questions about the program's own types have an answer.
    #[must_use]
    pub fn new(local: &'a Btf, target: Option<&'a TypeIndex>) -> Self {
        Self { local, target, narrowed: BTreeMap::new() }
    }

    /// What a relocation makes of its instruction.
    ///
    /// # Errors
    /// The relocation does not fit the program's own types, or fits the kernel's in more than one
    /// way.
    pub fn answer(&mut self, relocation: &CoreRelo) -> Result<CoreAnswer, CoreError> {
        let (local, root, number) = (self.local, relocation.root, relocation.kind);
        let kind = CoreKind::from_raw(number).ok_or(CoreError::UnknownKind { kind: number })?;
        if kind == CoreKind::TypeIdLocal {
            return Ok(CoreAnswer::of(Some(root.0.into())));
        }
        let target = self.target.ok_or(CoreError::NoTypes)?;
        let wanted = wanted(local, relocation, kind)?;
        let found = self.find(target, root, &wanted, kind)?;
        let asks_whether = matches!(kind, CoreKind::FieldExists | CoreKind::EnumvalExists);
        let Some(found) = found else {
            let is_zero = asks_whether || matches!(wanted, Wanted::Type);
            return Ok(CoreAnswer::of(is_zero.then_some(0)));
        };
        let answer = CoreAnswer::of(Some(found.value));
        match &wanted {
            _ if asks_whether => Ok(answer),
            Wanted::Type => Ok(answer),
            Wanted::Enumerator(_, before) => Ok(CoreAnswer { before: Some(*before), ..answer }),
            Wanted::Field(_, place) => {
                let own = field::value(local, place, kind)?;
                let before = own.is_certain.then_some(own.value);
                let resize = match own.loaded.zip(found.loaded) {
                    Some((own, loaded)) => resize(local, own, target.btf(), loaded)?,
                    None => Resize::None,
                };
                Ok(CoreAnswer { before, resize, ..answer })
            }
        }
    }

    /// Looks for what is wanted in all types of the kernel that may be the program's type `root`. They
    /// must agree.
    fn find(
        &mut self,
        target: &TypeIndex,
        root: TypeId,
        wanted: &Wanted<'_>,
        kind: CoreKind,
    ) -> Result<Option<Found>, CoreError> {
        let local = self.local;
        let candidates = match self.narrowed.get(&root) {
            Some(candidates) => candidates.clone(),
            None => {
                let name = local.type_name(root);
                if name.is_empty() {
                    return Err(CoreError::Anonymous { root });
                }
                target.named(local.type_by_id(root)?.kind(), name).collect()
            }
        };
        let mut found: Option<Found> = None;
        let mut having = Vec::new();
        for candidate in candidates {
            let other = look(local, root, wanted, target.btf(), candidate, kind)?;
            let Some(other) = other else { continue };
            let one = *found.get_or_insert(other);
            if (one.value, one.bits) != (other.value, other.bits) {
                return Err(CoreError::Ambiguous { first: having[0], second: candidate });
            }
            having.push(candidate);
        }
        if found.is_some() {
            self.narrowed.insert(root, having);
        }
        Ok(found)
    }
}

impl CoreAnswer {
    fn of(value: Option<u64>) -> Self {
        Self { before: None, value, resize: Resize::None }
    }
}

/// What a relocation asks, in words and with the names that the program has for it: `offset of a
/// field: task_struct.mm`.
#[must_use]
pub fn describe(local: &Btf, relocation: &CoreRelo) -> String {
    let about = CoreKind::from_raw(relocation.kind).map_or("what is not known", CoreKind::as_str);
    let mut text = format!("{about}: {}", local.type_name(relocation.root));
    let kind = CoreKind::from_raw(relocation.kind).unwrap_or(CoreKind::TypeIdLocal);
    match wanted(local, relocation, kind) {
        Ok(Wanted::Enumerator(name, _)) => {
            text.push('.');
            text.push_str(name);
        }
        Ok(Wanted::Field(parts, _)) => {
            for (at, part) in parts.iter().enumerate() {
                match part {
                    Part::Element(0) if at == 0 => {}
                    Part::Element(index) => text.push_str(&format!("[{index}]")),
                    Part::Member(member) => {
                        text.push('.');
                        text.push_str(local.name(member.name));
                    }
                }
            }
        }
        Ok(Wanted::Type) | Err(_) => {}
    }
    text
}

fn wanted<'a>(
    local: &'a Btf,
    relocation: &CoreRelo,
    kind: CoreKind,
) -> Result<Wanted<'a>, CoreError> {
    let (root, access) = (relocation.root, local.name(relocation.access));
    let bad = || CoreError::BadAccess { root, access: access.into() };
    let indices = access::parse(access).ok_or_else(bad)?;
    match kind {
        CoreKind::TypeIdTarget
        | CoreKind::TypeExists
        | CoreKind::TypeSize
        | CoreKind::TypeMatches => {
            if indices == [0] {
                Ok(Wanted::Type)
            } else {
                Err(bad())
            }
        }
        CoreKind::EnumvalExists | CoreKind::EnumvalValue => {
            let (Type::Enum(of) | Type::Enum64(of)) = local.type_by_id(local.resolve(root)?)?
            else {
                return Err(bad());
            };
            let [index] = indices[..] else { return Err(bad()) };
            let value = of.values.get(index as usize).ok_or_else(bad)?;
            Ok(Wanted::Enumerator(local.name(value.name), value.value))
        }
        CoreKind::TypeIdLocal => Ok(Wanted::Type),
        _ => {
            let (parts, place) = access::follow(local, root, &indices)?.ok_or_else(bad)?;
            Ok(Wanted::Field(parts, place))
        }
    }
}

/// Looks for what is wanted in one type of the kernel.
fn look(
    local: &Btf,
    root: TypeId,
    wanted: &Wanted<'_>,
    target: &Btf,
    candidate: TypeId,
    kind: CoreKind,
) -> Result<Option<Found>, CoreError> {
    let plain = |value| Some(Found { value, bits: 0, loaded: None });
    match wanted {
        Wanted::Type => {
            let is_wanted = match kind {
                CoreKind::TypeMatches => Matching::new(local, root, target).matches(candidate)?,
                _ => compatible::are_types_compatible(local, root, target, candidate)?,
            };
            if !is_wanted {
                return Ok(None);
            }
            Ok(match kind {
                CoreKind::TypeIdTarget => plain(candidate.0.into()),
                CoreKind::TypeSize => plain(target.size_of(candidate)?.into()),
                _ => plain(1),
            })
        }
        Wanted::Enumerator(name, _) => {
            let (Type::Enum(of) | Type::Enum64(of)) =
                target.type_by_id(target.resolve(candidate)?)?
            else {
                return Ok(None);
            };
            let wanted = without_flavour(name);
            let named = |name| without_flavour(target.name(name)) == wanted;
            let value = of.values.iter().find(|value| named(value.name));
            let value = value.map(|value| value.value);
            Ok(value
                .and_then(|value| plain(if kind == CoreKind::EnumvalExists { 1 } else { value })))
        }
        Wanted::Field(parts, _) => {
            let Some(place) = access::find(local, parts, target, candidate)? else {
                return Ok(None);
            };
            let bits = place.bits;
            if kind == CoreKind::FieldExists {
                return Ok(Some(Found { value: 1, bits, loaded: None }));
            }
            let field::FieldValue { value, loaded, .. } = field::value(target, &place, kind)?;
            Ok(Some(Found { value, bits, loaded }))
        }
    }
}

/// Whether a load or store of one type may become one of the other.
fn resize(
    local: &Btf,
    (own, from): (TypeId, u32),
    target: &Btf,
    (found, to): (TypeId, u32),
) -> Result<Resize, CoreError> {
    if from == to {
        return Ok(Resize::None);
    }
    let own = local.type_by_id(local.resolve(own)?)?;
    let found = target.type_by_id(target.resolve(found)?)?;
    Ok(match (own, found) {
        (Type::Ptr(_), Type::Ptr(_)) => Resize::To { from, to },
        (Type::Int(own), Type::Int(found)) if !own.signed && !found.signed => {
            Resize::To { from, to }
        }
        _ => Resize::Unfit,
    })
}
