//! Which programs may refer to maps with guarded fields.

use ebpf_isa::uapi::ProgramType;

use super::{holds_maps, is_supported};
use crate::environment::{Environment, MapInfo};
use crate::error::{Checked, FieldFault, Payload, Unsupported};
use crate::map_fields::{SpecialField, ValueFields};

/// Checks that the fields of a map's values are known, and for such programs.
pub(super) fn check_fields(env: &Environment, map: &MapInfo) -> Checked {
    check_known(map)?;
    match forbidden(env, map) {
        Some(field) => {
            let program_type = env.program_type.program_type();
            Err(Payload::Field { fault: FieldFault::Program { field, program_type } }.into())
        }
        None => Ok(()),
    }
}

/// Checks that what a map of maps holds is known. Which programs a field is for, the kernel does not
/// ask here.
pub(super) fn check_inner(env: &Environment, map: &MapInfo) -> Checked {
    let inner = map.inner.and_then(|inner| env.map(inner));
    let inner = inner.ok_or(Unsupported::InnerMap)?;
    let inner_type = inner.desc.map_type;
    if !is_supported(inner_type) || holds_maps(inner_type) {
        return Err(Unsupported::Map(inner_type).into());
    }
    check_known(inner)?;
    match forbidden(env, inner) {
        Some(_) => Err(Unsupported::SpecialFields.into()),
        None => Ok(()),
    }
}

fn check_known(map: &MapInfo) -> Checked {
    match map.fields != ValueFields::Unknown && map.fields.may_be_in(&map.desc) {
        true => Ok(()),
        false => Err(Unsupported::SpecialFields.into()),
    }
}

/// The first field that is not for programs of this type.
fn forbidden(env: &Environment, map: &MapInfo) -> Option<SpecialField> {
    let program_type = env.program_type.program_type();
    let guarded = [SpecialField::SpinLock, SpecialField::Timer, SpecialField::Workqueue];
    guarded.into_iter().filter(|&field| map.fields.place_of(field).is_some()).find(|&field| {
        is_tracing(program_type)
            || (field == SpecialField::SpinLock && program_type == ProgramType::SocketFilter)
    })
}

/// Whether such programs may run in the middle of anything.
const fn is_tracing(program_type: ProgramType) -> bool {
    matches!(
        program_type,
        ProgramType::Kprobe
            | ProgramType::Tracepoint
            | ProgramType::PerfEvent
            | ProgramType::RawTracepoint
            | ProgramType::RawTracepointWritable
    )
}
