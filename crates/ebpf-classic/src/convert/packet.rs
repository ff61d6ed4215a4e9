//! Access to the packet and to what is known of it.

use ebpf_isa::uapi::HelperId;
use ebpf_isa::{
    AluOp, ByteOrder, CallTarget, CmpOp, Insn as Ebpf, Operand as EbpfOperand, Reg, Size, Width,
};

use super::analysis::{Access, Indirect, Use};
use super::emit::{Emitter, State, imm};
use super::target::{FieldKind, Lowering, Target, helper};
use crate::ancillary::{Ancillary, LINK_OFFSET, NETWORK_OFFSET, Place};
use crate::filter::{Cell, ClassicPc, Filter, Insn};
use crate::op::Var;
use crate::seccomp;

/// Where the program keeps things.
///
/// Without calls, everything that is always needed fits into the registers that a call would
/// destroy, so that compiled code has nothing to save.
#[derive(Clone, Copy)]
pub(super) struct Registers {
    pub(super) a: Reg,
    pub(super) x: Reg,
    /// Start of the packet; for system calls, the context.
    pub(super) data: Reg,
    /// End of the packet; on flat memory, its length.
    pub(super) end: Reg,
    pub(super) tmp: Reg,
    /// See [`State::known_x`].
    pub(super) ptr: Reg,
    pub(super) ctx: Reg,
    keeps_ctx: bool,
    uses_packet: bool,
    cells: [Option<Reg>; Cell::COUNT],
}

/// Offset of cell 0 in the stack; the others are below.
const CELLS: i16 = -4;
/// Offset of eight bytes of the stack that helpers write to.
const SCRATCH: i16 = -72;
/// Offset of the word in which `A` outlives a call.
const SAVED_A: i16 = -76;
/// Where bpf_skb_load_bytes_relative counts from (`BPF_HDR_START_NET`).
const FROM_NETWORK_HEADER: u32 = 1;

impl Registers {
    pub(super) fn new(filter: &Filter, indirect: Indirect<'_>) -> Self {
        let target = indirect.target;
        let is_socket_filter = target == Target::SocketFilter;
        let mut needs = Needs { packet: false, ctx: is_socket_filter, calls: is_socket_filter };
        filter.iter().for_each(|(pc, insn)| needs.of(pc, insn, indirect));
        let uses_packet = needs.packet && target.has_direct_access();
        let (keeps_ctx, calls) = (needs.ctx, needs.calls);
        let (tmp, ptr, ctx) = (Reg::R4, Reg::R5, Reg::R6);
        let (data, end, x) = match calls {
            false => (Reg::R1, Reg::R2, Reg::R3),
            true => (Reg::R8, Reg::R9, Reg::R7),
        };
        let cells = if calls { [None; Cell::COUNT] } else { cells_in_registers(filter) };
        Self { a: Reg::R0, x, data, end, tmp, ptr, ctx, keeps_ctx, uses_packet, cells }
    }

    /// The register that holds a cell, or its offset in the stack.
    pub(super) const fn cell(&self, cell: Cell) -> Result<Reg, i16> {
        match self.cells[cell.index()] {
            Some(reg) => Ok(reg),
            None => Err(CELLS - 4 * cell.index() as i16),
        }
    }
}

/// The first three cells that are written get registers.
fn cells_in_registers(filter: &Filter) -> [Option<Reg>; Cell::COUNT] {
    let mut cells = [None; Cell::COUNT];
    let mut free = [Reg::R9, Reg::R8, Reg::R7].to_vec();
    for insn in filter.insns() {
        if let Insn::Store(_, cell) = insn
            && cells[cell.index()].is_none()
        {
            cells[cell.index()] = free.pop();
        }
    }
    cells
}

/// What of a program needs registers.
struct Needs {
    /// Loads through pointers into the packet.
    packet: bool,
    /// The context.
    ctx: bool,
    /// Calls of helpers.
    calls: bool,
}

impl Needs {
    /// Notes what one instruction needs.
    fn of(&mut self, pc: ClassicPc, insn: Insn, indirect: Indirect<'_>) {
        let target = indirect.target;
        match insn {
            Insn::LoadAbs { place, .. } | Insn::LoadMsh { place } => match target.place(place) {
                Place::Data(_) => self.packet = true,
                Place::Network(_) if target == Target::SchedCls => self.helper_of_context(),
                _ => {}
            },
            Insn::LoadInd { off, .. } => {
                let access = indirect.access(pc, off);
                self.packet |= access != Access::Helper;
                if access != Access::Direct {
                    self.helper_of_context();
                }
            }
            Insn::LoadLen(_) => match target {
                Target::Xdp => self.packet = true,
                Target::SchedCls => self.ctx = true,
                _ => {}
            },
            Insn::LoadAncillary(which) => match target.lowering(which) {
                Lowering::Field { .. } => self.ctx = true,
                Lowering::Helper(_) => self.calls = true,
                Lowering::XorX | Lowering::Refused(_) => {}
            },
            _ => {}
        }
    }

