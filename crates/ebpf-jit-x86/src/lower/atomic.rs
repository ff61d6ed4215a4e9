//! Atomic read-modify-write, with the machine's locked instructions.

use ebpf_isa::{AtomicOp, Reg, Size, Width};

use super::memory;
use crate::emitter::{Arith, Cond, Emitter};
use crate::encode::Mem;
use crate::regs::{Gpr, SCRATCH};

/// What an atomic operation works on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operands {
    width: Width,
    mem: Mem,
    src: Gpr,
}

impl Operands {
    /// `None` for sizes that BPF has no atomic operations of.
    pub(super) fn new(size: Size, base: Reg, off: i16, src: Reg) -> Option<Self> {
        let width = match size {
            Size::W => Width::W32,
            Size::Dw => Width::W64,
            Size::B | Size::H => return None,
        };
        Some(Self { width, mem: memory::address(base, off), src: src.into() })
    }
}

pub(super) fn atomic(e: &mut Emitter, op: AtomicOp, fetch: bool, operands: Operands) {
    let Operands { width, mem, src } = operands;
    match (op, fetch) {
        (AtomicOp::Add, false) => e.lock_arith(Arith::Add, width, mem, src),
        (AtomicOp::Or, false) => e.lock_arith(Arith::Or, width, mem, src),
        (AtomicOp::And, false) => e.lock_arith(Arith::And, width, mem, src),
        (AtomicOp::Xor, false) => e.lock_arith(Arith::Xor, width, mem, src),
        (AtomicOp::Add, true) => e.lock_xadd(width, mem, src),
        (AtomicOp::Or, true) => fetch_with_loop(e, Arith::Or, operands),
        (AtomicOp::And, true) => fetch_with_loop(e, Arith::And, operands),
        (AtomicOp::Xor, true) => fetch_with_loop(e, Arith::Xor, operands),
        (AtomicOp::Xchg, _) => e.xchg(width, mem, src),
        (AtomicOp::Cmpxchg, _) => {
            e.lock_cmpxchg(width, mem, src);
            if width == Width::W32 {
                // On success the machine leaves rax alone; BPF zero-extends the old value.
                e.mov(Width::W32, Gpr::Rax, Gpr::Rax);
            }
        }
    }
}

/// Operations that the machine does not fetch with: compare and exchange until nobody was faster.
fn fetch_with_loop(e: &mut Emitter, op: Arith, Operands { width, mem, src }: Operands) {
    let [new, old_rax, _] = SCRATCH;
    // rax takes part in the exchange: operands that live there move.
    let moved = |reg| if reg == Gpr::Rax { old_rax } else { reg };
    let mem = Mem { base: moved(mem.base), ..mem };
    let operand = moved(src);
    let size = match width {
        Width::W32 => Size::W,
        Width::W64 => Size::Dw,
    };
    e.mov(Width::W64, old_rax, Gpr::Rax);
    e.load(ebpf_isa::Extend::Zero, size, Gpr::Rax, mem);
    let again = e.here();
    e.mov(width, new, Gpr::Rax);
    e.arith(op, width, new, operand);
    e.lock_cmpxchg(width, mem, new);
    e.repeat(Some(Cond::NotEqual), again);
    if src != Gpr::Rax {
        e.mov(Width::W64, src, Gpr::Rax);
        e.mov(Width::W64, Gpr::Rax, old_rax);
    }
}
