//! What the kernel says about a case.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;

use ebpf_btf::Kind;
use ebpf_isa::RawInsn;
use ebpf_isa::uapi::{AttachType, HelperId, ProgramType};
use ebpf_object::cases::{Case, CaseMap, CaseMapProgram, CaseProblem, CaseRun, MapTypes};
use ebpf_verifier::KernelTypes;

use super::error::{Errno, KernelError};
use super::log::Statistics;
use super::map::{Map, MapSpec};
use super::program::{LoadedProgram, ProgramLoad};
use super::sys;
use super::types::{KERNEL_BTF, types as kernel_types};

/// The most slots that the kernel looks at.
const MAX_SLOTS: usize = 1_000_000;

/// The running kernel, asked about cases.
#[derive(Debug, Default)]
pub struct Oracle {
    /// The kernel's types, once they were needed.
    types: Option<Box<KernelTypes>>,
}

/// What the kernel says about a case.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// Accepted, rejected, or neither.
    pub outcome: Outcome,
    /// What verification took, if there was one.
    pub statistics: Option<Statistics>,
    /// The log at the level that was asked for; `None` where none was, there is none, or it is too
    /// long.
    pub log: Option<String>,
    /// Whether the kernel refused the program's types, and was asked about it without them.
    pub without_types: bool,
}

/// Accepted, rejected, or neither.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The kernel loads the program.
    Accepted {
        /// The program as the kernel rewrote it.
        xlated: Vec<RawInsn>,
        /// Bytes of machine code.
        jited_bytes: u32,
        /// What the case's runs returned, or why they were not made.
        runs: Vec<Result<u32, Errno>>,
    },
    /// The verifier refuses the program.
    Rejected {
        /// The error number.
        errno: Errno,
        /// The last line of the log before the statistics.
        message: String,
    },
    /// The verifier did not come to see the program.
    NotJudged(NotJudged),
}

/// Why there is no verdict.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NotJudged {
    /// The case's types cannot be read.
    #[error(transparent)]
    Case(#[from] CaseProblem),
    /// A map cannot be made or filled.
    #[error("map {index}: {error}")]
    Map {
        /// Which.
        index: usize,
        /// Why.
        error: KernelError,
    },
    /// The kernel has no such function.
    #[error("the kernel has no function `{0}`")]
    NoFunction(String),
    /// The kernel's types cannot be read.
    #[error("{KERNEL_BTF}: {0}")]
    KernelTypes(String),
    /// The kernel refuses to load the program before it is verified.
    #[error("refused before it was verified: {0}")]
    Syscall(Errno),
}

impl NotJudged {
    /// The error number, where it is one of the kernel's.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Map { error, .. } => error.errno(),
            Self::Syscall(errno) => Some(*errno),
            Self::Case(_) | Self::NoFunction(_) | Self::KernelTypes(_) => None,
        }
    }
}

impl Oracle {
    /// The kernel, if it can be asked: a smallest program is loaded.
    ///
    /// # Errors
    /// There is no `bpf(2)`, or no right to load programs.
    pub fn new() -> Result<Self, KernelError> {
        let slots = return_slots(0);
        let load = ProgramLoad {
            program_type: ProgramType::SocketFilter.number(),
            license: "GPL",
            slots: &slots,
            ..ProgramLoad::default()
        };
        load.load()?;
        Ok(Self::default())
    }

    /// Asks about a case, whose files are in `directory`; `log_level` is that of the log wanted, 0
    /// for none.
    pub fn judge(&mut self, case: &Case, directory: &Path, log_level: u32) -> Judgement {
        self.try_judge(case, directory, log_level).unwrap_or_else(|why| Judgement {
            outcome: Outcome::NotJudged(why),
            statistics: None,
            log: None,
            without_types: false,
        })
    }

    fn try_judge(
        &mut self,
        case: &Case,
        directory: &Path,
        log_level: u32,
    ) -> Result<Judgement, NotJudged> {
        // As libbpf does, a program whose types the kernel refuses is loaded without them.
        let btf = case.btf_bytes(directory)?.and_then(|bytes| sys::btf_load(&bytes).ok());
        let maps = case.maps.iter().enumerate().map(|(index, map)| {
            let made = make_map(map, case.program_type, btf.as_ref());
            made.map_err(|error| NotJudged::Map { index, error })
        });
        let maps: Vec<Map> = maps.collect::<Result<_, _>>()?;
        let mut slots = case.slots.clone();
        for &(slot, map) in &case.map_refs {
            slots[slot as usize].imm = maps[map as usize].number();
        }
        for (slot, name) in &case.kfunc_refs {
            slots[*slot as usize].imm = self.function(name)?.cast_signed();
        }
        let load = ProgramLoad {
            program_type: case.program_type,
            attach_type: case.attach_type,
            flags: case.flags,
            license: &case.license,
            slots: &slots,
            func_info: if btf.is_some() { &case.func_info } else { &[] },
            btf: btf.as_ref().map(|btf| btf.as_fd()),
            attach_btf_id: self.attach_target(case)?,
        };
        let judgement = judge_load(&load, case)?;
        let log = if log_level == 0 { None } else { load.log(log_level) };
        let without_types = case.btf.is_some() && btf.is_none();
        Ok(Judgement { log, without_types, ..judgement })
    }

    /// The type in the kernel of what the program is for; 0 if it is for nothing.
    fn attach_target(&mut self, case: &Case) -> Result<u32, NotJudged> {
        let Some(name) = &case.attach_func else {
            return Ok(0);
        };
        let attach_type = AttachType::from_number(case.attach_type);
        let target = self.types()?.attach_target(attach_type, name);
        target.map(|id| id.0).ok_or_else(|| NotJudged::NoFunction(name.clone()))
    }

