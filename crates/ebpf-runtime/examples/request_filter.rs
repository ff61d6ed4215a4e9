//! A program type of an embedder's own: programs that judge requests of a server.
//!
//! It has all that a type can have: a context of its own, laid out as the server has it anyway; a helper; a kernel
//! function of a module; a prologue that counts entries, and an epilogue that makes sure, at every exit, that the result
//! is a verdict. `docs/program-types.md` goes through it.
//!
//! ```text
//! $ cargo run -p ebpf-runtime --example request_filter
//! ```
#![allow(clippy::print_stdout, reason = "printing is what it is for")]
#![allow(unsafe_code, reason = "native functions, and the layout of the context, are promises")]

use std::cell::Cell;
use std::error::Error;
use std::mem::offset_of;
use std::sync::Arc;

use ebpf_isa::abi::ExecEnv;
use ebpf_isa::text::assemble;
use ebpf_isa::uapi::{AttachType, HelperId, ProgramType};
use ebpf_isa::{CmpOp, Insn, Operand, Reg, Size, Width};
use ebpf_runtime::host::HostProgram;
use ebpf_runtime::kfuncs::{NativeModule, NativeModules};
use ebpf_runtime::{Bindings, Engine, ProgramKind, Runtime};
use ebpf_verifier::rules::{
    ContextField, FieldAccess, FieldKind, HelperProto, HelperSet, PacketAccess, TableRules,
};
use ebpf_verifier::{
    ContextAccessInsn, HookCode, HostField, KfuncArg, KfuncProto, ModuleTable, Options,
    RewriteError, RewriteHooks,
};

/// A request as the server has it. Programs see three fields of 32 bits: `method`, `path_len`, `score`.
#[repr(C)]
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    /// Bytes of the path.
    pub(crate) path_len: u64,
    /// What it asks for, in bits 4 to 7; the others are the server's.
    pub(crate) flags: u32,
    /// What programs found it to be.
    pub(crate) score: u32,
}

/// Offsets of the fields as programs see them.
mod seen {
    pub(super) const METHOD: u16 = 0;
    pub(super) const PATH_LEN: u16 = 4;
    pub(super) const SCORE: u16 = 8;
}

/// What runs leave behind: the `user` of their environment.
#[derive(Debug, Default)]
pub(crate) struct Server {
    /// How often a program was entered.
    pub(crate) entered: Cell<u64>,
    /// How often a program returned what is no verdict.
    pub(crate) corrected: Cell<u64>,
    /// The tags that programs gave requests, one bit each.
    pub(crate) tags: Cell<u64>,
}

/// The highest verdict: 0 denies, 1 allows, 2 allows and logs.
const HIGHEST_VERDICT: i32 = 2;

/// `u64 load(void)`, the one helper: how busy the server is, in percent.
const LOAD: HelperId = HelperId(1000);
/// The module of the one kernel function, `void request_tag(u64 tag)`.
const MODULE: &str = "requests";
const TAG: u32 = 1;
/// Native functions that only hooks call.
const ENTERED: u32 = 0;
const CORRECTED: u32 = 1;

/// # Safety
/// `env` is that of a run whose `user` is a [`Server`].
unsafe fn server<'a>(env: *mut ExecEnv) -> &'a Server {
    // SAFETY: the caller's promise.
    unsafe { &*(*env).user.cast::<Server>() }
}

ebpf_runtime::native! {
    fn load() -> u64 {
        40
    }

    fn request_tag(tag: u64, env: *mut ExecEnv) -> u64 {
        // SAFETY: programs of this type run in an environment with a server.
        let tags = unsafe { &server(env).tags };
        tags.set(tags.get() | 1 << (tag & 63));
        0
    }

    fn entered(env: *mut ExecEnv) -> u64 {
        // SAFETY: as above.
        let entered = unsafe { &server(env).entered };
        entered.set(entered.get() + 1);
        0
    }

    fn corrected(env: *mut ExecEnv) -> u64 {
        // SAFETY: as above.
        let corrected = unsafe { &server(env).corrected };
        corrected.set(corrected.get() + 1);
        0
    }
}

/// What the verifier asks of the type.
fn rules() -> TableRules {
    let field = |name: &'static str, start: u16, write| ContextField {
        name: name.into(),
        start,
        end: start + 4,
        read: FieldAccess::UpTo(Size::W),
        write,
        kind: FieldKind::Scalar,
        only_for: &[],
    };
    TableRules {
        program_type: ProgramType::Unspec,
        attach_types: &[],
        default_attach: AttachType::CgroupInetIngress,
        context: vec![
            field("method", seen::METHOD, FieldAccess::Never),
            field("path_len", seen::PATH_LEN, FieldAccess::Never),
            field("score", seen::SCORE, FieldAccess::Exactly(Size::W)),
        ],
        helpers: vec![HelperProto::new(LOAD, "load")],
        helper_set: HelperSet::Prototypes,
        packet: PacketAccess::None,
        exit: Vec::new(),
    }
}

/// Where the server has the fields, and what it runs before and after programs.
struct Hooks;

