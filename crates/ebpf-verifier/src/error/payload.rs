//! Every rule that a program can break, with what it says of the program that breaks it.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use ebpf_isa::uapi::{AttachType, HelperId, MapType, ProgramType};
use ebpf_isa::{AluOp, MapIdx, Pc, ProgramError, Reg, SubprogIdx, Width};

use super::kinds::payloads;
use super::{
    ArgumentRule, ArithmeticRule, BadSize, Ending, Extreme, FarOffset, FieldFault, Held,
    LaterFault, LockFault, ObjectAccess, ObjectFault, PrototypeFault, Region, StackAccess,
    TargetFault, Unsupported, WalkFault, text,
};
use crate::domain::Tnum;
use crate::kfunc::ObjectType;
use crate::map_fields::SpecialField;
use crate::profile::Feature;
use crate::rules::{ExitRange, Object};

payloads! {
    /// The program uses something that this verifier does not know.
    #[error("{what}: not supported by this verifier")]
    Unsupported {
        what: Unsupported = "What it uses.",
    } => Unsupported;

    /// No instruction has this opcode.
    #[error("unknown opcode {opcode:02x}")]
    UnknownOpcode {
        opcode: u8 = "The opcode byte.",
    } => ProgramMalformed;

    /// No register has this number.
    #[error("R{number} is invalid")]
    InvalidRegister {
        number: u8 = "The number.",
    } => ProgramMalformed;

    /// An instruction has something in a field that it does not use.
    #[error("{} uses reserved fields", text::instruction(*opcode))]
    ReservedFields {
        opcode: u8 = "The opcode byte.",
    } => ProgramMalformed;

    /// A wide load without its second slot, or with a second slot that is not empty.
    #[error("invalid bpf_ld_imm64 insn")]
    HalfWideLoad => ProgramMalformed;

    /// A wide load of something that there is not.
    #[error("unrecognized bpf_ld_imm64 insn")]
    WideLoadSource {
        src: u8 = "Its source field, which says of what.",
    } => ProgramMalformed;

    /// A jump out of the program or the subprogram.
    #[error("jump out of range from insn {from} to {}", *target as i32)]
    JumpRange {
        from: Pc = "Where the jump is.",
        target: i64 = "Where it leads.",
    } => ProgramMalformed;

    /// A jump into the second slot of a wide load.
    #[error("jump into the middle of ldimm64 insn {wide_load}")]
    JumpIntoWideLoad {
        wide_load: Pc = "Where the wide load is.",
    } => ProgramMalformed;

    /// A tail call in a subprogram whose type is not given.
    #[error("tail_call is not allowed in subprogs without BTF")]
    UntypedTailCall => SubprogramUntyped;

    /// A classic packet load in a subprogram whose type is not given.
    #[error("LD_ABS is not allowed in subprogs without BTF")]
    UntypedPacketLoad => SubprogramUntyped;

    /// A tail call in a subprogram that does not return a number.
    #[error("tail_call is only allowed in functions that return 'int'.")]
    TailCallResult => SubprogramUntyped;

    /// A classic packet load in a subprogram that does not return a number.
    #[error("LD_ABS is only allowed in functions that return 'int'.")]
    PacketLoadResult => SubprogramUntyped;

    /// A call out of the program.
    #[error("call to invalid destination")]
    CallRange {
        offset: i64 = "How far from the next slot.",
    } => ProgramMalformed;

    /// A subprogram that does not end in an exit or a jump.
    #[error("last insn is not an exit or jmp")]
    NoExit => ProgramMalformed;

    /// Something else that makes slots no program.
    #[error("{error}")]
    Malformed {
        error: ProgramError = "What it is.",
    } => ProgramMalformed;

    /// An instruction that later kernels know.
    #[error("unknown opcode: {} came with Linux {}", feature.name(), feature.span().since)]
    InsnUnknown {
        feature: Feature = "What the kernel would need to have.",
    } => InsnUnknown;

    /// A call through a register, which no kernel knows.
    #[error("unknown opcode 8d")]
    CallThroughRegister => InsnUnknown;

    /// An instruction that no path of control leads to.
    #[error("unreachable insn {insn}")]
    CfgUnreachable {
        insn: Pc = "The instruction.",
    } => CfgUnreachable;

    /// A reference to a map that the program does not have.
    #[error("the program refers to map {}, which it does not have", map.0)]
    MapMissing {
        map: MapIdx = "The map.",
    } => MapReference;

    /// A reference to a map that was not created.
    #[error("fd {fd} is not pointing to valid bpf_map")]
    MapDescriptor {
        fd: i32 = "What the wide load has for a file descriptor.",
    } => MapReference;

    /// A direct reference into a map whose type has none.
    #[error("no direct value access support for this map type")]
    MapValueType {
        map_type: MapType = "The map's type.",
    } => MapReference;

    /// A direct reference far beyond any value.
    #[error("direct value offset of {off} is not allowed")]
    MapValueOffset {
        off: u32 = "Offset in the value.",
    } => MapReference;

    /// A direct reference beyond the value.
    #[error("invalid access to map value pointer, value_size={value_size} off={off}")]
    MapValueBounds {
        value_size: u32 = "Size of the value.",
        off: u32 = "Offset in the value.",
    } => MapReference;

    /// A direct reference into a map that has not just one element.
    #[error("invalid access to map value pointer, value_size={value_size} off={off}")]
    MapNoDirectValue {
        max_entries: u32 = "Number of elements.",
        value_size: u32 = "Size of a value.",
        off: u32 = "Offset in the value.",
    } => MapNoDirectValue;

    /// A second storage of a cgroup, of a kind that the program has already.
    #[error("only one cgroup storage of each type is allowed")]
    MapStorage {
        map: MapIdx = "The second one.",
    } => MapStorage;

    /// No slots, or too many. The kernel gives no reason.
    #[error("the program has {slots} slots, and may have 1 to {max}")]
    LimitSlots {
        slots: usize = "Number of slots.",
        max: usize = "The limit.",
    } => LimitSlots;

    /// Too many maps.
    #[error("The total number of maps per program has reached the limit of {max}")]
    LimitMaps {
        max: u32 = "The limit.",
    } => LimitMaps;

    /// Too many subprograms.
    #[error("too many subprograms")]
    LimitSubprograms {
        max: u32 = "The limit.",
    } => LimitSubprograms;

    /// Too many processed instructions.
    #[error("BPF program is too large. Processed {processed} insn")]
    LimitProcessed {
        processed: u32 = "How many were processed.",
    } => LimitProcessed;

    /// Too many branches that wait to be explored.
    #[error("The sequence of {pending} jumps is too complex.")]
    LimitPending {
        pending: usize = "How many waited.",
    } => LimitPending;

    /// Too many branches and rounds that wait to be explored.
    #[error("The sequence of {pending} jumps is too complex.")]
    LimitRounds {
        pending: usize = "How many waited.",
    } => LimitRounds;

    /// Too many branches and functions that run later wait to be explored.
    #[error("The sequence of {pending} jumps is too complex for async cb.")]
    LimitLater {
        pending: usize = "How many waited.",
    } => LimitLater;

    /// States that take too much memory.
    #[error("the states of all paths take {bytes} bytes, more than the limit of {max}")]
    LimitMemory {
        bytes: usize = "What they take.",
        max: usize = "The limit.",
    } => LimitMemory;

    /// Too many frames on a path.
    #[error("the call stack of {frames} frames is too deep")]
    LimitFrames {
        frames: usize = "How many there would be.",
    } => LimitCallDepth;

    /// Too many frames in a chain of calls that no path has to take.
    #[error("the call stack of {frames} frames is too deep !")]
    LimitCallChain {
        frames: u32 = "How many there are above the call that is one too many.",
    } => LimitCallDepth;

    /// Too much stack in a chain of calls.
    #[error("combined stack size of {frames} calls is {bytes}. Too large")]
    LimitStack {
        frames: u32 = "Length of the chain.",
        bytes: u32 = "Its stack, each frame rounded up.",
    } => LimitStack;

    /// A tail call in a subprogram below callers with so much stack.
    #[error("{}", text::tail_call_stack(*bytes))]
    LimitTailCallStack {
        bytes: u32 = "The stack of its callers, each frame rounded up.",
    } => LimitStack;

    /// A path that comes back to where it was, with nothing changed.
    #[error("infinite loop detected at insn {insn}")]
    LoopInfinite {
        insn: Pc = "Where.",
    } => LoopInfinite;

    /// The kernel looks for a number in a stack slot that is beyond the used stack.
    #[error("{}", text::no_stack_slot(*slot, *slots))]
    NoStackSlot {
        slot: usize = "The slot, counted down from the frame pointer.",
        slots: usize = "Slots that are used.",
    } => VerifierBug;

    /// An attach type that programs of this type cannot have.
    #[error("programs of this type cannot be attached so")]
    AttachType {
        program_type: ProgramType = "The program's type.",
        attach_type: Option<AttachType> = "The attach type; `None` if it has none and would need one.",
    } => AttachType;

    /// A register is read that was never written, or that a call destroyed.
    #[error("R{} !read_ok", register.number())]
    RegisterUninit {
        register: Reg = "The register.",
    } => RegisterUninit;

    /// The frame pointer is written.
    #[error("frame pointer is read only")]
    RegisterReadOnly => RegisterReadOnly;

    /// Division by the immediate 0.
    #[error("div by zero")]
    AluDivByZero => AluDivByZero;

    /// A shift by an immediate that is negative or not below the width.
    #[error("invalid shift {count}")]
    AluShift {
        count: i32 = "The immediate.",
        width: Width = "Width of the operation.",
    } => AluShift;

    /// Arithmetic that is not allowed on a pointer.
    #[error("R{} {}", register.number(), text::arithmetic(*op, kind, *rule))]
    PointerArithmetic {
        register: Reg = "The destination.",
        op: AluOp = "The operation.",
        kind: &'static str = "The kind of pointer.",
        rule: ArithmeticRule = "What is wrong.",
    } => PointerArithmetic;

    /// Arithmetic that may take a pointer too far.
    #[error("{}", text::far_offset(kind, *offset))]
    PointerRange {
        kind: &'static str = "The kind of pointer.",
        offset: FarOffset = "The offset.",
    } => PointerRange;

    /// A stack pointer as return value of a subprogram.
    #[error("cannot return stack pointer to the caller")]
    PointerReturned => PointerReturned;

    /// One instruction that uses a context pointer on one path and another pointer on another.
    #[error("same insn cannot be used with different pointers")]
    PointerMixed => PointerMixed;

    /// An access through something that is not a pointer, or may be null.
    #[error("R{} invalid mem access '{kind}'", register.number())]
    MemoryPointer {
        register: Reg = "The register.",
        kind: &'static str = "What it has.",
    } => MemoryPointer;

    /// An access at an offset that may be negative or out of bounds.
    #[error("R{} {}", register.number(), text::extreme(*extreme))]
    MemoryBounds {
        register: Reg = "The register with the pointer.",
        region: Region = "The memory that it points into.",
        extreme: Extreme = "Which offset is out of bounds.",
        off: i64 = "That offset.",
        size: i64 = "Size of the access.",
    } => MemoryBounds;

    /// An access at an offset without upper bound.
    #[error("R{} unbounded memory access, make sure to bounds check any such access", register.number())]
    MemoryUnbounded {
        register: Reg = "The register with the pointer.",
        max: u64 = "The greatest value of the variable part of the offset.",
    } => MemoryUnbounded;

    /// A misaligned access.
    #[error("{}", text::misaligned(*memory, *start, *var_off, *off, *insn_off, *size))]
    MemoryAlignment {
        memory: Option<&'static str> = "What the kernel calls the memory, where it does.",
        start: u8 = "Where the memory starts, from an aligned address: 2 for the packet.",
        var_off: Tnum = "The variable part of the pointer's offset.",
        off: i32 = "The constant part of the pointer's offset.",
        insn_off: i16 = "The instruction's offset.",
        size: u8 = "Size of the access.",
    } => MemoryAlignment;

    /// An atomic operation on memory that does not allow them.
    #[error("BPF_ATOMIC {} R{} {kind} is not allowed", text::atomic_verb(*write), register.number())]
    MemoryAtomic {
        register: Reg = "The register with the pointer.",
        kind: &'static str = "The kind of pointer.",
        write: bool = "Whether it stores; only a load-acquire does not.",
    } => MemoryAtomic;

    /// An access to a map's value that the map's flags forbid.
    #[error("{}", text::map_forbidden(*write, *value_size, *off, *size))]
    MapForbidden {
        map: MapIdx = "The map.",
        write: bool = "Whether it is a store.",
        value_size: u32 = "Size of the values.",
        off: i64 = "The constant part of the offset.",
        size: i64 = "Size of the access.",
    } => MapForbidden;

    /// A helper that would change a map which programs may only read.
    #[error("write into map forbidden")]
    MapReadOnly {
        map: MapIdx = "The map.",
        helper: HelperId = "The helper.",
    } => MapForbidden;

    /// No such field of the context, or not at this width or direction.
    #[error("invalid bpf_context access off={off} size={size}")]
    ContextAccess {
        off: i16 = "Offset in the context.",
        size: u8 = "Size of the access.",
        write: bool = "Whether it is a store.",
    } => ContextAccess;

    /// An access to the context that the types of what the program is attached to do not allow.
    #[error("invalid bpf_context access off={off} size={size}")]
    ContextArgument {
        target: String = "The function or tracepoint.",
        fault: TargetFault = "What is wrong.",
        off: i16 = "Offset in the context.",
        size: u8 = "Size of the access.",
    } => ContextAccess;

    /// A program of a type that is attached to something, without what it is attached to.
    #[error("Tracing programs must provide btf_id")]
    TargetMissing => AttachTarget;

    /// An access to a buffer before its start.
    #[error("R{} invalid {buffer} buffer access: off={off}, size={size}", register.number())]
    BufferBefore {
        register: Reg = "The register with the pointer.",
        buffer: &'static str = "What the kernel calls the buffer.",
        off: i64 = "Offset in the buffer.",
        size: i64 = "Size of the access.",
    } => MemoryBounds;

    /// A structure of the kernel in a program whose licence is not compatible with the GPL.
    #[error("Cannot access kernel 'struct {structure}' from non-GPL compatible program")]
    StructureLicense {
        structure: String = "The name of the structure.",
    } => StructureLicense;

    /// An access before the start of a structure of the kernel.
    #[error("R{} is ptr_{structure} invalid negative access: off={off}", register.number())]
    StructureBefore {
        register: Reg = "The register with the pointer.",
        structure: String = "The name of the structure.",
        off: i32 = "Offset in the structure.",
    } => ObjectAccess;

    /// An access to a structure of the kernel at an offset that is not constant.
    #[error(
        "R{} is ptr_{structure} invalid variable offset: off={off}, var_off={}",
        register.number(),
        text::var_off(*var_off)
    )]
    StructureVariable {
        register: Reg = "The register with the pointer.",
        structure: String = "The name of the structure.",
        off: i32 = "The constant part of the offset.",
        var_off: Tnum = "The variable part of the offset.",
    } => ObjectAccess;

    /// A store to a structure of the kernel.
    #[error("only read is supported")]
    StructureWrite {
        structure: String = "The name of the structure.",
    } => ObjectAccess;

    /// An access that goes beyond a structure of the kernel or a member of it.
    #[error("{fault}")]
    StructureAccess {
        fault: WalkFault = "What is wrong.",
    } => ObjectAccess;

    /// An access to a structure of the kernel where it has no member.
    #[error("{fault}")]
    StructureMember {
        fault: WalkFault = "What is wrong.",
    } => StructureMember;

    /// A structure of the kernel of another type than the one that a helper takes.
    #[error("R{} is of type {found} but {wanted} is expected", register.number())]
    HelperStructure {
        register: Reg = "The argument.",
        found: String = "The name of the structure.",
        wanted: &'static str = "The name of the one that the helper takes.",
    } => HelperArgument;

    /// A structure of the kernel as memory of a helper that may write to it.
    #[error(
        "bpf_{helper}() may write into memory pointed by R{} type={kind}",
        register.number()
    )]
    HelperWritesStructure {
        register: Reg = "The argument.",
        helper: Cow<'static, str> = "The name of the helper.",
        kind: &'static str = "What the argument is.",
    } => HelperArgument;

    /// No such field of an object of the kernel, or a store to one that cannot be written.
    #[error("{}", text::object(*register, *object, *write, *off, *size))]
    ObjectAccess {
        register: Reg = "The register with the pointer.",
        object: Object = "The object.",
        off: i32 = "Offset in the object.",
        size: u8 = "Size of the access.",
        write: bool = "Whether it is a store.",
    } => ObjectAccess;

    /// A pointer that must be as the program got it was moved.
    #[error("{}", text::modified(*register, kind, *off, *var_off))]
    ContextModified {
        register: Reg = "The register with the pointer.",
        kind: &'static str = "The kind of pointer.",
        off: i32 = "The constant part of its offset.",
        var_off: Tnum = "The variable part of its offset.",
    } => ContextModified;

    /// An access beyond what was compared with the end of the packet: by `off + size - range`
    /// bytes.
    #[error("R{} offset is outside of the packet", register.number())]
    PacketBounds {
        register: Reg = "The register with the pointer.",
        id: u32 = "What ties it to pointers with the same variable offset; 0 for the packet's start.",
        off: i64 = "The constant part of the offset.",
        size: i64 = "Size of the access.",
        range: u32 = "Bytes that are known to exist, from the pointer without its constant offset.",
    } => PacketBounds;

    /// An access through a packet pointer that is known to lie at or beyond the packet's end.
    #[error("R{} offset is outside of the packet", register.number())]
    PacketBeyondEnd {
        register: Reg = "The register with the pointer.",
        off: i64 = "The constant part of the offset.",
        size: i64 = "Size of the access.",
    } => PacketBeyondEnd;

    /// A store into a packet that the program may only read.
    #[error("cannot write into packet")]
    PacketReadOnly {
        register: Reg = "The register with the pointer.",
    } => PacketForbidden;

    /// A packet pointer given to a helper that does not take any from this program.
    #[error("helper access to the packet is not allowed")]
    PacketArgument {
        register: Reg = "The argument.",
        helper: HelperId = "The helper.",
    } => PacketForbidden;

    /// A classic packet load in a program of another type.
    #[error("BPF_LD_[ABS|IND] instructions not allowed for this program type")]
    PacketLoadType {
        program_type: ProgramType = "The program's type.",
    } => PacketLoad;

    /// A classic packet load without the context in `r6`.
    #[error("at the time of BPF_LD_ABS|IND R6 != pointer to skb")]
    PacketLoadContext {
        kind: &'static str = "What `r6` has.",
    } => PacketLoad;

    /// An access beyond the stack frame.
    #[error("{}", text::stack(access))]
    StackBounds {
        access: StackAccess = "The access.",
    } => StackBounds;

    /// An access that goes on above the stack frame.
    #[error("{}", text::stack(access))]
    StackAbove {
        access: StackAccess = "The access.",
    } => StackAbove;

    /// An access to the stack at an offset without bounds.
    #[error("{}", text::stack_unbounded(*register, *write))]
    StackUnbounded {
        register: Reg = "The register with the pointer.",
        write: bool = "Whether it is a store.",
        min: i64 = "The least value of the variable part of the offset.",
        max: i64 = "The greatest one.",
    } => StackBounds;

    /// An atomic operation on the stack at an offset that is not constant.
    #[error("{}", text::stack_variable(*var_off, *off, *size))]
    StackVariable {
        var_off: Tnum = "The variable part of the offset.",
        off: i64 = "The constant part of the offset.",
        size: u8 = "Size of the access.",
    } => StackBounds;

    /// A pointer stored in part.
    #[error("invalid size of register spill")]
    StackSpillSize {
        size: u8 = "Size of the store.",
    } => StackSpillSize;

    /// A stored pointer loaded in part.
    #[error("invalid size of register fill")]
    StackFillSize {
        size: u8 = "Size of the load.",
    } => StackFillSize;

    /// A stack pointer stored in a caller's frame.
    #[error("cannot spill pointers to stack into stack frame of the caller")]
    StackSpillToCaller {
        frame: usize = "The caller's frame; 0 for the main program's.",
    } => StackSpillToCaller;

    /// The address of a function in a program without types.
    #[error("missing btf func_info")]
    FunctionUntyped => FunctionAddress;

    /// The address of a function that is verified by itself.
    #[error("callback function not static")]
    FunctionNotStatic => FunctionAddress;

    /// A callback for the elements of a map whose elements cannot be gone through.
    #[error("callback function not allowed for map")]
    CallbackMap {
        map_type: MapType = "The map's type.",
    } => CallbackMap;

    /// A pointer as the number of rounds of `bpf_loop`.
    #[error("verifier bug: backtracking misuse")]
    PointerRounds => VerifierBug;

    /// A return value of a callback that is not a number.
    #[error("R0 not a scalar value")]
    CallbackPointer {
        kind: &'static str = "What it is.",
    } => CallbackPointer;

    /// A return value of a callback that is neither 0 nor 1.
    #[error("{}", text::callback_value(*smin, *smax))]
    CallbackValue {
        smin: i64 = "Its least value.",
        smax: i64 = "Its greatest value.",
    } => ExitValue;

    /// What a function that runs later returns is not 0.
    #[error("At async callback return the register R0 {fault}")]
    LaterResult {
        fault: LaterFault = "What it is.",
    } => ExitValue;

    /// A store to a key of a map.
    #[error("write to change key R{} not allowed", register.number())]
    MapKeyWrite {
        register: Reg = "The register with the pointer.",
    } => MapForbidden;

    /// A key of a map given to a helper that writes to it.
    #[error("R{} cannot write into map_key", register.number())]
    MapKeyOutput {
        register: Reg = "The argument.",
    } => MapForbidden;

    /// A return value that is not a number.
    #[error("At program exit the register R0 is not a known value ({kind})")]
    ExitPointer {
        kind: &'static str = "What it is.",
    } => ExitValue;

    /// A return value that the program type does not allow.
    #[error("{}", text::exit_value(*smin, *smax, *allowed))]
    ExitValue {
        smin: i64 = "Its least value.",
        smax: i64 = "Its greatest value.",
        allowed: ExitRange = "What is allowed.",
    } => ExitValue;

    /// A call of a global function that its prototype does not allow, or whose prototype the kernel
    /// does not take.
    #[error("Caller passes invalid args into func#{} ('{name}')", function.0)]
    GlobalArguments {
        function: SubprogIdx = "The function.",
        name: String = "Its name.",
        cause: Box<Payload> = "What is wrong.",
    } => FunctionArguments;

    /// A call of a global function with a pointer that was moved, or with nothing where it takes one.
    #[error("Caller passes invalid args into func#{} ('{name}')", function.0)]
    GlobalArgumentMoved {
        function: SubprogIdx = "The function.",
        name: String = "Its name.",
        cause: Box<Payload> = "What is wrong.",
    } => ContextModified;

    /// A prototype that the kernel does not take.
    #[error("{fault}")]
    Prototype {
        fault: PrototypeFault = "What is wrong.",
    } => FunctionPrototype;

    /// An argument that is not what the prototype says.
    #[error("{}", text::argument(*register, *rule))]
    Argument {
        register: Reg = "The argument.",
        rule: ArgumentRule = "What it must be.",
    } => FunctionArguments;

    /// A call of a global function that may sleep, which the program may not.
    #[error("a non-sleepable BPF program context")]
    GlobalSleeps {
        function: SubprogIdx = "The function.",
    } => FunctionSleeps;

    /// A global function that returns something else than a number.
    #[error("At subprogram exit the register R0 is not a scalar value ({kind})")]
    FunctionResult {
        kind: &'static str = "What it is.",
    } => FunctionResult;

    /// A helper that the kernel does not have.
    #[error("invalid func unknown#{}", helper.0.cast_signed())]
    HelperUnknown {
        helper: HelperId = "The helper.",
    } => HelperUnknown;

    /// A helper that programs of this type may not call.
    #[error("program of this type cannot use helper {helper}")]
    HelperNotAllowed {
        helper: HelperId = "The helper.",
    } => HelperNotAllowed;

    /// A helper that only programs under a GPL-compatible licence may call.
    #[error("cannot call GPL-restricted function from non-GPL compatible program")]
    HelperLicense {
        helper: HelperId = "The helper.",
    } => HelperLicense;

    /// An argument of the wrong kind.
    #[error("R{} type={kind} expected={}", register.number(), expected.join(", "))]
    HelperArgument {
        register: Reg = "The argument.",
        kind: &'static str = "What it is.",
        expected: &'static [&'static str] = "What it may be.",
    } => HelperArgument;

    /// Flags for a helper that has none.
    #[error("{}() doesn't support non-zero flags", helper.name().unwrap_or_default())]
    HelperFlags {
        helper: HelperId = "The helper.",
    } => HelperFlags;

    /// A map that is not for this helper.
    #[error("{}", text::helper_map(*helper, *map_type))]
    HelperMap {
        helper: HelperId = "The helper.",
        map_type: MapType = "The map's type.",
    } => HelperMap;

    /// A size that may be zero, negative or too large.
    #[error("{}", text::bad_size(*register, *bad))]
    HelperSize {
        register: Reg = "The argument: the size, or the memory if its size is given otherwise.",
        bad: BadSize = "What is wrong.",
    } => HelperSize;

    /// An access to bytes of a map's value that only helpers may touch.
    #[error("{} cannot be accessed directly by load/store", field.name())]
    FieldAccess {
        field: SpecialField = "What it touches.",
    } => FieldAccess;

    /// A use of a field of a map's value that is not as it must be.
    #[error("{fault}")]
    Field {
        fault: FieldFault = "What is wrong with it.",
    } => FieldUse;

    /// A lock that is held, or is not.
    #[error("{fault}")]
    Lock {
        fault: LockFault = "What is wrong.",
    } => LockHeld;

    /// The end of the program, with something held that was acquired.
    #[error("{ending} would lead to reference leak")]
    ReferenceLeak {
        ending: Ending = "What ends it.",
        held: Vec<Held> = "What is held, in the order in which it was acquired.",
    } => ReferenceLeak;

    /// Something given to a helper that releases, which was not acquired.
    #[error("R{} must be referenced when passed to release function", register.number())]
    HelperNotAcquired {
        register: Reg = "The argument.",
    } => ReferenceRelease;

    /// Two arguments that were acquired, or are parts of what was.
    #[error("more than one arg with ref_obj_id R{} {id} {other}", register.number())]
    HelperReferences {
        register: Reg = "The second one.",
        id: u32 = "What it was acquired as.",
        other: u32 = "What the first one was acquired as.",
    } => HelperArgument;

    /// Something given to a helper that releases, which was moved.
    #[error("{}", text::release_moved(*register))]
    HelperReleaseMoved {
        register: Reg = "The argument.",
        off: i32 = "The constant part of its offset.",
    } => ReferenceRelease;

    /// A number that is not known where a helper takes a constant.
    #[error("R{} is not a known constant'", register.number())]
    HelperConstant {
        register: Reg = "The argument.",
    } => HelperArgument;

    /// Something given to a helper that releases, which was released or is null.
    #[error("func {helper} reference has not been acquired before")]
    HelperNotHeld {
        helper: HelperId = "The helper.",
    } => ReferenceRelease;

    /// A store to memory that may only be read, or such memory given to a helper to be filled.
    #[error("R{} cannot write into {kind}", register.number())]
    MemoryReadOnly {
        register: Reg = "The register with the pointer.",
        kind: &'static str = "What the memory is.",
    } => MemoryForbidden;

    /// Something else than the dynptr or iterator that is wanted, or no room for one.
    #[error("{fault}")]
    StackObject {
        fault: ObjectFault = "What is wrong.",
    } => StackObject;

    /// An access to bytes of the stack that are the kernel's.
    #[error("{access}")]
    StackObjectAccess {
        access: ObjectAccess = "What it does.",
    } => StackObjectAccess;

    /// A kernel function in a program whose licence is not compatible with the GPL.
    #[error("cannot call kernel function from non-GPL compatible program")]
    KfuncLicense => KfuncLicense;

    /// A function that releases, called with nothing that was acquired.
    #[error("release kernel function {function} expects refcounted PTR_TO_BTF_ID")]
    KfuncNotAcquired {
        function: Cow<'static, str> = "The function.",
    } => ReferenceRelease;

    /// A kernel function that the module does not have.
    #[error("kernel btf_id {btf_id} is not a function")]
    KfuncMissing {
        btf_id: u32 = "What the call has for its BTF id.",
        module: i16 = "The index of the module.",
    } => KfuncUnknown;

    /// A call with an index that no module can have.
    #[error("failed to find BTF for kernel function")]
    KfuncModule {
        module: i16 = "The index.",
    } => KfuncUnknown;

    /// Too many kernel functions.
    #[error("too many different kernel function calls")]
    LimitKfuncs {
        max: usize = "The limit.",
    } => LimitKfuncs;

    /// A pointer, or nothing, where a kernel function takes a number.
    #[error("R{} is not a scalar", register.number())]
    KfuncNumber {
        register: Reg = "The argument.",
    } => KfuncArgument;

    /// Something else where a kernel function takes the context.
    #[error("arg#{argument} expected pointer to ctx, but got {kind}")]
    KfuncContext {
        argument: usize = "The argument, from 0.",
        kind: &'static str = "What it is.",
    } => KfuncArgument;

    /// Something that is no pointer to an object where a kernel function takes one, or a buffer
    /// without a size.
    #[error("{}", text::pointer_argument(*argument, wanted.as_ref()))]
    KfuncPointer {
        argument: usize = "The argument, from 0.",
        wanted: Option<ObjectType> = "The type of the object; `None` for a buffer.",
    } => KfuncArgument;

    /// A map or an object where a kernel function takes memory.
    #[error("kernel function {function} args#{argument} pointer type UNKNOWN  is not supported")]
    KfuncStructure {
        function: Cow<'static, str> = "The function.",
        argument: usize = "The argument, from 0.",
        kind: &'static str = "What it is.",
    } => KfuncArgument;

    /// An object that was not acquired where a kernel function takes only acquired ones.
    #[error("R{} must be referenced or trusted", register.number())]
    KfuncUntrusted {
        register: Reg = "The argument.",
    } => KfuncArgument;

    /// An object of another type than the one that a kernel function takes.
    #[error("{}", text::object_type(function, *argument, wanted, found))]
    KfuncType {
        function: Cow<'static, str> = "The function.",
        argument: usize = "The argument, from 0.",
        wanted: ObjectType = "The type that it takes.",
        found: String = "The name of the type that it is.",
    } => KfuncArgument;

    /// Null, or what may be null, where a kernel function takes none.
    #[error("Possibly NULL pointer passed to trusted arg{argument}")]
    KfuncNull {
        argument: usize = "The argument, from 0.",
    } => KfuncNull;

    /// A buffer that is not there as a whole.
    #[error("arg#{argument} arg#{} memory, len pair leads to invalid memory access", argument + 1)]
    KfuncBuffer {
        argument: usize = "The buffer, from 0; its size is the next argument.",
        cause: Box<Payload> = "What is wrong with it.",
    } => KfuncMemory;

    /// A buffer that goes on above the stack frame.
    #[error("arg#{argument} arg#{} memory, len pair leads to invalid memory access", argument + 1)]
    KfuncBufferAbove {
        argument: usize = "The buffer, from 0; its size is the next argument.",
        cause: Box<Payload> = "What is wrong with it.",
    } => StackAbove;

    /// A store to an object that programs cannot look into.
    #[error("only read is supported")]
    ObjectWrite {
        object: ObjectType = "The type of the object.",
    } => ObjectAccess;

    /// A load from before an object that programs cannot look into.
    #[error("R{} is ptr_{} invalid negative access: off={off}", register.number(), object.name())]
    ObjectBefore {
        register: Reg = "The register with the pointer.",
        object: ObjectType = "The type of the object.",
        off: i32 = "Offset in the object.",
    } => ObjectAccess;

    /// A load from an object that programs cannot look into.
    #[error("access beyond struct {} at off {off} size {size}", object.name())]
    ObjectBeyond {
        object: ObjectType = "The type of the object.",
        off: i32 = "Offset in the object.",
        size: u8 = "Size of the access.",
    } => ObjectAccess;

    /// A helper that may sleep, called by a program that may not.
    #[error("helper call might sleep in a non-sleepable prog")]
    HelperSleeps {
        helper: HelperId = "The helper.",
    } => HelperSleeps;

    /// A program of a type that may not sleep, to be loaded as one that may.
    #[error("Only fentry/fexit/fmod_ret, lsm, iter, uprobe, and struct_ops programs can be sleepable")]
    Sleepable {
        program_type: ProgramType = "The type.",
    } => SleepableType;

    /// A program that processes run, and that is not to be one that may sleep.
    #[error("Syscall programs can only be sleepable")]
    SyscallAwake => SleepableType;

    /// A map that programs that may sleep must not use.
    #[error("Sleepable programs can only use array, hash, ringbuf and local storage maps")]
    SleepableMap {
        map: MapIdx = "The map.",
    } => SleepableMap;

    /// A string in a map that others may write.
    #[error("R{} does not point to a readonly map'", register.number())]
    StringWritable {
        register: Reg = "The argument.",
    } => HelperArgument;

    /// A string that may begin at several places.
    #[error("R{} is not a constant address'", register.number())]
    StringPlace {
        register: Reg = "The argument.",
    } => HelperArgument;

    /// A string in an array of several elements.
    #[error("direct value access on string failed")]
    StringElements {
        map: MapIdx = "The map.",
    } => StringElements;

    /// A string without end.
    #[error("string is not zero-terminated")]
    StringEnd {
        register: Reg = "The argument.",
    } => HelperString;

    /// A format that is none, or that asks for more numbers than there are.
    #[error("Invalid format string")]
    FormatString {
        arguments: u64 = "How many numbers there are.",
    } => HelperString;
}
