//! Instructions to text.

use core::fmt::{self, Display, Formatter};
use core::ops::Range;

use crate::insn::{CallTarget, Insn, MapForm, Operand, WideSource};
use crate::opcode::{AtomicOp, ByteOrder, Extend, Size, Width};
use crate::{Pc, Program, Reg};

/// An instruction at its position, which displays as canonical text.
#[derive(Debug, Clone, Copy)]
pub struct Text {
    insn: Insn,
    at: Pc,
}

impl Insn {
    /// The canonical text of this instruction at `at`: `r1 = *(u32 *)(r0 +0)`, `goto pc+3`.
    #[must_use]
    pub const fn text(self, at: Pc) -> Text {
        Text { insn: self, at }
    }
}

/// A program as text: a line an instruction, numbered as the kernel does, with the names of
/// subprograms and, where they are known, the source lines.
#[derive(Debug, Clone, Copy)]
pub struct Listing<'a> {
    program: &'a Program,
    marks: &'a [Mark],
}

/// Something that a listing says of the instructions in a range of slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The slots.
    pub slots: Range<Pc>,
    /// What is printed behind each of their instructions, as a comment.
    pub text: &'static str,
}

impl Program {
    /// The program as text.
    #[must_use]
    pub const fn listing(&self) -> Listing<'_> {
        Listing { program: self, marks: &[] }
    }
}

impl<'a> Listing<'a> {
    pub(super) const fn program(&self) -> &'a Program {
        self.program
    }

    /// The same with marks, which are in the order of the program and do not overlap.
    #[must_use]
    pub const fn with_marks(self, marks: &'a [Mark]) -> Self {
        Self { marks, ..self }
    }

    fn mark(&self, pc: Pc) -> Option<&'static str> {
        let after = self.marks.partition_point(|mark| mark.slots.start <= pc);
        let mark = self.marks.get(after.checked_sub(1)?)?;
        mark.slots.contains(&pc).then_some(mark.text)
    }
}

impl Display for Listing<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for subprog in self.program.subprogs() {
            if let Some(name) = &subprog.info.name {
                writeln!(f, "{name}:")?;
            }
            for pc in (subprog.start.0..subprog.end.0).map(Pc) {
                let Some(insn) = self.program.get(pc) else {
                    continue;
                };
                if let Some(line) = self.program.lines().starting_at(pc) {
                    writeln!(f, "; {} @ {}:{}", line.text.trim(), line.file, line.line)?;
                }
                write!(f, "{pc:>4}: {}", insn.text(pc))?;
                if let Some(mark) = self.mark(pc) {
                    write!(f, " ; {mark}")?;
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

/// A register with the letter of its width: `r3`, `w3`.
struct Wide(Width, Reg);

impl Display for Wide {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.0.letter(), self.1.number())
    }
}

/// A second operand; immediates in decimal.
struct Source(Width, Operand);

impl Display for Source {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.1 {
            Operand::Reg(reg) => Wide(self.0, reg).fmt(f),
            Operand::Imm(imm) => imm.fmt(f),
        }
    }
}

/// The second operand of a comparison; immediates in hexadecimal.
struct Compared(Width, Operand);

impl Display for Compared {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.1 {
            Operand::Reg(reg) => Wide(self.0, reg).fmt(f),
            Operand::Imm(imm) => write!(f, "{imm:#x}"),
        }
    }
}

/// An address: `(u32 *)(r1 +8)`.
struct Address(Extend, Size, Reg, i16);

impl Display for Address {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let &Self(extend, size, base, off) = self;
        let sign = match extend {
            Extend::Zero => 'u',
            Extend::Sign => 's',
        };
        write!(f, "({sign}{} *)({base} {off:+})", size.bits())
    }
}

/// A jump or call target relative to the next slot: `pc+3`.
struct Relative(Pc, Pc);

impl Display for Relative {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "pc{:+}", self.0.offset_to(self.1))
    }
}

