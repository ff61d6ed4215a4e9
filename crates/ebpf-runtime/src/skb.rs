//! Traffic control: programs whose context is a socket buffer, as far as classic filters need one.

#![allow(unsafe_code, reason = "the context holds addresses of the packet")]

use std::any::TypeId;
use std::mem::offset_of;
use std::ops::Range;
use std::sync::Arc;

use ebpf_classic::Packet;
use ebpf_isa::Size;
use ebpf_isa::abi::{ExecEnv, HelperFn, Trap};
use ebpf_isa::uapi::HelperId;
use ebpf_verifier::{
    ContextAccessInsn, HostField, ProgramTypeRules, RewriteError, RewriteHooks, program_types,
};

use crate::kind::ProgramKind;
use crate::loaded::Loaded;
use crate::native;

/// The fields of `struct __sk_buff` that are there: their places, in words of 32 bits.
mod word {
    pub(super) const LEN: usize = 0;
    pub(super) const PKT_TYPE: usize = 1;
    pub(super) const MARK: usize = 2;
    pub(super) const QUEUE_MAPPING: usize = 3;
    pub(super) const PROTOCOL: usize = 4;
    pub(super) const VLAN_PRESENT: usize = 5;
    pub(super) const VLAN_TCI: usize = 6;
    pub(super) const VLAN_PROTO: usize = 7;
    pub(super) const IFINDEX: usize = 10;
    pub(super) const HASH: usize = 17;
    /// Number of words up to the last of them.
    pub(super) const COUNT: usize = 18;

    /// All of them.
    pub(super) const ALL: [usize; 10] = [
        LEN,
        PKT_TYPE,
        MARK,
        QUEUE_MAPPING,
        PROTOCOL,
        VLAN_PRESENT,
        VLAN_TCI,
        VLAN_PROTO,
        IFINDEX,
        HASH,
    ];
}

/// Offsets of the fields of `struct __sk_buff` that say where the packet is.
const LEN: u16 = 0;
const DATA: u16 = 76;
const DATA_END: u16 = 80;

/// The beginning of `struct __sk_buff`, as far as it is numbers: what programs see at these offsets.
type SkbWords = [u32; word::COUNT];

/// What is known of a packet, where programs look for it. Fields that are not there are 0.
fn words(packet: &Packet<'_>) -> SkbWords {
    let meta = &packet.metadata;
    let mut words = [0; word::COUNT];
    words[word::LEN] = packet.bytes.len() as u32;
    words[word::PKT_TYPE] = meta.packet_type;
    words[word::MARK] = meta.mark;
    words[word::QUEUE_MAPPING] = meta.queue.into();
    words[word::PROTOCOL] = meta.protocol.to_be().into();
    words[word::VLAN_PRESENT] = meta.vlan_present.into();
    words[word::VLAN_TCI] = meta.vlan_tci.into();
    words[word::VLAN_PROTO] = meta.vlan_tpid.to_be().into();
    words[word::IFINDEX] = meta.ifindex;
    words[word::HASH] = meta.rx_hash;
    words
}

/// The context as compiled programs see it, as long as they look at the packet alone; programs as
/// they are written see `struct __sk_buff`.
#[repr(C)]
struct SkbPacket {
    data: *const u8,
    data_end: *const u8,
    /// Offset of the network header; [`NO_HEADER`] where it is not known.
    network_header: u64,
    len: u32,
}

/// The context of programs that look at what else is known.
#[repr(C)]
struct SkbContext {
    packet: SkbPacket,
    words: SkbWords,
}

const NO_HEADER: u64 = u64::MAX;

impl SkbPacket {
    #[inline]
    fn new(packet: &Packet<'_>) -> Self {
        let Range { start: data, end: data_end } = packet.bytes.as_ptr_range();
        data.expose_provenance();
        let network_header = packet.network_header.map_or(NO_HEADER, u64::from);
        Self { data, data_end, network_header, len: packet.bytes.len() as u32 }
    }

