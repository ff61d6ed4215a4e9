//! Which helpers take which maps.

use ebpf_isa::uapi::{AttachType, HelperId, MapType, ProgramType};

/// Whether a helper takes maps of this type.
pub(crate) fn takes(id: HelperId, map_type: MapType) -> bool {
    let row = SPECIAL.iter().find(|row| row.0.contains(&map_type));
    match row {
        Some((_, helpers)) => helpers.contains(&id.0),
        None if id.0 == LOOKUP_PERCPU => {
            matches!(map_type, MapType::PercpuArray | MapType::PercpuHash | MapType::LruPercpuHash)
        }
        None => GENERIC.contains(&id.0) || !SPECIAL.iter().any(|row| row.1.contains(&id.0)),
    }
}

/// Whether maps of this type hold sockets.
pub(crate) const fn holds_sockets(map_type: MapType) -> bool {
    matches!(map_type, MapType::Sockmap | MapType::Sockhash)
}

/// Whether programs of this type may update maps of sockets, or delete in them: those that do not run
/// while a socket is locked.
pub(crate) fn may_change_sockets(
    id: HelperId,
    program_type: ProgramType,
    attach_type: Option<AttachType>,
) -> bool {
    match program_type {
        ProgramType::Tracing => attach_type == Some(AttachType::TraceIter),
        ProgramType::SockOps => id == HelperId::MAP_DELETE_ELEM,
        ProgramType::SocketFilter
        | ProgramType::SchedCls
        | ProgramType::SchedAct
        | ProgramType::Xdp
        | ProgramType::SkReuseport
        | ProgramType::FlowDissector
        | ProgramType::SkLookup => true,
        _ => false,
    }
}

/// `map_lookup_percpu_elem`.
const LOOKUP_PERCPU: u32 = 195;

/// Lookup, update and deletion: what maps without a row below are for.
const GENERIC: [u32; 3] = [1, 2, 3];

/// Maps that only some helpers take. Maps without a row take none of these but the generic ones.
const SPECIAL: &[(&[MapType], &[u32])] = &[
    (&[MapType::ArrayOfMaps, MapType::HashOfMaps], &[1]),
    (&[MapType::ProgArray], &[12]),
    (&[MapType::PerfEventArray], &[22, 25, 55, 111, 121]),
    (&[MapType::StackTrace], &[27]),
    (&[MapType::CgroupArray], &[33, 37]),
    (&[MapType::CgroupStorage, MapType::PercpuCgroupStorage], &[81]),
    (&[MapType::Devmap, MapType::DevmapHash, MapType::Xskmap], &[1, 51]),
    (&[MapType::Cpumap], &[51]),
    (&[MapType::Queue, MapType::Stack], &[87, 88, 89]),
    (&[MapType::BloomFilter], &[87, 89]),
    (&[MapType::Ringbuf], &[130, 131, 134, 198, 199, 200]),
    (&[MapType::ReuseportSockarray], &[82]),
    (&[MapType::SkStorage], &[107, 108]),
    (&[MapType::Sockmap], &[1, 2, 3, 52, 53, 60, 82]),
    (&[MapType::Sockhash], &[1, 2, 3, 70, 71, 72, 82]),
];
