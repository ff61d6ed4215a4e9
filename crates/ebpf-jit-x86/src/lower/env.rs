//! The fields of the run's environment, as code reaches them.

use core::mem::offset_of;

use ebpf_isa::Size;
use ebpf_isa::abi::{ExecEnv, Window};

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
pub(super) const REGIONS: Mem = field(offset_of!(ExecEnv, regions));
pub(super) const REGION_COUNT: Mem = field(offset_of!(ExecEnv, region_count));
pub(super) const PACKET: Mem = field(offset_of!(ExecEnv, packet));
pub(super) const PACKET_LEN: Mem = field(offset_of!(ExecEnv, packet_len));
pub(super) const MAY_GOTO: Mem = field(offset_of!(ExecEnv, may_goto));
pub(super) const UNWIND: Mem = field(offset_of!(ExecEnv, unwind));
pub(super) const ENDED: Mem = field(offset_of!(ExecEnv, ended));
pub(super) const STACK_LOW: Mem = field(offset_of!(ExecEnv, stack_low));
pub(super) const STACK_HIGH: Mem = field(offset_of!(ExecEnv, stack_high));
pub(super) const STACK_ROOM: Mem = field(offset_of!(ExecEnv, stack_room));
pub(super) const ALLOWANCE: Mem = field(offset_of!(ExecEnv, allowance));
pub(super) const ALLOWED: Mem = field(offset_of!(ExecEnv, allowed));
pub(super) const STOP_CELL: Mem = field(offset_of!(ExecEnv, stop_cell));
pub(super) const DEPTH: Mem = field(offset_of!(ExecEnv, depth));
pub(super) const IN_PLACE: Mem = field(offset_of!(ExecEnv, in_place));

/// A region of memory that was hit lately, as code reaches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WindowFields(usize);

impl WindowFields {
    pub(super) const READABLE: Self = Self(offset_of!(ExecEnv, readable));
    pub(super) const WRITABLE: Self = Self(offset_of!(ExecEnv, writable));
    pub(super) const fn base(self) -> Mem {
        field(self.0 + offset_of!(Window, base))
    }

    /// The number of addresses from the base on that accesses of this size may start at.
    pub(super) const fn starts(self, size: Size) -> Mem {
        field(self.0 + offset_of!(Window, starts) + 8 * size.bytes().trailing_zeros() as usize)
    }
}
