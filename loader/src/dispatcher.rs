//! The dispatcher of libxdp: one program on a device that calls several others in turn, told by its name and by the only
//! map that it has, its configuration.

use std::fmt;

use serde::Serialize;
use xdpd_kernel::map_types::{BPF_F_RDONLY_PROG, BPF_F_WRONLY, BPF_MAP_TYPE_ARRAY};
use xdpd_kernel::{Map, MapDef, ProgramInfo};

/// What a dispatcher's configuration says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Dispatcher {
    /// The version of its configuration.
    pub version: u8,
    /// How many programs it calls.
    pub programs: u8,
}

impl fmt::Display for Dispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let programs = if self.programs == 1 { "program" } else { "programs" };
        write!(f, "version {}, {} {programs}, see `xdp-loader status`", self.version, self.programs)
    }
}

const NAME: &str = "xdp_dispatcher";
/// Begins a configuration since version 2: the sum of `X`, `D` and `P`.
const MAGIC: u8 = 236;
/// The most programs that version 1 has room for.
const MAX_PROGRAMS_1: u8 = 10;

/// Reads the configuration of a dispatcher; `None` for any other program, whatever it is called.
pub fn read(program: &ProgramInfo) -> Result<Option<Dispatcher>, xdpd_kernel::Error> {
    let [map] = *program.map_ids else { return Ok(None) };
    if program.name != NAME {
        return Ok(None);
    }
    // The program can have gone away meanwhile.
    let Some(map) = Map::find_by_id(map)?.filter(|map| is_config(map.def())) else { return Ok(None) };
    let mut config = vec![0; map.value_len()];
    let found = map.lookup(&0_u32.to_ne_bytes(), &mut config)?;
    Ok(found.then(|| decode(&config)).flatten())
}

/// Whether a map can be the constants of a dispatcher, which user space may read.
fn is_config(def: &MapDef) -> bool {
    def.map_type == BPF_MAP_TYPE_ARRAY
        && (def.key_size, def.max_entries) == (4, 1)
        && def.flags & (BPF_F_RDONLY_PROG | BPF_F_WRONLY) == BPF_F_RDONLY_PROG
}

/// The layouts of libxdp: version 1 begins with the number of programs, and those since with a mark, the version and the
/// number.
fn decode(config: &[u8]) -> Option<Dispatcher> {
    match (config.len(), config) {
        (84, [programs @ 1..=MAX_PROGRAMS_1, ..]) => Some(Dispatcher { version: 1, programs: *programs }),
        (124 | 128, [MAGIC, version @ (2..), programs @ (1..), ..]) => {
            Some(Dispatcher { version: *version, programs: *programs })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use xdpd_kernel::map_types::BPF_MAP_TYPE_HASH;

    use super::*;

    fn config(size: usize, begin: &[u8]) -> Vec<u8> {
        let mut config = vec![0; size];
        config[..begin.len()].copy_from_slice(begin);
        config
    }

    #[test]
    fn each_layout_tells_version_and_number_of_programs() {
        for (size, begin, version, programs) in [
            (84, &[1][..], 1, 1),
            (84, &[10, 9], 1, 10),
            (124, &[MAGIC, 2, 3], 2, 3),
            (128, &[MAGIC, 3, 255], 3, 255),
        ] {
            assert_eq!(
                decode(&config(size, begin)),
                Some(Dispatcher { version, programs }),
                "{size}: {begin:?}"
            );
        }
    }

    #[test]
    fn constants_of_other_programs_are_no_configuration() {
        for (size, begin) in [
            (84, &[][..]),
            (84, &[11]),
            (84, &[MAGIC, 2, 3]),
            (124, &[]),
            (124, &[1]),
            (124, &[MAGIC]),
            (124, &[MAGIC, 1, 1]),
            (128, &[MAGIC, 2, 0]),
            (0, &[]),
            (83, &[1]),
            (85, &[1]),
            (126, &[MAGIC, 2, 3]),
            (3, &[MAGIC, 2, 3]),
        ] {
            assert_eq!(decode(&config(size, begin)), None, "{size}: {begin:?}");
        }
    }

    #[test]
    fn only_a_single_read_only_entry_is_looked_at() {
        let def = MapDef {
            map_type: BPF_MAP_TYPE_ARRAY,
            key_size: 4,
            value_size: 124,
            max_entries: 1,
            flags: 0x80,
            map_extra: 0,
        };
        assert!(is_config(&def) && is_config(&MapDef { flags: 0x480, ..def }));
        for other in [
            MapDef { map_type: BPF_MAP_TYPE_HASH, ..def },
            MapDef { key_size: 8, ..def },
            MapDef { max_entries: 2, ..def },
            MapDef { flags: 0x400, ..def },
            MapDef { flags: 0x90, ..def },
        ] {
            assert!(!is_config(&other), "{other}");
        }
    }

    proptest! {
        #[test]
        fn anything_can_be_decoded(config in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(dispatcher) = decode(&config) {
                prop_assert!([84, 124, 128].contains(&config.len()) && dispatcher.programs > 0);
            }
        }
    }
}
