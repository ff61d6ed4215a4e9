//! The classic machine itself: slow, simple, and what every conversion must agree with.

use ebpf_isa::{AluOp, CmpOp, Size};

use crate::ancillary::{Ancillary, Place};
use crate::filter::{Cell, Filter, Insn, Operand};
use crate::netlink;
use crate::op::Var;

/// What Linux knows of a packet besides its bytes: see [`Ancillary`] for the fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Metadata {
    /// Protocol of the network layer, in host byte order.
    pub protocol: u16,
    /// To whom the packet is addressed.
    pub packet_type: u32,
    /// Index of the interface; 0: there is none.
    pub ifindex: u32,
    /// Type of the interface's hardware.
    pub hardware_type: u16,
    /// The packet's mark.
    pub mark: u32,
    /// The queue that it is mapped to.
    pub queue: u16,
    /// Hash of the flow.
    pub rx_hash: u32,
    /// Number of the processor.
    pub cpu: u32,
    /// Tag control information of the VLAN.
    pub vlan_tci: u16,
    /// Whether there is a VLAN tag.
    pub vlan_present: bool,
    /// Protocol of the VLAN tag, in host byte order.
    pub vlan_tpid: u16,
    /// Offset of the payload.
    pub payload_offset: u32,
    /// What every load of a random number gives.
    pub random: u32,
}

/// A packet as a filter sees it.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// Offset of the link-layer header in the bytes, if there is one.
    pub link_header: Option<u32>,
    /// Offset of the network header in the bytes, if it is known.
    pub network_header: Option<u32>,
    /// What else is known.
    pub metadata: Metadata,
}

impl<'a> Packet<'a> {
    /// A packet that begins with its link-layer header, and of which nothing else is known.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        let metadata = Metadata::default();
        Self { bytes, link_header: Some(0), network_header: None, metadata }
    }
}

/// What a filter reads: a packet, or something else in its place.
pub(crate) trait Source {
    /// The value of the bytes at a place; `None` outside.
    fn load(&self, place: Place, size: Size) -> Option<u32>;
    /// Its length.
    fn len(&self) -> u32;
    /// Ancillary data, for the values in `A` and `X`; `None` ends the program with 0.
    fn ancillary(&self, which: Ancillary, a: u32, x: u32) -> Option<u32>;
}

impl Source for Packet<'_> {
    #[inline]
    fn len(&self) -> u32 {
        self.bytes.len() as u32
    }

    /// Bytes in network order.
    #[inline]
    fn load(&self, place: Place, size: Size) -> Option<u32> {
        let start = match place {
            Place::Data(off) => off as usize,
            Place::Link(off) => self.link_header?.checked_add(off)? as usize,
            Place::Network(off) => self.network_header?.checked_add(off)? as usize,
            Place::Nowhere => return None,
        };
        let bytes = self.bytes.get(start..)?;
        Some(match size {
            Size::B => (*bytes.first()?).into(),
            Size::H => u16::from_be_bytes(*bytes.first_chunk()?).into(),
            Size::W | Size::Dw => u32::from_be_bytes(*bytes.first_chunk()?),
        })
    }

    fn ancillary(&self, which: Ancillary, a: u32, x: u32) -> Option<u32> {
        let meta = &self.metadata;
        let with_interface = |value| (meta.ifindex != 0).then_some(value);
        Some(match which {
            Ancillary::Protocol => meta.protocol.into(),
            Ancillary::PacketType => meta.packet_type,
            Ancillary::Ifindex => with_interface(meta.ifindex)?,
            Ancillary::Netlink => netlink::find(self.bytes, a, x),
            Ancillary::NetlinkNested => netlink::find_nested(self.bytes, a, x),
            Ancillary::Mark => meta.mark,
            Ancillary::Queue => meta.queue.into(),
            Ancillary::HardwareType => with_interface(meta.hardware_type.into())?,
            Ancillary::RxHash => meta.rx_hash,
            Ancillary::Cpu => meta.cpu,
            Ancillary::XorX => a ^ x,
            Ancillary::VlanTci => meta.vlan_tci.into(),
            Ancillary::VlanPresent => meta.vlan_present.into(),
            Ancillary::PayloadOffset => meta.payload_offset,
            Ancillary::Random => meta.random,
            Ancillary::VlanTpid => meta.vlan_tpid.into(),
        })
    }
}

