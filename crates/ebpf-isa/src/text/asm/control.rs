//! Jumps, calls and exits.

use super::Parser;
use super::cursor::Result;
use super::error::Expected;
use crate::opcode::CmpOp;
use crate::uapi::HelperId;
use crate::{CallTarget, Insn, Pc};

impl Parser<'_, '_> {
    /// `goto target`, `gotol target`, `may_goto target`
    pub(super) fn jump(&mut self) -> Result<Insn> {
        let keyword = self.cursor.word(Expected::Instruction)?;
        let target = self.target()?;
        Ok(match keyword {
            "may_goto" => Insn::MayGoto { target },
            _ => Insn::Jump { target, long: keyword == "gotol" },
        })
    }

    /// `if lhs == rhs goto target`
    pub(super) fn branch(&mut self) -> Result<Insn> {
        self.cursor.expect("if")?;
        let (width, lhs) = self.cursor.register()?;
        let op = self.cursor.row(CmpOp::ALL, CmpOp::mnemonic);
        let op = op.ok_or_else(|| self.cursor.error(Expected::Comparison))?;
        let rhs = self.operand(width)?;
        self.cursor.expect_word("goto")?;
        Ok(Insn::Branch { op, width, lhs, rhs, target: self.target()? })
    }

    /// `exit`
    pub(super) fn exit(&mut self) -> Result<Insn> {
        self.cursor.expect("exit")?;
        Ok(Insn::Exit)
    }

    /// `pc+3`, a label, or as LLVM has it `+3 <anything>` and `3`.
    pub(super) fn target(&mut self) -> Result<Pc> {
        let start = self.cursor;
        if !self.at_relative() {
            return self.labels.read(&mut self.cursor);
        }
        self.cursor.eat("pc");
        self.cursor.eat("+");
        let distance = self.cursor.integer(i32::MIN, i32::MAX)?;
        if self.cursor.eat("<") {
            self.cursor.skip_past(">")?;
        }
        let outside = || start.error(Expected::PositionInProgram);
        self.at.jump(distance.into()).ok_or_else(outside)
    }

    fn at_relative(&self) -> bool {
        let rest = self.cursor.rest();
        rest.strip_prefix("pc").unwrap_or(rest).starts_with(['+', '-']) || self.cursor.at_integer()
    }

    /// `call pc+3`, `call name`, `call bpf_map_lookup_elem#1`, `call kfunc#7 module#2`; and as other
    /// assemblers have it `call 1` (a helper) and `call local name`.
    pub(super) fn call(&mut self) -> Result<Insn> {
        self.cursor.expect("call")?;
        let start = self.cursor;
        if self.cursor.eat_word("local") && !self.cursor.is_at_end() {
            return Ok(Insn::Call(CallTarget::Subprog(self.target()?)));
        }
        self.cursor = start;
        if self.cursor.eat("+") || self.cursor.at_integer() {
            let number = self.cursor.imm32()? as u32;
            return Ok(Insn::Call(CallTarget::Helper(HelperId(number))));
        }
        let word = self.cursor.peek_word();
        let has_number = self.cursor.rest()[word.len()..].starts_with('#');
        let target = match word {
            "kfunc" if has_number => self.kfunc()?,
            _ if has_number => CallTarget::Helper(self.numbered_helper()?),
            _ => match HelperId::from_name(word) {
                Some(id) if !self.labels.contains(word) => {
                    self.cursor.word(Expected::Callee)?;
                    CallTarget::Helper(id)
                }
                _ => CallTarget::Subprog(self.target()?),
            },
        };
        Ok(Insn::Call(target))
    }

    /// `callx r3`, `callx %r3`
    pub(super) fn call_register(&mut self) -> Result<Insn> {
        self.cursor.expect("callx")?;
        Ok(Insn::Call(CallTarget::Reg(self.ubpf_register()?)))
    }

    /// `bpf_map_lookup_elem#1`; `unknown#9999` for numbers without name.
    fn numbered_helper(&mut self) -> Result<HelperId> {
        let name = self.cursor.word(Expected::Callee)?;
        self.cursor.expect("#")?;
        let start = self.cursor;
        // As the kernel prints it, a number has a sign.
        let number: i64 = self.cursor.integer(i32::MIN.into(), u32::MAX.into())?;
        let id = HelperId(number as u32);
        if name != "unknown" && HelperId::from_name(name) != Some(id) {
            return Err(start.error(Expected::NumberOfHelper));
        }
        Ok(id)
    }

    /// `kfunc#7`, `kfunc#7 module#2`
    fn kfunc(&mut self) -> Result<CallTarget> {
        self.cursor.expect("kfunc")?;
        self.cursor.expect("#")?;
        let btf_id = self.cursor.integer(0, u32::MAX)?;
        let module = if self.cursor.eat_word("module") {
            self.cursor.expect("#")?;
            self.cursor.integer(i16::MIN, i16::MAX)?
        } else {
            0
        };
        Ok(CallTarget::Kfunc { btf_id, module })
    }
}
