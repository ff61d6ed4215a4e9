//! Lists the functions, or the structs, of a raw BTF file, such as the running kernel's:
//! `cargo run -p ebpf-btf --example dump_btf -- /sys/kernel/btf/vmlinux [structs]`

use std::error::Error;
use std::io::{Write, stdout};

use ebpf_btf::{Btf, Type};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().unwrap_or_else(|| "/sys/kernel/btf/vmlinux".into());
    let structs = args.next().is_some_and(|what| what == "structs");

    let btf = Btf::parse(&std::fs::read(path)?)?;
    let mut out = stdout().lock();
    for (_, ty) in btf.types() {
        match ty {
            Type::Func(func) if !structs => {
                let params =
                    btf.func_proto(func.proto)?.params.iter().map(|param| btf.name(param.name));
                writeln!(
                    out,
                    "{}({})",
                    btf.name(func.name),
                    params.collect::<Vec<_>>().join(", ")
                )?;
            }
            Type::Struct(composite) if structs => {
                writeln!(
                    out,
                    "struct {} {{ // {} bytes",
                    btf.name(composite.name),
                    composite.size
                )?;
                for member in &composite.members {
                    writeln!(out, "    +{:<6} {}", member.bit_offset / 8, btf.name(member.name))?;
                }
                writeln!(out, "}}")?;
            }
            _ => {}
        }
    }
    Ok(())
}
