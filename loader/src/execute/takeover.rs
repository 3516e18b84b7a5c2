//! Someone else's program whose place an interface takes, for as long as it can come back.

use xdpd_config::Label;
use xdpd_kernel::{AttachError, Dir, IfIndex, netlink};

use super::directories::{LinkIds, remove_directory};
use crate::observed::{TAKEN, Taken};
use crate::{devices, mode};

/// Puts a program of someone else's back where nothing runs in its place, and forgets it.
pub(super) fn give_back(root: &Dir, directory: &str) -> Result<(), xdpd_kernel::Error> {
    if let Some(Taken { record, program }) = Taken::read(root, directory)? {
        let (ifindex, mode) = (IfIndex(record.ifindex), mode::to_kernel(record.mode));
        let restore = || {
            let devices = netlink::devices()?;
            let device = devices.iter().find(|d| d.ifindex == ifindex);
            // Gone, or not free: there is nothing to put back.
            match device.filter(|d| d.xdp.is_empty()) {
                Some(_) => match netlink::attach_netlink(ifindex, &program, mode, None) {
                    Err(AttachError::DeviceGone(_) | AttachError::Taken { .. }) => Ok(()),
                    attached => attached.map_err(AttachError::into_error),
                },
                None => Ok(()),
            }
        };
        if let Some(netns) = devices::netns_of(&record)? {
            netns.run(restore)??;
        }
    }
    remove_directory(root, directory, &LinkIds::new())
}

/// Where someone else's program is kept whose place an interface takes.
pub(super) fn taken_name(label: &Label) -> String {
    format!("{TAKEN}{}", label.file_name())
}
