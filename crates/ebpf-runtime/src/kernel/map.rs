//! Maps in the kernel.

#![allow(unsafe_code, reason = "the sizes of elements are held here")]

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use ebpf_isa::uapi::MapType;

use super::error::{Errno, KernelError};
use super::sys::{self, MapCreate};

/// The largest map that is made, in bytes of keys and values.
pub const MAX_MAP_BYTES: u64 = 256 << 20;

/// What a map is to be.
#[derive(Debug, Clone, Copy, Default)]
pub struct MapSpec<'a> {
    /// Name. The kernel keeps the first 15 bytes, of letters, digits, `_` and `.`; others are left
    /// out.
    pub name: &'a str,
    /// Type by its number, which need not be a known one.
    pub map_type: u32,
    /// Size of a key in bytes.
    pub key_size: u32,
    /// Size of a value in bytes.
    pub value_size: u32,
    /// Number of elements.
    pub max_entries: u32,
    /// Flags of `BPF_MAP_CREATE`.
    pub flags: u32,
    /// `map_extra` of `BPF_MAP_CREATE`.
    pub extra: u64,
    /// What maps of maps hold.
    pub inner: Option<&'a Map>,
    /// Types, and those of key and value among them.
    pub types: Option<(BorrowedFd<'a>, u32, u32)>,
}

/// A map in the kernel. It goes with this value, unless a program still uses it.
#[derive(Debug)]
pub struct Map {
    fd: OwnedFd,
    map_type: u32,
    key_size: u32,
    value_size: u32,
}

impl Map {
    /// Makes a map.
    ///
    /// # Errors
    /// The kernel refuses it, or it would be larger than [`MAX_MAP_BYTES`].
    pub fn new(spec: &MapSpec<'_>) -> Result<Self, KernelError> {
        let MapSpec { map_type, key_size, value_size, max_entries, .. } = *spec;
        let element = u64::from(key_size) + u64::from(value_size);
        let bytes = element.saturating_mul(max_entries.into());
        if bytes > MAX_MAP_BYTES {
            let what = "a map".to_owned();
            return Err(KernelError::TooLarge { what, bytes, limit: MAX_MAP_BYTES });
        }
        let mut attributes = MapCreate {
            map_type,
            key_size,
            value_size,
            max_entries,
            map_flags: spec.flags,
            map_extra: spec.extra,
            inner_map_fd: spec.inner.map_or(0, |inner| inner.number().cast_unsigned()),
            map_name: kernel_name(spec.name),
            ..MapCreate::default()
        };
        if let Some((btf, key, value)) = spec.types {
            attributes.btf_fd = btf.as_raw_fd().cast_unsigned();
            (attributes.btf_key_type_id, attributes.btf_value_type_id) = (key, value);
        }
        let fd = sys::map_create(&mut attributes)
            .map_err(|errno| KernelError::refused(format!("a map of type {map_type}"), errno))?;
        Ok(Self { fd, map_type, key_size, value_size })
    }

    /// Sets an element. What is missing of key and value is zero, what is too long is left out.
    ///
    /// # Errors
    /// The kernel refuses it, or the map has a value for each processor.
    pub fn update(&self, key: &[u8], value: &[u8]) -> Result<(), KernelError> {
        let refused = |errno| KernelError::refused("an element of a map", errno);
        if self.has_values_per_processor() {
            return Err(refused(Errno(libc::EOPNOTSUPP)));
        }
        let sized = |bytes: &[u8], size: u32| {
            let mut sized = bytes.to_vec();
            sized.resize(size as usize, 0);
            sized
        };
        let (key, value) = (sized(key, self.key_size), sized(value, self.value_size));
        // SAFETY: both have the sizes of the map, which has one value an element.
        unsafe { sys::map_update(self.fd.as_fd(), &key, &value) }.map_err(refused)
    }

    /// Ends writing from user space.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn freeze(&self) -> Result<(), KernelError> {
        let refused = |errno| KernelError::refused("to freeze a map", errno);
        sys::map_freeze(self.fd.as_fd()).map_err(refused)
    }

    /// What wide loads name the map by while it is loaded: its descriptor.
    #[must_use]
    pub fn number(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    fn has_values_per_processor(&self) -> bool {
        use MapType::{LruPercpuHash, PercpuArray, PercpuCgroupStorage, PercpuHash};
        let map_type = MapType::from_number(self.map_type);
        map_type.is_none_or(|map_type| {
            matches!(map_type, PercpuHash | PercpuArray | LruPercpuHash | PercpuCgroupStorage)
        })
    }
}

/// A name as the kernel takes it, which ends in a zero.
fn kernel_name(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
    for (to, from) in bytes[..15].iter_mut().zip(name.bytes().filter(legal)) {
        *to = from;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_legal() {
        assert_eq!(&kernel_name("a-map.x_0"), b"amap.x_0\0\0\0\0\0\0\0\0");
        assert_eq!(&kernel_name("0123456789abcdefg"), b"0123456789abcde\0");
    }

    #[test]
    fn large_maps_are_not_asked_for() {
        let spec = MapSpec { map_type: 2, key_size: 4, value_size: 1 << 20, ..MapSpec::default() };
        let error = Map::new(&MapSpec { max_entries: 1 << 10, ..spec }).unwrap_err();
        assert!(matches!(error, KernelError::TooLarge { .. }), "{error}");
        let error = Map::new(&MapSpec { max_entries: u32::MAX, ..spec }).unwrap_err();
        assert!(matches!(error, KernelError::TooLarge { .. }), "{error}");
    }
}
