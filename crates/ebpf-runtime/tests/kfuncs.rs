//! Kernel functions of a host, called by programs on both engines: what they get and give, and who
//! holds their modules for how long.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(unsafe_code, reason = "native functions take addresses from verified programs")]

use std::cell::Cell;
use std::sync::Arc;

use ebpf_runtime::isa::abi::{ExecEnv, HelperFn, TrapKind};
use ebpf_runtime::isa::text::assemble;
use ebpf_runtime::kfuncs::{NativeModule, NativeModules};
use ebpf_runtime::object::{Object, ObjectError, RelocationProblem};
use ebpf_runtime::verifier::{
    ErrorCode, KernelProfile, KfuncArg, KfuncProto, KfuncRet, Module, ModuleError, ModuleTable,
    ObjectType, Options,
};
use ebpf_runtime::xdp::{self, Ingress, XdpProgram};
use ebpf_runtime::{Bindings, Engine, LoadError, Runtime, open};
use ebpf_testkit::fixtures_dir;

const ENGINES: [Engine; 2] = [Engine::Interp, Engine::Jit];

/// What the functions of these tests work on: the `user` of the environment.
#[derive(Default)]
struct Host {
    /// The object there is, by its number.
    session: Cell<u64>,
    acquired: Cell<u32>,
    released: Cell<u32>,
}

/// # Safety
/// `env` is that of a run whose `user` is a [`Host`].
unsafe fn host<'a>(env: *mut ExecEnv) -> &'a Host {
    // SAFETY: the caller's promise.
    unsafe { &*(*env).user.cast::<Host>() }
}

fn count(counter: &Cell<u32>) {
    counter.set(counter.get() + 1);
}

ebpf_runtime::native! {
    /// The session with the number of the first argument, or null.
    fn session_get(number: u64, env: *mut ExecEnv) -> u64 {
        // SAFETY: runs in these tests have a host.
        let host = unsafe { host(env) };
        if host.session.get() != number {
            return 0;
        }
        count(&host.acquired);
        (&raw const host.session).expose_provenance() as u64
    }

    fn session_put(session: u64, env: *mut ExecEnv) -> u64 {
        // SAFETY: runs in these tests have a host.
        let host = unsafe { host(env) };
        assert_eq!(session, (&raw const host.session).addr() as u64);
        count(&host.released);
        0xdead
    }

    /// Adds to a session's number.
    fn session_add(session: u64, by: u64) -> u64 {
        let number = std::ptr::with_exposed_provenance::<Cell<u64>>(session as usize);
        // SAFETY: programs pass what `session_get` gave them.
        let number = unsafe { &*number };
        number.set(number.get() + by);
        number.get()
    }

    /// The sum of the bytes of a buffer, all of which it then sets to 1.
    fn sum(ctx: u64, buffer: u64, size: u64, start: u64) -> u64 {
        assert_ne!(ctx, 0);
        if buffer == 0 {
            return start;
        }
        let first = std::ptr::with_exposed_provenance_mut::<u8>(buffer as usize);
        // SAFETY: the verifier checked the buffer and its size; it is the program's own.
        let bytes = unsafe { std::slice::from_raw_parts_mut(first, size as usize) };
        let sum = bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>() + start;
        bytes.fill(1);
        sum
    }

    fn weigh(a: u64, b: u64, c: u64, d: u64, e: u64) -> u64 {
        a + 10 * b + 100 * c + 1000 * d + 10_000 * e
    }
}

fn session_module() -> NativeModule {
    let session = ObjectType::new("session");
    let object = || KfuncArg::object(&session);
    let get = KfuncProto::new(1, "session_get").args([KfuncArg::SCALAR]).acquires(&session);
    let put = KfuncProto::new(2, "session_put").args([object()]).releases();
    let add = KfuncProto::new(3, "session_add").args([object(), KfuncArg::SCALAR]).trusted_args();
    let functions: [(_, HelperFn); 3] = [
        (put.returns(KfuncRet::Void), session_put),
        (get.or_null(), session_get),
        (add, session_add),
    ];
    // SAFETY: the functions take what their prototypes say.
    unsafe { NativeModule::new("session", functions) }.unwrap()
}

