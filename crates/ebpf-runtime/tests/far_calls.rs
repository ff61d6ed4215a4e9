//! Calls out of an image, placed near what they call and more than 2 GiB away from it: native
//! functions, other programs and their subprograms, and subprograms that native functions call back.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ebpf_runtime::image::{RelocKind, Symbol};
use ebpf_runtime::isa::Pc;
use ebpf_runtime::isa::abi::{EntryFn, ExecEnv, HelperFn, Trap, TrapKind};
use ebpf_runtime::isa::text::assemble;
use ebpf_runtime::isa::uapi::HelperId;
use ebpf_runtime::jit::{self, MemoryMode, Options};
use ebpf_runtime::pack::{Pack, PackOptions, Placed, Position, Target};

/// Any address that a displacement of 32 bits does not lead to from the other.
fn is_far(one: u64, other: u64) -> bool {
    one.abs_diff(other) > u64::from(u32::MAX)
}

ebpf_runtime::native! {
    /// A helper that sees all of its arguments and the environment.
    fn sum(a: u64, b: u64, c: u64, d: u64, e: u64, env: *mut ExecEnv) -> u64 {
        // SAFETY: `env` is the environment of the run.
        let slot = unsafe { (*env).cpu_slot };
        a + 10 * b + 100 * c + 1_000 * d + 10_000 * e + 100_000 * u64::from(slot)
    }
}

/// What [`repeat`] gives where it was handed something that is no callback.
const REFUSED: u64 = 4711;

ebpf_runtime::native! {
    /// Calls the function in its first argument five times: `f(index, second, first)`.
    fn repeat(f: u64, x: u64, env: *mut ExecEnv) -> u64 {
        // SAFETY: in these tests `user` has the addresses of the program's callbacks.
        let callbacks = unsafe { &*(*env).user.cast::<Vec<u64>>() };
        if !callbacks.contains(&f) {
            return REFUSED;
        }
        // SAFETY: the address is that of a callback; the environment is that of the run.
        let callback: HelperFn = unsafe { std::mem::transmute(f as usize) };
        let mut sum = 0;
        for index in 0..5 {
            // Native code leaves anything in scratch registers.
            // SAFETY: the registers are declared as changed.
            unsafe { core::arch::asm!("mov r10, -1", "mov r11, -1", out("r10") _, out("r11") _) };
            // SAFETY: as above.
            sum += unsafe { callback(index, x, f, 0, 0, env) };
            // SAFETY: as above.
            if unsafe { (*env).ended } != 0 {
                return 77;
            }
        }
        sum
    }

    /// Ends the program.
    fn end(a: u64, env: *mut ExecEnv) -> u64 {
        // SAFETY: `env` is the environment of the run.
        unsafe { (*env).ended = 1 };
        a
    }
}

/// Gives the address that `env.user` holds.
///
/// # Safety
/// `env.user` is the address of a program's entry.
unsafe extern "sysv64" fn target(_map: u64, _index: u64, env: *mut ExecEnv) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { (*env).user.expose_provenance() as u64 }
}

const SUM: u32 = 1;
const REPEAT: u32 = 2;
const END: u32 = 3;
const MISALIGNMENT: u32 = 4;

fn resolve(symbol: Symbol) -> Option<u64> {
    let function = match symbol {
        Symbol::Helper(SUM) | Symbol::Kfunc { btf_id: 7, module: 1 } => sum as HelperFn as usize,
        Symbol::Helper(REPEAT) => repeat as HelperFn as usize,
        Symbol::Helper(END) => end as HelperFn as usize,
        Symbol::Helper(MISALIGNMENT) => misalignment as HelperFn as usize,
        jit::TAIL_CALL_TARGET => target as *const () as usize,
        _ => return None,
    };
    Some(function as u64)
}

/// One pack within reach of this binary, and one that is not.
fn packs() -> [Pack; 2] {
    let position = Position::FarFrom(sum as HelperFn as usize as u64);
    let far = Pack::new(PackOptions { position, ..PackOptions::default() }).unwrap();
    [Pack::new(PackOptions::default()).unwrap(), far]
}

fn place(text: &str, pack: &Pack, options: &Options) -> Placed {
    let program = assemble(text).unwrap();
    let image = jit::compile(&program, None, options).unwrap();
    pack.place(&image, &resolve as &dyn Fn(Symbol) -> Option<u64>).unwrap()
}

fn run(placed: &Placed, env: &mut ExecEnv) -> u64 {
    // SAFETY: this is the entry of compiled code, which `placed` keeps.
    let entry: EntryFn = unsafe { std::mem::transmute(placed.entry_ptr()) };
    // SAFETY: the programs here touch their stack only, and call the functions above as they ask.
    unsafe { entry(std::ptr::null_mut(), env) }
}

