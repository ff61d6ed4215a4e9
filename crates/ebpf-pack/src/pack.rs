//! The pack: what its users see of it.

use crate::arena::Arena;
use crate::backing::Backing;
use crate::link::Plan;
use crate::os::{self, Owner};
use crate::position::Position;
use crate::room::Shared;
use crate::stats::{Capabilities, PackStats};
use crate::{PackError, Placed, Target};
use ebpf_image::{Image, Symbol};
use std::sync::Arc;

/// Address space of an arena unless chosen otherwise, in bytes: one huge page.
pub const ARENA_BYTES: usize = 2 << 20;

/// Largest [`PackOptions::arena_bytes`]. (An image larger than an arena gets one of its own size.)
pub const MAX_ARENA_BYTES: usize = 1 << 30;

/// How a pack gets memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackOptions {
    /// Address space of each arena, in bytes; rounded up to a multiple of [`PAGE_BYTES`](crate::PAGE_BYTES). From 1 to
    /// [`MAX_ARENA_BYTES`].
    pub arena_bytes: usize,
    /// Where arenas lie; by default, near the text of the binary this crate is linked into.
    pub position: Position,
    /// What the memory is; by default, the best that the system has.
    pub backing: Option<Backing>,
    /// Put huge pages under an arena once programs fill more than half of it, where the system has some to give. They
    /// help where code that runs covers more pages than the processor's instruction TLB holds, cost up to half of the arena in
    /// memory, and make whoever runs in it at that moment wait for a few hundred microseconds.
    pub huge_pages: bool,
}

impl Default for PackOptions {
    fn default() -> Self {
        let text = os::sync_core as fn() -> _ as usize as u64;
        Self {
            arena_bytes: ARENA_BYTES,
            position: Position::Near(text),
            backing: None,
            huge_pages: false,
        }
    }
}

/// Shared executable memory for many programs. Clones are handles to the same pack.
///
/// Placing is possible from all threads at once, and never disturbs code that runs. See the
/// [crate documentation](crate) for the rules it keeps.
#[derive(Clone, Debug)]
pub struct Pack {
    shared: Arc<Shared>,
    capabilities: Arc<Capabilities>,
}

impl Pack {
    /// Makes a pack with one arena, on the best [`Backing`] that the system has.
    ///
    /// # Errors
    /// [`PackError::ArenaSize`]; [`PackError::Position`]; [`PackError::Os`] where the system refuses executable memory in every
    /// way (or in the one that was chosen), or where memory, address space or descriptors have run out.
    pub fn new(options: PackOptions) -> Result<Self, PackError> {
        if !(1..=MAX_ARENA_BYTES).contains(&options.arena_bytes) {
            return Err(PackError::ArenaSize { bytes: options.arena_bytes });
        }
        let owner = Arc::new(Owner::new()?);
        let sync_core = os::register_sync_core().is_ok();
        let (arena, backing, refused) = probe(&owner, &options)?;
        let capabilities = Arc::new(Capabilities { backing, refused, sync_core });
        let shared = Arc::new(Shared::new(owner, options, backing, sync_core, arena));
        Ok(Self { shared, capabilities })
    }

    /// Places an image where it can run, with every symbol at the address that `resolve` gives for it: the same for a
    /// symbol each time. Addresses of functions must stay valid for as long as the code may be called.
    ///
    /// # Errors
    /// [`PackError::UnknownSymbol`] where `resolve` gives nothing, [`PackError::Forked`] in a child of the process that made
    /// the pack, [`PackError::Sealed`], [`PackError::TooLarge`], [`PackError::Position`], and [`PackError::Os`] where memory
    /// or address space run out. Nothing is placed then.
    pub fn place(
        &self,
        image: &Image,
        resolve: &dyn Fn(Symbol) -> Option<u64>,
    ) -> Result<Placed, PackError> {
        self.place_linked(image, &|symbol| resolve(symbol).map(Target::from))
    }

