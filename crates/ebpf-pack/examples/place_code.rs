//! Another JIT's author places code bytes of their own and calls them.
//!
//! `cargo run -p ebpf-pack --example place_code`
#![allow(clippy::print_stdout, reason = "the example shows what it did")]

use ebpf_image::{CodeOffset, EntryPoint, Image, ImageParts, Reloc, RelocKind, SourcePc, Symbol};
use ebpf_pack::{Pack, PackOptions};
use std::error::Error;

extern "sysv64" fn double(value: u64) -> u64 {
    value * 2
}

fn main() -> Result<(), Box<dyn Error>> {
    // fn(value: u64) -> u64 { double(value) + 1 }
    let code = vec![
        0x48, 0x83, 0xec, 0x08, // sub rsp, 8: keep the stack aligned for the call
        0xe8, 0, 0, 0, 0, // call native#0: filled in where the code is placed
        0x48, 0x83, 0xc4, 0x08, // add rsp, 8
        0x48, 0xff, 0xc0, // inc rax
        0xc3, // ret
    ];
    let image = Image::new(ImageParts {
        code,
        relocs: vec![Reloc { at: CodeOffset(5), kind: RelocKind::Call(Symbol::Native(0)) }],
        entries: vec![EntryPoint {
            offset: CodeOffset(0),
            pc: SourcePc(0),
            name: "double_plus_one".into(),
        }],
        pc_map: Default::default(),
    })?;

    let pack = Pack::new(PackOptions::default())?;
    let placed = pack.place(&image, &|symbol| match symbol {
        Symbol::Native(0) => Some(double as extern "sysv64" fn(u64) -> u64 as usize as u64),
        _ => None,
    })?;
    // SAFETY: the bytes above are a function of this type, and `placed` outlives the call.
    let double_plus_one: extern "sysv64" fn(u64) -> u64 =
        unsafe { std::mem::transmute(placed.entry_ptr()) };
    println!("double_plus_one(20) = {} at {:#x?}", double_plus_one(20), placed.code_range());
    println!("{:?}", pack.stats());
    Ok(())
}
