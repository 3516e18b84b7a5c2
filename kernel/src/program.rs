//! Programs: what they are, and running them once without a packet.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

pub use xdpd_types::{ATTACH_TYPE_XDP, Insn};

use crate::btf::Btf;
use crate::error::{Error, PinError, Result};
use crate::object::{self, Ids};
use crate::sys::{self, Records};
use crate::uapi::{
    BPF_F_XDP_HAS_FRAGS, BPF_OBJ_GET_INFO_BY_FD, BPF_PROG_GET_FD_BY_ID, BPF_PROG_GET_NEXT_ID, BPF_PROG_LOAD,
    BPF_PROG_TEST_RUN, BPF_PROG_TYPE_XDP, BPF_TAG_SIZE, ProgLoad,
};
use xdpd_types::ObjectKind;
use xdpd_types::{BtfId, MapId, ProgramId};

/// What the kernel knows about a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramInfo {
    /// Its id.
    pub id: ProgramId,
    /// Its name, of which the kernel keeps 15 bytes.
    pub name: String,
    /// `enum bpf_prog_type`; see [`is_xdp`](Self::is_xdp).
    pub prog_type: u32,
    /// The first 8 bytes of a SHA-1 over its instructions: equal for equal code, whatever maps it uses.
    pub tag: [u8; BPF_TAG_SIZE],
    /// When it was loaded, as time since boot (`CLOCK_BOOTTIME`).
    pub load_time: Duration,
    /// The user who loaded it.
    pub uid: u32,
    /// The maps that it uses, in the order of first use.
    pub map_ids: Vec<MapId>,
    /// Its BTF object, if any.
    pub btf_id: Option<BtfId>,
}

impl ProgramInfo {
    /// Whether it is an XDP program.
    pub fn is_xdp(&self) -> bool {
        self.prog_type == BPF_PROG_TYPE_XDP
    }

    /// The tag as it is commonly written: 16 hexadecimal digits.
    pub fn tag_hex(&self) -> String {
        format!("{:016x}", u64::from_be_bytes(self.tag))
    }
}

/// An XDP program as it is handed to the kernel: see [`XdpLoad::load`].
#[derive(Debug, Clone, Copy)]
pub struct XdpLoad<'a> {
    /// Its name, of which the kernel keeps 15 bytes.
    pub name: &'a str,
    /// Its instructions. Those that load a map refer to it by its descriptor's number.
    pub insns: &'a [Insn],
    /// Its licence: some helpers are only for programs under the GPL.
    pub license: &'a CStr,
    /// It takes packets of more than one buffer, so it can run natively on devices with a large MTU.
    pub frags: bool,
    /// What it declares to be for, `expected_attach_type`: [`ATTACH_TYPE_XDP`] or 0, nothing.
    ///
    /// A device takes both. But a link does not replace a program by one that declares something else (`EINVAL`), and
    /// since Linux 6.18 a program array holds only programs that declare the same as its users.
    pub attach_type: u32,
    /// What tells the verifier, and people in its log, about functions and lines.
    pub debug: Option<DebugInfo<'a>>,
}

/// Type information of a program, and records of its object's `.BTF.ext` that refer to it.
#[derive(Debug, Clone, Copy)]
pub struct DebugInfo<'a> {
    /// The BTF object.
    pub btf: &'a Btf,
    /// Records of `struct bpf_func_info`.
    pub functions: &'a [u8],
    /// The size of one of them in bytes.
    pub function_size: u32,
    /// Records of `struct bpf_line_info`.
    pub lines: &'a [u8],
    /// The size of one of them in bytes.
    pub line_size: u32,
}

impl XdpLoad<'_> {
    /// Has the program verified and loaded. Needs `CAP_BPF` and `CAP_NET_ADMIN`.
    ///
    /// The verifier writes what it thinks into `log`, as text up to the first NUL; it is an error when that does not fit.
    /// Programs with functions of their own need [`debug`](Self::debug) for callbacks and global functions.
    pub fn load(&self, log: Option<&mut [u8]>) -> Result<Program> {
        let mut attr = ProgLoad {
            prog_type: BPF_PROG_TYPE_XDP,
            prog_name: object::to_kernel_name(self.name),
            prog_flags: if self.frags { BPF_F_XDP_HAS_FRAGS } else { 0 },
            expected_attach_type: self.attach_type,
            ..ProgLoad::default()
        };
        let (mut functions, mut lines) = (Records::default(), Records::default());
        if let Some(debug) = &self.debug {
            attr.prog_btf_fd = sys::number(debug.btf.as_fd());
            functions = Records { bytes: debug.functions, size: debug.function_size };
            lines = Records { bytes: debug.lines, size: debug.line_size };
        }
        let insns: Vec<u64> = self.insns.iter().map(|insn| insn.raw()).collect();
        let origin = format!("program {}", self.name);
        let fd = sys::prog_load(&attr, &insns, self.license, functions, lines, log)
            .map_err(|source| Error::new(BPF_PROG_LOAD.name, origin.as_str(), source))?;
        Ok(Program { fd, origin })
    }

    /// As [`load`](Self::load); where it fails, with all that the verifier has to say, cut off at 16 MiB.
    pub fn load_or_explain(&self) -> Result<Program, Refusal> {
        // The log costs time, so it is asked for once there is something to tell.
        let mut error = match self.load(None) {
            Ok(program) => return Ok(program),
            Err(error) => error,
        };
        let mut log = Vec::new();
        for size in LOG_SIZES {
            log = vec![0; size];
            match self.load(Some(&mut log)) {
                Ok(program) => return Ok(program),
                // It did not fit (kernel/bpf/log.c, `bpf_vlog_finalize`). Why the first try failed is the reason.
                Err(again) if again.is(libc::ENOSPC) => {}
                Err(again) => {
                    error = again;
                    break;
                }
            }
        }
        let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
        Err(Refusal { error, log: String::from_utf8_lossy(&log[..end]).into_owned() })
    }
}

