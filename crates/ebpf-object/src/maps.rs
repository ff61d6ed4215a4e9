//! Maps: those declared in `.maps`, and those that stand for data sections.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use ebpf_btf::{Btf, BtfError, Member, SecVar, Type, TypeId};
use ebpf_isa::MapIdx;
use ebpf_isa::uapi::{MapDesc, MapType, map_flags};

use crate::ObjectError;
use crate::elf::{Elf, Place, Section, SectionType};

pub(crate) const MAPS: &str = ".maps";
const LEGACY_MAPS: &str = "maps";

/// A map of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMap {
    /// The variable's name; for the map of a data section, the section's.
    pub name: String,
    /// What it is.
    pub desc: MapDesc,
    /// The type of a key in the object's BTF, where it is declared.
    pub key_type: Option<TypeId>,
    /// The type of a value in the object's BTF, where it is declared.
    pub value_type: Option<TypeId>,
    /// Where it asks to be pinned: 0 is nowhere, 1 is by its name.
    pub pinning: u32,
    /// What the only element of a data section's map holds first; none for zeros.
    pub initial: Option<Box<[u8]>>,
    /// Whether nothing changes the contents once they are filled in.
    pub frozen: bool,
    /// What the maps are that a map of maps holds.
    pub inner: Option<Box<ObjectMap>>,
    /// The maps that a map of maps holds first: the index of the element, and the place of the map in the
    /// object. It is an array's index, or a hash map's key of four bytes.
    pub held: Vec<(u32, usize)>,
}

/// Bytes of the descriptor of a map or program.
const DESCRIPTOR: u32 = 4;

/// Bytes of an address in the array that says which maps a map of maps holds.
const POINTER: u64 = 8;

/// The maps of an object, and where instructions refer to them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Maps {
    pub(crate) maps: Vec<ObjectMap>,
    /// Declared maps, by index of the section and offset in it.
    pub(crate) declared: BTreeMap<(usize, u64), MapIdx>,
    /// Maps of data sections, by index of the section.
    pub(crate) data: BTreeMap<usize, MapIdx>,
}

impl Maps {
    /// Reads the maps: first those of `.maps` in the order of their BTF, then those of data
    /// sections.
    pub(crate) fn read(elf: &Elf<'_>, btf: Option<&Btf>) -> Result<Self, ObjectError> {
        let mut maps = Maps::default();
        let datasecs = btf.map(datasecs).unwrap_or_default();
        let is_legacy = |section: &&Section<'_>| {
            section
                .name
                .strip_prefix(LEGACY_MAPS)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if let Some(section) =
            elf.sections.iter().filter(|section| section.size > 0).find(is_legacy)
        {
            return Err(ObjectError::LegacyMaps { section: section.name.into() });
        }
        if let Some(index) =
            elf.sections.iter().position(|section| section.name == MAPS && section.size > 0)
        {
            let btf =
                btf.ok_or(ObjectError::MissingSection { section: ".BTF", needed_by: MAPS })?;
            let vars = datasecs.get(MAPS).map_or(&[][..], |(_, vars)| vars);
            maps.read_declared(elf, index, btf, vars)?;
        }
        for (index, section) in elf.sections.iter().enumerate() {
            if let Some(map) = data_map(section, &datasecs)? {
                maps.data.insert(index, MapIdx(maps.maps.len() as u32));
                maps.maps.push(map);
            }
        }
        let mut names = HashSet::new();
        match maps.maps.iter().find(|map| !names.insert(&map.name)) {
            Some(map) => Err(ObjectError::DuplicateName { what: "map", name: map.name.clone() }),
            None => Ok(maps),
        }
    }

    fn read_declared(
        &mut self,
        elf: &Elf<'_>,
        section: usize,
        btf: &Btf,
        vars: &[SecVar],
    ) -> Result<(), ObjectError> {
        // Clang leaves the offsets in BTF to the loader; the symbols have them.
        let places: BTreeMap<&str, (u64, u64)> = elf
            .symbols
            .iter()
            .filter(|symbol| symbol.place == Place::Section(section))
            .map(|symbol| (symbol.name, (symbol.value, symbol.size)))
            .collect();
        let mut holders = Vec::new();
        for var in vars {
            let Ok(Type::Var(declared)) = btf.type_by_id(var.var) else {
                return Err(ObjectError::BadMapDeclaration {
                    map: MAPS.into(),
                    what: var.var.to_string(),
                    expected: "a variable",
                });
            };
            let name = btf.name(declared.name);
            let declaration = Declaration::read(btf, name, declared.ty)?;
            let values_at = declaration.values_at;
            let map = declaration.finish(btf)?;
            let Some(&(offset, size)) = places.get(name) else {
                return Err(ObjectError::BadMapDeclaration {
                    map: name.into(),
                    what: "the variable".into(),
                    expected: "a symbol of section .maps",
                });
            };
            if map.inner.is_some()
                && let Some(values_at) = values_at
            {
                let values = offset.saturating_add(values_at.into());
                holders.push((self.maps.len(), values..offset.saturating_add(size)));
            }
            self.declared.insert((section, offset), MapIdx(self.maps.len() as u32));
            self.maps.push(map);
        }
        for (holder, values) in holders {
            self.read_held(elf, section, holder, &values)?;
        }
        Ok(())
    }

