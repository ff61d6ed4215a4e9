//! What is judged: slots, a program type, and always the same maps.

use ebpf_runtime::isa::text::assemble;
use ebpf_runtime::isa::uapi::{MapType, ProgramType, map_flags};
use ebpf_runtime::isa::{Insn, Pc, Program, RawInsn, WideSource};
use ebpf_runtime::object::cases::{Case, CaseMap, MapTypes};
use ebpf_testkit::Rng;
use serde_json::{Value, json};

use super::programs;
use crate::error::TaskError;

/// A map of every case.
pub(super) struct MapShape {
    map_type: MapType,
    key_size: u32,
    pub(super) value_size: u32,
    entries: u32,
    /// Contents, for a map that nobody may write.
    frozen: Option<[u8; 16]>,
}

const fn shape(map_type: MapType, key_size: u32, value_size: u32, entries: u32) -> MapShape {
    MapShape { map_type, key_size, value_size, entries, frozen: None }
}

const CONTENTS: [u8; 16] = [7, 0, 0, 0, 0xff, 0, 0, 0, 0, 0, 0, 0x80, 1, 2, 3, 4];

/// The maps that programs may name.
pub(super) const MAPS: [MapShape; 6] = [
    shape(MapType::Array, 4, 16, 4),
    shape(MapType::Hash, 8, 24, 8),
    shape(MapType::Array, 4, 48, 1),
    MapShape { frozen: Some(CONTENTS), ..shape(MapType::Array, 4, CONTENTS.len() as u32, 1) },
    shape(MapType::ProgArray, 4, 4, 2),
    shape(MapType::Ringbuf, 0, 0, 4096),
];

/// Which of them nobody may write.
pub(super) const FROZEN: usize = 3;
/// The first ones, so many, have values that programs read and write.
pub(super) const WITH_VALUES: usize = 4;
/// Which of them has programs.
pub(super) const PROGRAMS: usize = 4;
/// Which of them is a ring buffer.
pub(super) const RING_BUFFER: usize = 5;

const PROGRAM_TYPES: [ProgramType; 3] =
    [ProgramType::Xdp, ProgramType::SchedCls, ProgramType::SocketFilter];

const WIDE_LOAD: u8 = 0x18;
const LICENSE: &str = "GPL";

impl MapShape {
    const fn flags(&self) -> u32 {
        if self.frozen.is_some() { map_flags::RDONLY_PROG } else { 0 }
    }

    fn json(&self) -> Value {
        let init =
            self.frozen.iter().map(|value| json!({"key": "00000000", "value": hex::encode(value)}));
        json!({
            "type": self.map_type.number(), "key": self.key_size, "value": self.value_size,
            "max": self.entries, "flags": self.flags(), "frozen": self.frozen.is_some(),
            "init": init.collect::<Vec<_>>(),
        })
    }

    fn case(&self) -> CaseMap {
        CaseMap {
            // As the kernel is given it, which names it in its log.
            name: String::new(),
            map_type: self.map_type.number(),
            key_size: self.key_size,
            value_size: self.value_size,
            max_entries: self.entries,
            flags: self.flags(),
            extra: 0,
            inner: None,
            init: self.frozen.iter().map(|value| (vec![0; 4], value.to_vec())).collect(),
            frozen: self.frozen.is_some(),
            types: MapTypes::None,
            programs: Vec::new(),
        }
    }

    /// The line of an `env` section.
    fn env(&self) -> String {
        let Self { map_type, key_size, value_size, entries, frozen } = self;
        let sizes = format!("map {map_type} {key_size} {value_size} {entries}");
        match frozen {
            Some(contents) => format!("{sizes} rdonly_prog frozen={}", hex::encode(contents)),
            None => sizes,
        }
    }
}

/// A program to be judged.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Subject {
    pub(super) program_type: ProgramType,
    pub(super) program: Program,
}

impl Subject {
    /// The program of a seed.
    pub(super) fn of_seed(seed: u64) -> Result<Self, TaskError> {
        let mut rng = Rng::seed(seed);
        let program_type = *rng.pick(&PROGRAM_TYPES);
        let text = programs::program(rng.next_u64(), program_type);
        let program = assemble(&text)
            .map_err(|error| TaskError::Failed(format!("seed {seed}: {error}, in\n{text}")))?;
        let changed = if rng.chance(1, 16) { mutated(&program, &mut rng) } else { None };
        Ok(Self { program_type, program: changed.unwrap_or(program) })
    }

    /// The same with another program.
    pub(super) fn with(&self, program: Program) -> Self {
        Self { program, ..*self }
    }

    fn slots(&self) -> Vec<RawInsn> {
        self.program.to_slots().expect("the program was assembled or decoded")
    }

