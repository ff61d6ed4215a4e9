//! Classic filters from any bytes and any text, and generated ones: whatever is no filter is refused,
//! and whatever is one says the same in the classic interpreter, in the eBPF interpreter and in
//! machine code, on any packet.

use ebpf_runtime::classic::explain::{Subject, explain};
use ebpf_runtime::classic::seccomp::{SeccompData, SeccompFilter};
use ebpf_runtime::classic::text::{self, Form};
use ebpf_runtime::classic::{
    Ancillary, Filter, Insn, LINK_OFFSET, NETWORK_OFFSET, Op, Packet, SockFilter, Src, Target, Var,
};
use ebpf_runtime::filter::{FilterError, PacketFilter};
use ebpf_runtime::isa::AluOp;
use ebpf_runtime::isa::abi::ExecEnv;
use ebpf_runtime::seccomp::SeccompProgram;
use ebpf_runtime::verifier::ErrorCode;
use ebpf_runtime::{Engine, LoadError, Runtime};
use ebpf_testkit::{Rng, fixtures_dir};

use super::{Case, mutate};
use crate::error::TaskError;

const FORMS: [Form; 5] =
    [Form::Listing, Form::C, Form::Decimal, Form::DecimalComma, Form::Assembly];
const TARGETS: [Target; 4] = [Target::SchedCls, Target::Xdp, Target::SocketFilter, Target::Flat];

pub(super) fn prepare() -> Result<Case, TaskError> {
    let runtime = Runtime::new().map_err(|error| TaskError::Failed(error.to_string()))?;
    let texts = texts()?;
    Ok(Box::new(move |rng| {
        let program = match rng.range(0..4) {
            0 => from_text(rng, &texts)?,
            1 => from_bytes(rng, &texts),
            _ => generated(rng),
        };
        let Ok(filter) = Filter::new(program) else { return Ok(()) };
        let wrong = |wrong| format!("{wrong}, of\n{}", text::display(filter.original(), Form::C));
        judged(rng, &runtime, &filter).map_err(wrong)
    }))
}

/// The filters of the fixtures, in all their forms.
fn texts() -> Result<Vec<String>, TaskError> {
    let dir = fixtures_dir().join("classic");
    let mut texts = Vec::new();
    for name in ["port_22", "ssh_payload"] {
        for form in ["txt", "dd", "ddd"] {
            let path = dir.join(name).with_extension(form);
            let text = std::fs::read_to_string(&path);
            texts.push(text.map_err(|error| TaskError::file(&path, error))?);
        }
    }
    let program = text::parse(&texts[0]).map_err(|error| TaskError::Failed(error.to_string()))?;
    texts.extend(
        [Form::Assembly, Form::DecimalComma].map(|form| text::display(&program, form).to_string()),
    );
    Ok(texts)
}

/// A program of changed text. What is read is the same after it was written.
fn from_text(rng: &mut Rng, texts: &[String]) -> Result<Vec<SockFilter>, String> {
    let text = match rng.range(0..4) {
        0 => rng.bytes(rng.clone().range(0..200) as usize),
        _ => mutate(rng, rng.clone().pick(texts).as_bytes()),
    };
    let text = String::from_utf8_lossy(&text);
    let Ok(program) = text::parse(&text) else { return Ok(Vec::new()) };
    for form in [Form::C, Form::Decimal, Form::DecimalComma] {
        let written = text::display(&program, form).to_string();
        if text::parse(&written).as_ref() != Ok(&program) {
            return Err(format!("another program after\n{written}\nfrom\n{text}"));
        }
    }
    Ok(program)
}

/// A program of changed instructions.
fn from_bytes(rng: &mut Rng, texts: &[String]) -> Vec<SockFilter> {
    let program = text::parse(rng.pick::<String>(texts)).unwrap_or_default();
    let mut bytes: Vec<u8> = program.iter().flat_map(|insn| insn.to_ne_bytes()).collect();
    if rng.chance(1, 4) {
        bytes = rng.bytes(bytes.len());
    } else {
        for _ in 0..rng.range(1..4) {
            let at = rng.range(0..bytes.len() as u64) as usize;
            bytes[at] = rng.next_u64() as u8;
        }
    }
    bytes.truncate(rng.range(0..bytes.len() as u64 + 1) as usize / 8 * 8);
    bytes.extend(SockFilter::new(Op::RetA.code(), 0).to_ne_bytes());
    let program = SockFilter::all_from_ne_bytes(&bytes).unwrap_or_default();
    for form in FORMS {
        // Any instruction can be shown.
        let _ = text::display(&program, form).to_string();
    }
    program
}

/// A program that passes the checker.
fn generated(rng: &mut Rng) -> Vec<SockFilter> {
    let ops: Vec<Op> = (0..0x100).filter_map(Op::from_code).collect();
    let mut program: Vec<SockFilter> =
        (0..4).map(|cell| SockFilter::new(Op::Store(Var::A).code(), cell)).collect();
    for _ in 0..rng.range(1..24) {
        let op = *rng.pick(&ops);
        // Few ends, or hardly anything is run.
        if !op.is_return() || rng.chance(1, 4) {
            program.push(insn(rng, op));
        }
    }
    program.extend((0..4).map(|k| SockFilter::new(Op::RetK.code(), k)));
    program.push(SockFilter::new(Op::RetA.code(), 0));
    program
}

