//! Packet loads (RFC 9669, section 5.5), from the packet in the environment.

use ebpf_isa::{Extend, Pc, Reg, Size, Width};

use super::Lowering;
use super::env::{PACKET, PACKET_LEN};
use crate::emitter::{Arith, Cond};
use crate::encode::Mem;
use crate::regs::{Gpr, SCRATCH};

/// Emits `r0 = *(size *)skb[index + imm]`; a packet that is too short returns 0 from the current
/// function.
pub(super) fn load(lowering: &mut Lowering<'_>, pc: Pc, size: Size, index: Option<Reg>, imm: i32) {
    let [end, offset, ..] = SCRATCH;
    let r0 = Gpr::from(Reg::R0);
    let e = &mut *lowering.emitter;
    match index {
        Some(index) => {
            e.mov(Width::W32, offset, index.into());
            e.arith_imm(Arith::Add, Width::W32, offset, imm);
        }
        None => e.mov_imm(offset, u64::from(imm.cast_unsigned())),
    }
    // The offset has 32 bits, so that its end cannot wrap.
    e.lea(Width::W64, end, Mem { base: offset, disp: size.bytes().into() });
    e.arith_load(Arith::Cmp, Width::W64, end, PACKET_LEN);
    let inside = e.skip(Some(Cond::BelowEqual));
    e.mov_imm(r0, 0);
    let pending = lowering.pending();
    lowering.exit(pc);
    lowering.set_pending(Some(pending));
    let e = &mut *lowering.emitter;
    e.land(inside);
    e.arith_load(Arith::Add, Width::W64, offset, PACKET);
    lowering.check_read(pc, size, offset);
    let e = &mut *lowering.emitter;
    e.load(Extend::Zero, size, r0, Mem { base: offset, disp: 0 });
    // What was loaded is zero-extended already.
    match size {
        Size::B => {}
        Size::H => e.rol16_by_8(r0),
        Size::W => e.bswap(Width::W32, r0),
        Size::Dw => e.bswap(Width::W64, r0),
    }
}
