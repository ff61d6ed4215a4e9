//! From classic instructions to eBPF ones, in one forward pass.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use ebpf_isa::{
    AluOp, ByteOrder, CmpOp, Extend, Insn as Ebpf, LineTable, Operand as EbpfOperand, Pc, Program,
    Reg, Size, Width,
};

use super::analysis::{Analysis, Before, Indirect, Span, Use};
use super::packet::Registers;
use super::ranges::Ranges;
use super::target::Target;
use super::{ConvertError, Options, Returns};
use crate::filter::{Cell, ClassicPc, Filter, Insn, Operand};
use crate::op::Var;

/// Jumps to the common end are bound before they get farther away than this. An offset has 16 bits;
/// kernels may put up to 16 instructions in the place of one before they look at it again.
const ZERO_DISTANCE: usize = 1_000;

/// Which classic instruction each slot was made for, and the reverse.
pub(super) struct Positions {
    pub(super) origins: Vec<Option<ClassicPc>>,
    pub(super) starts: Vec<Option<Pc>>,
}

/// Converts a filter that the target can express.
pub(super) fn emit(
    filter: &Filter,
    ranges: &Ranges,
    options: &Options,
) -> Result<(Program, Positions), ConvertError> {
    let indirect = Indirect { ranges, target: options.target };
    let analysis = Analysis::new(filter, indirect);
    let in_order = |order| Emitter::new(filter, &analysis, indirect, options, order).run();
    let (slots, positions) = in_order(Keep::NetworkOrder)
        .or_else(|MixedOrder| in_order(Keep::HostOrder))
        .expect("invariant: values in host order do not mix with others");
    Ok((Program::new(slots, BTreeMap::new(), LineTable::new())?, positions))
}

/// In which order bytes that were loaded may stay.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    NetworkOrder,
    HostOrder,
}

/// A comparison is reached by values in different byte orders.
#[derive(Debug)]
struct MixedOrder;

/// The byte order of the value in `A`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Host,
    /// That of the packet, for a value of this size.
    Network(Size),
    /// Different ones on different ways here.
    Mixed,
}

/// What is known at a place, whichever way it was reached.
#[derive(Clone, Copy)]
pub(super) struct State {
    /// The packet reaches at least to here.
    pub(super) known: u32,
    /// The pointer register holds the address of `X` plus the lower end, and the packet has these
    /// bytes.
    pub(super) known_x: Option<Span>,
    pub(super) order: Order,
    /// Upper bounds that a verifier knows, too.
    pub(super) a_max: u32,
    pub(super) x_max: u32,
    /// `A` is the result of adding a constant.
    a_is_shifted: bool,
    /// `X` was moved from or to another register.
    x_is_shared: bool,
}

impl State {
    /// At the entry, where both registers are 0.
    const ENTRY: Self = Self {
        known: 0,
        known_x: None,
        order: Order::Host,
        a_max: 0,
        x_max: 0,
        a_is_shifted: false,
        x_is_shared: false,
    };

    fn join(self, other: Self) -> Self {
        let known_x = match (self.known_x, other.known_x) {
            (Some(Span { lo, hi }), Some(other)) if lo == other.lo => {
                Some(Span { lo, hi: hi.min(other.hi) })
            }
            _ => None,
        };
        Self {
            known: self.known.min(other.known),
            known_x,
            order: if self.order == other.order { self.order } else { Order::Mixed },
            a_max: self.a_max.max(other.a_max),
            x_max: self.x_max.max(other.x_max),
            a_is_shifted: self.a_is_shifted || other.a_is_shifted,
            x_is_shared: self.x_is_shared || other.x_is_shared,
        }
    }

    /// `A` holds a number of at most `max`.
    pub(super) fn set_a(&mut self, max: u32) {
        (self.a_max, self.order, self.a_is_shifted) = (max, Order::Host, false);
    }

    /// `X` holds a number of at most `max`.
    pub(super) fn set_x(&mut self, max: u32) {
        (self.x_max, self.known_x, self.x_is_shared) = (max, None, false);
    }

    /// `A` is compared. The kernel's verifier remembers by which constant a register differs from the
    /// one that it was moved from. What a comparison tells of `A` it carries over to `X`, in place of
    /// what it knew of `X` before, which may have been more.
    fn compare(&mut self) {
        if self.a_is_shifted && self.x_is_shared {
            self.x_max = u32::MAX;
        }
    }