    /// As [`place`](Self::place), with symbols that may stand for an [`Entry`](crate::Entry) of placed code, which is kept
    /// as long as this one, and that may be [replaceable](Target::replaceable).
    ///
    /// Images that keep each other in a circle are never freed; break it with a [`CallSlot`](crate::CallSlot).
    ///
    /// # Errors
    /// As for [`place`](Self::place).
    pub fn place_linked(
        &self,
        image: &Image,
        resolve: &dyn Fn(Symbol) -> Option<Target>,
    ) -> Result<Placed, PackError> {
        // Before any lock: in a child, another thread of the parent may have held it for ever.
        self.shared.owner.check()?;
        let plan = Plan::new(image, resolve)?;
        let (allocation, links) = Shared::place(&self.shared, plan)?;
        Ok(Placed::new(allocation, image, links))
    }

    /// Gives up the write view, for ever: what is placed stays and runs, and nothing in this process has a writable
    /// address of it. Nothing can be placed or replaced any more; an arena is returned when all programs in it are
    /// freed.
    ///
    /// # Errors
    /// [`PackError::Forked`].
    pub fn seal(&self) -> Result<(), PackError> {
        self.shared.seal()
    }

    /// What the pack could get from the system.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// What the pack holds now. (Not for children of a process with several threads: one of them may have been placing
    /// when the child was made.)
    #[must_use]
    pub fn stats(&self) -> PackStats {
        self.shared.stats()
    }
}

/// What [`probe`] finds: the first arena, if it can be kept; what it is; what was refused.
type Probed = (Option<Arena>, Backing, Vec<(Backing, PackError)>);

/// Tries the backings, best first, by making an arena of each.
fn probe(owner: &Arc<Owner>, options: &PackOptions) -> Result<Probed, PackError> {
    let candidates = match &options.backing {
        Some(backing) => std::slice::from_ref(backing),
        None => &Backing::ALL,
    };
    let mut refused = Vec::new();
    for &backing in candidates {
        match try_backing(owner, options, backing) {
            Ok(arena) => return Ok((arena, backing, refused)),
            Err(error) if error.is_missing_facility() => refused.push((backing, error)),
            Err(error) => return Err(error),
        }
    }
    let (_, last) = refused.pop().expect("invariant: there is a candidate");
    Err(last)
}

