//! What this verifier does not know.

use alloc::boxed::Box;

use ebpf_isa::uapi::{HelperId, MapType};

use super::Payload;

/// Something that this verifier does not know, so that it gives no verdict. The kernel may accept
/// a program with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsupported {
    /// A program with an exception callback.
    #[error("an exception callback")]
    ExceptionCallback,
    /// A reference to a map of another type than those that are known.
    #[error("a map of type {0}")]
    Map(MapType),
    /// A map of maps, of which it is not known what it holds.
    #[error("a map of maps whose inner map is not described")]
    InnerMap,
    /// A reference to a map whose values may have other fields that the kernel guards than locks, timers
    /// and pointers, or of which no such map can be made.
    #[error("a map whose values have fields that are not known")]
    SpecialFields,
    /// An access to a pointer to an object of the kernel that is kept in a map.
    #[error("an access to a kernel pointer in a map")]
    PointerField,
    /// The lock of an element that a callback is given, where there may be other elements. The kernel does
    /// not tell them apart.
    #[error("the lock of an element that a callback is given")]
    CallbackLock,
    /// A direct reference far into a map's value.
    #[error("a map value of more than 2 GiB")]
    LargeMapValue,
    /// A load from a map itself, not its values.
    #[error("an access to a map's description")]
    MapDescription,
    /// A comparison of what was looked up in a map of maps or sockets with another pointer.
    #[error("a comparison of an element of a map of maps or sockets with another pointer")]
    ElementComparison,
    /// A load from a map that is frozen, where it is not a single value.
    #[error("a load from a frozen array of more than one element")]
    FrozenElements,
    /// A load from a frozen map, of bytes that are not known.
    #[error("frozen contents that are shorter than the map's value")]
    FrozenContents,
    /// The register that rewriting uses.
    #[error("the auxiliary register")]
    AuxiliaryRegister,
    /// A call of a kernel function.
    #[error("a call of a kernel function")]
    KernelFunction,
    /// A call of a function of the base that the kernel's verifier knows by name.
    #[error("a call of a kernel function that the verifier knows by name")]
    SpecialFunction,
    /// A call of a function that releases, with two objects that were acquired.
    #[error("a function that releases, called with two acquired objects")]
    TwoReleased,
    /// A call of a native function of the host: only rewriting makes such calls.
    #[error("a call of a native function by its number")]
    NativeFunction,
    /// The address of a kernel variable.
    #[error("the address of a kernel variable")]
    KernelVariable,
    /// The address of a function that no path comes to, in a program with others. The kernel removes the
    /// function and then looks for it in vain.
    #[error("the address of a function that no path comes to")]
    UnreachedFunction,
    /// The main program as a function that a timer runs.
    #[error("the main program run by a timer")]
    MainLater,
    /// A tail call or a classic packet load in a callback: both may end the program.
    #[error("a tail call or packet load in a callback")]
    EndInCallback,
    /// A path that the kernel ends where an earlier one of the same loop came by (one of callbacks, or one
    /// that `may_goto` ends), though what that one turns out to rely on is not the same here.
    #[error("a loop that the kernel leaves too early")]
    EarlyEnd,
    /// A call of a global function with a prototype that has something unknown, as a tag.
    #[error("a global function whose prototype has tags or types that are not known")]
    FunctionPrototype,
    /// Null for a global function that takes memory which is there (`arg:nonnull`). The kernel does not
    /// notice.
    #[error("null given to a global function whose argument is tagged as not null")]
    NullArgument,
    /// A packet that may only be read, given to a global function. The kernel does not notice that it
    /// may write.
    #[error("a packet that may only be read, given to a global function")]
    PacketArgument,
    /// An object of a module, given to a global function as memory.
    #[error("an object given to a global function as memory")]
    ObjectArgument,
    /// A call of a function that may have to be verified on its own, or is defined elsewhere.
    #[error("a call of a function whose type is not given")]
    UntypedFunction,
    /// An access to a record of a ring buffer that was submitted or discarded, by a number to which it
    /// was added. The kernel does not notice.
    #[error("an access to a record that was submitted or discarded")]
    ReleasedRecord,
    /// A number of a caller that decides something after a packet load has ended the callee. The
    /// kernel looks in the callee for what it was made from.
    #[error("a number that decides something after a packet load in a subprogram has failed")]
    PacketLoadReturn,
    /// A cast between the address spaces of arenas.
    #[error("an address space cast")]
    AddrSpaceCast,
    /// A load-acquire that overwrites its own pointer to the context, the packet or an object of the
    /// kernel. The kernel does not notice that it must not be done there.
    #[error("a load-acquire of the context, packet or object into the register that points to it")]
    LoadAcquireInPlace,
    /// A jump that may not reach its target once the kernel has rewritten what it passes.
    #[error("a jump over so much code that the kernel may not be able to rewrite it")]
    LongJump,
    /// A field of the context, by its offset.
    #[error("the context field at offset {0}")]
    ContextField(i16),
    /// A helper.
    #[error("the helper {0}")]
    Helper(HelperId),
    /// A helper on a map whose elements are sockets.
    #[error("{0} on a map of sockets")]
    SocketMap(HelperId),
    /// A helper that takes a key or value before its map.
    #[error("a helper whose map is not its first argument")]
    LateMap,
    /// Memory that may be missing, for a helper that takes null, and is no value of a map.
    #[error("memory that may be missing, given to a helper that takes a map's value or null")]
    MissingMemory,
    /// Numbers for a format that are not of eight bytes each. The kernel refuses them without a word.
    #[error("numbers to be printed that are not of eight bytes each")]
    FormatNumbers,
    /// A helper whose first argument is a size.
    #[error("a size without memory before it")]
    LoneSize,
    /// A stack pointer of a called function, added to a number: the kernel loses track of the frame.
    #[error("a called function's stack pointer added to a number")]
    NumberPlusFrame,
    /// A slice of a dynptr of a ring buffer, or what an iterator gave, added to a number: the kernel does
    /// not notice when it goes.
    #[error("memory that ends with a dynptr or an iterator, added to a number")]
    NumberPlusSlice,
    /// A store over a part of such a slice that was spilled, or over all of it by what is no store: the
    /// kernel does not forget it, and fails when the dynptr is released.
    #[error("a store over a part of a spilled slice of a dynptr that was acquired")]
    SliceOverwritten,
    /// A store somewhere in the stack, where an iterator may be: the kernel forgets a part of it.
    #[error("a store at a variable offset over an iterator")]
    IterOverwritten,
    /// An iterator in the slot above the frame pointer, where the kernel finds that below it.
    #[error("an iterator at the frame pointer")]
    IterAtFramePointer,
    /// A number to which a pointer to memory is added that may not be there: the kernel takes the number
    /// to be the same as before.
    #[error("a number to which a pointer to memory is added that may not be there")]
    NumberPlusGuarded,
    /// A number to which a pointer to an acquired structure is added: the kernel loses track of it.
    #[error("a number to which a pointer to an acquired structure is added")]
    NumberPlusAcquired,
    /// A load that has to be guarded on one path and not on another.
    #[error("a load that has to be guarded on one path and not on another")]
    PartlyGuarded,
    /// A structure of the kernel, without the types of the kernel.
    #[error("a program that needs the types of the kernel, which are not given")]
    KernelTypes,
    /// An access to a buffer of an iterator at an offset that is not constant.
    #[error("an access to a key or value of an iterator at an offset that is not constant")]
    BufferOffset,
    /// An attach target, or an argument of it, of a kind that is not known.
    #[error("what the program is attached to")]
    AttachTarget,
    /// A member of a structure of the kernel, or a pointer in one, of a kind that is not known.
    #[error("a member of a structure of the kernel with tags or types that are not known")]
    StructureMember,
    /// A store to a structure of the kernel in a program that may be allowed some.
    #[error("a store to a structure of the kernel")]
    StructureStore,
    /// A structure of the kernel as an argument where only some are taken.
    #[error("a structure of the kernel given as a socket or value")]
    StructureArgument,
    /// A dynptr of a record that is released, of which another function has a copy: the kernel leaves it.
    #[error("a release of a dynptr that was copied into the stack of another function")]
    CopiedDynptr,
    /// A slice of a record by a kernel function: for the kernel it stays when the record is released.
    #[error("a slice of a dynptr that was acquired, made by a kernel function")]
    RecordSlice,
    /// A slice to be written whose bytes may be those of a buffer in the stack: the kernel does not expect
    /// them to change what is spilled there later.
    #[error("a slice to be written with a buffer in the stack")]
    SliceBuffer,
    /// A dynptr of a packet, given to a global function: for the kernel it is one of memory there, so that
    /// slices stay when the packet moves, and writing by it does not move the packet.
    #[error("a dynptr of a packet, given to a global function")]
    PacketDynptr,
    /// A dynptr that a function was given, where a kernel function makes one. The kernel fails there.
    #[error("a dynptr made where a function was given one")]
    DynptrOverGiven,
    /// A load of a called function's frame pointer, which the kernel loses track of.
    #[error("a load of a called function's frame pointer")]
    CalleeFramePointer,
    /// A number that decides something, of which the kernel does not find what it was made from.
    #[error("a number that comes from nowhere")]
    UnknownOrigin,
    /// A comparison from which the kernel draws a wrong conclusion.
    #[error("a comparison of a number that was spilled and then loaded with another sign")]
    OtherSign,
}

impl From<Unsupported> for Box<Payload> {
    fn from(what: Unsupported) -> Self {
        Self::new(Payload::Unsupported { what })
    }
}
