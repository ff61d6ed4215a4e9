//! A stack frame's memory: slots of eight bytes, each byte of a kind, with at most one register
//! spilled into a slot.

use alloc::vec::Vec;

use super::value::Value;
use crate::domain::Scalar;
use ebpf_isa::abi::STACK_SIZE;

/// Bytes of a slot.
const SLOT: usize = 8;

/// The place of a byte in a frame, below the frame pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StackOff(i16);

impl StackOff {
    /// `off` counts from the frame pointer; `None` unless it is in `-512..0`.
    pub(crate) fn new(off: i64) -> Option<Self> {
        if (-(STACK_SIZE as i64)..0).contains(&off) { Some(Self(off as i16)) } else { None }
    }

    /// Bytes from here to the frame pointer.
    pub(crate) fn depth(self) -> u16 {
        self.0.unsigned_abs()
    }

    /// Index of the slot, from the top of the stack down.
    fn slot(self) -> usize {
        (-i32::from(self.0) - 1) as usize / SLOT
    }

    /// Place of the byte in its slot, from the lowest address up.
    pub(crate) fn in_slot(self) -> usize {
        i32::from(self.0).rem_euclid(SLOT as i32) as usize
    }
}

/// What is known of a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ByteKind {
    /// Never written.
    Invalid,
    /// Written with something.
    Misc,
    /// Zero.
    Zero,
    /// Part of the spilled register, which starts at the lowest byte of the slot.
    Spill,
}

/// Eight bytes of stack.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    bytes: [ByteKind; SLOT],
    /// The register of which the bytes of kind `Spill` are the low part; meaningless without any.
    spill: Value,
}

impl Slot {
    const INVALID: Self = Self { bytes: [ByteKind::Invalid; SLOT], spill: Value::Uninit };

    /// The spilled register.
    pub(crate) fn spilled(&self) -> Option<&Value> {
        (self.spill_size() > 0).then_some(&self.spill)
    }

    pub(super) fn spilled_mut(&mut self) -> Option<&mut Value> {
        (self.spill_size() > 0).then_some(&mut self.spill)
    }

    /// How many bytes of the register the slot holds.
    pub(crate) fn spill_size(&self) -> usize {
        self.bytes.iter().take_while(|&&byte| byte == ByteKind::Spill).count()
    }

    /// Whether these bytes are all zero, apart from a spilled register.
    pub(crate) fn are_zero(&self, from: usize, count: usize) -> bool {
        self.bytes.iter().skip(from).take(count).all(|&byte| byte == ByteKind::Zero)
            && from + count <= SLOT
    }

    /// Puts the low `size` bytes of a register into the lowest bytes.
    pub(crate) fn set_spill(&mut self, value: Value, size: usize) {
        for (index, byte) in self.bytes.iter_mut().enumerate() {
            *byte = match *byte {
                _ if index < size => ByteKind::Spill,
                kept @ (ByteKind::Invalid | ByteKind::Zero) => kept,
                ByteKind::Misc | ByteKind::Spill => ByteKind::Misc,
            };
        }
        self.spill = value;
    }

    /// Forgets a spilled register: its bytes hold something.
    fn scrub(&mut self) {
        if self.spill_size() == 0 {
            return;
        }
        for byte in &mut self.bytes {
            if *byte != ByteKind::Invalid {
                *byte = ByteKind::Misc;
            }
        }
        self.spill = Value::Uninit;
    }

    /// Stores bytes that are no register.
    pub(crate) fn set_bytes(&mut self, from: usize, count: usize, zero: bool) {
        self.scrub();
        let kind = if zero { ByteKind::Zero } else { ByteKind::Misc };
        self.bytes.iter_mut().skip(from).take(count).for_each(|byte| *byte = kind);
    }

    /// A store that may or may not hit this byte.
    fn may_store(&mut self, at: usize, zero: bool) {
        let keeps_zero = self.bytes[at] == ByteKind::Spill && self.spill.is_zero();
        if zero && keeps_zero {
            return;
        }
        let was_zero = self.bytes[at] == ByteKind::Zero;
        self.scrub();
        self.bytes[at] = if zero && was_zero { ByteKind::Zero } else { ByteKind::Misc };
    }

    /// Something else writes this byte.
    fn clobber(&mut self, at: usize) {
        self.scrub();
        self.bytes[at] = ByteKind::Misc;
    }
}

/// The memory of a frame. Slots that were never touched are not there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stack {
    /// From the top of the stack down.
    slots: Vec<Slot>,
}

impl Stack {
    pub(super) fn slots_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.slots.iter_mut()
    }

    /// The slot with this byte.
    pub(crate) fn slot(&self, off: StackOff) -> Slot {
        self.slots.get(off.slot()).copied().unwrap_or(Slot::INVALID)
    }

    /// The slot with this byte, for writing.
    pub(crate) fn slot_mut(&mut self, off: StackOff) -> &mut Slot {
        let index = off.slot();
        if self.slots.len() <= index {
            self.slots.resize(index + 1, Slot::INVALID);
        }
        &mut self.slots[index]
    }

    /// Whether all these bytes are known to be zero and belong to no spilled register.
    pub(crate) fn all_zero(&self, mut offs: impl Iterator<Item = StackOff>) -> bool {
        offs.all(|off| self.slot(off).are_zero(off.in_slot(), 1))
    }

    /// A store somewhere into these bytes.
    pub(crate) fn may_store(&mut self, offs: impl Iterator<Item = StackOff>, zero: bool) {
        offs.for_each(|off| self.slot_mut(off).may_store(off.in_slot(), zero));
    }

    /// A helper that writes into these bytes.
    pub(crate) fn clobber(&mut self, offs: impl Iterator<Item = StackOff>) {
        offs.for_each(|off| self.slot_mut(off).clobber(off.in_slot()));
    }
}

impl Slot {
    /// What a load of `size` bytes from `from` on gives, if it does not give the spilled register
    /// as it is. `None` if nothing is known.
    pub(crate) fn constant_at(&self, from: usize, size: usize) -> Option<Scalar> {
        let bytes = self.bytes.get(from..from + size)?;
        let all = |kind| bytes.iter().all(|&byte| byte == kind);
        let zero = all(ByteKind::Zero) || (all(ByteKind::Spill) && self.spill.is_zero());
        zero.then(|| Scalar::constant(0))
    }
}
