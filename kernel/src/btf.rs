//! Type information (BTF) objects in the kernel.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::error::{Error, Result};
use crate::object::{self, Ids};
use crate::sys;
use crate::uapi::{BPF_BTF_GET_FD_BY_ID, BPF_BTF_GET_NEXT_ID, BPF_BTF_LOAD, BPF_OBJ_GET_INFO_BY_FD};
use xdpd_types::BtfId;

/// An open BTF object.
#[derive(Debug)]
pub struct Btf {
    fd: OwnedFd,
    origin: String,
}

impl Btf {
    /// Hands raw type information (a `.BTF` section) to the kernel. Needs `CAP_BPF`; an error when the kernel finds
    /// fault with it.
    pub fn load(data: &[u8]) -> Result<Self> {
        let origin = format!("{} bytes of BTF", data.len());
        let fd =
            sys::btf_load(data).map_err(|source| Error::new(BPF_BTF_LOAD.name, origin.as_str(), source))?;
        Ok(Self { fd, origin })
    }

    /// Hands raw type information to the kernel, as [`load`](Self::load) does; `None` when the kernel refuses it twice: it is
    /// larger than the kernel takes, not understood, or of no use to this kernel.
    pub fn load_if_accepted(data: &[u8]) -> Result<Option<Self>> {
        let is_refusal =
            |e: &Error| [libc::EINVAL, libc::E2BIG, libc::EOPNOTSUPP].into_iter().any(|no| e.is(no));
        match Self::load(data) {
            Err(error) if is_refusal(&error) => match Self::load(data) {
                Err(error) if is_refusal(&error) => Ok(None),
                answer => answer.map(Some),
            },
            answer => answer.map(Some),
        }
    }

    /// Opens a BTF object by its id; `None` when there is none. Needs `CAP_SYS_ADMIN`.
    pub fn find_by_id(id: BtfId) -> Result<Option<Self>> {
        let origin = format!("BTF {id}");
        let fd = object::find_by_id(BPF_BTF_GET_FD_BY_ID, id.0, &origin)?;
        Ok(fd.map(|fd| Self { fd, origin }))
    }

    /// The ids of all BTF objects in the kernel.
    pub fn ids() -> Ids<BtfId> {
        Ids::new(BPF_BTF_GET_NEXT_ID, BtfId)
    }

    /// Its id.
    pub fn id(&self) -> Result<BtfId> {
        let (info, _) = sys::btf_info(self.as_fd(), false).map_err(|source| self.info_error(source))?;
        Ok(BtfId(info.id))
    }

    /// The raw type information, as it was loaded.
    pub fn raw(&self) -> Result<Vec<u8>> {
        let (_, data) = sys::btf_info(self.as_fd(), true).map_err(|source| self.info_error(source))?;
        Ok(data)
    }

    fn info_error(&self, source: std::io::Error) -> Error {
        Error::new(BPF_OBJ_GET_INFO_BY_FD.name, self.origin.as_str(), source)
    }
}

impl AsFd for Btf {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
