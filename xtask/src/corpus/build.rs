//! x
use crate::error::TaskError;
use std::path::Path;
pub(super) fn build(_: &Path) -> Result<(), TaskError> {
    Ok(())
}