    fn set(&mut self, var: Var, max: u32) {
        match var {
            Var::A => self.set_a(max),
            Var::X => self.set_x(max),
        }
    }
}

/// Where a jump leads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Label {
    At(ClassicPc),
    /// The end with 0.
    Zero,
}

/// A jump that does not lead anywhere yet.
#[must_use]
pub(super) struct Skip(usize);

/// A comparison of `A`.
#[derive(Clone, Copy)]
pub(super) struct Test {
    pub(super) op: CmpOp,
    pub(super) width: Width,
    pub(super) rhs: EbpfOperand,
}

impl Test {
    pub(super) const fn words(op: CmpOp, rhs: EbpfOperand) -> Self {
        Self { op, width: Width::W32, rhs }
    }
}

pub(super) struct Emitter<'f> {
    pub(super) filter: &'f Filter,
    pub(super) analysis: &'f Analysis,
    pub(super) indirect: Indirect<'f>,
    pub(super) target: Target,
    returns: Returns,
    keep: Keep,
    pub(super) regs: Registers,
    slots: Vec<Option<Ebpf>>,
    positions: Positions,
    /// The instruction that is being converted.
    current: Option<ClassicPc>,
    /// Where the code of each instruction begins.
    places: Vec<Pc>,
    states: Vec<Option<State>>,
    jumps: Vec<(usize, ClassicPc)>,
    /// Jumps to the end with 0 that are not bound yet.
    zeros: Vec<usize>,
}

type Emitted = (Vec<Option<Ebpf>>, Positions);

impl<'f> Emitter<'f> {
    fn new(
        filter: &'f Filter,
        analysis: &'f Analysis,
        indirect: Indirect<'f>,
        options: &Options,
        keep: Keep,
    ) -> Self {
        let len = filter.insns().len();
        Self {
            filter,
            analysis,
            indirect,
            target: options.target,
            returns: options.returns,
            keep,
            regs: Registers::new(filter, indirect),
            slots: Vec::with_capacity(2 * len + 16),
            positions: Positions {
                origins: Vec::with_capacity(2 * len + 16),
                starts: vec![None; len],
            },
            current: None,
            places: vec![Pc::ENTRY; len],
            states: vec![None; len],
            jumps: Vec::new(),
            zeros: Vec::new(),
        }
    }

    fn run(mut self) -> Result<Emitted, MixedOrder> {
        if !self.before(ClassicPc(0)).ends_with_zero() {
            self.prologue();
            self.states[0] = Some(State::ENTRY);
            let mut pc = ClassicPc(0);
            while pc.index() < self.states.len() {
                pc = self.convert(pc)?;
            }
        }
        self.current = None;
        if !self.zeros.is_empty() || self.slots.is_empty() {
            self.bind_zeros();
        }
        self.bind_jumps();
        Ok((self.slots, self.positions))
    }

    pub(super) fn before(&self, pc: ClassicPc) -> Before {
        self.analysis.before[pc.index()]
    }

    /// Converts the instruction at `pc`, if it is reached; gives the next one.
    fn convert(&mut self, pc: ClassicPc) -> Result<ClassicPc, MixedOrder> {
        if self.zeros.first().is_some_and(|first| self.slots.len() - first > ZERO_DISTANCE) {
            self.current = None;
            self.bind_zeros_in_passing();
        }
        let start = Pc(self.slots.len() as u32);
        self.places[pc.index()] = start;
        let Some(state) = self.states[pc.index()] else {
            return Ok(pc.next());
        };
        self.current = Some(pc);
        let last = match self.wide_comparison(pc, &state) {
            Some(wide) => self.compare_wide(pc, &wide, state),
            None => {
                self.insn(pc, state)?;
                pc
            }
        };
        if self.slots.len() > start.index() {
            self.positions.starts[pc.index()..=last.index()].fill(Some(start));
        }
        Ok(last.next())
    }

