//! Prototypes of kernel functions.

use alloc::borrow::Cow;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::RangeInclusive;

use crate::digest::DigestWriter;

/// A type of objects that programs only have pointers to. Copies are the same type; two types that
/// were made separately differ, whatever they are called.
#[derive(Clone)]
pub struct ObjectType(Arc<str>);

impl ObjectType {
    /// A new type, which messages call `name`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// What messages call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl PartialEq for ObjectType {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for ObjectType {}

impl fmt::Debug for ObjectType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectType({})", self.name())
    }
}

/// A kind of iterators: objects that a program keeps in its stack, and asks for one thing after another.
#[derive(Debug, PartialEq, Eq)]
pub struct IterType {
    /// What messages call it: `num` for `struct bpf_iter_num`.
    pub name: &'static str,
    /// Slots of the stack that it takes.
    pub slots: u8,
}

impl IterType {
    /// The slots of one that starts in this slot, counted from the top of the stack down.
    pub(crate) fn slots_from(&self, first: usize) -> RangeInclusive<usize> {
        (first + 1).saturating_sub(self.slots.into())..=first
    }
}

/// What a function does with an iterator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IterUse {
    /// It makes one: `KF_ITER_NEW`.
    New,
    /// It gets the next thing, of which there may be none: `KF_ITER_NEXT`.
    Next,
    /// It ends one: `KF_ITER_DESTROY`.
    Destroy,
}

/// What a dynptr stands for that a function makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewDynptr {
    /// The packet of the socket buffer that is the context.
    Skb,
    /// The packet of an XDP program.
    Xdp,
    /// What the dynptr in the argument before stands for.
    Copy,
}

/// What a function takes in one argument register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KfuncArg {
    /// The kind of value.
    pub kind: KfuncArgKind,
    /// Whether it may be null instead. Only pointers may.
    pub nullable: bool,
}

/// What kind of value an argument is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KfuncArgKind {
    /// A number.
    Scalar,
    /// The program's context, unmodified.
    Context,
    /// So many bytes of memory, which are read and written.
    Memory(u32),
    /// Memory that is read and written; its size is the next argument.
    Buffer,
    /// The size in bytes of the buffer before.
    Size,
    /// An object of this type.
    Object(ObjectType),
    /// As [`KfuncArgKind::Size`], a constant: the size of the slice that is returned as well.
    SliceSize,
    /// A dynptr.
    Dynptr,
    /// Room in the stack for a dynptr, which the function makes there.
    NewDynptr(NewDynptr),
    /// Anything, which the function does not use; the register may even be uninitialised.
    Ignored,
    /// An iterator in the stack.
    Iter(IterUse, &'static IterType),
}

impl From<KfuncArgKind> for KfuncArg {
    fn from(kind: KfuncArgKind) -> Self {
        Self::new(kind)
    }
}

impl KfuncArg {
    /// A number.
    pub const SCALAR: Self = Self::new(KfuncArgKind::Scalar);
    /// The program's context.
    pub const CONTEXT: Self = Self::new(KfuncArgKind::Context);
    /// Memory whose size is the next argument.
    pub const BUFFER: Self = Self::new(KfuncArgKind::Buffer);
    /// The size of the buffer before.
    pub const SIZE: Self = Self::new(KfuncArgKind::Size);

    const fn new(kind: KfuncArgKind) -> Self {
        Self { kind, nullable: false }
    }

    /// So many bytes of memory.
    #[must_use]
    pub const fn memory(bytes: u32) -> Self {
        Self::new(KfuncArgKind::Memory(bytes))
    }

    /// An object.
    #[must_use]
    pub fn object(ty: &ObjectType) -> Self {
        Self::new(KfuncArgKind::Object(ty.clone()))
    }

    /// This, or null.
    #[must_use]
    pub fn or_null(mut self) -> Self {
        self.nullable = true;
        self
    }
}

/// What a function leaves in `r0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KfuncRet {
    /// Nothing: `r0` is uninitialised.
    Void,
    /// A number of 64 bits.
    Scalar,
    /// A pointer to an object.
    Object(ObjectType),
    /// A pointer to so many bytes of what an iterator gives, which may be read until it ends.
    Item(u32),
    /// A pointer to as many bytes of the dynptr in the first argument as the size argument says, or null.
    Slice {
        /// Whether they may be written.
        writable: bool,
    },
}

