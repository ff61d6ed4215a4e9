//! The kernel's words for payloads, where they are more than a pattern with numbers in it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use ebpf_isa::opcode::{CLASS_MASK, Class, OPERATION_MASK, jump, unary};
use ebpf_isa::uapi::{HelperId, MapType};
use ebpf_isa::{AluOp, Reg};

use super::{
    ArgumentRule, ArithmeticRule, BadSize, Extreme, FarOffset, Held, LockFault, Misplaced, Payload,
    Region, StackAccess,
};
use crate::domain::Tnum;
use crate::kfunc::ObjectType;
use crate::rules::{CALLBACK_RANGE, ExitRange, Object};

impl Payload {
    /// What the kernel says on the lines before its last one, where it says more than one.
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        match *self {
            Self::MemoryBounds {
                region: Region::MapValue { value_size, .. },
                extreme: Extreme::Least | Extreme::Greatest,
                off,
                size,
                ..
            } => Some(format!(
                "invalid access to map value, value_size={value_size} off={off} size={size}"
            )),
            Self::MemoryBounds {
                region: Region::MapKey { key_size },
                extreme: Extreme::Least | Extreme::Greatest,
                off,
                size,
                ..
            } => Some(format!(
                "invalid access to map key, key_size={key_size} off={off} size={size}"
            )),
            Self::MemoryBounds {
                region: Region::Ringbuf { size: mem_size } | Region::Argument { size: mem_size },
                extreme: Extreme::Least | Extreme::Greatest,
                off,
                size,
                ..
            } => {
                Some(format!("invalid access to memory, mem_size={mem_size} off={off} size={size}"))
            }
            Self::HelperMap { map_type: MapType::Sockmap | MapType::Sockhash, helper }
                if [HelperId::MAP_UPDATE_ELEM, HelperId::MAP_DELETE_ELEM].contains(&helper) =>
            {
                Some("cannot update sockmap in this context".into())
            }
            Self::StackObject { ref fault } => fault.misplaced().map(misplaced),
            Self::ReferenceLeak { ref held, .. } => {
                let line = |&Held { id, acquired_at }: &Held| {
                    format!("Unreleased reference id={id} alloc_insn={acquired_at}")
                };
                Some(held.iter().map(line).collect::<Vec<_>>().join("\n"))
            }
            Self::ContextArgument { ref target, fault, .. } => {
                Some(format!("func '{target}' {fault}"))
            }
            Self::KfuncBuffer { ref cause, .. } | Self::KfuncBufferAbove { ref cause, .. } => {
                Some(format!("{cause}"))
            }
            Self::GlobalArguments { ref cause, .. }
            | Self::GlobalArgumentMoved { ref cause, .. } => {
                let before = cause.detail().map_or(String::new(), |detail| detail + "\n");
                Some(format!("{before}{cause}"))
            }
            Self::Lock { fault: LockFault::GlobalCall } => {
                Some("global function calls are not allowed while holding a lock,".into())
            }
            Self::GlobalSleeps { .. } => Some(
                "global functions that may sleep are not allowed in non-sleepable context,\n\
                 i.e., in a RCU/IRQ/preempt-disabled section, or in"
                    .into(),
            ),
            Self::PacketBounds { register, id, off, size, range } => {
                let number = register.number();
                Some(format!(
                    "invalid access to packet, off={off} size={size}, \
                     R{number}(id={id},off={off},r={range})"
                ))
            }
            _ => None,
        }
    }
}

/// A variable offset: a number if it is constant.
pub(super) fn var_off(var: Tnum) -> String {
    match var.as_const() {
        Some(value) => match u16::try_from(value) {
            Ok(small) => format!("{small}"),
            Err(_) => format!("{value:#x}"),
        },
        None => format!("{var}"),
    }
}

/// What the kernel calls instructions with this opcode where one has something in a field that it
/// does not use.
pub(super) fn instruction(opcode: u8) -> &'static str {
    let (class, operation) = (opcode & CLASS_MASK, opcode & OPERATION_MASK);
    let is_alu = class == Class::Alu.code() || class == Class::Alu64.code();
    match operation {
        unary::NEG if is_alu => "BPF_NEG",
        unary::END if is_alu => "BPF_END",
        unary::MOV if is_alu => "BPF_MOV",
        _ if is_alu => "BPF_ALU",
        _ if class == Class::St.code() => "BPF_ST",
        _ if class == Class::Stx.code() => "BPF_STX",
        _ if class == Class::Ldx.code() => "BPF_LDX",
        _ if opcode == crate::structure::WIDE_LOAD => "BPF_LD_IMM64",
        _ if class == Class::Ld.code() => "BPF_LD_[ABS|IND]",
        jump::JA => "BPF_JA",
        jump::CALL => "BPF_CALL",
        jump::EXIT => "BPF_EXIT",
        _ => "BPF_JMP/JMP32",
    }
}

