//! `bpf(2)`: its commands behind safe functions. Layouts and numbers are those of `linux/bpf.h`.

#![allow(unsafe_code, reason = "bpf(2) is called, for which there is no safe wrapper")]

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use super::error::Errno;

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_BTF_LOAD: libc::c_long = 18;
const BPF_MAP_FREEZE: libc::c_long = 22;

/// How often a call that a signal interrupted is made again.
const RETRIES: u32 = 5;

/// The part of `union bpf_attr` for `BPF_MAP_CREATE`.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct MapCreate {
    pub(crate) map_type: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) map_flags: u32,
    pub(crate) inner_map_fd: u32,
    pub(crate) numa_node: u32,
    pub(crate) map_name: [u8; 16],
    pub(crate) map_ifindex: u32,
    pub(crate) btf_fd: u32,
    pub(crate) btf_key_type_id: u32,
    pub(crate) btf_value_type_id: u32,
    pub(crate) btf_vmlinux_value_type_id: u32,
    pub(crate) map_extra: u64,
}

#[repr(C)]
#[derive(Default)]
struct MapElement {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
}

#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
}

#[repr(C)]
#[derive(Default)]
struct InfoByFd {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// The start of `struct bpf_prog_info`; the kernel takes any length of it.
#[repr(C)]
#[derive(Default)]
struct ProgInfo {
    prog_type: u32,
    id: u32,
    tag: [u8; 8],
    jited_prog_len: u32,
    xlated_prog_len: u32,
    jited_prog_insns: u64,
    xlated_prog_insns: u64,
}

#[repr(C)]
#[derive(Default)]
struct BtfLoad {
    btf: u64,
    btf_log_buf: u64,
    btf_size: u32,
    btf_log_size: u32,
    btf_log_level: u32,
}

/// What is loaded as a program.
#[derive(Debug)]
pub(crate) struct Load<'a> {
    pub(crate) prog_type: u32,
    /// Eight bytes a slot.
    pub(crate) insns: &'a [[u8; 8]],
    pub(crate) license: &'a CStr,
    pub(crate) log_level: u32,
    /// Where the log goes; empty for none.
    pub(crate) log: &'a mut [u8],
    pub(crate) flags: u32,
    pub(crate) attach_type: u32,
    pub(crate) btf: Option<BorrowedFd<'a>>,
    /// `struct bpf_func_info`: slot and type.
    pub(crate) func_info: &'a [[u32; 2]],
    pub(crate) attach_btf_id: u32,
}

/// Creates a map. What the attributes point to is descriptors alone.
pub(crate) fn map_create(attributes: &mut MapCreate) -> Result<OwnedFd, Errno> {
    // SAFETY: nothing is pointed to.
    unsafe { bpf(BPF_MAP_CREATE, attributes) }.map(owned)
}

/// Sets an element. `key` and `value` have the sizes that the map asks for: that of a value of a
/// per-CPU map is of all processors together, rounded up to eight bytes each.
///
/// # Safety
/// They do.
pub(crate) unsafe fn map_update(
    map: BorrowedFd<'_>,
    key: &[u8],
    value: &[u8],
) -> Result<(), Errno> {
    let mut attributes = MapElement {
        map_fd: number(map),
        key: address(key),
        value: address(value),
        ..MapElement::default()
    };
    // SAFETY: key and value are as long as the kernel reads, says the caller.
    unsafe { bpf(BPF_MAP_UPDATE_ELEM, &mut attributes) }.map(drop)
}

/// Ends writing to a map from user space.
pub(crate) fn map_freeze(map: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut attributes = MapElement { map_fd: number(map), ..MapElement::default() };
    // SAFETY: nothing is pointed to, and what follows the descriptor is zero.
    unsafe { bpf(BPF_MAP_FREEZE, &mut attributes) }.map(drop)
}

/// Loads types.
pub(crate) fn btf_load(btf: &[u8]) -> Result<OwnedFd, Errno> {
    let mut attributes = BtfLoad {
        btf: address(btf),
        btf_size: u32::try_from(btf.len()).map_err(|_| Errno(libc::E2BIG))?,
        ..BtfLoad::default()
    };
    // SAFETY: the bytes are valid for reads of the size given.
    unsafe { bpf(BPF_BTF_LOAD, &mut attributes) }.map(owned)
}

