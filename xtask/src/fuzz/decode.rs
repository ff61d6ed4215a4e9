//! Bytes as instructions: what decodes encodes to the same bytes, and its listing is the program.

use ebpf_runtime::isa::text::assemble;
use ebpf_runtime::isa::{Pc, Program, RawInsn, decode, encode};
use ebpf_testkit::Rng;

use super::Case;
use crate::error::TaskError;

pub(super) fn prepare() -> Result<Case, TaskError> {
    Ok(Box::new(case))
}

fn case(rng: &mut Rng) -> Result<(), String> {
    let mut slots: Vec<RawInsn> = (0..rng.range(1..12)).map(|_| slot(rng)).collect();
    for at in 0..slots.len() {
        one_insn(&slots, Pc(at as u32))?;
    }
    slots.push(RawInsn { opcode: 0x95, ..RawInsn::default() });
    // With so many ways to go wrong, whole programs come from those slots that decode.
    let mut at = 0;
    while at < slots.len() {
        match decode(&slots, Pc(at as u32)) {
            Ok(decoded) => at = decoded.next.index(),
            Err(_) => drop(slots.remove(at)),
        }
    }
    match Program::from_slots(&slots) {
        Ok(program) => whole(&program, &slots),
        Err(_) => Ok(()),
    }
}

fn one_insn(slots: &[RawInsn], at: Pc) -> Result<(), String> {
    let Ok(decoded) = decode(slots, at) else { return Ok(()) };
    let (first, second) = encode(decoded.insn, at).map_err(|error| error.to_string())?;
    let encoded: Vec<RawInsn> = [first].into_iter().chain(second).collect();
    if encoded == slots[at.index()..decoded.next.index()] {
        return Ok(());
    }
    Err(format!("{:?} becomes {encoded:?}", &slots[at.index()..decoded.next.index()]))
}

fn whole(program: &Program, slots: &[RawInsn]) -> Result<(), String> {
    if program.to_slots().as_deref() != Ok(slots) {
        return Err(format!("{:?} instead of {slots:?}", program.to_slots()));
    }
    let listing = program.listing().to_string();
    match assemble(&listing) {
        Ok(again) if again == *program => Ok(()),
        Ok(_) => Err(format!("another program after\n{listing}")),
        Err(error) => Err(format!("{error}, in\n{listing}")),
    }
}

/// Any slot, or one that often decodes: few bits outside of the opcode.
fn slot(rng: &mut Rng) -> RawInsn {
    if rng.chance(1, 8) {
        return RawInsn::from_bytes(rng.next_u64().to_le_bytes());
    }
    let small = |rng: &mut Rng| match rng.range(0..6) {
        0 => rng.next_u64() as i32,
        1 => rng.range(0..0x120) as i32,
        2 => *rng.pick(&[1, -1, 8, 16, 32, 64, i32::MIN, i32::MAX]),
        _ => 0,
    };
    RawInsn {
        opcode: rng.next_u64() as u8,
        dst: rng.range(0..12) as u8,
        src: if rng.chance(1, 2) { 0 } else { rng.range(0..12) as u8 },
        off: small(rng) as i16,
        imm: small(rng),
    }
}
