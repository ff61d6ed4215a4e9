//! Assembly with labels, and listings, which differ in how jumps are written.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use ebpf_isa::{AluOp, CmpOp, Size};

use super::cursor::{Cursor, Result};
use super::{TextError, TextErrorKind};
use crate::ancillary::Ancillary;
use crate::op::{Op, Src, Var};
use crate::raw::SockFilter;

/// Reads a program of one instruction a line.
pub(super) fn parse(text: &str) -> Result<Vec<SockFilter>> {
    let mut assembler = Assembler { cursor: Cursor::new(text), ..Assembler::default() };
    while assembler.cursor.skip_lines() {
        assembler.line()?;
    }
    assembler.resolve()?;
    Ok(assembler.program)
}

/// Where a jump leads, as written.
#[derive(Clone, Copy)]
enum Target<'t> {
    Label(&'t str),
    /// A position, as listings have it.
    Position(u32),
    /// The next instruction.
    Next,
}

/// Which part of an instruction holds a target.
#[derive(Clone, Copy)]
enum Field {
    K,
    Jt,
    Jf,
}

struct Jump<'t> {
    at: usize,
    field: Field,
    target: Target<'t>,
    written: Cursor<'t>,
}

struct Assembler<'t> {
    cursor: Cursor<'t>,
    program: Vec<SockFilter>,
    labels: BTreeMap<&'t str, usize>,
    jumps: Vec<Jump<'t>>,
}

impl Default for Assembler<'_> {
    fn default() -> Self {
        let (program, labels, jumps) = (Vec::new(), BTreeMap::new(), Vec::new());
        Self { cursor: Cursor::new(""), program, labels, jumps }
    }
}

/// A conditional jump as it is written: the comparison, and whether its ways are exchanged.
const BRANCHES: [(&str, CmpOp, bool); 8] = [
    ("jeq", CmpOp::Eq, false),
    ("jneq", CmpOp::Eq, true),
    ("jne", CmpOp::Eq, true),
    ("jgt", CmpOp::Gt, false),
    ("jle", CmpOp::Gt, true),
    ("jge", CmpOp::Ge, false),
    ("jlt", CmpOp::Ge, true),
    ("jset", CmpOp::Set, false),
];

pub(super) const ALU_NAMES: [(&str, AluOp); 10] = [
    ("add", AluOp::Add),
    ("sub", AluOp::Sub),
    ("mul", AluOp::Mul),
    ("div", AluOp::Div),
    ("mod", AluOp::Mod),
    ("and", AluOp::And),
    ("or", AluOp::Or),
    ("xor", AluOp::Xor),
    ("lsh", AluOp::Lsh),
    ("rsh", AluOp::Rsh),
];

impl<'t> Assembler<'t> {
    /// `(position)` or labels, then an instruction, unless labels stand alone.
    fn line(&mut self) -> Result<()> {
        let start = self.cursor;
        if self.cursor.eat("(") {
            let position = self.cursor.decimal()?;
            self.cursor.expect(")")?;
            if position as usize != self.program.len() {
                let kind = TextErrorKind::Position { written: position, at: self.program.len() };
                return Err(start.error(kind));
            }
        }
        loop {
            let start = self.cursor;
            let word = self.cursor.word();
            if word.is_empty() {
                return Err(start.expected("an instruction"));
            }
            if !self.cursor.eat(":") {
                self.instruction(word, start)?;
                break;
            }
            if self.labels.insert(word, self.program.len()).is_some() {
                return Err(start.error(TextErrorKind::DuplicateLabel(word.to_owned())));
            }
            if self.cursor.at_line_end() {
                return Ok(());
            }
        }
        match self.cursor.at_line_end() {
            true => Ok(()),
            false => Err(self.cursor.expected("the end of the line")),
        }
    }

