//! Kernel functions: functions of the host, by modules, that programs call by a BTF id.
//!
//! A [`Module`] is a list of prototypes, the [`Modules`] of a host are found by name, and the
//! [`ModuleTable`] of a program says which module each index in its calls stands for. A table holds
//! the modules it names: they live as long as it does.

mod error;
mod kernel;
mod module;
mod proto;
mod special;
mod table;

pub use error::ModuleError;
pub use kernel::{kernel_function, kernel_module};
pub use module::{Module, Modules};
pub use proto::{
    IterType, IterUse, KfuncArg, KfuncArgKind, KfuncFlags, KfuncProto, KfuncRet, NewDynptr,
    ObjectType,
};
pub use table::ModuleTable;
