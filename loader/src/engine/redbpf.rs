//! Loads one program with redbpf, inside of the loader process.
//!
//! redbpf parses, relocates and loads; it never attaches here, since dropping an `XDP` that has attached detaches
//! whatever runs on the device. Its errors carry no errno and no verifier log, those go to `tracing`: a subscriber
//! that collects them for the time of the call gets them back.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use redbpf::{Map, ModuleBuilder, Program};
use tracing::field::{Field, Visit};
use tracing::span;
use xdpd_kernel::Dir;
use xdpd_kernel::{Access, Map as KernelMap, fd};

use super::protocol::{MapPin, Reply, Request};

/// Loads `request.function` of the object with the maps pinned in `maps`.
pub(super) fn load(object: &[u8], request: &Request, maps: &Dir) -> Result<OwnedFd, Reply> {
    let log = Log::default();
    let loaded =
        tracing::subscriber::with_default(Collector(log.clone()), || load_inner(object, request, maps));
    loaded.map_err(|failure| {
        let lines = log.take();
        match failure {
            Failure::Load => rejected(&lines),
            Failure::Other(what) if lines.is_empty() => Reply::Failed(what),
            Failure::Other(what) => Reply::Failed(format!("{what}: {}", lines.join("; "))),
        }
    })
}

enum Failure {
    Load,
    Other(String),
}

fn other(what: &str) -> impl FnOnce(redbpf::Error) -> Failure {
    move |e| Failure::Other(format!("redbpf: {what}: {e:?}"))
}

fn load_inner(object: &[u8], request: &Request, maps: &Dir) -> Result<OwnedFd, Failure> {
    let mut builder = ModuleBuilder::parse(object).map_err(other("cannot parse the object"))?;
    for MapPin { name, pin } in &request.maps {
        let path = format!("/proc/self/fd/{}/{pin}", maps.as_fd().as_raw_fd());
        let map = Map::from_pin_file(Path::new(&path)).map_err(other("cannot open a map's pin"))?;
        builder.replace_map(name, map).map_err(other("cannot hand over a map"))?;
    }
    let mut module = builder.to_module().map_err(other("cannot relocate the object"))?;
    for data in &request.data {
        replace_data_map(data, maps)?;
    }
    let (version, license) = (module.version, module.license.clone());
    let program = module
        .programs
        .iter_mut()
        .find(|p| matches!(p, Program::XDP(_)) && p.name() == request.function)
        .ok_or_else(|| Failure::Other(format!("redbpf finds no XDP program `{}`", request.function)))?;
    program.load(version, license).map_err(|_| Failure::Load)?;
    let fd = (*program.fd()).ok_or_else(|| Failure::Other("redbpf loaded no program".into()))?;
    fd::dup_raw(fd).map_err(|e| Failure::Other(e.to_string()))
}

/// Puts our map in the place of the one that redbpf made for a data section. `replace_map` refuses those, but the
/// program refers to its maps by descriptor number until it is loaded, and this process's descriptors are known: the
/// number is made to mean our map.
fn replace_data_map(data: &MapPin, maps: &Dir) -> Result<(), Failure> {
    let failed = |e: &dyn std::fmt::Display| Failure::Other(format!("data section `{}`: {e}", data.name));
    let ours = maps.open_map(&data.pin, Access::ReadWrite).map_err(|e| failed(&e))?;
    // The kernel keeps 15 characters of a name.
    let kernel_name: String = data.name.chars().take(15).collect();
    let mut candidates = open_maps().map_err(|e| failed(&e))?;
    candidates.retain(|(_, map)| map.info().name == kernel_name && map.id() != ours.id());
    match &*candidates {
        [(number, _)] => fd::dup_onto(&ours, *number).map_err(|e| failed(&e)),
        _ => Err(failed(&"cannot tell its map from others of the object")),
    }
}

/// The maps that this process has open, by descriptor number.
fn open_maps() -> std::io::Result<Vec<(RawFd, KernelMap)>> {
    let mut maps = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let number: Option<RawFd> = entry?.file_name().to_str().and_then(|n| n.parse().ok());
        // The descriptor of this very listing is gone by the time it is asked for; others are no maps.
        let Some(copy) = number.and_then(|n| fd::dup_raw(n).ok()) else { continue };
        if let (Some(number), Ok(map)) = (number, KernelMap::from_fd(copy, "a map of the object")) {
            maps.push((number, map));
        }
    }
    Ok(maps)
}

/// redbpf's line reads `error loading BPF program … os error=WORDS: LOG`.
fn rejected(lines: &[String]) -> Reply {
    let line = lines.iter().find(|l| l.starts_with("error loading BPF program")).map_or("", |l| &**l);
    let tail = line.split_once("os error=").map_or(line, |(_, tail)| tail);
    let (errno, log) = tail.split_once("): ").map_or((tail, ""), |(errno, log)| (errno, log));
    let errno = errno.split_once(" (os error").map_or(errno, |(words, _)| words);
    Reply::Rejected { errno: errno.to_owned(), log: log.to_owned() }
}

/// The lines that redbpf wrote.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A `tracing` subscriber that keeps the messages of errors.
struct Collector(Log);

impl tracing::Subscriber for Collector {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::ERROR
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Message(String);
        impl Visit for Message {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).push(message.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_the_verifier_keeps_errno_and_the_whole_log() {
        let line = "error loading BPF program `x' with bpf_load_program_xattr. ret=-13 os error=Permission denied \
                    (os error 13): 0: (b7) r0 = 1\nR1 invalid: mem\n";
        let Reply::Rejected { errno, log } = rejected(&[line.to_owned()]) else { panic!("not a refusal") };
        assert_eq!(errno, "Permission denied");
        assert_eq!(log, "0: (b7) r0 = 1\nR1 invalid: mem\n");
    }
}
