//! The door to the kernel, and to the C library, for what no safe library offers: bpf(2), and a few small calls beside
//! it.
//!
//! Everything unsafe of the project is in this module, in `map`, which knows how large a map's keys and values are, and in
//! `mapped`, which shares their memory with programs. A function here is safe when its arguments alone decide what memory
//! the kernel touches.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

#[allow(clippy::wildcard_imports, reason = "the kernel's names are prefixed already")]
use crate::uapi::*;

/// Makes one bpf(2) call; the answer is a descriptor or zero.
///
/// A call that a signal interrupted is repeated with the attributes as they were, except for test runs, which would
/// then run a program more often than asked.
///
/// # Safety
///
/// Each address in `attr` must be null or valid for all that `command` reads or writes through it.
pub(crate) unsafe fn bpf<A: Copy>(command: Command, attr: &mut A) -> io::Result<RawFd> {
    let before = *attr;
    loop {
        // SAFETY: `attr` is a live, exclusively borrowed structure of the size given; the caller vouches for the
        // addresses in it.
        let answer =
            unsafe { libc::syscall(libc::SYS_bpf, command.number, std::ptr::from_mut(attr), size_of::<A>()) };
        if let Ok(answer) = RawFd::try_from(answer)
            && answer >= 0
        {
            return Ok(answer);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted || command == BPF_PROG_TEST_RUN {
            return Err(error);
        }
        *attr = before;
    }
}

/// As [`bpf`], for commands that answer with a new descriptor.
///
/// # Safety
///
/// As for [`bpf`], and `command` must be one that returns a new descriptor.
unsafe fn bpf_fd<A: Copy>(command: Command, attr: &mut A) -> io::Result<OwnedFd> {
    // SAFETY: the caller vouches for the addresses.
    let fd = unsafe { bpf(command, attr) }?;
    // SAFETY: the kernel has just made this descriptor for us; nothing else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The descriptor as the kernel wants it in attributes.
pub(crate) fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// The address of a slice as the kernel wants it; null for an empty one, which some commands insist on.
pub(crate) fn address<T>(slice: &[T]) -> u64 {
    if slice.is_empty() { 0 } else { slice.as_ptr().expose_provenance() as u64 }
}

/// As [`address`], for memory that the kernel writes to.
pub(crate) fn address_mut<T>(slice: &mut [T]) -> u64 {
    if slice.is_empty() { 0 } else { slice.as_mut_ptr().expose_provenance() as u64 }
}

fn length<T>(slice: &[T]) -> io::Result<u32> {
    u32::try_from(slice.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))
}

/// The length of a structure, all of which are some dozen bytes long.
#[allow(clippy::cast_possible_truncation)]
const fn length_of<T>() -> u32 {
    assert!(size_of::<T>() < 4096);
    size_of::<T>() as u32
}

pub(crate) fn map_create(attr: &mut MapCreate) -> io::Result<OwnedFd> {
    // SAFETY: there are no addresses in this attribute.
    unsafe { bpf_fd(BPF_MAP_CREATE, attr) }
}

pub(crate) fn map_freeze(map: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = OnlyFd { fd: number(map) };
    // SAFETY: there are no addresses in this attribute.
    unsafe { bpf(BPF_MAP_FREEZE, &mut attr) }.map(drop)
}

pub(crate) fn obj_pin(path: &CStr, object: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr =
        Obj { pathname: address(path.to_bytes_with_nul()), bpf_fd: number(object), ..Obj::default() };
    // SAFETY: `pathname` is a string that ends with NUL and outlives the call.
    unsafe { bpf(BPF_OBJ_PIN, &mut attr) }.map(drop)
}

pub(crate) fn obj_get(path: &CStr, file_flags: u32) -> io::Result<OwnedFd> {
    let mut attr = Obj { pathname: address(path.to_bytes_with_nul()), file_flags, ..Obj::default() };
    // SAFETY: `pathname` is a string that ends with NUL and outlives the call.
    unsafe { bpf_fd(BPF_OBJ_GET, &mut attr) }
}

/// How often the verifier is asked again when a signal made it give up.
const LOAD_ATTEMPTS: u32 = 5;

/// Records that tell the kernel about instructions: `struct bpf_func_info` or `struct bpf_line_info`.
#[derive(Clone, Copy, Default)]
pub(crate) struct Records<'a> {
    pub(crate) bytes: &'a [u8],
    /// Bytes per record.
    pub(crate) size: u32,
}

