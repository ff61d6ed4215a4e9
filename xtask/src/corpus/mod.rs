//! x
use crate::error::TaskError;
pub(crate) fn run(_: &[String]) -> Result<(), TaskError> {
    Ok(())
}
