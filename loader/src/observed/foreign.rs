//! What others have on the file's devices and under the pin root.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use xdpd_config::{Label, shell};
use xdpd_kernel::{IfIndex, LinkId, Program, ProgramId, Result, XdpLink};

use super::Pinned;
use crate::devices::Devices;
use crate::dispatcher::{self, Dispatcher};
use crate::permissions::Permissions;

/// An entry of the pin root that is not ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignPin {
    /// File name.
    pub name: String,
    /// What it is, in words.
    pub what: &'static str,
    /// Others than root can change the directory, so that the record in it may be anybody's. These are its permissions.
    pub untrusted: Option<Permissions>,
}

impl ForeignPin {
    /// Something without a record of ours.
    pub fn of(name: impl Into<String>, what: &'static str) -> Self {
        Self { name: name.into(), what, untrusted: None }
    }

    /// Why it is in the way, where it lies under this path, and what to do.
    pub fn obstacle(&self, path: &str) -> String {
        let word = shell::word(Path::new(path));
        match self.untrusted {
            None => format!("{path} is {}; move it away, or choose another pin_root", self.what),
            Some(Permissions { uid: 0, mode, .. }) => format!(
                "{path} has mode {mode:04o}, so that others than root can change what it holds: not used; chmod go-w {word}"
            ),
            Some(Permissions { uid, .. }) => {
                format!("{path} belongs to user {uid}, and not to root: not used; chown root {word}")
            }
        }
    }
}

/// A program on a device that no link of ours holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignProgram {
    /// Its name in the kernel.
    pub name: String,
    /// Hex of its tag.
    pub tag: String,
    /// The `bpf_link` that holds it; `None` where it was attached through netlink.
    pub link: Option<LinkId>,
    /// It is the dispatcher of libxdp.
    pub dispatcher: Option<Dispatcher>,
}

impl fmt::Display for ForeignProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dispatcher {
            Some(dispatcher) => write!(f, "libxdp dispatcher ({dispatcher}; tag {}, ", self.tag)?,
            None => write!(f, "program `{}` (tag {}, ", self.name, self.tag)?,
        }
        match self.link {
            Some(id) => write!(f, "held by bpf_link {id})"),
            None => f.write_str("attached through netlink)"),
        }
    }
}

/// The programs on these devices that are not of these interfaces, by where they run. A program is told apart per device:
/// others can attach one of ours elsewhere, or theirs twice, once by a link.
pub(super) fn programs(
    devices: &Devices,
    interfaces: &BTreeMap<Label, Pinned>,
) -> Result<BTreeMap<(ProgramId, IfIndex), ForeignProgram>> {
    let attached = devices.iter().flat_map(|(_, d)| d.xdp.iter().map(move |a| (d, a.program_id)));
    let ours = |device, id| interfaces.values().any(|p| p.holds(device, id));
    let foreign: BTreeSet<(ProgramId, IfIndex)> =
        attached.filter(|(d, id)| !ours(d, *id)).map(|(d, id)| (id, d.ifindex)).collect();
    let mut programs = BTreeMap::new();
    if foreign.is_empty() {
        return Ok(programs);
    }
    let links: BTreeMap<_, _> = XdpLink::all_xdp()?
        .into_iter()
        .filter_map(|info| Some(((info.program_id, info.ifindex()?), info.id)))
        .collect();
    for place in foreign {
        // It can have gone away meanwhile.
        let Some(program) = Program::find_by_id(place.0)? else { continue };
        let info = program.info()?;
        let program = ForeignProgram {
            dispatcher: dispatcher::read(&info)?,
            link: links.get(&place).copied(),
            tag: info.tag_hex(),
            name: info.name,
        };
        programs.insert(place, program);
    }
    Ok(programs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_in_a_command_can_be_pasted() {
        let of = |uid, mode| Some(Permissions { uid, gid: 0, mode });
        for (untrusted, command) in [(of(4321, 0o700), "chown root"), (of(0, 0o777), "chmod go-w")] {
            let pin = ForeignPin { untrusted, ..ForeignPin::of("a b;$(id)", "a directory") };
            let obstacle = pin.obstacle("/run/pins/a b;$(id)");
            assert!(obstacle.ends_with(&format!("; {command} '/run/pins/a b;$(id)'")), "{obstacle}");
        }
    }
}
