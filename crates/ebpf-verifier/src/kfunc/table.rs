//! Which module each index in a program's calls stands for.

use alloc::sync::Arc;
use alloc::vec::Vec;

use ebpf_isa::uapi::ProgramType;
use ebpf_isa::{CallTarget, Insn};

use super::error::ModuleError;
use super::kernel::kernel_module;
use super::module::{Module, Modules};
use super::proto::{KfuncProto, ObjectType};
use crate::digest::DigestWriter;
use crate::kernel_types::KernelTypes;

/// The modules that a program names: the base by index 0, others by their indices.
///
/// The table holds its modules. Whoever changes the table of a program, and may fail, changes a copy:
/// dropping it gives back what it held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModuleTable {
    base: Option<Arc<Module>>,
    /// In the order of their indices.
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    index: i16,
    module: Arc<Module>,
}

impl ModuleTable {
    /// Most modules besides the base.
    pub const MAX_MODULES: usize = 256;

    /// A table without modules.
    #[must_use]
    pub const fn new() -> Self {
        Self { base: None, entries: Vec::new() }
    }

    /// A table with the functions of the kernel, that are known here and that programs of this type may
    /// call, as its base.
    #[must_use]
    pub fn of_kernel(types: &KernelTypes, program_type: ProgramType) -> Self {
        Self { base: Some(Arc::new(kernel_module(types, program_type))), entries: Vec::new() }
    }

    /// Gives a module the index that the program has for it: 0 for the base, and only for it. It may
    /// be there already.
    ///
    /// # Errors
    /// The index is negative, or 0 for another module than the base, or the index of another module; or
    /// there are too many.
    pub fn insert(&mut self, index: i16, module: &Arc<Module>) -> Result<(), ModuleError> {
        let bad = |reason| ModuleError::BadIndex { module: module.name().into(), index, reason };
        if (index == 0) != module.is_base() {
            return Err(bad("0 is for the base, and for nothing else"));
        }
        if index < 0 {
            return Err(bad("an index is not negative"));
        }
        match self.get(index) {
            Ok(present) if Arc::ptr_eq(present, module) => return Ok(()),
            Ok(_) => return Err(bad("another module has it")),
            Err(_) => {}
        }
        if index == 0 {
            self.base = Some(Arc::clone(module));
            return Ok(());
        }
        if self.entries.len() == Self::MAX_MODULES {
            let module = module.name().into();
            return Err(ModuleError::TooManyModules { module, max: Self::MAX_MODULES });
        }
        let at = self.entries.partition_point(|entry| entry.index < index);
        self.entries.insert(at, Entry { index, module: Arc::clone(module) });
        Ok(())
    }

    /// The index of a module; a module that has none gets the lowest one that is free.
    ///
    /// # Errors
    /// There is another base, or there are too many.
    pub fn add(&mut self, module: &Arc<Module>) -> Result<i16, ModuleError> {
        if module.is_base() {
            self.insert(0, module)?;
            return Ok(0);
        }
        let mut free = 1;
        for entry in &self.entries {
            if Arc::ptr_eq(&entry.module, module) {
                return Ok(entry.index);
            }
            if entry.index == free {
                free += 1;
            }
        }
        self.insert(free, module)?;
        Ok(free)
    }

    /// The module with this index.
    ///
    /// # Errors
    /// There is none.
    pub fn get(&self, index: i16) -> Result<&Arc<Module>, ModuleError> {
        let module = match index {
            0 => self.base.as_ref(),
            _ => {
                let found = self.entries.binary_search_by_key(&index, |entry| entry.index);
                found.ok().map(|at| &self.entries[at].module)
            }
        };
        module.ok_or(ModuleError::NoIndex { index })
    }

    /// The function that a call with this index and BTF id calls.
    ///
    /// # Errors
    /// There is no such module, or it has no such function.
    pub fn function(&self, index: i16, btf_id: u32) -> Result<&KfuncProto, ModuleError> {
        self.get(index)?.function(btf_id)
    }

    /// As [`Self::function`], for a call in a prologue or an epilogue, which nobody verifies.
    ///
    /// # Errors
    /// As there, or the function is one whose calls the verifier has to see.
    pub fn hook_function(&self, index: i16, btf_id: u32) -> Result<&KfuncProto, ModuleError> {
        let module = self.get(index)?;
        let function = module.function(btf_id)?;
        check_in_hook(module, function)?;
        Ok(function)
    }

    /// The instruction that calls a function of the host, whose module gets an index if it has none.
    ///
    /// # Errors
    /// There is no such module or function, or no room for the module. The table is as it was.
    pub fn call(
        &mut self,
        modules: &Modules,
        module: &str,
        function: &str,
    ) -> Result<Insn, ModuleError> {
        let module = modules.get(module)?;
        let btf_id = module.function_named(function)?.btf_id;
        let index = self.add(module)?;
        Ok(Insn::Call(CallTarget::Kfunc { btf_id, module: index }))
    }

    /// As [`Self::call`], for a prologue or an epilogue, which nobody verifies.
    ///
    /// # Errors
    /// As there, or the function is one whose calls the verifier has to see.
    pub fn hook_call(
        &mut self,
        modules: &Modules,
        module: &str,
        function: &str,
    ) -> Result<Insn, ModuleError> {
        let from = modules.get(module)?;
        check_in_hook(from, from.function_named(function)?)?;
        self.call(modules, module, function)
    }

    /// The types of objects that the functions take and return, each once.
    pub(crate) fn object_types(&self) -> Vec<ObjectType> {
        let mut types = Vec::new();
        for function in self.iter().flat_map(|(_, module)| module.functions()) {
            for ty in function.object_types() {
                if !types.contains(ty) {
                    types.push(ty.clone());
                }
            }
        }
        types
    }

    /// Takes in all that calls of the functions are checked by.
    pub(crate) fn digest(&self, digest: &mut DigestWriter) {
        let types = self.object_types();
        digest.u64(self.iter().count() as u64);
        for (index, module) in self.iter() {
            digest.u32(u32::from(index.cast_unsigned()));
            digest.str(module.name());
            digest.u64(module.functions().len() as u64);
            module.functions().iter().for_each(|function| function.digest(&types, digest));
        }
    }

    /// The modules and their indices, in the order of these.
    pub fn iter(&self) -> impl Iterator<Item = (i16, &Arc<Module>)> {
        let base = self.base.iter().map(|base| (0, base));
        base.chain(self.entries.iter().map(|entry| (entry.index, &entry.module)))
    }
}

fn check_in_hook(module: &Module, function: &KfuncProto) -> Result<(), ModuleError> {
    if module.is_special(function) {
        return Err(ModuleError::SpecialInHook { function: function.name.clone().into_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