/// The operator: the kernel does not tell signed division from unsigned.
const fn operator(op: AluOp) -> &'static str {
    match op {
        AluOp::SDiv => AluOp::Div.mnemonic(),
        AluOp::SMod => AluOp::Mod.mnemonic(),
        _ => op.mnemonic(),
    }
}

pub(super) fn arithmetic(op: AluOp, kind: &str, rule: ArithmeticRule) -> String {
    let operator = operator(op);
    match rule {
        ArithmeticRule::Narrow => "32-bit pointer arithmetic prohibited".into(),
        ArithmeticRule::MayBeNull => {
            format!("pointer arithmetic on {kind} prohibited, null-check it first")
        }
        ArithmeticRule::Kind => format!("pointer arithmetic on {kind} prohibited"),
        ArithmeticRule::FromNumber => "tried to subtract pointer from scalar".into(),
        ArithmeticRule::FromStack => "subtraction from stack pointer prohibited".into(),
        ArithmeticRule::Operator if matches!(op, AluOp::And | AluOp::Or | AluOp::Xor) => {
            format!("bitwise operator {operator} on pointer prohibited")
        }
        ArithmeticRule::Operator => {
            format!("pointer arithmetic with {operator} operator prohibited")
        }
        ArithmeticRule::TwoPointers => format!("pointer {operator} pointer prohibited"),
    }
}

pub(super) fn far_offset(kind: &str, offset: FarOffset) -> String {
    match offset {
        FarOffset::Number(by) => format!("math between {kind} pointer and {by} is not allowed"),
        FarOffset::Constant(off) => format!("{kind} pointer offset {off} is not allowed"),
        FarOffset::Unbounded => format!(
            "math between {kind} pointer and register with unbounded min value is not allowed"
        ),
        FarOffset::Least(min) => format!("value {min} makes {kind} pointer be out of bounds"),
    }
}

/// A register that is not what a prototype says.
pub(super) fn argument(register: Reg, rule: ArgumentRule) -> String {
    let number = register.number();
    // The kernel counts arguments from 0.
    let argument = number - 1;
    match rule {
        ArgumentRule::Number => format!("R{number} is not a scalar"),
        ArgumentRule::Context => format!("arg#{argument} expects pointer to ctx"),
        ArgumentRule::Dynptr => {
            format!("arg#{argument} expected pointer to stack or const struct bpf_dynptr")
        }
        ArgumentRule::NotNull => format!("arg#{argument} is expected to be non-NULL"),
    }
}

pub(super) const fn extreme(extreme: Extreme) -> &'static str {
    match extreme {
        Extreme::Negative => {
            "min value is negative, either use unsigned index or do a if (index >=0) check."
        }
        Extreme::Least => "min value is outside of the allowed memory range",
        Extreme::Greatest => "max value is outside of the allowed memory range",
    }
}

pub(super) fn misaligned(
    memory: Option<&str>,
    start: u8,
    var: Tnum,
    off: i32,
    insn_off: i16,
    size: u8,
) -> String {
    let (memory, blank) = memory.map_or(("", ""), |memory| (memory, " "));
    let start = if start == 0 { String::new() } else { format!("{start}+") };
    let var = var_off(var);
    format!("misaligned {memory}{blank}access off {start}{var}+{off}+{insn_off} size {size}")
}

/// A pointer that is not as the program got it.
fn misplaced(place: Misplaced) -> String {
    let Misplaced { object, off } = place;
    match off {
        Some(off) => format!("cannot pass in {object} at an offset={off}"),
        None => format!("{object} has to be at a constant offset"),
    }
}

pub(super) fn modified(register: Reg, kind: &str, off: i32, var: Tnum) -> String {
    let number = register.number();
    match off {
        ..0 => format!("negative offset {kind} ptr R{number} off={off} disallowed"),
        1.. => format!("dereference of modified {kind} ptr R{number} off={off} disallowed"),
        0 => format!("variable {kind} access var_off={} disallowed", var_off(var)),
    }
}

pub(super) fn object(register: Reg, object: Object, write: bool, off: i32, size: u8) -> String {
    let (number, name) = (register.number(), object.name());
    match object.is_memory() {
        true => format!("invalid access to flow keys off={off} size={size}"),
        false if write => format!("R{number} cannot write into {name}"),
        false => format!("R{number} invalid {name} access off={off} size={size}"),
    }
}

