//! Programs that make a verifier keep much: waiting branches, states, history, ids, frames.

use ebpf_runtime::isa::Program;
use ebpf_runtime::isa::text::assemble;
use ebpf_testkit::Rng;

/// A shape of program: its name, and the text of the one of a size.
type Shape = (&'static str, fn(u64) -> String);

pub(super) const SHAPES: [Shape; 11] = [
    ("waiting branches", waiting),
    ("waiting branches, each with its own stack", waiting_with_stack),
    ("branches in the last of eight frames", deep_branches),
    ("states with six frames of their own", own_frames),
    ("paths that all differ", paths),
    ("a loop without end, of states that all differ", endless),
    ("nested loops", nested),
    ("a history without branches that end it", history),
    ("links between all registers and slots", links),
    ("functions", functions),
    ("subprograms called over and over", calls),
];

/// Any shape of any size.
pub(super) fn program(rng: &mut Rng) -> (&'static str, Option<Program>) {
    let size = *rng.pick(&[8, 64, 500, 4_000, 10_000, 30_000]);
    shape(rng.range(0..SHAPES.len() as u64) as usize, size)
}

/// A shape of about so many instructions; `None` where there is no such program.
pub(super) fn shape(index: usize, size: u64) -> (&'static str, Option<Program>) {
    let (name, text) = SHAPES[index];
    (name, assemble(&text(size)).ok())
}

/// `count` times what `line` gives for the number of the time.
fn repeated(count: u64, line: impl Fn(u64) -> String) -> String {
    (0..count).map(line).collect()
}

const RANDOM: &str = "call bpf_get_prandom_u32#7\n";
const END: &str = "r0 = 0\nexit\n";
/// Writes all of the stack.
fn full_stack() -> String {
    repeated(64, |slot| format!("*(u64 *)(r10 -{}) = r1\n", 8 * (slot + 1)))
}

fn waiting(size: u64) -> String {
    let branches = repeated(size, |n| format!("if r0 == {n} goto out\n"));
    format!("{RANDOM}{branches}out:\n{END}")
}

fn waiting_with_stack(size: u64) -> String {
    let branches = repeated(size / 2, |n| {
        format!("if r0 == {n} goto out\n*(u64 *)(r10 -{}) = r0\n", 8 * (n % 64 + 1))
    });
    format!("{}{RANDOM}{branches}out:\n{END}", full_stack())
}

fn deep_branches(size: u64) -> String {
    let frames = repeated(7, |n| {
        let stack = full_stack();
        format!("f{n}:\n{stack}r1 = r10\nr1 += -8\ncall f{}\n{END}", n + 1)
    });
    let last = waiting(size).replace("r0 = 0", "r0 = 1");
    format!("{frames}f7:\nr6 = r1\n{}{}", full_stack(), last)
}

/// Each frame passes on pointers into those before it. The last one writes into all of them, and
/// after two jumps and eight instructions the state is kept.
fn own_frames(size: u64) -> String {
    let start = repeated(5, |n| format!("r{} = 0\n", n + 1));
    let frames =
        repeated(5, |n| format!("f{n}:\n{}r{} = r10\ncall f{}\n{END}", full_stack(), n + 1, n + 1));
    let writes = repeated(size / 8, |n| {
        let stores = repeated(5, |n| format!("*(u64 *)(r{} -64) = r6\n", n + 1));
        format!("r6 = {n}\n{stores}if r7 != 0 goto pc+1\nif r7 == 0 goto pc+0\n")
    });
    format!("{start}{frames}f5:\n{}r7 = 0\n{writes}{END}", full_stack())
}

fn paths(size: u64) -> String {
    let forks = repeated(size / 4, |n| {
        format!("{RANDOM}if r0 > {n} goto l{n}\nr6 += {}\nl{n}:\nr6 <<= 1\n", n + 1)
    });
    format!("r6 = 0\n{forks}r7 = *(u8 *)(r10 -1)\nr7 += r6\n{END}")
}

fn endless(size: u64) -> String {
    let body = repeated(size.min(2_000), |n| format!("r{} += {n}\n", 6 + n % 3));
    let start = "r6 = 0\nr7 = 0\nr8 = 0\nr9 = 0\n";
    format!("{start}loop:\n{body}r9 += 1\nif r9 != -1 goto loop\n{END}")
}

fn nested(size: u64) -> String {
    let times = size.min(1_000);
    let heads = repeated(4, |n| format!("r{} = 0\nloop{n}:\n", 6 + n));
    let ends = repeated(4, |n| {
        let (reg, head) = (9 - n, 3 - n);
        format!("r{reg} += 1\nif r{reg} < {times} goto loop{head}\n")
    });
    format!("{heads}{RANDOM}if r0 > 7 goto pc+1\nr0 = 0\n{ends}{END}")
}

fn history(size: u64) -> String {
    let spills = repeated(size / 3, |n| {
        let slot = 8 * (n % 60 + 1);
        format!("*(u64 *)(r10 -{slot}) = r0\nr0 = *(u64 *)(r10 -{slot})\nr0 += {n}\n")
    });
    format!(
        "{RANDOM}r0 &= 1\n{spills}r1 = r10\nr1 += -8\nr0 &= 0\nr1 += r0\n*(u8 *)(r1 +0) = 1\n{END}"
    )
}

fn links(size: u64) -> String {
    let copies = repeated(9, |n| format!("r{} = r0\nr{} += {n}\n", n + 1, n + 1));
    let spills = repeated(60, |n| format!("*(u64 *)(r10 -{}) = r{}\n", 8 * (n + 1), n % 10));
    let learnt = repeated(size / 2, |n| {
        let fills = format!("r{} = *(u64 *)(r10 -{})\n", n % 10, 8 * (n % 60 + 1));
        format!("{fills}if r{} > {} goto out\n", n % 10, size - n + 100)
    });
    format!("r0 = *(u64 *)(r10 -8)\n{copies}{spills}{learnt}out:\n{END}")
}

fn functions(size: u64) -> String {
    let count = size.clamp(1, 300);
    let calls = repeated(count, |n| format!("call f{n}\n"));
    let bodies = repeated(count, |n| format!("f{n}:\nr0 = {n}\nexit\n"));
    format!("{calls}exit\n{bodies}")
}

fn calls(size: u64) -> String {
    let frames = repeated(6, |n| {
        let calls = repeated(size.min(64), |_| format!("call f{}\n", n + 1));
        format!("f{n}:\n{RANDOM}if r0 > 5 goto m{n}\n{calls}m{n}:\n{END}")
    });
    format!("{frames}f6:\n{}", waiting(size.min(100)))
}