fn insn(rng: &mut Rng, op: Op) -> SockFilter {
    let number = number(rng);
    let k = match op {
        Op::Jump => number % 4,
        Op::LoadMem(_) | Op::Store(_) => number % 4,
        Op::Alu(AluOp::Lsh | AluOp::Rsh, Src::K) => number % 32,
        Op::Alu(AluOp::Div | AluOp::Mod, Src::K) => number.max(1),
        Op::LoadAbs(_) | Op::LoadInd(_) | Op::LoadMsh => offset(rng),
        _ => number,
    };
    let (jt, jf) = match op {
        Op::Branch(..) => (rng.range(0..5) as u8, rng.range(0..5) as u8),
        _ => (0, 0),
    };
    SockFilter { code: op.code(), jt, jf, k }
}

fn number(rng: &mut Rng) -> u32 {
    match rng.range(0..12) {
        0 => rng.next_u64() as u32,
        1 => *rng.pick(&[0xff, 0x100, 0x0101, 0x10_0000, 0x8000_0000, u32::MAX]),
        2 => rng.pick(&[LINK_OFFSET, NETWORK_OFFSET, 0]).wrapping_add(rng.range(0..70) as u32),
        _ => rng.range(0..5) as u32,
    }
}

fn offset(rng: &mut Rng) -> u32 {
    match rng.range(0..24) {
        0 => rng.next_u64() as u32 & !0x8000_0000,
        1 => LINK_OFFSET + rng.range(0..70) as u32,
        2 => NETWORK_OFFSET + rng.range(0..70) as u32,
        5 => (rng.range(0..70) as u32).wrapping_neg(),
        3 => 0xffff_f000 + 4 * rng.range(0..16) as u32,
        4 => rng.range(0xffe0..0x1_0010) as u32,
        _ => rng.range(0..70) as u32,
    }
}

/// Runs a filter in every way, and explains it.
fn judged(rng: &mut Rng, runtime: &Runtime, filter: &Filter) -> Result<(), String> {
    let subject = *rng.pick(&[Subject::Packet, Subject::SystemCall]);
    let _ = explain(filter, subject, 50).to_string();
    if let Ok(filter) = SeccompFilter::new(filter.clone()) {
        system_calls(rng, runtime, &filter)?;
    }
    if filter.insns().contains(&Insn::LoadAncillary(Ancillary::Random)) {
        return Ok(());
    }
    let target = *rng.pick(&TARGETS);
    let load = |engine| PacketFilter::load(runtime, filter, target, engine);
    let loaded = [load(Engine::Interp), load(Engine::Jit)];
    let mut judges = Vec::new();
    for judge in loaded {
        match judge {
            Ok(judge) => judges.push(judge),
            Err(error) if is_expected(&error) => return Ok(()),
            Err(error) => return Err(format!("{target}: {error}")),
        }
    }
    for _ in 0..4 {
        let bytes = packet(rng);
        let mut packet = Packet::new(&bytes);
        // What only traffic control can find.
        packet.network_header = (target == Target::SchedCls).then_some(14);
        (packet.metadata.ifindex, packet.metadata.mark) = (rng.range(0..2) as u32, 7);
        let expected = filter.run(&packet);
        for (judge, name) in judges.iter().zip(["interp", "jit"]) {
            let value = judge.run(&packet, &mut ExecEnv::new());
            if value != Ok(expected) {
                let len = bytes.len();
                return Err(format!(
                    "{target}, {name}: {value:x?}, not {expected:#x} on {len} bytes"
                ));
            }
        }
    }
    Ok(())
}

/// Whether a filter may be refused so: it asks for what the target does not have, or has more ways
/// than the verifier follows.
fn is_expected(error: &FilterError) -> bool {
    match error {
        FilterError::Convert(_) | FilterError::Header { .. } => true,
        FilterError::Load(LoadError::Rejected(rejection)) => {
            rejection.code == ErrorCode::LimitProcessed
        }
        _ => false,
    }
}

fn system_calls(rng: &mut Rng, runtime: &Runtime, filter: &SeccompFilter) -> Result<(), String> {
    for engine in [Engine::Interp, Engine::Jit] {
        let program = SeccompProgram::load(runtime, filter, engine);
        let program = program.map_err(|error| error.to_string())?;
        let args = [0; 6].map(|_: u64| u64::from(number(rng)));
        let data = SeccompData { nr: number(rng).cast_signed(), args, ..SeccompData::default() };
        let (value, expected) = (program.run(&data, &mut ExecEnv::new()), filter.run(&data));
        if value != Ok(expected) {
            return Err(format!("seccomp, {}: {value:x?}, not {expected:#x}", engine.name()));
        }
    }
    Ok(())
}

/// Up to 64 KiB, of few different bytes.
fn packet(rng: &mut Rng) -> Vec<u8> {
    let len = match rng.range(0..12) {
        0 => rng.range(0..0x1_0000),
        1 => *rng.pick(&[0xfffe, 0xffff]),
        _ => rng.range(0..80),
    };
    let mut bytes = rng.bytes(len as usize);
    bytes.iter_mut().for_each(|byte| *byte %= 5);
    bytes
}
