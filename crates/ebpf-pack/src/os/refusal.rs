//! Where tests refuse system calls. Every call that can fail goes through [`attempt`].

use rustix::io::Errno;

/// Makes a system call, unless a test wants it refused.
pub(crate) fn attempt<T>(call: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    #[cfg(test)]
    if countdown::is_due() {
        return Err(countdown::REFUSAL);
    }
    call()
}

/// Runs `body` with its system call number `nth` (from 0) refused; says whether it came to that.
#[cfg(test)]
pub(crate) fn refuse_nth<T>(nth: usize, body: impl FnOnce() -> T) -> (T, bool) {
    countdown::set(Some(nth));
    let result = body();
    (result, countdown::set(None).is_none())
}

#[cfg(test)]
mod countdown {
    use rustix::io::Errno;
    use std::cell::Cell;

    /// What a refused call fails with: an error that says nothing about what the system is capable of.
    pub(super) const REFUSAL: Errno = Errno::NOMEM;

    thread_local!(static LEFT: Cell<Option<usize>> = const { Cell::new(None) });

    pub(super) fn set(nth: Option<usize>) -> Option<usize> {
        LEFT.replace(nth)
    }

    pub(super) fn is_due() -> bool {
        let left = LEFT.get();
        LEFT.set(left.and_then(|left| left.checked_sub(1)));
        left == Some(0)
    }
}
