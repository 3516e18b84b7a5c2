//! What exists in the kernel, machine-wide: XDP programs and links, maps and BTF objects by id.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use xdpd_kernel::{Btf, Map, Program, ProgramId, ProgramInfo, XdpLink};

use crate::wait::{DEADLINE, wait_for};

/// The ids of BPF objects at one moment. Ids grow and are not soon reused, so they identify objects.
///
/// Without programs of other types than XDP, and without what they use: a service manager loads some for each service
/// that it starts, and tools that trace load others, at any time.
///
/// For a test that runs alone ([`crate::Lab::alone`]), on a private bpffs that is mounted before the first
/// snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KernelObjects {
    /// Programs.
    pub programs: BTreeSet<u32>,
    /// Maps.
    pub maps: BTreeSet<u32>,
    /// Links.
    pub links: BTreeSet<u32>,
    /// BTF objects.
    pub btf: BTreeSet<u32>,
}

impl KernelObjects {
    /// All that exist now. Needs root.
    pub fn snapshot() -> Self {
        let (ours, others): (Vec<ProgramInfo>, _) =
            all(Program::ids()).filter_map(info).partition(ProgramInfo::is_xdp);
        let maps_of_others: BTreeSet<u32> = others.iter().flat_map(|p| &p.map_ids).map(|id| id.0).collect();
        let btf_of_others: BTreeSet<u32> = others.iter().filter_map(|p| p.btf_id).map(|id| id.0).collect();
        let maps: BTreeSet<u32> = all(Map::ids()).map(|id| id.0).collect();
        let btf: BTreeSet<u32> = all(Btf::ids()).map(|id| id.0).collect();
        let links = XdpLink::all_xdp().expect("the links of the kernel");
        Self {
            programs: ours.iter().map(|program| program.id.0).collect(),
            maps: &maps - &maps_of_others,
            links: links.iter().map(|link| link.id.0).collect(),
            btf: &btf - &btf_of_others,
        }
    }

    /// All that exist once nothing is on its way out any more: two equal snapshots, some grace periods apart.
    #[track_caller]
    pub fn settled() -> Self {
        let mut last = Self::snapshot();
        wait_for("kernel objects that stay the same", DEADLINE, || {
            std::thread::sleep(Duration::from_millis(100));
            let now = Self::snapshot();
            let same = now == last;
            last = now;
            same.then(|| last.clone())
        })
    }

    /// What is here and was not there in `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            programs: &self.programs - &earlier.programs,
            maps: &self.maps - &earlier.maps,
            links: &self.links - &earlier.links,
            btf: &self.btf - &earlier.btf,
        }
    }

    /// Whether there are none at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Waits until the kernel holds nothing that this snapshot does not: "leaves nothing behind".
    ///
    /// The kernel frees in the background, after the last reference is gone. For the same reason it is no
    /// difference that something of this snapshot is gone since: it may have been about to go when it was
    /// taken.
    #[track_caller]
    pub fn wait_until_nothing_new(&self) {
        let end = Instant::now() + DEADLINE;
        loop {
            let new = Self::snapshot().since(self);
            if new.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "still there after {DEADLINE:?}: {new}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until neither anything appears nor disappears against this snapshot: "changes nothing".
    ///
    /// Take the snapshot with [`KernelObjects::settled`].
    #[track_caller]
    pub fn wait_until_equal(&self) {
        self.wait_until_nothing_new();
        let now = Self::snapshot();
        let gone = self.since(&now);
        assert!(gone.is_empty(), "no longer there: {gone}");
    }
}

impl fmt::Display for KernelObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { programs, maps, links, btf } = self;
        write!(f, "programs {programs:?}, maps {maps:?}, links {links:?}, btf {btf:?}")
    }
}

fn all<T>(ids: impl Iterator<Item = xdpd_kernel::Result<T>>) -> impl Iterator<Item = T> {
    ids.map(|id| id.expect("ids of kernel objects"))
}

/// What there is to know of a program, unless it is gone since it was listed.
fn info(id: ProgramId) -> Option<ProgramInfo> {
    let program = Program::find_by_id(id).unwrap_or_else(|error| panic!("{error}"))?;
    Some(program.info().unwrap_or_else(|error| panic!("{error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Lab, require_root};

    #[test]
    #[ignore = "needs root"]
    fn an_object_is_seen_while_it_exists_and_its_end_is_waited_for() {
        require_root!();
        let _lab = Lab::alone("objects");
        let before = KernelObjects::settled();
        let program = Program::load_xdp_returning("xlab", 2).unwrap();
        let new = KernelObjects::snapshot().since(&before);
        assert_eq!((new.programs.len(), new.maps.len(), new.links.len()), (1, 0, 0));
        drop(program);
        before.wait_until_nothing_new();
        before.wait_until_equal();
    }
}