impl Display for Text {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let at = self.at;
        match self.insn {
            Insn::Alu { op, width, dst, src } => {
                write!(f, "{} {} {}", Wide(width, dst), op.mnemonic(), Source(width, src))
            }
            Insn::Mov { width, dst, src } => {
                write!(f, "{} = {}", Wide(width, dst), Source(width, src))
            }
            Insn::MovSx { width, dst, src, from } => {
                write!(f, "{} = (s{}){}", Wide(width, dst), from.bits(), Wide(width, src))
            }
            Insn::Neg { width, dst } => write!(f, "{0} = -{0}", Wide(width, dst)),
            Insn::Swap { order, size, dst } => fmt_swap(f, order, size, dst),
            Insn::AddrSpaceCast { dst, src, to, from } => {
                write!(f, "{dst} = addr_space_cast({src}, {to}, {from})")
            }
            Insn::LoadWide { dst, source } => fmt_wide(f, dst, source, at),
            Insn::Jump { target, long } => {
                write!(f, "goto{} {}", if long { "l" } else { "" }, Relative(at, target))
            }
            Insn::MayGoto { target } => write!(f, "may_goto {}", Relative(at, target)),
            Insn::Branch { op, width, lhs, rhs, target } => write!(
                f,
                "if {} {} {} goto {}",
                Wide(width, lhs),
                op.mnemonic(),
                Compared(width, rhs),
                Relative(at, target)
            ),
            Insn::Call(CallTarget::Helper(id)) => write!(f, "call {id}"),
            Insn::Call(CallTarget::Subprog(target)) => write!(f, "call {}", Relative(at, target)),
            Insn::Call(CallTarget::Kfunc { btf_id, module: 0 }) => write!(f, "call kfunc#{btf_id}"),
            Insn::Call(CallTarget::Kfunc { btf_id, module }) => {
                write!(f, "call kfunc#{btf_id} module#{module}")
            }
            Insn::Call(CallTarget::Reg(callee)) => write!(f, "callx {callee}"),
            Insn::Call(CallTarget::Native(number)) => write!(f, "call native#{number}"),
            Insn::Exit => f.write_str("exit"),
            memory => fmt_memory(f, memory),
        }
    }
}

fn fmt_swap(f: &mut Formatter<'_>, order: ByteOrder, size: Size, dst: Reg) -> fmt::Result {
    write!(f, "{dst} = {}{} {dst}", order.mnemonic(), size.bits())
}

fn fmt_wide(f: &mut Formatter<'_>, dst: Reg, source: WideSource, at: Pc) -> fmt::Result {
    let prefix = |form| match form {
        MapForm::Fd => "",
        MapForm::Idx => "idx:",
    };
    write!(f, "{dst} = ")?;
    match source {
        WideSource::Imm(imm) => write!(f, "{:#x}", imm.get())?,
        WideSource::Map(map, form) => write!(f, "map[{}{}]", prefix(form), map.0)?,
        WideSource::MapValue(map, offset, form) => {
            write!(f, "map[{}{}][0]+{offset}", prefix(form), map.0)?;
        }
        WideSource::Btf { id, module: 0 } => write!(f, "btf[{id}]")?,
        WideSource::Btf { id, module } => write!(f, "btf[{id}, {module}]")?,
        WideSource::Func(target) => write!(f, "func {}", Relative(at, target))?,
    }
    f.write_str(" ll")
}

fn fmt_memory(f: &mut Formatter<'_>, insn: Insn) -> fmt::Result {
    let plain = |size, base, off| Address(Extend::Zero, size, base, off);
    match insn {
        Insn::Load { size, extend, dst, base, off } => {
            write!(f, "{dst} = *{}", Address(extend, size, base, off))
        }
        Insn::Store { size, base, off, src } => {
            write!(f, "*{} = {}", plain(size, base, off), Source(Width::W64, src))
        }
        Insn::LoadAcquire { size, dst, base, off } => {
            write!(f, "{dst} = load_acquire({})", plain(size, base, off))
        }
        Insn::StoreRelease { size, base, off, src } => {
            write!(f, "store_release({}, {src})", plain(size, base, off))
        }
        Insn::Atomic { op, size, fetch, base, off, src } => {
            fmt_atomic(f, op, size, fetch, plain(size, base, off), src)
        }
        Insn::LoadPacket { size, index: None, imm } => {
            write!(f, "r0 = *({} *)skb[{imm}]", size.mnemonic())
        }
        Insn::LoadPacket { size, index: Some(index), imm } => {
            write!(f, "r0 = *({} *)skb[{index} + {imm}]", size.mnemonic())
        }
        other => unreachable!("{other:?} is no memory instruction"),
    }
}

fn fmt_atomic(
    f: &mut Formatter<'_>,
    op: AtomicOp,
    size: Size,
    fetch: bool,
    address: Address,
    src: Reg,
) -> fmt::Result {
    let bits = if size == Size::Dw { "64" } else { "" };
    let name = op.mnemonic();
    match op {
        AtomicOp::Cmpxchg => write!(f, "r0 = atomic{bits}_cmpxchg({address}, r0, {src})"),
        AtomicOp::Xchg => write!(f, "{src} = atomic{bits}_xchg({address}, {src})"),
        _ if fetch => write!(f, "{src} = atomic{bits}_fetch_{name}({address}, {src})"),
        AtomicOp::Add => write!(f, "lock *{address} += {src}"),
        AtomicOp::Or => write!(f, "lock *{address} |= {src}"),
        AtomicOp::And => write!(f, "lock *{address} &= {src}"),
        AtomicOp::Xor => write!(f, "lock *{address} ^= {src}"),
    }
}
