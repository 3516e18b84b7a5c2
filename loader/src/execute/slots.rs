//! Makes and fills maps that hold maps, and loads a program with those that it jumps to. All of it in the stage.

use std::collections::BTreeMap;

use xdpd_config::Label;
use xdpd_kernel::{Access, Btf, Dir, Error, Map, MapBtf, MapExtras, Program};

use super::error::{at, pin_at};
use super::{Executor, StepError};
use crate::desired::Instance;
use crate::engine::{Engine, EngineError, LoadRequest};
use crate::object::{Inner, MapSpec};
use crate::observed::map_pin;

/// Makes a map, with the types that the object has for it.
pub(super) fn create(name: &str, spec: &MapSpec, btf: Option<&Btf>) -> Result<Map, Error> {
    let types = |ids: Option<(u32, u32)>| {
        let ((key_type_id, value_type_id), btf) = ids.zip(btf)?;
        Some(MapBtf { btf, key_type_id, value_type_id })
    };
    let pattern = |Inner { def, btf, numa_node, .. }: &Inner| {
        let extras = MapExtras { btf: types(*btf), numa_node: *numa_node, inner: None };
        Map::create_with(&format!("{name}.inner"), def, extras)
    };
    // The kernel looks at it in this call only.
    let inner = spec.inner().map(pattern).transpose()?;
    let extras = MapExtras { btf: types(spec.btf), inner: inner.as_ref(), numa_node: spec.numa_node };
    Map::create_with(name, &spec.def, extras)
}

/// Puts the maps of the object into a new map of maps. They are pinned in `dir`.
pub(super) fn fill(
    label: &Label,
    name: &str,
    outer: &Map,
    spec: &MapSpec,
    dir: &Dir,
) -> Result<(), StepError> {
    if spec.inner().is_none() {
        return Ok(());
    }
    let mut maps = BTreeMap::new();
    for inner in spec.slots().values() {
        if !maps.contains_key(inner) {
            let map = dir
                .open_map(map_pin(inner), Access::ReadWrite)
                .map_err(pin_at(label, &format!("open map {inner}")))?;
            maps.insert(inner, map);
        }
    }
    let slots: Vec<_> = spec
        .slots()
        .iter()
        .filter_map(|(index, inner)| Some((index.to_ne_bytes(), maps.get(inner)?)))
        .collect();
    let slots = slots.iter().map(|(key, map)| (&key[..], *map));
    outer.put_all(slots).map_err(at(label, &format!("put maps into map {name}")))
}

impl<E: Engine> Executor<'_, E> {
    /// Loads the program of an interface, and those that program arrays of the object hold for it. The arrays are new and
    /// pinned in `dir`, so nothing of this is seen before the commit, and nothing is left when the directory goes: the kernel
    /// empties an array with its last pin.
    pub(super) fn load_all(
        &mut self,
        label: &Label,
        instance: &Instance,
        dir: &Dir,
    ) -> Result<Program, StepError> {
        let program = self.load(label, instance, &instance.function, dir)?;
        let mut others = BTreeMap::new();
        for (name, map) in &instance.maps {
            let Some(programs) = map.spec.programs() else { continue };
            let array = dir
                .open_map(map_pin(name), Access::ReadWrite)
                .map_err(pin_at(label, &format!("open map {name}")))?;
            for (index, function) in programs {
                if *function != instance.function && !others.contains_key(function) {
                    self.interrupt.check()?;
                    others.insert(function.clone(), self.load(label, instance, function, dir)?);
                }
                let what = format!("put program {function} into map {name}");
                array
                    .put(&index.to_ne_bytes(), others.get(function).unwrap_or(&program))
                    .map_err(at(label, &what))?;
            }
        }
        Ok(program)
    }

    fn load(
        &mut self,
        label: &Label,
        instance: &Instance,
        function: &str,
        dir: &Dir,
    ) -> Result<Program, StepError> {
        let failed =
            |source| StepError::Engine { label: label.to_string(), function: function.to_owned(), source };
        let object = self
            .objects
            .by_digest(&instance.digest)
            .ok_or_else(|| failed(EngineError::Failed("its object is gone".into())))?;
        let Instance { globals, attach_type, .. } = instance;
        let request = LoadRequest { object, function, attach_type: *attach_type, globals, maps: dir };
        self.engine.load(&request).map_err(failed)
    }
}
