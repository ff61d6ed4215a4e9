//! Random surroundings for a program: context, packet, maps, helpers.

#![allow(unsafe_code, reason = "native functions get addresses")]

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use ebpf_runtime::flat::Block;
use ebpf_runtime::interp::{Helpers, Kfuncs, Links, Memory, Moment, Natives, Vm};
use ebpf_runtime::isa::abi::{ElementCursor, ExecEnv, HelperFn, Trap};
use ebpf_runtime::isa::uapi::{AttachType, MapType, ProgramType};
use ebpf_runtime::isa::{CallTarget, Insn, Program, Size};
use ebpf_runtime::verifier::rules::{
    ContextAccess, ContextField, ContextQuery, FieldAccess, FieldKind, HelperSet, PacketAccess,
    ProgramTypeRules, RetKind, TableRules,
};
use ebpf_runtime::verifier::{
    ContextAccessInsn, Environment, HostField, KfuncProto, KfuncRet, MapInfo, PacketBounds,
    RewriteError, RewriteHooks, Target,
};
use ebpf_testkit::Rng;

/// Bytes of a context as programs see it; behind them are the packet's addresses.
const CONTEXT: usize = 256;
const DATA: i16 = CONTEXT as i16;
const DATA_END: i16 = DATA + 8;
const DATA_META: i16 = DATA + 16;
/// Bytes of metadata before the packet.
const META: usize = 8;
/// Elements that a map has, as far as it may have any number.
const ELEMENTS: u32 = 4;
/// Bytes that the elements of a map take, unless that is less than one.
const VALUES: u32 = 1 << 16;
/// What stands for the first map; it is the address of nothing.
const HANDLES: u64 = 0x1000;

/// The start of a packet that programs may look for: Ethernet, IPv4, and TCP.
const HEADERS: [u8; 34] = [
    2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1,
    10, 0, 0, 2,
];

/// Where things are.
#[derive(Debug)]
pub(crate) struct Places {
    pub(crate) context: u64,
    pub(crate) packet: PacketBounds,
    pub(crate) maps: Vec<MapPlace>,
    /// The key of whatever element of a map that is no array.
    key: u64,
}

/// Where a map's values are.
#[derive(Debug)]
pub(crate) struct MapPlace {
    pub(crate) handle: u64,
    base: u64,
    stride: u64,
    count: u64,
    /// Whether every element exists.
    is_full: bool,
}

impl MapPlace {
    /// The addresses of the values.
    pub(crate) fn values(&self) -> impl Iterator<Item = u64> {
        (0..self.count).map(|index| self.base + index * self.stride)
    }
}

/// What helpers see.
struct Host {
    places: Places,
    rng: RefCell<Rng>,
}

/// What a world was at some time.
pub(crate) struct Snapshot {
    blocks: Vec<Vec<u8>>,
    rng: Rng,
}

/// Whether there are surroundings for programs of this environment: a context of that size, not whatever a
/// process hands over. Maps of maps are not among them.
pub(crate) fn can_run(env: &Environment) -> bool {
    let of_maps = [MapType::ArrayOfMaps, MapType::HashOfMaps];
    env.program_type.program_type() != ProgramType::Syscall
        && !env.maps.iter().any(|map| of_maps.contains(&map.desc.map_type))
}

/// The number of the function that walks over maps.
const NEXT_ELEMENT: u32 = 1;

/// What worlds offer to rewritten programs.
pub(crate) fn target() -> Target {
    let mut target = Target::default();
    target.next_element = Some(NEXT_ELEMENT);
    target
}

/// The surroundings of one run.
pub(crate) struct World {
    context: Block,
    packet: Block,
    maps: Vec<Block>,
    key: Block,
    host: Host,
}