impl Records<'_> {
    fn count(&self) -> io::Result<u32> {
        if self.bytes.is_empty() {
            return Ok(0);
        }
        let whole = length(self.bytes)?;
        whole
            .checked_div(self.size)
            .filter(|count| count * self.size == whole)
            .ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }
}

/// Loads a program. The caller fills all but the addresses and their lengths.
pub(crate) fn prog_load(
    attr: &ProgLoad,
    insns: &[u64],
    license: &CStr,
    functions: Records<'_>,
    lines: Records<'_>,
    mut log: Option<&mut [u8]>,
) -> io::Result<OwnedFd> {
    let mut attempts = 0;
    loop {
        let mut attr = *attr;
        attr.insns = address(insns);
        attr.insn_cnt = length(insns)?;
        attr.license = address(license.to_bytes_with_nul());
        (attr.func_info, attr.func_info_cnt) = (address(functions.bytes), functions.count()?);
        attr.func_info_rec_size = functions.size;
        (attr.line_info, attr.line_info_cnt) = (address(lines.bytes), lines.count()?);
        attr.line_info_rec_size = lines.size;
        if let Some(log) = log.as_deref_mut() {
            attr.log_size = length(log)?;
            attr.log_buf = address_mut(log);
            attr.log_level = u32::from(attr.log_buf != 0);
        }
        // SAFETY: instructions, records, license and log are live slices, whose lengths are given; the records are
        // counted by the size that goes with them, the license ends with NUL.
        match unsafe { bpf_fd(BPF_PROG_LOAD, &mut attr) } {
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) && attempts < LOAD_ATTEMPTS => {
                attempts += 1;
            }
            answer => return answer,
        }
    }
}

/// What a test run answers: the program's return value and the mean time of a run in nanoseconds.
pub(crate) fn prog_test_run(prog: BorrowedFd<'_>, data: &[u8], repeat: u32) -> io::Result<(u32, u32)> {
    let mut attr = TestRun {
        prog_fd: number(prog),
        data_size_in: length(data)?,
        data_in: address(data),
        repeat,
        ..TestRun::default()
    };
    // SAFETY: `data` is a live slice of the length given; nothing is written but `attr`.
    unsafe { bpf(BPF_PROG_TEST_RUN, &mut attr) }?;
    Ok((attr.retval, attr.duration))
}

/// Runs a program for a raw tracepoint once, without a context, on one CPU; `ENXIO` when that is offline.
pub(crate) fn prog_test_run_on(prog: BorrowedFd<'_>, cpu: u32) -> io::Result<()> {
    let mut attr = TestRun { prog_fd: number(prog), flags: BPF_F_TEST_RUN_ON_CPU, cpu, ..TestRun::default() };
    // SAFETY: there are no addresses in this attribute; nothing is written but `attr`.
    unsafe { bpf(BPF_PROG_TEST_RUN, &mut attr) }.map(drop)
}

/// The smallest id above `id` in one of the kernel's tables; `None` after the last, by what the kernel says twice.
pub(crate) fn next_id(command: Command, id: u32) -> io::Result<Option<u32>> {
    present_if_any(|| {
        let mut attr = GetId { id, ..GetId::default() };
        // SAFETY: there are no addresses in this attribute.
        unsafe { bpf(command, &mut attr) }.map(|_| attr.next_id)
    })
}

/// The answer of a call of which `ENOENT` says that there is nothing; `None` when it says so twice in a row. There is no
/// other call that could confirm it.
pub(crate) fn present_if_any<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<Option<T>> {
    let is_absent = |error: &io::Error| error.raw_os_error() == Some(libc::ENOENT);
    match call() {
        Err(error) if is_absent(&error) => match call() {
            Err(error) if is_absent(&error) => Ok(None),
            answer => answer.map(Some),
        },
        answer => answer.map(Some),
    }
}

/// Opens an object by its id. `command` is one of `BPF_*_GET_FD_BY_ID`.
pub(crate) fn fd_by_id(command: Command, id: u32) -> io::Result<OwnedFd> {
    let mut attr = GetId { id, ..GetId::default() };
    // SAFETY: there are no addresses in this attribute, and these commands return a new descriptor.
    unsafe { bpf_fd(command, &mut attr) }
}

