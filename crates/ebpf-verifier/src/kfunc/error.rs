//! What can be wrong with modules and with what names them.

use alloc::string::String;

/// Why there is no such function, or no such module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModuleError {
    /// A module by a name that none has.
    #[error("there is no module `{module}`; register it before the program is loaded")]
    NoModule {
        /// The name.
        module: String,
    },
    /// A second module by the same name.
    #[error("there already is a module `{module}`; give this one another name")]
    ModuleExists {
        /// The name.
        module: String,
    },
    /// A function by a name that none of the module has.
    #[error("module `{module}` has no function `{function}`")]
    NoFunction {
        /// The module.
        module: String,
        /// The name.
        function: String,
    },
    /// A call by an index that stands for no module.
    #[error("no module has the index {index} in the program's table; add it to the table")]
    NoIndex {
        /// The index; 0 is the base.
        index: i16,
    },
    /// A call by a BTF id that no function of the module has.
    #[error("module `{module}` has no function with the BTF id {btf_id}")]
    NoBtfId {
        /// The module.
        module: String,
        /// The id.
        btf_id: u32,
    },
    /// An index that no module can have, or one that another module has.
    #[error("module `{module}` cannot have the index {index}: {reason}")]
    BadIndex {
        /// The module.
        module: String,
        /// The index.
        index: i16,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// More modules than a program can name.
    #[error("module `{module}` is one too many: a program can name {max} besides the base")]
    TooManyModules {
        /// The one that found no room.
        module: String,
        /// The limit.
        max: usize,
    },
    /// A call in a prologue or an epilogue of a function that only verified code may call.
    #[error("a prologue or epilogue cannot call `{function}`, whose calls the verifier has to see")]
    SpecialInHook {
        /// The function.
        function: String,
    },
    /// A prototype that contradicts itself or another one of its module.
    #[error("function `{function}` of module `{module}`: {problem}")]
    BadPrototype {
        /// The module.
        module: String,
        /// The function.
        function: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}