impl World {
    pub(crate) fn new(env: &Environment, rng: &mut Rng) -> Self {
        let mut packet = Block::new(&packet(rng));
        let mut maps: Vec<Block> =
            env.maps.iter().map(|map| Block::new(&values(map, rng))).collect();
        let key_size = env.maps.iter().map(|map| map.desc.key_size).max().unwrap_or(0);
        let mut key = Block::new(&bytes(rng, key_size as usize));
        let mut context = Block::new(&bytes(rng, CONTEXT + 24));
        let range = packet.bytes_mut().as_mut_ptr_range();
        let (meta, end) = (range.start.expose_provenance(), range.end.addr());
        let packet_bounds =
            PacketBounds { meta: meta as u64, start: (meta + META) as u64, end: end as u64 };
        let PacketBounds { meta, start, end } = packet_bounds;
        for (at, address) in [(DATA, start), (DATA_END, end), (DATA_META, meta)] {
            let place = &mut context.bytes_mut()[at as usize..at as usize + 8];
            place.copy_from_slice(&address.to_le_bytes());
        }
        let map_places = env.maps.iter().zip(&mut maps).enumerate().map(|(index, (map, block))| {
            let stride = u64::from(stride(map));
            let bytes = block.bytes_mut();
            MapPlace {
                handle: HANDLES + 16 * index as u64,
                base: bytes.as_mut_ptr().expose_provenance() as u64,
                stride,
                count: bytes.len() as u64 / stride,
                is_full: is_array(map) || is_storage(map),
            }
        });
        let places = Places {
            context: context.bytes_mut().as_mut_ptr().expose_provenance() as u64,
            packet: packet_bounds,
            maps: map_places.collect(),
            key: key.bytes_mut().as_mut_ptr().expose_provenance() as u64,
        };
        let rng = RefCell::new(Rng::seed(rng.next_u64()));
        Self { context, packet, maps, key, host: Host { places, rng } }
    }

    /// The program's helpers and maps.
    pub(crate) fn links(&self, env: &Environment, program: &Program) -> Links {
        let mut helpers = Helpers::new();
        let mut kfuncs = Kfuncs::new();
        for (_, insn) in program.insns() {
            match insn {
                Insn::Call(CallTarget::Helper(id)) => {
                    let Some(proto) = env.program_type.helper(id) else { continue };
                    // SAFETY: the functions are sound for all arguments: they only compare them.
                    unsafe { helpers.register(id, helper(proto.ret)) };
                }
                Insn::Call(CallTarget::Kfunc { btf_id, module }) => {
                    let Ok(proto) = env.modules.function(module, btf_id) else { continue };
                    // SAFETY: as for helpers.
                    unsafe { kfuncs.register((module, btf_id), kfunc(proto)) };
                }
                _ => {}
            }
        }
        let mut natives = Natives::new();
        // SAFETY: the first does nothing with its arguments, and the cursor that the second gets is in a
        // frame of the run.
        unsafe {
            natives.register(0, zero);
            natives.register(NEXT_ELEMENT, next_element);
        }
        let maps = &self.host.places.maps;
        Links {
            helpers,
            kfuncs,
            natives,
            maps: maps.iter().map(|map| map.handle).collect(),
            map_values: maps.iter().map(|map| Some(map.base)).collect(),
            ..Links::default()
        }
    }

    /// What is in memory, and which numbers helpers give next.
    pub(crate) fn snapshot(&mut self) -> Snapshot {
        let rng = self.host.rng.borrow().clone();
        Snapshot { blocks: self.blocks().map(|block| block.bytes_mut().to_vec()).collect(), rng }
    }

    /// Makes everything as it was.
    pub(crate) fn restore(&mut self, snapshot: &Snapshot) {
        for (block, bytes) in self.blocks().zip(&snapshot.blocks) {
            block.bytes_mut().copy_from_slice(bytes);
        }
        *self.host.rng.borrow_mut() = snapshot.rng.clone();
    }

    /// The whole words in memory.
    pub(crate) fn words(&mut self) -> Vec<u64> {
        let words = |block: &mut Block| {
            let chunks = block.bytes_mut().chunks_exact(8);
            let words = chunks.map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
            words.collect::<Vec<_>>()
        };
        self.blocks().flat_map(words).collect()
    }

    fn blocks(&mut self) -> impl Iterator<Item = &mut Block> {
        let Self { context, packet, maps, key, .. } = self;
        [context, packet, key].into_iter().chain(maps)
    }