fn memory_module() -> NativeModule {
    let numbers = [KfuncArg::SCALAR; 5];
    let buffer = [KfuncArg::CONTEXT, KfuncArg::BUFFER.or_null(), KfuncArg::SIZE, KfuncArg::SCALAR];
    let functions: [(_, HelperFn); 2] = [
        (KfuncProto::new(7, "weigh").args(numbers), weigh),
        (KfuncProto::new(8, "sum").args(buffer), sum),
    ];
    // SAFETY: the functions take what their prototypes say.
    unsafe { NativeModule::new("memory", functions) }.unwrap()
}

/// A runtime with both modules, and the table of programs that call `session` by index 1 and
/// `memory` by index 4.
struct World {
    runtime: Runtime,
    session: Arc<Module>,
    table: ModuleTable,
}

impl World {
    fn new() -> Self {
        let (session, memory) = (session_module(), memory_module());
        let mut table = ModuleTable::new();
        table.insert(1, session.module()).unwrap();
        table.insert(4, memory.module()).unwrap();
        let handle = Arc::clone(session.module());
        let mut modules = NativeModules::new();
        modules.register(session).unwrap();
        modules.register(memory).unwrap();
        Self { runtime: Runtime::new().unwrap().with_modules(modules), session: handle, table }
    }

    fn load(&self, asm: &str, engine: Engine) -> Result<XdpProgram, LoadError> {
        let modules = self.table.clone();
        let bindings = Bindings { modules, ..Bindings::new(xdp::kind()) };
        let program = assemble(asm).unwrap();
        let loaded = self.runtime.load(&program, bindings, &Options::default(), engine)?;
        Ok(XdpProgram::new(loaded).unwrap())
    }

    fn run(&self, asm: &str, engine: Engine, host: &Host) -> u32 {
        let mut env = ExecEnv::new();
        env.user = (&raw const *host).cast_mut().cast();
        let program = self.load(asm, engine).unwrap();
        program.run(&mut [], Ingress::default(), &mut env).unwrap().0
    }
}

#[test]
fn arguments_and_results_are_numbers_of_64_bits() {
    let world = World::new();
    let asm = "r1 = 1\nr2 = 2\nr3 = 3\nr4 = 4\nr5 = 5\ncall kfunc#7 module#4\nexit";
    let wide = "r1 = 0x100000000 ll\nr2 = 0\nr3 = 0\nr4 = 0\nr5 = 0\ncall kfunc#7 module#4\n\
                r0 >>= 32\nexit";
    for engine in ENGINES {
        assert_eq!(world.run(asm, engine, &Host::default()), 54_321);
        assert_eq!(world.run(wide, engine, &Host::default()), 1);
    }
}

#[test]
fn callee_saved_registers_survive() {
    let asm = "r6 = 6\nr7 = 7\nr8 = 8\nr9 = 9\nr1 = 0\nr2 = 0\nr3 = 0\nr4 = 0\nr5 = 0\n\
               call kfunc#7 module#4\nr0 = r6\nr0 += r7\nr0 += r8\nr0 += r9\nexit";
    for engine in ENGINES {
        assert_eq!(World::new().run(asm, engine, &Host::default()), 30);
    }
}

#[test]
fn buffers_are_read_and_written() {
    let world = World::new();
    let asm = "*(u64 *)(r10 -8) = 0x030201\nr2 = r10\nr2 += -8\nr3 = 4\nr4 = 100\n\
               call kfunc#8 module#4\nr6 = r0\nr0 = *(u8 *)(r10 -6)\nr1 = *(u8 *)(r10 -4)\n\
               r0 += r1\nr0 += r6\nexit";
    let null = "r2 = 0\nr3 = 4\nr4 = 100\ncall kfunc#8 module#4\nexit";
    for engine in ENGINES {
        // 100 + 1 + 2 + 3, then a byte that was set and one that was not.
        assert_eq!(world.run(asm, engine, &Host::default()), 107);
        assert_eq!(world.run(null, engine, &Host::default()), 100);
    }
}

