//! The architecture as a table: which crate may use which, and what it promises.

/// What holds for a crate of this workspace.
pub(crate) struct CratePolicy {
    pub(crate) name: &'static str,
    /// The workspace crates it may depend on.
    pub(crate) may_use: MayUse,
    /// Builds without the standard library.
    pub(crate) no_std: bool,
    /// May contain `unsafe`.
    pub(crate) may_be_unsafe: bool,
}

/// Allowed arrows out of a crate.
pub(crate) enum MayUse {
    Only(&'static [&'static str]),
    Anything,
}

/// The crate that every other may use in its tests.
pub(crate) const TEST_CRATE: &str = "ebpf-testkit";

const fn library(name: &'static str, may_use: &'static [&'static str]) -> CratePolicy {
    CratePolicy { name, may_use: MayUse::Only(may_use), no_std: false, may_be_unsafe: false }
}

const fn tool(name: &'static str) -> CratePolicy {
    CratePolicy { name, may_use: MayUse::Anything, no_std: false, may_be_unsafe: false }
}

impl CratePolicy {
    const fn no_std(mut self) -> Self {
        self.no_std = true;
        self
    }

    const fn may_be_unsafe(mut self) -> Self {
        self.may_be_unsafe = true;
        self
    }
}

/// Lowest layer first. A crate may be here before it exists; none may exist that is not here.
pub(crate) const CRATES: [CratePolicy; 17] = [
    library("ebpf-isa", &[]).no_std(),
    library("ebpf-image", &[]).no_std(),
    library("ebpf-btf", &[]).no_std(),
    library(TEST_CRATE, &["ebpf-isa"]),
    library("ebpf-classic", &["ebpf-isa"]).no_std(),
    library("ebpf-patch", &["ebpf-isa"]).no_std(),
    library("ebpf-lower", &["ebpf-isa"]).no_std(),
    library("ebpf-verifier", &["ebpf-isa", "ebpf-patch", "ebpf-btf"]).no_std(),
    library("ebpf-interp", &["ebpf-isa", "ebpf-lower"]).no_std().may_be_unsafe(),
    library("ebpf-jit-x86", &["ebpf-isa", "ebpf-patch", "ebpf-lower", "ebpf-image"]),
    library("ebpf-pack", &["ebpf-image"]).may_be_unsafe(),
    library("ebpf-object", &["ebpf-isa", "ebpf-btf"]),
    library(
        "ebpf-runtime",
        &[
            "ebpf-isa",
            "ebpf-image",
            "ebpf-btf",
            "ebpf-classic",
            "ebpf-patch",
            "ebpf-lower",
            "ebpf-verifier",
            "ebpf-interp",
            "ebpf-jit-x86",
            "ebpf-pack",
            "ebpf-object",
        ],
    )
    .may_be_unsafe(),
    library("ebpf-cli", &["ebpf-runtime"]),
    tool("ebpf-conformance"),
    tool("ebpf-benches").may_be_unsafe(),
    tool("xtask"),
];

/// The row of a crate.
pub(crate) fn of(name: &str) -> Option<&'static CratePolicy> {
    CRATES.iter().find(|policy| policy.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each crate uses only crates above it in the table, so the arrows have no cycle.
    #[test]
    fn arrows_go_down() {
        for (index, policy) in CRATES.iter().enumerate() {
            let MayUse::Only(names) = policy.may_use else {
                continue;
            };
            for name in names {
                let below = CRATES[..index].iter().any(|lower| lower.name == *name);
                assert!(below, "{} may use {name}, which is not below it", policy.name);
            }
        }
    }

    /// A crate without the standard library cannot use one that needs it.
    #[test]
    fn no_std_crates_use_no_std_crates() {
        for policy in CRATES.iter().filter(|policy| policy.no_std) {
            let MayUse::Only(names) = policy.may_use else {
                panic!("{} may use anything", policy.name);
            };
            assert!(names.iter().all(|name| of(name).is_some_and(|used| used.no_std)));
        }
    }
}
