//! Byte order conversions. The machine is little-endian: `le` only clears what is above, `be` and
//! `bswap` are the same.

use ebpf_isa::{ByteOrder, Extend, Size, Width};

use crate::emitter::Emitter;
use crate::regs::Gpr;

pub(super) fn swap(e: &mut Emitter, order: ByteOrder, size: Size, dst: Gpr) {
    match (order, size) {
        (ByteOrder::Le, _) | (_, Size::B) => zero_extend(e, size, dst),
        (ByteOrder::Be | ByteOrder::Swap, Size::H) => {
            e.rol16_by_8(dst);
            zero_extend(e, size, dst);
        }
        (ByteOrder::Be | ByteOrder::Swap, Size::W) => e.bswap(Width::W32, dst),
        (ByteOrder::Be | ByteOrder::Swap, Size::Dw) => e.bswap(Width::W64, dst),
    }
}

fn zero_extend(e: &mut Emitter, size: Size, reg: Gpr) {
    e.mov_extend(Extend::Zero, size, Width::W64, reg, reg);
}
