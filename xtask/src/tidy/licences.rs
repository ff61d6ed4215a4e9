//! The licences of what we depend on, as SPDX expressions.

use super::Finding;
use super::workspace::Workspace;

/// Licences under which others can use this workspace as they please. MPL-2.0 asks for changes to
/// its own files only.
const ALLOWED: [&str; 10] = [
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Each dependency can be had under licences of the list.
pub(super) fn licences(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for external in &workspace.externals {
        let text = match external.licence.as_deref() {
            None => "names no licence".to_string(),
            Some(licence) if is_allowed(licence) => continue,
            Some(licence) => format!("cannot be had under the licences allowed: {licence}"),
        };
        let text = format!("{} {text}", external.name);
        findings.push(Finding::new("Cargo.lock", 1, text));
    }
    findings
}

/// Whether an expression can be met with allowed licences. What does not read as an expression
/// cannot. The slash is how `OR` was written before SPDX.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words: Vec<&str> = spaced.split_whitespace().rev().collect();
    any_of(&mut words) == Some(true) && words.is_empty()
}

/// `a OR b`; the next word is the last of `words`.
fn any_of(words: &mut Vec<&str>) -> Option<bool> {
    let mut allowed = all_of(words)?;
    while words.pop_if(|word| *word == "OR").is_some() {
        allowed |= all_of(words)?;
    }
    Some(allowed)
}

/// `a AND b`, which binds tighter than `OR`.
fn all_of(words: &mut Vec<&str>) -> Option<bool> {
    let mut allowed = one(words)?;
    while words.pop_if(|word| *word == "AND").is_some() {
        allowed &= one(words)?;
    }
    Some(allowed)
}

/// A licence, perhaps with an exception, or an expression in parentheses.
fn one(words: &mut Vec<&str>) -> Option<bool> {
    match words.pop()? {
        "(" => {
            let allowed = any_of(words)?;
            (words.pop()? == ")").then_some(allowed)
        }
        ")" | "AND" | "OR" | "WITH" => None,
        licence if words.pop_if(|word| *word == "WITH").is_some() => {
            let licence = format!("{licence} WITH {}", words.pop()?);
            Some(ALLOWED.contains(&licence.as_str()))
        }
        licence => Some(ALLOWED.contains(&licence)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::workspace::External;
    use super::*;

    #[test]
    fn expressions() {
        for good in [
            "MIT",
            "MIT OR Apache-2.0",
            "MIT/Apache-2.0",
            "Apache-2.0 / MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "GPL-2.0-only OR MIT",
            "Apache-2.0 WITH LLVM-exception OR GPL-3.0-only",
            "GPL-2.0-only AND X OR MIT",
        ] {
            assert!(is_allowed(good), "{good}");
        }
        for bad in [
            "GPL-2.0-only",
            "MIT AND GPL-2.0-only",
            "(MIT OR ISC) AND GPL-2.0-only",
            "MIT WITH Classpath-exception-2.0",
            "MIT AND GPL-2.0-only OR X",
            "",
            "MIT MIT",
            "(MIT",
            "MIT)",
            "MIT OR",
            "OR",
        ] {
            assert!(!is_allowed(bad), "{bad:?}");
        }
    }

    #[test]
    fn bad_and_missing_licences_are_told() {
        let external = |licence: Option<&str>| External {
            name: "x".into(),
            licence: licence.map(str::to_string),
        };
        let workspace = Workspace {
            externals: vec![external(Some("MIT")), external(Some("GPL-2.0-only")), external(None)],
            ..Workspace::default()
        };
        let findings = licences(&workspace);
        assert_eq!(findings.len(), 2);
        assert!(findings[0].text.contains("x cannot be had"));
        assert!(findings[1].text.contains("x names no licence"));
    }
}
