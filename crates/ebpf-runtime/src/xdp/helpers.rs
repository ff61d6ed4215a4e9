//! The helpers of XDP programs. Numbers and limits are those of Linux, but for what only a network has: no
//! route leads anywhere, and where a packet is redirected to is not said.

use std::ptr;

use ebpf_isa::abi::HelperFn;
use ebpf_isa::uapi::{HelperId, MapType};

use super::{XdpAction, XdpContext};
use crate::helpers::{bytes, cpu_slot, map};
use crate::native;

pub(super) const ALL: &[(HelperId, HelperFn)] = &[
    (HelperId(23), redirect),
    (HelperId(25), perf_event_output),
    (HelperId(28), csum_diff),
    (HelperId(44), adjust_head),
    (HelperId(51), redirect_map),
    (HelperId(54), adjust_meta),
    (HelperId(65), adjust_tail),
    (HelperId(69), fib_lookup),
    (HelperId(188), get_buff_len),
    (HelperId(189), load_bytes),
    (HelperId(190), store_bytes),
];

const EACCES: i64 = 13;
const EFAULT: i64 = 14;
const EINVAL: i64 = 22;
const EAFNOSUPPORT: i64 = 97;

/// The least that must be left of a packet: an Ethernet header.
const ETH_HLEN: usize = 14;
/// The most metadata in front of a packet: what the length in a byte can say, in words.
const MAX_METADATA: usize = 255;
/// The greatest offset and length of a piece of a packet.
const MAX_PIECE: u64 = 0xffff;
/// `sizeof(struct bpf_fib_lookup)`
const FIB_LOOKUP_BYTES: u32 = 64;
/// `BPF_FIB_LKUP_RET_NOT_FWDED`
const NOT_FORWARDED: u64 = 4;
/// The flags of `bpf_fib_lookup`.
const FIB_FLAGS: u64 = 0x3f;
/// The address families that routes are for.
const FAMILIES: [u8; 2] = [2, 10];
/// The bits of flags of `bpf_redirect_map` that say what to do where there is nothing.
const ACTION_BITS: u64 = 3;
/// `BPF_F_BROADCAST`
const BROADCAST: u64 = 8;
/// `BPF_F_EXCLUDE_INGRESS`
const EXCLUDE_INGRESS: u64 = 16;
/// The bits of flags of `bpf_perf_event_output` that say how much of the packet is taken along.
const PACKET_BITS: u64 = 0xfffff << 32;

/// # Safety
/// `context` is the context of a run of an XDP program.
unsafe fn xdp<'a>(context: u64) -> &'a mut XdpContext {
    // SAFETY: the caller's promise; nobody else looks at it while a helper runs.
    unsafe { &mut *ptr::with_exposed_provenance_mut(context as usize) }
}

impl XdpContext {
    fn len(&self) -> usize {
        self.data_end.addr() - self.data.addr()
    }

    /// A place in the room, so far from another.
    fn moved(&self, from: *mut u8, by: u64) -> Option<*mut u8> {
        let to = from.addr().checked_add_signed(by as i32 as isize)?;
        let inside = self.room.start.addr()..=self.room.end.addr();
        inside.contains(&to).then(|| self.room.start.with_addr(to))
    }

    fn adjust_head(&mut self, by: u64) -> Result<(), i64> {
        let metadata = self.data.addr() - self.data_meta.addr();
        let data = self.moved(self.data, by).ok_or(EINVAL)?;
        let meta = data.addr().checked_sub(metadata).filter(|&at| at >= self.room.start.addr());
        let meta = self.room.start.with_addr(meta.ok_or(EINVAL)?);
        if data.addr() + ETH_HLEN > self.data_end.addr() {
            return Err(EINVAL);
        }
        // SAFETY: both are inside of the room: the old metadata, and what was just found to be.
        unsafe { ptr::copy(self.data_meta, meta, metadata) };
        (self.data, self.data_meta) = (data, meta);
        Ok(())
    }

    fn adjust_meta(&mut self, by: u64) -> Result<(), i64> {
        let meta = self.moved(self.data_meta, by).ok_or(EINVAL)?;
        let metadata = self.data.addr().checked_sub(meta.addr()).ok_or(EINVAL)?;
        if !metadata.is_multiple_of(4) || metadata > MAX_METADATA {
            return Err(EACCES);
        }
        self.data_meta = meta;
        Ok(())
    }

