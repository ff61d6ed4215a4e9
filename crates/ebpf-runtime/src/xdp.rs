//! XDP: programs that judge packets before anybody else sees them.

#![allow(unsafe_code, reason = "the context holds addresses of the packet")]

use std::any::TypeId;
use std::fmt;
use std::mem::offset_of;
use std::ops::Range;
use std::sync::Arc;

use ebpf_interp::Observer;
use ebpf_isa::Size;
use ebpf_isa::abi::{ExecEnv, Trap};
use ebpf_verifier::{ContextAccessInsn, HostField, RewriteError, RewriteHooks, program_types};

use crate::kind::ProgramKind;
use crate::loaded::Loaded;

mod helpers;

/// What an XDP program decides (`enum xdp_action`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct XdpAction(pub u32);

impl XdpAction {
    /// The program failed; the packet is dropped.
    pub const ABORTED: Self = Self(0);
    /// The packet is dropped.
    pub const DROP: Self = Self(1);
    /// The packet goes on its way.
    pub const PASS: Self = Self(2);
    /// The packet goes out where it came in.
    pub const TX: Self = Self(3);
    /// The packet goes out elsewhere.
    pub const REDIRECT: Self = Self(4);

    /// The name of the action; `None` for numbers that are none, which drop the packet.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        ["ABORTED", "DROP", "PASS", "TX", "REDIRECT"].get(self.0 as usize).copied()
    }
}

impl fmt::Display for XdpAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => f.pad(&format!("UNKNOWN({})", self.0)),
        }
    }
}

/// Where a packet came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ingress {
    /// Index of the interface.
    pub ifindex: u32,
    /// Number of the receive queue.
    pub rx_queue: u32,
}

/// The context as compiled programs see it; programs as they are written see `struct xdp_md`.
#[repr(C)]
struct XdpContext {
    data: *mut u8,
    data_end: *mut u8,
    data_meta: *mut u8,
    ingress: Ingress,
    /// What helpers may move the packet within.
    room: Range<*mut u8>,
}

impl XdpContext {
    /// A packet with nothing around it.
    fn new(packet: Range<*mut u8>, ingress: Ingress) -> Self {
        let Range { start: data, end: data_end } = packet;
        data.expose_provenance();
        Self { data, data_end, data_meta: data, ingress, room: packet }
    }

    /// The packet at these places of `room`.
    fn in_room(room: &mut [u8], packet: &Range<usize>, ingress: Ingress) -> Self {
        let bytes = room[packet.clone()].as_mut_ptr_range();
        let room = room.as_mut_ptr_range();
        room.start.expose_provenance();
        let (data, data_end) = (room.start.with_addr(bytes.start.addr()), bytes.end);
        Self { data, data_end, data_meta: data, ingress, room }
    }

    /// Where the packet is in the room.
    fn packet(&self) -> Range<usize> {
        let place = |at: *mut u8| at.addr() - self.room.start.addr();
        place(self.data)..place(self.data_end)
    }
}

/// Bytes that Linux leaves in front of a packet for programs.
pub const HEADROOM: usize = 256 - 40;
/// Bytes behind a packet that [`XdpProgram::run_in_room`] is usually given.
pub const TAILROOM: usize = 256;

/// `struct xdp_md`: offsets of its fields, all of four bytes.
mod xdp_md {
    pub(super) const DATA: u16 = 0;
    pub(super) const DATA_END: u16 = 4;
    pub(super) const DATA_META: u16 = 8;
    pub(super) const INGRESS_IFINDEX: u16 = 12;
    pub(super) const RX_QUEUE_INDEX: u16 = 16;
}

/// Everything that XDP is here.
#[must_use]
pub fn kind() -> ProgramKind {
    ProgramKind {
        rules: program_types::xdp(),
        attach_type: None,
        hooks: Arc::new(ConvertContext),
        helpers: helpers::ALL.into(),
        natives: (&[]).into(),
        layout: TypeId::of::<XdpContext>(),
    }
}

/// Turns accesses to `struct xdp_md` into accesses to [`XdpContext`].
struct ConvertContext;

