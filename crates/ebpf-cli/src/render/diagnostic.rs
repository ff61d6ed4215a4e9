//! Verdicts for people: rejections as compilers report errors.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use ebpf_runtime::isa::{Pc, Program, SourceLine};
use ebpf_runtime::verifier::{ErrorCode, Rejection};

use crate::console::one_line;
use crate::render::stack_depth;
use crate::verdict::{Outcome, Verdict};

/// One line for an accepted program; the reason and the place, with source code where the program
/// has line information, for a rejected one.
pub(crate) fn verdict(verdict: &Verdict<'_>, colours: bool) -> String {
    let renderer = if colours { Renderer::styled() } else { Renderer::plain() };
    let title = verdict.title();
    match &verdict.outcome {
        Outcome::Accept { stats, facts } => format!(
            "{title}: accepted, {} instructions processed, stack depth {}\n",
            stats.processed,
            stack_depth(facts)
        ),
        Outcome::Reject(rejection) => {
            let report = rejected(&title, rejection, verdict);
            format!("{}\n\n", renderer.render(&[report]))
        }
        Outcome::Unsupported(why) => {
            let report = Level::ERROR
                .primary_title(one_line(why))
                .id(ErrorCode::Unsupported.name())
                .element(not_verified(&title));
            format!("{}\n\n", renderer.render(&[report]))
        }
    }
}

fn not_verified(title: &str) -> annotate_snippets::Message<'static> {
    Level::NOTE.message(format!("{title}: not verified; the kernel may accept it"))
}

fn rejected<'a>(title: &str, rejection: &'a Rejection, verdict: &Verdict<'a>) -> Group<'a> {
    let mut report = Group::with_title(
        Level::ERROR.primary_title(one_line(&rejection.message)).id(rejection.code.name()),
    );
    if let (Some(pc), Some(program)) = (rejection.pc, verdict.program) {
        report = report.element(place(program, pc));
    }
    for detail in rejection.detail.iter().flat_map(|detail| detail.lines()) {
        report = report.element(Level::NOTE.message(one_line(detail)));
    }
    if let Some(missing) = verdict.missing_type() {
        let what = format!("the kernel's types do not have it: {}", one_line(&missing.what));
        report = report.element(Level::NOTE.message(what));
    }
    if rejection.code == ErrorCode::Unsupported {
        return report.element(not_verified(title));
    }
    let (errno, processed) = (rejection.errno_name(), rejection.stats.processed);
    let summary = format!("{title}: rejected with {errno}, {processed} instructions processed");
    report.element(Level::NOTE.message(summary))
}

/// The instruction in its source line, or alone where the program has no line information.
fn place(program: &Program, pc: Pc) -> Snippet<'_, annotate_snippets::Annotation<'_>> {
    let text = program.get(pc).map_or_else(String::new, |insn| insn.text(pc).to_string());
    match program.lines().at(pc) {
        Some(line) => {
            Snippet::source(line.text).line_start(line.line as usize).path(line.file).annotation(
                AnnotationKind::Primary.span(span(line)).label(format!("insn {pc}: {text}")),
            )
        }
        None => {
            let whole = AnnotationKind::Primary.span(0..text.len()).label(format!("insn {pc}"));
            Snippet::source(text).line_start(pc.index()).annotation(whole)
        }
    }
}

/// The bytes of the line that its column points to: a word, or one character.
fn span(line: SourceLine<'_>) -> Range<usize> {
    let text = line.text.trim_end();
    let start = (line.col as usize).saturating_sub(1);
    let (true, Some(rest)) = (line.col != 0, text.get(start..)) else {
        let indent = text.len() - text.trim_start().len();
        return indent..text.len();
    };
    let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    let one = rest.chars().next().map_or(0, char::len_utf8);
    start..start + word.max(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(text: &str, col: u32) -> &str {
        &text[span(SourceLine { file: "", text, line: 1, col })]
    }

    #[test]
    fn a_column_marks_its_word() {
        assert_eq!(marked("\treturn udp->source;", 9), "udp");
        assert_eq!(marked("\treturn udp->source;", 12), "-");
        assert_eq!(marked("a = é;", 5), "é");
    }

    #[test]
    fn without_a_usable_column_the_line_is_marked() {
        assert_eq!(marked("\treturn 1; ", 0), "return 1;");
        assert_eq!(marked("\treturn 1;", 99), "return 1;");
        assert_eq!(marked("é = 1;", 2), "é = 1;");
        assert_eq!(marked("", 0), "");
        assert_eq!(marked("x", 2), "");
    }
}
