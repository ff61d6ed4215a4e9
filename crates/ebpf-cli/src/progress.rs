//! A bar on the terminal for work that takes long.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Work that is done sooner shows no bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// Progress through packets, drawn to standard error where that is a terminal.
pub(crate) struct Progress {
    total: u64,
    start: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Nothing is done yet of `total`.
    pub(crate) fn new(total: u64) -> Self {
        Self { total, start: Instant::now(), bar: None }
    }

    /// So much is done.
    pub(crate) fn at(&mut self, done: u64) {
        if self.bar.is_none() && self.start.elapsed() > PATIENCE {
            self.bar = Some(bar(self.total));
        }
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A bar without colours, which draws itself on a terminal only.
fn bar(total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {percent:>3}% of {len} packets")
        .expect("the template is well-formed");
    ProgressBar::new(total).with_style(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_work_shows_no_bar() {
        let mut progress = Progress::new(2);
        progress.at(1);
        assert!(progress.bar.is_none());
    }

    #[test]
    fn the_template_is_well_formed() {
        assert_eq!(bar(7).length(), Some(7));
    }
}