impl RewriteHooks for ConvertContext {
    fn context_field(&self, access: &ContextAccessInsn) -> Result<HostField, RewriteError> {
        if access.write {
            return Err(access.unsupported());
        }
        let ingress = offset_of!(XdpContext, ingress);
        let (size, off) = match access.offset {
            xdp_md::DATA => (Size::Dw, offset_of!(XdpContext, data)),
            xdp_md::DATA_END => (Size::Dw, offset_of!(XdpContext, data_end)),
            xdp_md::DATA_META => (Size::Dw, offset_of!(XdpContext, data_meta)),
            xdp_md::INGRESS_IFINDEX => (Size::W, ingress + offset_of!(Ingress, ifindex)),
            xdp_md::RX_QUEUE_INDEX => (Size::W, ingress + offset_of!(Ingress, rx_queue)),
            _ => return Err(access.unsupported()),
        };
        Ok(HostField::whole(access.offset, Size::W, off as i16, size))
    }
}

/// Runs a program of this [`kind`] on a packet that it only reads. Gives `r0`.
///
/// # Errors
/// The trap that ended the run.
///
/// # Safety
/// The program is of this kind and writes to no packet.
pub(crate) unsafe fn run_on_packet(
    loaded: &Loaded,
    packet: &[u8],
    ingress: Ingress,
    env: &mut ExecEnv,
) -> Result<u64, Trap> {
    let Range { start, end } = packet.as_ptr_range();
    let mut context = XdpContext::new(start.cast_mut()..end.cast_mut(), ingress);
    // SAFETY: the context is what the kind's hooks convert accesses to; the packet is read alone,
    // by the caller's promise.
    unsafe { loaded.run_with_context((&raw mut context).cast(), env) }
}

/// A loaded XDP program.
#[derive(Debug)]
pub struct XdpProgram {
    loaded: Loaded,
}

impl XdpProgram {
    /// Takes a program that was loaded as one of this [`kind`]; gives it back if it was not.
    ///
    /// # Errors
    /// The program is of another kind.
    pub fn new(loaded: Loaded) -> Result<Self, Box<Loaded>> {
        let is_xdp = loaded.bindings().kind.layout == TypeId::of::<XdpContext>();
        if is_xdp { Ok(Self { loaded }) } else { Err(Box::new(loaded)) }
    }

    /// What was loaded.
    #[must_use]
    pub fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// Runs the program on a packet, which it may change, and charges the environment's fuel. There is no room
    /// around the packet: helpers can make it shorter, which is not seen here, and not longer.
    ///
    /// # Errors
    /// The trap that ended the run.
    pub fn run(
        &self,
        packet: &mut [u8],
        ingress: Ingress,
        env: &mut ExecEnv,
    ) -> Result<XdpAction, Trap> {
        let mut context = XdpContext::new(packet.as_mut_ptr_range(), ingress);
        // SAFETY: `new` checked the kind; the context is what its hooks convert accesses to, and
        // the packet is borrowed for this run alone.
        let r0 = unsafe { self.loaded.run_with_context((&raw mut context).cast(), env) }?;
        Ok(XdpAction(r0 as u32))
    }

    /// Runs the program like [`Self::run`] on a packet that lies somewhere in `room`, where helpers may move its
    /// ends. `packet` says where it is, before and after.
    ///
    /// # Errors
    /// The trap that ended the run.
    ///
    /// # Panics
    /// The packet is not inside of the room.
    pub fn run_in_room(
        &self,
        room: &mut [u8],
        packet: &mut Range<usize>,
        ingress: Ingress,
        env: &mut ExecEnv,
    ) -> Result<XdpAction, Trap> {
        let mut context = XdpContext::in_room(room, packet, ingress);
        // SAFETY: as for `run`; helpers keep the packet inside of the room, which is borrowed, too.
        let end = unsafe { self.loaded.run_with_context((&raw mut context).cast(), env) };
        *packet = context.packet();
        Ok(XdpAction(end? as u32))
    }

    /// Interprets the program like [`Self::run_in_room`], each instruction of the
    /// [rewritten](Loaded::rewritten) program seen by `observer` before it is run. `None` if it was
    /// compiled: machine code cannot be observed.
    pub fn observe(
        &self,
        room: &mut [u8],
        packet: &mut Range<usize>,
        ingress: Ingress,
        env: &mut ExecEnv,
        observer: &mut dyn Observer,
    ) -> Option<Result<XdpAction, Trap>> {
        let mut context = XdpContext::in_room(room, packet, ingress);
        let ctx = (&raw mut context).cast();
        // SAFETY: as for `run_in_room`.
        let end = unsafe { self.loaded.observe_with_context(ctx, env, observer) };
        *packet = context.packet();
        let end = end?;
        Some(end.map(|r0| XdpAction(r0 as u32)))
    }
}