    fn insn(&mut self, pc: ClassicPc, mut state: State) -> Result<(), MixedOrder> {
        let Registers { a, x, .. } = self.regs;
        match self.filter.insns()[pc.index()] {
            Insn::LoadAbs { size, place } => self.load_absolute(pc, size, place, &mut state),
            Insn::LoadInd { size, off } => self.load_indirect(pc, size, off, &mut state),
            Insn::LoadMsh { place } => self.load_msh(pc, place, &mut state),
            Insn::LoadAncillary(which) => self.load_ancillary(which, &mut state),
            Insn::LoadImm(var, value) => {
                self.mov32(self.regs.of(var), imm(value));
                state.set(var, value);
            }
            Insn::LoadLen(var) => {
                self.load_length(self.regs.of(var));
                state.set(var, u32::MAX);
            }
            Insn::LoadMem(var, cell) => {
                self.load_cell(self.regs.of(var), cell);
                state.set(var, u32::MAX);
                state.x_is_shared |= var == Var::X;
            }
            Insn::Store(var, cell) => {
                self.store_cell(self.regs.of(var), cell);
                state.x_is_shared |= var == Var::X;
            }
            Insn::Alu(op, operand) => self.alu(op, operand, &mut state),
            Insn::Neg => {
                self.push(Ebpf::Neg { width: Width::W32, dst: a });
                state.set_a(u32::MAX);
            }
            Insn::Jump(to) => {
                self.enter(to, state);
                if to != pc.next() {
                    self.goto(self.label(to));
                }
                return Ok(());
            }
            Insn::Branch { op, rhs, yes, no } => {
                return self.branch(pc, (op, rhs), (yes, no), state);
            }
            Insn::RetImm(value) => {
                self.end_with(value);
                return Ok(());
            }
            Insn::RetA => {
                self.end_with_a();
                return Ok(());
            }
            Insn::Tax => {
                self.mov32(x, EbpfOperand::Reg(a));
                state.set_x(state.a_max);
                state.x_is_shared = true;
            }
            Insn::Txa => {
                self.mov32(a, EbpfOperand::Reg(x));
                state.set_a(state.x_max);
                state.x_is_shared = true;
            }
        }
        self.enter(pc.next(), state);
        Ok(())
    }

    /// Control reaches `pc` with this state.
    pub(super) fn enter(&mut self, pc: ClassicPc, state: State) {
        if self.before(pc).ends_with_zero() {
            return;
        }
        let known = &mut self.states[pc.index()];
        *known = Some(known.map_or(state, |other| other.join(state)));
    }

    pub(super) fn label(&self, pc: ClassicPc) -> Label {
        if self.before(pc).ends_with_zero() { Label::Zero } else { Label::At(pc) }
    }

    /// Registers that are used before they are set are 0.
    fn prologue(&mut self) {
        let before = self.before(ClassicPc(0));
        self.set_up_packet();
        if before.a != Use::Dead {
            self.mov32(self.regs.a, EbpfOperand::Imm(0));
        }
        if before.x_is_used {
            self.mov32(self.regs.x, EbpfOperand::Imm(0));
        }
    }

    fn alu(&mut self, op: AluOp, operand: Operand, state: &mut State) {
        let src = self.operand(operand);
        if let (AluOp::Div | AluOp::Mod, EbpfOperand::Reg(x)) = (op, src) {
            self.zero_if(CmpOp::Eq, Width::W32, x, EbpfOperand::Imm(0));
        }
        self.push(Ebpf::Alu { op, width: Width::W32, dst: self.regs.a, src });
        state.set_a(match (op, operand) {
            (AluOp::And, Operand::Imm(mask)) => state.a_max.min(mask),
            (AluOp::Lsh, Operand::Imm(by)) if state.a_max <= i32::MAX as u32 >> by => {
                state.a_max << by
            }
            _ => u32::MAX,
        });
        state.a_is_shifted = matches!((op, operand), (AluOp::Add | AluOp::Sub, Operand::Imm(_)));
    }

    fn operand(&self, operand: Operand) -> EbpfOperand {
        match operand {
            Operand::Imm(value) => imm(value),
            Operand::X => EbpfOperand::Reg(self.regs.x),
        }
    }

