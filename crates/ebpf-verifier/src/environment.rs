//! What a program is judged against.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use ebpf_btf::{Btf, Linkage, Type, TypeId};
use ebpf_isa::uapi::{AttachType, HelperId, MapDesc, MapType, map_flags};
use ebpf_isa::{MapIdx, SubprogInfo};

use crate::digest::{Digest, DigestWriter};
use crate::function;
use crate::kernel_types::{KernelTypes, Target};
use crate::kfunc::ModuleTable;
use crate::map_fields::ValueFields;
use crate::profile::{KernelProfile, Span};
use crate::rules::ProgramTypeRules;

/// Everything that can change a verdict, besides the program itself.
#[derive(Clone)]
pub struct Environment {
    /// Contexts, helpers and other rules of the program type.
    pub program_type: Arc<dyn ProgramTypeRules>,
    /// How the program is to be attached; `None` is the same as type 0 in the kernel.
    pub attach_type: Option<AttachType>,
    /// The types of the kernel, for programs of which they say what these see.
    pub kernel_types: Option<Arc<KernelTypes>>,
    /// The function, hook or tracepoint that the program is to be attached to, by its type in
    /// [`Environment::kernel_types`] ([`KernelTypes::attach_target`]).
    pub attach_target: Option<TypeId>,
    /// The program's maps, in the order that its instructions number them, and behind them the
    /// descriptions of what maps of maps hold ([`MapInfo::inner`]).
    pub maps: Vec<MapInfo>,
    /// The program's own types. Needed where subprograms have a type: it says which functions are
    /// global, and what these may be called with.
    pub btf: Option<Arc<Btf>>,
    /// The modules whose functions the program calls, by the indices that it has for them.
    pub modules: ModuleTable,
    /// Whether the program's licence is compatible with the GPL.
    pub license_gpl: bool,
    /// Whether the program is to be one that may sleep (`BPF_F_SLEEPABLE`).
    pub sleepable: bool,
    /// Whether all accesses must be aligned, as `BPF_F_STRICT_ALIGNMENT` asks for, or only those
    /// that every processor needs to be.
    pub strict_alignment: bool,
    /// The kernel whose verdict is wanted.
    pub profile: KernelProfile,
}

/// A map as a program sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapInfo {
    /// Name, for messages.
    pub name: String,
    /// Type, sizes, flags.
    pub desc: MapDesc,
    /// The contents, where programs may not write ([`map_flags::RDONLY_PROG`]) and the map was
    /// frozen, so that nobody else may: loads from it are then constants. All values in order,
    /// `value_size * max_entries` bytes.
    pub frozen: Option<Vec<u8>>,
    /// What of the value the kernel guards by its BTF type: locks, timers, pointers, ...
    pub fields: ValueFields,
    /// What maps of maps hold: the place of its description in [`Environment::maps`], behind the
    /// program's own maps. It is that of no map, but of all that the map may hold.
    pub inner: Option<MapIdx>,
}

impl MapInfo {
    /// A map that holds no maps, without frozen contents and without types.
    #[must_use]
    pub fn new(name: impl Into<String>, desc: MapDesc) -> Self {
        Self { name: name.into(), desc, frozen: None, fields: ValueFields::Untyped, inner: None }
    }

    pub(crate) fn programs_may_read(&self) -> bool {
        self.desc.flags & map_flags::RDONLY_PROG != 0
            || self.desc.flags & map_flags::WRONLY_PROG == 0
    }

    pub(crate) fn programs_may_write(&self) -> bool {
        // The kernel sets the flag for maps of devices by itself.
        let is_read_only = matches!(self.desc.map_type, MapType::Devmap | MapType::DevmapHash);
        self.desc.flags & map_flags::RDONLY_PROG == 0 && !is_read_only
    }

    /// The contents, if they can never change.
    pub(crate) fn constants(&self) -> Option<&[u8]> {
        if self.programs_may_write() {
            return None;
        }
        self.frozen.as_deref()
    }

    fn digest(&self, digest: &mut DigestWriter) {
        let MapDesc { map_type, key_size, value_size, max_entries, flags } = self.desc;
        for number in [map_type.number(), key_size, value_size, max_entries, flags] {
            digest.u32(number);
        }
        self.fields.digest(digest);
        digest.u32(self.inner.map_or(u32::MAX, |inner| inner.0));
        digest.u32(u32::from(self.frozen.is_some()));
        digest.bytes(self.frozen.as_deref().unwrap_or_default());
    }
}

