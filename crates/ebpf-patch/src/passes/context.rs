//! Conversion of accesses to a context: from how programs see it to how the host lays it out.
//!
//! Programs are compiled against a context of the kernel's ABI. The host keeps the same values its
//! own way: a 32-bit field may stand for a 64-bit pointer, or for a few bits of a word.

use ebpf_isa::{AluOp, Extend, Insn, Operand, Pc, Reg, Size, Width};

use crate::{Patch, PatchError};

/// Where the host keeps what programs see as a field of their context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostField {
    /// Where programs see it: offset into their context in bytes.
    pub seen_at: u16,
    /// Where programs see it: width. An access of this width gives the whole value, even if the host's
    /// is wider; a narrower one gives those of its bytes.
    pub seen_size: Size,
    /// Where the host has it: offset from what the program's context pointer holds.
    pub off: i16,
    /// Where the host has it: width of the word that it is in.
    pub size: Size,
    /// The lowest of its bits in that word.
    pub shift: u8,
    /// How many bits of that word it is, at least 1.
    pub bits: u8,
}

/// Why an access to the context cannot be converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// The instruction is no load or store, is edited already, or does not access that field.
    #[error("insn {pc}: no load or store inside of the context field at offset {seen_at}")]
    NoAccess {
        /// The instruction.
        pc: Pc,
        /// The field.
        seen_at: u16,
    },
    /// The field has no bits, or some that its word does not have.
    #[error("insn {pc}: bits {shift}..{shift}+{bits} are not those of a field of the host")]
    NoSuchBits {
        /// The instruction.
        pc: Pc,
        /// [`HostField::shift`].
        shift: u8,
        /// [`HostField::bits`].
        bits: u8,
    },
    /// A store to a part of the field, or to one that the host keeps at another width.
    #[error("insn {pc}: a store to the context must be of a whole field that the host has alike")]
    PartialStore {
        /// The instruction.
        pc: Pc,
    },
    /// The converted access does not fit into the program.
    #[error(transparent)]
    Patch(#[from] PatchError),
}

impl HostField {
    /// A field that is a word of the host's.
    #[must_use]
    pub const fn whole(seen_at: u16, seen_size: Size, off: i16, size: Size) -> Self {
        Self { seen_at, seen_size, off, size, shift: 0, bits: size.bits() }
    }

    /// The access to the host's context that stands for `access`, a load or store at `pc` of the field as
    /// programs see it, wholly or in part. No other registers are used than the access has.
    ///
    /// # Errors
    /// See [`ContextError`]; `pc` is for them alone.
    #[inline]
    pub fn converted(
        &self,
        pc: Pc,
        access: Insn,
    ) -> Result<impl Iterator<Item = Insn> + use<>, ContextError> {
        let &Self { seen_at, size: word, shift, bits, off: host_off, .. } = self;
        if bits == 0 || u16::from(shift) + u16::from(bits) > u16::from(word.bits()) {
            return Err(ContextError::NoSuchBits { pc, shift, bits });
        }
        let no_access = ContextError::NoAccess { pc, seen_at };
        let insns = match access {
            Insn::Load { size, extend, dst, base, off } => {
                let part = self.part(off, size).ok_or(no_access)?;
                let off = host_off;
                let load = Insn::Load { size: word, extend: Extend::Zero, dst, base, off };
                let [first, second] = extract(dst, word, part);
                [Some(load), first, second, sign_extension(dst, extend, size)]
            }
            Insn::Store { size, base, off, src } => {
                let part = self.part(off, size).ok_or(no_access)?;
                if size != word || part != (0, word.bits()) {
                    return Err(ContextError::PartialStore { pc });
                }
                [Some(Insn::Store { size, base, off: host_off, src }), None, None, None]
            }
            _ => return Err(no_access),
        };
        Ok(insns.into_iter().flatten())
    }

    /// Which bits of the word an access at `off` gives: the lowest, and how many.
    fn part(&self, off: i16, size: Size) -> Option<(u8, u8)> {
        let skipped = u8::try_from(i32::from(off) - i32::from(self.seen_at)).ok()?;
        if skipped.checked_add(size.bytes())? > self.seen_size.bytes() {
            return None;
        }
        if size == self.seen_size {
            return Some((self.shift, self.bits));
        }
        let (skipped, bits) = (8 * skipped, size.bits());
        Some((self.shift + skipped, bits.min(self.bits.saturating_sub(skipped))))
    }
}

/// Puts an access to the host's context in the place of the load or store at `pc`, which accesses the
/// field as programs see it, wholly or in part. No other registers are used than the access has.
///
/// Bytes are counted from the lowest, as on little-endian machines.
///
/// # Errors
/// See [`ContextError`]. Nothing is changed then.
pub fn convert_context_access(
    patch: &mut Patch<'_>,
    pc: Pc,
    field: &HostField,
) -> Result<(), ContextError> {
    let access = patch.get(pc).ok_or(ContextError::NoAccess { pc, seen_at: field.seen_at })?;
    Ok(patch.replace(pc, field.converted(pc, access)?)?)
}

/// Takes these bits of the word in `reg`: the lowest, and how many.
fn extract(reg: Reg, word: Size, (shift, bits): (u8, u8)) -> [Option<Insn>; 2] {
    let alu =
        |op, imm: i32| Some(Insn::Alu { op, width: Width::W64, dst: reg, src: Operand::Imm(imm) });
    match (shift, bits) {
        (_, 0) => [alu(AluOp::And, 0), None],
        (0, _) if bits == word.bits() => [None, None],
        (0, ..32) => [alu(AluOp::And, i32::MAX >> (31 - bits)), None],
        _ if shift + bits == word.bits() => [alu(AluOp::Rsh, shift.into()), None],
        _ => [alu(AluOp::Lsh, i32::from(64 - shift - bits)), alu(AluOp::Rsh, i32::from(64 - bits))],
    }
}

fn sign_extension(reg: Reg, extend: Extend, size: Size) -> Option<Insn> {
    let narrow = extend == Extend::Sign && size != Size::Dw;
    narrow.then_some(Insn::MovSx { width: Width::W64, dst: reg, src: reg, from: size })
}