    /// Slots of wide loads, and the maps that they name.
    fn map_refs(&self) -> Vec<(u32, u32)> {
        map_refs(&self.program).map(|(pc, map)| (pc.0, map)).collect()
    }

    /// The maps up to the last one that is named.
    fn maps(&self) -> &'static [MapShape] {
        let end = map_refs(&self.program).map(|(_, map)| map as usize + 1).max();
        &MAPS[..end.unwrap_or(0)]
    }

    /// As our verifier is given it.
    pub(super) fn case(&self) -> Case {
        Case {
            id: String::new(),
            program_type: self.program_type.number(),
            attach_type: 0,
            flags: 0,
            license: LICENSE.into(),
            slots: self.slots(),
            maps: self.maps().iter().map(MapShape::case).collect(),
            map_refs: self.map_refs(),
            kfunc_refs: Vec::new(),
            btf: None,
            func_info: Vec::new(),
            attach_func: None,
            runs: Vec::new(),
            judged: None,
        }
    }

    /// As the process that asks the kernel is given it: a case on a line.
    pub(super) fn line(&self) -> String {
        let bytes: Vec<u8> = self.slots().iter().flat_map(|slot| slot.to_bytes()).collect();
        let maps: Vec<Value> = self.maps().iter().map(MapShape::json).collect();
        json!({
            "prog_type": self.program_type.number(), "license": LICENSE,
            "insns": hex::encode(bytes), "maps": maps, "map_refs": self.map_refs(),
        })
        .to_string()
    }

    /// The sections `asm` and `env` of a fixture.
    pub(super) fn sections(&self) -> String {
        let listing = self.program.listing().to_string();
        let mut text = format!("-- asm\n{}\n\n-- env\n", listing.trim_end());
        text.push_str(&format!("type {}\n", self.program_type));
        self.maps().iter().for_each(|map| text.push_str(&format!("{}\n", map.env())));
        text
    }
}

/// Where a program names maps, and which.
fn map_refs(program: &Program) -> impl Iterator<Item = (Pc, u32)> {
    program.insns().filter_map(|(pc, insn)| match insn {
        Insn::LoadWide {
            source: WideSource::Map(map, _) | WideSource::MapValue(map, ..), ..
        } => Some((pc, map.index() as u32)),
        _ => None,
    })
}

/// The program with other fields in some slots; `None` if that is no program, or one of other maps.
fn mutated(program: &Program, rng: &mut Rng) -> Option<Program> {
    let mut slots = program.to_slots().ok()?;
    for _ in 0..rng.range(1..3) {
        let at = rng.range(0..slots.len() as u64) as usize;
        let slot = &mut slots[at];
        match rng.range(0..6) {
            0 => slot.dst = rng.range(0..11) as u8,
            // A wide load stays what it is: other kinds refer to more than the program.
            1 if slot.opcode != WIDE_LOAD => slot.src = rng.range(0..11) as u8,
            2 => slot.off = *rng.pick(&[0, 1, 2, 4, 8, -8, -1, 16]),
            3 => slot.imm = *rng.pick(&[0, 1, -1, 8, 32, 64, i32::MIN]),
            4 => slot.opcode ^= 1 << rng.range(0..8),
            5 => drop(slots.remove(at)),
            _ => {}
        }
    }
    let program = Program::from_slots(&slots).ok()?;
    // The kernel would look for others among the descriptors of the process that asks.
    let has_maps = map_refs(&program).all(|(_, map)| (map as usize) < MAPS.len());
    has_maps.then_some(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(text: &str) -> Subject {
        Subject { program_type: ProgramType::Xdp, program: assemble(text).unwrap() }
    }

    #[test]
    fn both_sides_are_given_the_same() {
        let text = "r1 = map[3] ll\nr2 = 0x1 ll\nr1 = map[0][0]+4 ll\nr0 = 0\nexit";
        let subject = subject(text);
        assert_eq!(subject.map_refs(), [(0, 3), (4, 0)]);
        let parsed = Case::parse(&subject.line()).unwrap();
        assert_eq!(parsed.maps.len(), 4);
        let named = |mut case: Case| {
            case.id = "x".into();
            case.maps.iter_mut().for_each(|map| map.name.clear());
            case
        };
        assert_eq!(named(parsed), named(subject.case()));
    }

    #[test]
    fn maps_that_are_not_named_are_not_made() {
        assert_eq!(subject("r0 = 0\nexit").case().maps, []);
        assert_eq!(subject("r0 = map[1] ll\nr0 = 0\nexit").case().maps.len(), 2);
    }

    #[test]
    fn sections_are_those_of_fixtures() {
        let expected = "-- asm\n   0: r0 = map[0] ll\n   2: r0 = 0\n   3: exit\n\n-- env\ntype xdp\n\
            map array 4 16 4\n";
        assert_eq!(subject("r0 = map[0] ll\nr0 = 0\nexit").sections(), expected);
    }
}
