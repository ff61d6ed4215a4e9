//! Every way of rewriting an accepted program gives one that does the same, and none of them traps on an
//! access: they run under checked memory.

use ebpf_runtime::interp::{Memory, Moment, Vm};
use ebpf_runtime::isa::abi::TrapKind;
use ebpf_runtime::isa::{CallTarget, CmpOp, Facts, Insn, Operand, Program, Reg, Width};
use ebpf_runtime::verifier::{
    ContextAccessInsn, Environment, HookCode, HostField, Options, Pass, RewriteError, RewriteHooks,
    Rewritten, Verified, verify,
};
use ebpf_testkit::Rng;

use super::beside::{Ended, FUEL, MAX_PROCESSED};
use super::world::{Hooks, Snapshot, World, can_run, target};

/// The world's context, with code before and after the program that leaves its result alone.
struct Hooked(Hooks);

impl RewriteHooks for Hooked {
    fn context_field(&self, access: &ContextAccessInsn) -> Result<HostField, RewriteError> {
        self.0.context_field(access)
    }

    fn gen_prologue(&self, writes_packet: bool, code: &mut HookCode<'_>) {
        let mov = |dst, src| Insn::Mov { width: Width::W64, dst, src };
        code.push(mov(Reg::R6, Operand::Reg(Reg::R1)));
        code.push(mov(Reg::R1, Operand::Imm(i32::from(writes_packet))));
        code.call_native(0, 1);
        code.push(mov(Reg::R1, Operand::Reg(Reg::R6)));
    }

    fn gen_epilogue(&self, code: &mut HookCode<'_>) {
        let mov = |dst, src| Insn::Mov { width: Width::W64, dst, src };
        code.push(mov(Reg::R6, Operand::Reg(Reg::R0)));
        code.load_saved_context(Reg::R1);
        // The context is never null, so the result stays what it is.
        let width = Width::W64;
        let there = code.branch(CmpOp::Ne, width, Reg::R1, Operand::Imm(0));
        code.push(mov(Reg::R6, Operand::Imm(-77)));
        code.land(there);
        code.call_native(0, 1);
        code.push(mov(Reg::R0, Operand::Reg(Reg::R6)));
    }
}

/// A program that is to do what the first one does.
struct Way {
    name: &'static str,
    program: Program,
    facts: Facts,
}

impl Way {
    fn new(name: &'static str, rewritten: Rewritten) -> Self {
        Self { name, program: rewritten.program, facts: rewritten.facts }
    }

    /// Runs it in the world as it was before; nothing where it cannot be run here.
    fn run(
        &self,
        env: &Environment,
        world: &mut World,
        before: &Snapshot,
    ) -> Result<Option<Outcome>, String> {
        let Self { name, program, facts } = self;
        world.restore(before);
        let Ok(vm) = Vm::new(program, Some(facts), &world.links(env, program)) else {
            return Ok(None);
        };
        let mut fp = None;
        let see = |moment: &Moment<'_>, _: &_| _ = fp.get_or_insert(moment.reg(Reg::FP));
        match world.run(&vm, FUEL, see) {
            Ok(result) => {
                Ok(Some(Outcome { result, words: world.words(), fp: fp.unwrap_or_default() }))
            }
            Err(trap) if trap.kind == TrapKind::OutOfFuel => Ok(None),
            Err(trap) => Err(format!("accepted, and traps {name}: {trap:?}")),
        }
    }

    /// Whether it does otherwise where its stack is elsewhere: a program may compute with addresses
    /// whatever it likes, as long as it does not leak them to those who may not see them.
    fn depends_on_place(
        &self,
        env: &Environment,
        world: &mut World,
        before: &Snapshot,
        here: &Outcome,
    ) -> Result<bool, String> {
        let memory = Memory::new();
        let Ok(vm) = Vm::new(&self.program, Some(&self.facts), &world.links(env, &self.program))
        else {
            return Ok(false);
        };
        // Runs that are kept take the places where the stack was.
        let mut kept = Vec::new();
        while kept.len() < PLACES {
            kept.push(vm.start(0, &memory));
            let there = self.run(env, world, before)?;
            if let Some(there) = there.filter(|there| there.fp != here.fp) {
                return Ok(!here.is_same(&there));
            }
        }
        Ok(false)
    }
}