/// Takes session 5, adds 3 to it, and gives it back.
const SESSION: &str = "r1 = 5\ncall kfunc#1 module#1\nif r0 == 0 goto out\nr6 = r0\nr1 = r0\nr2 = 3\n\
    call kfunc#3 module#1\nr7 = r0\nr1 = r6\ncall kfunc#2 module#1\nr0 = r7\nexit\n\
    out:\nr0 = 99\nexit";

#[test]
fn objects_are_released_as_often_as_they_are_acquired() {
    let world = World::new();
    for engine in ENGINES {
        let host = Host::default();
        assert_eq!(world.run(SESSION, engine, &host), 99, "there is no session 5");
        assert_eq!((host.acquired.get(), host.released.get()), (0, 0));
        host.session.set(5);
        assert_eq!(world.run(SESSION, engine, &host), 8);
        assert_eq!((host.acquired.get(), host.released.get()), (1, 1));
    }
}

#[test]
fn a_function_may_be_called_in_a_subprogram() {
    let asm = "call sub\nexit\nsub:\nr1 = 4\nr2 = 0\nr3 = 0\nr4 = 0\nr5 = 0\n\
               call kfunc#7 module#4\nexit";
    for engine in ENGINES {
        assert_eq!(World::new().run(asm, engine, &Host::default()), 4);
    }
}

#[test]
fn a_program_holds_the_modules_it_names_while_it_lives() {
    let world = World::new();
    let before = Arc::strong_count(&world.session);
    for engine in ENGINES {
        let program = world.load(SESSION, engine).unwrap();
        assert!(Arc::strong_count(&world.session) > before);
        let again = world.load(SESSION, engine).unwrap();
        drop(program);
        assert!(Arc::strong_count(&world.session) > before, "the other one holds it");
        drop(again);
        assert_eq!(Arc::strong_count(&world.session), before);
    }
}

#[test]
fn programs_outlive_the_registry() {
    for engine in ENGINES {
        let world = World::new();
        let program = world.load(SESSION, engine).unwrap();
        let World { runtime, session, table } = world;
        drop((runtime, table));
        assert!(Arc::strong_count(&session) > 1, "the program's");
        let host = Host::default();
        host.session.set(5);
        let mut env = ExecEnv::new();
        env.user = (&raw const host).cast_mut().cast();
        assert_eq!(program.run(&mut [], Ingress::default(), &mut env).unwrap().0, 8);
        drop(program);
        assert_eq!(Arc::strong_count(&session), 1);
    }
}

#[test]
fn nothing_is_held_where_loading_fails() {
    let world = World::new();
    let before = Arc::strong_count(&world.session);
    let rejected = |error: &LoadError| match error {
        LoadError::Rejected(rejection) => Some(rejection.code),
        _ => None,
    };
    for engine in ENGINES {
        let leak = "r1 = 5\ncall kfunc#1 module#1\nr0 = 0\nexit";
        let error = world.load(leak, engine).unwrap_err();
        assert_eq!(rejected(&error), Some(ErrorCode::ReferenceLeak));
        let unknown = "call kfunc#9 module#1\nr0 = 0\nexit";
        let error = world.load(unknown, engine).unwrap_err();
        assert_eq!(rejected(&error), Some(ErrorCode::KfuncUnknown));
        // Accepted, but there is no such helper here.
        let no_helper = "r1 = 5\ncall kfunc#1 module#1\nif r0 == 0 goto out\nr1 = r0\n\
                         call kfunc#2 module#1\nout:\ncall bpf_get_numa_node_id#42\nr0 = 0\nexit";
        let error = world.load(no_helper, engine).unwrap_err();
        assert!(matches!(error, LoadError::NoHelper { .. }), "{error}");
        assert_eq!(Arc::strong_count(&world.session), before);
    }
}

