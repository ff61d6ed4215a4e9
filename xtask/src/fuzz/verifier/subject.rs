//! What is judged.

use std::path::Path;
use std::sync::Arc;

use ebpf_runtime::cases::{CaseTypes, CaseVerdict, Prepared, prepare};
use ebpf_runtime::isa::uapi::ProgramType;
use ebpf_runtime::isa::{Insn, Pc, Program, WideSource};
use ebpf_runtime::object::cases::Case;
use ebpf_runtime::verifier::{KernelProfile, KernelTypes, Options};

use super::maps::{MAPS, MapShape};

const LICENSE: &str = "GPL";

/// What the running kernel is like.
#[derive(Default)]
pub(super) struct Running {
    pub(super) profile: KernelProfile,
    pub(super) types: Option<Arc<KernelTypes>>,
}

/// How a fixture says what its program is judged with.
#[derive(Debug, Clone, PartialEq)]
enum Env {
    /// The program is for a type, and has the maps that are generated ones' up to the last that it names.
    Generated(ProgramType),
    /// As this section says.
    Fixture(Arc<str>),
    /// No fixture can.
    Unspeakable,
}

/// A program to be judged, with all that it is judged with.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Subject {
    case: Case,
    env: Env,
}

impl Subject {
    /// A generated program.
    pub(super) fn generated(program_type: ProgramType, program: &Program) -> Self {
        let case = Case {
            id: String::new(),
            program_type: program_type.number(),
            attach_type: 0,
            flags: 0,
            license: LICENSE.into(),
            slots: Vec::new(),
            maps: Vec::new(),
            map_refs: Vec::new(),
            kfunc_refs: Vec::new(),
            btf: None,
            func_info: Vec::new(),
            attach_func: None,
            runs: Vec::new(),
            judged: None,
        };
        Self { case, env: Env::Generated(program_type) }.with(program)
    }

    /// A program of a fixture, and its section `env`.
    pub(super) fn of_fixture(case: Case, env: &str) -> Self {
        Self { case, env: Env::Fixture(env.into()) }
    }

    /// A program from elsewhere.
    pub(super) fn of_case(case: Case) -> Self {
        Self { case, env: Env::Unspeakable }
    }

    pub(super) fn case(&self) -> &Case {
        &self.case
    }

    /// The same with other instructions in the same places.
    pub(super) fn with_case(&self, case: Case) -> Self {
        Self { case, env: self.env.clone() }
    }

    /// What our verifier is given.
    pub(super) fn prepare(&self, running: &Running) -> Result<Prepared, CaseVerdict> {
        let btf = self.case.btf_bytes(Path::new(".")).expect("the types are in the case");
        let types = CaseTypes { program: btf.as_deref(), kernel: running.types.as_ref() };
        prepare(&self.case, types, &running.profile, &Options::default())
    }

    /// The program, with its types; `None` where the slots are none.
    pub(super) fn program(&self) -> Option<Program> {
        self.prepare(&Running::default()).ok().map(|prepared| prepared.program)
    }

    /// The same with another program, which calls no other kernel functions.
    pub(super) fn with(&self, program: &Program) -> Self {
        let slots = program.to_slots().expect("the program was assembled or decoded");
        let functions = program.subprogs().iter();
        let func_info =
            functions.filter_map(|function| Some((function.start.0, function.info.btf_id?)));
        let map_refs: Vec<(u32, u32)> = map_refs(program).map(|(pc, map)| (pc.0, map)).collect();
        let mut case = Case { slots, func_info: func_info.collect(), ..self.case.clone() };
        if let Env::Generated(_) = self.env {
            let end = map_refs.iter().map(|&(_, map)| map as usize + 1).max();
            case.maps = MAPS[..end.unwrap_or(0)].iter().map(MapShape::case).collect();
        }
        case.map_refs = map_refs;
        self.with_case(case)
    }

    /// The sections `asm` and `env` of a fixture; where no fixture can say it, the case.
    pub(super) fn sections(&self) -> String {
        let env = match &self.env {
            Env::Generated(program_type) => {
                let maps = MAPS[..self.case.maps.len()].iter().map(|map| map.env() + "\n");
                format!("type {program_type}\n{}", maps.collect::<String>())
            }
            Env::Fixture(env) => format!("{}\n", env.trim_end()),
            Env::Unspeakable => return format!("-- case\n{}\n", self.case.to_line()),
        };
        match self.program() {
            Some(program) => {
                let listing = program.listing().to_string();
                format!("-- asm\n{}\n\n-- env\n{env}", listing.trim_end())
            }
            None => format!("-- case\n{}\n", self.case.to_line()),
        }
    }
}

/// Where a program names maps, and which.
pub(super) fn map_refs(program: &Program) -> impl Iterator<Item = (Pc, u32)> {
    program.insns().filter_map(|(pc, insn)| match insn {
        Insn::LoadWide {
            source: WideSource::Map(map, _) | WideSource::MapValue(map, ..), ..
        } => Some((pc, map.index() as u32)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use ebpf_runtime::isa::text::assemble;

    use super::*;

    fn subject(text: &str) -> Subject {
        Subject::generated(ProgramType::Xdp, &assemble(text).unwrap())
    }

    #[test]
    fn maps_are_named_where_they_are_loaded() {
        let text = "r1 = map[3] ll\nr2 = 0x1 ll\nr1 = map[0][0]+4 ll\nr0 = 0\nexit";
        let subject = subject(text);
        assert_eq!(subject.case.map_refs, [(0, 3), (4, 0)]);
        assert_eq!(Case::parse(&subject.case.to_line()), Ok(subject.case));
    }

    #[test]
    fn maps_that_are_not_named_are_not_made() {
        assert_eq!(subject("r0 = 0\nexit").case.maps, []);
        assert_eq!(subject("r0 = map[1] ll\nr0 = 0\nexit").case.maps.len(), 2);
    }

    #[test]
    fn sections_are_those_of_fixtures() {
        let expected = "-- asm\n   0: r0 = map[0] ll\n   2: r0 = 0\n   3: exit\n\n-- env\ntype xdp\n\
            map array 4 16 4\n";
        assert_eq!(subject("r0 = map[0] ll\nr0 = 0\nexit").sections(), expected);
    }
}