    fn adjust_tail(&mut self, by: u64) -> Result<(), i64> {
        let end = self.moved(self.data_end, by).ok_or(EINVAL)?;
        if end.addr() < self.data.addr() + ETH_HLEN {
            return Err(EINVAL);
        }
        let grown = end.addr().saturating_sub(self.data_end.addr());
        // SAFETY: up to the new end all is inside of the room.
        unsafe { self.data_end.write_bytes(0, grown) };
        self.data_end = end;
        Ok(())
    }

    /// The start of a piece of the packet.
    fn piece(&self, offset: u64, len: u64) -> Result<*mut u8, i64> {
        // The kernel's arguments have 32 bits.
        let (offset, len) = (offset & 0xffff_ffff, len & 0xffff_ffff);
        if offset > MAX_PIECE || len > MAX_PIECE {
            return Err(EFAULT);
        }
        if offset + len > self.len() as u64 {
            return Err(EINVAL);
        }
        Ok(self.data.wrapping_add(offset as usize))
    }
}

/// 0, or the negated error number.
fn status(result: Result<(), i64>) -> u64 {
    result.map_or_else(|errno| -errno as u64, |()| 0)
}

/// The sum of 32-bit words in ones' complement, added to another. Behind the last bytes are zeros.
fn checksum(bytes: &[u8], sum: u32) -> u32 {
    let words = bytes.chunks(4).map(|bytes| {
        let mut word = [0; 4];
        word[..bytes.len()].copy_from_slice(bytes);
        u32::from_ne_bytes(word)
    });
    words.fold(sum, add_with_carry)
}

fn add_with_carry(a: u32, b: u32) -> u32 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u32::from(carry)
}

/// The same sum in 16 bits.
fn fold(sum: u32) -> u64 {
    u64::from(sum.wrapping_add(sum.rotate_left(16)) >> 16)
}