    /// Runs the program under checked memory, each instruction seen before.
    pub(crate) fn run(
        &mut self,
        vm: &Vm,
        fuel: i64,
        mut see: impl FnMut(&Moment<'_>, &Places),
    ) -> Result<u64, Trap> {
        let Self { context, packet, maps, key, host } = self;
        let mut memory = Memory::new();
        let context = memory.add_mut(context.bytes_mut());
        memory.add_mut(packet.bytes_mut());
        memory.add(key.bytes_mut());
        for map in maps {
            memory.add_mut(map.bytes_mut());
        }
        let user = (&raw mut *host).cast();
        let mut env = ExecEnv { fuel: AtomicI64::new(fuel), user, ..ExecEnv::new() };
        let mut run = vm.start(context, &memory);
        run.resume_observed(&mut env, &mut |moment: &Moment<'_>| {
            // SAFETY: it is the host that was lent above; helpers, which have it too, do not run now.
            let host = unsafe { &*user.cast::<Host>() };
            see(moment, &host.places);
        })
    }
}

fn bytes(rng: &mut Rng, len: usize) -> Vec<u8> {
    match rng.range(0..3) {
        0 => vec![0; len],
        1 => (0..len).map(|_| *rng.pick(&[0, 0, 0, 1, 0x7f, 0x80, 0xff])).collect(),
        _ => rng.bytes(len),
    }
}

fn packet(rng: &mut Rng) -> Vec<u8> {
    let len = META + rng.range(0..160) as usize;
    let mut packet = bytes(rng, len);
    if rng.chance(1, 2) {
        packet.iter_mut().skip(META).zip(HEADERS).for_each(|(byte, header)| *byte = header);
    }
    packet
}

/// From one value to the next.
fn stride(map: &MapInfo) -> u32 {
    map.desc.value_size.next_multiple_of(8).max(8)
}

/// Whether every element that it may have is there.
fn is_array(map: &MapInfo) -> bool {
    matches!(map.desc.map_type, MapType::Array | MapType::PercpuArray)
}

/// Whether it has the one value of the cgroup that the program runs for.
fn is_storage(map: &MapInfo) -> bool {
    matches!(map.desc.map_type, MapType::CgroupStorage | MapType::PercpuCgroupStorage)
}

fn values(map: &MapInfo, rng: &mut Rng) -> Vec<u8> {
    let stride = stride(map);
    if let Some(frozen) = &map.frozen {
        let padded = |value: &[u8]| [value, &vec![0; stride as usize - value.len()]].concat();
        return frozen.chunks(map.desc.value_size as usize).flat_map(padded).collect();
    }
    let most = if is_storage(map) { 1 } else { map.desc.max_entries.min(ELEMENTS) };
    // A value is never cut, however long it is.
    let elements = most.min((VALUES / stride).max(1));
    bytes(rng, elements as usize * stride as usize)
}

/// # Safety
/// `env` is the environment of a run of [`World::run`].
unsafe fn host<'a>(env: *mut ExecEnv) -> &'a Host {
    // SAFETY: the caller's promise; the host outlives the run, and nobody changes it.
    unsafe { &*(*env).user.cast::<Host>() }
}

/// What stands for a helper with this result.
fn helper(ret: RetKind) -> HelperFn {
    match ret {
        RetKind::Integer => any_number,
        // No length, null, the first processor.
        RetKind::ErrorOrLength
        | RetKind::ObjectOrNull(_)
        | RetKind::AcquiredOrNull(_)
        | RetKind::CastOrNull(_)
        | RetKind::ReservedOrNull
        | RetKind::SliceOrNull
        | RetKind::Processor
        | RetKind::Void => zero,
        RetKind::Trusted(_) | RetKind::Structure(_) => object,
        RetKind::StructureOrNull(_) | RetKind::CastToStructureOrNull(_) => object_or_null,
        RetKind::MapValue | RetKind::MapValueOrNull => any_value,
    }
}

/// What stands for a kernel function: programs only hand its objects over.
fn kfunc(proto: &KfuncProto) -> HelperFn {
    match proto.ret {
        // An iterator has nothing, and a dynptr no bytes.
        KfuncRet::Void | KfuncRet::Item(_) | KfuncRet::Slice { .. } => zero,
        KfuncRet::Scalar => any_number,
        KfuncRet::Object(_) if proto.flags.ret_null => object_or_null,
        KfuncRet::Object(_) => object,
    }
}

/// The address of nothing, which stands for an object.
const OBJECT: u64 = 0x9000;