    fn function(&mut self, name: &str) -> Result<u32, NotJudged> {
        let id = self.types()?.index().find(Kind::Func, name);
        id.map(|id| id.0).ok_or_else(|| NotJudged::NoFunction(name.to_owned()))
    }

    fn types(&mut self) -> Result<&KernelTypes, NotJudged> {
        let types = match self.types.take() {
            Some(types) => types,
            None => Box::new(kernel_types().map_err(NotJudged::KernelTypes)?),
        };
        Ok(self.types.insert(types))
    }
}

fn judge_load(load: &ProgramLoad<'_>, case: &Case) -> Result<Judgement, NotJudged> {
    match load.load() {
        Ok(program) => {
            let (xlated, jited_bytes) = program.info().unwrap_or_default();
            let runs = case.runs.iter().map(|run| test_run(&program, case.program_type, run));
            let runs = runs.collect();
            let outcome = Outcome::Accepted { xlated, jited_bytes, runs };
            Ok(Judgement {
                outcome,
                statistics: program.statistics.clone(),
                log: None,
                without_types: false,
            })
        }
        Err(refusal) => {
            let wrong_length = load.slots.is_empty() || load.slots.len() > MAX_SLOTS;
            let by_length = refusal.errno.0 == libc::E2BIG && wrong_length;
            // The verifier gives a reason, whatever it refuses.
            if refusal.message.is_empty() && !by_length {
                return Err(NotJudged::Syscall(refusal.errno));
            }
            let outcome = Outcome::Rejected { errno: refusal.errno, message: refusal.message };
            Ok(Judgement {
                outcome,
                statistics: refusal.statistics,
                log: None,
                without_types: false,
            })
        }
    }
}

/// Sizes of contexts that test runs of programs without packet take.
const CONTEXT_SIZES: [usize; 7] = [0, 16, 64, 96, 256, 1024, 4096];

fn test_run(program: &LoadedProgram, program_type: u32, run: &CaseRun) -> Result<u32, Errno> {
    let takes_context = [ProgramType::Syscall, ProgramType::RawTracepoint];
    if !takes_context.map(ProgramType::number).contains(&program_type) {
        return program.test_run(&run.data, &[], 1);
    }
    let context = [0; CONTEXT_SIZES[CONTEXT_SIZES.len() - 1]];
    let mut result = Err(Errno(libc::EINVAL));
    for size in CONTEXT_SIZES {
        result = program.test_run(&[], &context[..size], 0);
        if result != Err(Errno(libc::EINVAL)) {
            break;
        }
    }
    result
}

fn make_map(case: &CaseMap, program_type: u32, btf: Option<&OwnedFd>) -> Result<Map, KernelError> {
    let inner =
        case.inner.as_deref().map(|inner| make_map(inner, program_type, btf)).transpose()?;
    let own_btf = match &case.types {
        MapTypes::Own { btf, .. } => {
            let refused = |errno| KernelError::refused("a map's types", errno);
            Some(sys::btf_load(btf).map_err(refused)?)
        }
        MapTypes::None | MapTypes::OfProgram { .. } => None,
    };
    let types = match case.types {
        MapTypes::None => None,
        MapTypes::OfProgram { key, value } => btf.map(|btf| (btf.as_fd(), key, value)),
        MapTypes::Own { key, value, .. } => own_btf.as_ref().map(|btf| (btf.as_fd(), key, value)),
    };
    let map = Map::new(&MapSpec {
        name: &case.name,
        map_type: case.map_type,
        key_size: case.key_size,
        value_size: case.value_size,
        max_entries: case.max_entries,
        flags: case.flags,
        extra: case.extra,
        inner: inner.as_ref(),
        types,
    })?;
    for (key, value) in &case.init {
        map.update(key, value)?;
    }
    if let Some(inner) = case.inner.as_deref() {
        for key in &case.held {
            let held = make_map(inner, program_type, btf)?;
            map.update(key, &held.number().to_ne_bytes())?;
        }
    }
    if case.frozen {
        map.freeze()?;
    }
    for entry in &case.programs {
        let program = entry_program(program_type, &map, entry)?;
        let number = program.descriptor().as_raw_fd();
        map.update(&entry.key.to_ne_bytes(), &number.to_ne_bytes())?;
    }
    Ok(map)
}

/// A program of a program array.
fn entry_program(
    program_type: u32,
    map: &Map,
    entry: &CaseMapProgram,
) -> Result<LoadedProgram, KernelError> {
    let slot = |opcode, dst, src, imm| RawInsn { opcode, dst, src, off: 0, imm };
    let mut slots = Vec::new();
    if let Some(tail) = entry.tail {
        slots.push(slot(0xb7, 3, 0, tail.cast_signed()));
        slots.extend([slot(0x18, 2, 1, map.number()), RawInsn::default()]);
        slots.push(slot(0x85, 0, 0, HelperId::TAIL_CALL.0.cast_signed()));
    }
    slots.extend(return_slots(entry.ret));
    let load = ProgramLoad { program_type, license: "GPL", slots: &slots, ..Default::default() };
    Ok(load.load()?)
}

/// `r0 = value; exit`
pub(crate) fn return_slots(value: i32) -> [RawInsn; 2] {
    let slot = |opcode, imm| RawInsn { opcode, imm, ..RawInsn::default() };
    [slot(0xb7, value), slot(0x95, 0)]
}
