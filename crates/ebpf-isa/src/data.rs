//! Parts of instructions as data: names as text, positions as numbers.

use serde::{Serialize, Serializer};

use crate::uapi::{AttachType, HelperId, MapType, ProgramType};
use crate::{AluOp, MapIdx, Pc, ProgramError, Reg, SubprogIdx, Width};

macro_rules! as_text {
    ($($name:ty),*) => {
        $(impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        })*
    };
}

macro_rules! as_number {
    ($($name:ty),*) => {
        $(impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_u32(self.0)
            }
        })*
    };
}

as_text!(Reg, HelperId, MapType, ProgramType, AttachType, ProgramError);
as_number!(Pc, MapIdx, SubprogIdx);

impl Serialize for AluOp {
    /// Its mnemonic: `add`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.mnemonic())
    }
}

impl Serialize for Width {
    /// In bits.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.bits())
    }
}
