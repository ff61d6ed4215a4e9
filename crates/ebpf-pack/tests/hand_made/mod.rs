//! Machine code written by hand, and the one way in which the tests call it.
#![allow(dead_code, reason = "each test binary uses a part")]

use ebpf_image::{CodeOffset, EntryPoint, Image, ImageParts, Reloc, RelocKind, SourcePc, Symbol};
use ebpf_pack::Placed;

/// An image with its entry at the start.
pub(crate) fn image(code: Vec<u8>, relocs: Vec<Reloc>) -> Image {
    let entries = vec![EntryPoint { offset: CodeOffset(0), pc: SourcePc(0), name: "main".into() }];
    Image::new(ImageParts { code, relocs, entries, pc_map: Vec::new() }).expect("sound")
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

/// Lines of `/proc/self/maps`: permissions and the whole line.
pub(crate) fn maps() -> Vec<(String, String)> {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("procfs");
    let permissions = |line: &str| line.split_whitespace().nth(1).expect("permissions").to_owned();
    maps.lines().map(|line| (permissions(line), line.to_owned())).collect()
}