/// Fills `info` from the object. An older kernel fills only the beginning, and the rest stays as it was.
///
/// # Safety
///
/// `T` must be the structure of the object's type, and each address in it null or valid for what the kernel writes.
unsafe fn info_by_fd<T>(object: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    let mut attr = InfoByFd {
        bpf_fd: number(object),
        info_len: const { length_of::<T>() },
        info: std::ptr::from_mut(info).expose_provenance() as u64,
    };
    // SAFETY: `info` is live, exclusively borrowed and of the length given; the caller vouches for addresses in it.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr) }.map(drop)
}

pub(crate) fn map_info(map: BorrowedFd<'_>) -> io::Result<BpfMapInfo> {
    let mut info = BpfMapInfo::default();
    // SAFETY: this structure has no addresses.
    unsafe { info_by_fd(map, &mut info) }?;
    Ok(info)
}

pub(crate) fn link_info(link: BorrowedFd<'_>) -> io::Result<BpfLinkInfo> {
    let mut info = BpfLinkInfo::default();
    // SAFETY: what some link types take for an address and a length is zero here: they write nothing through it.
    unsafe { info_by_fd(link, &mut info) }?;
    Ok(info)
}

/// A program's info and the ids of its maps.
pub(crate) fn prog_info(prog: BorrowedFd<'_>) -> io::Result<(BpfProgInfo, Vec<u32>)> {
    // Enough for nearly all programs, so that one call will do.
    let mut ids = vec![0; 64];
    loop {
        let mut info = BpfProgInfo {
            nr_map_ids: length(&ids)?,
            map_ids: address_mut(&mut ids),
            ..BpfProgInfo::default()
        };
        // SAFETY: `ids` has room for as many ids as `nr_map_ids` says; all other addresses are null.
        unsafe { info_by_fd(prog, &mut info) }?;
        // The kernel answers with the number that it has, and writes no more than there is room for.
        let found = info.nr_map_ids as usize;
        if found <= ids.len() {
            ids.truncate(found);
            return Ok((info, ids));
        }
        ids.resize(found, 0);
    }
}

/// A BTF object's info, and its raw type information when `with_data`.
pub(crate) fn btf_info(btf: BorrowedFd<'_>, with_data: bool) -> io::Result<(BpfBtfInfo, Vec<u8>)> {
    let mut data = Vec::new();
    loop {
        let mut info =
            BpfBtfInfo { btf_size: length(&data)?, btf: address_mut(&mut data), ..BpfBtfInfo::default() };
        // SAFETY: `data` has room for as many bytes as `btf_size` says; the other address is null.
        unsafe { info_by_fd(btf, &mut info) }?;
        let size = info.btf_size as usize;
        if !with_data || size <= data.len() {
            data.truncate(size);
            return Ok((info, data));
        }
        resize(&mut data, size)?;
    }
}

pub(crate) fn btf_load(data: &[u8]) -> io::Result<OwnedFd> {
    let mut attr = BtfLoad { btf: address(data), btf_size: length(data)?, ..BtfLoad::default() };
    // SAFETY: `data` is a live slice of the length given; no log is asked for.
    unsafe { bpf_fd(BPF_BTF_LOAD, &mut attr) }
}

pub(crate) fn link_create(attr: &mut LinkCreate) -> io::Result<OwnedFd> {
    // SAFETY: there are no addresses in this attribute.
    unsafe { bpf_fd(BPF_LINK_CREATE, attr) }
}

pub(crate) fn link_update(attr: &mut LinkUpdate) -> io::Result<()> {
    // SAFETY: there are no addresses in this attribute.
    unsafe { bpf(BPF_LINK_UPDATE, attr) }.map(drop)
}

pub(crate) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = OnlyFd { fd: number(link) };
    // SAFETY: there are no addresses in this attribute.
    unsafe { bpf(BPF_LINK_DETACH, &mut attr) }.map(drop)
}

/// A new descriptor for what is open under a number that another library handed out.
pub(crate) fn dup_cloexec(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl takes a plain number here and touches no memory; a number that is not open is EBADF.
    let new = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) };
    if new < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us; nothing else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}

