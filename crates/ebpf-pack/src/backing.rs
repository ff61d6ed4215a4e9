//! The three ways to get executable memory that is never writable through the same address.

use crate::PackError;
use crate::link::INT3;
use crate::os::{self, View};
use crate::position::Position;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::mm::{MprotectFlags, ProtFlags};
use std::fmt;
use std::ops::Range;

/// How a pack gets executable memory, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// A sealed memfd, mapped twice: writable and executable. Works under `PR_SET_MDWE`, and the kernel itself refuses
    /// any other way to write. Linux 5.1.
    Memfd,
    /// Anonymous shared memory, and an alias of it from `mremap(2)`. For systems that refuse `memfd_create(2)`. It grows by
    /// making pages executable that were inaccessible, which `PR_SET_MDWE` refuses.
    Alias,
    /// Private pages for each placement, written first and made executable then; nothing is shared or can be changed
    /// afterwards, and freeing unmaps. For systems that refuse shared executable mappings.
    OneShot,
}

impl Backing {
    /// All of them, best first.
    pub const ALL: [Self; 3] = [Self::Memfd, Self::Alias, Self::OneShot];
}

impl fmt::Display for Backing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memfd => "memfd mapped twice",
            Self::Alias => "shared memory with an alias",
            Self::OneShot => "private pages made executable once",
        })
    }
}

/// The memory of an arena, and where it runs.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) executable: View,
    source: Source,
}

/// Where code is written.
#[derive(Debug)]
pub(crate) enum Writer {
    /// Through a view of its own.
    View(View),
    /// Where it will run, as long as nothing runs there.
    InPlace,
}

/// What the memory of new steps comes from.
#[derive(Debug)]
enum Source {
    Memfd(OwnedFd),
    Shared,
    Private,
}

const READ_WRITE: MprotectFlags = MprotectFlags::READ.union(MprotectFlags::WRITE);

impl Text {
    /// `len` bytes of address space, a multiple of the page size, and where to write to it. Nothing is executable yet.
    pub(crate) fn new(
        backing: Backing,
        position: Position,
        len: usize,
    ) -> Result<(Self, Writer), PackError> {
        match backing {
            Backing::Memfd => Self::memfd(position, len),
            Backing::Alias => Self::alias(position, len),
            Backing::OneShot => Self::one_shot(position, len),
        }
    }

    fn memfd(position: Position, len: usize) -> Result<(Self, Writer), PackError> {
        let executable = position.reserve(len)?;
        let memory = os::create_memory(len)?;
        let write_view = reserve_write_view(len)?;
        write_view
            .map_file(&memory, &(0..len), ProtFlags::empty())
            .map_err(PackError::os("mmap of the write view"))?;
        make_writable(&write_view)?;
        os::seal_memory(&memory)?;
        Ok((Self { executable, source: Source::Memfd(memory) }, Writer::View(write_view)))
    }

    fn alias(position: Position, len: usize) -> Result<(Self, Writer), PackError> {
        let executable = position.reserve(len)?;
        executable.map_shared().map_err(PackError::os("mmap of shared memory"))?;
        let write_view = reserve_write_view(len)?;
        write_view.map_alias(&executable).map_err(PackError::os("mremap of the write view"))?;
        make_writable(&write_view)?;
        Ok((Self { executable, source: Source::Shared }, Writer::View(write_view)))
    }

    fn one_shot(position: Position, len: usize) -> Result<(Self, Writer), PackError> {
        let executable = View::private(len).map_err(PackError::os("mmap of private pages"))?;
        if !position.allows(executable.addresses().start) {
            return Err(PackError::Position);
        }
        Ok((Self { executable, source: Source::Private }, Writer::InPlace))
    }

    /// Makes the inaccessible `step` executable, full of `int3`. (Private pages become executable when they are
    /// [published](Self::publish_in_place).)
    pub(crate) fn commit(&self, step: &Range<usize>, writer: &Writer) -> Result<(), PackError> {
        let view = self.written_through(writer);
        match &self.source {
            Source::Memfd(memory) => {
                match view.populate(step) {
                    // Before Linux 5.14 it is the file that is asked.
                    Err(Errno::INVAL) => os::back_memory(memory, step)?,
                    other => other.map_err(PackError::os("madvise(MADV_POPULATE_WRITE)"))?,
                }
                fill(view, step);
                let protection = ProtFlags::READ | ProtFlags::EXEC;
                self.executable
                    .map_file(memory, step, protection)
                    .map_err(PackError::os("mmap of the executable view"))
            }
            Source::Shared => {
                view.populate(step).map_err(PackError::os("madvise(MADV_POPULATE_WRITE)"))?;
                fill(view, step);
                self.executable
                    .protect(step, MprotectFlags::READ | MprotectFlags::EXEC)
                    .map_err(PackError::os("mprotect of the executable view"))
            }
            Source::Private => {
                fill(view, step);
                Ok(())
            }
        }
    }

    /// The view that `writer`, which belongs to this text, writes through.
    pub(crate) fn written_through<'a>(&'a self, writer: &'a Writer) -> &'a View {
        match writer {
            Writer::View(view) => view,
            Writer::InPlace => &self.executable,
        }
    }

    /// Ends writing in place, and makes the memory executable. To be called once, before anything runs there.
    pub(crate) fn publish_in_place(&self) -> Result<(), PackError> {
        self.executable.publish_private().map_err(PackError::os("mprotect of private pages"))
    }
}

/// Fills a step that nobody knows of yet with `int3`.
fn fill(view: &View, step: &Range<usize>) {
    assert!(step.end <= view.len(), "invariant: steps lie inside the arena");
    // SAFETY: the step is inside the view, which is writable, and the arena's lock makes this thread the only one that
    // can write to it: the writers of text stop at what is committed.
    unsafe { view.as_ptr().add(step.start).write_bytes(INT3, step.len()) };
}

fn reserve_write_view(len: usize) -> Result<View, PackError> {
    View::reserve(None, len).map_err(PackError::os("mmap of the write view"))
}

/// Accessible only after it is kept from children, so that no fork in between gives a child a view it can write through.
fn make_writable(view: &View) -> Result<(), PackError> {
    view.keep_from_children().map_err(PackError::os("madvise(MADV_DONTFORK)"))?;
    view.protect(&(0..view.len()), READ_WRITE).map_err(PackError::os("mprotect of the write view"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::PAGE_BYTES;

    #[test]
    fn the_kernel_refuses_other_ways_to_write_to_the_file() {
        let (text, _writer) = Text::memfd(Position::Anywhere, PAGE_BYTES).expect("memfd");
        let Source::Memfd(memory) = &text.source else { panic!("a memfd") };
        let second = View::reserve(None, PAGE_BYTES).expect("address space");
        let writable = ProtFlags::READ | ProtFlags::WRITE;
        assert!(second.map_file(memory, &(0..PAGE_BYTES), writable).is_err());
        assert!(rustix::fs::ftruncate(memory, 0).is_err());
        assert!(rustix::io::write(memory, &[0x90]).is_err());
    }
}
