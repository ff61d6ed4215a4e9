//! A host whose hooks are given as text, as `fixtures/rewrite` has them.

use ebpf_isa::text::assemble;
use ebpf_isa::uapi::HelperId;
use ebpf_isa::{Insn, Operand, Pc, Reg, Size};
use ebpf_verifier::{
    ArrayLayout, ContextAccessInsn, HookCode, HostField, JumpTarget, PatchInsn, RewriteError,
    RewriteHooks, Target,
};

/// Every field of the context is eight bytes, at four times its offset. Each line of a hook is an
/// instruction or one of
///
/// ```text
/// native NUMBER ARGUMENTS           helper NUMBER ARGUMENTS
/// load DST CONTEXT OFFSET SIZE      store CONTEXT OFFSET SIZE SRC
/// saved DST
/// ```
///
/// Jumps are `goto +N`, `if .. goto +N`: over so many slots.
#[derive(Default)]
pub(crate) struct Host<'a> {
    pub(crate) prologue: &'a str,
    pub(crate) epilogue: &'a str,
}

impl RewriteHooks for Host<'_> {
    fn context_field(&self, access: &ContextAccessInsn) -> Result<HostField, RewriteError> {
        let seen_at = access.offset / 4 * 4;
        let off = i16::try_from(i32::from(seen_at) * 4).map_err(|_| access.unsupported())?;
        Ok(HostField::whole(seen_at, Size::W, off, Size::Dw))
    }

    fn gen_prologue(&self, writes_packet: bool, code: &mut HookCode<'_>) {
        match self.prologue.strip_prefix("if it writes\n") {
            Some(lines) if writes_packet => write(lines, code),
            Some(_) => {}
            None => write(self.prologue, code),
        }
    }

    fn gen_epilogue(&self, code: &mut HookCode<'_>) {
        write(self.epilogue, code);
    }
}

fn write(lines: &str, code: &mut HookCode<'_>) {
    for line in lines.lines().filter(|line| !line.is_empty()) {
        if line.starts_with("if ") || line.starts_with("goto ") {
            code.push(jump(line));
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["native", number, args] => code.call_native(parse(number), parse(args)),
            ["helper", number, args] => code.call_helper(HelperId(parse(number)), parse(args)),
            ["load", dst, context, offset, size] => {
                code.load_context(reg(dst), reg(context), parse(offset), size_of(size));
            }
            ["store", context, offset, size, src] => {
                let src = Operand::Reg(reg(src));
                code.store_context(reg(context), parse(offset), size_of(size), src);
            }
            ["saved", dst] => code.load_saved_context(reg(dst)),
            _ => code.push(insn(line)),
        }
    }
}

fn parse<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

fn reg(text: &str) -> Reg {
    Reg::new(parse(&text[1..])).unwrap()
}

fn size_of(text: &str) -> Size {
    Size::from_mnemonic(text).unwrap()
}

/// The first instruction of a text.
fn first(text: &str) -> Insn {
    assemble(text).unwrap().get(Pc::ENTRY).unwrap()
}

fn insn(line: &str) -> Insn {
    first(&format!("{line}\nexit"))
}

/// A jump ahead, in a program that is long enough for it.
fn jump(line: &str) -> PatchInsn {
    let jump = first(&format!("{line}\n{}exit", "r0 = 0\n".repeat(40)));
    let target = jump.jump_target().unwrap();
    PatchInsn::jump(jump, JumpTarget::Over(target.0 - 1))
}

/// Reads the `-- target` section of a fixture; hooks may call native functions 0 to 9.
pub(crate) fn parse_target(text: &str) -> Target {
    let mut target = Target::default();
    target.natives = 10;
    for line in text.lines() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["division-traps"] => target.division_traps = true,
            ["keeps-upper-halves"] => target.keeps_upper_halves = true,
            ["array", map, entries, stride] => {
                target.arrays.resize(parse::<usize>(map) + 1, None);
                let layout = ArrayLayout { entries: parse(entries), stride: parse(stride) };
                target.arrays[parse::<usize>(map)] = Some(layout);
            }
            ["next-element", number] => target.next_element = Some(parse(number)),
            _ => panic!("target line not understood: `{line}`"),
        }
    }
    target
}
