//! Groups of users, by all sources that the C library is set up to ask (nsswitch.conf).

use std::ffi::CString;

use crate::error::{Error, Result};
use crate::sys;

/// The id of the group called `name`; `None` when there is none.
pub fn id_of(name: &str) -> Result<Option<u32>> {
    const CALL: &str = "getgrnam";
    let text = CString::new(name).map_err(|_| Error::invalid(CALL, name, "not the name of a group"))?;
    sys::group_id(&text).map_err(|source| Error::new(CALL, name, source))
}

#[cfg(test)]
mod tests {
    use super::id_of;

    #[test]
    #[cfg_attr(miri, ignore = "asks the kernel")]
    fn groups_are_found_by_name() {
        assert_eq!(id_of("root").unwrap(), Some(0));
        assert_eq!(id_of("no such group").unwrap(), None);
        assert!(id_of("a\0b").is_err());
    }
}