/// Loads a program.
pub(crate) fn prog_load(load: &mut Load<'_>) -> Result<OwnedFd, Errno> {
    let too_many = |_| Errno(libc::E2BIG);
    let mut attributes = ProgLoad {
        prog_type: load.prog_type,
        insn_cnt: u32::try_from(load.insns.len()).map_err(too_many)?,
        insns: address(load.insns),
        license: load.license.as_ptr() as u64,
        prog_flags: load.flags,
        expected_attach_type: load.attach_type,
        prog_btf_fd: load.btf.map_or(0, number),
        attach_btf_id: load.attach_btf_id,
        ..ProgLoad::default()
    };
    if !load.func_info.is_empty() {
        attributes.func_info_rec_size = size_of::<[u32; 2]>() as u32;
        attributes.func_info = address(load.func_info);
        attributes.func_info_cnt = u32::try_from(load.func_info.len()).map_err(too_many)?;
    }
    if !load.log.is_empty() {
        attributes.log_level = load.log_level;
        attributes.log_size = u32::try_from(load.log.len()).map_err(too_many)?;
        attributes.log_buf = load.log.as_mut_ptr() as u64;
    }
    // SAFETY: instructions, licence and function information are valid for reads, the log for
    // writes, of the sizes given and for as long as the call lasts.
    unsafe { bpf(BPF_PROG_LOAD, &mut attributes) }.map(owned)
}

/// What a test run is given.
#[derive(Debug, Default)]
pub(crate) struct Run<'a> {
    /// The packet; empty for program types without one.
    pub(crate) data: &'a [u8],
    /// The context; empty for the one that the kernel makes.
    pub(crate) context: &'a [u8],
    pub(crate) repeat: u32,
}

/// Runs a program; gives what it returned.
pub(crate) fn prog_test_run(program: BorrowedFd<'_>, run: &Run<'_>) -> Result<u32, Errno> {
    let size = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(|_| Errno(libc::E2BIG));
    let pointer = |bytes: &[u8]| if bytes.is_empty() { 0 } else { address(bytes) };
    let mut attributes = TestRun {
        prog_fd: number(program),
        data_size_in: size(run.data)?,
        data_in: pointer(run.data),
        repeat: run.repeat,
        ctx_size_in: size(run.context)?,
        ctx_in: pointer(run.context),
        ..TestRun::default()
    };
    // SAFETY: packet and context are valid for reads of their sizes, and no output is asked for.
    unsafe { bpf(BPF_PROG_TEST_RUN, &mut attributes) }.map(|_| attributes.retval)
}

/// The rewritten instructions of a program, and the number of bytes of its machine code.
pub(crate) fn prog_info(program: BorrowedFd<'_>) -> Result<(Vec<[u8; 8]>, u32), Errno> {
    let sizes = prog_info_with(program, &mut [])?;
    let mut xlated = vec![[0; 8]; sizes.xlated_prog_len as usize / 8];
    prog_info_with(program, &mut xlated)?;
    Ok((xlated, sizes.jited_prog_len))
}

fn prog_info_with(program: BorrowedFd<'_>, xlated: &mut [[u8; 8]]) -> Result<ProgInfo, Errno> {
    let mut info = ProgInfo::default();
    if !xlated.is_empty() {
        info.xlated_prog_len =
            u32::try_from(size_of_val(xlated)).map_err(|_| Errno(libc::E2BIG))?;
        info.xlated_prog_insns = xlated.as_mut_ptr() as u64;
    }
    let mut attributes = InfoByFd {
        bpf_fd: number(program),
        info_len: size_of::<ProgInfo>() as u32,
        info: &raw mut info as u64,
    };
    // SAFETY: `info` is valid for reads and writes of its size, and what it points to for writes of
    // the size that stands in it.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attributes) }?;
    Ok(info)
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_fd().as_raw_fd().cast_unsigned()
}

fn address<T>(slice: &[T]) -> u64 {
    slice.as_ptr() as u64
}

/// Calls bpf(2). Gives what it returns, which is not negative.
///
/// # Safety
/// `attributes` begin like `union bpf_attr` for this command (the kernel takes the rest as zeros),
/// and what they point to is valid as the command needs it.
unsafe fn bpf<T>(command: libc::c_long, attributes: &mut T) -> Result<i32, Errno> {
    let mut retries = 0;
    loop {
        // SAFETY: promised by the caller; the size is that of the attributes.
        let result =
            unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
        if let Some(result) = i32::try_from(result).ok().filter(|&result| result >= 0) {
            return Ok(result);
        }
        let errno = Errno::last();
        if !matches!(errno.0, libc::EAGAIN | libc::EINTR) || retries == RETRIES {
            return Err(errno);
        }
        retries += 1;
    }
}

fn owned(fd: i32) -> OwnedFd {
    // SAFETY: the kernel just gave this descriptor, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