/// Calls a program whose callbacks come behind its two subprograms.
fn run_with_callbacks(placed: &Placed, env: &mut ExecEnv) -> u64 {
    let mut callbacks: Vec<u64> =
        (2..).map_while(|index| Some(placed.entry(index)?.address())).collect();
    assert_eq!(callbacks.len(), 1);
    env.user = (&raw mut callbacks).cast();
    run(placed, env)
}

/// Every combination of checked memory, fuel, linked frames, blinded constants, and a helper that ends
/// the program.
fn options() -> Vec<Options> {
    let mut all = vec![Options::default()];
    for switch in [
        |options: Options| options.with_memory(MemoryMode::Checked),
        |options: Options| options.with_fuel(true),
        |options: Options| options.with_frame_pointers(true),
        |options: Options| options.with_blinding([5, 6]),
        |options: Options| options.with_ending_helpers([HelperId(END)]),
    ] {
        let switched: Vec<_> = all.iter().cloned().map(switch).collect();
        all.extend(switched);
    }
    all
}

#[test]
fn one_pack_is_near_and_one_is_far() {
    let [near, far] = packs().map(|pack| place("r0 = 0\nexit", &pack, &Options::default()));
    let here = sum as HelperFn as usize as u64;
    assert!(!is_far(near.code_range().start, here));
    assert!(is_far(far.code_range().start, here));
}

const ARGUMENTS: &str = "r1 = 1\nr2 = 2\nr3 = 3\nr4 = 4\nr5 = 5\n";

#[test]
fn helpers_and_kernel_functions() {
    for pack in packs() {
        for options in options() {
            for call in ["call 1", "call kfunc#7 module#1"] {
                let text = format!("r6 = 7\n{ARGUMENTS}{call}\nr0 += r6\nexit");
                let mut env = ExecEnv { cpu_slot: 9, ..ExecEnv::new() };
                assert_eq!(run(&place(&text, &pack, &options), &mut env), 954_328, "{options:?}");
            }
        }
    }
}

#[test]
fn both_forms_of_a_call() {
    // call helper; exit
    let text = "call 1\nexit";
    let image = jit::compile(&assemble(text).unwrap(), None, &Options::default()).unwrap();
    let call = image.relocs()[0];
    assert_eq!(call.kind, RelocKind::Call(Symbol::Helper(SUM)));
    let [near, far] = packs().map(|pack| place(text, &pack, &Options::default()));
    for (placed, direct) in [(near, true), (far, false)] {
        let code = placed.code_range();
        let field = code.start + u64::from(call.at.0);
        // SAFETY: the field is inside of code that `placed` keeps.
        let distance =
            unsafe { std::ptr::with_exposed_provenance::<i32>(field as usize).read_unaligned() };
        let goal = (field + 4).wrapping_add_signed(distance.into());
        let function = resolve(Symbol::Helper(SUM)).unwrap();
        assert_eq!(goal == function, direct, "{goal:#x}");
        if !direct {
            // jmp [rip + distance], to where all of the address is.
            let stub = std::ptr::with_exposed_provenance::<[u8; 6]>(goal as usize);
            // SAFETY: the call leads to code of the pack.
            let [opcode, modrm, distance @ ..] = unsafe { stub.read() };
            assert_eq!([opcode, modrm], [0xff, 0x25]);
            let slot = (goal + 6).wrapping_add_signed(i32::from_le_bytes(distance).into());
            // SAFETY: the slot belongs to the code.
            let held =
                unsafe { std::ptr::with_exposed_provenance::<u64>(slot as usize).read_unaligned() };
            assert_eq!(held, function);
        }
    }
}

#[test]
fn programs_at_any_distance_from_each_other() {
    let [near, far] = packs();
    let caller = "r6 = 1\ncall sub\nr0 += r6\nexit\n\
                  sub:\nr2 = 0\nr3 = 0\ncall bpf_tail_call#12\nr0 = 111\nexit";
    let callee = "r6 = 5\n*(u64 *)(r10 -8) = 40\nr0 = *(u64 *)(r10 -8)\nr0 += r6\nexit";
    for options in options() {
        for (from, to) in [(&near, &far), (&far, &near), (&far, &far)] {
            let (caller, callee) = (place(caller, from, &options), place(callee, to, &options));
            let user = callee.entry_ptr().cast_mut().cast();
            let mut env = ExecEnv { user, ..ExecEnv::new() };
            assert_eq!(run(&caller, &mut env), 46, "{options:?}");
            assert_eq!((env.tail_calls, env.depth, env.in_place), (1, 0, 0));
        }
    }
}

