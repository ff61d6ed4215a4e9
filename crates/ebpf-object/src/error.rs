//! Why bytes are not an object, or one of its programs cannot be linked.

use ebpf_btf::BtfError;
use ebpf_isa::ProgramError;

use crate::CoreProblem;

/// Why bytes are not an object, or one of its programs cannot be linked. Offsets are bytes from the
/// start of the section that is named beside them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// The file does not start with the ELF magic number.
    #[error("not an ELF file")]
    NotElf,
    /// The file ends inside something.
    #[error("the ELF file is truncated: it ends inside {what}")]
    Truncated {
        /// What the file ends in.
        what: String,
    },
    /// Something in the file contradicts itself.
    #[error("malformed ELF file: {what}")]
    Malformed {
        /// What, and how.
        what: String,
    },
    /// More of something than is read.
    #[error("{count} {what} are more than the limit of {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A 32-bit ELF file.
    #[error("a 32-bit ELF file; BPF objects are 64-bit")]
    WrongClass,
    /// A big-endian object.
    #[error("a big-endian ELF file is not supported; compile for the little-endian target (bpfel)")]
    WrongByteOrder,
    /// An ELF file for some other machine.
    #[error("an ELF file for machine {machine}, not for BPF (247); compile with -target bpf")]
    WrongMachine {
        /// `e_machine`.
        machine: u16,
    },
    /// An executable, library or core file.
    #[error("an ELF file of type {file_type}, not a relocatable object (1)")]
    NotRelocatable {
        /// `e_type`.
        file_type: u16,
    },
    /// A section that something else depends on is not there.
    #[error("no section {section}, which {needed_by} needs")]
    MissingSection {
        /// The section.
        section: &'static str,
        /// What needs it.
        needed_by: &'static str,
    },
    /// Two things of one name, where the name is how they are told apart.
    #[error("two {what}s have the name {name}")]
    DuplicateName {
        /// What they are.
        what: &'static str,
        /// Their name.
        name: String,
    },
    /// A section of types or line information cannot be read.
    #[error("section {section}: {source}")]
    Btf {
        /// `.BTF` or `.BTF.ext`.
        section: &'static str,
        /// Why.
        source: BtfError,
    },
    /// A section of instructions that is not a whole number of them.
    #[error("section {section}: {len} bytes of instructions are not a multiple of 8")]
    BadInstructionBytes {
        /// The section.
        section: String,
        /// Its length.
        len: usize,
    },
    /// A function that is empty, not aligned to instructions, or not inside its section.
    #[error(
        "section {section}: function {function} (offset {offset:#x}, {size} bytes) is not a range of instructions of it"
    )]
    BadFunction {
        /// The section.
        section: String,
        /// The function's symbol.
        function: String,
        /// Where it starts.
        offset: u64,
        /// Its length in bytes.
        size: u64,
    },
    /// Two functions share instructions.
    #[error("section {section}: functions {first} and {second} overlap")]
    OverlappingFunctions {
        /// The section.
        section: String,
        /// The one that starts first.
        first: String,
        /// The other.
        second: String,
    },
    /// The old way of declaring maps.
    #[error(
        "section {section}: maps in this format are not supported; declare them with BTF, in section .maps"
    )]
    LegacyMaps {
        /// `maps`, or a section whose name starts so.
        section: String,
    },
    /// A map without a type, or with one that is not known.
    #[error("map {map}: unknown map type {number}")]
    UnknownMapType {
        /// The map.
        map: String,
        /// The type's number; 0 where none is declared.
        number: u32,
    },
    /// A member of a map's declaration that is not known or not supported.
    #[error("map {map}: member {member} is not supported")]
    UnsupportedMapMember {
        /// The map.
        map: String,
        /// The member.
        member: String,
    },
    /// A declaration of a map that is not what it should be.
    #[error("map {map}: {what} is not {expected}")]
    BadMapDeclaration {
        /// The map.
        map: String,
        /// The part of the declaration.
        what: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A declaration that states the size of a key or value and its type, and they differ.
    #[error("map {map}: {member} is declared as {declared}, but the type has {actual} bytes")]
    ConflictingMapSizes {
        /// The map.
        map: String,
        /// `key_size` or `value_size`.
        member: &'static str,
        /// The size declared.
        declared: u32,
        /// The size of the type.
        actual: u32,
    },
    /// A data section that does not fit a map's value.
    #[error("section {section}: {size} bytes of data do not fit a map")]
    DataTooLarge {
        /// The section.
        section: String,
        /// Its size.
        size: u64,
    },
    /// The `license` or `version` section does not hold one.
    #[error("section {section} does not hold {expected}")]
    BadText {
        /// The section.
        section: &'static str,
        /// What it should hold.
        expected: &'static str,
    },
    /// A relocation, or an instruction that needs one, cannot be resolved.
    #[error("section {section}+{offset:#x}: {problem}")]
    Relocation {
        /// The section of the instruction.
        section: String,
        /// The instruction.
        offset: u64,
        /// Why.
        problem: RelocationProblem,
    },
    /// An instruction that depends on the types of the kernel cannot be relocated.
    #[error("section {section}+{offset:#x}: CO-RE relocation ({what}): {problem}")]
    CoreRelocation {
        /// The section of the instruction.
        section: String,
        /// The instruction.
        offset: u32,
        /// What is asked about which type or field.
        what: String,
        /// Why.
        problem: CoreProblem,
    },
    /// A source line whose offset is no multiple of an instruction.
    #[error("section {section}: line information at offset {offset:#x} is not at an instruction")]
    BadLineOffset {
        /// The section.
        section: String,
        /// The offset.
        offset: u32,
    },
    /// The linked instructions do not make a program.
    #[error("program {program}: {source}")]
    Program {
        /// The program.
        program: String,
        /// Why.
        source: ProgramError,
    },
    /// No program has this name.
    #[error("no program {name}; {}", list(.available))]
    NoSuchProgram {
        /// The name asked for.
        name: String,
        /// The names there are.
        available: Vec<String>,
    },
    /// The section's name does not say what type of program it holds.
    #[error("program {program}: no program type goes with the section name {section}")]
    UnknownSectionName {
        /// The program.
        program: String,
        /// Its section.
        section: String,
    },
}

