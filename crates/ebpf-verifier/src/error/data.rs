//! What payloads are made of, as data, where that is text.

use alloc::string::{String, ToString as _};

use serde::{Serialize, Serializer};

use super::{
    Ending, FieldFault, LaterFault, LockFault, ObjectAccess, ObjectFault, PrototypeFault,
    Unsupported,
};
use crate::kfunc::ObjectType;
use crate::map_fields::SpecialField;
use crate::profile::Feature;
use crate::rules::Object;

macro_rules! as_text {
    ($($name:ident: $text:expr;)*) => {
        $(impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let text: fn(&$name) -> String = $text;
                serializer.serialize_str(&text(self))
            }
        })*
    };
}

as_text! {
    Ending: |ending| ending.to_string();
    Feature: |feature| feature.name().into();
    FieldFault: |fault| fault.to_string();
    LaterFault: |fault| fault.to_string();
    LockFault: |fault| fault.to_string();
    ObjectFault: |fault| fault.to_string();
    ObjectAccess: |access| access.to_string();
    Object: |object| object.name().into();
    ObjectType: |ty| ty.name().into();
    PrototypeFault: |fault| fault.to_string();
    SpecialField: |field| field.name().into();
    Unsupported: |what| what.to_string();
}
