//! The fields of the run's environment, as code reaches them.

use core::mem::offset_of;

use ebpf_isa::abi::ExecEnv;

use crate::encode::Mem;
use crate::regs::ENV;

const fn field(offset: usize) -> Mem {
    Mem { base: ENV, disp: offset as i32 }
}

pub(super) const FUEL: Mem = field(offset_of!(ExecEnv, fuel));
pub(super) const TAIL_CALLS: Mem = field(offset_of!(ExecEnv, tail_calls));
pub(super) const TRAP_KIND: Mem = field(offset_of!(ExecEnv, trap.kind));
pub(super) const TRAP_PC: Mem = field(offset_of!(ExecEnv, trap.pc));
pub(super) const TRAP_ADDR: Mem = field(offset_of!(ExecEnv, trap.addr));
pub(super) const PACKET: Mem = field(offset_of!(ExecEnv, packet));
pub(super) const PACKET_LEN: Mem = field(offset_of!(ExecEnv, packet_len));
pub(super) const MAY_GOTO: Mem = field(offset_of!(ExecEnv, may_goto));
pub(super) const CHECK: Mem = field(offset_of!(ExecEnv, check));
pub(super) const UNWIND: Mem = field(offset_of!(ExecEnv, unwind));
pub(super) const ENDED: Mem = field(offset_of!(ExecEnv, ended));
pub(super) const STACK_LOW: Mem = field(offset_of!(ExecEnv, stack_low));
pub(super) const STACK_HIGH: Mem = field(offset_of!(ExecEnv, stack_high));
pub(super) const UNCHARGED: Mem = field(offset_of!(ExecEnv, uncharged));
pub(super) const DEPTH: Mem = field(offset_of!(ExecEnv, depth));
pub(super) const IN_PLACE: Mem = field(offset_of!(ExecEnv, in_place));