/// What else is to be known of a function: the kernel's flags of the same names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KfuncFlags {
    /// `KF_ACQUIRE`: the object that it returns is the program's until the program releases it.
    pub acquire: bool,
    /// `KF_RELEASE`: it takes an acquired object, which is not the program's any more.
    pub release: bool,
    /// `KF_RET_NULL`: the pointer that it returns may be null.
    pub ret_null: bool,
    /// `KF_TRUSTED_ARGS`: it takes only objects that the program has acquired, and no null but
    /// where an argument allows it. A function that releases implies it.
    pub trusted_args: bool,
}

/// The prototype of a kernel function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KfuncProto {
    /// What calls name it by; not 0.
    pub btf_id: u32,
    /// Its name.
    pub name: Cow<'static, str>,
    /// Its arguments, at most five.
    pub args: Vec<KfuncArg>,
    /// Its result.
    pub ret: KfuncRet,
    /// What else is to be known of it.
    pub flags: KfuncFlags,
}

impl KfuncProto {
    /// A function without arguments that returns a number.
    #[must_use]
    pub fn new(btf_id: u32, name: impl Into<Cow<'static, str>>) -> Self {
        let (ret, flags) = (KfuncRet::Scalar, KfuncFlags::default());
        Self { btf_id, name: name.into(), args: Vec::new(), ret, flags }
    }