    fn instruction(&mut self, word: &str, start: Cursor<'t>) -> Result<()> {
        let name = &*word.to_ascii_lowercase();
        if let Some(&(_, op, exchanged)) = BRANCHES.iter().find(|row| row.0 == name) {
            return self.branch(op, exchanged);
        }
        if let Some(&(_, op)) = ALU_NAMES.iter().find(|row| row.0 == name) {
            let (src, k) = self.operand()?;
            return self.push(Op::Alu(op, src), k);
        }
        let (op, k) = match name {
            "ld" => self.load(Size::W)?,
            "ldh" => self.load(Size::H)?,
            "ldb" => self.load(Size::B)?,
            "ldi" => (Op::LoadImm(Var::A), self.immediate()?),
            "ldx" => self.load_x()?,
            "ldxb" => (Op::LoadMsh, self.msh()?),
            "ldxi" => (Op::LoadImm(Var::X), self.immediate()?),
            "st" => (Op::Store(Var::A), self.cell()?),
            "stx" => (Op::Store(Var::X), self.cell()?),
            "ja" | "jmp" => {
                self.target(Field::K)?;
                (Op::Jump, 0)
            }
            "ret" => self.ret()?,
            "neg" => (Op::Neg, 0),
            "tax" => (Op::Tax, 0),
            "txa" => (Op::Txa, 0),
            _ => return Err(start.unknown_instruction(word)),
        };
        self.push(op, k)
    }

    fn push(&mut self, op: Op, k: u32) -> Result<()> {
        self.program.push(SockFilter::new(op.code(), k));
        Ok(())
    }

    /// What `ld`, `ldh` and `ldb` load.
    fn load(&mut self, size: Size) -> Result<(Op, u32)> {
        let ancillary = |name| Ancillary::from_name(name).map(Ancillary::constant);
        let start = self.cursor;
        let has_mark = self.cursor.eat("#");
        let in_brackets = !has_mark && self.cursor.eat("[");
        let word = self.cursor.peek_word();
        if let Some(k) = ancillary(word) {
            self.cursor.word();
            if in_brackets {
                self.cursor.expect("]")?;
            }
            return Ok((Op::LoadAbs(size), k));
        }
        if in_brackets {
            return self.packet(size);
        }
        match size {
            Size::W => self.load_common(start, Var::A)?.ok_or_else(|| {
                start.expected("[k], [x + k], #k, #len, M[k] or the name of ancillary data")
            }),
            _ => Err(start.expected("[k], [x + k] or the name of ancillary data")),
        }
    }

    /// The rest of `[k]` or `[x + k]`.
    fn packet(&mut self, size: Size) -> Result<(Op, u32)> {
        self.cursor.eat("%");
        let (op, k) = if self.cursor.eat("x") {
            let k = match self.cursor.eat("+") {
                true => self.cursor.signed()?,
                false if self.cursor.peek() == Some(b'-') => self.cursor.signed()?,
                false => 0,
            };
            (Op::LoadInd(size), k)
        } else {
            (Op::LoadAbs(size), self.cursor.signed()?)
        };
        self.cursor.expect("]")?;
        Ok((op, k))
    }

    /// `#k`, `M[k]` or the length, from `start` on.
    fn load_common(&mut self, start: Cursor<'t>, var: Var) -> Result<Option<(Op, u32)>> {
        self.cursor = start;
        if matches!(self.cursor.peek(), Some(b'M' | b'm')) {
            return Ok(Some((Op::LoadMem(var), self.cell()?)));
        }
        let has_mark = self.cursor.eat("#");
        if self.cursor.eat_word("len") || self.cursor.eat_word("pktlen") {
            return Ok(Some((Op::LoadLen(var), 0)));
        }
        match has_mark && self.cursor.is_at_number() {
            true => Ok(Some((Op::LoadImm(var), self.cursor.signed()?))),
            false => Ok(None),
        }
    }

    /// What `ldx` loads.
    fn load_x(&mut self) -> Result<(Op, u32)> {
        let start = self.cursor;
        if let Some(common) = self.load_common(start, Var::X)? {
            return Ok(common);
        }
        self.cursor = start;
        match self.cursor.is_at_number() {
            true => Ok((Op::LoadMsh, self.msh()?)),
            false => Err(start.expected("#k, #len, M[k] or 4*([k]&0xf)")),
        }
    }

    /// `4*([k]&0xf)`
    fn msh(&mut self) -> Result<u32> {
        let start = self.cursor;
        if !self.cursor.eat_all(["4", "*", "(", "["]) {
            return Err(start.expected("4*([k]&0xf)"));
        }
        let k = self.cursor.signed()?;
        match self.cursor.eat_all(["]", "&", "0xf", ")"]) {
            true => Ok(k),
            false => Err(start.expected("4*([k]&0xf)")),
        }
    }

