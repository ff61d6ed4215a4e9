//! Loads and stores, and wide loads of values and symbols.

use ebpf_image::Symbol;
use ebpf_isa::{Extend, Insn, Operand, Reg, WideSource};

use super::Lowering;
use crate::emitter::Emitter;
use crate::encode::Mem;
use crate::regs::Gpr;

/// `[base + off]`
pub(super) fn address(base: Reg, off: i16) -> Mem {
    Mem { base: base.into(), disp: off.into() }
}

/// Emits a load or store; does nothing for other instructions.
///
/// On x86-64 every load acquires and every store releases: loads are not reordered with later
/// accesses, nor stores with earlier ones (Intel SDM, volume 3, "Memory Ordering").
#[inline]
pub(super) fn access(e: &mut Emitter, insn: Insn) {
    match insn {
        Insn::Load { size, extend, dst, base, off } => {
            e.load(extend, size, dst.into(), address(base, off));
        }
        Insn::LoadAcquire { size, dst, base, off } => {
            e.load(Extend::Zero, size, dst.into(), address(base, off));
        }
        Insn::Store { size, base, off, src: Operand::Imm(imm) } => {
            e.store_imm(size, address(base, off), imm);
        }
        Insn::Store { size, base, off, src: Operand::Reg(src) }
        | Insn::StoreRelease { size, base, off, src } => {
            e.store(size, address(base, off), src.into());
        }
        _ => {}
    }
}

/// Emits a wide load.
///
/// # Errors
/// What the symbol is of, in words, if it cannot be loaded: a kind that images do not know.
pub(super) fn load_wide(
    lowering: &mut Lowering<'_>,
    dst: Gpr,
    source: WideSource,
) -> Result<(), &'static str> {
    let e = &mut *lowering.emitter;
    match source {
        WideSource::Imm(imm) => e.mov_imm(dst, imm.get()),
        WideSource::Map(map, _) => e.mov_address(dst, Symbol::Map(map.0)),
        WideSource::MapValue(map, offset, _) => {
            e.mov_address(dst, Symbol::MapValue { map: map.0, offset });
        }
        WideSource::Func(pc) => lowering.take_address(dst, lowering.program.subprog_of(pc)),
        WideSource::Btf { .. } => return Err("the address of a kernel variable"),
    }
    Ok(())
}