/// The CPUs that this thread may run on: a bit for each, as long as the kernel's masks of CPUs are.
pub(crate) fn affinity() -> io::Result<Vec<u64>> {
    const THIS_THREAD: libc::pid_t = 0;
    let mut mask = vec![0_u64; 128];
    loop {
        // SAFETY: the kernel writes no more than the bytes that it is told of, which `mask` has.
        let written = unsafe {
            libc::syscall(libc::SYS_sched_getaffinity, THIS_THREAD, size_of_val(&*mask), mask.as_mut_ptr())
        };
        match usize::try_from(written) {
            Ok(bytes) => {
                mask.truncate(bytes.div_ceil(size_of::<u64>()));
                return Ok(mask);
            }
            // Too short for all CPUs that there may be.
            Err(_)
                if io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL)
                    && mask.len() < MOST_MASK_WORDS =>
            {
                mask.resize(mask.len() * 2, 0);
            }
            Err(_) => return Err(io::Error::last_os_error()),
        }
    }
}

/// 2¹⁸ CPUs; the largest kernels are built for 2¹³.
const MOST_MASK_WORDS: usize = 1 << 12;

/// Says which CPUs this thread may run on: a bit for each.
pub(crate) fn set_affinity(mask: &[u64]) -> io::Result<()> {
    const THIS_THREAD: libc::pid_t = 0;
    // SAFETY: the kernel reads no more than the bytes that it is told of, which `mask` has.
    let answer =
        unsafe { libc::syscall(libc::SYS_sched_setaffinity, THIS_THREAD, size_of_val(mask), mask.as_ptr()) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How many bits the kernel's masks of CPUs have: no fewer than there are possible CPUs (`sched_getaffinity` in
/// `kernel/sched/syscalls.c` takes no shorter mask, and answers with the length of its own).
pub(crate) fn cpu_bits() -> io::Result<usize> {
    Ok(affinity()?.len() * 64)
}

/// Gives a buffer a length that the kernel has told. It may be much, and there may be too little memory: `ENOMEM`.
pub(crate) fn resize(buffer: &mut Vec<u8>, len: usize) -> io::Result<()> {
    buffer
        .try_reserve_exact(len.saturating_sub(buffer.len()))
        .map_err(|_| io::Error::from_raw_os_error(libc::ENOMEM))?;
    buffer.resize(len, 0);
    Ok(())
}

/// The most memory that the members of one group are given.
const LARGEST_GROUP: usize = 1 << 24;

/// The id of the group with this name; `None`: there is none.
pub(crate) fn group_id(name: &CStr) -> io::Result<Option<u32>> {
    let mut buffer = vec![0; 1024];
    loop {
        let mut group = MaybeUninit::<libc::group>::uninit();
        let mut found = std::ptr::null_mut();
        // SAFETY: `name` ends with NUL, `group` and `found` are live and exclusively borrowed, `buffer` is a live slice
        // of the length given; all outlive the call.
        let errno = unsafe {
            libc::getgrnam_r(
                name.as_ptr(),
                group.as_mut_ptr(),
                buffer.as_mut_ptr(),
                buffer.len(),
                &raw mut found,
            )
        };
        match errno {
            0 if found.is_null() => return Ok(None),
            // SAFETY: `found` is not null, so the C library has filled `group`.
            0 => return Ok(Some(unsafe { group.assume_init() }.gr_gid)),
            libc::EINTR => {}
            libc::ERANGE if buffer.len() < LARGEST_GROUP => buffer.resize(buffer.len() * 4, 0),
            // By getgrnam(3) these too say that there is none.
            libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM => return Ok(None),
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

/// The `CLONE_NEW*` number of the namespace behind a descriptor; `ENOTTY` when it is something else.
pub(crate) fn namespace_type(fd: BorrowedFd<'_>) -> io::Result<i32> {
    // SAFETY: NS_GET_NSTYPE has no argument and touches no memory.
    let kind = unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE) };
    if kind < 0 { Err(io::Error::last_os_error()) } else { Ok(kind) }
}

/// Lets the kernel put words beside the error numbers of a netlink socket.
pub(crate) fn ask_for_words(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option is an int, whose address and length are given; it outlives the call.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_NETLINK,
            NETLINK_EXT_ACK,
            std::ptr::from_ref(&on).cast(),
            const { length_of::<libc::c_int>() },
        )
    };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
