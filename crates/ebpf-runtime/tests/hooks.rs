//! Prologue and epilogue as they run, on both engines, and hooks that misbehave when programs are
//! loaded: nothing stays behind.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(unsafe_code, reason = "native functions get the environment of the run")]

use std::cell::RefCell;
use std::sync::Arc;

use ebpf_runtime::host::HostProgram;
use ebpf_runtime::isa::abi::ExecEnv;
use ebpf_runtime::isa::text::assemble;
use ebpf_runtime::isa::uapi::{MapDesc, MapType};
use ebpf_runtime::isa::{CallTarget, Insn, Operand, Reg, Size, Width};
use ebpf_runtime::kfuncs::{NativeModule, NativeModules};
use ebpf_runtime::maps::Map;
use ebpf_runtime::verifier::{
    ContextAccessInsn, Hook, HookCode, HookFault, HostField, KfuncArg, KfuncProto, ModuleError,
    ModuleTable, Options, RewriteError, RewriteHooks, program_types,
};
use ebpf_runtime::{Bindings, Engine, LoadError, ProgramKind, Runtime};

const ENGINES: [Engine; 2] = [Engine::Interp, Engine::Jit];

/// The context: an XDP program's `data`, `data_end`, `data_meta`, `ingress_ifindex` and `rx_queue_index`.
type Context = [u32; 5];

/// What native functions were called with, in order.
type Calls = RefCell<Vec<(char, u64)>>;

fn note(env: *mut ExecEnv, who: char, what: u64) -> u64 {
    // SAFETY: runs in these tests have such a list.
    let calls = unsafe { &*(*env).user.cast::<Calls>() };
    calls.borrow_mut().push((who, what));
    77
}

ebpf_runtime::native! {
    fn enters(argument: u64, env: *mut ExecEnv) -> u64 {
        note(env, '>', argument)
    }

    fn leaves(argument: u64, env: *mut ExecEnv) -> u64 {
        note(env, '<', argument)
    }

    fn checks(argument: u64, env: *mut ExecEnv) -> u64 {
        note(env, 'k', argument)
    }
}