/// What a program gives native code to call can be what another program calls as a function.
#[test]
fn subprograms_of_other_programs_at_any_distance() {
    let [near, far] = packs();
    let library = "r1 = func sub ll\nr0 = 0\nexit\n\
                   sub:\nr6 = r1\nr6 *= r2\nr7 = r3\nr1 = r4\nr2 = r5\ncall deeper\nr0 += r6\nr0 += r7\nexit\n\
                   deeper:\nr0 = r1\nr0 *= r2\nexit\n";
    let caller = format!("r6 = 1000\n{ARGUMENTS}call kfunc#9\nr0 += r6\nexit");
    let caller = assemble(&caller).unwrap();
    for options in options() {
        let image = jit::compile(&caller, None, &options).unwrap();
        for (from, to) in [(&near, &near), (&near, &far), (&far, &near), (&far, &far)] {
            let callback = place(library, to, &options).entry(3).unwrap();
            let kfunc = Symbol::Kfunc { btf_id: 9, module: 0 };
            let target = |symbol| (symbol == kfunc).then(|| Target::from(callback.clone()));
            let placed = from.place_linked(&image, &target).unwrap();
            let apart = placed.code_range().start.abs_diff(callback.address());
            assert_eq!(apart > 1 << 31, !std::ptr::eq(from, to));
            let mut env = ExecEnv::new();
            assert_eq!(run(&placed, &mut env), 1_000 + 2 + 3 + 20, "{options:?}");
            // Both programs count what they run.
            let charged = i64::MAX - env.fuel.into_inner();
            assert_eq!(charged, if options.fuel { 9 + 9 + 3 } else { 0 }, "{options:?}");
        }
    }
}

/// 0 where the stack is aligned as the machine's convention wants it at a call, to 16 bytes.
///
/// # Safety
/// None is asked for.
#[unsafe(naked)]
unsafe extern "sysv64" fn misalignment(
    _: u64,
    _: u64,
    _: u64,
    _: u64,
    _: u64,
    _: *mut ExecEnv,
) -> u64 {
    core::arch::naked_asm!("lea eax, [rsp + 8]", "and eax, 15", "ret")
}

/// In the main program, a subprogram and a callback, whatever registers they save and whether they
/// have a stack.
#[test]
fn the_stack_is_aligned_at_calls() {
    let pack = Pack::new(PackOptions::default()).unwrap();
    let shapes = ["", "r6 = 1\n", "r6 = 1\nr7 = 1\n", "r6 = 1\nr7 = 1\nr8 = 1\nr9 = 1\n"];
    let stacks = ["", "*(u64 *)(r10 -8) = 1\n", "*(u64 *)(r10 -16) = 1\n"];
    let bodies = shapes.iter().flat_map(|saves| stacks.map(|stack| format!("{saves}{stack}")));
    for body in bodies {
        let text = format!(
            "{body}call 4\nif r0 != 0 goto out\nr1 = func sub ll\nr2 = 0\ncall 2\n\
             if r0 != 0 goto out\ncall sub\nout:\nexit\nsub:\n{body}call 4\nexit"
        );
        for options in options() {
            let placed = place(&text, &pack, &options);
            let mut env = ExecEnv::new();
            assert_eq!(run_with_callbacks(&placed, &mut env), 0, "{options:?}:\n{text}");
        }
    }
}

/// The callback uses the registers that native code expects to keep, and a stack of its own.
const CALLS_BACK: &str = "r6 = 3\nr7 = 4\nr1 = func sub ll\nr2 = 100\ncall 2\nr0 += r6\nr0 *= r7\nexit\n\
                          sub:\nr6 = r1\nr7 = r2\nr8 = 8\nr9 = 9\n*(u64 *)(r10 -8) = r6\n";

#[test]
fn native_functions_call_back() {
    let text = format!("{CALLS_BACK}{ARGUMENTS}call 1\nr0 = *(u64 *)(r10 -8)\nr0 += r7\nexit\n");
    for pack in packs() {
        for options in options() {
            let placed = place(&text, &pack, &options);
            let mut env = ExecEnv::new();
            assert_eq!(run_with_callbacks(&placed, &mut env), (510 + 3) * 4, "{options:?}");
            let charged = i64::MAX - env.fuel.into_inner();
            // 8 of the program, and in each of five rounds 14 of the callback.
            assert_eq!(charged, if options.fuel { 8 + 5 * 14 } else { 0 });
        }
    }
}

#[test]
fn a_run_that_ends_in_a_callback_skips_no_native_frame() {
    let text = format!("{CALLS_BACK}if r6 != 2 goto go\nr1 = 5\ncall 3\ngo:\nr0 = 1\nexit\n");
    let ending = |options: &Options| !options.ending_helpers.is_empty();
    for options in options().into_iter().filter(ending) {
        for pack in packs() {
            let mut env = ExecEnv::new();
            // What `repeat` gives when it sees that the run is over.
            let value = run_with_callbacks(&place(&text, &pack, &options), &mut env);
            assert_eq!(value, 77, "{options:?}");
            assert_eq!((env.ended, env.unwind, env.depth), (1, 0, 0));
        }
    }
}