    fn branch(
        &mut self,
        pc: ClassicPc,
        (op, rhs): (CmpOp, Operand),
        (yes, no): (ClassicPc, ClassicPc),
        mut state: State,
    ) -> Result<(), MixedOrder> {
        let test = match (rhs, state.order) {
            _ if self.label(yes) == self.label(no) => Err(true),
            (Operand::Imm(k), Order::Network(size)) => in_network_order(op, k, size),
            (_, Order::Mixed) => return Err(MixedOrder),
            _ => Ok(Test::words(op, self.operand(rhs))),
        };
        match test {
            Ok(test) => {
                state.compare();
                self.enter(yes, state);
                self.enter(no, state);
                self.two_ways(test, yes, no, pc.next());
            }
            Err(always) => {
                let to = if always { yes } else { no };
                self.enter(to, state);
                if to != pc.next() || self.label(to) == Label::Zero {
                    self.goto(self.label(to));
                }
            }
        }
        Ok(())
    }

    /// Jumps to `yes` or `no`, of which one may be the next to be converted.
    pub(super) fn two_ways(&mut self, test: Test, yes: ClassicPc, no: ClassicPc, next: ClassicPc) {
        let (yes, no, next) = (self.label(yes), self.label(no), self.label(next));
        let a = self.regs.a;
        let falls_to = |label| label == next && label != Label::Zero;
        let Test { op, width, rhs } = test;
        match op.inverse() {
            Some(inverse) if falls_to(yes) => self.jump_if(inverse, width, a, rhs, no),
            _ => {
                self.jump_if(op, width, a, rhs, yes);
                if !falls_to(no) {
                    self.goto(no);
                }
            }
        }
    }

    /// Ends with a constant other than 0.
    fn end_with(&mut self, value: u32) {
        let value = match self.returns {
            Returns::Value => value,
            Returns::Action { accept, .. } => accept,
        };
        self.mov32(Reg::R0, imm(value));
        self.push(Ebpf::Exit);
    }

    fn end_with_a(&mut self) {
        if let Returns::Action { accept, .. } = self.returns {
            self.zero_if(CmpOp::Eq, Width::W32, self.regs.a, EbpfOperand::Imm(0));
            self.mov32(Reg::R0, imm(accept));
        }
        self.push(Ebpf::Exit);
    }

    /// Whether bytes just loaded into `A` by the instruction at `pc` can stay as they are.
    fn stays_in_network_order(&self, pc: ClassicPc) -> bool {
        self.keep == Keep::NetworkOrder && self.before(pc.next()).a != Use::Number
    }

    /// Bytes were loaded into `A`, zero-extended.
    pub(super) fn loaded(&mut self, pc: ClassicPc, size: Size, state: &mut State) {
        match size {
            Size::B => state.set_a(u8::MAX.into()),
            _ => {
                state.set_a(u32::MAX);
                if self.stays_in_network_order(pc) {
                    state.order = Order::Network(size);
                } else {
                    self.push(Ebpf::Swap { order: ByteOrder::Be, size, dst: self.regs.a });
                }
            }
        }
    }

    fn load_cell(&mut self, dst: Reg, cell: Cell) {
        match self.regs.cell(cell) {
            Ok(reg) => self.mov32(dst, EbpfOperand::Reg(reg)),
            Err(off) => self.load(Size::W, dst, Reg::FP, off),
        }
    }

    fn store_cell(&mut self, src: Reg, cell: Cell) {
        match self.regs.cell(cell) {
            Ok(reg) => self.mov32(reg, EbpfOperand::Reg(src)),
            Err(off) => {
                let src = EbpfOperand::Reg(src);
                self.push(Ebpf::Store { size: Size::W, base: Reg::FP, off, src });
            }
        }
    }
}