    /// With these arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = KfuncArg>) -> Self {
        self.args = args.into_iter().collect();
        self
    }

    /// With this result.
    #[must_use]
    pub fn returns(mut self, ret: KfuncRet) -> Self {
        self.ret = ret;
        self
    }

    /// With an object as its result, which the program has to release.
    #[must_use]
    pub fn acquires(mut self, ty: &ObjectType) -> Self {
        self.flags.acquire = true;
        self.returns(KfuncRet::Object(ty.clone()))
    }

    /// That releases the object it is given.
    #[must_use]
    pub fn releases(mut self) -> Self {
        self.flags.release = true;
        self
    }

    /// Whose pointer may be null.
    #[must_use]
    pub fn or_null(mut self) -> Self {
        self.flags.ret_null = true;
        self
    }

    /// With arguments that the program must have acquired.
    #[must_use]
    pub fn trusted_args(mut self) -> Self {
        self.flags.trusted_args = true;
        self
    }

    /// Whether it may be called while a lock is held: iterators of numbers may be gone through.
    pub(crate) fn may_be_locked(&self) -> bool {
        let numbers =
            |arg: &KfuncArg| matches!(&arg.kind, KfuncArgKind::Iter(_, ty) if ty.name == "num");
        self.args.first().is_some_and(numbers)
    }

    /// Whether a dynptr is among its arguments.
    pub(crate) fn takes_dynptr(&self) -> bool {
        let is_dynptr =
            |arg: &KfuncArg| matches!(arg.kind, KfuncArgKind::Dynptr | KfuncArgKind::NewDynptr(_));
        self.args.iter().any(is_dynptr)
    }

    /// What it does with an iterator, if it takes one.
    pub(crate) fn iter_use(&self) -> Option<IterUse> {
        match self.args.first()?.kind {
            KfuncArgKind::Iter(usage, _) => Some(usage),
            _ => None,
        }
    }

    /// The types of objects that it takes and returns.
    pub(super) fn object_types(&self) -> impl Iterator<Item = &ObjectType> {
        let taken = self.args.iter().filter_map(|arg| match &arg.kind {
            KfuncArgKind::Object(ty) => Some(ty),
            _ => None,
        });
        let returned = match &self.ret {
            KfuncRet::Object(ty) => Some(ty),
            KfuncRet::Void | KfuncRet::Scalar | KfuncRet::Item(_) | KfuncRet::Slice { .. } => None,
        };
        taken.chain(returned)
    }

    /// Takes in all that calls are checked by; of a type of objects, its place in `types`.
    pub(super) fn digest(&self, types: &[ObjectType], digest: &mut DigestWriter) {
        let number = |ty: &ObjectType| {
            types.iter().position(|other| other == ty).expect("all types are in the list") as u64
        };
        digest.u32(self.btf_id);
        digest.str(&self.name);
        digest.u64(self.args.len() as u64);
        for arg in &self.args {
            let (kind, detail) = match &arg.kind {
                KfuncArgKind::Scalar => (0, 0),
                KfuncArgKind::Context => (1, 0),
                KfuncArgKind::Memory(bytes) => (2, u64::from(*bytes)),
                KfuncArgKind::Buffer => (3, 0),
                KfuncArgKind::Size => (4, 0),
                KfuncArgKind::Object(ty) => (5, number(ty)),
                KfuncArgKind::Ignored => (7, 0),
                KfuncArgKind::SliceSize => (8, 0),
                KfuncArgKind::Dynptr => (9, 0),
                KfuncArgKind::NewDynptr(of) => (10, *of as u64),
                KfuncArgKind::Iter(usage, ty) => {
                    digest.str(ty.name);
                    digest.u32(ty.slots.into());
                    (6, *usage as u64)
                }
            };
            digest.u32(kind << 1 | u32::from(arg.nullable));
            digest.u64(detail);
        }
        digest.u64(match &self.ret {
            KfuncRet::Void => 0,
            KfuncRet::Scalar => 1,
            KfuncRet::Object(ty) => 2 + number(ty),
            KfuncRet::Item(bytes) => u64::from(*bytes) << 32,
            KfuncRet::Slice { writable } => u64::MAX - u64::from(*writable),
        });
        let KfuncFlags { acquire, release, ret_null, trusted_args } = self.flags;
        for flag in [acquire, release, ret_null, trusted_args] {
            digest.u32(u32::from(flag));
        }
    }

    /// What the prototype says that cannot be, if anything.
    pub(super) fn problem(&self) -> Option<&'static str> {
        let is = |index: usize, kind: &KfuncArgKind| {
            self.args.get(index).is_some_and(|arg| arg.kind == *kind)
        };
        let is_object = |arg: &KfuncArg| matches!(arg.kind, KfuncArgKind::Object(_));
        let returns_object = matches!(self.ret, KfuncRet::Object(_));
        let no_buffer = |(index, arg): (usize, &KfuncArg)| {
            arg.kind == KfuncArgKind::Size
                && !index.checked_sub(1).is_some_and(|before| is(before, &KfuncArgKind::Buffer))
        };
        let no_size = |(index, arg): (usize, &KfuncArg)| {
            let has_size = [KfuncArgKind::Size, KfuncArgKind::SliceSize];
            arg.kind == KfuncArgKind::Buffer && !has_size.iter().any(|size| is(index + 1, size))
        };
        let null_number = |arg: &KfuncArg| {
            arg.nullable && matches!(arg.kind, KfuncArgKind::Scalar | KfuncArgKind::Size)
        };
        let returns_slice = matches!(self.ret, KfuncRet::Slice { .. });
        let has_slice = is(0, &KfuncArgKind::Dynptr)
            && self.args.iter().any(|arg| arg.kind == KfuncArgKind::SliceSize);
        let is_iter = |arg: &KfuncArg| matches!(arg.kind, KfuncArgKind::Iter(..));
        let is_item = matches!(self.ret, KfuncRet::Item(_));
        let problems = [
            (returns_slice && !has_slice, "a slice is of a dynptr, and has a size"),
            (self.args.iter().skip(1).any(is_iter), "an iterator is the first argument"),
            (
                is_item != (self.iter_use() == Some(IterUse::Next)),
                "what gets the next thing of an iterator returns it",
            ),
            (self.btf_id == 0, "0 is no BTF id of a function"),
            (self.args.len() > 5, "a function has at most five arguments"),
            (self.args.iter().enumerate().any(no_buffer), "a size needs a buffer before it"),
            (self.args.iter().enumerate().any(no_size), "a buffer needs its size behind it"),
            (self.args.iter().any(null_number), "a number cannot be null"),
            (self.args.iter().any(|arg| arg.kind == KfuncArgKind::Memory(0)), "no bytes of memory"),
            (self.flags.acquire && !returns_object, "it acquires, but returns no object"),
            (self.flags.ret_null && !returns_object, "null is possible only for a pointer"),
            (
                self.flags.release && !self.args.iter().any(is_object),
                "it releases, but takes no object",
            ),
        ];
        problems.into_iter().find(|(wrong, _)| *wrong).map(|(_, problem)| problem)
    }
}
