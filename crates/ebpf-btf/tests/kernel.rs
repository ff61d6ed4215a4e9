//! The running kernel's own BTF, where it is published.

use ebpf_btf::{Btf, Kind, Type};

#[test]
fn the_running_kernel_is_read() {
    let path = "/sys/kernel/btf/vmlinux";
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => return println!("skipped: {path}: {error}"),
    };
    let btf = Btf::parse(&bytes).unwrap();

    let task = btf.find_by_name(Kind::Struct, "task_struct").unwrap();
    let comm =
        btf.members(task).unwrap().iter().find(|member| btf.name(member.name) == "comm").unwrap();
    assert_eq!(btf.size_of(comm.ty), Ok(16));
    // UAPI: `struct xdp_md` is six 32-bit fields.
    let xdp_md = btf.find_by_name(Kind::Struct, "xdp_md").unwrap();
    assert_eq!(btf.size_of(xdp_md), Ok(24));
    let names: Vec<_> =
        btf.members(xdp_md).unwrap().iter().map(|member| btf.name(member.name)).collect();
    assert_eq!(names[..3], ["data", "data_end", "data_meta"]);

    for (id, ty) in btf.types() {
        match ty {
            Type::Func(_) => assert!(btf.func_proto(id).is_ok(), "{id}"),
            Type::Struct(_) | Type::Union(_) => assert!(btf.size_of(id).is_ok(), "{id}"),
            _ => assert!(btf.resolve(id).is_ok(), "{id}"),
        }
    }
}
