//! What the benchmarks of placement do with machine code of their own: put it into pages, and call it.

#![allow(unsafe_code, reason = "code that is made here is mapped and called here")]

use std::error::Error;
use std::ffi::c_void;
use std::ptr;

use ebpf_runtime::image::Symbol;
use ebpf_runtime::image::{CodeOffset, EntryPoint, Image, ImageParts, Reloc, RelocKind, SourcePc};
use ebpf_runtime::pack::{PAGE_BYTES, Pack, PackError, Placed};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

type Function = extern "sysv64" fn() -> u64;

/// A program of which it is known what it does: it touches registers only, and returns a number.
#[derive(Debug, Clone)]
pub(super) struct Constant {
    image: Image,
    /// What it returns.
    pub(super) value: u64,
}

impl Constant {
    /// `mov eax, …; add eax, 1; …; ret`, in `len` bytes, all of which run; at least 16.
    pub(super) fn straight(first: u32, len: usize) -> Self {
        let mut code = vec![0xb8];
        code.extend(first.to_le_bytes());
        let mut value = first;
        while code.len() + 4 <= len {
            code.extend([0x83, 0xc0, 0x01]);
            value = value.wrapping_add(1);
        }
        code.resize(len - 1, 0x90);
        code.push(0xc3);
        Self { image: image(code, Vec::new()), value: value.into() }
    }

    /// `mov eax, iterations; dec eax; jnz; ret` in 16 bytes: runs in one place for a while. Returns 0.
    pub(super) fn spin(iterations: u32) -> Self {
        let mut code = vec![0xb8];
        code.extend(iterations.to_le_bytes());
        code.extend([0xff, 0xc8, 0x75, 0xfc, 0xc3]);
        code.resize(16, 0x90);
        Self { image: image(code, Vec::new()), value: 0 }
    }

    /// Two calls of a function of this binary, in 96 bytes. Returns what the second returns.
    pub(super) fn calling() -> Self {
        let call = [0xe8, 0, 0, 0, 0];
        let mut code = [&[0x48, 0x83, 0xec, 8][..], &call, &call].concat();
        code.resize(91, 0x90);
        code.extend([0x48, 0x83, 0xc4, 8, 0xc3]);
        let reloc = |at| Reloc { at: CodeOffset(at), kind: RelocKind::Call(Symbol::Helper(0)) };
        Self { image: image(code, vec![reloc(5), reloc(10)]), value: callee() }
    }

    /// Length of the code, in bytes.
    pub(super) fn len(&self) -> usize {
        self.image.code().len()
    }

    /// Places it.
    pub(super) fn place(&self, pack: &Pack) -> Result<Placed, PackError> {
        let address = callee as Function as usize as u64;
        pack.place(&self.image, &|_| Some(address))
    }
}

extern "sysv64" fn callee() -> u64 {
    7
}

fn image(code: Vec<u8>, relocs: Vec<Reloc>) -> Image {
    let entries = vec![EntryPoint { offset: CodeOffset(0), pc: SourcePc(0), name: String::new() }];
    Image::new(ImageParts { code, relocs, entries, pc_map: Default::default() })
        .expect("sound code")
}

/// Programs that lie where they can be called.
#[derive(Debug)]
pub(super) struct Callable<K> {
    functions: Vec<Function>,
    /// What keeps them there.
    _kept: Vec<K>,
}

impl<K> Callable<K> {
    /// Calls program number `index`.
    pub(super) fn call(&self, index: usize) -> u64 {
        self.functions[index]()
    }

    /// Calls the programs in this order. Gives the sum of what they return.
    pub(super) fn call_all(&self, order: &[u32]) -> u64 {
        order.iter().fold(0, |sum, &index| sum.wrapping_add(self.call(index as usize)))
    }
}

/// Programs in a pack.
pub(super) fn packed(pack: &Pack, programs: &[&Constant]) -> Result<Callable<Placed>, PackError> {
    let mut placed = Vec::with_capacity(programs.len());
    for program in programs {
        placed.push(program.place(pack)?);
    }
    // SAFETY: the code is that of a `Constant`, which is such a function; `_kept` keeps it as long as the pointer is there.
    let function = |placed: &Placed| unsafe { std::mem::transmute(placed.entry_ptr()) };
    Ok(Callable { functions: placed.iter().map(function).collect(), _kept: placed })
}

/// Programs in a page each, with a guard page behind it or without.
pub(super) fn own_pages(
    programs: &[&Constant],
    guarded: bool,
) -> Result<Callable<OwnPage>, Box<dyn Error>> {
    let mut pages = Vec::with_capacity(programs.len());
    for program in programs {
        pages.push(OwnPage::new(program.image.code(), guarded)?);
    }
    // SAFETY: as in `packed`.
    let function = |page: &OwnPage| unsafe { std::mem::transmute(page.start) };
    Ok(Callable { functions: pages.iter().map(function).collect(), _kept: pages })
}

/// A page with code in it, as of a loader that gives each program a mapping: written, then made executable.
#[derive(Debug)]
pub(super) struct OwnPage {
    start: *mut c_void,
    len: usize,
}

impl OwnPage {
    fn new(code: &[u8], guarded: bool) -> Result<Self, rustix::io::Errno> {
        assert!(code.len() <= PAGE_BYTES, "a page holds the program");
        let len = if guarded { 2 * PAGE_BYTES } else { PAGE_BYTES };
        let (none, writable) = (ptr::null_mut(), ProtFlags::READ | ProtFlags::WRITE);
        let protection = if guarded { ProtFlags::empty() } else { writable };
        // SAFETY: without an address, a new mapping replaces nothing.
        let start = unsafe { mmap_anonymous(none, len, protection, MapFlags::PRIVATE) }?;
        let page = Self { start, len };
        if guarded {
            let writable = MprotectFlags::READ | MprotectFlags::WRITE;
            // SAFETY: the page is ours and nothing refers to it.
            unsafe { mprotect(start, PAGE_BYTES, writable) }?;
        }
        // SAFETY: the page is ours, writable, and long enough, by the assertion.
        unsafe { start.cast::<u8>().copy_from_nonoverlapping(code.as_ptr(), code.len()) };
        // SAFETY: the page is ours, and nothing refers to it.
        unsafe { mprotect(start, PAGE_BYTES, MprotectFlags::READ | MprotectFlags::EXEC) }?;
        Ok(page)
    }
}

impl Drop for OwnPage {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and its code is not called any more.
        let _ = unsafe { munmap(self.start, self.len) };
    }
}
