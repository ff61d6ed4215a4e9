//! Which forms instructions have: the same operation with the same kinds of operands.

use ebpf_runtime::isa::uapi::HelperId;
use ebpf_runtime::isa::{
    CallTarget, Imm64, Insn, MapIdx, Operand, Pc, RawInsn, Reg, WideSource, decode,
};

/// An instruction that stands for all that differ from it in registers, offsets and values only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Form(Insn);

impl Form {
    /// The form of an instruction.
    pub(crate) fn of(insn: Insn) -> Self {
        let target = Pc::ENTRY;
        let (dst, lhs, base, off) = (Reg::R1, Reg::R1, Reg::R1, 0);
        let reg = Reg::R2;
        Self(match insn {
            Insn::Alu { op, width, src, .. } => Insn::Alu { op, width, dst, src: operand(src) },
            Insn::Mov { width, src, .. } => Insn::Mov { width, dst, src: operand(src) },
            Insn::MovSx { width, from, .. } => Insn::MovSx { width, dst, src: reg, from },
            Insn::Neg { width, .. } => Insn::Neg { width, dst },
            Insn::Swap { order, size, .. } => Insn::Swap { order, size, dst },
            Insn::AddrSpaceCast { .. } => Insn::AddrSpaceCast { dst, src: reg, to: 1, from: 0 },
            Insn::LoadWide { source, .. } => Insn::LoadWide { dst, source: wide(source) },
            Insn::Load { size, extend, .. } => Insn::Load { size, extend, dst, base: reg, off },
            Insn::Store { size, src, .. } => Insn::Store { size, base, off, src: operand(src) },
            Insn::Atomic { op, size, fetch, .. } => {
                Insn::Atomic { op, size, fetch, base, off, src: reg }
            }
            Insn::LoadAcquire { size, .. } => Insn::LoadAcquire { size, dst, base: reg, off },
            Insn::StoreRelease { size, .. } => Insn::StoreRelease { size, base, off, src: reg },
            Insn::LoadPacket { size, index, .. } => {
                Insn::LoadPacket { size, index: index.map(|_| reg), imm: 1 }
            }
            Insn::Jump { long, .. } => Insn::Jump { target, long },
            Insn::Branch { op, width, rhs, .. } => {
                Insn::Branch { op, width, lhs, rhs: operand(rhs), target }
            }
            Insn::MayGoto { .. } => Insn::MayGoto { target },
            Insn::Call(callee) => Insn::Call(match callee {
                CallTarget::Helper(_) => CallTarget::Helper(HelperId(1)),
                CallTarget::Subprog(_) => CallTarget::Subprog(target),
                CallTarget::Kfunc { .. } => CallTarget::Kfunc { btf_id: 1, module: 0 },
                CallTarget::Reg(_) => CallTarget::Reg(reg),
                CallTarget::Native(_) => CallTarget::Native(1),
            }),
            Insn::Exit => Insn::Exit,
        })
    }

    /// The instruction that stands for the form.
    pub(crate) fn insn(self) -> Insn {
        self.0
    }

    /// Every form that there is: those of all slots that decode, for every opcode and all values of
    /// the fields that select something.
    pub(crate) fn all() -> Vec<Self> {
        let mut forms = Vec::new();
        for opcode in 0..=u8::MAX {
            let mut of_opcode = Vec::new();
            for (src, off, imm) in selectors() {
                let slots = [RawInsn { opcode, dst: 0, src, off, imm }, RawInsn::default()];
                let Ok(decoded) = decode(&slots, Pc::ENTRY) else { continue };
                let form = Self::of(decoded.insn);
                if !of_opcode.contains(&form) {
                    of_opcode.push(form);
                }
            }
            forms.extend(of_opcode);
        }
        forms
    }
}

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.text(Pc::ENTRY).fmt(f)
    }
}

/// Values of `src`, `off` and `imm` among which every one is that selects a variant: kinds of calls
/// and wide loads; signed divisions, sign extensions and casts; atomic operations and sizes of byte
/// swaps.
fn selectors() -> impl Iterator<Item = (u8, i16, i32)> {
    let with_off = |src| (0..=64).map(move |off| (src, off));
    let with_imm = |(src, off)| (0..0x200).map(move |imm| (src, off, imm));
    (0..=10).flat_map(with_off).flat_map(with_imm)
}

fn operand(operand: Operand) -> Operand {
    match operand {
        Operand::Reg(_) => Operand::Reg(Reg::R2),
        Operand::Imm(_) => Operand::Imm(1),
    }
}

fn wide(source: WideSource) -> WideSource {
    let map = MapIdx(0);
    match source {
        WideSource::Imm(_) => WideSource::Imm(Imm64::new(1)),
        WideSource::Map(_, form) => WideSource::Map(map, form),
        WideSource::MapValue(_, _, form) => WideSource::MapValue(map, 0, form),
        WideSource::Btf { .. } => WideSource::Btf { id: 1, module: 0 },
        WideSource::Func(_) => WideSource::Func(Pc::ENTRY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2 widths × (13 binary operations × 2 operand forms + 2 moves + 1 negation), 5 sign
    /// extensions, 9 byte swaps, 1 cast; 2 × 11 × 2 branches, 2 jumps, `may_goto`, 4 calls, exit;
    /// 7 wide loads, 6 packet loads, 7 loads, 8 stores; 2 × (4 × 2 + 2) atomic operations, 4
    /// load-acquires, 4 store-releases.
    #[test]
    fn the_forms_are_as_many_as_the_tables_make() {
        let arithmetic = 2 * (13 * 2 + 3) + 5 + 9 + 1;
        let jumps = 2 * 11 * 2 + 2 + 1 + 4 + 1;
        let memory = 7 + 6 + 7 + 8 + 2 * (4 * 2 + 2) + 4 + 4;
        assert_eq!(Form::all().len(), arithmetic + jumps + memory);
    }

    #[test]
    fn a_form_stands_for_itself() {
        for form in Form::all() {
            assert_eq!(Form::of(form.insn()), form);
        }
    }
}
