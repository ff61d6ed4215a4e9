//! Loads, stores, atomic operations, packet loads.

use core::sync::atomic::{Ordering, fence};

use ebpf_isa::abi::TrapKind;
use ebpf_isa::{AtomicOp, ByteOrder, Insn, Pc, Reg, Size, semantics};

use super::Next;
use crate::memory::{self, Place};
use crate::state::{Fault, State};

impl State<'_> {
    pub(super) fn access(&mut self, insn: Insn) -> Result<(), Fault> {
        match insn {
            Insn::Load { size, extend, dst, base, off } => {
                let value = self.read(base, off, size)?;
                self.set(dst, semantics::extend(extend, size, value));
            }
            Insn::Store { size, base, off, src } => {
                let value = self.operand(src);
                self.place(base, off, size)?.store(value);
            }
            // Fences order more than these instructions have to; on x86-64 they cost nothing.
            Insn::LoadAcquire { size, dst, base, off } => {
                let value = self.read(base, off, size)?;
                check_aligned(self.address(base, off), size)?;
                fence(Ordering::Acquire);
                self.set(dst, value);
            }
            Insn::StoreRelease { size, base, off, src } => {
                let place = self.place(base, off, size)?;
                check_aligned(self.address(base, off), size)?;
                fence(Ordering::Release);
                place.store(self.get(src));
            }
            Insn::Atomic { op, size, fetch, base, off, src } => {
                let place = self.place(base, off, size)?;
                check_aligned(self.address(base, off), size)?;
                let old = place.atomic(op, self.get(src), self.get(Reg::R0));
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
    #[allow(unsafe_code, reason = "the packet is in the environment")]
    pub(super) fn load_packet(
        &mut self,
        pc: Pc,
        size: Size,
        index: Option<Reg>,
        imm: i32,
    ) -> Result<Next, Fault> {
        let index = index.map_or(0, |reg| self.get(reg) as u32);
        let offset = u64::from(index.wrapping_add_signed(imm));
        // SAFETY: the environment is lent to the run.
        let (packet, len) = unsafe { ((*self.env).packet, (*self.env).packet_len) };
        if offset + u64::from(size.bytes()) > len {
            self.set(Reg::R0, 0);
            return self.exit(pc);
        }
        let addr = (packet.expose_provenance() as u64).wrapping_add(offset);
        let value = match self.memory {
            // SAFETY: a verifier saw to it that the packet is there.
            None => unsafe { Place::new(addr, size) }.load(),
            Some(memory) => {
                let region = memory::find(&self.stack_region(), memory, addr, size);
                region.map_err(|kind| (kind, addr))?.load(addr, size)
            }
        };
        self.set(Reg::R0, semantics::swap(ByteOrder::Be, size, value));
        Ok(Next::Insn)
    }

    fn address(&self, base: Reg, off: i16) -> u64 {
        self.get(base).wrapping_add_signed(i64::from(off))
    }

    /// Reads `size` bytes at `base + off`, zero-extended. The region that they are in is the window
    /// of `base` from now on.
    #[allow(unsafe_code, reason = "verified programs touch what they may")]
    fn read(&mut self, base: Reg, off: i16, size: Size) -> Result<u64, Fault> {
        let addr = self.address(base, off);
        let Some(memory) = self.memory else {
            // SAFETY: a verifier saw to it that the bytes may be read.
            return Ok(unsafe { Place::new(addr, size) }.load());
        };
        let stack = self.stack_region();
        let found = memory::find(&stack, memory, addr, size).map_err(|kind| (kind, addr))?;
        if memory::HAS_MACHINE_ACCESS || found.is_writable() {
            let slot = self.vm.slots.of(base);
            self.windows_mut().fill(slot, found.region());
        }
        Ok(found.load(addr, size))
    }

    /// The `size` bytes at `base + off`, for writing; likewise.
    #[allow(unsafe_code, reason = "verified programs touch what they may")]
    fn place(&mut self, base: Reg, off: i16, size: Size) -> Result<Place, Fault> {
        let addr = self.address(base, off);
        let Some(memory) = self.memory else {
            // SAFETY: a verifier saw to it that the bytes may be written.
            return Ok(unsafe { Place::new(addr, size) });
        };
        let stack = self.stack_region();
        let found = memory::find(&stack, memory, addr, size).map_err(|kind| (kind, addr))?;
        let slot = self.vm.slots.of(base);
        self.windows_mut().fill(slot, found.region());
        found.place(addr, size).map_err(|kind| (kind, addr))
    }
}

fn check_aligned(addr: u64, size: Size) -> Result<(), Fault> {
    if memory::is_aligned(addr, size) { Ok(()) } else { Err((TrapKind::Misaligned, addr)) }
}
