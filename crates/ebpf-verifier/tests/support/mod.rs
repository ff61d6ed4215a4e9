//! What several tests need: the `-- env` sections of `fixtures/verify`, whose README says what they
//! mean, and other ways to explore.

#![allow(dead_code, reason = "no test needs everything")]

pub(crate) mod kernel_types;
mod kfuncs;
pub(crate) mod types;

use std::sync::Arc;

use ebpf_btf::{Btf, TypeId};
use ebpf_isa::text::assemble;
use ebpf_isa::uapi::{AttachType, MapDesc, MapType, ProgramType, map_flags};
use ebpf_isa::{MapIdx, Program};
use ebpf_verifier::{
    Environment, ErrorCode, Log, LogLevel, MapInfo, Options, Rejection, ValueFields, kernel_log,
    program_types,
};

use ebpf_testkit::Fixture;
use kernel_types::kernel_types;
use kfuncs::Kfuncs;
use types::Types;

/// What a fixture of `fixtures/verify` says of its program.
pub(crate) struct Subject {
    pub(crate) program: Program,
    pub(crate) env: Environment,
    /// The types, as the kernel is given them.
    pub(crate) btf: Option<Vec<u8>>,
    /// Those of maps, by the place of the map.
    pub(crate) map_types: Vec<Option<MapTypes>>,
    /// The maps of maps that hold maps at first: which, and the index or key of four bytes.
    pub(crate) held: Held,
    /// What the program is attached to.
    pub(crate) target: Option<String>,
}

/// The types of a map's keys and values.
#[derive(Clone)]
pub(crate) struct MapTypes {
    pub(crate) btf: Vec<u8>,
    pub(crate) key: u32,
    pub(crate) value: u32,
}

/// Places of maps of maps, each with an index or key.
type Held = Vec<(usize, u32)>;

impl Subject {
    pub(crate) fn of(fixture: &Fixture) -> Result<Self, String> {
        let asm = fixture.section("asm").ok_or("no asm section")?;
        Self::new(asm, fixture.section("env").unwrap_or_default())
    }

    pub(crate) fn new(asm: &str, env: &str) -> Result<Self, String> {
        let program = assemble(asm).map_err(|error| error.to_string())?;
        let target = env.lines().find_map(|line| line.strip_prefix("target "));
        let target = target.map(|name| name.trim().to_owned());
        let Parsed { mut env, types, map_types, held } = parse(env)?;
        if env.program_type.program_type() == ProgramType::Tracing {
            let kernel = kernel_types()?;
            let find = |name: &String| kernel.attach_target(env.attach_type, name);
            env.attach_target = target.as_ref().and_then(find);
            env.kernel_types = Some(kernel);
        }
        let program = types.apply(program)?;
        Ok(Self { program, env, btf: types.bytes(), map_types, held, target })
    }
}

/// The packet that a fixture of `fixtures/run` runs on: `mem`, or as many zeros as an Ethernet frame has
/// at least.
pub(crate) fn packet_of(fixture: &Fixture) -> Vec<u8> {
    fixture.mem().map_or_else(|| vec![0; 60], <[u8]>::to_vec)
}

/// Reads an environment.
pub(crate) fn parse_env(text: &str) -> Result<Environment, String> {
    parse(text).map(|parsed| parsed.env)
}

/// What an `-- env` section says.
struct Parsed {
    env: Environment,
    types: Types,
    map_types: Vec<Option<MapTypes>>,
    held: Held,
}

fn parse(text: &str) -> Result<Parsed, String> {
    let mut env = Environment::new(program_types::xdp());
    let mut types = Types::default();
    let (mut maps, mut inner, mut held) = (Vec::new(), Vec::new(), Vec::new());
    let mut kfuncs = Kfuncs::default();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let unknown = || format!("env line not understood: `{line}`");
        match words[..] {
            ["type", name] => {
                let program_type = ProgramType::from_name(name).ok_or_else(unknown)?;
                env.program_type = program_types::of(program_type).ok_or_else(unknown)?;
            }
            ["attach", name] => {
                env.attach_type = Some(AttachType::from_name(name).ok_or_else(unknown)?);
            }
            ["target", _] => {}
            ["alignment", "strict"] => env.strict_alignment = true,
            ["sleepable"] => env.sleepable = true,
            ["license", "gpl"] => env.license_gpl = true,
            ["license", "other"] => env.license_gpl = false,
            ["map", ref map @ ..] => maps.push(parse_map(map).ok_or_else(unknown)?),
            ["inner", ref map @ ..] => {
                let outer = maps.len().checked_sub(1).ok_or_else(unknown)?;
                inner.push((outer, parse_map(map).ok_or_else(unknown)?));
            }
            ["held", ref keys @ ..] => {
                let outer = maps.len().checked_sub(1).ok_or_else(unknown)?;
                for key in keys {
                    held.push((outer, key.parse().map_err(|_| unknown())?));
                }
            }
            ["kfunc", index, ref function @ ..] => {
                kfuncs.parse(index, function).ok_or_else(unknown)?;
            }
            ["function", linkage, result, ref arguments @ ..] => {
                types.function(linkage, result, arguments).ok_or_else(unknown)?;
            }
            _ => return Err(unknown()),
        }
    }
    for (outer, map) in inner {
        maps[outer].0.inner = Some(MapIdx(maps.len() as u32));
        maps.push(map);
    }
    let map_types;
    (env.maps, map_types) = maps.into_iter().unzip();
    kfuncs.put_into(&mut env)?;
    let btf = types.bytes().map(|bytes| Btf::parse(&bytes)).transpose();
    env.btf = btf.map_err(|error| error.to_string())?.map(Arc::new);
    Ok(Parsed { env, types, map_types, held })
}

