//! GDB's interface for code that no file has ("JIT Compilation Interface" in its manual): a list of
//! symbol files in memory, and a function at which the debugger stops to look at it.
//!
//! The file of a program is an ELF file without code: a section where the code is, and a symbol for
//! each function.

#![allow(unsafe_code, reason = "a debugger reads this list by the names and layout it knows")]

use std::ptr;
use std::sync::{Mutex, PoisonError};

use ebpf_image::{EntryPoint, Image};
use ebpf_pack::Placed;
use object::elf;
use object::write::elf::{FileHeader, SectionHeader, Sym, Writer};

/// A symbol file in memory.
#[repr(C)]
struct File {
    next: *mut File,
    previous: *mut File,
    start: *const u8,
    len: u64,
}

/// What happened to [`Descriptor::relevant`].
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
enum Action {
    Nothing = 0,
    Registered = 1,
    Unregistered = 2,
}

/// All symbol files.
#[repr(C)]
struct Descriptor {
    version: u32,
    action: u32,
    relevant: *mut File,
    first: *mut File,
}

/// The debugger finds it by its name.
#[unsafe(export_name = "__jit_debug_descriptor")]
static mut DESCRIPTOR: Descriptor = Descriptor {
    version: 1,
    action: Action::Nothing as u32,
    relevant: ptr::null_mut(),
    first: ptr::null_mut(),
};

/// The debugger sets a breakpoint here; what is done here is nothing, but it may not be left out.
#[unsafe(export_name = "__jit_debug_register_code")]
#[inline(never)]
extern "C" fn register_code() {
    std::hint::black_box(&raw const DESCRIPTOR);
}

/// Held by whoever changes the list.
static LIST: Mutex<()> = Mutex::new(());

/// A program that the debugger knows, until this is dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    file: *mut File,
    /// What the file refers to.
    _bytes: Box<[u8]>,
}

// SAFETY: the file is changed under the lock only, and freed by the last owner.
unsafe impl Send for Registration {}
// SAFETY: nothing can be done with a shared registration.
unsafe impl Sync for Registration {}

impl Registration {
    /// Tells the debugger, if there is one, of a placed program.
    ///
    /// # Errors
    /// The symbol file would be too large.
    pub(crate) fn new(placed: &Placed, image: &Image) -> Result<Self, object::write::Error> {
        let bytes = symbol_file(placed.code_range().start, image)?.into_boxed_slice();
        let (start, len) = (bytes.as_ptr(), bytes.len() as u64);
        let file = File { next: ptr::null_mut(), previous: ptr::null_mut(), start, len };
        let file = Box::into_raw(Box::new(file));
        let _list = LIST.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the lock is held, and all files of the list are there until they are taken out.
        unsafe {
            (*file).next = DESCRIPTOR.first;
            if let Some(next) = DESCRIPTOR.first.as_mut() {
                next.previous = file;
            }
            DESCRIPTOR.first = file;
            tell(Action::Registered, file);
        }
        Ok(Self { file, _bytes: bytes })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let _list = LIST.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: as for `new`; the file is in the list since then, and nobody else frees it.
        unsafe {
            let File { next, previous, .. } = *self.file;
            match previous.as_mut() {
                Some(previous) => previous.next = next,
                None => DESCRIPTOR.first = next,
            }
            if let Some(next) = next.as_mut() {
                next.previous = previous;
            }
            tell(Action::Unregistered, self.file);
            drop(Box::from_raw(self.file));
        }
    }
}

/// Lets the debugger look at the list.
///
/// # Safety
/// The lock is held, and `file` is a file.
unsafe fn tell(action: Action, file: *mut File) {
    // SAFETY: the caller's promise.
    unsafe {
        DESCRIPTOR.action = action as u32;
        DESCRIPTOR.relevant = file;
        register_code();
        DESCRIPTOR.action = Action::Nothing as u32;
        DESCRIPTOR.relevant = ptr::null_mut();
    }
}

/// An ELF file with a symbol for each entry of an image whose code is at `start`.
fn symbol_file(start: u64, image: &Image) -> Result<Vec<u8>, object::write::Error> {
    let names: Vec<String> = image.entries().iter().map(name).collect();
    let mut bytes = Vec::new();
    let mut writer = Writer::new(object::Endianness::Little, true, &mut bytes);
    writer.reserve_file_header();
    writer.reserve_null_section_index();
    let text_name = writer.add_section_name(b".text");
    let text = writer.reserve_section_index();
    writer.reserve_null_symbol_index();
    let names: Vec<_> = names.iter().map(|name| writer.add_string(name.as_bytes())).collect();
    for _ in &names {
        writer.reserve_symbol_index(Some(text));
    }
    writer.reserve_symtab_section_index();
    writer.reserve_symtab();
    writer.reserve_strtab_section_index();
    writer.reserve_strtab()?;
    writer.reserve_shstrtab_section_index();
    writer.reserve_shstrtab()?;
    writer.reserve_section_headers();

    writer.write_file_header(&FileHeader {
        os_abi: elf::ELFOSABI_NONE,
        abi_version: 0,
        e_type: elf::ET_EXEC,
        e_machine: elf::EM_X86_64,
        e_entry: 0,
        e_flags: Default::default(),
    })?;
    writer.write_null_symbol();
    for (entry, name) in image.entries().iter().zip(names) {
        let symbol = Sym {
            st_name: writer.string_offset(Some(name)),
            section: Some(text.0),
            st_info: elf::SymbolInfo::new(elf::STB_GLOBAL, elf::STT_FUNC),
            st_other: Default::default(),
            st_shndx: Default::default(),
            st_value: start + u64::from(entry.offset.0),
            st_size: len(entry, image),
        };
        writer.write_symbol(&symbol);
    }
    writer.write_strtab();
    writer.write_shstrtab();
    writer.write_null_section_header();
    let section = SectionHeader {
        sh_name: writer.section_name_offset(Some(text_name)),
        sh_type: elf::SHT_NOBITS,
        sh_flags: elf::SHF_ALLOC | elf::SHF_EXECINSTR,
        sh_addr: start,
        sh_offset: 0,
        sh_size: image.code().len() as u64,
        sh_link: 0,
        sh_info: 0,
        sh_addralign: 16,
        sh_entsize: 0,
    };
    writer.write_section_header(&section);
    writer.write_symtab_section_header(1);
    writer.write_strtab_section_header();
    writer.write_shstrtab_section_header();
    Ok(bytes)
}

fn name(entry: &EntryPoint) -> String {
    if entry.name.is_empty() { format!("bpf_pc_{}", entry.pc) } else { entry.name.clone() }
}

/// Up to the next entry, or the end of the code.
fn len(entry: &EntryPoint, image: &Image) -> u64 {
    let offsets = image.entries().iter().map(|other| other.offset.index());
    let next = offsets.filter(|&other| other > entry.offset.index()).min();
    (next.unwrap_or(image.code().len()) - entry.offset.index()) as u64
}