    fn helper_of_context(&mut self) {
        (self.ctx, self.calls) = (true, true);
    }
}

impl Emitter<'_> {
    /// Puts the context and the bounds of the packet where they belong.
    pub(super) fn set_up_packet(&mut self) {
        let regs = self.regs;
        if regs.keeps_ctx {
            self.mov64(regs.ctx, EbpfOperand::Reg(Reg::R1));
        }
        let (data, end) = match self.target {
            Target::SchedCls => (76, 80),
            Target::Xdp => (0, 4),
            Target::SocketFilter | Target::Flat | Target::Seccomp => return,
        };
        if regs.uses_packet {
            // The context is in the register that the start of the packet may get.
            self.load(Size::W, regs.end, Reg::R1, end);
            self.load(Size::W, regs.data, Reg::R1, data);
        }
    }

    pub(super) fn load_length(&mut self, dst: Reg) {
        let regs = self.regs;
        match self.target {
            Target::SchedCls | Target::SocketFilter => self.load(Size::W, dst, regs.ctx, 0),
            Target::Xdp => {
                self.mov64(dst, EbpfOperand::Reg(regs.end));
                let src = EbpfOperand::Reg(regs.data);
                self.push(Ebpf::Alu { op: AluOp::Sub, width: Width::W64, dst, src });
                self.mov32(dst, EbpfOperand::Reg(dst));
            }
            Target::Flat => self.mov32(dst, EbpfOperand::Reg(regs.end)),
            Target::Seccomp => self.mov32(dst, imm(seccomp::DATA_LEN)),
        }
    }

    pub(super) fn load_absolute(
        &mut self,
        pc: ClassicPc,
        size: Size,
        place: Place,
        state: &mut State,
    ) {
        let a = self.regs.a;
        match self.target {
            Target::SocketFilter => self.load_packet(size, None, constant(place), state),
            Target::Seccomp => {
                self.load_data(size, a, place);
                state.set_a(u32::MAX);
            }
            _ => {
                if self.load_bytes(pc, size, a, place, Var::A, state) {
                    self.loaded(pc, size, state);
                }
            }
        }
    }

    pub(super) fn load_msh(&mut self, pc: ClassicPc, place: Place, state: &mut State) {
        let x = self.regs.x;
        let loaded = match self.target {
            Target::SocketFilter => {
                self.load_packet_into_x(pc, constant(place), state);
                true
            }
            _ => self.load_bytes(pc, Size::B, x, place, Var::X, state),
        };
        if loaded {
            for (op, by) in [(AluOp::And, 0xf), (AluOp::Lsh, 2)] {
                self.push(Ebpf::Alu { op, width: Width::W32, dst: x, src: EbpfOperand::Imm(by) });
            }
        }
        state.set_x(0xf << 2);
    }

    /// Loads bytes at a constant place as they are, if somebody uses them; otherwise only checks
    /// that the packet has them.
    fn load_bytes(
        &mut self,
        pc: ClassicPc,
        size: Size,
        dst: Reg,
        place: Place,
        var: Var,
        state: &mut State,
    ) -> bool {
        let used = self.is_used_after(pc, var);
        match self.target.place(place) {
            Place::Data(off) => {
                self.reach(pc, off.saturating_add(size.bytes().into()), state);
                if used {
                    self.load_data(size, dst, Place::Data(off));
                }
            }
            Place::Network(off) => {
                let saves_a = dst != self.regs.a && self.is_used_after(pc, Var::A);
                self.mov32(Reg::R2, imm(off));
                self.load_relative(size, dst, saves_a, state);
            }
            Place::Link(_) | Place::Nowhere => {
                unreachable!("invariant: direct access counts from the link-layer header")
            }
        }
        used
    }

    pub(super) fn is_used_after(&self, pc: ClassicPc, var: Var) -> bool {
        let after = self.before(pc.next());
        match var {
            Var::A => after.a != Use::Dead,
            Var::X => after.x_is_used,
        }
    }

    /// Makes sure that the packet reaches to `end`, and as far as all ways from here need.
    pub(super) fn reach(&mut self, pc: ClassicPc, end: u32, state: &mut State) {
        if state.known >= end {
            return;
        }
        let need = self.before(pc).need.max(end);
        let regs = self.regs;
        if self.target == Target::Flat {
            self.zero_if(CmpOp::Lt, Width::W64, regs.end, imm(need));
        } else {
            self.mov64(regs.tmp, EbpfOperand::Reg(regs.data));
            self.add(Width::W64, regs.tmp, imm(need));
            self.zero_if(CmpOp::Gt, Width::W64, regs.tmp, EbpfOperand::Reg(regs.end));
        }
        state.known = need;
    }

    /// Loads bytes that the packet is known to have.
    pub(super) fn load_data(&mut self, size: Size, dst: Reg, place: Place) {
        let Place::Data(off) = place else {
            unreachable!("invariant: only offsets from the start of the packet are checked for");
        };
        let regs = self.regs;
        match i16::try_from(off) {
            Ok(off) => self.load(size, dst, regs.data, off),
            Err(_) => {
                self.mov64(regs.tmp, EbpfOperand::Reg(regs.data));
                self.add(Width::W64, regs.tmp, imm(off));
                self.load(size, dst, regs.tmp, 0);
            }
        }
    }

    /// One of the packet load instructions, which give numbers in host order.
    pub(super) fn load_packet(
        &mut self,
        size: Size,
        index: Option<Reg>,
        k: u32,
        state: &mut State,
    ) {
        self.push(Ebpf::LoadPacket { size, index, imm: k.cast_signed() });
        state.set_a(if size == Size::B { u8::MAX.into() } else { u32::MAX });
    }

    /// The same for a byte that goes to `X`.
    fn load_packet_into_x(&mut self, pc: ClassicPc, k: u32, state: &mut State) {
        let saved = self.is_used_after(pc, Var::A).then_some(Reg::R8);
        if let Some(saved) = saved {
            self.mov32(saved, EbpfOperand::Reg(self.regs.a));
        }
        let before = *state;
        self.load_packet(Size::B, None, k, state);
        self.mov32(self.regs.x, EbpfOperand::Reg(self.regs.a));
        if let Some(saved) = saved {
            self.mov32(self.regs.a, EbpfOperand::Reg(saved));
            *state = before;
        }
    }

    /// Lets a helper copy the bytes at the offset in `r2`, which counts from the network header.
    pub(super) fn load_relative(&mut self, size: Size, dst: Reg, saves_a: bool, state: &mut State) {
        let regs = self.regs;
        if saves_a {
            let src = EbpfOperand::Reg(regs.a);
            self.push(Ebpf::Store { size: Size::W, base: Reg::FP, off: SAVED_A, src });
        }
        self.mov64(Reg::R1, EbpfOperand::Reg(regs.ctx));
        self.mov64(Reg::R3, EbpfOperand::Reg(Reg::FP));
        self.add(Width::W64, Reg::R3, EbpfOperand::Imm(SCRATCH.into()));
        self.mov32(Reg::R4, imm(size.bytes().into()));
        self.mov32(Reg::R5, imm(FROM_NETWORK_HEADER));
        self.call(helper::SKB_LOAD_BYTES_RELATIVE, state);
        self.zero_if(CmpOp::Ne, Width::W64, Reg::R0, EbpfOperand::Imm(0));
        if saves_a {
            self.load(Size::W, regs.a, Reg::FP, SAVED_A);
        }
        self.load(size, dst, Reg::FP, SCRATCH);
    }

    pub(super) fn load_ancillary(&mut self, which: Ancillary, state: &mut State) {
        let a = self.regs.a;
        match self.target.lowering(which) {
            Lowering::Field { off, kind } => {
                self.load(Size::W, a, self.regs.ctx, off);
                match kind {
                    FieldKind::Number => {}
                    FieldKind::EtherType => {
                        self.push(Ebpf::Swap { order: ByteOrder::Be, size: Size::H, dst: a });
                    }
                    FieldKind::Interface => {
                        self.zero_if(CmpOp::Eq, Width::W32, a, EbpfOperand::Imm(0));
                    }
                }
            }
            Lowering::Helper(id) => {
                self.call(id, state);
                self.mov32(a, EbpfOperand::Reg(Reg::R0));
            }
            Lowering::XorX => {
                let src = EbpfOperand::Reg(self.regs.x);
                self.push(Ebpf::Alu { op: AluOp::Xor, width: Width::W32, dst: a, src });
            }
            Lowering::Refused(_) => unreachable!("invariant: refused before anything is converted"),
        }
        state.set_a(u32::MAX);
    }

    /// A call, which destroys the pointer register.
    fn call(&mut self, id: u32, state: &mut State) {
        self.push(Ebpf::Call(CallTarget::Helper(HelperId(id))));
        state.known_x = None;
    }
}

/// The constant of a classic load from a place.
fn constant(place: Place) -> u32 {
    match place {
        Place::Data(off) => off,
        Place::Network(off) => NETWORK_OFFSET + off,
        Place::Link(off) => LINK_OFFSET + off,
        Place::Nowhere => unreachable!("invariant: loads from nowhere end with 0"),
    }
}
