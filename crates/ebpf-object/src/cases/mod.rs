//! Cases: programs as JSON lines, for tools that judge many of them, with what a kernel said.
//!
//! A case is what `bpf(2)` is given, after relocation, so that no ELF loader is needed. One object
//! a line; fields that are not named here are ignored, and all but `insns` may be absent:
//!
//! ```json
//! {"id": "x", "prog_type": 6, "attach_type": 0, "flags": 0, "license": "GPL",
//!  "insns": "b700000000000000 9500000000000000",
//!  "maps": [{"type": 2, "key": 4, "value": 8, "max": 1, "flags": 0, "extra": 0,
//!            "inner": {}, "held": [{"key": "00000000"}], "init": [{"key": "00000000", "value": "ff"}], "frozen": true,
//!            "btf_hex": "", "btf_key": 1, "btf_value": 3,
//!            "has_btf": true, "obj_btf_key": 1, "obj_btf_value": 3,
//!            "progs": [{"key": 0, "ret": 42, "tail": 1}]}],
//!  "map_refs": [[0, 0]], "kfunc_refs": [[4, "bpf_rcu_read_lock"]],
//!  "btf_hex": "", "btf_file": "path", "func_info": [[0, 7]], "attach_func": "sched_switch",
//!  "runs": [{"data": "hex", "retval": 0}],
//!  "verdict": "accept", "errno": 0, "processed": 2, "msg": "the kernel's last line"}
//! ```
//!
//! - `prog_type` is a number or a name (`"xdp"`); the default is 1, a socket filter.
//! - `insns` has 16 hexadecimal digits a slot, in the order of memory; blanks are ignored.
//! - `map_refs` says which map a wide load names whose source register is already 1 (the map) or 2
//!   (its value); `kfunc_refs` which kernel function a call names.
//! - a map's types are those of its own BTF (`btf_hex`), or where `has_btf` is set of the program's.
//! - `progs` fills a program array with programs that return `ret`, or first call entry `tail`.
//! - `verdict` and what follows is what a kernel said.

mod error;
mod fields;
mod read;
mod write;

use std::path::{Path, PathBuf};

use ebpf_isa::RawInsn;
use ebpf_isa::uapi::ProgramType;
use serde_json::Value;

pub use error::{CaseError, CaseProblem};
pub use read::{CaseLine, MAX_LINE_BYTES, read};

use fields::Fields;

/// The most maps of a case.
pub const MAX_MAPS: usize = 256;
/// The largest BTF that a case may have, in bytes: more than the kernel takes.
pub const MAX_BTF_BYTES: u64 = 64 << 20;

/// A program without an ELF file.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// What answers are labelled with.
    pub id: String,
    /// Program type by its number, which need not be a known one.
    pub program_type: u32,
    /// Expected attach type by its number.
    pub attach_type: u32,
    /// Flags of `BPF_PROG_LOAD`.
    pub flags: u32,
    /// Licence.
    pub license: String,
    /// Instructions. Wide loads that name maps have an immediate that means nothing.
    pub slots: Vec<RawInsn>,
    /// Maps.
    pub maps: Vec<CaseMap>,
    /// Slot of a wide load, and the index of the map that it names.
    pub map_refs: Vec<(u32, u32)>,
    /// Slot of a call, and the kernel function that it names.
    pub kfunc_refs: Vec<(u32, String)>,
    /// The program's types.
    pub btf: Option<CaseBtf>,
    /// First slot of a function, and its type.
    pub func_info: Vec<(u32, u32)>,
    /// Kernel function or tracepoint that the program is for.
    pub attach_func: Option<String>,
    /// Test runs of the accepted program.
    pub runs: Vec<CaseRun>,
    /// What a kernel said.
    pub judged: Option<Judged>,
}

/// A map of a case.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseMap {
    /// Name, for messages.
    pub name: String,
    /// Map type by its number.
    pub map_type: u32,
    /// Size of a key in bytes.
    pub key_size: u32,
    /// Size of a value in bytes.
    pub value_size: u32,
    /// Number of elements.
    pub max_entries: u32,
    /// Flags of `BPF_MAP_CREATE`.
    pub flags: u32,
    /// `map_extra` of `BPF_MAP_CREATE`.
    pub extra: u64,
    /// What maps of maps hold.
    pub inner: Option<Box<CaseMap>>,
    /// Keys at which a map of maps holds a new map like `inner`.
    pub held: Vec<Vec<u8>>,
    /// First elements: key and value.
    pub init: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether the map is frozen once it is filled.
    pub frozen: bool,
    /// Types of key and value.
    pub types: MapTypes,
    /// Programs of a program array.
    pub programs: Vec<CaseMapProgram>,
}