pub(super) const fn atomic_verb(write: bool) -> &'static str {
    if write { "stores into" } else { "loads from" }
}

pub(super) fn map_forbidden(write: bool, value_size: u32, off: i64, size: i64) -> String {
    let verb = if write { "write into" } else { "read from" };
    format!("{verb} map forbidden, value_size={value_size} off={off} size={size}")
}

pub(super) fn stack_unbounded(register: Reg, write: bool) -> String {
    let (verb, number) = (stack_verb(write), register.number());
    format!("invalid unbounded variable-offset {verb} stack R{number}")
}

pub(super) const fn stack_verb(write: bool) -> &'static str {
    if write { "write to" } else { "read from" }
}

pub(super) fn stack(access: &StackAccess) -> String {
    let StackAccess { register, write, lowest, off, var_off: var, size } = *access;
    let (number, verb) = (register.number(), stack_verb(write));
    match var.as_const() {
        Some(_) => format!("invalid {verb} stack R{number} off={lowest} size={size}"),
        None => format!(
            "invalid variable-offset {verb} stack R{number} var_off={} off={off} size={size}",
            var_off(var)
        ),
    }
}

pub(super) fn exit_value(smin: i64, smax: i64, allowed: ExitRange) -> String {
    returned_value("program exit", smin, smax, allowed)
}

pub(super) fn callback_value(smin: i64, smax: i64) -> String {
    returned_value("callback return", smin, smax, CALLBACK_RANGE)
}

fn returned_value(at: &str, smin: i64, smax: i64, allowed: ExitRange) -> String {
    format!("At {at} the register R0 {}", value_outside(smin, smax, allowed))
}

pub(super) fn tail_call_stack(bytes: u32) -> String {
    format!(
        "tail_calls are not allowed when call stack of previous frames is {bytes} bytes. Too large"
    )
}

pub(super) fn no_stack_slot(slot: usize, slots: usize) -> String {
    format!(
        "verifier bug: stack slot {slot}, total slots {slots} \
         (i >= func->allocated_stack / BPF_REG_SIZE)"
    )
}

/// A number that is not where it should be.
pub(super) fn value_outside(smin: i64, smax: i64, allowed: ExitRange) -> String {
    let mut has = String::new();
    if smin > i64::MIN {
        has += &format!(" smin={smin}");
    }
    if smax < i64::MAX {
        has += &format!(" smax={smax}");
    }
    if has.is_empty() {
        has += " unknown scalar value";
    }
    let ExitRange { min, max } = allowed;
    format!("has{has} should have been in [{min}, {max}]")
}

pub(super) fn helper_map(helper: HelperId, map_type: MapType) -> String {
    match helper {
        HelperId::TAIL_CALL => "expected prog array map for tail call".into(),
        _ => format!("cannot pass map_type {} into func {helper}", map_type.number()),
    }
}

pub(super) fn bad_size(register: Reg, bad: BadSize) -> String {
    let number = register.number();
    match bad {
        BadSize::Negative { .. } => {
            format!("R{number} min value is negative, either use unsigned or 'var &= const'")
        }
        BadSize::Zero => "invalid zero-sized read".into(),
        BadSize::MayBeZero { max } => {
            format!("R{number} invalid zero-sized read: u64=[0,{}]", max.cast_signed())
        }
        BadSize::Unbounded { .. } => {
            format!("R{number} unbounded memory access, use 'var &= const' or 'if (var < const)'")
        }
    }
}

/// A pointer into the stack at a variable offset, given to a helper that takes none.
pub(super) fn stack_variable(var: Tnum, off: i64, size: u8) -> String {
    let var = var_off(var);
    format!(
        "variable offset stack pointer cannot be passed into helper function; \
         var_off={var} off={off} size={size}"
    )
}

pub(super) fn release_moved(register: Reg) -> String {
    let number = register.number();
    format!("R{number} must have zero offset when passed to release func or trusted arg to kfunc")
}

/// An object of another type than the one that a function takes.
pub(super) fn object_type(
    function: &str,
    argument: usize,
    wanted: &ObjectType,
    found: &str,
) -> String {
    format!(
        "kernel function {function} args#{argument} expected pointer to STRUCT {} \
         but R{} has a pointer to STRUCT {found}",
        wanted.name(),
        argument + 1
    )
}

/// What a pointer argument would have to point to.
pub(super) fn pointer_argument(argument: usize, wanted: Option<&ObjectType>) -> String {
    let (kind, name) = wanted.map_or(("UNKNOWN", ""), |ty| ("STRUCT", ty.name()));
    format!("arg#{argument} pointer type {kind} {name} must point to scalar, or struct with scalar")
}
