//! Machine code as text, below the instructions it came from.

use core::fmt::{self, Display, Formatter};

use ebpf_image::{CodeOffset, Image, RelocKind, SourcePc, Symbol};
use ebpf_isa::uapi::HelperId;
use ebpf_isa::{Pc, Program};
use iced_x86::{
    Decoder, DecoderOptions, Formatter as _, Instruction, IntelFormatter, Mnemonic, OpKind,
    SymbolResolver, SymbolResult,
};

/// Displays an image that was compiled from a program: each BPF instruction, below the source line
/// that begins with it, and under it the code offset, bytes and Intel text of its machine
/// instructions. What hardly ever runs lies behind all subprograms, and names its instruction again.
///
/// The text is free of addresses: jumps print the BPF instruction they lead to, relocated fields
/// their symbol.
#[derive(Debug, Clone, Copy)]
pub struct Listing<'a> {
    program: &'a Program,
    image: &'a Image,
}

impl<'a> Listing<'a> {
    /// The listing of `image`, compiled from `program`. Positions that the program does not have
    /// print as such.
    #[must_use]
    pub const fn new(program: &'a Program, image: &'a Image) -> Self {
        Self { program, image }
    }

    /// The instruction at `pc`, below the source line that begins there.
    fn source(&self, f: &mut Formatter<'_>, SourcePc(pc): SourcePc) -> fmt::Result {
        if let Some(line) = self.program.lines().starting_at(Pc(pc)) {
            writeln!(f, "; {} @ {}:{}", line.text.trim(), line.file, line.line)?;
        }
        match self.program.get(Pc(pc)) {
            Some(insn) => writeln!(f, "{pc:>4}: {}", insn.text(Pc(pc))),
            // The second slot of a wide load.
            None if pc < self.program.len() => Ok(()),
            None => writeln!(f, "{pc:>4}: not an instruction of the program"),
        }
    }

    /// Headings of entries and instructions that start at `offset` or before, and are not printed.
    fn headings(
        &self,
        f: &mut Formatter<'_>,
        offset: CodeOffset,
        headings: &mut Headings,
    ) -> fmt::Result {
        while let Some(index) =
            self.image.entries()[headings.entries..].iter().position(|entry| entry.offset <= offset)
        {
            let index = headings.entries + index;
            writeln!(f, "{}:", entry_name(self.image, index))?;
            headings.entries = index + 1;
        }
        let map = self.image.pc_map();
        while let Some((start, pc)) = map.get(headings.insns)
            && start <= offset
        {
            // A subprogram begins with a frame, which may be empty.
            let subprog = self.program.subprogs().get(headings.frames);
            if subprog.is_some_and(|subprog| subprog.start.0 == pc.0) {
                headings.frames += 1;
                if map.get(headings.insns + 1).is_some_and(|(next, _)| start != next) {
                    writeln!(f, "      frame")?;
                }
            } else {
                self.source(f, pc)?;
            }
            headings.insns += 1;
        }
        Ok(())
    }
}

/// What is still to be printed.
#[derive(Default)]
struct Headings {
    entries: usize,
    /// How many frames are.
    frames: usize,
    /// Entries of the map that are.
    insns: usize,
}

impl Display for Listing<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let code = self.image.code();
        let mut formatter =
            IntelFormatter::with_options(Some(Box::new(Symbols(self.image.clone()))), None);
        let options = formatter.options_mut();
        options.set_hex_prefix("0x");
        options.set_hex_suffix("");
        options.set_uppercase_hex(false);
        options.set_space_after_operand_separator(true);
        options.set_show_branch_size(false);
        options.set_rip_relative_addresses(false);
        let mut headings = Headings::default();
        let mut text = String::new();
        let mut decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
        while decoder.can_decode() {
            let start = decoder.position();
            self.headings(f, CodeOffset(start as u32), &mut headings)?;
            let insn = decoder.decode();
            text.clear();
            formatter.format(&insn, &mut text);
            let bytes: String =
                code[start..decoder.position()].iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(f, "      {start:>5x}  {bytes:<22} {text}")?;
        }
        self.headings(f, CodeOffset(code.len() as u32), &mut headings)
    }
}

fn entry_name(image: &Image, index: usize) -> String {
    let entry = &image.entries()[index];
    if entry.name.is_empty() { format!("subprog@{}", entry.pc) } else { entry.name.clone() }
}

/// Names for what numbers in the code stand for.
struct Symbols(Image);

impl Symbols {
    fn relocated(&self, insn: &Instruction) -> Option<String> {
        let code = insn.ip() as u32..insn.next_ip() as u32;
        let relocs = self.0.relocs();
        let first = relocs.partition_point(|reloc| reloc.at.0 < code.start);
        let reloc = relocs.get(first).filter(|reloc| reloc.at.0 < code.end)?;
        Some(match reloc.kind {
            RelocKind::Call(Symbol::Helper(id)) => HelperId(id).to_string(),
            RelocKind::Call(symbol) => symbol.to_string(),
            RelocKind::Address(symbol) => format!("address of {symbol}"),
        })
    }

    /// The subprogram that starts at `target`, or the [`place`](Self::place).
    fn function(&self, target: u64) -> String {
        let offset = CodeOffset(target as u32);
        match self.0.entries().iter().position(|entry| entry.offset == offset) {
            Some(index) => entry_name(&self.0, index),
            None => self.place(target),
        }
    }

    /// The instruction whose code starts at `target`, or the offset.
    fn place(&self, target: u64) -> String {
        let offset = CodeOffset(target as u32);
        match self.0.pc_map().owner(offset) {
            Some((start, pc)) if start == offset => format!("insn {pc}"),
            _ => offset.to_string(),
        }
    }
}

impl SymbolResolver for Symbols {
    fn symbol(
        &mut self,
        insn: &Instruction,
        _operand: u32,
        instruction_operand: Option<u32>,
        address: u64,
        _address_size: u32,
    ) -> Option<SymbolResult<'_>> {
        let kind = insn.op_kind(instruction_operand?);
        let name = match (self.relocated(insn), kind) {
            (Some(symbol), OpKind::NearBranch64 | OpKind::Immediate64) => symbol,
            (None, OpKind::NearBranch64) if insn.mnemonic() != Mnemonic::Call => {
                self.place(address)
            }
            (None, OpKind::NearBranch64) => self.function(address),
            (None, OpKind::Memory) if insn.is_ip_rel_memory_operand() => self.function(address),
            _ => return None,
        };
        Some(SymbolResult::with_string(address, name))
    }
}
