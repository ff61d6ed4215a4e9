//! From a program to something that runs.

use std::sync::Arc;

use ebpf_btf::Btf;
use ebpf_image::Symbol;
use ebpf_interp::{Helpers, Kfuncs, LinkError, Links, Natives, Runs, Vm};
use ebpf_isa::abi::HelperFn;
use ebpf_isa::uapi::HelperId;
use ebpf_isa::{CallTarget, Insn, MapIdx, Pc, Program};
use ebpf_jit_x86::JitError;
use ebpf_pack::{Pack, PackError, PackOptions};
use ebpf_verifier::{
    Environment, KernelProfile, MapInfo, ModuleError, ModuleTable, Modules, Options, Rejection,
    RewriteError, Rewritten, Target, verify,
};

use crate::compiler::Compiler;
use crate::helpers;
use crate::kfuncs::NativeModules;
use crate::kind::ProgramKind;
use crate::loaded::{Code, Engine, Loaded};
use crate::maps::Map;
use crate::perf_map;

/// What a program is verified against and bound to.
#[derive(Debug, Clone)]
pub struct Bindings {
    /// The program's type.
    pub kind: ProgramKind,
    /// The maps, by the place at which the program names them.
    pub maps: Vec<Arc<Map>>,
    /// The program's own types, where its subprograms have any.
    pub btf: Option<Arc<Btf>>,
    /// The modules whose functions the program calls, by the indices that it has for them. They are of
    /// the runtime ([`Runtime::with_modules`]).
    pub modules: ModuleTable,
    /// Whether the program's licence lets it use helpers that are for GPL-compatible programs.
    pub gpl_compatible: bool,
    /// Which kernel's rules it is verified by.
    pub profile: KernelProfile,
}

impl Bindings {
    /// A program of this type without maps and types, whose licence is not compatible with the GPL, by
    /// the rules of the default profile.
    #[must_use]
    pub fn new(kind: ProgramKind) -> Self {
        let profile = KernelProfile::default();
        let (maps, modules) = (Vec::new(), ModuleTable::new());
        Self { kind, maps, btf: None, modules, gpl_compatible: false, profile }
    }

    /// The environment that the verifier judges by: these very maps and this kind.
    #[must_use]
    pub fn environment(&self) -> Environment {
        Environment {
            program_type: Arc::clone(&self.kind.rules),
            attach_type: self.kind.attach_type,
            kernel_types: None,
            attach_target: None,
            maps: self.map_infos(),
            btf: self.btf.clone(),
            modules: self.modules.clone(),
            license_gpl: self.gpl_compatible,
            sleepable: false,
            strict_alignment: false,
            // Runs say themselves which processor they are on (`ExecEnv::cpu_slot`), and may say any.
            profile: KernelProfile { processors: None, ..self.profile.clone() },
        }
    }

    /// The maps, and behind them what maps of maps hold.
    fn map_infos(&self) -> Vec<MapInfo> {
        let info = |map: &Arc<Map>| MapInfo {
            frozen: map.constant_value(),
            ..MapInfo::new(map.name(), *map.desc())
        };
        let mut infos: Vec<MapInfo> = self.maps.iter().map(info).collect();
        for (at, map) in self.maps.iter().enumerate() {
            if let Some(&inner) = map.inner_desc() {
                infos[at].inner = Some(MapIdx(infos.len() as u32));
                infos.push(MapInfo::new(format!("{}.inner", map.name()), inner));
            }
        }
        infos
    }

    /// What rewritten code calls by number: the functions of the kind's hooks, and behind them the one by which
    /// programs walk over maps.
    fn natives(&self) -> impl Iterator<Item = HelperFn> {
        let of_hooks = self.kind.natives.iter().copied();
        of_hooks.chain([helpers::next_element as HelperFn])
    }

    fn helper(&self, id: HelperId) -> Option<HelperFn> {
        let known = |table: &[(HelperId, HelperFn)]| {
            table.iter().find(|&&(other, _)| other == id).map(|&(_, function)| function)
        };
        known(&self.kind.helpers).or_else(|| known(helpers::COMMON))
    }
}