type Write = fn(&mut HookCode<'_>);

/// Hooks that write this code.
struct Hooks {
    prologue: Write,
    epilogue: Write,
    /// Counts the loaded programs that hold the hooks.
    _held: Arc<()>,
}

impl RewriteHooks for Hooks {
    fn context_field(&self, access: &ContextAccessInsn) -> Result<HostField, RewriteError> {
        Ok(HostField::whole(access.offset, Size::W, access.offset as i16, Size::W))
    }

    fn gen_prologue(&self, _writes_packet: bool, code: &mut HookCode<'_>) {
        (self.prologue)(code);
    }

    fn gen_epilogue(&self, code: &mut HookCode<'_>) {
        (self.epilogue)(code);
    }
}

fn mov(dst: Reg, src: Operand) -> Insn {
    Insn::Mov { width: Width::W64, dst, src }
}

fn nothing(_: &mut HookCode<'_>) {}

/// Notes the index of the interface.
fn enter(code: &mut HookCode<'_>) {
    code.push(mov(Reg::R6, Operand::Reg(Reg::R1)));
    code.load_context(Reg::R1, Reg::R6, 12, Size::W);
    code.call_native(0, 1);
    code.push(mov(Reg::R1, Operand::Reg(Reg::R6)));
}

/// Notes the index of the queue, and has the kernel function see the result, which stays.
fn leave(code: &mut HookCode<'_>) {
    code.push(mov(Reg::R7, Operand::Reg(Reg::R0)));
    code.load_saved_context(Reg::R1);
    code.load_context(Reg::R1, Reg::R1, 16, Size::W);
    code.call_native(1, 1);
    code.push(mov(Reg::R1, Operand::Reg(Reg::R7)));
    code.call_kfunc("host", "check");
    code.push(mov(Reg::R0, Operand::Reg(Reg::R7)));
}

fn kind(prologue: Write, epilogue: Write, held: &Arc<()>) -> ProgramKind {
    let hooks = Hooks { prologue, epilogue, _held: Arc::clone(held) };
    // SAFETY: all fields that these programs read are numbers, where they are in the context; the
    // functions take any numbers.
    unsafe {
        ProgramKind::of_host::<Context>(program_types::xdp(), Arc::new(hooks))
            .with_natives(vec![enters, leaves])
    }
}

fn runtime() -> Runtime {
    let check = KfuncProto::new(7, "check").args([KfuncArg::SCALAR]);
    // SAFETY: it takes any number.
    let module = unsafe { NativeModule::new("host", [(check, checks as _)]) }.unwrap();
    let mut modules = NativeModules::new();
    modules.register(module).unwrap();
    Runtime::new().unwrap().with_modules(modules)
}

/// The result, and the calls of a run of `asm` with both hooks.
fn run(asm: &str, maps: &[Arc<Map>], engine: Engine) -> (u64, String) {
    let bindings =
        Bindings { maps: maps.to_vec(), ..Bindings::new(kind(enter, leave, &Arc::new(()))) };
    let program = assemble(asm).unwrap();
    let loaded = runtime().load(&program, bindings, &Options::default(), engine).unwrap();
    let program = HostProgram::<Context>::new(loaded).unwrap();
    let calls = Calls::default();
    let mut env = ExecEnv::new();
    env.user = std::ptr::from_ref(&calls).cast_mut().cast();
    let result = program.run(&mut [0, 0, 0, 3, 5], &mut env).unwrap();
    let calls = calls.into_inner().into_iter().map(|(who, what)| format!("{who}{what}"));
    (result, calls.collect::<Vec<_>>().join(" "))
}

#[test]
fn hooks_run_once_on_every_way_through() {
    let programs = [
        // The context is no longer in r1, r6 and r7 are in use.
        ("r6 = 1\nr7 = 2\nr1 = 0\nr0 = 4\nexit", 4),
        // Several exits.
        ("r2 = *(u32 *)(r1 +12)\nr0 = 1\nif r2 == 3 goto other\nexit\nother:\nr0 = 6\nexit", 6),
        ("r2 = *(u32 *)(r1 +12)\nr0 = 1\nif r2 != 3 goto other\nexit\nother:\nr0 = 6\nexit", 1),
        // A loop to the start.
        ("again:\nif r1 == 0 goto out\nr1 = 0\ngoto again\nout:\nr0 = 8\nexit", 8),
        // Exits in subprograms.
        (
            "call f\nr0 += 1\nexit\nf:\nr0 = *(u32 *)(r1 +16)\nif r0 == 5 goto out\nr0 = 1\nout:\nexit",
            6,
        ),
        // All of the stack.
        ("*(u64 *)(r10 -512) = 9\n*(u64 *)(r10 -8) = 1\nr0 = *(u64 *)(r10 -512)\nexit", 9),
    ];
    for (asm, result) in programs {
        for engine in ENGINES {
            let ran = run(asm, &[], engine);
            assert_eq!(ran, (result, format!(">3 <5 k{result}")), "{engine:?}: {asm}");
        }
    }
}

#[test]
fn lookups_in_arrays_need_no_helper() {
    let desc =
        |map_type| MapDesc { map_type, key_size: 4, value_size: 12, max_entries: 3, flags: 0 };
    let asm = "r6 = *(u32 *)(r1 +12)\nr6 += OFFSET\n*(u32 *)(r10 -4) = r6\nr2 = r10\nr2 += -4\n\
               r1 = map[0] ll\ncall bpf_map_lookup_elem#1\nif r0 == 0 goto out\nr0 = *(u32 *)(r0 +8)\n\
               out:\nexit";
    for map_type in [MapType::Array, MapType::Hash] {
        let map = Arc::new(Map::new("m", desc(map_type)).unwrap());
        for index in 0_u32..3 {
            let value = [[0; 8].as_slice(), &(index + 70).to_le_bytes()].concat();
            map.update(&index.to_le_bytes(), &value, ebpf_runtime::maps::UpdateMode::Any).unwrap();
        }
        for (offset, expected) in [(-3, 70), (-2, 71), (-1, 72), (0, 0), (i32::MAX, 0), (-4, 0)] {
            for engine in ENGINES {
                let asm = asm.replace("OFFSET", &offset.to_string());
                let (result, _) = run(&asm, std::slice::from_ref(&map), engine);
                assert_eq!(result, expected, "{map_type}, {engine:?}, {offset}");
            }
        }
    }
}

/// Loads a program whose epilogue is `epilogue`, with this table.
fn refused(runtime: &Runtime, epilogue: Write, modules: ModuleTable) -> HookFault {
    let held = Arc::new(());
    let desc =
        MapDesc { map_type: MapType::Array, key_size: 4, value_size: 4, max_entries: 1, flags: 0 };
    let map = Arc::new(Map::new("m", desc).unwrap());
    let program = assemble("r0 = 1\nexit").unwrap();
    let before = program.clone();
    let bindings = || Bindings {
        maps: vec![Arc::clone(&map)],
        modules: modules.clone(),
        ..Bindings::new(kind(nothing, epilogue, &held))
    };
    let free = runtime.pack().stats();
    for engine in ENGINES {
        let error = runtime.load(&program, bindings(), &Options::default(), engine).unwrap_err();
        assert!(matches!(
            error,
            LoadError::Rewrite(RewriteError::Hook { hook: Hook::Epilogue, .. })
        ));
        assert!(error.to_string().starts_with("rewriting: gen_epilogue: "), "{error}");
    }
    assert_eq!((Arc::strong_count(&held), Arc::strong_count(&map)), (1, 1), "something is held");
    assert_eq!(runtime.pack().stats(), free);
    assert_eq!(program, before);
    // With other hooks it loads.
    let other = Bindings::new(kind(nothing, nothing, &held));
    runtime.load(&program, other, &Options::default(), Engine::Jit).unwrap();
    let error = runtime.load(&program, bindings(), &Options::default(), Engine::Jit).unwrap_err();
    let LoadError::Rewrite(RewriteError::Hook { fault, .. }) = error else { panic!("{error}") };
    fault
}

#[test]
fn kernel_functions_must_be_registered() {
    let runtime = runtime();
    let unknown = refused(&runtime, |code| code.call_kfunc("host", "other"), ModuleTable::new());
    assert!(
        matches!(unknown, HookFault::Kfunc { slot: 0, error: ModuleError::NoFunction { .. } }),
        "{unknown}"
    );
    let unknown = refused(&runtime, |code| code.call_kfunc("other", "check"), ModuleTable::new());
    assert!(
        matches!(unknown, HookFault::Kfunc { slot: 0, error: ModuleError::NoModule { .. } }),
        "{unknown}"
    );
    let by_number = |code: &mut HookCode<'_>| {
        code.push(Insn::Call(CallTarget::Kfunc { btf_id: 7, module: 1 }));
    };
    let unknown = refused(&runtime, by_number, ModuleTable::new());
    assert!(matches!(
        unknown,
        HookFault::Kfunc { slot: 0, error: ModuleError::NoIndex { index: 1 } }
    ));
    let native = refused(&runtime, |code| code.call_native(2, 0), ModuleTable::new());
    assert_eq!(native, HookFault::NoNative { slot: 0, number: 2 });
}

#[test]
fn a_full_table_has_no_room_for_a_hook() {
    let mut modules = NativeModules::new();
    let mut table = ModuleTable::new();
    let mut held = Vec::new();
    for number in 0..=ModuleTable::MAX_MODULES {
        let proto = KfuncProto::new(1, "f").args([KfuncArg::SCALAR]);
        let name = if number == 0 { "host".into() } else { format!("m{number}") };
        // SAFETY: it takes any number.
        let module = unsafe { NativeModule::new(name, [(proto, checks as _)]) }.unwrap();
        if number > 0 {
            table.add(module.module()).unwrap();
        }
        held.push(Arc::clone(module.module()));
        modules.register(module).unwrap();
    }
    let runtime = Runtime::new().unwrap().with_modules(modules);
    let counts = || held.iter().map(Arc::strong_count).collect::<Vec<_>>();
    let before = counts();
    let epilogue: Write = |code| {
        code.push(mov(Reg::R1, Operand::Imm(0)));
        code.call_kfunc("host", "f");
    };
    let fault = refused(&runtime, epilogue, table.clone());
    let HookFault::Kfunc { slot: 1, error } = fault else { panic!("{fault}") };
    assert!(matches!(error, ModuleError::TooManyModules { max: 256, .. }));
    assert_eq!(counts(), before, "a module is still held");
}

#[test]
fn a_hooks_module_lives_as_long_as_the_program() {
    let runtime = runtime();
    let held = Arc::new(());
    let module = Arc::clone(runtime.modules().get("host").unwrap());
    let before = Arc::strong_count(&module);
    let program = assemble("r0 = 1\nexit").unwrap();
    let bindings = Bindings::new(kind(enter, leave, &held));
    let loaded = runtime.load(&program, bindings, &Options::default(), Engine::Jit).unwrap();
    assert!(Arc::strong_count(&module) > before);
    assert_eq!(loaded.rewritten().modules.iter().count(), 1);
    drop(loaded);
    assert_eq!(Arc::strong_count(&module), before);
    assert_eq!(Arc::strong_count(&held), 1);
}
