//! What is wrong with a function's prototype.

use alloc::string::String;

/// Why calls of a function with such a prototype are not possible. Arguments count from 0; a `kind` is
/// what BTF calls the type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrototypeFault {
    /// More arguments than there are registers for.
    #[error("Global function {function}() with {count} > 5 args. Buggy compiler.")]
    TooManyArguments {
        /// The function.
        function: String,
        /// How many.
        count: usize,
    },
    /// It does not return a number.
    #[error("Global function {function}() doesn't return scalar. Only those are supported.")]
    Result {
        /// The function.
        function: String,
    },
    /// An argument that is neither a number nor a pointer.
    #[error("Arg#{argument} type {kind} in {function}() is not supported yet.")]
    Argument {
        /// The argument.
        argument: usize,
        /// What it is.
        kind: &'static str,
        /// The function.
        function: String,
    },
    /// A pointer to something without a size.
    #[error("arg#{argument} reference type('{kind} {name}') size cannot be determined: -22")]
    Size {
        /// The argument.
        argument: usize,
        /// What it points to.
        kind: &'static str,
        /// The name of that type.
        name: String,
    },
    /// Tags that exclude each other.
    #[error("arg#{argument} has invalid combination of tags")]
    Tags {
        /// The argument.
        argument: usize,
    },
    /// A tag for pointers on something else.
    #[error("arg#{argument} has pointer tag, but is not a pointer type")]
    PointerTag {
        /// The argument.
        argument: usize,
    },
    /// A tag in a static function.
    #[error("arg#{argument} type tag is not supported in static functions")]
    StaticTag {
        /// The argument.
        argument: usize,
    },
    /// A pointer to something without a name, tagged as the context.
    #[error("arg#{argument} type doesn't have a name")]
    ContextUnnamed {
        /// The argument.
        argument: usize,
    },
    /// A pointer tagged as the context, to anything, where the context's type has no name.
    #[error("arg#{argument} should be void pointer")]
    ContextVoid {
        /// The argument.
        argument: usize,
    },
    /// A pointer to another type, tagged as the context.
    #[error("arg#{argument} should be `struct {wanted} *`")]
    ContextType {
        /// The argument.
        argument: usize,
        /// The name of the context's type.
        wanted: &'static str,
    },
}