/// Sizes of the buffer for the verifier's log that are tried in turn.
const LOG_SIZES: [usize; 3] = [1 << 18, 1 << 21, 1 << 24];

/// Why a program was not loaded.
#[derive(Debug)]
pub struct Refusal {
    /// The call that failed.
    pub error: Error,
    /// The verifier's log.
    pub log: String,
}

/// What [`Program::test_run`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TestRun {
    /// What the program returned in the last run: an XDP action.
    pub return_value: u32,
    /// The mean time of a run.
    pub duration: Duration,
}

/// An open program.
#[derive(Debug)]
pub struct Program {
    fd: OwnedFd,
    origin: String,
}

impl Program {
    /// Loads an XDP program from bare instructions; for what needs no object file. Its expected attach type is
    /// `BPF_XDP`. Needs `CAP_BPF` and `CAP_NET_ADMIN`.
    ///
    /// The kernel keeps the first 15 bytes of `name`. The verifier writes what it thinks into `log`, as text up to the
    /// first NUL; it is an error when that does not fit.
    pub fn load_xdp(name: &str, insns: &[Insn], license: &CStr, log: Option<&mut [u8]>) -> Result<Self> {
        XdpLoad { name, insns, license, frags: false, attach_type: ATTACH_TYPE_XDP, debug: None }.load(log)
    }

    /// Loads an XDP program that does nothing but return `action` (0 aborted, 1 drop, 2 pass, 3 tx, 4 redirect).
    pub fn load_xdp_returning(name: &str, action: u32) -> Result<Self> {
        Self::load_xdp(name, &[Insn::mov(0, action.cast_signed()), Insn::exit()], c"Dual MIT/GPL", None)
    }

    /// Opens a program by its id. Needs `CAP_SYS_ADMIN`.
    pub fn open_by_id(id: ProgramId) -> Result<Self> {
        let origin = format!("program {id}");
        let fd = sys::fd_by_id(BPF_PROG_GET_FD_BY_ID, id.0)
            .map_err(|source| Error::new(BPF_PROG_GET_FD_BY_ID.name, origin.as_str(), source))?;
        Ok(Self { fd, origin })
    }

    /// Opens a program by its id; `None` when there is none. Needs `CAP_SYS_ADMIN`.
    pub fn find_by_id(id: ProgramId) -> Result<Option<Self>> {
        let origin = format!("program {id}");
        let fd = object::find_by_id(BPF_PROG_GET_FD_BY_ID, id.0, &origin)?;
        Ok(fd.map(|fd| Self { fd, origin }))
    }

    /// Takes a descriptor from elsewhere, which must be of a program. `origin` names it in errors.
    pub fn from_fd(fd: OwnedFd, origin: impl Into<String>) -> Result<Self, PinError> {
        let origin = origin.into();
        object::expect(&fd, ObjectKind::Program, &origin)?;
        Ok(Self::known(fd, origin))
    }

    /// The program that another library has open under a number of this process's descriptors. `origin` names it in errors.
    ///
    /// Safe whatever the number is, and whoever closes or reuses it meanwhile: a new descriptor is made and looked at, and a
    /// program has no state that could be changed through another descriptor of it.
    pub fn from_number(number: RawFd, origin: impl Into<String>) -> Result<Self, PinError> {
        let origin = origin.into();
        let fd = sys::dup_cloexec(number)
            .map_err(|source| Error::new("fcntl(F_DUPFD_CLOEXEC)", origin.as_str(), source))?;
        Self::from_fd(fd, origin)
    }

    /// Takes a descriptor that is known to be of a program.
    pub(crate) fn known(fd: OwnedFd, origin: String) -> Self {
        Self { fd, origin }
    }

    /// The ids of all programs in the kernel.
    pub fn ids() -> Ids<ProgramId> {
        Ids::new(BPF_PROG_GET_NEXT_ID, ProgramId)
    }

    /// What the kernel knows about this program.
    pub fn info(&self) -> Result<ProgramInfo> {
        let (info, map_ids) = sys::prog_info(self.as_fd())
            .map_err(|source| Error::new(BPF_OBJ_GET_INFO_BY_FD.name, self.origin.as_str(), source))?;
        Ok(ProgramInfo {
            id: ProgramId(info.id),
            name: object::from_kernel_name(&info.name),
            prog_type: info.prog_type,
            tag: info.tag,
            load_time: Duration::from_nanos(info.load_time),
            uid: info.created_by_uid,
            map_ids: map_ids.into_iter().map(MapId).collect(),
            btf_id: (info.btf_id != 0).then_some(BtfId(info.btf_id)),
        })
    }

    /// Runs the program `repeat` times on `data`, a packet of at least 14 bytes, without a device. Its maps see it.
    ///
    /// `EINTR` when a signal came; it has then run fewer times.
    pub fn test_run(&self, data: &[u8], repeat: u32) -> Result<TestRun> {
        let (return_value, duration) = sys::prog_test_run(self.as_fd(), data, repeat)
            .map_err(|source| Error::new(BPF_PROG_TEST_RUN.name, self.origin.as_str(), source))?;
        Ok(TestRun { return_value, duration: Duration::from_nanos(duration.into()) })
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Program> for OwnedFd {
    fn from(program: Program) -> Self {
        program.fd
    }
}