/// Why a program cannot be loaded.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The verifier said no.
    #[error(transparent)]
    Rejected(#[from] Box<Rejection>),
    /// An accepted program could not be made runnable.
    #[error("rewriting: {0}")]
    Rewrite(#[from] RewriteError),
    /// The kernel has this helper, this runtime does not.
    #[error("insn {pc}: this runtime does not provide helper {id}")]
    NoHelper {
        /// The call.
        pc: Pc,
        /// The helper.
        id: HelperId,
    },
    /// A call names a module or function that the program's table does not have.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// The program names a module that is not of this runtime.
    #[error("insn {pc}: this runtime does not have module `{module}`; register it there")]
    NoModule {
        /// The call.
        pc: Pc,
        /// The module.
        module: String,
    },
    /// The interpreter cannot run the program.
    #[error("interpreter: {0}")]
    Interp(#[from] LinkError),
    /// The compiler cannot compile the program.
    #[error("compiler: {0}")]
    Jit(#[from] JitError),
    /// The symbol file for GDB cannot be made.
    #[cfg(feature = "gdb")]
    #[error("symbols for gdb: {reason}")]
    Gdb {
        /// What is wrong.
        reason: String,
    },
    /// The file of names for `perf` cannot be written.
    #[error("perf map: {reason}; load without one, or see to /tmp")]
    PerfMap {
        /// What the system said.
        reason: String,
    },
    /// No executable memory, or a symbol without address.
    #[error("executable memory: {0}")]
    Pack(#[from] PackError),
}

/// Loads programs. Compiled ones share the executable memory of one pack.
#[derive(Debug, Clone)]
pub struct Runtime {
    pack: Pack,
    compiler: Compiler,
    interp: ebpf_interp::Options,
    modules: NativeModules,
    inlines_lookups: bool,
}

impl Runtime {
    /// A runtime with a pack of its own.
    ///
    /// # Errors
    /// The system refuses executable memory.
    pub fn new() -> Result<Self, PackError> {
        Ok(Self {
            pack: Pack::new(PackOptions::default())?,
            compiler: Compiler::default(),
            interp: ebpf_interp::Options::default(),
            modules: NativeModules::new(),
            inlines_lookups: true,
        })
    }

    /// With programs made ready for the interpreter like this from now on, but for unchecked runs
    /// in any case. Without fuel, nobody can
    /// stop a program, though each one ends.
    #[must_use]
    pub fn with_interp(mut self, options: ebpf_interp::Options) -> Self {
        self.interp = options;
        self
    }

    /// With programs compiled like this from now on.
    #[must_use]
    pub fn with_compiler(mut self, compiler: Compiler) -> Self {
        self.compiler = compiler;
        self
    }

    /// With these modules, whose functions programs may call from now on.
    #[must_use]
    pub fn with_modules(mut self, modules: NativeModules) -> Self {
        self.modules = modules;
        self
    }

    /// The prototypes of the modules' functions.
    #[must_use]
    pub fn modules(&self) -> &Modules {
        self.modules.modules()
    }

    /// With lookups in arrays compiled as calls of the helper from now on, where they would otherwise be
    /// arithmetic.
    #[must_use]
    pub fn without_inlined_lookups(mut self) -> Self {
        self.inlines_lookups = false;
        self
    }

    /// The pack that compiled programs are placed in.
    #[must_use]
    pub fn pack(&self) -> &Pack {
        &self.pack
    }

    /// Verifies `program` for `bindings`, rewrites it, and makes it ready to run on `engine`.
    ///
    /// # Errors
    /// The program is rejected, or needs what this runtime does not have.
    pub fn load(
        &self,
        program: &Program,
        bindings: Bindings,
        options: &Options,
        engine: Engine,
    ) -> Result<Loaded, LoadError> {
        let environment = bindings.environment();
        let verified = verify(program, &environment, options)?;
        assert_eq!(
            verified.digest(),
            environment.digest(),
            "a program is bound to the environment it was verified for"
        );
        let target = self.target(&bindings);
        let rewritten = verified.rewrite_for(&*bindings.kind.hooks, &target)?;
        self.check_natives(&rewritten, &bindings)?;
        let code = self.code(&rewritten, &bindings, engine)?;
        Ok(Loaded::new(bindings, verified, rewritten, code))
    }

    /// What `engine` runs of a program that was verified for `bindings`.
    fn code(
        &self,
        rewritten: &Rewritten,
        bindings: &Bindings,
        engine: Engine,
    ) -> Result<Code, LoadError> {
        Ok(match engine {
            Engine::Interp => Code::Interp(Box::new(self.link(rewritten, bindings)?)),
            Engine::Jit => {
                let options = self.compiler.options();
                let image =
                    ebpf_jit_x86::compile(&rewritten.program, Some(&rewritten.facts), &options)?;
                let placed =
                    self.pack.place(&image, &|symbol| self.resolve(symbol, rewritten, bindings))?;
                if self.compiler.perf_map {
                    perf_map::append(&placed, &image)
                        .map_err(|error| LoadError::PerfMap { reason: error.to_string() })?;
                }
                Code::Jit {
                    #[cfg(feature = "gdb")]
                    _registration: self.register(&placed, &image)?,
                    image: Box::new(image),
                    placed,
                }
            }
        })
    }

    /// What rewriting is told of the host. Our engines need nothing.
    fn target(&self, bindings: &Bindings) -> Target {
        let helpers = helpers::COMMON.iter().chain(bindings.kind.helpers.iter());
        let layout = |map: &Arc<Map>| map.array_layout().filter(|_| self.inlines_lookups);
        let mut target = Target::default();
        target.helpers = Some(helpers.map(|&(id, _)| id).collect());
        target.natives = bindings.kind.natives.len() as u32;
        target.next_element = Some(target.natives);
        target.modules = self.modules.modules().clone();
        target.arrays = bindings.maps.iter().map(layout).collect();
        target
    }

    /// Every function that is called has a native one.
    fn check_natives(&self, rewritten: &Rewritten, bindings: &Bindings) -> Result<(), LoadError> {
        for (pc, insn) in rewritten.program.insns() {
            match insn {
                Insn::Call(CallTarget::Helper(id)) if bindings.helper(id).is_none() => {
                    return Err(LoadError::NoHelper { pc, id });
                }
                Insn::Call(CallTarget::Kfunc { btf_id, module })
                    if self.modules.native(&rewritten.modules, module, btf_id).is_none() =>
                {
                    let module = rewritten.modules.get(module)?.name().to_owned();
                    return Err(LoadError::NoModule { pc, module });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The interpreter's form of the rewritten program.
    fn link(&self, rewritten: &Rewritten, bindings: &Bindings) -> Result<Vm, LinkError> {
        let (mut helpers, mut kfuncs) = (Helpers::new(), Kfuncs::new());
        let mut natives = Natives::new();
        #[allow(unsafe_code, reason = "native functions that their program type vouches for")]
        // SAFETY: the program was verified. The functions behind helpers keep the prototypes that
        // the verifier checks calls against; the others are called by the code of hooks, for which
        // they are.
        unsafe {
            for &(id, function) in helpers::COMMON.iter().chain(bindings.kind.helpers.iter()) {
                helpers.register(id, function);
            }
            for (number, function) in (0..).zip(bindings.natives()) {
                natives.register(number, function);
            }
        }
        for (_, insn) in rewritten.program.insns() {
            if let Insn::Call(CallTarget::Kfunc { btf_id, module }) = insn
                && let Some(function) = self.modules.native(&rewritten.modules, module, btf_id)
            {
                // SAFETY: the program was verified against the module of this very function, which
                // keeps its prototype, as whoever made the module promised.
                #[allow(unsafe_code, reason = "the native functions of the host")]
                unsafe {
                    kfuncs.register((module, btf_id), function);
                }
            }
        }
        let links = Links {
            helpers,
            kfuncs,
            natives,
            maps: bindings.maps.iter().map(|map| map.handle()).collect(),
            map_values: bindings.maps.iter().map(|map| map.first_value_address()).collect(),
            ..Links::default()
        };
        let mut options = self.interp;
        options.runs = Runs::Unchecked;
        Vm::with_options(&rewritten.program, Some(&rewritten.facts), &links, &options)
    }

    /// The address of a symbol of the compiled program.
    fn resolve(&self, symbol: Symbol, rewritten: &Rewritten, bindings: &Bindings) -> Option<u64> {
        let map = |index: u32| bindings.maps.get(index as usize);
        let address = |function: HelperFn| function as usize as u64;
        match symbol {
            Symbol::Helper(id) => bindings.helper(HelperId(id)).map(address),
            Symbol::Kfunc { btf_id, module } => {
                let module = i16::try_from(module).ok()?;
                self.modules.native(&rewritten.modules, module, btf_id).map(address)
            }
            Symbol::Map(index) => map(index).map(|map| map.handle()),
            Symbol::MapValue { map: index, offset } => {
                map(index)?.first_value_address()?.checked_add(u64::from(offset))
            }
            Symbol::Native(number) => bindings.natives().nth(number as usize).map(address),
        }
    }
}

#[cfg(feature = "gdb")]
impl Runtime {
    /// Tells GDB of a program, if the options ask for it.
    fn register(
        &self,
        placed: &ebpf_pack::Placed,
        image: &ebpf_image::Image,
    ) -> Result<Option<crate::gdb::Registration>, LoadError> {
        let registration = || crate::gdb::Registration::new(placed, image);
        let registration = self.compiler.gdb.then(registration).transpose();
        registration.map_err(|error| LoadError::Gdb { reason: error.to_string() })
    }
}

#[cfg(test)]
mod tests;