    /// `M[k]`. Which cells exist is the checker's business.
    fn cell(&mut self) -> Result<u32> {
        self.cursor.expect("M")?;
        self.cursor.expect("[")?;
        let k = self.cursor.signed()?;
        self.cursor.expect("]")?;
        Ok(k)
    }

    fn immediate(&mut self) -> Result<u32> {
        self.cursor.eat("#");
        self.cursor.signed()
    }

    /// `x` or `#k`
    fn operand(&mut self) -> Result<(Src, u32)> {
        let start = self.cursor;
        self.cursor.eat("%");
        if self.cursor.eat_word("x") {
            return Ok((Src::X, 0));
        }
        self.cursor = start;
        match self.cursor.eat("#") {
            true => Ok((Src::K, self.cursor.signed()?)),
            false => Err(start.expected("#k or x")),
        }
    }

    /// `#k`, `a`, or nothing, which is how listings write `a`.
    fn ret(&mut self) -> Result<(Op, u32)> {
        if self.cursor.at_line_end() {
            return Ok((Op::RetA, 0));
        }
        let start = self.cursor;
        self.cursor.eat("%");
        if self.cursor.eat_word("a") {
            return Ok((Op::RetA, 0));
        }
        self.cursor = start;
        match self.cursor.eat("#") {
            true => Ok((Op::RetK, self.cursor.signed()?)),
            false => Err(start.expected("#k or a")),
        }
    }

    /// Operand and targets: `, yes`, `, yes, no` or `jt 1 jf 2`.
    fn branch(&mut self, op: CmpOp, exchanged: bool) -> Result<()> {
        let (src, k) = self.operand()?;
        let (yes, no) = if exchanged { (Field::Jf, Field::Jt) } else { (Field::Jt, Field::Jf) };
        if self.cursor.eat("jt") {
            self.target(yes)?;
            self.cursor.expect("jf")?;
            self.target(no)?;
        } else {
            self.cursor.expect(",")?;
            self.target(yes)?;
            match self.cursor.eat(",") {
                true => self.target(no)?,
                false => self.jump(no, Target::Next, self.cursor),
            }
        }
        self.push(Op::Branch(op, src), k)
    }

    /// A label, or the position of an instruction.
    fn target(&mut self, field: Field) -> Result<()> {
        let written = self.cursor;
        let word = self.cursor.word();
        let target = match word.bytes().next() {
            None => return Err(written.expected("a label or a position")),
            Some(b'0'..=b'9') => {
                self.cursor = written;
                Target::Position(self.cursor.number(u32::MAX)?)
            }
            Some(_) => Target::Label(word),
        };
        self.jump(field, target, written);
        Ok(())
    }

    fn jump(&mut self, field: Field, target: Target<'t>, written: Cursor<'t>) {
        self.jumps.push(Jump { at: self.program.len(), field, target, written });
    }

    /// Writes how many instructions each jump skips.
    fn resolve(&mut self) -> Result<()> {
        for jump in &self.jumps {
            let skipped = skipped(jump, &self.labels)?;
            let insn = &mut self.program[jump.at];
            let short = || {
                u8::try_from(skipped).map_err(|_| {
                    let label = jump.name().to_owned();
                    jump.written.error(TextErrorKind::TooFar { label, distance: skipped })
                })
            };
            match jump.field {
                Field::K => insn.k = skipped as u32,
                Field::Jt => insn.jt = short()?,
                Field::Jf => insn.jf = short()?,
            }
        }
        Ok(())
    }
}

impl<'t> Jump<'t> {
    /// The target, as written.
    fn name(&self) -> &'t str {
        self.written.peek_word()
    }
}

fn skipped(
    jump: &Jump<'_>,
    labels: &BTreeMap<&str, usize>,
) -> core::result::Result<usize, TextError> {
    let target = match jump.target {
        Target::Next => return Ok(0),
        Target::Position(position) => position as usize,
        Target::Label(label) => *labels
            .get(label)
            .ok_or_else(|| jump.written.error(TextErrorKind::UndefinedLabel(label.to_owned())))?,
    };
    target
        .checked_sub(jump.at + 1)
        .ok_or_else(|| jump.written.error(TextErrorKind::BackwardJump(jump.name().to_owned())))
}