native! {
    /// `long bpf_redirect(ifindex, flags)`
    fn redirect(_ifindex: u64, flags: u64) -> u64 {
        let action = if flags == 0 { XdpAction::REDIRECT } else { XdpAction::ABORTED };
        action.0.into()
    }

    /// `long bpf_redirect_map(map, key, flags)`
    fn redirect_map(handle: u64, key: u64, flags: u64, env: *mut ExecEnv) -> u64 {
        // SAFETY: the verifier let only handles of the program's maps through.
        let map = unsafe { map(handle) };
        let broadcasts = matches!(map.desc().map_type, MapType::Devmap | MapType::DevmapHash);
        let allowed = if broadcasts { ACTION_BITS | BROADCAST | EXCLUDE_INGRESS } else { ACTION_BITS };
        if flags & !allowed != 0 {
            return XdpAction::ABORTED.0.into();
        }
        // SAFETY: engines pass the environment of the run, which outlives the call.
        let found = map.value_address(&(key as u32).to_ne_bytes(), unsafe { cpu_slot(env) });
        match found {
            None if flags & BROADCAST == 0 => flags & ACTION_BITS,
            _ => XdpAction::REDIRECT.0.into(),
        }
    }

    /// `s64 bpf_csum_diff(from, from_size, to, to_size, seed)`
    fn csum_diff(from: u64, from_size: u64, to: u64, to_size: u64, seed: u64) -> u64 {
        let (from_size, to_size, seed) = (from_size as u32, to_size as u32, seed as u32);
        // SAFETY: the verifier checked that so many bytes are readable; null comes with size 0.
        let (from, to) = unsafe { (bytes(from, from_size), bytes(to, to_size)) };
        let taken = checksum(&from, 0);
        fold(match (from.is_empty(), to.is_empty()) {
            (false, false) => add_with_carry(checksum(&to, seed), !taken),
            (true, false) => checksum(&to, seed),
            (false, true) => !checksum(&from, !seed),
            (true, true) => seed,
        })
    }

    /// `long bpf_xdp_adjust_head(ctx, delta)`
    fn adjust_head(context: u64, by: u64) -> u64 {
        // SAFETY: the verifier lets only the context through.
        status(unsafe { xdp(context) }.adjust_head(by))
    }

    /// `long bpf_xdp_adjust_meta(ctx, delta)`
    fn adjust_meta(context: u64, by: u64) -> u64 {
        // SAFETY: the verifier lets only the context through.
        status(unsafe { xdp(context) }.adjust_meta(by))
    }

    /// `long bpf_xdp_adjust_tail(ctx, delta)`
    fn adjust_tail(context: u64, by: u64) -> u64 {
        // SAFETY: the verifier lets only the context through.
        status(unsafe { xdp(context) }.adjust_tail(by))
    }

    /// `long bpf_fib_lookup(ctx, params, plen, flags)`: there are no routes.
    fn fib_lookup(_context: u64, params: u64, len: u64, flags: u64) -> u64 {
        if (len as u32) < FIB_LOOKUP_BYTES || flags & !FIB_FLAGS != 0 {
            return -EINVAL as u64;
        }
        // SAFETY: the verifier checked that so many bytes are readable.
        let family = unsafe { bytes(params, 1) }[0];
        if FAMILIES.contains(&family) { NOT_FORWARDED } else { -EAFNOSUPPORT as u64 }
    }

    /// `u64 bpf_xdp_get_buff_len(ctx)`
    fn get_buff_len(context: u64) -> u64 {
        // SAFETY: the verifier lets only the context through.
        unsafe { xdp(context) }.len() as u64
    }

    /// `long bpf_xdp_load_bytes(ctx, offset, buf, len)`
    fn load_bytes(context: u64, offset: u64, to: u64, len: u64) -> u64 {
        // SAFETY: the verifier lets only the context through.
        let piece = unsafe { xdp(context) }.piece(offset, len);
        let to = ptr::with_exposed_provenance_mut::<u8>(to as usize);
        // SAFETY: the piece is inside of the packet; the verifier checked that so many bytes are writable.
        status(piece.map(|piece| unsafe { ptr::copy(piece, to, len as u32 as usize) }))
    }

    /// `long bpf_xdp_store_bytes(ctx, offset, buf, len)`
    fn store_bytes(context: u64, offset: u64, from: u64, len: u64) -> u64 {
        // SAFETY: the verifier lets only the context through.
        let piece = unsafe { xdp(context) }.piece(offset, len);
        // SAFETY: the verifier checked that so many bytes are readable.
        let from = unsafe { bytes(from, len as u32) };
        // SAFETY: the piece is inside of the packet, and as long.
        status(piece.map(|piece| unsafe { ptr::copy(from.as_ptr(), piece, from.len()) }))
    }

    /// `long bpf_perf_event_output(ctx, map, flags, data, size)`
    fn perf_event_output(context: u64, handle: u64, flags: u64, data: u64, size: u64, env: *mut ExecEnv) -> u64 {
        // SAFETY: the verifier lets only the context through.
        let xdp = unsafe { xdp(context) };
        // SAFETY: it let only handles of the program's maps through.
        let map = unsafe { map(handle) };
        if flags & !(PACKET_BITS | 0xffff_ffff) != 0 {
            return -EINVAL as u64;
        }
        let taken = (flags & PACKET_BITS) >> 32;
        if taken > xdp.len() as u64 {
            return -EFAULT as u64;
        }
        // SAFETY: the verifier checked that so many bytes are readable; the packet has the others.
        let (data, packet) = unsafe {
            let start = xdp.data.expose_provenance() as u64;
            (bytes(data, size as u32), bytes(start, taken as u32))
        };
        // SAFETY: engines pass the environment of the run, which outlives the call.
        let cpu_slot = unsafe { cpu_slot(env) };
        map.output(flags as u32, cpu_slot, &[&data, &packet])
            .map_or_else(|error| -i64::from(error.errno()) as u64, |()| 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_folded_with_their_carries() {
        assert_eq!(fold(0), 0);
        assert_eq!(fold(0x0001_ffff), 1);
        assert_eq!(fold(0xffff_ffff), 0xffff);
        let bytes = [0xffff_ffff_u32.to_ne_bytes(), 2_u32.to_ne_bytes()].concat();
        assert_eq!(checksum(&bytes, 0), 2);
        assert_eq!(checksum(&bytes, 0xffff_fffe), 1);
    }
}
