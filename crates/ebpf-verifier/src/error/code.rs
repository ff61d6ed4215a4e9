//! What kinds of rules there are, and the error numbers that the kernel gives.

use core::fmt;

macro_rules! error_codes {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal, $errno:ident;)*) => {
        /// What kind of rule a program breaks. Codes are stable; texts belong to a kernel version.
        /// `docs/errors.md` lists them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode { $($(#[doc = $doc])* $name,)* }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// What it means, in a sentence or two.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),*).trim_ascii_start(),)* }
            }

            /// The stable name: `packet.out-of-bounds`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The error number that the kernel gives.
            #[must_use]
            pub const fn errno(self) -> Errno {
                match self { $(Self::$name => Errno::$errno,)* }
            }
        }
    };
}

error_codes! {
    /// The program uses something that this verifier does not know. The kernel may accept it.
    Unsupported = "unsupported", EOPNOTSUPP;

    /// Slots that are no program: an opcode, register or field that is not there, a jump out of the
    /// program, a missing end.
    ProgramMalformed = "program.malformed", EINVAL;
    /// An instruction that this kernel does not know.
    InsnUnknown = "insn.unknown", EINVAL;
    /// A subprogram that a tail call or a packet load may end, and whose type is not given or not that
    /// of a function that returns a number.
    SubprogramUntyped = "subprogram.untyped", EINVAL;
    /// An instruction that no path of control leads to.
    CfgUnreachable = "cfg.unreachable", EINVAL;
    /// A reference to a map or to a place in its value that cannot be.
    MapReference = "map.reference", EINVAL;
    /// A direct reference into a map whose type or size does not allow one.
    MapNoDirectValue = "map.no-direct-value", ENOTSUPP;
    /// A second storage of a cgroup, of a kind that the program has already.
    MapStorage = "map.storage", EBUSY;
    /// Too many slots. The kernel says nothing more than the error number.
    LimitSlots = "limit.slots", E2BIG;
    /// Too many maps.
    LimitMaps = "limit.maps", E2BIG;
    /// Too many subprograms.
    LimitSubprograms = "limit.subprograms", E2BIG;
    /// The address of a function that cannot be called back.
    FunctionAddress = "function.address", EINVAL;
    /// A callback for the elements of a map that cannot be gone through.
    CallbackMap = "callback.map", ENOTSUPP;
    /// A callback that returns something else than a number.
    CallbackPointer = "callback.pointer", EACCES;
    /// A path that comes back to where it was, with nothing changed.
    LoopInfinite = "loop.infinite", EINVAL;
    /// More instructions to process than the limit.
    LimitProcessed = "limit.processed", E2BIG;
    /// More branches waiting than the limit.
    LimitPending = "limit.pending", EFAULT;
    /// More branches and rounds waiting than the limit, the last of them a round: of a callback or of
    /// `may_goto`.
    LimitRounds = "limit.rounds", ENOMEM;
    /// More branches and functions that run later waiting than the limit, the last of them a function.
    LimitLater = "limit.later", EFAULT;
    /// States that take more memory than the limit. The kernel has no limit but its memory.
    LimitMemory = "limit.memory", ENOMEM;
    /// The kernel's verifier comes to something that it takes for impossible, and gives up.
    VerifierBug = "verifier.bug", EFAULT;
    /// More frames than the limit.
    LimitCallDepth = "limit.call-depth", E2BIG;
    /// More stack, in one frame or in a chain of calls, than the limit.
    LimitStack = "limit.stack", EACCES;

    /// A program of a type that is attached to something, without what it is attached to.
    AttachTarget = "attach.target", EINVAL;
    /// An attach type that programs of this type cannot have.
    AttachType = "attach.type", EINVAL;
    /// A program that is to be one that may sleep, of a type that may not, or the reverse.
    SleepableType = "sleepable.type", EINVAL;
    /// A map that programs that may sleep must not use.
    SleepableMap = "sleepable.map", EINVAL;

    /// A register is read that was never written, or that a call destroyed.
    RegisterUninit = "register.uninit", EACCES;
    /// The frame pointer is written.
    RegisterReadOnly = "register.read-only", EACCES;
    /// Division by the immediate 0.
    AluDivByZero = "alu.div-by-zero", EINVAL;
    /// A shift by an immediate that is negative or not below the width.
    AluShift = "alu.shift", EINVAL;

    /// Arithmetic that is not allowed on a pointer of this kind.
    PointerArithmetic = "pointer.arithmetic", EACCES;
    /// Arithmetic that may take a pointer too far.
    PointerRange = "pointer.range", EINVAL;
    /// A stack pointer as return value.
    PointerReturned = "pointer.returned", EINVAL;
    /// One instruction that uses a context pointer on one path and another pointer on another.
    PointerMixed = "pointer.mixed", EINVAL;

    /// An access through something that is not a pointer, or may be null.
    MemoryPointer = "memory.pointer", EACCES;
    /// An access at an offset that may be negative or out of bounds.
    MemoryBounds = "memory.bounds", EACCES;
    /// An access at an offset without upper bound.
    MemoryUnbounded = "memory.unbounded", EACCES;
    /// A misaligned access.
    MemoryAlignment = "memory.alignment", EACCES;
    /// An atomic operation on memory that does not allow them.
    MemoryAtomic = "memory.atomic", EACCES;
    /// A store to memory that may only be read.
    MemoryForbidden = "memory.forbidden", EACCES;
    /// An access to a map's value that the map's flags forbid.
    MapForbidden = "map.forbidden", EACCES;

    /// No such field, or not at this width or direction.
    ContextAccess = "context.access", EACCES;
    /// An access to an object of the kernel where it has no such field, or a store to one that
    /// cannot be written.
    ObjectAccess = "object.access", EACCES;
    /// An access to a structure of the kernel where it has no member.
    StructureMember = "structure.member", EINVAL;
    /// An access to a structure of the kernel in a program whose licence is not compatible with the GPL.
    StructureLicense = "structure.license", EINVAL;
    /// A context pointer that was moved.
    ContextModified = "context.modified", EACCES;
    /// An access beyond what was compared with the end of the packet.
    PacketBounds = "packet.bounds", EACCES;
    /// An access through a packet pointer that is known to lie at or beyond the packet's end.
    PacketBeyondEnd = "packet.beyond-end", EINVAL;
    /// A packet pointer where the program may not access the packet.
    PacketForbidden = "packet.forbidden", EACCES;
    /// A classic packet load in a program of another type, or without the context in `r6`.
    PacketLoad = "packet.load", EINVAL;
    /// An access beyond the stack frame.
    StackBounds = "stack.bounds", EACCES;
    /// An access that goes on above the stack frame.
    StackAbove = "stack.above", EINVAL;
    /// A pointer stored in part.
    StackSpillSize = "stack.spill-size", EACCES;
    /// A stored pointer loaded in part.
    StackFillSize = "stack.fill-size", EACCES;
    /// Something else than the dynptr or iterator that is wanted, no room for one, or a store over one that
    /// has to be released.
    StackObject = "stack.object", EINVAL;
    /// An access to bytes of the stack that are the kernel's, for a dynptr or an iterator.
    StackObjectAccess = "stack.object-access", EACCES;
    /// A stack pointer stored in a caller's frame.
    StackSpillToCaller = "stack.spill-to-caller", EINVAL;

    /// A return value that the program type does not allow.
    ExitValue = "exit.value", EINVAL;

    /// The end of the program with something acquired that was not released.
    ReferenceLeak = "reference.leak", EINVAL;
    /// A release of what was not acquired.
    ReferenceRelease = "reference.release", EINVAL;

    /// An access to bytes of a map's value that only helpers may touch: a lock, a timer.
    FieldAccess = "field.access", EACCES;
    /// A lock or timer of a map's value in a program that may not have it, or a pointer to something else
    /// where a helper takes one.
    FieldUse = "field.use", EINVAL;
    /// Something that is not possible while a lock is held, or only while it is.
    LockHeld = "lock.held", EINVAL;

    /// A call of a global function with arguments that its prototype does not allow.
    FunctionArguments = "function.arguments", EINVAL;
    /// A prototype of a global function that the kernel does not take.
    FunctionPrototype = "function.prototype", EINVAL;
    /// A call of a global function that may sleep, in a program that may not.
    FunctionSleeps = "function.sleeps", EINVAL;
    /// A global function that returns something else than a number.
    FunctionResult = "function.result", EINVAL;

    /// A kernel function that the module does not have, or a module that there is not.
    KfuncUnknown = "kfunc.unknown", EINVAL;
    /// An argument of a kernel function that is of the wrong kind.
    KfuncArgument = "kfunc.argument", EINVAL;
    /// A kernel function that only programs under a GPL-compatible licence may call.
    KfuncLicense = "kfunc.license", EINVAL;
    /// A pointer that is null, or may be, where a kernel function takes none.
    KfuncNull = "kfunc.null", EACCES;
    /// Memory for a kernel function that there is not.
    KfuncMemory = "kfunc.memory", EACCES;
    /// More kernel functions than the limit.
    LimitKfuncs = "limit.kfuncs", E2BIG;

    /// A helper that the kernel does not have.
    HelperUnknown = "helper.unknown", EINVAL;
    /// A helper that programs of this type may not call.
    HelperNotAllowed = "helper.not-allowed", EINVAL;
    /// A helper that only programs under a GPL-compatible licence may call.
    HelperLicense = "helper.license", EINVAL;
    /// An argument of the wrong kind.
    HelperArgument = "helper.argument", EACCES;
    /// Flags where there are none.
    HelperFlags = "helper.flags", EINVAL;
    /// A helper that may sleep, called by a program that may not.
    HelperSleeps = "helper.sleeps", EINVAL;
    /// A string that a helper is to read, which has no end, or is no format for what it is given with.
    HelperString = "helper.string", EINVAL;
    /// A string that a helper is to read, in an array of several elements.
    StringElements = "helper.string-elements", ENOTSUPP;
    /// A map that is not for this helper.
    HelperMap = "helper.map", EINVAL;
    /// A size that may be zero, negative or too large.
    HelperSize = "helper.size", EACCES;
}

macro_rules! errnos {
    ($($name:ident = $number:literal;)*) => {
        /// A Linux error number.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(i32)]
        #[allow(missing_docs, reason = "the names of errno.h")]
        pub enum Errno { $($name = $number,)* }

        impl Errno {
            /// The error with this positive number, if verifiers give it.
            #[must_use]
            pub const fn from_number(number: i32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The name, as in `errno.h`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}

errnos! {
    E2BIG = 7;
    ENOMEM = 12;
    EACCES = 13;
    EFAULT = 14;
    EBUSY = 16;
    EINVAL = 22;
    EOPNOTSUPP = 95;
    ENOTSUPP = 524;
}

impl Errno {
    /// The positive number.
    #[must_use]
    pub const fn number(self) -> i32 {
        self as i32
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
