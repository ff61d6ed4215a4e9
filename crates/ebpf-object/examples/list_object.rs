//! Lists the programs and maps of an object:
//! `cargo run -p ebpf-object --example list_object -- fixtures/xdp/xdp_firewall.o`

use std::error::Error;
use std::io::{Write, stdout};

use ebpf_object::Object;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: list_object FILE")?;
    let object = Object::parse(&std::fs::read(path)?)?;
    let mut out = stdout().lock();
    writeln!(out, "license {}", object.license().unwrap_or("(none)"))?;
    for (index, map) in object.maps().iter().enumerate() {
        let desc = map.desc;
        let (key, value, max) = (desc.key_size, desc.value_size, desc.max_entries);
        writeln!(
            out,
            "map {index} {}: {} key {key} value {value} max_entries {max} flags {:#x}",
            map.name, desc.map_type, desc.flags
        )?;
    }
    for info in object.programs() {
        let kind = info.kind.map_or("unknown type".into(), |kind| kind.program_type.to_string());
        writeln!(out, "program {} in {}: {kind}", info.name, info.section)?;
        match object.program(&info.name) {
            Err(error) => writeln!(out, "    {error}")?,
            Ok(linked) => {
                for subprog in linked.program.subprogs() {
                    let name = subprog.info.name.as_deref().unwrap_or("?");
                    let line = linked
                        .program
                        .lines()
                        .at(subprog.start)
                        .map(|line| format!(" {}:{}", line.file, line.line));
                    writeln!(
                        out,
                        "    {}..{} {name}{}",
                        subprog.start,
                        subprog.end,
                        line.unwrap_or_default()
                    )?;
                }
            }
        }
    }
    Ok(())
}
