//! Strings that helpers read and the verifier knows: in arrays that nobody can write any more.

use ebpf_isa::Reg;
use ebpf_isa::uapi::{MapType, map_flags};

use crate::error::{Checked, Payload, Unsupported};
use crate::state::{MapValueRef, PointerKind};
use crate::step::Machine;

/// Where `snprintf` has its format, and the size of the numbers that it prints.
const FORMAT: Reg = Reg::R3;
const NUMBERS_SIZE: Reg = Reg::R5;

impl<'a> Machine<'a> {
    /// The string that a register, a value of a map, points to, without the zero at its end.
    pub(super) fn check_string(&self, reg: Reg) -> Checked<&'a [u8]> {
        let Some(pointer) = self.value(reg).as_pointer() else { return Ok(&[]) };
        let PointerKind::MapValue(MapValueRef { map, .. }) = pointer.kind else { return Ok(&[]) };
        let (info, pointer) = (self.map(map), *pointer);
        let is_array = info.desc.map_type == MapType::Array;
        let is_read_only = info.desc.flags & map_flags::RDONLY_PROG != 0;
        if is_read_only && !is_array {
            // Whether it is frozen is not known.
            return Err(Unsupported::FrozenContents.into());
        }
        let contents = info.frozen.as_deref().filter(|_| is_read_only);
        let contents = contents.ok_or(Payload::StringWritable { register: reg })?;
        let Some(off) = pointer.const_off() else {
            return Err(Payload::StringPlace { register: reg }.into());
        };
        let value_size = i64::from(info.desc.value_size);
        let size = value_size - i64::from(pointer.off);
        self.check_map_value(reg, map, &pointer, 0, size, false)?;
        if info.desc.max_entries != 1 {
            return Err(Payload::StringElements { map }.into());
        }
        let bytes = usize::try_from(off)
            .ok()
            .and_then(|off| contents.get(off..usize::try_from(info.desc.value_size).ok()?));
        let bytes = bytes.ok_or(Unsupported::FrozenContents)?;
        let end = bytes.iter().position(|&byte| byte == 0);
        Ok(&bytes[..end.ok_or(Payload::StringEnd { register: reg })?])
    }

    /// Checks the format of `snprintf` against the numbers that there are: as many as are known to be,
    /// of eight bytes each.
    pub(super) fn check_format(&self) -> Checked {
        let size = self.value(NUMBERS_SIZE).as_scalar().map_or(0, |size| size.bounds.tnum().value);
        if !size.is_multiple_of(8) {
            return Err(Unsupported::FormatNumbers.into());
        }
        let arguments = size / 8;
        match is_format(self.check_string(FORMAT)?, arguments) {
            true => Ok(()),
            false => Err(Payload::FormatString { arguments }.into()),
        }
    }
}

/// Whether a string is a format that takes at most so many numbers.
fn is_format(format: &[u8], arguments: u64) -> bool {
    let (mut at, mut taken) = (0, 0);
    // Behind the end there is a zero.
    let byte = |at: usize| format.get(at).copied().unwrap_or(0);
    while at < format.len() {
        if !is_text(byte(at)) {
            return false;
        }
        match (byte(at), byte(at + 1)) {
            (b'%', b'%') => at += 2,
            (b'%', _) => {
                taken += 1;
                match conversion(&format[at + 1..]) {
                    Some(len) if taken <= arguments => at += 1 + len,
                    _ => return false,
                }
            }
            _ => at += 1,
        }
    }
    true
}

/// Bytes of UTF-8, and what can be printed.
const fn is_text(byte: u8) -> bool {
    !byte.is_ascii() || byte.is_ascii_graphic() || is_space(byte)
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r' | 0xa0)
}

/// As the kernel has it, for which bytes are Latin-1.
const fn is_punctuation(byte: u8) -> bool {
    byte.is_ascii_punctuation() || matches!(byte, 0xa1..=0xbf | 0xd7 | 0xf7)
}

/// The length of a conversion behind its `%`: flags, a width, and what is printed; `None` where there is
/// none that the kernel knows.
fn conversion(text: &[u8]) -> Option<usize> {
    let byte = |at: usize| text.get(at).copied().unwrap_or(0);
    let ends = |at: usize| byte(at) == 0 || is_space(byte(at)) || is_punctuation(byte(at));
    let flags = text.iter().take_while(|byte| b"0+- ".contains(byte)).count();
    let width = text[flags..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let at = flags + width;
    match (byte(at), byte(at + 1), byte(at + 2)) {
        (b'c', ..) => Some(at + 1),
        (b's', ..) => ends(at + 1).then_some(at + 1),
        (b'p', b'k' | b'u', b's') => ends(at + 3).then_some(at + 3),
        (b'p', b'K' | b'x' | b's' | b'S' | b'B', _) => Some(at + 2),
        (b'p', b'i' | b'I', b'4' | b'6') => Some(at + 3),
        (b'p', ..) => ends(at + 1).then_some(at + 1),
        _ => {
            let long = text[at..].iter().take(2).take_while(|&&byte| byte == b'l').count();
            let is_number = b"iduxX".contains(&byte(at + long));
            is_number.then_some(at + long + 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_that_the_kernel_takes() {
        let known =
            ["", "abc", "%d", "%%", "%s", "%s.", "%s x", "%p", "%px", "%pKx", "%pB", "%pks"];
        let numbers = ["%ld", "%lld", "%lx", "%05d", "%-5d", "%+d", "% d", "%1234567890d", "%5p"];
        let others = ["%pI4", "%pi6", "%pI44", "%c", "%cx", "%5c", "%-10s", "a\tb\n", "a\u{80}b"];
        for format in known.into_iter().chain(numbers).chain(others) {
            assert!(is_format(format.as_bytes(), 1), "{format}");
        }
    }

    #[test]
    fn formats_that_it_does_not_take() {
        let unknown =
            ["%", "%%%", "%sx", "%pk", "%pu", "%pksx", "%pI5", "%pi", "%pM", "%pz", "%llld"];
        let others =
            ["%l", "%o", "%f", "%#x", "%.3d", "%5", "%*d", "%hd", "%zd", "%D", "%lc", "%ls"];
        let text = ["a\u{1}b", "a\u{7f}b", "%d\u{1}", "%d %d", "%pB%d", "%d%"];
        for format in unknown.into_iter().chain(others).chain(text) {
            assert!(!is_format(format.as_bytes(), 1), "{format}");
        }
        assert!(!is_format(b"%d", 0) && is_format(b"%d %d", 2));
        assert!(is_format(b"%p\xa1", 1) && is_format(b"%p\xa0", 1) && !is_format(b"%p\x80", 1));
        assert!(!is_format(b"%s\xff", 1) && !is_format(b"%\x80", 1));
    }
}
