//! The classic machine itself: simple, and what every conversion must agree with.

use ebpf_isa::{AluOp, CmpOp, Size};

use crate::ancillary::{Ancillary, Place};
use crate::filter::{Cell, ClassicPc, Filter, Insn, Operand};
use crate::netlink;
use crate::op::Var;
use crate::steps::Step;

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

    /// A place that is counted from a header, in the bytes.
    #[cold]
    fn behind_header(&self, place: Place) -> Option<usize> {
        let start = match place {
            Place::Data(off) => off,
            Place::Link(off) => self.link_header?.checked_add(off)?,
            Place::Network(off) => self.network_header?.checked_add(off)?,
            Place::Nowhere => return None,
        };
        Some(start as usize)
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
            _ => self.behind_header(place)?,
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

    /// The place of a load at `X` plus an offset.
    #[inline]
    fn at(&self, off: u32) -> Place {
        Place::of(self.x.wrapping_add(off))
    }

    /// Runs any instruction, one of the rarer ones; `None` where a load or a division ends the program.
    #[inline(never)]
    fn step(&mut self, insn: Insn, source: &impl Source) -> Option<Next> {
        match insn {
            Insn::LoadAbs { size, place } => self.a = source.load(place, size)?,
            Insn::LoadInd { size, off } => self.a = source.load(self.at(off), size)?,
            Insn::LoadMsh { place } => self.x = (source.load(place, Size::B)? & 0xf) * 4,
            Insn::LoadAncillary(which) => self.a = source.ancillary(which, self.a, self.x)?,
            Insn::LoadImm(var, value) => self.set(var, value),
            Insn::LoadLen(var) => self.set(var, source.len()),
            Insn::LoadMem(var, cell) => self.set(var, self.cells[cell.index()]),
            Insn::Store(var, cell) => self.cells[cell.index()] = self.get(var),
            Insn::Alu(op, rhs) => self.a = alu(op, self.a, self.operand(rhs))?,
            Insn::Neg => self.a = self.a.wrapping_neg(),
            Insn::Jump(target) => return Some(Next::At(target)),
            Insn::Branch { op, rhs, yes, no } => {
                let holds = compare(op, self.a, self.operand(rhs));
                return Some(Next::At(if holds { yes } else { no }));
            }
            Insn::RetImm(value) => return Some(Next::End(value)),
            Insn::RetA => return Some(Next::End(self.a)),
            Insn::Tax => self.x = self.a,
            Insn::Txa => self.a = self.x,
        }
        Some(Next::Insn)
    }
}

/// What comes after an instruction.
enum Next {
    /// The one behind it.
    Insn,
    /// The one there.
    At(ClassicPc),
    /// Nothing: this is the filter's value.
    End(u32),
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
    walk(filter.steps(), filter.insns(), source).unwrap_or(0)
}

/// `None` where a load or a division ends the program.
fn walk(steps: &[Step], insns: &[Insn], source: &impl Source) -> Option<u32> {
    let mut machine = Machine { a: 0, x: 0, cells: [0; Cell::COUNT] };
    let mut pc = 0;
    loop {
        let step = steps.get(pc).expect("invariant: the last instruction is a ret");
        pc += 1;
        let branch = |holds, yes: u16, no: u16| {
            if holds {
                to_be_predicted();
                usize::from(yes)
            } else {
                usize::from(no)
            }
        };
        match *step {
            Step::LoadB(off) => machine.a = source.load(Place::Data(off), Size::B)?,
            Step::LoadH(off) => machine.a = source.load(Place::Data(off), Size::H)?,
            Step::LoadW(off) => machine.a = source.load(Place::Data(off), Size::W)?,
            Step::LoadAtB(off) => machine.a = source.load(machine.at(off), Size::B)?,
            Step::LoadAtH(off) => machine.a = source.load(machine.at(off), Size::H)?,
            Step::LoadAtW(off) => machine.a = source.load(machine.at(off), Size::W)?,
            Step::Msh(off) => machine.x = (source.load(Place::Data(off), Size::B)? & 0xf) * 4,
            Step::Equal(k, yes, no) => pc = branch(machine.a == k, yes, no),
            Step::Greater(k, yes, no) => pc = branch(machine.a > k, yes, no),
            Step::GreaterOrEqual(k, yes, no) => pc = branch(machine.a >= k, yes, no),
            Step::Common(k, yes, no) => pc = branch(machine.a & k != 0, yes, no),
            Step::Ret(value) => return Some(value),
            Step::Alu(op, rhs) => machine.a = alu(op, machine.a, machine.operand(rhs))?,
            Step::Tax => machine.x = machine.a,
            Step::Store(cell) => machine.cells[cell.index()] = machine.a,
            Step::LoadMem(cell) => machine.a = machine.cells[cell.index()],
            Step::Other => match machine.step(insns[pc - 1], source)? {
                Next::Insn => {}
                Next::At(target) => pc = target.index(),
                Next::End(value) => return Some(value),
            },
        }
    }
}

/// Makes a choice a jump. A conditional move would let the next instruction wait for what was loaded
/// from the packet, where a jump is predicted.
#[cold]
#[inline]
fn to_be_predicted() {}

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::op::{Op, Src};
    use crate::raw::SockFilter;

    /// The machine without steps.
    fn plain(filter: &Filter, packet: &Packet<'_>) -> Option<u32> {
        let mut machine = Machine { a: 0, x: 0, cells: [0; Cell::COUNT] };
        let mut pc = 0;
        loop {
            match machine.step(filter.insns()[pc], packet)? {
                Next::Insn => pc += 1,
                Next::At(target) => pc = target.index(),
                Next::End(value) => return Some(value),
            }
        }
    }

    fn insn() -> impl Strategy<Value = SockFilter> {
        let ops: Vec<Op> =
            (0..256).filter_map(Op::from_code).filter(|op| !op.is_return()).collect();
        let k = prop_oneof![8 => 0_u32..12, 1 => any::<u32>(), 1 => 0xffff_f000..0xffff_f040_u32];
        (select(ops), 0_u8..3, 0_u8..3, k).prop_map(|(op, jt, jf, k)| {
            let k = match op {
                Op::Jump => k % 3,
                Op::LoadMem(_) | Op::Store(_) => k % 4,
                Op::Alu(AluOp::Lsh | AluOp::Rsh, Src::K) => k % 32,
                Op::Alu(AluOp::Div | AluOp::Mod, Src::K) => k.max(1),
                Op::LoadAbs(_) if k >= 0xffff_f000 => k & !3,
                _ => k,
            };
            SockFilter { code: op.code(), jt, jf, k }
        })
    }

    proptest! {
        #[test]
        fn steps_do_what_their_instructions_do(
            insns in prop::collection::vec(insn(), 1..24),
            bytes in prop::collection::vec(0_u8..12, 0..24),
        ) {
            let cells = (0..4).map(|cell| SockFilter::new(Op::Store(Var::A).code(), cell));
            let ends = [SockFilter::new(Op::RetA.code(), 0); 4];
            let program: Vec<SockFilter> = cells.chain(insns).chain(ends).collect();
            let filter = Filter::new(program).unwrap();
            let packet = Packet { network_header: Some(3), ..Packet::new(&bytes) };
            prop_assert_eq!(filter.run(&packet), plain(&filter, &packet).unwrap_or(0));
        }
    }
}
