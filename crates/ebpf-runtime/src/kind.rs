//! Program types that can be run.

use std::any::TypeId;
use std::borrow::Cow;
use std::sync::Arc;

use ebpf_isa::abi::HelperFn;
use ebpf_isa::uapi::{AttachType, HelperId};
use ebpf_verifier::{ProgramTypeRules, RewriteHooks};

/// A program type in one value: what the verifier asks of it, how its context is laid out, and the
/// native functions behind its helpers.
///
/// The three belong together: the context layout must be what the rules promise, and a native
/// function must keep its helper's prototype. So a value is made by a module of this crate that
/// vouches for all of it, such as [`crate::xdp`], or by an embedder who does: [`ProgramKind::of_host`].
#[derive(Clone)]
pub struct ProgramKind {
    pub(crate) rules: Arc<dyn ProgramTypeRules>,
    pub(crate) attach_type: Option<AttachType>,
    pub(crate) hooks: Arc<dyn RewriteHooks + Send + Sync>,
    pub(crate) helpers: Cow<'static, [(HelperId, HelperFn)]>,
    /// What hooks' code calls by number.
    pub(crate) natives: Cow<'static, [HelperFn]>,
    /// The type that the hooks convert context accesses to.
    pub(crate) layout: TypeId,
}

impl ProgramKind {
    /// What the verifier asks of programs of this type.
    #[must_use]
    pub fn rules(&self) -> &Arc<dyn ProgramTypeRules> {
        &self.rules
    }

    /// How accesses to the context are converted.
    #[must_use]
    pub fn hooks(&self) -> &dyn RewriteHooks {
        &*self.hooks
    }
}

impl std::fmt::Debug for ProgramKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProgramKind")
            .field("program_type", &self.rules.program_type())
            .finish_non_exhaustive()
    }
}