fn try_backing(
    owner: &Arc<Owner>,
    options: &PackOptions,
    backing: Backing,
) -> Result<Option<Arena>, PackError> {
    let arena = |len| Arena::new(Arc::clone(owner), backing, options.position, len);
    match backing {
        Backing::Memfd | Backing::Alias => arena(options.arena_bytes).map(Some),
        // Each placement gets pages of its own; this one only shows that they can become executable.
        Backing::OneShot => arena(1).and_then(|mut arena| arena.seal()).map(|()| None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::{PAGE_BYTES, refuse_nth};
    use ebpf_image::{CodeOffset, EntryPoint, ImageParts, Reloc, RelocKind, SourcePc};
    use std::cell::RefCell;

    fn image(len: usize) -> Image {
        let entries =
            vec![EntryPoint { offset: CodeOffset(0), pc: SourcePc(0), name: String::new() }];
        let code = vec![0xc3; len];
        Image::new(ImageParts { code, relocs: vec![], entries, pc_map: Default::default() })
            .expect("sound")
    }

    fn place(pack: &Pack, len: usize) -> Result<Placed, PackError> {
        pack.place(&image(len), &|_| None)
    }

    fn options(backing: Backing) -> PackOptions {
        PackOptions {
            backing: Some(backing),
            position: Position::Anywhere,
            arena_bytes: 4 * PAGE_BYTES,
            ..PackOptions::default()
        }
    }

    /// Refuses the first system call of `step`, then the second, and so on, until it succeeds without a refusal. Returns
    /// how many there were.
    fn refuse_each<T>(
        mut step: impl FnMut() -> Result<T, PackError>,
        mut after: impl FnMut(),
    ) -> usize {
        for nth in 0..100 {
            let (result, refused) = refuse_nth(nth, &mut step);
            if !refused {
                assert!(result.is_ok());
                return nth;
            }
            match result.map(drop) {
                Ok(()) => {}
                Err(error) => assert!(matches!(error, PackError::Os { errno: 12, .. }), "{error}"),
            }
            after();
        }
        panic!("a hundred system calls");
    }

    #[test]
    fn whatever_is_refused_no_pack_is_half_made() {
        for backing in Backing::ALL {
            let calls = refuse_each(|| Pack::new(options(backing)), || {});
            assert!(calls >= 4, "{backing}: {calls} calls");
        }
    }

    #[test]
    fn whatever_is_refused_a_placement_is_whole_or_not_there() {
        for backing in Backing::ALL {
            let pack = Pack::new(options(backing)).expect("executable memory");
            let kept = place(&pack, PAGE_BYTES).expect("room");
            let before = pack.stats();
            // Growth of the arena, then a second arena.
            for len in [PAGE_BYTES, 4 * PAGE_BYTES] {
                let check = || {
                    let after = pack.stats();
                    assert_eq!(after.programs, before.programs, "{backing}");
                    assert_eq!(after.used_bytes, before.used_bytes, "{backing}");
                };
                let calls = refuse_each(|| place(&pack, len), check);
                assert!(calls >= 1, "{backing}: {calls} calls");
            }
            assert_eq!(pack.stats().programs, 1);
            drop(kept);
        }
    }

    #[test]
    fn whatever_is_refused_a_callee_that_nobody_else_keeps_is_freed() {
        // call helper#0; ret
        let caller = Image::new(ImageParts {
            code: vec![0xe8, 0, 0, 0, 0, 0xc3],
            relocs: vec![Reloc { at: CodeOffset(1), kind: RelocKind::Call(Symbol::Helper(0)) }],
            entries: image(1).entries().to_vec(),
            pc_map: Default::default(),
        });
        let caller = caller.expect("sound");
        for backing in Backing::ALL {
            let pack = Pack::new(options(backing)).expect("executable memory");
            let step = || {
                let callee = place(&pack, 4 * PAGE_BYTES)?;
                let entry = RefCell::new(callee.entry(0));
                drop(callee);
                pack.place_linked(&caller, &|_| entry.take().map(Target::from))
            };
            refuse_each(step, || assert_eq!(pack.stats().programs, 0, "{backing}"));
        }
    }

    #[test]
    fn a_barrier_that_fails_leaves_room_resting() {
        let pack = Pack::new(PackOptions { arena_bytes: 1, ..options(Backing::Memfd) });
        let pack = pack.expect("executable memory");
        let kept = place(&pack, 16).expect("room");
        drop(place(&pack, PAGE_BYTES - 16).expect("room"));
        let resting = pack.stats().resting_bytes;
        assert_eq!(resting, PAGE_BYTES - 16);
        let (other, refused) = refuse_nth(0, || place(&pack, 16));
        assert!(refused, "the first call is the barrier");
        assert_eq!((pack.stats().resting_bytes, pack.stats().arenas), (resting, 2));
        drop((kept, other));
    }

    #[test]
    fn huge_pages_are_asked_for_once_an_arena_is_half_full() {
        let huge = PackOptions {
            arena_bytes: ARENA_BYTES,
            huge_pages: true,
            position: Position::Anywhere,
            ..PackOptions::default()
        };
        let pack = Pack::new(huge).expect("executable memory");
        let half = place(&pack, ARENA_BYTES / 2).expect("room");
        assert_eq!(pack.stats().committed_bytes, ARENA_BYTES / 2);
        let more = place(&pack, 1).expect("room");
        assert_eq!(pack.stats().committed_bytes, ARENA_BYTES);
        // SAFETY: the code is a single `ret`, and `more` keeps it.
        let function: extern "sysv64" fn() = unsafe { std::mem::transmute(more.entry_ptr()) };
        function();
        drop((half, more));
    }
}
