//! Type information (BTF) objects in the kernel.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::error::{Error, Result};
use crate::id::BtfId;
use crate::object::Ids;
use crate::sys;
use crate::uapi::{BPF_BTF_GET_FD_BY_ID, BPF_BTF_GET_NEXT_ID, BPF_BTF_LOAD, BPF_OBJ_GET_INFO_BY_FD};

/// An open BTF object.
#[derive(Debug)]
pub struct Btf {
    fd: OwnedFd,
    origin: String,
}

impl Btf {
    /// Hands raw type information (a `.BTF` section) to the kernel. Needs `CAP_BPF`; `EINVAL` when the kernel finds
    /// fault with it.
    pub fn load(data: &[u8]) -> Result<Self> {
        let origin = format!("{} bytes of BTF", data.len());
        let fd =
            sys::btf_load(data).map_err(|source| Error::new(BPF_BTF_LOAD.name, origin.as_str(), source))?;
        Ok(Self { fd, origin })
    }

    /// Opens a BTF object by its id. Needs `CAP_SYS_ADMIN`; `ENOENT` when there is none.
    pub fn open_by_id(id: BtfId) -> Result<Self> {
        let origin = format!("BTF {id}");
        let fd = sys::fd_by_id(BPF_BTF_GET_FD_BY_ID, id.0)
            .map_err(|source| Error::new(BPF_BTF_GET_FD_BY_ID.name, origin.as_str(), source))?;
        Ok(Self { fd, origin })
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
