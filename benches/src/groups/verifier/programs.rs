//! The programs that are verified, as text.

use ebpf_runtime::isa::Program;
use ebpf_runtime::isa::text::assemble;
use ebpf_runtime::isa::uapi::{MapDesc, MapType};
use ebpf_runtime::object::Object;
use ebpf_runtime::open;
use ebpf_runtime::verifier::{Environment, KernelProfile, MapInfo, program_types};

use super::super::{FIREWALL, firewall};

/// What a program is an example of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Numbers, one instruction after the other.
    Straight,
    /// Numbers and forks.
    Branchy,
    /// Numbers and loops.
    Loop,
    /// Pointers, calls.
    Other,
}

/// A program with what it is verified against.
pub(super) struct Subject {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) program: Program,
    pub(super) environment: Environment,
}

type Error = Box<dyn std::error::Error>;

type Text = fn() -> String;

const TEXTS: [(&str, Shape, Text); 12] = [
    ("alu", Shape::Straight, alu),
    ("alu32", Shape::Straight, alu32),
    ("spills", Shape::Straight, spills),
    ("diamonds", Shape::Branchy, diamonds),
    ("early exits", Shape::Branchy, early_exits),
    ("comparisons", Shape::Branchy, comparisons),
    ("counting loop", Shape::Loop, counting_loop),
    ("nested loops", Shape::Loop, nested_loops),
    ("loop over the stack", Shape::Loop, loop_over_stack),
    ("calls", Shape::Other, calls),
    ("map lookups", Shape::Other, lookups),
    ("packet", Shape::Other, packet),
];

/// All programs: those of `TEXTS`, and the firewall of `fixtures/xdp`.
pub(super) fn all(profile: &KernelProfile) -> Result<Vec<Subject>, Error> {
    let mut subjects = Vec::new();
    for (name, shape, text) in TEXTS {
        let program = assemble(&text()).map_err(|error| format!("{name}: {error}"))?;
        let desc = MapDesc {
            map_type: MapType::Array,
            key_size: 4,
            value_size: 64,
            max_entries: 16,
            flags: 0,
        };
        let mut environment = Environment::new(program_types::xdp());
        environment.maps = vec![MapInfo::new("map", desc)];
        environment.profile = profile.clone();
        subjects.push(Subject { name, shape, program, environment });
    }
    let object = Object::parse(&firewall()?)?;
    let linked = object.program(FIREWALL)?;
    let environment = Environment {
        // The kernel is not given types, and so takes all functions as static.
        btf: None,
        ..open::environment(&object, &linked, None, profile)?
    };
    let program = Program::from_slots(&linked.program.to_slots()?)?;
    subjects.push(Subject { name: FIREWALL, shape: Shape::Other, program, environment });
    Ok(subjects)
}

/// `count` times what `text` gives for the number of the time.
fn repeated(count: u64, text: impl Fn(u64) -> String) -> String {
    (0..count).map(text).collect()
}

const RANDOM: &str = "call bpf_get_prandom_u32#7\n";
const END: &str = "r0 = 0\nexit\n";

fn alu() -> String {
    let steps = repeated(1000, |n| {
        let (shift, mask) = (n % 31 + 1, (n + 1) * 0x1_0001 % 0x7fff_ffff);
        format!(
            "r2 += r0\nr3 ^= r2\nr2 <<= {shift}\nr4 = r3\nr4 &= {mask}\nr5 -= r4\nr5 |= r2\n\
             r3 >>= {shift}\nr0 *= 3\nr2 s>>= 1\n"
        )
    });
    format!("{RANDOM}r2 = 1\nr3 = r0\nr5 = r0\n{steps}{END}")
}

fn alu32() -> String {
    let steps = repeated(1000, |n| {
        let (shift, mask) = (n % 31 + 1, n * 77 % 0x7fff_ffff);
        format!(
            "w2 += w0\nw3 ^= w2\nw2 <<= {shift}\nw4 = w3\nw4 &= {mask}\nw5 -= w4\nw5 |= {mask}\n\
             w3 >>= {shift}\nr6 = (s16)r5\nr6 = bswap32 r6\n"
        )
    });
    format!("{RANDOM}r2 = 1\nr3 = r0\nr5 = r0\n{steps}{END}")
}