/// Why a relocation cannot be resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RelocationProblem {
    /// It is not at an instruction of the section.
    #[error("relocation outside the section's instructions")]
    NotAtInstruction,
    /// The symbol table has no such symbol.
    #[error("relocation against symbol {index}, which does not exist")]
    NoSuchSymbol {
        /// The symbol's place in the table.
        index: u32,
    },
    /// The same instruction has another one.
    #[error("more than one relocation")]
    Duplicate,
    /// Its kind is not one of code.
    #[error("relocation kind {kind} (against {symbol}) is not supported in code")]
    UnsupportedKind {
        /// `R_BPF_*`.
        kind: u32,
        /// The symbol.
        symbol: String,
    },
    /// Its kind does not go with the instruction.
    #[error("relocation kind {kind} (against {symbol}) does not go with opcode {opcode:#04x}")]
    WrongInstruction {
        /// `R_BPF_*`.
        kind: u32,
        /// The symbol.
        symbol: String,
        /// The instruction's opcode.
        opcode: u8,
    },
    /// The instruction names a map or function, but nothing says which.
    #[error("a wide load of kind {kind} without a relocation")]
    Missing {
        /// The instruction's source field.
        kind: u8,
    },
    /// The symbol is not defined in the object, and no function of the kernel that is known here.
    #[error("{symbol} is extern, and no function of a module that there is")]
    Extern {
        /// The symbol.
        symbol: String,
    },
    /// The symbol is in a section that holds neither maps, data nor code.
    #[error("{symbol} is in section {target}, which holds neither maps, data nor code")]
    NoTarget {
        /// The symbol.
        symbol: String,
        /// Its section.
        target: String,
    },
    /// The symbol is in `.maps`, but no map starts there.
    #[error("no map starts at {symbol}{addend:+}")]
    NotAMap {
        /// The symbol.
        symbol: String,
        /// Bytes added to it.
        addend: i64,
    },
    /// No function starts there.
    #[error("no function starts at {symbol}{addend:+}")]
    NotAFunction {
        /// The symbol, or the section for a call without relocation.
        symbol: String,
        /// Bytes added to it.
        addend: i64,
    },
    /// The offset into the data does not fit.
    #[error("{symbol}{addend:+} is not an offset into data")]
    BadDataOffset {
        /// The symbol.
        symbol: String,
        /// Bytes added to it.
        addend: i64,
    },
    /// The data holds addresses of other things.
    #[error(
        "{symbol} is in section {target}, whose contents need relocation, which is not supported"
    )]
    RelocatedData {
        /// The symbol.
        symbol: String,
        /// Its section.
        target: String,
    },
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        "there are none".into()
    } else {
        format!("there are: {}", names.join(", "))
    }
}
