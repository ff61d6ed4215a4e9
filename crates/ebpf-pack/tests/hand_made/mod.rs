//! Machine code written by hand, and the one way in which the tests call it.
#![allow(dead_code, reason = "each test binary uses a part")]

use ebpf_image::{CodeOffset, EntryPoint, Image, ImageParts, Reloc, RelocKind, SourcePc, Symbol};
use ebpf_pack::{Entry, Placed};

/// An image with its entry at the start.
pub(crate) fn image(code: Vec<u8>, relocs: Vec<Reloc>) -> Image {
    let entries = vec![EntryPoint { offset: CodeOffset(0), pc: SourcePc(0), name: "main".into() }];
    Image::new(ImageParts { code, relocs, entries, pc_map: Default::default() }).expect("sound")
}

/// `mov eax, value; ret`
pub(crate) fn returns(value: u32) -> Image {
    let mut code = vec![0xb8];
    code.extend(value.to_le_bytes());
    code.push(0xc3);
    image(code, Vec::new())
}

/// `sub rsp, 8; call helper#1; add rsp, 8; ret`
pub(crate) fn calls_helper() -> Image {
    let code =
        [&[0x48, 0x83, 0xec, 8, 0xe8, 0, 0, 0, 0][..], &[0x48, 0x83, 0xc4, 8, 0xc3]].concat();
    image(code, vec![Reloc { at: CodeOffset(5), kind: RelocKind::Call(Symbol::Helper(1)) }])
}

/// `sub rsp, 8; call helper#1; add rsp, 8; inc rax; ret`
pub(crate) fn one_more_than_helper() -> Image {
    let code = [
        &[0x48, 0x83, 0xec, 8, 0xe8, 0, 0, 0, 0][..],
        &[0x48, 0x83, 0xc4, 8, 0x48, 0xff, 0xc0, 0xc3],
    ];
    let call = Reloc { at: CodeOffset(5), kind: RelocKind::Call(Symbol::Helper(1)) };
    image(code.concat(), vec![call])
}

/// The program's entry.
pub(crate) fn entry(placed: &Placed) -> Entry {
    placed.entry(0).expect("each image has one")
}

/// Runs `body` in a child process. Returns the child's wait status; `body` says whether what it saw was right.
pub(crate) fn in_child(body: impl FnOnce() -> bool) -> i32 {
    // SAFETY: the child runs `body` and leaves without unwinding or running exit handlers. Memory allocation in it is sound with
    // the C libraries Rust uses on Linux, and `body` takes no lock that another thread could hold.
    match unsafe { libc::fork() } {
        -1 => panic!("fork failed"),
        0 => {
            let right =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(false);
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(if right { 0 } else { 1 }) }
        }
        child => {
            let mut status = 0;
            // SAFETY: `status` is valid for the call, and the child is ours.
            let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
            assert_eq!(waited, child);
            status
        }
    }
}

/// The wait status of a child that saw what it should.
pub(crate) const RIGHT: i32 = 0;

/// Resolver of images without relocations.
pub(crate) fn nothing(_: Symbol) -> Option<u64> {
    None
}

/// Runs code whose type is `extern "sysv64" fn() -> u64`.
pub(crate) fn call(placed: &Placed) -> u64 {
    // SAFETY: the images above are such functions, touch no memory but their stack, and `placed` keeps the code in place.
    let function: extern "sysv64" fn() -> u64 = unsafe { std::mem::transmute(placed.entry_ptr()) };
    function()
}

/// The bytes at an address of an arena that is still mapped, such as a pack's first.
pub(crate) fn bytes_at(address: u64, len: usize) -> Vec<u8> {
    let start = std::ptr::with_exposed_provenance::<u8>(address as usize);
    // SAFETY: the callers ask for committed parts of a living arena, which are readable, and write to it from no other
    // thread meanwhile.
    (0..len).map(|index| unsafe { start.add(index).read_volatile() }).collect()
}

/// Mappings and descriptors that belong to packs.
pub(crate) fn held() -> (usize, usize) {
    let descriptors = std::fs::read_dir("/proc/self/fd").expect("procfs").count();
    (maps().iter().filter(|(_, line)| line.contains("memfd:ebpf-pack")).count(), descriptors)
}

/// Lines of `/proc/self/maps`: permissions and the whole line.
pub(crate) fn maps() -> Vec<(String, String)> {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("procfs");
    let permissions = |line: &str| line.split_whitespace().nth(1).expect("permissions").to_owned();
    maps.lines().map(|line| (permissions(line), line.to_owned())).collect()
}