/// Places at which a program's stack is tried at most, to have it at another.
const PLACES: usize = 8;

/// What became of a run: its result and what it left in memory, in words, and where its stack was.
struct Outcome {
    result: u64,
    words: Vec<u64>,
    fp: u64,
}

impl Outcome {
    /// Whether both are the same, but for addresses of the stack: it need not be at the same place.
    fn is_same(&self, other: &Self) -> bool {
        let same =
            |(&a, &b): (&u64, &u64)| a == b || a.wrapping_sub(self.fp) == b.wrapping_sub(other.fp);
        let words = self.words.len() == other.words.len();
        same((&self.result, &other.result))
            && words
            && self.words.iter().zip(&other.words).all(same)
    }
}

/// Runs an accepted program in every way, in the same world.
pub(crate) fn run_all_ways(
    program: &Program,
    env: &Environment,
    rng: &mut Rng,
) -> Result<Ended, String> {
    let mut options = Options::default();
    options.max_processed = Some(MAX_PROCESSED);
    let Ok(verified) = verify(program, env, &options) else {
        return Ok(Ended::Rejected);
    };
    let Some(ways) = ways(&verified, env).filter(|_| can_run(env)) else {
        return Ok(Ended::NotRun);
    };
    let mut world = World::new(env, rng);
    let before = world.snapshot();
    let mut runs = Vec::new();
    for way in &ways {
        let Some(run) = way.run(env, &mut world, &before)? else { return Ok(Ended::NotRun) };
        runs.push(run);
    }
    for (Way { name, .. }, run) in ways.iter().zip(&runs).skip(1) {
        if runs[0].is_same(run) {
            continue;
        }
        if run.fp != runs[0].fp && ways[0].depends_on_place(env, &mut world, &before, &runs[0])? {
            return Ok(Ended::NotRun);
        }
        let (wanted, got) = (runs[0].result, run.result);
        return Err(format!("{got:#x} {name}, not {wanted:#x}, or other memory"));
    }
    Ok(Ended::Ran { moments: ways.len() as u64 })
}

/// The ways in which a program can run here; none if the world does not have its context.
fn ways(verified: &Verified, env: &Environment) -> Option<Vec<Way>> {
    let mut target = target();
    target.natives = 1;
    let plain = verified.rewrite_for(&Hooks::of(env), &target).ok()?;
    let is_unchanged = context_is_as_programs_see_it(verified, &plain);
    let mut ways = vec![Way::new("rewritten", plain)];
    if is_unchanged {
        let (program, facts) = (verified.program().clone(), verified.facts().clone());
        ways.push(Way { name: "as it was verified", program, facts });
    }
    let has_packet_loads =
        verified.program().insns().any(|(_, insn)| matches!(insn, Insn::LoadPacket { .. }));
    let is_tail_call =
        |insn| insn == Insn::Call(CallTarget::Helper(ebpf_runtime::isa::uapi::HelperId::TAIL_CALL));
    let has_tail_calls = verified.program().insns().any(|(_, insn)| is_tail_call(insn));
    target.division_traps = true;
    target.keeps_upper_halves = true;
    let guarded = verified.rewrite_for(&Hooks::of(env), &target).ok()?;
    ways.push(Way::new("for another machine", guarded));
    if !has_packet_loads && !has_tail_calls {
        let hooked = verified.rewrite_for(&Hooked(Hooks::of(env)), &target).ok()?;
        ways.push(Way::new("with hooks", hooked));
    }
    Some(ways)
}

/// Whether converted accesses are the same as before, and no helper calls back: then the verified program runs
/// here as it is.
fn context_is_as_programs_see_it(verified: &Verified, rewritten: &Rewritten) -> bool {
    if rewritten.inserted_code().any(|(_, pass)| pass == Pass::Callbacks) {
        return false;
    }
    let converted = rewritten.inserted_code().filter(|(_, pass)| *pass == Pass::Context);
    let mut same = converted.map(|(slots, _)| {
        let old = rewritten.map.old(slots.start);
        old.and_then(|pc| verified.program().get(pc)) == rewritten.program.get(slots.start)
    });
    same.all(|same| same)
}