/// Single instructions, jumps and their targets.
impl Emitter<'_> {
    pub(super) fn push(&mut self, insn: Ebpf) {
        for slot in 0..insn.slots() {
            self.slots.push((slot == 0).then_some(insn));
            self.positions.origins.push(self.current);
        }
    }

    pub(super) fn mov32(&mut self, dst: Reg, src: EbpfOperand) {
        self.push(Ebpf::Mov { width: Width::W32, dst, src });
    }

    pub(super) fn mov64(&mut self, dst: Reg, src: EbpfOperand) {
        self.push(Ebpf::Mov { width: Width::W64, dst, src });
    }

    pub(super) fn add(&mut self, width: Width, dst: Reg, src: EbpfOperand) {
        self.push(Ebpf::Alu { op: AluOp::Add, width, dst, src });
    }

    pub(super) fn load(&mut self, size: Size, dst: Reg, base: Reg, off: i16) {
        self.push(Ebpf::Load { size, extend: Extend::Zero, dst, base, off });
    }

    /// Ends with 0 if a comparison holds.
    pub(super) fn zero_if(&mut self, op: CmpOp, width: Width, lhs: Reg, rhs: EbpfOperand) {
        self.jump_if(op, width, lhs, rhs, Label::Zero);
    }

    fn jump_if(&mut self, op: CmpOp, width: Width, lhs: Reg, rhs: EbpfOperand, to: Label) {
        self.note_jump(to);
        self.push(Ebpf::Branch { op, width, lhs, rhs, target: Pc::ENTRY });
    }

    /// A jump within what an instruction becomes, if a comparison of 64 bits holds: see
    /// [`Self::land`].
    pub(super) fn skip_if(&mut self, op: CmpOp, lhs: Reg, rhs: EbpfOperand) -> Skip {
        let skip = Skip(self.slots.len());
        self.push(Ebpf::Branch { op, width: Width::W64, lhs, rhs, target: Pc::ENTRY });
        skip
    }

    /// The same in any case.
    pub(super) fn skip(&mut self) -> Skip {
        let skip = Skip(self.slots.len());
        self.push(Ebpf::Jump { target: Pc::ENTRY, long: false });
        skip
    }

    /// Where a jump leads: here.
    pub(super) fn land(&mut self, skip: Skip) {
        let here = Pc(self.slots.len() as u32);
        set_target(&mut self.slots[skip.0], here);
    }

    fn goto(&mut self, to: Label) {
        self.note_jump(to);
        self.push(Ebpf::Jump { target: Pc::ENTRY, long: false });
    }

    fn note_jump(&mut self, to: Label) {
        let at = self.slots.len();
        match to {
            Label::Zero => self.zeros.push(at),
            Label::At(pc) => self.jumps.push((at, pc)),
        }
    }

    /// The end with 0, here.
    fn bind_zeros(&mut self) {
        let here = Pc(self.slots.len() as u32);
        for at in core::mem::take(&mut self.zeros) {
            set_target(&mut self.slots[at], here);
        }
        let value = match self.returns {
            Returns::Value => 0,
            Returns::Action { reject, .. } => reject,
        };
        self.mov32(Reg::R0, imm(value));
        self.push(Ebpf::Exit);
    }

    /// The same between other instructions, which may go on here.
    fn bind_zeros_in_passing(&mut self) {
        let falls_through =
            !matches!(self.slots.last(), Some(Some(Ebpf::Exit | Ebpf::Jump { .. })));
        if falls_through {
            let behind = Pc(self.slots.len() as u32 + 3);
            self.push(Ebpf::Jump { target: behind, long: false });
        }
        self.bind_zeros();
    }

    fn bind_jumps(&mut self) {
        for &(at, pc) in &self.jumps {
            set_target(&mut self.slots[at], self.places[pc.index()]);
            if let Some(Ebpf::Jump { target, long }) = &mut self.slots[at] {
                let distance = Pc(at as u32).offset_to(*target);
                *long = i16::try_from(distance).is_err();
            }
        }
    }
}

fn set_target(slot: &mut Option<Ebpf>, to: Pc) {
    match slot {
        Some(Ebpf::Jump { target, .. } | Ebpf::Branch { target, .. }) => *target = to,
        _ => unreachable!("invariant: only jumps are bound"),
    }
}

/// A constant, as the immediate with the same 32 bits.
pub(super) const fn imm(value: u32) -> EbpfOperand {
    EbpfOperand::Imm(value.cast_signed())
}

/// A comparison of a value in network byte order; or how it always goes.
fn in_network_order(op: CmpOp, k: u32, size: Size) -> Result<Test, bool> {
    let swapped = match size {
        Size::H => u32::from((k as u16).to_be()),
        _ => k.to_be(),
    };
    let fits = size != Size::H || k <= u16::MAX.into();
    match op {
        CmpOp::Eq if !fits => Err(false),
        CmpOp::Set if swapped == 0 => Err(false),
        _ => Ok(Test::words(op, imm(swapped))),
    }
}

impl Registers {
    pub(super) const fn of(&self, var: Var) -> Reg {
        match var {
            Var::A => self.a,
            Var::X => self.x,
        }
    }
}
