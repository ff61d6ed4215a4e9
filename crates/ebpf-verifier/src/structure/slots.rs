//! Slots that may be no program: what the kernel says of them before it explores anything, in its
//! order: subprograms, jumps, wide loads and opcodes, reachability.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use ebpf_isa::opcode::{
    CLASS_MASK, Class, MODE_MASK, Mode, OPERATION_MASK, SOURCE_REG, call, jump, wide,
};
use ebpf_isa::uapi::HelperId;
use ebpf_isa::{DecodeError, MapIdx, Pc, RawInsn, decode};

use super::{Located, check_kfunc, check_map};
use crate::environment::Environment;
use crate::error::{ErrorCode, Payload, Rejection};

/// Opcode of a wide load.
pub(crate) const WIDE_LOAD: u8 = 0x18;

/// Checks slots as far as the kernel does before it explores a program. `map_of` says which
/// map the wide load at a position names, if it names one that there is.
///
/// Slots that pass can still be malformed: most of what an instruction must not have in a field is
/// only looked at where a path leads to it.
///
/// # Errors
/// What the kernel complains about first.
pub fn check_slots(
    slots: &[RawInsn],
    map_of: &dyn Fn(Pc) -> Option<MapIdx>,
    env: &Environment,
) -> Result<(), Box<Rejection>> {
    check(slots, map_of, env).map_err(|(fault, pc)| Box::new(Rejection::of_slots(*fault, pc)))
}

fn check(
    slots: &[RawInsn],
    map_of: &dyn Fn(Pc) -> Option<MapIdx>,
    env: &Environment,
) -> Result<(), Located> {
    let max = env.profile.max_slots as usize;
    if slots.is_empty() || slots.len() > max {
        return Err((Payload::LimitSlots { slots: slots.len(), max }.into(), None));
    }
    // Its callback is a subprogram that no slot refers to.
    if env.has_exception_callback() {
        return Ok(());
    }
    let starts = subprogram_starts(slots, env)?;
    check_jumps(slots, &starts)?;
    if env.btf.is_none() {
        check_ends(slots, &starts)?;
    }
    check_opcodes(slots, map_of, env)?;
    check_reachable(slots)
}

fn fault(index: usize, payload: impl Into<Box<Payload>>) -> Located {
    (payload.into(), Some(at(index)))
}

fn at(index: usize) -> Pc {
    Pc(u32::try_from(index).unwrap_or(u32::MAX))
}

fn class(slot: RawInsn) -> u8 {
    slot.opcode & CLASS_MASK
}

fn is_jump_class(slot: RawInsn) -> bool {
    class(slot) == Class::Jmp.code() || class(slot) == Class::Jmp32.code()
}

fn operation(slot: RawInsn) -> u8 {
    slot.opcode & OPERATION_MASK
}

/// Whether it is a call; the second slot of a wide load counts as well if it looks like one.
fn is_call(slot: RawInsn) -> bool {
    slot.opcode == Class::Jmp.code() | jump::CALL
}

/// How far from the next slot a slot refers to a subprogram, if it does.
fn subprogram_offset(slot: RawInsn) -> Option<i64> {
    let refers = (is_call(slot) && slot.src == call::SUBPROG)
        || (slot.opcode == WIDE_LOAD && slot.src == wide::FUNC);
    refers.then_some(slot.imm.into())
}

/// The slot so far behind the one after `index`, if it is there.
fn target(slots: &[RawInsn], index: usize, offset: i64) -> Option<usize> {
    let target = usize::try_from(index as i64 + 1 + offset).ok()?;
    (target < slots.len()).then_some(target)
}

/// First slots of all subprograms, in order.
fn subprogram_starts(slots: &[RawInsn], env: &Environment) -> Result<Vec<usize>, Located> {
    let max = env.profile.max_subprograms;
    let mut starts = vec![0];
    for (index, &slot) in slots.iter().enumerate() {
        if is_call(slot) && slot.src == call::KFUNC {
            check_kfunc(env, slot.imm.cast_unsigned(), slot.off)
                .map_err(|cause| (cause, Some(at(index))))?;
            continue;
        }
        let Some(offset) = subprogram_offset(slot) else { continue };
        let start = target(slots, index, offset)
            .ok_or_else(|| fault(index, Payload::CallRange { offset }))?;
        let Err(place) = starts.binary_search(&start) else { continue };
        if starts.len() >= max as usize {
            return Err(fault(index, Payload::LimitSubprograms { max }));
        }
        starts.insert(place, start);
    }
    Ok(starts)
}

/// The offset of a jump; `None` for what is none.
fn jump_offset(slot: RawInsn) -> Option<i64> {
    let is_jump = is_jump_class(slot) && !matches!(operation(slot), jump::EXIT | jump::CALL);
    let is_long = slot.opcode == Class::Jmp32.code() | jump::JA;
    is_jump.then_some(if is_long { slot.imm.into() } else { slot.off.into() })
}

/// Jumps stay in their subprogram, which ends in a jump or an exit.
fn check_jumps(slots: &[RawInsn], starts: &[usize]) -> Result<(), Located> {
    let ends = starts.iter().skip(1).copied().chain([slots.len()]);
    for (start, end) in starts.iter().copied().zip(ends) {
        for (index, &slot) in slots.iter().enumerate().take(end).skip(start) {
            if let Some(offset) = jump_offset(slot) {
                let target = index as i64 + 1 + offset;
                if !(start as i64..end as i64).contains(&target) {
                    return Err(fault(index, Payload::JumpRange { from: at(index), target }));
                }
            }
        }
        let ends_well = [
            Class::Jmp.code() | jump::EXIT,
            Class::Jmp.code() | jump::JA,
            Class::Jmp32.code() | jump::JA,
        ];
        if !ends_well.contains(&slots[end - 1].opcode) {
            return Err(fault(end - 1, Payload::NoExit));
        }
    }
    Ok(())
}