    /// The bytes that begin at an offset from a header, if the packet has them all.
    fn bytes(&self, header: u64, offset: u64, len: u64) -> Option<*const u8> {
        let base = match header {
            HEADER_MAC => 0,
            HEADER_NETWORK if self.network_header != NO_HEADER => self.network_header,
            _ => return None,
        };
        let (start, size) = (base.checked_add(offset)?, self.data_end.addr() - self.data.addr());
        let is_inside = offset <= OFFSET_MAX && start.checked_add(len)? <= size as u64;
        // Inside of the packet, as the line above has seen.
        is_inside.then(|| self.data.wrapping_add(start as usize))
    }
}

/// `BPF_HDR_START_MAC`
const HEADER_MAC: u64 = 0;
/// `BPF_HDR_START_NET`
const HEADER_NETWORK: u64 = 1;
/// The greatest offset that the helper takes.
const OFFSET_MAX: u64 = 0xffff;
/// `-EFAULT`
const FAULT: u64 = -14_i64 as u64;

const SKB_LOAD_BYTES_RELATIVE: HelperId = HelperId(68);

/// The helpers of socket buffers that are here.
static HELPERS: [(HelperId, HelperFn); 1] = [(SKB_LOAD_BYTES_RELATIVE, skb_load_bytes_relative)];

native! {
    /// `long bpf_skb_load_bytes_relative(skb, offset, to, len, start_header)`
    fn skb_load_bytes_relative(skb: u64, offset: u64, to: u64, len: u64, header: u64) -> u64 {
        let skb = std::ptr::with_exposed_provenance::<SkbPacket>(skb as usize);
        // SAFETY: the verifier let only the context through, which begins with this here.
        let from = unsafe { (*skb).bytes(header & 0xffff_ffff, offset & 0xffff_ffff, len) };
        let to = std::ptr::with_exposed_provenance_mut::<u8>(to as usize);
        let len = len as usize;
        match from {
            // SAFETY: `bytes` gives what the packet has; the verifier checked that the program may
            // write the other bytes. They may be of the packet too.
            Some(from) => unsafe { from.copy_to(to, len) },
            // SAFETY: likewise.
            None => unsafe { to.write_bytes(0, len) },
        }
        if from.is_some() { 0 } else { FAULT }
    }
}

/// Everything that traffic control is here: fields of the context are read, none is written.
///
/// There are `len`, `pkt_type`, `mark`, `queue_mapping`, `protocol`, `vlan_present`, `vlan_tci`,
/// `vlan_proto`, `ifindex`, `hash`, `data` and `data_end`; of the helpers of socket buffers,
/// `skb_load_bytes_relative`.
#[must_use]
pub fn sched_cls() -> ProgramKind {
    of_layout(program_types::sched_cls(), TypeId::of::<SkbContext>(), true)
}

/// Socket filters, which find the same in their context but for the packet: that is the one in the
/// environment, for packet loads.
pub(crate) fn socket_filter() -> ProgramKind {
    of_layout(program_types::socket_filter(), TypeId::of::<SkbContext>(), true)
}

/// The same for programs that look at the packet alone: there are `len`, `data` and `data_end`. A
/// context takes less time to make.
pub(crate) fn sched_cls_of_packet() -> ProgramKind {
    of_layout(program_types::sched_cls(), TypeId::of::<SkbPacket>(), false)
}

fn of_layout(rules: Arc<dyn ProgramTypeRules>, layout: TypeId, has_words: bool) -> ProgramKind {
    ProgramKind {
        rules,
        attach_type: None,
        hooks: Arc::new(ConvertContext { has_words }),
        helpers: (&HELPERS).into(),
        natives: (&[]).into(),
        layout,
    }
}

/// Turns accesses to `struct __sk_buff` into accesses to [`SkbPacket`], or to [`SkbContext`] where
/// there are words.
struct ConvertContext {
    has_words: bool,
}