#[test]
fn modules_of_another_runtime_are_not_called() {
    let world = World::new();
    let before = Arc::strong_count(&world.session);
    let stranger =
        World { runtime: World::new().runtime, session: world.session, table: world.table };
    for engine in ENGINES {
        let error = stranger.load(SESSION, engine).unwrap_err();
        let expected = |pc| LoadError::NoModule { pc, module: "session".into() };
        assert!(
            matches!(error, LoadError::NoModule { pc, .. } if error == expected(pc)),
            "{error}"
        );
    }
    drop(world.runtime);
    assert_eq!(Arc::strong_count(&stranger.session), before - 2, "the runtime's two are gone");
}

fn session_object() -> Object {
    let bytes = std::fs::read(fixtures_dir().join("xdp/xdp_session.o")).unwrap();
    Object::parse(&bytes).unwrap()
}

#[test]
fn objects_name_functions_of_modules() {
    let (world, object) = (World::new(), session_object());
    let before = Arc::strong_count(&world.session);
    for engine in ENGINES {
        let (linked, modules) =
            open::program(&object, "xdp_session", None, world.runtime.modules()).unwrap();
        assert_eq!(Arc::strong_count(&world.session), before + 1, "one entry for three calls");
        let bindings = open::bindings(&object, &linked, &KernelProfile::default()).unwrap();
        let bindings = Bindings { modules, ..bindings };
        let options = Options::default();
        let loaded = world.runtime.load(&linked.program, bindings, &options, engine).unwrap();
        let program = XdpProgram::new(loaded).unwrap();
        let host = Host::default();
        host.session.set(5);
        let mut env = ExecEnv::new();
        env.user = (&raw const host).cast_mut().cast();
        assert_eq!(program.run(&mut [], Ingress::default(), &mut env).unwrap().0, 8);
        assert_eq!((host.acquired.get(), host.released.get()), (1, 1));
    }
    assert_eq!(Arc::strong_count(&world.session), before);
}

#[test]
fn objects_that_name_a_function_that_nobody_has_are_refused_by_its_name() {
    let mut modules = NativeModules::new();
    modules.register(memory_module()).unwrap();
    let object = session_object();
    let refusals = [
        object.program("xdp_session").unwrap_err(),
        open::program(&object, "xdp_session", None, modules.modules()).unwrap_err(),
    ];
    for error in refusals {
        let problem = RelocationProblem::Extern { symbol: "session_get".into() };
        let expected = ObjectError::Relocation { section: "xdp".into(), offset: 8, problem };
        assert_eq!(error, expected);
    }
}

#[test]
fn a_module_is_registered_once() {
    let mut modules = NativeModules::new();
    modules.register(session_module()).unwrap();
    let again = session_module();
    let handle = Arc::clone(again.module());
    let exists = ModuleError::ModuleExists { module: "session".into() };
    assert_eq!(modules.register(again), Err(exists));
    assert_eq!(Arc::strong_count(&handle), 1);
}

#[test]
fn a_trap_of_a_function_ends_as_one_of_a_helper() {
    ebpf_runtime::native! {
        fn fails(env: *mut ExecEnv) -> u64 {
            // SAFETY: engines pass the environment of the run.
            unsafe { (*env).trap.kind = TrapKind::Helper as u32 };
            0
        }
    }
    let fails: [(_, HelperFn); 1] = [(KfuncProto::new(1, "fails"), fails)];
    // SAFETY: the function takes nothing.
    let module = unsafe { NativeModule::new("m", fails) }.unwrap();
    let mut table = ModuleTable::new();
    table.add(module.module()).unwrap();
    let mut modules = NativeModules::new();
    modules.register(module).unwrap();
    let runtime = Runtime::new().unwrap().with_modules(modules);
    for engine in ENGINES {
        let bindings = Bindings { modules: table.clone(), ..Bindings::new(xdp::kind()) };
        let program = assemble("call kfunc#1 module#1\nr0 = 2\nexit").unwrap();
        let loaded = runtime.load(&program, bindings, &Options::default(), engine).unwrap();
        let program = XdpProgram::new(loaded).unwrap();
        let trap = program.run(&mut [], Ingress::default(), &mut ExecEnv::new()).unwrap_err();
        assert_eq!(trap.kind, TrapKind::Helper);
    }
}
