//! Modules and where a host keeps them.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::error::ModuleError;
use super::proto::KfuncProto;
use super::special::is_special;

/// Kernel functions that come and go together. The module by the name of [`Module::BASE`] is the
/// base: what the kernel itself has.
#[derive(Debug, PartialEq, Eq)]
pub struct Module {
    name: String,
    /// In the order of their ids.
    functions: Vec<KfuncProto>,
    /// Whether it has others, which are not known here.
    has_others: bool,
}

impl Module {
    /// What the base is called.
    pub const BASE: &'static str = "vmlinux";

    /// A module with these functions.
    ///
    /// # Errors
    /// A prototype contradicts itself, or two have the same name or id.
    pub fn new(
        name: impl Into<String>,
        functions: impl IntoIterator<Item = KfuncProto>,
    ) -> Result<Self, ModuleError> {
        let name = name.into();
        let mut functions: Vec<KfuncProto> = functions.into_iter().collect();
        functions.sort_by_key(|function| function.btf_id);
        for (index, function) in functions.iter().enumerate() {
            let before = &functions[..index];
            let problem = if before.iter().any(|other| other.btf_id == function.btf_id) {
                Some("another function has its BTF id")
            } else if before.iter().any(|other| other.name == function.name) {
                Some("another function has its name")
            } else {
                function.problem()
            };
            if let Some(problem) = problem {
                let function = function.name.clone().into_owned();
                return Err(ModuleError::BadPrototype { module: name, function, problem });
            }
        }
        Ok(Self { name, functions, has_others: false })
    }

    /// The kernel's base, which has other functions, too.
    pub(super) fn of_kernel(mut functions: Vec<KfuncProto>) -> Self {
        functions.sort_by_key(|function| function.btf_id);
        Self { name: Self::BASE.into(), functions, has_others: true }
    }

    /// Whether it has functions that are not known here.
    pub(crate) fn has_others(&self) -> bool {
        self.has_others
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is the base.
    #[must_use]
    pub fn is_base(&self) -> bool {
        self.name == Self::BASE
    }

    /// Its functions, in the order of their ids.
    #[must_use]
    pub fn functions(&self) -> &[KfuncProto] {
        &self.functions
    }

    /// The function with this id.
    ///
    /// # Errors
    /// There is none.
    pub fn function(&self, btf_id: u32) -> Result<&KfuncProto, ModuleError> {
        let found = self.functions.binary_search_by_key(&btf_id, |function| function.btf_id);
        let missing = |_| ModuleError::NoBtfId { module: self.name.clone(), btf_id };
        found.map(|index| &self.functions[index]).map_err(missing)
    }

    /// The function by this name.
    ///
    /// # Errors
    /// There is none.
    pub fn function_named(&self, name: &str) -> Result<&KfuncProto, ModuleError> {
        let missing =
            || ModuleError::NoFunction { module: self.name.clone(), function: name.into() };
        self.functions.iter().find(|function| function.name == name).ok_or_else(missing)
    }

    /// Whether the kernel's verifier knows a function of this module by its name, and does more
    /// about its calls than the prototype says.
    pub(crate) fn is_special(&self, function: &KfuncProto) -> bool {
        self.is_base() && is_special(&function.name)
    }
}

/// The modules of a host, by name.
#[derive(Debug, Clone, Default)]
pub struct Modules {
    modules: Vec<Arc<Module>>,
}

impl Modules {
    /// No modules.
    #[must_use]
    pub const fn new() -> Self {
        Self { modules: Vec::new() }
    }

    /// Adds a module.
    ///
    /// # Errors
    /// One by this name is there.
    pub fn register(&mut self, module: Arc<Module>) -> Result<(), ModuleError> {
        if self.get(module.name()).is_ok() {
            return Err(ModuleError::ModuleExists { module: module.name().into() });
        }
        self.modules.push(module);
        Ok(())
    }

    /// The module by this name.
    ///
    /// # Errors
    /// There is none.
    pub fn get(&self, name: &str) -> Result<&Arc<Module>, ModuleError> {
        let missing = || ModuleError::NoModule { module: name.into() };
        self.iter().find(|module| module.name() == name).ok_or_else(missing)
    }

    /// The first function by this name, in the order of the modules.
    #[must_use]
    pub fn find(&self, function: &str) -> Option<(&Arc<Module>, &KfuncProto)> {
        self.iter().find_map(|module| Some((module, module.function_named(function).ok()?)))
    }

    /// All of them, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Module>> {
        self.modules.iter()
    }
}