    /// Reads which maps a map of maps holds first: `values` is where its array of addresses lies in the
    /// section.
    fn read_held(
        &mut self,
        elf: &Elf<'_>,
        section: usize,
        holder: usize,
        values: &Range<u64>,
    ) -> Result<(), ObjectError> {
        let relocations = elf.sections[section].relocations.iter();
        for relocation in relocations.filter(|relocation| values.contains(&relocation.offset)) {
            let bad = |expected| ObjectError::BadMapDeclaration {
                map: self.maps[holder].name.clone(),
                what: "values".into(),
                expected,
            };
            let at = relocation.offset - values.start;
            let index = u32::try_from(at / POINTER).ok().filter(|_| at.is_multiple_of(POINTER));
            let index = index.ok_or_else(|| bad("addresses of eight bytes"))?;
            let symbol = elf.symbols.get(relocation.symbol as usize);
            let map = symbol.and_then(|symbol| match symbol.place {
                Place::Section(section) => self.declared.get(&(section, symbol.value)),
                Place::Nowhere => None,
            });
            let map = map.ok_or_else(|| bad("addresses of maps of the object"))?.index();
            self.maps[holder].held.push((index, map));
        }
        Ok(())
    }
}

/// The variables of sections in BTF, by the section's name.
type Datasecs<'a> = HashMap<&'a str, (TypeId, &'a [SecVar])>;

fn datasecs(btf: &Btf) -> Datasecs<'_> {
    let mut datasecs = Datasecs::new();
    for (id, ty) in btf.types() {
        if let Type::Datasec { name, vars, .. } = ty {
            datasecs.entry(btf.name(*name)).or_insert((id, vars));
        }
    }
    datasecs
}

/// The map that stands for a data section: an array of one element, the section.
fn data_map(
    section: &Section<'_>,
    datasecs: &Datasecs<'_>,
) -> Result<Option<ObjectMap>, ObjectError> {
    let is = |name: &str| {
        section.name.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let read_only = is(".rodata");
    let is_data = match section.kind {
        SectionType::Data => read_only || is(".data"),
        SectionType::Bss => is(".bss"),
        SectionType::Code | SectionType::Other => false,
    };
    if !is_data || section.size == 0 {
        return Ok(None);
    }
    let too_large =
        |_| ObjectError::DataTooLarge { section: section.name.into(), size: section.size };
    Ok(Some(ObjectMap {
        name: section.name.into(),
        desc: MapDesc {
            map_type: MapType::Array,
            key_size: 4,
            value_size: u32::try_from(section.size).map_err(too_large)?,
            max_entries: 1,
            flags: if read_only { map_flags::RDONLY_PROG } else { 0 },
        },
        key_type: None,
        value_type: datasecs.get(section.name).map(|(id, _)| *id),
        pinning: 0,
        initial: (section.kind == SectionType::Data).then(|| section.data.into()),
        frozen: read_only,
        inner: None,
        held: Vec::new(),
    }))
}

/// A struct that declares a map: numbers are lengths of arrays pointed to, types are pointed to.
struct Declaration<'a> {
    name: &'a str,
    map_type: u32,
    key_size: Option<u32>,
    value_size: Option<u32>,
    max_entries: u32,
    flags: u32,
    pinning: u32,
    key: Option<(TypeId, u32)>,
    value: Option<(TypeId, u32)>,
    values: Option<Values>,
    /// Where the array `values` begins in the variable.
    values_at: Option<u32>,
}

/// What a map holds, where that is maps or programs: `__array(values, …)`.
enum Values {
    /// Maps that are declared by this type.
    Maps(TypeId),
    Programs,
}

impl<'a> Declaration<'a> {
    fn read(btf: &Btf, name: &'a str, ty: TypeId) -> Result<Self, ObjectError> {
        let mut declaration = Declaration {
            name,
            map_type: 0,
            key_size: None,
            value_size: None,
            max_entries: 0,
            flags: 0,
            pinning: 0,
            key: None,
            value: None,
            values: None,
            values_at: None,
        };
        let members = btf.members(ty).map_err(|_| declaration.bad("its type", "a struct"))?;
        let mut names = HashSet::new();
        for member in members {
            let name = btf.name(member.name);
            if !names.insert(name) {
                return Err(ObjectError::DuplicateName { what: "member", name: name.into() });
            }
            declaration.read_member(btf, member)?;
        }
        Ok(declaration)
    }