fn parse_map(words: &[&str]) -> Option<(MapInfo, Option<MapTypes>)> {
    let &[map_type, key, value, entries, ref flags @ ..] = words else { return None };
    let desc = MapDesc {
        map_type: MapType::from_name(map_type)?,
        key_size: key.parse().ok()?,
        value_size: value.parse().ok()?,
        max_entries: entries.parse().ok()?,
        flags: 0,
    };
    // The kernel is given them without names, which its log would show.
    let mut map = MapInfo::new("", desc);
    let (mut fields, mut is_typed) = (Vec::new(), false);
    for flag in flags {
        match flag.split_once('@') {
            Some((field, off)) => fields.push((field, off.parse().ok()?)),
            None if *flag == "typed" => is_typed = true,
            None => parse_flag(&mut map, flag)?,
        }
    }
    let types = match is_typed || !fields.is_empty() {
        true => Some(type_map(&mut map, &fields)?),
        false => None,
    };
    Some((map, types))
}

/// Gives a map types, with these fields in its values.
fn type_map(map: &mut MapInfo, fields: &[(&str, u32)]) -> Option<MapTypes> {
    let mut types = Types::default();
    let key = types.key(map.desc.key_size)?;
    let value = types.value(map.desc.value_size, fields)?;
    let btf = types.bytes()?;
    let parsed = Btf::parse(&btf).ok()?;
    map.fields = ValueFields::of(&parsed, TypeId(value), map.desc.value_size);
    Some(MapTypes { btf, key, value })
}

fn parse_flag(map: &mut MapInfo, flag: &str) -> Option<()> {
    match flag {
        "rdonly_prog" => map.desc.flags |= map_flags::RDONLY_PROG,
        "inner_map" => map.desc.flags |= map_flags::INNER_MAP,
        "wronly_prog" => map.desc.flags |= map_flags::WRONLY_PROG,
        _ => {
            let hex = flag.strip_prefix("frozen=")?;
            let byte = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
            map.frozen = Some((0..hex.len()).step_by(2).map(byte).collect::<Option<_>>()?);
        }
    }
    Some(())
}

/// A log without the ids that types have in one kernel or another.
pub(crate) fn without_type_ids(log: &str) -> String {
    const BEFORE: &str = "has btf_id ";
    let line = |line: &str| match line.split_once(BEFORE) {
        Some((start, rest)) => {
            format!("{start}{BEFORE}0{}", rest.trim_start_matches(|c: char| c.is_ascii_digit()))
        }
        None => line.to_owned(),
    };
    log.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Our log of level 2 with the depths of stacks, the kernel's mistakes shared: that of a section
/// `log`.
pub(crate) fn log(program: &Program, env: &Environment) -> String {
    let level = LogLevel::new(2 | 4).expect("a level of the kernel");
    let Log { text, statistics } = kernel_log(program, env, &Options::default(), level);
    without_type_ids(&(text + &statistics))
}

/// Each other way to explore, and all of them at once, up to so many processed instructions.
pub(crate) fn other_ways(max_processed: u32) -> Vec<Options> {
    let all = [true, false];
    let ways = all.map(|a| all.map(|b| all.map(|c| (a, b, c))));
    let ways = ways.into_iter().flatten().flatten().filter(|&way| way != (false, false, false));
    ways.map(|(without_pruning, all_precise, keep_every_state)| {
        let mut options = Options::default();
        options.max_processed = Some(max_processed);
        options.exploration.without_pruning = without_pruning;
        options.exploration.all_precise = all_precise;
        options.exploration.keep_every_state = keep_every_state;
        options
    })
    .collect()
}

/// A program that has a timer run a function so many times.
pub(crate) fn timers_set(count: usize) -> Subject {
    let env = "map array 4 32 1 timer@8\nfunction global int\nfunction static int";
    let set = "r1 = r6\nr2 = func later ll\ncall bpf_timer_set_callback#170\n".repeat(count);
    let asm = format!("r6 = map[0][0]+8 ll\n{set}r0 = 0\nexit\nlater:\nr0 = 0\nexit");
    Subject::new(&asm, env).expect("it is a program")
}

/// Whether a limit was reached, which other ways of exploring may do.
pub(crate) fn is_limit(rejection: &Rejection) -> bool {
    matches!(
        rejection.code,
        ErrorCode::LimitProcessed
            | ErrorCode::LimitPending
            | ErrorCode::LimitRounds
            | ErrorCode::LimitLater
    )
}
