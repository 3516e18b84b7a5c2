//! Programs: what they are, and running them once without a packet.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::error::{Error, PinError, Result};
use crate::id::{BtfId, MapId, ProgramId};
use crate::object::{self, Ids, ObjectKind};
use crate::sys;
use crate::uapi::{
    BPF_OBJ_GET_INFO_BY_FD, BPF_PROG_GET_FD_BY_ID, BPF_PROG_GET_NEXT_ID, BPF_PROG_LOAD, BPF_PROG_TEST_RUN,
    BPF_PROG_TYPE_XDP, BPF_TAG_SIZE, BPF_XDP, ProgLoad,
};

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

/// One instruction, `struct bpf_insn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Insn(u64);

impl Insn {
    /// An instruction from its parts: opcode, registers, offset, constant.
    pub fn new(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Self {
        // Two bit fields of four bits, and a compiler for a big-endian machine lays the first into the upper half.
        let registers = if cfg!(target_endian = "little") {
            (src & 0xf) << 4 | (dst & 0xf)
        } else {
            (dst & 0xf) << 4 | (src & 0xf)
        };
        let (off, imm) = (off.to_ne_bytes(), imm.to_ne_bytes());
        Self(u64::from_ne_bytes([code, registers, off[0], off[1], imm[0], imm[1], imm[2], imm[3]]))
    }

    /// `r<dst> = imm`, all 64 bits.
    pub fn mov(dst: u8, imm: i32) -> Self {
        Self::new(0xb7, dst, 0, 0, imm)
    }

    /// `exit`: returns what is in `r0`.
    pub fn exit() -> Self {
        Self::new(0x95, 0, 0, 0, 0)
    }
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
    /// first NUL; `ENOSPC` when that does not fit.
    pub fn load_xdp(name: &str, insns: &[Insn], license: &CStr, log: Option<&mut [u8]>) -> Result<Self> {
        let attr = ProgLoad {
            prog_type: BPF_PROG_TYPE_XDP,
            prog_name: object::to_kernel_name(name),
            expected_attach_type: BPF_XDP,
            ..ProgLoad::default()
        };
        let insns: Vec<u64> = insns.iter().map(|insn| insn.0).collect();
        let origin = format!("program {name}");
        let fd = sys::prog_load(&attr, &insns, license, log)
            .map_err(|source| Error::new(BPF_PROG_LOAD.name, origin.as_str(), source))?;
        Ok(Self { fd, origin })
    }

    /// Loads an XDP program that does nothing but return `action` (0 aborted, 1 drop, 2 pass, 3 tx, 4 redirect).
    pub fn load_xdp_returning(name: &str, action: u32) -> Result<Self> {
        Self::load_xdp(name, &[Insn::mov(0, action.cast_signed()), Insn::exit()], c"Dual MIT/GPL", None)
    }

    /// Opens a program by its id. Needs `CAP_SYS_ADMIN`; `ENOENT` when there is none.
    pub fn open_by_id(id: ProgramId) -> Result<Self> {
        let origin = format!("program {id}");
        let fd = sys::fd_by_id(BPF_PROG_GET_FD_BY_ID, id.0)
            .map_err(|source| Error::new(BPF_PROG_GET_FD_BY_ID.name, origin.as_str(), source))?;
        Ok(Self { fd, origin })
    }

    /// Takes a descriptor from elsewhere, which must be of a program. `origin` names it in errors.
    pub fn from_fd(fd: OwnedFd, origin: impl Into<String>) -> Result<Self, PinError> {
        let origin = origin.into();
        object::expect(&fd, ObjectKind::Program, &origin)?;
        Ok(Self::known(fd, origin))
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