/// Functions without types do not end the program, neither by a packet load nor by a tail call.
fn check_ends(slots: &[RawInsn], starts: &[usize]) -> Result<(), Located> {
    let ends = starts.iter().skip(2).copied().chain([slots.len()]);
    for (start, end) in starts.iter().skip(1).copied().zip(ends) {
        let find = |is_wanted: fn(RawInsn) -> bool| (start..end).find(|&at| is_wanted(slots[at]));
        if let Some(at) = find(is_packet_load) {
            return Err(fault(at, Payload::UntypedPacketLoad));
        }
        if let Some(at) = find(is_tail_call) {
            return Err(fault(at, Payload::UntypedTailCall));
        }
    }
    Ok(())
}

fn is_packet_load(slot: RawInsn) -> bool {
    let mode = slot.opcode & MODE_MASK;
    class(slot) == Class::Ld.code() && (mode == Mode::Abs.code() || mode == Mode::Ind.code())
}

fn is_tail_call(slot: RawInsn) -> bool {
    is_call(slot) && slot.src == call::HELPER && slot.imm.cast_unsigned() == HelperId::TAIL_CALL.0
}

/// Wide loads are whole and name what there is; opcodes are known.
fn check_opcodes(
    slots: &[RawInsn],
    map_of: &dyn Fn(Pc) -> Option<MapIdx>,
    env: &Environment,
) -> Result<(), Located> {
    let mut index = 0;
    while let Some(&slot) = slots.get(index) {
        if class(slot) == Class::Ldx.code() {
            let mode = slot.opcode & MODE_MASK;
            if (mode != Mode::Mem.code() && mode != Mode::MemSx.code()) || slot.imm != 0 {
                return Err(fault(index, Payload::ReservedFields { opcode: slot.opcode }));
            }
        }
        if slot.opcode == WIDE_LOAD {
            check_wide(slots, index, map_of, env)?;
            index += 1;
        } else if !is_known(slot.opcode) {
            return Err(fault(index, Payload::UnknownOpcode { opcode: slot.opcode }));
        }
        index += 1;
    }
    Ok(())
}

fn check_wide(
    slots: &[RawInsn],
    index: usize,
    map_of: &dyn Fn(Pc) -> Option<MapIdx>,
    env: &Environment,
) -> Result<(), Located> {
    let slot = slots[index];
    let rest =
        slots.get(index + 1).filter(|&&next| (RawInsn { imm: 0, ..next }) == RawInsn::default());
    let Some(rest) = rest else {
        return Err(fault(index, Payload::HalfWideLoad));
    };
    let value_off = match slot.src {
        wide::IMM | wide::BTF_ID | wide::FUNC => return Ok(()),
        wide::MAP_VALUE_FD | wide::MAP_VALUE_IDX => Some(rest.imm.cast_unsigned()),
        wide::MAP_FD | wide::MAP_IDX if rest.imm == 0 => None,
        src => return Err(fault(index, Payload::WideLoadSource { src })),
    };
    let missing = || fault(index, Payload::MapDescriptor { fd: slot.imm });
    let map = map_of(at(index)).ok_or_else(missing)?;
    match check_map(env, map, value_off) {
        // A program with something that is not known may still be refused for what comes later.
        Err(payload) if payload.code() != ErrorCode::Unsupported => Err(fault(index, payload)),
        _ => Ok(()),
    }
}

/// Whether some instruction of the kernel has this opcode. It has no calls through registers.
fn is_known(opcode: u8) -> bool {
    if opcode == Class::Jmp.code() | jump::CALL | SOURCE_REG {
        return false;
    }
    let is_atomic = opcode & (CLASS_MASK | MODE_MASK) == Class::Stx.code() | Mode::Atomic.code();
    let alone = [RawInsn { opcode, ..RawInsn::default() }];
    is_atomic || !matches!(decode(&alone, Pc::ENTRY), Err(DecodeError::UnknownOpcode { .. }))
}

/// Some path leads to every instruction, and none into the middle of a wide load.
fn check_reachable(slots: &[RawInsn]) -> Result<(), Located> {
    let reached = reached(slots)?;
    let mut index = 0;
    while let Some(&slot) = slots.get(index) {
        if !reached[index] {
            return Err(fault(index, Payload::CfgUnreachable { insn: at(index) }));
        }
        if slot.opcode == WIDE_LOAD {
            if reached.get(index + 1).copied().unwrap_or(false) {
                return Err(fault(index, Payload::JumpIntoWideLoad { wide_load: at(index) }));
            }
            index += 1;
        }
        index += 1;
    }
    Ok(())
}

/// By slot: whether a path leads to it.
fn reached(slots: &[RawInsn]) -> Result<Vec<bool>, Located> {
    let mut reached = vec![false; slots.len()];
    let mut waiting = vec![0];
    while let Some(index) = waiting.pop() {
        if core::mem::replace(&mut reached[index], true) {
            continue;
        }
        let slot = slots[index];
        if let Some(offset) = subprogram_offset(slot).or_else(|| jump_offset(slot)) {
            waiting.extend(target(slots, index, offset));
        }
        let is_long_or_short_ja = jump_offset(slot).is_some() && operation(slot) == jump::JA;
        let is_exit = is_jump_class(slot) && operation(slot) == jump::EXIT;
        if is_long_or_short_ja || is_exit {
            continue;
        }
        let next = index + if slot.opcode == WIDE_LOAD { 2 } else { 1 };
        if next >= slots.len() {
            let target = next as i64;
            return Err(fault(index, Payload::JumpRange { from: at(index), target }));
        }
        waiting.push(next);
    }
    Ok(reached)
}
