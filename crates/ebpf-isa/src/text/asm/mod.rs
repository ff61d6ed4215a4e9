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
mod source;
mod ubpf;
mod wide;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

pub use error::{AsmError, Expected};

use crate::decode::decode_slot;
use crate::lines::LineTable;
use crate::opcode::Width;
use crate::program::SubprogInfo;
use crate::{Insn, Pc, Program, ProgramError, encode};

use cursor::{Cursor, Result};
use labels::Labels;
use memory::is_exchange;
use source::Section;
use ubpf::Mnemonic;

/// Reads a program from text, an instruction a line, each in whichever of three languages.
///
/// # Canonical text
///
/// The instructions are written in the canonical form, as [`Program::listing`] prints them: the
/// number of the line (`12: exit`) may be there and is ignored, so that
/// `assemble(&program.listing().to_string())` gives `program` again, apart from its source lines.
/// Besides:
///
/// - `name:` in front of an instruction or on a line of its own is a label, and `goto name`,
///   `if r1 > 2 goto name`, `call name` and `r1 = func name ll` lead there. At the start of a
///   subprogram (which is the entry, what is called and what has its address taken) the first label
///   is the name of the subprogram, unless it starts with `.L` and there is another.
/// - Comments go from `;`, from `//`, or from a `#` that starts a word, to the end of the line.
/// - Integers are decimal or, with `0x`, hexadecimal. Where 32 bits are wanted, hexadecimal may
///   give the bits: `0xffffffff` is -1. Leading zeroes are refused, since some read them as octal.
///
/// # The spelling of LLVM
///
/// What clang writes and `llvm-mc` reads for BPF, and what `llvm-objdump -d` prints: `(r1 + 0x8)`
/// for `(r1 +8)`, `goto +3 <label>` and `goto 3`, `call 5` for helpers, `w` registers where up to 32
/// bits are loaded or stored, `r2 = atomic_fetch_add((u64 *)(r1 + 0), r2)`,
/// `r2 = xchg_64(r1 + 0, r2)`, `w0 = cmpxchg32_32(r1 + 0, w0, w2)`, `ld_pseudo r1, 1, 5`. Directives about symbols, alignment
/// and the debugger are skipped, and so is what is in sections without code; sections of code
/// follow each other. Where a listing gives the bytes of an instruction before its text, they are
/// the instruction: LLVM's text does not tell calls of subprograms from calls of helpers, for one.
/// Symbols of data (`r1 = counts ll`) and relocations are work for a linker, and refused.
///
/// # The dialect of uBPF
///
/// What the bpf_conformance suite is written in; rbpf leaves the `%` of registers out. `ALU`, `CMP`,
/// `SIZE` and `OP` stand for names of rows of the tables in [`opcode`](crate::opcode).
///
/// | line | meaning |
/// |---|---|
/// | `ALU[32\|64] dst, src` | `ALU`: `add` `sub` `mul` `div` `sdiv` `or` `and` `lsh` `rsh` `mod` `smod` `xor` `arsh` `mov` |
/// | `neg[32\|64] dst` | negation |
/// | `movsx832 dst, reg` | sign extension of 8 to 32 bits; also `1632`, `864`, `1664`, `3264` |
/// | `le16 dst`, `be16 dst`, `swap16 dst`, `bswap16 dst` | byte swaps; also of `32` and `64` |
/// | `lddw dst, imm` | an immediate of 64 bits |
/// | `ldxSIZE dst, [base+off]` | load; `SIZE`: `b` `h` `w` `dw` |
/// | `ldxsSIZE dst, [base+off]` | load with sign extension; also `ldxSIZEsx` |
/// | `stSIZE [base+off], imm` | store of an immediate |
/// | `stxSIZE [base+off], reg` | store of a register |
/// | `ldabsSIZE imm`, `ldindSIZE reg, imm` | packet loads |
/// | `lock [fetch] OP[32\|64] [base+off], reg` | `OP`: `add` `or` `and` `xor` `xchg` `cmpxchg`; the last two always fetch |
/// | `ja target`, `ja32 target` | jumps with 16-bit and 32-bit offsets |
/// | `jCMP[32\|64] dst, src, target` | `CMP`: `eq` `gt` `ge` `set` `ne` `sgt` `sge` `lt` `le` `slt` `sle` |
/// | `call 5`, `call local target`, `exit` | a helper, a subprogram |
///
/// Registers are `%r1` or `r1`; `src` is a register or an immediate of 32 bits; `off` may be left
/// out. `target` is `+3`, `-3` or a label; `exit`, where no label has this name, is the next exit,
/// or if none follows the last one.
///
/// # Errors
/// Text that is no instruction, labels that are not defined, instructions without encoding
/// (a jump beyond 16 bits), bytes in a listing that are no instruction, and instructions that do not
/// make a [`Program`].
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
#[derive(Default)]
struct Parsed<'t> {
    /// One element a slot; the second slot of a wide load is `None`.
    slots: Vec<Option<Insn>>,
    /// Line of the text, by slot.
    lines: Vec<u32>,
    /// The labels that were met.
    labels: Labels<'t>,
}

fn parse<'t>(text: &'t str, known: &Labels<'t>) -> Result<Parsed<'t>> {
    let mut parsed = Parsed::default();
    let mut section = Section::TEXT;
    for (index, text) in text.lines().enumerate() {
        let line = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let mut cursor = Cursor::new(line, text);
        if section.skips(&cursor)? {
            continue;
        }
        source::skip_number(&mut cursor);
        let at = Pc(parsed.slots.len() as u32);
        while let Some(name) = source::label(&mut cursor) {
            parsed.labels.define(name, at);
        }
        if cursor.is_at_end() {
            continue;
        }
        let insn = match source::bytes(cursor.rest()) {
            Some((first, second)) => {
                decode_slot(first, second, at).map_err(|error| AsmError::Decode { line, error })?
            }
            None => Parser { cursor, at, labels: known }.instruction()?,
        };
        parsed.push(insn, line)?;
    }
    Ok(parsed)
}

impl Parsed<'_> {
    fn push(&mut self, insn: Insn, line: u32) -> Result<()> {
        let at = self.slots.len();
        if insn == Insn::Exit {
            self.labels.note_exit(Pc(at as u32));
        }
        self.slots.push(Some(insn));
        self.slots.resize(at + insn.slots() as usize, None);
        self.lines.resize(self.slots.len(), line);
        if self.slots.len() > Program::MAX_SLOTS {
            let error = ProgramError::TooLong { slots: self.slots.len() };
            return Err(AsmError::Program { line, error });
        }
        Ok(())
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
        let word = self.cursor.peek_word();
        let insn = match word {
            "lock" => self.lock(),
            "store_release" => self.store_release(),
            "goto" | "gotol" | "may_goto" => self.jump(),
            "if" => self.branch(),
            "call" => self.call(),
            "callx" => self.call_register(),
            "exit" => self.exit(),
            "ld_pseudo" => self.ld_pseudo(),
            _ if self.cursor.rest().starts_with('*') => self.store(),
            _ => match Mnemonic::parse(word) {
                Some(mnemonic) => self.ubpf(mnemonic),
                None if self.cursor.at_register() => self.assignment(),
                None => Err(self.cursor.error(Expected::Instruction)),
            },
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
            word if is_exchange(word) => self.exchange(line, width, dst),
            word if word.starts_with("atomic") => self.fetch(line, width, dst),
            _ if self.cursor.rest().starts_with('*') => self.load(width, dst),
            _ => self.mov(width, dst),
        }
    }
}
