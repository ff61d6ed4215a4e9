//! Kernel functions of a host: native functions, by modules, that programs call by BTF ids.
//!
//! A module says by its prototypes what programs may pass, which the verifier checks, and has the
//! native functions behind them. A runtime has the modules of its host; a loaded program holds
//! those that it names ([`ModuleTable`]), and no others.
//!
//! What a function gets:
//! - numbers as they are, of 64 bits;
//! - the context as the host's hooks lay it out, not as programs see it;
//! - the address of memory that it may read and write, of the size that the prototype says, and null
//!   only where the prototype allows it (then a size that follows says nothing). Other programs
//!   may write memory in the values of maps at the same time;
//! - objects as addresses that functions of the host returned before, as far as their prototypes
//!   go. A program has each object that it acquired exactly until it releases it, which it does once, on
//!   every way that it can take. A run that a trap ends releases nothing.
//!
//! Programs do not look into objects; they only hand them over. A function that returns an object
//! without acquiring it promises that the object exists until the run ends.

#![allow(unsafe_code, reason = "native functions are called by verified programs")]

use std::fmt;
use std::sync::Arc;

use ebpf_isa::abi::HelperFn;
use ebpf_verifier::{KfuncProto, Module, ModuleError, ModuleTable, Modules};

/// A module with its native functions.
#[derive(Clone)]
pub struct NativeModule {
    module: Arc<Module>,
    /// By BTF id, in order.
    natives: Vec<(u32, HelperFn)>,
}

impl NativeModule {
    /// A module of these functions, by their prototypes.
    ///
    /// # Errors
    /// A prototype contradicts itself, or two have the same name or id.
    ///
    /// # Safety
    /// Each function is sound for whatever its prototype lets a verified program pass (see [the
    /// module](self)), on any thread, returns what its prototype says, does not unwind, and does not
    /// move packets. It can be called for as long as somebody holds [`Self::module`].
    pub unsafe fn new(
        name: impl Into<String>,
        functions: impl IntoIterator<Item = (KfuncProto, HelperFn)>,
    ) -> Result<Self, ModuleError> {
        let (protos, mut natives): (Vec<_>, Vec<_>) = functions
            .into_iter()
            .map(|(proto, function)| {
                let btf_id = proto.btf_id;
                (proto, (btf_id, function))
            })
            .unzip();
        natives.sort_by_key(|&(btf_id, _)| btf_id);
        Ok(Self { module: Arc::new(Module::new(name, protos)?), natives })
    }

    /// The module as programs and the verifier see it, which loaded programs hold.
    #[must_use]
    pub fn module(&self) -> &Arc<Module> {
        &self.module
    }

    fn native(&self, btf_id: u32) -> Option<HelperFn> {
        let found = self.natives.binary_search_by_key(&btf_id, |&(other, _)| other).ok()?;
        Some(self.natives[found].1)
    }
}

impl fmt::Debug for NativeModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NativeModule").field(&self.module).finish()
    }
}

/// The modules of a host, with their native functions.
#[derive(Debug, Clone, Default)]
pub struct NativeModules {
    modules: Modules,
    natives: Vec<NativeModule>,
}

impl NativeModules {
    /// No modules.
    #[must_use]
    pub const fn new() -> Self {
        Self { modules: Modules::new(), natives: Vec::new() }
    }

    /// Adds a module.
    ///
    /// # Errors
    /// One by its name is there.
    pub fn register(&mut self, module: NativeModule) -> Result<(), ModuleError> {
        self.modules.register(Arc::clone(&module.module))?;
        self.natives.push(module);
        Ok(())
    }

    /// Their prototypes, by which calls are made ([`ModuleTable::call`]).
    #[must_use]
    pub fn modules(&self) -> &Modules {
        &self.modules
    }

    /// The native function that a call of a program with this table calls.
    pub(crate) fn native(&self, table: &ModuleTable, index: i16, btf_id: u32) -> Option<HelperFn> {
        let module = table.get(index).ok()?;
        let is_same = |native: &&NativeModule| Arc::ptr_eq(&native.module, module);
        self.natives.iter().find(is_same)?.native(btf_id)
    }
}
