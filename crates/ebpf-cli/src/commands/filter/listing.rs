//! A classic filter beside the eBPF program that it was converted to.

use std::io::Write;

use ebpf_runtime::classic::{ClassicPc, Converted, Target, text};
use ebpf_runtime::isa::Pc;
use serde_json::json;

use super::FilterArgs;
use crate::console::Console;
use crate::error::CliError;

/// Columns that the classic side takes.
const WIDTH: usize = 44;

/// Prints both.
pub(super) fn write(
    args: &FilterArgs,
    name: &str,
    converted: &Converted,
    target: Target,
    console: &mut Console,
) -> Result<(), CliError> {
    let classic = classic_lines(converted);
    let ebpf = ebpf_lines(converted);
    if args.json {
        let insn = |(pc, text): &(Pc, String)| {
            let origin = converted.origin(*pc).map(|pc| pc.0);
            json!({ "pc": pc.0, "text": text, "origin": origin })
        };
        let object = json!({
            "file": name,
            "type": target.name(),
            "insns": classic.len(),
            "classic": classic,
            "ebpf": ebpf.iter().map(insn).collect::<Vec<_>>(),
        });
        writeln!(console.out, "{object}")?;
        return Ok(());
    }
    for (left, right) in rows(converted, &classic, &ebpf) {
        writeln!(console.out, "{}", format!("{left:WIDTH$}{right}").trim_end())?;
    }
    Ok(())
}

fn classic_lines(converted: &Converted) -> Vec<String> {
    let original = converted.original().iter().enumerate();
    original.map(|(pc, insn)| text::insn(ClassicPc(pc as u16), *insn).to_string()).collect()
}

fn ebpf_lines(converted: &Converted) -> Vec<(Pc, String)> {
    let listing = converted.program.listing().to_string();
    let pcs = converted.program.insns().map(|(pc, _)| pc);
    let text = |line: &str| line.split_once(": ").map_or(line, |(_, text)| text).to_owned();
    pcs.zip(listing.lines().map(text)).collect()
}

/// The lines of both, side by side: instructions in their order, each classic one beside the first
/// that it became. Several that became one are on lines of their own, as are those that became
/// nothing.
fn rows(converted: &Converted, classic: &[String], ebpf: &[(Pc, String)]) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let left = |pc: usize| format!("({pc:03}) {}", classic[pc].replace('\t', " "));
    let right = |(pc, text): &(Pc, String)| format!("{:4}: {text}", pc.0);
    let mut next = 0;
    let groups = ebpf.chunk_by(|a, b| converted.origin(a.0) == converted.origin(b.0));
    for group in groups {
        let mut lefts = Vec::new();
        if let Some(ClassicPc(origin)) = converted.origin(group[0].0) {
            let origin = usize::from(origin);
            rows.extend((next..origin).map(|pc| (left(pc), String::new())));
            let start = Some(group[0].0);
            let is_here = |&pc: &usize| converted.start(ClassicPc(pc as u16)) == start;
            lefts.extend((origin..classic.len()).take_while(is_here));
            next = next.max(origin + lefts.len());
        }
        for index in 0..group.len().max(lefts.len()) {
            let left = lefts.get(index).map_or_else(String::new, |&pc| left(pc));
            rows.push((left, group.get(index).map_or_else(String::new, right)));
        }
    }
    rows.extend((next..classic.len()).map(|pc| (left(pc), String::new())));
    rows
}
