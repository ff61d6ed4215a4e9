//! The interpreter of classic programs that libpcap has, where libpcap is installed.

#![allow(unsafe_code, reason = "a function of a shared object is called")]

use std::ffi::{CStr, c_void};

use ebpf_runtime::classic::{Filter, SockFilter};

/// `bpf_filter` of `pcap/bpf.h`: instructions, packet, its length on the wire, and as captured.
type BpfFilter = unsafe extern "C" fn(*const Insn, *const u8, u32, u32) -> u32;

/// Why there is no libpcap.
#[derive(Debug, thiserror::Error)]
#[error("no shared object of libpcap has `bpf_filter`: install libpcap")]
pub struct NoLibpcap;

/// The names that the library has.
const NAMES: [&CStr; 3] = [c"libpcap.so.1", c"libpcap.so.0.8", c"libpcap.so"];

/// `struct bpf_insn` of `pcap/bpf.h`.
#[derive(Debug)]
#[repr(C)]
struct Insn {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

/// A library that was found. It stays loaded.
#[derive(Debug, Clone, Copy)]
pub struct Libpcap(BpfFilter);

impl Libpcap {
    /// Loads the library.
    ///
    /// # Errors
    /// It is not there.
    pub fn find() -> Result<Self, NoLibpcap> {
        NAMES.into_iter().find_map(load).map(Self).ok_or(NoLibpcap)
    }

    /// Makes a filter ready.
    #[must_use]
    pub fn filter(self, filter: &Filter) -> LibpcapFilter {
        let insn = |&SockFilter { code, jt, jf, k }: &SockFilter| Insn { code, jt, jf, k };
        LibpcapFilter { library: self, insns: filter.original().iter().map(insn).collect() }
    }
}

fn load(name: &CStr) -> Option<BpfFilter> {
    // SAFETY: libpcap may be loaded at any time: it has no initialisers that interfere.
    let library = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if library.is_null() {
        return None;
    }
    // SAFETY: the handle is that of a library that is not closed.
    let function = unsafe { libc::dlsym(library, c"bpf_filter".as_ptr()) };
    // SAFETY: the header gives the function this signature.
    (!function.is_null())
        .then(|| unsafe { std::mem::transmute::<*mut c_void, BpfFilter>(function) })
}

/// A filter for libpcap.
#[derive(Debug)]
pub struct LibpcapFilter {
    library: Libpcap,
    insns: Vec<Insn>,
}

impl LibpcapFilter {
    /// The filter's value for a packet.
    #[must_use]
    pub fn run(&self, packet: &[u8]) -> u32 {
        let len = packet.len() as u32;
        // SAFETY: the instructions passed our checker, so all jumps stay inside and the last one
        // ends the filter; libpcap checks loads against the length.
        unsafe { (self.library.0)(self.insns.as_ptr(), packet.as_ptr(), len, len) }
    }
}
