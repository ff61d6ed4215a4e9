//! `docs/errors.md` lists every error code: its number, its meaning, its payloads, and what Linux
//! 6.18.44 says where a program of `fixtures/verify` is rejected with it. `cargo xtask bless` writes
//! it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use ebpf_testkit::{Verdict, for_each_fixture, line_diff, workspace_root};
use ebpf_verifier::{ErrorCode, Options, Payload, verify};
use support::Subject;

const HEAD: &str = "\
# Error codes

Written by `cargo xtask bless`, from the codes and the fixtures.

Codes are stable: a name is never given to anything else, and scripts may rely on it. The error number is the kernel's. The
text is that of Linux 6.18.44 and may be another one elsewhere; `N` is a number. Rules that only some kernels have are no
codes of their own: the profile says which there are (docs/corpus.md).

The payload of a rejection has the numbers that the text is made of: `Rejection::payload` (`rule` and `fields` of `ebpf verify --format json`) is one of the variants that are
listed here with their fields.

| code | error | meaning | payloads | the kernel says, for instance |
|---|---|---|---|---|
";

/// The text with `N` for each number, and `Rn` for each register.
fn without_numbers(text: &str) -> String {
    let general = |word: &str| match word.strip_prefix('R') {
        Some(number) if number.parse::<u8>().is_ok() => "Rn".to_owned(),
        _ if word.ends_with("-bit") || !word.contains(|c: char| c.is_ascii_digit()) => {
            word.to_owned()
        }
        _ => match word.split_once('=') {
            Some((name, number)) => {
                format!("{name}=N{}", &number[number.trim_end_matches([',', ')']).len()..])
            }
            None => "N".to_owned(),
        },
    };
    text.split(' ').map(general).collect::<Vec<_>>().join(" ")
}

/// What the kernel says, by code.
fn texts() -> BTreeMap<&'static str, BTreeSet<String>> {
    let mut texts: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for_each_fixture("verify", |fixture| {
        let Some(Verdict::Reject { message, .. }) = fixture.verdict() else { return Ok(()) };
        let Subject { program, env, .. } = Subject::of(fixture)?;
        let rejection = verify(&program, &env, &Options::default()).err().ok_or("accepted")?;
        texts.entry(rejection.code.name()).or_default().insert(without_numbers(message));
        Ok(())
    });
    texts
}

/// The payloads of a code, with their fields.
fn payloads(code: ErrorCode) -> String {
    let kinds = Payload::KINDS.iter().filter(|kind| kind.code == code);
    let text = kinds.map(|kind| match kind.fields {
        [] => format!("`{}`", kind.name),
        fields => format!("`{} {{ {} }}`", kind.name, fields.join(", ")),
    });
    text.collect::<Vec<_>>().join("<br>")
}

#[test]
fn the_table_lists_every_code() {
    if std::env::var("FIXTURE").is_ok_and(|filter| !filter.is_empty()) {
        return ebpf_testkit::skip("FIXTURE leaves fixtures out: the table of error codes");
    }
    let (texts, mut table) = (texts(), HEAD.to_owned());
    for code in ErrorCode::ALL {
        let (name, errno, meaning) = (code.name(), code.errno(), code.meaning());
        let said = texts.get(name).into_iter().flatten();
        let said: Vec<String> =
            said.map(|text| format!("`{}`", text.replace('|', "\\|"))).collect();
        let errno = if *code == ErrorCode::Unsupported { String::new() } else { errno.to_string() };
        let (payloads, said) = (payloads(*code), said.join("<br>"));
        writeln!(table, "| `{name}` | {errno} | {meaning} | {payloads} | {said} |").unwrap();
    }
    let path = workspace_root().join("docs/errors.md");
    if std::env::var("BLESS").is_ok_and(|bless| bless == "1") {
        std::fs::write(&path, &table).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    let (written, table) = (without_texts(&written), without_texts(&table));
    assert!(written == table, "cargo xtask bless\n{}", line_diff(&written, &table));
}

/// The table without the instances, of which any fixture may bring another one.
fn without_texts(table: &str) -> String {
    let rows = table.lines().map(|line| line.rsplit_once(" | ").map_or(line, |(row, _)| row));
    rows.collect::<Vec<_>>().join("\n")
}

#[test]
fn names_are_unique_and_of_one_form() {
    let names: BTreeSet<&str> = ErrorCode::ALL.iter().map(|code| code.name()).collect();
    assert_eq!(names.len(), ErrorCode::ALL.len());
    let is_plain =
        |name: &&&str| name.bytes().all(|b| b.is_ascii_lowercase() || b".-".contains(&b));
    assert_eq!(names.iter().filter(is_plain).count(), names.len());
}