fn spills() -> String {
    let steps = repeated(2000, |n| {
        let (to, from) = (8 * (n % 64 + 1), 8 * (n * 7 % (n.min(63) + 1) + 1));
        format!("r0 += {n}\n*(u64 *)(r10 -{to}) = r0\nr1 = *(u64 *)(r10 -{from})\nr0 ^= r1\n")
    });
    format!("{RANDOM}{steps}{END}")
}

fn diamonds() -> String {
    let forks = repeated(1000, |n| {
        format!("{RANDOM}if r0 > {} goto l{n}\nr6 = {n}\nl{n}:\nr6 = 0\n", n % 100)
    });
    format!("{forks}{END}")
}

fn early_exits() -> String {
    let exits = repeated(4000, |n| format!("if r0 == {n} goto out\nr0 += 1\n"));
    format!("{RANDOM}{exits}out:\n{END}")
}

fn comparisons() -> String {
    let ops = ["s>", "s<=", "==", "!=", "&", ">=", "<", "s>="];
    let forks = repeated(1000, |n| {
        let (op, width) = (ops[n as usize % ops.len()], if n % 3 == 0 { 'w' } else { 'r' });
        format!(
            "{RANDOM}r7 = r0\nr7 &= 255\nif {width}7 {op} {} goto l{n}\nr7 += 1\nl{n}:\nr7 = 0\n",
            n % 200
        )
    });
    format!("{forks}{END}")
}

fn counting_loop() -> String {
    format!("r6 = 0\nloop:\nr6 += 1\nif r6 < 20000 goto loop\n{END}")
}

fn nested_loops() -> String {
    format!(
        "r6 = 0\nouter:\nr7 = 0\ninner:\nr8 = r6\nr8 += r7\nr7 += 1\nif r7 < 60 goto inner\n\
         r6 += 1\nif r6 < 60 goto outer\n{END}"
    )
}

fn loop_over_stack() -> String {
    let zeros = repeated(8, |slot| format!("*(u64 *)(r10 -{}) = 0\n", 8 * (slot + 1)));
    format!(
        "{zeros}r6 = 0\nloop:\nr7 = r6\nr7 &= 63\nr8 = r10\nr8 += -64\nr8 += r7\n\
         r9 = *(u8 *)(r8 +0)\nr9 += r6\n*(u64 *)(r10 -72) = r9\nr6 += 1\nif r6 < 2000 goto loop\n{END}"
    )
}

fn calls() -> String {
    let calls = repeated(1000, |n| format!("r1 = {n}\nr2 = r10\nr2 += -8\ncall f\n"));
    format!(
        "*(u64 *)(r10 -8) = 0\n{calls}{END}\
         f:\nr6 = *(u64 *)(r2 +0)\nr6 += r1\n*(u64 *)(r2 +0) = r6\ncall g\nexit\n\
         g:\n*(u64 *)(r10 -8) = r1\nr0 = *(u64 *)(r10 -8)\nexit\n"
    )
}

fn lookups() -> String {
    let lookups = repeated(500, |n| {
        format!(
            "*(u32 *)(r10 -4) = r6\nr2 = r10\nr2 += -4\nr1 = map[0] ll\n\
             call bpf_map_lookup_elem#1\nif r0 == 0 goto l{n}\nr1 = *(u64 *)(r0 +{})\n\
             r1 += 1\n*(u64 *)(r0 +0) = r1\nr6 = *(u32 *)(r0 +8)\nl{n}:\n",
            n % 8 * 8
        )
    });
    format!("{RANDOM}r6 = r0\n{lookups}{END}")
}

fn packet() -> String {
    let fields = repeated(500, |n| {
        format!(
            "r4 = r2\nr4 += 4\nif r4 > r3 goto out\nr5 = *(u8 *)(r2 +0)\nr5 &= 15\nr2 += r5\n\
             r4 = r2\nr4 += 8\nif r4 > r3 goto out\nr5 = *(u32 *)(r2 +{})\nr2 = *(u32 *)(r1 +0)\n",
            n % 5
        )
    });
    format!("r2 = *(u32 *)(r1 +0)\nr3 = *(u32 *)(r1 +4)\n{fields}out:\n{END}")
}