/// Where the types of a map's keys and values are from.
#[derive(Debug, Clone, PartialEq)]
pub enum MapTypes {
    /// There are none.
    None,
    /// Types of the program's BTF.
    OfProgram {
        /// Type of the key; 0 for none.
        key: u32,
        /// Type of the value; 0 for none.
        value: u32,
    },
    /// Types of the map's own BTF.
    Own {
        /// The BTF.
        btf: Vec<u8>,
        /// Type of the key; 0 for none.
        key: u32,
        /// Type of the value; 0 for none.
        value: u32,
    },
}

/// A small program in a program array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaseMapProgram {
    /// Its index.
    pub key: u32,
    /// The entry of the same array that it calls first.
    pub tail: Option<u32>,
    /// What it returns.
    pub ret: i32,
}

/// BTF of a case.
#[derive(Debug, Clone, PartialEq)]
pub enum CaseBtf {
    /// The bytes.
    Bytes(Vec<u8>),
    /// A file, relative to the one that the case is from.
    File(PathBuf),
}

/// A test run.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseRun {
    /// The packet.
    pub data: Vec<u8>,
    /// What the program is expected to return.
    pub retval: Option<u32>,
}

/// States that a verifier kept to compare others with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptStates {
    /// All of them.
    pub total: u32,
    /// Most at the same time.
    pub peak: u32,
}

/// What a kernel said about a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Whether it was accepted. A case that could not be judged (`"verdict": "error"`) has no
    /// [`Judged`].
    pub accepted: bool,
    /// The error number, positive; 0 for an accept.
    pub errno: i32,
    /// Instructions processed, where the verifier came to count them.
    pub processed: Option<u32>,
    /// States kept, likewise.
    pub states: Option<KeptStates>,
    /// Last line of the log before the statistics.
    pub message: Option<String>,
}

impl Case {
    /// Reads a case from its line.
    ///
    /// # Errors
    /// The line is no JSON object, or a field is missing, of the wrong kind, or refers to what is
    /// not there. The error has the case's id, as far as there is one.
    pub fn parse(line: &str) -> Result<Self, CaseError> {
        let value: Value = serde_json::from_str(line).map_err(|error| CaseError {
            id: None,
            problem: CaseProblem::Json { reason: error.to_string() },
        })?;
        let fields = Fields::of(&value).map_err(|problem| CaseError { id: None, problem })?;
        let id = match value.get("id") {
            Some(Value::String(id)) => Some(id.clone()),
            Some(Value::Number(id)) => Some(id.to_string()),
            _ => None,
        };
        case(&fields, id.clone()).map_err(|problem| CaseError { id, problem })
    }

    /// The bytes of the program's BTF; files are looked for in `directory`.
    ///
    /// # Errors
    /// The file cannot be read, or is too large.
    pub fn btf_bytes(&self, directory: &Path) -> Result<Option<Vec<u8>>, CaseProblem> {
        match &self.btf {
            None => Ok(None),
            Some(CaseBtf::Bytes(bytes)) => Ok(Some(bytes.clone())),
            Some(CaseBtf::File(path)) => read::file(&directory.join(path)).map(Some),
        }
    }
}