/// The machine's memory besides the packet.
struct Machine {
    a: u32,
    x: u32,
    cells: [u32; Cell::COUNT],
}

impl Machine {
    #[inline]
    fn set(&mut self, var: Var, value: u32) {
        match var {
            Var::A => self.a = value,
            Var::X => self.x = value,
        }
    }

    #[inline]
    fn get(&self, var: Var) -> u32 {
        match var {
            Var::A => self.a,
            Var::X => self.x,
        }
    }

    #[inline]
    fn operand(&self, operand: Operand) -> u32 {
        match operand {
            Operand::Imm(value) => value,
            Operand::X => self.x,
        }
    }
}

impl Filter {
    /// Runs the filter. What it ends with is the number of bytes to keep of the packet, 0 to drop
    /// it. A load outside of the packet ends it with 0.
    ///
    /// All jumps lead forward, so a run takes at most as many steps as there are instructions.
    #[must_use]
    pub fn run(&self, packet: &Packet<'_>) -> u32 {
        run(self, packet)
    }
}

/// Runs a filter on whatever it is for.
pub(crate) fn run(filter: &Filter, source: &impl Source) -> u32 {
    walk(filter.insns(), source).unwrap_or(0)
}

/// `None` where a load or a division ends the program.
fn walk(insns: &[Insn], source: &impl Source) -> Option<u32> {
    let mut machine = Machine { a: 0, x: 0, cells: [0; Cell::COUNT] };
    let mut pc = 0;
    loop {
        let insn = insns.get(pc).expect("invariant: the last instruction is a ret");
        pc += 1;
        match *insn {
            Insn::LoadAbs { size, place } => machine.a = source.load(place, size)?,
            Insn::LoadInd { size, off } => {
                machine.a = source.load(Place::of(machine.x.wrapping_add(off)), size)?;
            }
            Insn::LoadMsh { place } => {
                machine.x = (source.load(place, Size::B)? & 0xf) * 4;
            }
            Insn::LoadAncillary(which) => {
                machine.a = source.ancillary(which, machine.a, machine.x)?;
            }
            Insn::LoadImm(var, value) => machine.set(var, value),
            Insn::LoadLen(var) => machine.set(var, source.len()),
            Insn::LoadMem(var, cell) => machine.set(var, machine.cells[cell.index()]),
            Insn::Store(var, cell) => machine.cells[cell.index()] = machine.get(var),
            Insn::Alu(op, rhs) => machine.a = alu(op, machine.a, machine.operand(rhs))?,
            Insn::Neg => machine.a = machine.a.wrapping_neg(),
            Insn::Jump(target) => pc = target.index(),
            Insn::Branch { op, rhs, yes, no } => {
                let holds = compare(op, machine.a, machine.operand(rhs));
                pc = if holds { yes.index() } else { no.index() };
            }
            Insn::RetImm(value) => return Some(value),
            Insn::RetA => return Some(machine.a),
            Insn::Tax => machine.x = machine.a,
            Insn::Txa => machine.a = machine.x,
        }
    }
}

/// `None` for divisions by zero.
#[inline]
pub(crate) fn alu(op: AluOp, a: u32, b: u32) -> Option<u32> {
    Some(match op {
        AluOp::Add => a.wrapping_add(b),
        AluOp::Sub => a.wrapping_sub(b),
        AluOp::Mul => a.wrapping_mul(b),
        AluOp::Div => a.checked_div(b)?,
        AluOp::Mod => a.checked_rem(b)?,
        AluOp::Or => a | b,
        AluOp::And => a & b,
        AluOp::Xor => a ^ b,
        AluOp::Lsh => a.wrapping_shl(b),
        AluOp::Rsh => a.wrapping_shr(b),
        AluOp::SDiv | AluOp::SMod | AluOp::Arsh => {
            unreachable!("invariant: the classic machine has no signed operations")
        }
    })
}

#[inline]
pub(crate) fn compare(op: CmpOp, a: u32, b: u32) -> bool {
    match op {
        CmpOp::Eq => a == b,
        CmpOp::Gt => a > b,
        CmpOp::Ge => a >= b,
        CmpOp::Set => a & b != 0,
        _ => unreachable!("invariant: the classic machine has four comparisons"),
    }
}
