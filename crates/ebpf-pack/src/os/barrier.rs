//! The barrier over all cores that run threads of this process.

use super::refusal::attempt;
use crate::PackError;
use rustix::thread::{MembarrierCommand, membarrier};

/// Announces that this process will use [`sync_core`].
pub(crate) fn register_sync_core() -> Result<(), PackError> {
    attempt(|| membarrier(MembarrierCommand::RegisterPrivateExpeditedSyncCore))
        .map_err(PackError::os("membarrier registration (SYNC_CORE)"))
}

/// Returns when every core that runs a thread of this process has executed a serializing instruction, so that none holds
/// instructions fetched before the call.
pub(crate) fn sync_core() -> Result<(), PackError> {
    attempt(|| membarrier(MembarrierCommand::PrivateExpeditedSyncCore))
        .map_err(PackError::os("membarrier (SYNC_CORE)"))
}
