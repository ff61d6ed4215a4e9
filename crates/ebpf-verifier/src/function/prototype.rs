//! Prototypes: what a function may be called with, from its type.

use alloc::vec::Vec;

use ebpf_btf::{Btf, Func, FuncProto, Linkage, Type, TypeId};
use ebpf_isa::Reg;
use ebpf_isa::uapi::ProgramType;

use super::context::{check_tagged, is_context};
use crate::digest::DigestWriter;
use crate::error::PrototypeFault;

/// What each argument must be, from `r1` on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prototype {
    pub(crate) arguments: Vec<Argument>,
}

/// What an argument must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Argument {
    Number,
    Context,
    /// A dynptr, which the function does not change.
    Dynptr,
    /// So many bytes that may be read and written.
    Memory {
        size: u32,
        nullable: bool,
    },
}

/// Why there is no prototype.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unread {
    /// The kernel does not take it, and says why.
    Refused(PrototypeFault),
    /// The kernel does not look at it any further: that of a static function need not say anything.
    Ignored,
    /// It has something that is not known here.
    Unknown,
}

/// The tags of an argument.
#[derive(Debug, Clone, Copy, Default)]
struct Tags {
    context: bool,
    not_null: bool,
}

/// The prototypes of an object's functions, for programs of a type.
pub(super) struct Prototypes<'a> {
    btf: &'a Btf,
    program_type: ProgramType,
    /// Function, argument and what stands behind `arg:`, in order.
    tags: Vec<(TypeId, u32, &'a str)>,
}

impl<'a> Prototypes<'a> {
    pub(super) fn of(btf: &'a Btf, program_type: ProgramType) -> Self {
        let tags = btf.types().filter_map(|(_, ty)| match ty {
            Type::DeclTag(tag) => {
                let name = btf.name(tag.name).strip_prefix("arg:")?;
                Some((tag.target, tag.component?, name))
            }
            _ => None,
        });
        let mut tags: Vec<_> = tags.collect();
        tags.sort_unstable();
        Self { btf, program_type, tags }
    }

    /// The prototype of the function with this type.
    pub(super) fn read(&self, id: TypeId) -> Result<Prototype, Unread> {
        let Ok(Type::Func(func)) = self.btf.type_by_id(id) else {
            return Err(Unread::Unknown);
        };
        let proto = self.btf.func_proto(id).map_err(|_| Unread::Unknown)?;
        let read = Reader { all: self, id, func }.read(proto);
        match read {
            // Of a static function only misplaced tags are worth a word.
            Err(Unread::Refused(fault))
                if func.linkage != Linkage::Global
                    && !matches!(fault, PrototypeFault::StaticTag { .. }) =>
            {
                Err(Unread::Ignored)
            }
            _ => read,
        }
    }

    fn resolved(&self, id: TypeId) -> Option<&'a Type> {
        self.btf.type_by_id(self.btf.resolve(id).ok()?).ok()
    }

    fn is_number(&self, id: TypeId) -> bool {
        matches!(self.resolved(id), Some(Type::Int(_) | Type::Enum(_) | Type::Enum64(_)))
    }

    fn is_dynptr(&self, pointee: TypeId) -> bool {
        let name = match self.resolved(pointee) {
            Some(Type::Struct(composite) | Type::Union(composite)) => composite.name,
            Some(&Type::Fwd { name, is_union: false }) => name,
            _ => return false,
        };
        self.btf.name(name) == "bpf_dynptr"
    }
}

/// Reads one prototype.
struct Reader<'a> {
    all: &'a Prototypes<'a>,
    id: TypeId,
    func: &'a Func,
}

