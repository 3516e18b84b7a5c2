//! Reading the directory of one interface.

use std::collections::BTreeMap;

use xdpd_config::escape::unescape;
use xdpd_config::record::Record;
use xdpd_config::{LINK_PIN, OWNER_PIN, retired};
use xdpd_kernel::{Access, Dir, EntryKind, LinkKind, Look, MapId, PinnedObject, Result};

use super::names;
use super::pinned::{LinkState, OtherEntry, OtherKind, PinPermissions, Pinned, PinnedMap, Retired};
use crate::permissions::Permissions;

/// How often a directory is read anew that another run exchanges all the while.
const ATTEMPTS: usize = 16;

/// What a directory is that has the name of one of ours.
pub(super) enum Directory {
    /// It holds an interface.
    Ours(Box<Pinned>),
    /// It has a record, and others than root can change it, so that the record may be anybody's.
    Untrusted(Permissions),
    /// It has no record, or vanished meanwhile.
    Foreign,
}

impl Directory {
    /// The interface that it holds.
    pub(super) fn ours(self) -> Option<Pinned> {
        match self {
            Self::Ours(pinned) => Some(*pinned),
            Self::Untrusted(_) | Self::Foreign => None,
        }
    }
}

/// Reads one interface's directory. A look that is denied or fails is an error: taking it for an answer would make a plan
/// from a state that is not there.
///
/// Another run can exchange it for another directory while it is read, and remove it. Then what was read is half of
/// something, and it is read again.
pub(super) fn read_interface(root: &Dir, name: &str) -> Result<Directory> {
    let mut read = Ok(Directory::Foreign);
    for _ in 0..ATTEMPTS {
        let Some(dir) = root.find_dir(name)?.found() else { return Ok(Directory::Foreign) };
        read = read_directory(&dir, name);
        match root.find_stat(name)? {
            Some(now) if now.ino == dir.stat_self()?.ino => break,
            Some(_) => {}
            None => return Ok(Directory::Foreign),
        }
    }
    read
}

fn read_directory(dir: &Dir, name: &str) -> Result<Directory> {
    let directory = Permissions::from(dir.stat_self()?);
    let record = dir.find_symlink(OWNER_PIN);
    if directory.is_others_to_change() {
        return match record {
            Ok(Look::Gone | Look::Other(_)) => Ok(Directory::Foreign),
            // Its owner does not let root in, who has given up the right to all files: it may be one of ours.
            Err(e) if !e.is_denied_by_mode() => Err(e),
            Ok(Look::Found(_)) | Err(_) => Ok(Directory::Untrusted(directory)),
        };
    }
    let Some(text) = record?.found() else { return Ok(Directory::Foreign) };
    let record = match text.to_str() {
        Some(text) => Record::parse(text).map_err(|e| e.to_string()),
        None => Err("it is not UTF-8".to_owned()),
    };
    // What the record does not name was put there by others, whatever it is.
    let is_ours = |map: &String| record.as_ref().map_or(true, |r: &Record| r.maps.contains_key(map));
    let mut pinned = Pinned {
        directory: name.to_owned(),
        record: record.clone(),
        link: LinkState::Missing,
        maps: BTreeMap::new(),
        retired: Vec::new(),
        permissions: PinPermissions { directory, pins: BTreeMap::new() },
        others: Vec::new(),
    };
    for entry in dir.list()? {
        let mut other = OtherEntry { name: entry.name.clone(), what: OtherKind::Unknown };
        let Ok(name) = entry.name.into_string() else {
            pinned.others.push(other);
            continue;
        };
        if name == OWNER_PIN || names::is_temporary(&name) {
        } else if entry.kind == EntryKind::Dir {
            pinned.others.push(OtherEntry { what: OtherKind::Directory, ..other });
        } else if name == LINK_PIN {
            pinned.link = read_link(dir)?;
        } else if entry.kind != EntryKind::File {
            pinned.others.push(other);
        } else if let Some((_, generation, id)) = retired::parse(&name) {
            if let Some(stat) = dir.find_stat(&name)? {
                pinned.permissions.pins.insert(name.clone(), stat.into());
                pinned.retired.push(Retired { pin: name, generation, id: MapId(id) });
            }
        } else {
            // A pin of another type under the name of a map is not ours; neither is one that vanished.
            match (unescape(&name), dir.find_pin(&name, Access::ReadOnly)?) {
                (Some(map), Look::Found(PinnedObject::Map(object))) if is_ours(&map) => {
                    if let Some(stat) = dir.find_stat(&name)? {
                        pinned.permissions.pins.insert(name, stat.into());
                        pinned.maps.insert(map, PinnedMap::of(object.info()));
                    }
                }
                (_, Look::Gone) => {}
                (_, Look::Found(object)) => {
                    other.what = object.kind().into();
                    pinned.others.push(other);
                }
                (_, Look::Other(_)) => pinned.others.push(other),
            }
        }
    }
    pinned.retired.sort_by_key(|r| r.generation);
    Ok(Directory::Ours(Box::new(pinned)))
}

fn read_link(dir: &Dir) -> Result<LinkState> {
    let link = match dir.find_link(LINK_PIN)? {
        Look::Found(link) => link,
        Look::Gone => return Ok(LinkState::Missing),
        Look::Other(other) => {
            let path = dir.path_of(LINK_PIN);
            return Ok(LinkState::NotALink(format!("{} is {other}, not a link", path.display())));
        }
    };
    let info = link.info()?;
    Ok(match info.kind {
        LinkKind::Xdp { ifindex: Some(ifindex) } => {
            LinkState::Live { id: info.id, program: info.program_id, ifindex }
        }
        LinkKind::Xdp { ifindex: None } => LinkState::Defunct { id: info.id, program: info.program_id },
        LinkKind::Other(kind) => LinkState::NotALink(format!("a bpf_link of type {kind}, not of XDP")),
    })
}