#[test]
fn fuel_that_runs_out_in_a_callback_ends_the_program() {
    let text = format!("{CALLS_BACK}again:\nr0 = 1\ngoto again\n");
    for options in options().into_iter().filter(|options| options.fuel) {
        for pack in packs() {
            let mut env = ExecEnv::new();
            *env.fuel.get_mut() = 1_000;
            run_with_callbacks(&place(&text, &pack, &options), &mut env);
            let trap = env.trap.trap().map(|trap| trap.to_string());
            assert_eq!(trap.as_deref(), Some("insn 15: out of fuel"));
            assert_eq!((env.allowance, env.allowed, env.unwind), (0, 0, 0));
            assert!(env.fuel.into_inner() < 0);
        }
    }
}

fn checked() -> impl Iterator<Item = Options> {
    options().into_iter().filter(|options| options.memory == MemoryMode::Checked)
}

/// Of the native code that calls it, an unverified callback sees its arguments.
#[test]
fn nothing_of_native_code_shows_in_a_checked_callback() {
    let text = "r1 = func sub ll\nr2 = 0\ncall 2\nexit\n\
                sub:\nr0 |= r6\nr0 |= r7\nr0 |= r8\nr0 |= r9\nr0 |= r5\n\
                r1 = *(u64 *)(r10 -8)\nr0 |= r1\n*(u64 *)(r10 -8) = -1\nexit\n";
    let pack = Pack::new(PackOptions::default()).unwrap();
    for options in checked() {
        let placed = place(text, &pack, &options);
        assert_eq!(run_with_callbacks(&placed, &mut ExecEnv::new()), 0, "{options:?}");
    }
}

/// What goes wrong in a callback ends the program, at its place.
#[test]
fn a_trap_in_a_checked_callback_ends_the_program() {
    let text = "r1 = func sub ll\nr2 = 0\ncall 2\nr0 = 1\nexit\n\
                sub:\nif r1 != 3 goto +1\n*(u64 *)(r10 +1024) = 1\nr0 = 0\nexit\n";
    let pack = Pack::new(PackOptions::default()).unwrap();
    for options in checked() {
        let mut env = ExecEnv::new();
        run_with_callbacks(&place(text, &pack, &options), &mut env);
        let Trap { kind, pc, .. } = env.trap.trap().unwrap();
        assert_eq!((kind, pc), (TrapKind::OutOfBounds, Pc(7)), "{options:?}");
        assert_eq!((env.unwind, env.depth, env.stack_low), (0, 0, 0));
    }
}

/// A callback that has itself called back, without end: each is a frame.
#[test]
fn callbacks_of_checked_programs_are_frames() {
    let text = "r1 = func sub ll\nr2 = 0\ncall 2\nexit\n\
                sub:\nr1 = r3\ncall 2\nexit\n";
    let pack = Pack::new(PackOptions::default()).unwrap();
    for options in checked() {
        let mut env = ExecEnv::new();
        run_with_callbacks(&place(text, &pack, &options), &mut env);
        let trap = env.trap.trap().map(|trap| trap.to_string());
        assert_eq!(trap.as_deref(), Some("insn 5: call stack too deep"), "{options:?}");
        // Three of the program, and two of each of seven callbacks.
        let charged = i64::MAX - env.fuel.into_inner();
        assert_eq!(charged, if options.fuel { 3 + 7 * 2 } else { 0 }, "{options:?}");
    }
}

/// An unverified program can make up an address; native code sees that it is none it may call.
#[test]
fn an_address_that_is_no_callback_is_known_as_such() {
    let text = "r1 = func sub ll\nr1 += 1\nr2 = 0\ncall 2\nexit\nsub:\nexit\n";
    let pack = Pack::new(PackOptions::default()).unwrap();
    for options in checked() {
        let placed = place(text, &pack, &options);
        assert_eq!(run_with_callbacks(&placed, &mut ExecEnv::new()), REFUSED, "{options:?}");
    }
}

#[test]
fn nothing_is_placed_of_a_program_with_an_unknown_function() {
    let pack = Pack::new(PackOptions::default()).unwrap();
    let before = pack.stats();
    let program = assemble("call sub\nexit\nsub:\ncall 99\nexit").unwrap();
    let image = jit::compile(&program, None, &Options::default()).unwrap();
    assert!(pack.place(&image, &resolve as &dyn Fn(Symbol) -> Option<u64>).is_err());
    assert_eq!(pack.stats(), before);
}