impl Environment {
    /// An environment for programs of this type: without maps and types, under a GPL-compatible
    /// licence, judged as the newest kernel does.
    #[must_use]
    pub fn new(program_type: Arc<dyn ProgramTypeRules>) -> Self {
        Self {
            program_type,
            attach_type: None,
            kernel_types: None,
            attach_target: None,
            maps: Vec::new(),
            btf: None,
            modules: ModuleTable::new(),
            license_gpl: true,
            sleepable: false,
            strict_alignment: false,
            profile: KernelProfile::default(),
        }
    }

    /// A digest of everything here that can change a verdict; names of maps cannot.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut digest = DigestWriter::new();
        self.program_type.digest(&mut digest);
        digest.u32(self.attach_type.map_or(u32::MAX, AttachType::number));
        digest.u32(u32::from(self.kernel_types.is_some()));
        if let Some(types) = &self.kernel_types {
            digest.bytes(&types.digest().to_bytes());
        }
        digest.u32(self.attach_target.map_or(u32::MAX, |target| target.0));
        digest.u64(self.maps.len() as u64);
        self.maps.iter().for_each(|map| map.digest(&mut digest));
        digest.u32(u32::from(self.btf.is_some()));
        if let Some(btf) = &self.btf {
            function::digest(btf, self, &mut digest);
        }
        self.modules.digest(&mut digest);
        digest.u32(u32::from(self.license_gpl));
        digest.u32(u32::from(self.sleepable));
        digest.u32(u32::from(self.strict_alignment));
        self.profile.digest(&mut digest);
        digest.finish()
    }

    /// What the program is attached to, if that is of a kind that is known here.
    pub(crate) fn target(&self) -> Option<Target> {
        Target::new(self.kernel_types.as_ref()?, self.attach_type, self.attach_target?)
    }

    pub(crate) fn map(&self, index: MapIdx) -> Option<&MapInfo> {
        self.maps.get(index.index())
    }

    /// Whether the program may call a helper in this kernel.
    pub(crate) fn may_call(&self, id: HelperId) -> bool {
        let rules = &self.program_type;
        let span = rules.helper(id).map_or(Span::ALWAYS, |proto| proto.span);
        self.profile.has_helper(rules.program_type(), id, span)
            && rules.may_call(id, self.attach_type)
    }

    /// Whether the types name a function that is called where the program throws.
    pub(crate) fn has_exception_callback(&self) -> bool {
        let is_tag = |btf: &Btf, ty: &Type| match ty {
            Type::DeclTag(tag) => btf.name(tag.name).starts_with("exception_callback:"),
            _ => false,
        };
        self.btf.iter().any(|btf| btf.types().any(|(_, ty)| is_tag(btf, ty)))
    }

    /// Whether a function returns a number of at most 8 bytes; `None` where its type is broken.
    pub(crate) fn returns_number(&self, function: u32) -> Option<bool> {
        let btf = self.btf.as_ref()?;
        let result = btf.resolve(btf.func_proto(TypeId(function)).ok()?.ret).ok()?;
        Some(match btf.type_by_id(result).ok()? {
            Type::Int(int) => int.size <= 8,
            Type::Enum(_) | Type::Enum64(_) => true,
            _ => false,
        })
    }

    /// Whether a subprogram is verified together with its callers; `None` where that is not
    /// known.
    pub(crate) fn is_static(&self, info: &SubprogInfo) -> Option<bool> {
        let Some(id) = info.btf_id else {
            return Some(true);
        };
        match self.btf.as_ref()?.type_by_id(TypeId(id)) {
            Ok(Type::Func(func)) => match func.linkage {
                Linkage::Static => Some(true),
                Linkage::Global => Some(false),
                Linkage::Extern => None,
            },
            _ => None,
        }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("program_type", &self.program_type.program_type())
            .field("attach_type", &self.attach_type)
            .field("attach_target", &self.attach_target)
            .field("maps", &self.maps)
            .field("license_gpl", &self.license_gpl)
            .field("sleepable", &self.sleepable)
            .field("strict_alignment", &self.strict_alignment)
            .field("profile", &self.profile.name)
            .finish_non_exhaustive()
    }
}
