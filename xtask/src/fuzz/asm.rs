//! Text as programs: listings with changes, and lines of several listings mixed. What is read as a
//! program is written so that it is read again.

use ebpf_runtime::isa::text::assemble;
use ebpf_testkit::{Fixture, Rng, fixture_paths, fixtures_dir};

use super::{Case, mutate};
use crate::error::TaskError;

pub(super) fn prepare() -> Result<Case, TaskError> {
    let texts = texts()?;
    Ok(Box::new(move |rng| case(rng, &texts)))
}

/// The programs of all fixtures.
fn texts() -> Result<Vec<String>, TaskError> {
    let dir = fixtures_dir();
    let mut texts = Vec::new();
    for path in fixture_paths(&dir).map_err(|error| TaskError::file(&dir, error))? {
        let text = std::fs::read_to_string(&path).map_err(|error| TaskError::file(&path, error))?;
        let fixture =
            Fixture::parse(&path, &text).map_err(|error| TaskError::Failed(error.to_string()))?;
        texts.extend(fixture.section("asm").map(str::to_string));
    }
    Ok(texts)
}

fn case(rng: &mut Rng, texts: &[String]) -> Result<(), String> {
    let text = match rng.range(0..3) {
        0 => rng.bytes(rng.clone().range(0..200) as usize),
        1 => mixed(rng, texts).into_bytes(),
        _ => rng.pick(texts).clone().into_bytes(),
    };
    let text = if rng.chance(3, 4) { mutate(rng, &text) } else { text };
    let text = String::from_utf8_lossy(&text);
    let Ok(program) = assemble(&text) else { return Ok(()) };
    let listing = program.listing().to_string();
    match assemble(&listing) {
        Ok(again) if again == program => Ok(()),
        Ok(_) => Err(format!("another program after\n{listing}\nfrom\n{text}")),
        Err(error) => Err(format!("{error}, in\n{listing}\nfrom\n{text}")),
    }
}

fn mixed(rng: &mut Rng, texts: &[String]) -> String {
    let mut lines = Vec::new();
    for _ in 0..rng.range(1..20) {
        let of_one: Vec<&str> = rng.pick(texts).lines().collect();
        lines.push(of_one.get(rng.range(0..of_one.len().max(1) as u64) as usize).copied());
    }
    let lines: Vec<&str> = lines.into_iter().flatten().collect();
    lines.join("\n") + "\nexit\n"
}