impl RewriteHooks for Hooks {
    fn context_field(&self, access: &ContextAccessInsn) -> Result<HostField, RewriteError> {
        let field =
            |seen_at, off: usize, size| HostField::whole(seen_at, Size::W, off as i16, size);
        match access.offset / 4 * 4 {
            at @ seen::METHOD => Ok(HostField {
                shift: 4,
                bits: 4,
                ..field(at, offset_of!(Request, flags), Size::W)
            }),
            // The verifier takes it for a number of 32 bits, so it must be one.
            at @ seen::PATH_LEN => {
                Ok(HostField { bits: 32, ..field(at, offset_of!(Request, path_len), Size::Dw) })
            }
            at @ seen::SCORE => Ok(field(at, offset_of!(Request, score), Size::W)),
            _ => Err(access.unsupported()),
        }
    }

    fn gen_prologue(&self, _writes_packet: bool, code: &mut HookCode<'_>) {
        code.push(mov(Reg::R6, Operand::Reg(Reg::R1)));
        code.call_native(ENTERED, 0);
        code.push(mov(Reg::R1, Operand::Reg(Reg::R6)));
    }

    fn gen_epilogue(&self, code: &mut HookCode<'_>) {
        let fine = code.branch(CmpOp::Le, Width::W64, Reg::R0, Operand::Imm(HIGHEST_VERDICT));
        code.call_native(CORRECTED, 0);
        code.push(mov(Reg::R0, Operand::Imm(0)));
        code.land(fine);
    }
}

fn mov(dst: Reg, src: Operand) -> Insn {
    Insn::Mov { width: Width::W64, dst, src }
}

/// The type: rules, hooks, and the native functions behind both.
fn kind() -> ProgramKind {
    // SAFETY: the hooks lead to fields of `Request` that have the widths they say; of these, the rules let
    // programs write `score`. The functions keep their prototypes, and take nothing from hooks.
    unsafe {
        ProgramKind::of_host::<Request>(Arc::new(rules()), Arc::new(Hooks))
            .with_helpers(vec![(LOAD, load)])
            .with_natives(vec![entered, corrected])
    }
}

/// A runtime that has the module.
fn runtime() -> Result<Runtime, Box<dyn Error>> {
    let tag = KfuncProto::new(TAG, "request_tag").args([KfuncArg::SCALAR]);
    // SAFETY: the function takes any number, and keeps to its prototype.
    let module = unsafe { NativeModule::new(MODULE, [(tag, request_tag as _)]) }?;
    let mut modules = NativeModules::new();
    modules.register(module)?;
    Ok(Runtime::new()?.with_modules(modules))
}

/// Denies long paths, tags what comes when the server is busy, and has a mistake: what it returns for a
/// method of 3 is no verdict.
pub(crate) const PROGRAM: &str = "\
    r2 = *(u32 *)(r1 +4)
    if r2 > 1024 goto deny
    r3 = *(u8 *)(r1 +0)
    if r3 == 3 goto mistake
    r2 *= 2
    *(u32 *)(r1 +8) = r2
    call 1000
    if r0 < 30 goto allow
    r1 = 5
    call kfunc#1 module#1
    r0 = 2
    exit
allow:
    r0 = 1
    exit
deny:
    r0 = 0
    exit
mistake:
    r0 = 9
    exit
";

/// A filter of requests.
#[derive(Debug)]
pub(crate) struct RequestFilter(HostProgram<Request>);

impl RequestFilter {
    /// Verifies a program and makes it ready to run.
    ///
    /// # Errors
    /// The program is no text, or rejected.
    pub(crate) fn load(text: &str, engine: Engine) -> Result<Self, Box<dyn Error>> {
        let runtime = runtime()?;
        let mut modules = ModuleTable::new();
        // The program's index 1.
        modules.call(runtime.modules(), MODULE, "request_tag")?;
        let bindings = Bindings { modules, ..Bindings::new(kind()) };
        let loaded = runtime.load(&assemble(text)?, bindings, &Options::default(), engine)?;
        Ok(Self(HostProgram::new(loaded).map_err(|_| "a program of another type")?))
    }

    /// The program as it runs, with what rewriting inserted.
    #[must_use]
    pub(crate) fn listing(&self) -> String {
        let rewritten = self.0.loaded().rewritten();
        rewritten.program.listing().with_marks(&rewritten.marks()).to_string()
    }

    /// The verdict on a request.
    ///
    /// # Errors
    /// The run trapped.
    pub(crate) fn judge(
        &self,
        request: &mut Request,
        server: &Server,
    ) -> Result<u64, Box<dyn Error>> {
        let mut env = ExecEnv::new();
        env.user = std::ptr::from_ref(server).cast_mut().cast();
        self.0.run(request, &mut env).map_err(|trap| format!("{trap:?}").into())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let filter = RequestFilter::load(PROGRAM, Engine::Jit)?;
    print!("{}", filter.listing());
    let server = Server::default();
    for (method, path_len) in [(1, 20), (2, 4000), (3, 7)] {
        let mut request = Request { path_len, flags: method << 4, score: 0 };
        let verdict = filter.judge(&mut request, &server)?;
        println!("method {method}, {path_len} bytes: {verdict}, score {}", request.score);
    }
    let Server { entered, corrected, tags } = server;
    println!("{} entered, {} corrected, tags {:#x}", entered.get(), corrected.get(), tags.get());
    Ok(())
}