ebpf_runtime::native! {
    /// Any number: what is known of the result of most helpers.
    fn any_number(env: *mut ExecEnv) -> u64 {
        // SAFETY: helpers are called in runs of a world.
        let mut rng = unsafe { host(env) }.rng.borrow_mut();
        let word = rng.next_u64() >> rng.range(0..64);
        if rng.chance(1, 4) { word.wrapping_neg() } else { word }
    }

    fn zero() -> u64 {
        0
    }

    fn object() -> u64 {
        OBJECT
    }

    fn object_or_null(env: *mut ExecEnv) -> u64 {
        // SAFETY: kernel functions are called in runs of a world.
        let is_null = unsafe { host(env) }.rng.borrow_mut().chance(1, 3);
        if is_null { 0 } else { OBJECT }
    }

    /// The values of a map one after the other, though some may be left out.
    fn next_element(map: u64, cursor: u64, env: *mut ExecEnv) -> u64 {
        // SAFETY: walks are part of runs of a world.
        let Host { places, rng } = unsafe { host(env) };
        let cursor = std::ptr::with_exposed_provenance_mut::<ElementCursor>(cursor as usize);
        // SAFETY: it is in the frame of the loop that walks.
        let cursor = unsafe { &mut *cursor };
        let Some(place) = places.maps.iter().find(|place| place.handle == map) else { return 0 };
        let mut index = cursor.count;
        if !place.is_full && rng.borrow_mut().chance(1, 3) {
            index = place.count;
        }
        if index >= place.count {
            return 0;
        }
        cursor.position = index;
        cursor.count += 1;
        let of_array = (&raw const cursor.position).expose_provenance() as u64;
        cursor.key = if place.is_full { of_array } else { places.key };
        place.base + index * place.stride
    }

    /// Some value of the map, whatever the key; or none, if the map need not have all.
    fn any_value(map: u64, env: *mut ExecEnv) -> u64 {
        // SAFETY: helpers are called in runs of a world.
        let Host { places, rng } = unsafe { host(env) };
        let mut rng = rng.borrow_mut();
        let Some(place) = places.maps.iter().find(|place| place.handle == map) else { return 0 };
        if place.count == 0 || !place.is_full && rng.chance(1, 3) {
            return 0;
        }
        place.base + rng.range(0..place.count) * place.stride
    }
}

/// The context as it is in a [`World`]: numbers where programs see them, addresses behind.
pub(crate) struct Hooks {
    rules: Arc<dyn ProgramTypeRules>,
    attach_type: Option<AttachType>,
}

impl Hooks {
    pub(crate) fn of(env: &Environment) -> Self {
        Self { rules: Arc::clone(&env.program_type), attach_type: env.attach_type }
    }
}

impl RewriteHooks for Hooks {
    fn context_field(&self, access: &ContextAccessInsn) -> Result<HostField, RewriteError> {
        let ContextAccessInsn { offset, size, write, .. } = *access;
        let (off, attach_type) = (offset.into(), self.attach_type);
        let query = ContextQuery { off, size, write, sign_extended: false, attach_type };
        let address = |at| Ok(HostField::whole(offset, size, at, Size::Dw));
        match self.rules.context_access(&query) {
            ContextAccess::Invalid => Err(access.unsupported()),
            ContextAccess::Allowed(kind) => match kind {
                FieldKind::Scalar => Ok(HostField::whole(offset, size, offset as i16, size)),
                FieldKind::PacketData => address(DATA),
                FieldKind::PacketEnd => address(DATA_END),
                FieldKind::PacketMeta => address(DATA_META),
                FieldKind::Object(_)
                | FieldKind::ObjectOrNull(_)
                | FieldKind::Argument
                | FieldKind::Unsupported => Err(access.unsupported()),
            },
        }
    }
}

/// A program type whose context is so many bytes of memory without any meaning.
pub(crate) fn plain_memory(len: usize) -> Arc<TableRules> {
    let memory = ContextField {
        name: "memory".into(),
        start: 0,
        end: len as u16,
        read: FieldAccess::INSIDE,
        write: FieldAccess::INSIDE,
        kind: FieldKind::Scalar,
        only_for: &[],
    };
    Arc::new(TableRules {
        program_type: ProgramType::SocketFilter,
        attach_types: &[],
        default_attach: AttachType::CgroupInetIngress,
        context: vec![memory],
        helpers: Vec::new(),
        helper_set: HelperSet::Prototypes,
        packet: PacketAccess::None,
        exit: Vec::new(),
    })
}
