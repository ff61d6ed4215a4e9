//! Names of placed code for profilers.

use crate::Placed;
use ebpf_image::Image;
use std::io::{self, Write};

/// Writes a line for each entry point of `image`, which is placed at `placed`, as `perf` reads them from
/// `/tmp/perf-PID.map`: start and length in hexadecimal, and the name. Characters that would end the line or the name's
/// word are replaced; an entry without name is called after its instruction.
///
/// The file is the host's to open, once, for appending. What is freed stays in it: `perf` takes the last line for an
/// address.
///
/// # Errors
/// Whatever `out` says.
pub fn write_perf_map(out: &mut impl Write, placed: &Placed, image: &Image) -> io::Result<()> {
    let start = placed.code_range().start;
    let mut entries: Vec<_> = image.entries().iter().collect();
    entries.sort_by_key(|entry| entry.offset);
    let ends = entries.iter().skip(1).map(|next| next.offset.index());
    let ends: Vec<usize> = ends.chain([image.code().len()]).collect();
    for (entry, end) in entries.into_iter().zip(ends) {
        let (at, len) = (start + u64::from(entry.offset.0), end - entry.offset.index());
        let name: String = entry.name.chars().map(printable).collect();
        if name.is_empty() {
            writeln!(out, "{at:x} {len:x} bpf_pc_{}", entry.pc)?;
        } else {
            writeln!(out, "{at:x} {len:x} {name}")?;
        }
    }
    Ok(())
}

fn printable(character: char) -> char {
    if character.is_whitespace() || character.is_control() { '_' } else { character }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Pack, PackOptions};
    use ebpf_image::{CodeOffset, EntryPoint, ImageParts, SourcePc};

    #[test]
    fn each_entry_has_a_line_up_to_the_next_one() {
        let entry = |offset, pc, name: &str| EntryPoint {
            offset: CodeOffset(offset),
            pc: SourcePc(pc),
            name: name.into(),
        };
        let image = Image::new(ImageParts {
            code: vec![0xc3; 0x30],
            relocs: vec![],
            entries: vec![entry(0x10, 0, "main"), entry(0, 5, ""), entry(0x2f, 9, "a b\nc")],
            pc_map: Default::default(),
        });
        let image = image.expect("sound");
        let pack = Pack::new(PackOptions::default()).expect("executable memory");
        let placed = pack.place(&image, &|_| None).expect("room");
        let mut text = Vec::new();
        write_perf_map(&mut text, &placed, &image).expect("a vector takes everything");
        let start = placed.code_range().start;
        let expected = format!(
            "{start:x} 10 bpf_pc_5\n{:x} 1f main\n{:x} 1 a_b_c\n",
            start + 0x10,
            start + 0x2f
        );
        assert_eq!(String::from_utf8(text), Ok(expected));
    }
}