impl Reader<'_> {
    fn read(&self, proto: &FuncProto) -> Result<Prototype, Unread> {
        let function = || self.all.btf.name(self.func.name).into();
        let count = proto.params.len();
        if count > Reg::ARGS.len() {
            return refuse(PrototypeFault::TooManyArguments { function: function(), count });
        }
        if !self.all.is_number(proto.ret) {
            return refuse(PrototypeFault::Result { function: function() });
        }
        let arguments = proto.params.iter().enumerate();
        let arguments = arguments.map(|(index, param)| self.argument(index, param.ty));
        Ok(Prototype { arguments: arguments.collect::<Result<_, _>>()? })
    }

    fn argument(&self, argument: usize, ty: TypeId) -> Result<Argument, Unread> {
        let tags = self.tags(argument)?;
        let &Prototypes { btf, program_type, .. } = self.all;
        let Some(&Type::Ptr(pointee)) = self.all.resolved(ty) else {
            return self.not_a_pointer(argument, ty, tags);
        };
        if program_type == ProgramType::Syscall {
            return Err(Unread::Unknown);
        }
        if tags.context || is_context(btf, pointee, program_type) {
            if tags.not_null {
                return refuse(PrototypeFault::Tags { argument });
            }
            if tags.context && program_type == ProgramType::Tracing {
                // It depends on what the program is attached to.
                return Err(Unread::Unknown);
            }
            if tags.context {
                check_tagged(btf, argument, pointee, program_type).map_err(Unread::Refused)?;
            }
            return Ok(Argument::Context);
        }
        if self.all.is_dynptr(pointee) {
            return match tags.not_null {
                true => refuse(PrototypeFault::Tags { argument }),
                false => Ok(Argument::Dynptr),
            };
        }
        if self.func.linkage != Linkage::Global {
            return Err(Unread::Ignored);
        }
        match btf.size_of(pointee) {
            Ok(size) => Ok(Argument::Memory { size, nullable: !tags.not_null }),
            Err(_) => {
                let Some(pointee) = self.all.resolved(pointee) else {
                    return Err(Unread::Unknown);
                };
                let kind = match pointee {
                    Type::Void => "UNKNOWN",
                    _ => pointee.kind().as_str(),
                };
                let name = btf.name(pointee.name()).into();
                refuse(PrototypeFault::Size { argument, kind, name })
            }
        }
    }

    fn not_a_pointer(&self, argument: usize, ty: TypeId, tags: Tags) -> Result<Argument, Unread> {
        if tags.context || tags.not_null {
            return refuse(PrototypeFault::PointerTag { argument });
        }
        if self.all.is_number(ty) {
            return Ok(Argument::Number);
        }
        let kind = self.all.resolved(ty).ok_or(Unread::Unknown)?.kind().as_str();
        let function = self.all.btf.name(self.func.name).into();
        refuse(PrototypeFault::Argument { argument, kind, function })
    }

    fn tags(&self, argument: usize) -> Result<Tags, Unread> {
        let (here, all) = ((self.id, argument as u32), &self.all.tags);
        let first = all.partition_point(|&(id, argument, _)| (id, argument) < here);
        let mut tags = Tags::default();
        for &(.., name) in
            all[first..].iter().take_while(|&&(id, argument, _)| (id, argument) == here)
        {
            if self.func.linkage != Linkage::Global {
                return refuse(PrototypeFault::StaticTag { argument });
            }
            match name {
                "ctx" => tags.context = true,
                "nonnull" => tags.not_null = true,
                _ => return Err(Unread::Unknown),
            }
        }
        Ok(tags)
    }
}

fn refuse<T>(fault: PrototypeFault) -> Result<T, Unread> {
    Err(Unread::Refused(fault))
}

impl Prototype {
    pub(super) fn digest(&self, digest: &mut DigestWriter) {
        digest.u64(self.arguments.len() as u64);
        for argument in &self.arguments {
            let (kind, size) = match *argument {
                Argument::Number => (0, 0),
                Argument::Context => (1, 0),
                Argument::Dynptr => (4, 0),
                Argument::Memory { size, nullable } => (2 + u32::from(nullable), size),
            };
            digest.u32(kind);
            digest.u32(size);
        }
    }
}
