//! Programs that somebody wrote, with a few changes: those of `fixtures/verify`, and of the corpus if
//! there is one. They have what generated programs have not: types, functions that are verified for
//! themselves, callbacks, every kind of map.

// What a fixture says is read as tests read it.
#[path = "../../../../crates/ebpf-runtime/tests/kernel_fixtures/case.rs"]
mod case;
#[path = "../../../../crates/ebpf-verifier/tests/support/mod.rs"]
mod support;

use std::path::Path;

use ebpf_runtime::isa::RawInsn;
use ebpf_runtime::object::cases::{Case, CaseBtf};
use ebpf_runtime::verifier::{ErrorCode, verify};
use ebpf_testkit::{Fixture, Rng, fixture_paths, fixtures_dir};

use super::subject::{Running, Subject};
use crate::corpus;
use crate::error::TaskError;
use crate::say;

/// Longer programs take too long.
const MAX_SLOTS: usize = 600;
/// Programs that take more are left out.
const MAX_PROCESSED: u32 = 20_000;
/// Changes that are tried before a program stays as it is.
const TRIES: u32 = 8;

const WIDE_LOAD: u8 = 0x18;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// `BPF_LD | BPF_ABS` and `BPF_LD | BPF_IND` of each size.
const PACKET_LOADS: [u8; 6] = [0x20, 0x28, 0x30, 0x40, 0x48, 0x50];
/// A jump to what comes next.
const NOTHING: RawInsn = RawInsn { opcode: 0x05, dst: 0, src: 0, off: 0, imm: 0 };

/// Opcodes that an instruction may become: moves, arithmetic, loads, stores, branches.
const OPCODES: [u8; 28] = [
    0xb7, 0xbf, 0x07, 0x0f, 0x57, 0x67, 0x77, 0x61, 0x69, 0x71, 0x79, 0x63, 0x73, 0x7b, 0x62, 0x7a,
    0x15, 0x55, 0x25, 0xa5, 0xb5, 0x2d, 0x1d, 0xb4, 0xbc, 0x04, 0x0c, 0xdb,
];

/// What changes are made to.
pub(super) struct Originals(Vec<Subject>);

impl Originals {
    /// Reads the fixtures, and the corpus where it is built, as far as our verifier knows all of a
    /// program.
    pub(super) fn read(running: &Running) -> Result<Self, TaskError> {
        let mut subjects = fixtures()?;
        let fixtures = subjects.len();
        let directory = corpus::default_directory();
        if corpus::is_built(&directory) {
            for case in corpus::cases(&directory)? {
                subjects.push(Subject::of_case(with_types(case, &directory)?));
            }
        } else {
            say(&format!(
                "skipped: no corpus in {}: fixtures are changed alone",
                directory.display()
            ));
        }
        let of_corpus = subjects.len() - fixtures;
        subjects.retain(|subject| is_known(subject, running));
        let known = subjects.len();
        say(&format!(
            "{known} originals of {fixtures} fixtures and {of_corpus} programs of the corpus"
        ));
        Ok(Self(subjects))
    }

    /// One of them, with a few changes.
    pub(super) fn changed(&self, rng: &mut Rng) -> Subject {
        let original = rng.pick(&self.0);
        for _ in 0..TRIES {
            let mut case = original.case().clone();
            for _ in 0..*rng.pick(&[1, 1, 1, 2, 3]) {
                change(&mut case, rng);
            }
            let changed = original.with_case(case);
            // Fields that must be zero have fixtures of their own; here they would hide all else.
            if changed != *original && !is_dangerous(changed.case()) && changed.program().is_some()
            {
                return changed;
            }
        }
        original.clone()
    }
}

