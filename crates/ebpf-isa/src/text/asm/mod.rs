//! Text to programs.
//!
//! A text is read twice: first to learn where its labels are, then to make the instructions. Both
//! times by the same parser, so that the two can not disagree about the length of anything.

mod alu;
mod control;
mod cursor;
mod error;
mod labels;
mod memory;
mod wide;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

pub use error::{AsmError, Expected};

use crate::lines::LineTable;
use crate::opcode::Width;
use crate::program::SubprogInfo;
use crate::{Insn, Pc, Program, ProgramError, encode};

use cursor::{Cursor, Result};
use labels::Labels;

/// Reads a program from text, an instruction a line.
///
/// The instructions are written in the canonical form, as [`Program::listing`] prints them: the
/// number of the line (`12: exit`) may be there and is ignored, so that
/// `assemble(&program.listing().to_string())` gives `program` again, apart from its source lines.
/// Besides:
///
/// - `name:` on a line of its own is a label, and `goto name`, `if r1 > 2 goto name`, `call name`
///   and `r1 = func name ll` lead there. At the start of a subprogram (which is the entry, what is
///   called and what has its address taken) the first label is the name of the subprogram.
/// - Comments go from `;`, from `//`, or from a `#` that starts a word, to the end of the line.
/// - Integers are decimal or, with `0x`, hexadecimal. Where 32 bits are wanted, hexadecimal may
///   give the bits: `0xffffffff` is -1.
/// - Of LLVM's spelling: `(r1 + 8)` for `(r1 +8)`, `goto +3 <label>`, `w` registers in loads and
///   stores of up to 32 bits, atomic operations without `64` in their names.
///
/// # Errors
/// Text that is no instruction, labels that are not defined, instructions without encoding
/// (a jump beyond 16 bits), and instructions that do not make a [`Program`].
pub fn assemble(text: &str) -> core::result::Result<Program, AsmError> {
    let labels = parse(text, &Labels::UNKNOWN)?.labels;
    let Parsed { slots, lines, .. } = parse(text, &labels)?;
    let line_of = |pc: Pc| lines.get(pc.index()).copied().unwrap_or(1);
    for (index, slot) in slots.iter().enumerate() {
        let (Some(insn), pc) = (slot, Pc(index as u32)) else { continue };
        encode(*insn, pc).map_err(|error| AsmError::Encode { line: line_of(pc), error })?;
    }
    let infos = subprog_names(&slots, &labels);
    Program::new(slots, infos, LineTable::new()).map_err(|error| {
        let line = error.pc().map_or(1, line_of);
        AsmError::Program { line, error }
    })
}

/// The names of what labels say is at the start of subprograms.
fn subprog_names(slots: &[Option<Insn>], labels: &Labels<'_>) -> BTreeMap<Pc, SubprogInfo> {
    let referred = slots.iter().flatten().filter_map(|insn| insn.subprog_ref());
    let starts: BTreeSet<Pc> = referred.chain([Pc::ENTRY]).collect();
    let named = |start| Some((start, labels.name_at(start)?.into()));
    let info = |(start, name)| (start, SubprogInfo { name: Some(name), btf_id: None });
    starts.into_iter().filter_map(named).map(info).collect()
}

/// What one reading of a text gives.
struct Parsed<'t> {
    /// One element a slot; the second slot of a wide load is `None`.
    slots: Vec<Option<Insn>>,
    /// Line of the text, by slot.
    lines: Vec<u32>,
    /// The labels that were met.
    labels: Labels<'t>,
}

fn parse<'t>(text: &'t str, known: &Labels<'t>) -> Result<Parsed<'t>> {
    let (mut slots, mut lines, mut labels) = (Vec::new(), Vec::new(), Labels::default());
    for (index, text) in text.lines().enumerate() {
        let line = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let at = Pc(slots.len() as u32);
        let mut cursor = Cursor::new(line, text);
        skip_number(&mut cursor);
        if cursor.is_at_end() {
            continue;
        }
        if let Some(name) = cursor.rest().strip_suffix(':')
            && cursor.peek_word() == name
        {
            labels.define(name, at);
            continue;
        }
        let insn = Parser { cursor, at, labels: known }.instruction()?;
        slots.push(Some(insn));
        slots.resize(at.index() + insn.slots() as usize, None);
        lines.resize(slots.len(), line);
        if slots.len() > Program::MAX_SLOTS {
            let error = ProgramError::TooLong { slots: slots.len() };
            return Err(AsmError::Program { line, error });
        }
    }
    Ok(Parsed { slots, lines, labels })
}

/// Skips the number that listings put before an instruction: `12:`.
fn skip_number(cursor: &mut Cursor<'_>) {
    let word = cursor.peek_word();
    let is_number = !word.is_empty() && word.chars().all(|c| c.is_ascii_digit());
    if is_number && cursor.rest()[word.len()..].starts_with(':') {
        cursor.eat(word);
        cursor.eat(":");
    }
}

/// Reads one instruction. The families of instructions are in files of their own.
struct Parser<'t, 'l> {
    cursor: Cursor<'t>,
    /// Position of the instruction.
    at: Pc,
    /// Where labels lead.
    labels: &'l Labels<'t>,
}

impl Parser<'_, '_> {
    fn instruction(mut self) -> Result<Insn> {
        let insn = match self.cursor.peek_word() {
            "lock" => self.lock(),
            "store_release" => self.store_release(),
            "goto" | "gotol" | "may_goto" => self.jump(),
            "if" => self.branch(),
            "call" => self.call(),
            "exit" => self.exit(),
            _ if self.cursor.rest().starts_with('*') => self.store(),
            _ if self.cursor.at_register() => self.assignment(),
            _ => Err(self.cursor.error(Expected::Instruction)),
        }?;
        self.cursor.end()?;
        Ok(insn)
    }

    /// What starts with a register: `r1 = …`, `r1 += …`.
    fn assignment(&mut self) -> Result<Insn> {
        let line = self.cursor;
        let (width, dst) = self.cursor.register()?;
        if !self.cursor.rest().starts_with('=') {
            return self.binary(width, dst);
        }
        self.cursor.expect("=")?;
        match self.cursor.peek_word() {
            "map" | "btf" | "func" if width == Width::W64 => self.load_symbol(dst),
            "load_acquire" => self.load_acquire(width, dst),
            "addr_space_cast" if width == Width::W64 => self.addr_space_cast(dst),
            word if word.starts_with("atomic") => self.fetch(line, width, dst),
            _ if self.cursor.rest().starts_with('*') => self.load(width, dst),
            _ => self.mov(width, dst),
        }
    }
}