    fn read_member(&mut self, btf: &Btf, member: &Member) -> Result<(), ObjectError> {
        let name = btf.name(member.name);
        let number = || {
            number(btf, member.ty)
                .ok_or_else(|| self.bad(name, "a number: a pointer to an array of that length"))
        };
        let sized = || {
            let target =
                pointee(btf, member.ty).ok_or_else(|| self.bad(name, "a pointer to a type"))?;
            let size = btf
                .size_of(target)
                .map_err(|_| self.bad(name, "a pointer to a type with a size"))?;
            Ok((target, size))
        };
        match name {
            "type" => self.map_type = number()?,
            "key_size" => self.key_size = Some(number()?),
            "value_size" => self.value_size = Some(number()?),
            "max_entries" => self.max_entries = number()?,
            "map_flags" => self.flags = number()?,
            "pinning" => self.pinning = number()?,
            "key" => self.key = Some(sized()?),
            "value" => self.value = Some(sized()?),
            "values" => {
                self.values = Some(self.held(btf, member.ty)?);
                self.values_at = Some(member.bit_offset / 8);
            }
            // Where the kernel takes memory, and how many hashes a bloom filter has.
            "numa_node" | "map_extra" => drop(number()?),
            _ => {
                return Err(ObjectError::UnsupportedMapMember {
                    map: self.name.into(),
                    member: name.into(),
                });
            }
        }
        Ok(())
    }

    /// The type of what is held: an array of pointers to declarations of maps, or to functions.
    fn held(&self, btf: &Btf, ty: TypeId) -> Result<Values, ObjectError> {
        let bad = || self.bad("values", "an array of pointers to maps or functions");
        let resolved = |id| resolved(btf, id).map_err(|_| bad());
        let Type::Array(array) = resolved(ty)? else { return Err(bad()) };
        let &Type::Ptr(target) = resolved(array.element)? else { return Err(bad()) };
        match resolved(target)? {
            Type::Struct(_) => Ok(Values::Maps(target)),
            Type::FuncProto(_) => Ok(Values::Programs),
            _ => Err(bad()),
        }
    }

    /// What a map of maps holds. The elements of maps of maps and of programs are descriptors.
    fn inner(&mut self, btf: &Btf) -> Result<Option<Box<ObjectMap>>, ObjectError> {
        let Some(values) = &self.values else { return Ok(None) };
        self.value_size.get_or_insert(DESCRIPTOR);
        let holds_maps = [MapType::ArrayOfMaps, MapType::HashOfMaps].map(MapType::number);
        let inner = match *values {
            Values::Maps(ty) if holds_maps.contains(&self.map_type) => Some(ty),
            Values::Programs if self.map_type == MapType::ProgArray.number() => None,
            _ => return Err(self.bad("values", "those of a map of maps, or of programs")),
        };
        let Some(ty) = inner else { return Ok(None) };
        let name = format!("{}.inner", self.name);
        let inner = Declaration::read(btf, &name, ty)?;
        match inner.values {
            Some(Values::Maps(_)) => Err(self.bad("values", "maps that hold no maps")),
            _ => inner.finish(btf).map(|map| Some(Box::new(map))),
        }
    }

    fn finish(mut self, btf: &Btf) -> Result<ObjectMap, ObjectError> {
        let inner = self.inner(btf)?;
        let unknown = ObjectError::UnknownMapType { map: self.name.into(), number: self.map_type };
        let map_type = MapType::from_number(self.map_type)
            .filter(|&known| known != MapType::Unspec)
            .ok_or(unknown)?;
        let desc = MapDesc {
            map_type,
            key_size: self.size("key_size", self.key_size, self.key)?,
            value_size: self.size("value_size", self.value_size, self.value)?,
            max_entries: self.max_entries,
            flags: self.flags,
        };
        Ok(ObjectMap {
            name: self.name.into(),
            desc,
            key_type: self.key.map(|(id, _)| id),
            value_type: self.value.map(|(id, _)| id),
            pinning: self.pinning,
            initial: None,
            frozen: false,
            inner,
            held: Vec::new(),
        })
    }

    /// The size of a key or value; 0 where neither size nor type is declared, as some types of maps
    /// have it.
    fn size(
        &self,
        member: &'static str,
        declared: Option<u32>,
        ty: Option<(TypeId, u32)>,
    ) -> Result<u32, ObjectError> {
        match (declared, ty) {
            (Some(declared), Some((_, actual))) if declared != actual => {
                Err(ObjectError::ConflictingMapSizes {
                    map: self.name.into(),
                    member,
                    declared,
                    actual,
                })
            }
            (Some(size), _) | (None, Some((_, size))) => Ok(size),
            (None, None) => Ok(0),
        }
    }

    fn bad(&self, what: &str, expected: &'static str) -> ObjectError {
        ObjectError::BadMapDeclaration { map: self.name.into(), what: what.into(), expected }
    }
}

fn resolved(btf: &Btf, id: TypeId) -> Result<&Type, BtfError> {
    btf.type_by_id(btf.resolve(id)?)
}

fn pointee(btf: &Btf, id: TypeId) -> Option<TypeId> {
    match resolved(btf, id) {
        Ok(Type::Ptr(target)) => Some(*target),
        _ => None,
    }
}

fn number(btf: &Btf, id: TypeId) -> Option<u32> {
    match resolved(btf, pointee(btf, id)?) {
        Ok(Type::Array(array)) => Some(array.len),
        _ => None,
    }
}