fn fixtures() -> Result<Vec<Subject>, TaskError> {
    let directory = fixtures_dir().join("verify");
    let paths = fixture_paths(&directory).map_err(|error| TaskError::file(&directory, error))?;
    let subject = |path: &Path| {
        let failed = |error: String| TaskError::Failed(format!("{}: {error}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| TaskError::file(path, error))?;
        let fixture = Fixture::parse(path, &text).map_err(|error| failed(error.to_string()))?;
        let case = case::case(support::Subject::of(&fixture).map_err(failed)?);
        Ok(Subject::of_fixture(case, fixture.section("env").unwrap_or("type xdp")))
    };
    paths.iter().map(|path| subject(path)).collect()
}

/// A case of the corpus with its types in it.
fn with_types(case: Case, directory: &Path) -> Result<Case, TaskError> {
    let btf = case.btf_bytes(directory).map_err(|error| TaskError::Failed(error.to_string()))?;
    Ok(Case { btf: btf.map(CaseBtf::Bytes), runs: Vec::new(), judged: None, ..case })
}

/// Whether our verifier comes to a verdict, and soon.
fn is_known(subject: &Subject, running: &Running) -> bool {
    if subject.case().slots.len() > MAX_SLOTS {
        return false;
    }
    let Ok(mut prepared) = subject.prepare(running) else { return false };
    prepared.options.max_processed = Some(MAX_PROCESSED);
    let verdict = verify(&prepared.program, &prepared.environment, &prepared.options);
    let unknown = [ErrorCode::Unsupported, ErrorCode::LimitProcessed];
    verdict.err().is_none_or(|rejection| !unknown.contains(&rejection.code))
}

/// Whether the kernel must not be asked: Linux 6.18 writes before an array where it walks back over a
/// packet load in a function with types to what its caller had in a register.
fn is_dangerous(case: &Case) -> bool {
    let has_packet_loads = case.slots.iter().any(|slot| PACKET_LOADS.contains(&slot.opcode));
    has_packet_loads && !case.func_info.is_empty()
}

/// Changes one instruction, unless it is a wide load or refers to more than the program.
fn change(case: &mut Case, rng: &mut Rng) {
    let at = rng.range(0..case.slots.len() as u64) as usize;
    if is_wide(&case.slots, at) || is_reference(case, at) {
        return;
    }
    let other = rng.range(0..case.slots.len() as u64) as usize;
    let copied = (!is_wide(&case.slots, other) && case.slots[other].opcode != CALL)
        .then(|| case.slots[other]);
    let slot = &mut case.slots[at];
    let is_call = slot.opcode == CALL;
    match rng.range(0..10) {
        0 => slot.dst = rng.range(0..11) as u8,
        1 if !is_call => slot.src = rng.range(0..11) as u8,
        2 => slot.off = slot.off.wrapping_add(*rng.pick(&[-8, -4, -1, 1, 4, 8, 16])),
        3 | 4 if !is_call => slot.imm = constant(slot.imm, rng),
        3 if slot.src == 0 => slot.imm = helper(rng),
        5 if !is_call => slot.opcode = *rng.pick(&OPCODES),
        6 if slot.opcode != EXIT => *slot = NOTHING,
        7 => *slot = copied.unwrap_or(*slot),
        // The other width of a branch.
        8 if matches!(slot.opcode & 7, 5 | 6) && !is_call && slot.opcode != EXIT => {
            slot.opcode ^= 3;
        }
        // The other width of arithmetic.
        9 if matches!(slot.opcode & 7, 4 | 7) => slot.opcode ^= 3,
        _ => {}
    }
}

/// Whether it is a half of a wide load.
fn is_wide(slots: &[RawInsn], at: usize) -> bool {
    let first = |at: usize| slots[at].opcode == WIDE_LOAD;
    first(at) || at > 0 && first(at - 1)
}

fn is_reference(case: &Case, at: usize) -> bool {
    case.map_refs.iter().any(|&(slot, _)| slot as usize == at)
        || case.kfunc_refs.iter().any(|&(slot, _)| slot as usize == at)
}

/// A number near another, or at an edge.
fn constant(imm: i32, rng: &mut Rng) -> i32 {
    let near = [imm.wrapping_add(1), imm.wrapping_sub(1), imm.wrapping_mul(2), imm.wrapping_neg()];
    let edges = [0, 1, -1, 8, 16, 64, i32::MAX, i32::MIN];
    if rng.chance(1, 2) { *rng.pick(&near) } else { *rng.pick(&edges) }
}

/// A helper: one of those that most program types have, or any.
fn helper(rng: &mut Rng) -> i32 {
    const COMMON: [i32; 13] = [1, 2, 3, 5, 6, 7, 8, 12, 14, 25, 26, 44, 54];
    if rng.chance(2, 3) { *rng.pick(&COMMON) } else { rng.range(1..212) as i32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(line: &str) -> Case {
        Case::parse(line).unwrap()
    }

    #[test]
    fn what_refers_to_more_than_the_program_stays() {
        let line = r#"{"insns":"1801000000000000 0000000000000000 8520000007000000 9500000000000000",
            "maps":[{"type":2,"key":4,"value":8,"max":1}],"map_refs":[[0,0]],"kfunc_refs":[[2,"f"]]}"#;
        let original = case(line);
        let mut rng = Rng::seed(1);
        for _ in 0..1_000 {
            let mut changed = original.clone();
            change(&mut changed, &mut rng);
            assert_eq!(changed.slots[..3], original.slots[..3]);
        }
    }

    #[test]
    fn packet_loads_in_functions_with_types_are_not_asked_about() {
        let mut with_types =
            case(r#"{"insns":"3000000000000000 9500000000000000","func_info":[[0,1]]}"#);
        assert!(is_dangerous(&with_types));
        with_types.func_info.clear();
        assert!(!is_dangerous(&with_types));
    }

    #[test]
    fn every_fixture_is_a_case() {
        let mut subjects = fixtures().unwrap();
        let all = subjects.len();
        subjects.retain(|subject| is_known(subject, &Running::default()));
        // Some are about the types of a kernel.
        assert!(subjects.len() * 10 > all * 7, "{} of {all}", subjects.len());
        let originals = Originals(subjects);
        let mut rng = Rng::seed(3);
        let changed = (0..200).filter(|_| {
            let subject = originals.changed(&mut rng);
            originals.0.iter().all(|original| *original != subject)
        });
        let changed = changed.count();
        assert!(changed > 180, "{changed}");
    }
}
