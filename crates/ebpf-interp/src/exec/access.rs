//! Loads, stores, atomic operations, packet loads.

use core::sync::atomic::{Ordering, fence};

use ebpf_isa::abi::TrapKind;
use ebpf_isa::{AtomicOp, ByteOrder, Insn, Reg, Size, semantics};

use super::{Fault, Next, Run};
use crate::memory::{self, Access};

impl<A: Access> Run<'_, A> {
    pub(super) fn memory(&mut self, insn: Insn) -> Result<(), Fault> {
        match insn {
            Insn::Load { size, extend, dst, base, off } => {
                let value = self.read(self.address(base, off), size)?;
                self.set(dst, semantics::extend(extend, size, value));
            }
            Insn::Store { size, base, off, src } => {
                let (addr, value) = (self.address(base, off), self.operand(src));
                self.access.place(addr, size).map_err(|kind| (kind, addr))?.store(value);
            }
            // Fences order more than these instructions have to; on x86-64 they cost nothing.
            Insn::LoadAcquire { size, dst, base, off } => {
                let addr = self.address(base, off);
                let value = self.read(addr, size)?;
                check_aligned(addr, size)?;
                fence(Ordering::Acquire);
                self.set(dst, value);
            }
            Insn::StoreRelease { size, base, off, src } => {
                let addr = self.address(base, off);
                let place = self.access.place(addr, size).map_err(|kind| (kind, addr))?;
                check_aligned(addr, size)?;
                fence(Ordering::Release);
                place.store(self.reg(src));
            }
            Insn::Atomic { op, size, fetch, base, off, src } => {
                let addr = self.address(base, off);
                let place = self.access.place(addr, size).map_err(|kind| (kind, addr))?;
                check_aligned(addr, size)?;
                let old = place.atomic(op, self.reg(src), self.reg(Reg::R0));
                match op {
                    AtomicOp::Cmpxchg => self.set(Reg::R0, old),
                    _ if fetch => self.set(src, old),
                    _ => {}
                }
            }
            other => unreachable!("{other:?} was refused when the program was linked"),
        }
        Ok(())
    }

    /// Reads the packet at `imm` plus the low half of `index`; where the packet is too short, the
    /// function returns 0.
    pub(super) fn load_packet(
        &mut self,
        size: Size,
        index: Option<Reg>,
        imm: i32,
    ) -> Result<Next, Fault> {
        let index = index.map_or(0, |reg| self.reg(reg) as u32);
        let offset = u64::from(index.wrapping_add_signed(imm));
        if offset + u64::from(size.bytes()) > self.env.packet_len {
            self.set(Reg::R0, 0);
            return self.exit();
        }
        let packet = self.env.packet.expose_provenance() as u64;
        let value = self.read(packet.wrapping_add(offset), size)?;
        self.set(Reg::R0, semantics::swap(ByteOrder::Be, size, value));
        Ok(Next::Insn)
    }

    fn address(&self, base: Reg, off: i16) -> u64 {
        self.reg(base).wrapping_add_signed(i64::from(off))
    }

    fn read(&self, addr: u64, size: Size) -> Result<u64, Fault> {
        self.access.read(addr, size).map_err(|kind| (kind, addr))
    }
}

fn check_aligned(addr: u64, size: Size) -> Result<(), Fault> {
    if memory::is_aligned(addr, size) { Ok(()) } else { Err((TrapKind::Misaligned, addr)) }
}