impl RewriteHooks for ConvertContext {
    fn context_field(&self, access: &ContextAccessInsn) -> Result<HostField, RewriteError> {
        let start = access.offset / 4 * 4;
        let word = usize::from(start / 4);
        let (size, off) = match start {
            _ if access.write => return Err(access.unsupported()),
            LEN => (Size::W, offset_of!(SkbPacket, len)),
            DATA => (Size::Dw, offset_of!(SkbPacket, data)),
            DATA_END => (Size::Dw, offset_of!(SkbPacket, data_end)),
            _ if self.has_words && word::ALL.contains(&word) => {
                (Size::W, offset_of!(SkbContext, words) + usize::from(start))
            }
            _ => return Err(access.unsupported()),
        };
        Ok(HostField::whole(start, Size::W, off as i16, size))
    }
}

/// Runs a program on a packet that it only reads. Gives `r0`.
///
/// # Errors
/// The trap that ended the run.
///
/// # Safety
/// The program is of the kind [`sched_cls_of_packet`] and writes to no packet.
#[inline]
pub(crate) unsafe fn run_on_packet(
    loaded: &Loaded,
    packet: &Packet<'_>,
    env: &mut ExecEnv,
) -> Result<u64, Trap> {
    let mut context = SkbPacket::new(packet);
    let ctx = &raw mut context;
    ctx.expose_provenance();
    // SAFETY: the context is what the kind's hooks convert accesses to; the packet is read alone, by
    // the caller's promise.
    unsafe { loaded.run_with_context(ctx.cast(), env) }
}

/// The same for a program of the kind [`sched_cls`].
///
/// # Errors
/// The trap that ended the run.
///
/// # Safety
/// The program is of that kind, or of the kind [`socket_filter`], and writes to no packet.
pub(crate) unsafe fn run_on_buffer(
    loaded: &Loaded,
    packet: &Packet<'_>,
    env: &mut ExecEnv,
) -> Result<u64, Trap> {
    let mut context = SkbContext { packet: SkbPacket::new(packet), words: words(packet) };
    let ctx = &raw mut context;
    ctx.expose_provenance();
    // SAFETY: as above.
    unsafe { loaded.run_with_context(ctx.cast(), env) }
}

/// The same for a program of the kind [`socket_filter`].
///
/// # Errors
/// The trap that ended the run.
///
/// # Safety
/// The program is of that kind.
pub(crate) unsafe fn run_on_socket(
    loaded: &Loaded,
    packet: &Packet<'_>,
    env: &mut ExecEnv,
) -> Result<u64, Trap> {
    env.packet = packet.bytes.as_ptr();
    env.packet_len = packet.bytes.len() as u64;
    // SAFETY: the context is as for the kind, and so is the packet. Packet loads only read it.
    let result = unsafe { run_on_buffer(loaded, packet, env) };
    env.packet = std::ptr::null();
    env.packet_len = 0;
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_where_programs_look_for_them() {
        assert_eq!(offset_of!(SkbContext, packet), 0);
        let bytes = [0; 5];
        let mut packet = Packet::new(&bytes);
        packet.metadata.protocol = 0x86dd;
        packet.metadata.ifindex = 7;
        packet.metadata.rx_hash = 9;
        let words = words(&packet);
        // The byte offsets of the header: len 0, protocol 16 in network order, ifindex 40, hash 68.
        assert_eq!([words[0], words[4], words[10], words[17]], [5, 0xdd86, 7, 9]);
    }

    #[test]
    fn bytes_are_counted_from_headers() {
        let bytes = [1, 2, 3, 4, 5];
        let packet = Packet { network_header: Some(2), ..Packet::new(&bytes) };
        let context = SkbPacket::new(&packet);
        let at = |header, offset, len| {
            let start = context.bytes(header, offset, len)?;
            Some(start.addr() - bytes.as_ptr().addr())
        };
        assert_eq!(at(HEADER_MAC, 1, 4), Some(1));
        assert_eq!(at(HEADER_MAC, 1, 5), None);
        assert_eq!(at(HEADER_NETWORK, 2, 1), Some(4));
        assert_eq!(at(HEADER_NETWORK, 3, 1), None);
        assert_eq!(at(HEADER_NETWORK, OFFSET_MAX + 1, 0), None);
        assert_eq!(at(2, 0, 1), None);
        let context = SkbPacket::new(&Packet::new(&bytes));
        assert_eq!(context.bytes(HEADER_NETWORK, 0, 1), None);
    }
}