fn case(fields: &Fields<'_>, id: Option<String>) -> Result<Case, CaseProblem> {
    let slots = RawInsn::slots(&fields.hex("insns")?.ok_or(CaseProblem::Missing("insns"))?)?;
    let maps = fields.objects("maps", map)?;
    if maps.len() > MAX_MAPS {
        return Err(CaseProblem::TooManyMaps { count: maps.len() });
    }
    let map_refs = fields.pairs("map_refs")?;
    let is_wide = |slot: u32| slots.get(slot as usize).is_some_and(|slot| slot.opcode == 0x18);
    for &(slot, map) in &map_refs {
        if !is_wide(slot) || map as usize >= maps.len() {
            return Err(CaseProblem::MapReference { slot, map });
        }
    }
    let kfunc_refs = fields.named_slots("kfunc_refs")?;
    for (slot, _) in &kfunc_refs {
        if *slot as usize >= slots.len() {
            return Err(CaseProblem::KfuncReference { slot: *slot });
        }
    }
    let btf_file = fields.string("btf_file")?.map(|path| CaseBtf::File(path.into()));
    Ok(Case {
        id: id.unwrap_or_default(),
        program_type: program_type(fields)?,
        attach_type: fields.number("attach_type")?.unwrap_or(0),
        flags: fields.number("flags")?.unwrap_or(0),
        license: fields.string("license")?.unwrap_or("GPL").to_owned(),
        slots,
        maps,
        map_refs,
        kfunc_refs,
        btf: btf_file.or(fields.hex("btf_hex")?.map(CaseBtf::Bytes)),
        func_info: fields.pairs("func_info")?,
        attach_func: fields.string("attach_func")?.map(str::to_owned),
        runs: fields.objects("runs", run)?,
        judged: judged(fields)?,
    })
}

fn program_type(fields: &Fields<'_>) -> Result<u32, CaseProblem> {
    const FIELD: &str = "prog_type";
    match fields.get(FIELD) {
        Some(Value::String(name)) => ProgramType::from_name(name)
            .map(ProgramType::number)
            .ok_or_else(|| CaseProblem::ProgramType { name: name.clone() }),
        _ => Ok(fields.number(FIELD)?.unwrap_or(ProgramType::SocketFilter.number())),
    }
}

fn map(fields: &Fields<'_>) -> Result<CaseMap, CaseProblem> {
    let inner = match fields.object("inner")? {
        // A map inside of a map inside of a map is not possible, and this ends the recursion.
        Some(inner) if inner.get("inner").is_none() => Some(Box::new(map(&inner)?)),
        Some(_) => return Err(CaseProblem::Wrong { field: "inner", expected: "a plain map" }),
        None => None,
    };
    let number = |field| Ok::<_, CaseProblem>(fields.number(field)?.unwrap_or(0));
    let types = if let Some(btf) = fields.hex("btf_hex")? {
        MapTypes::Own { btf, key: number("btf_key")?, value: number("btf_value")? }
    } else if fields.flag("has_btf")? {
        MapTypes::OfProgram { key: number("obj_btf_key")?, value: number("obj_btf_value")? }
    } else {
        MapTypes::None
    };
    Ok(CaseMap {
        name: fields.string("name")?.unwrap_or_default().to_owned(),
        map_type: number("type")?,
        key_size: number("key")?,
        value_size: number("value")?,
        max_entries: number("max")?,
        flags: number("flags")?,
        extra: fields.wide_number("extra")?.unwrap_or(0),
        inner,
        held: fields
            .objects("held", |element| element.hex("key")?.ok_or(CaseProblem::Missing("key")))?,
        init: fields.objects("init", |element| {
            let part = |field| element.hex(field)?.ok_or(CaseProblem::Missing(field));
            Ok((part("key")?, part("value")?))
        })?,
        frozen: fields.flag("frozen")?,
        types,
        programs: fields.objects("progs", |program| {
            Ok(CaseMapProgram {
                key: program.number("key")?.unwrap_or(0),
                tail: program.number("tail")?,
                ret: program.number("ret")?.unwrap_or(0).cast_signed(),
            })
        })?,
    })
}

fn run(fields: &Fields<'_>) -> Result<CaseRun, CaseProblem> {
    Ok(CaseRun { data: fields.hex("data")?.unwrap_or_default(), retval: fields.number("retval")? })
}

fn judged(fields: &Fields<'_>) -> Result<Option<Judged>, CaseProblem> {
    let accepted = match fields.string("verdict")? {
        Some("accept") => true,
        Some("reject") => false,
        _ => return Ok(None),
    };
    Ok(Some(Judged {
        accepted,
        errno: fields.number("errno")?.unwrap_or(0).cast_signed(),
        // Tools write -1 where the verifier did not come to count.
        processed: fields.signed("processed")?.and_then(|processed| processed.try_into().ok()),
        states: match (fields.number("total_states")?, fields.number("peak_states")?) {
            (Some(total), Some(peak)) => Some(KeptStates { total, peak }),
            _ => None,
        },
        message: fields.string("msg")?.map(str::to_owned),
    }))
}

#[cfg(test)]
mod tests;
