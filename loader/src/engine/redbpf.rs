//! Loads one program with redbpf, inside of the loader process.
//!
//! redbpf parses, relocates and loads; it never attaches here, since dropping an `XDP` that has attached detaches
//! whatever runs on the device. Its errors carry no errno and no verifier log, those go to `tracing`: a subscriber
//! that collects them for the time of the call gets them back.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use redbpf::{Map, ModuleBuilder, Program};
use tracing::field::{Field, Visit};
use tracing::span;
use xdpd_kernel::{Access, Dir, Map as KernelMap, Program as KernelProgram};

use super::protocol::{MapPin, Reply, Request};

/// Loads `request.function` of the object with the maps pinned in `maps`.
pub(super) fn load(mut object: Vec<u8>, request: &Request, maps: &Dir) -> Result<OwnedFd, Reply> {
    let log = Log::default();
    let loaded =
        tracing::subscriber::with_default(Collector(log.clone()), || load_inner(&mut object, request, maps));
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

fn load_inner(object: &mut [u8], request: &Request, maps: &Dir) -> Result<OwnedFd, Failure> {
    let _data = put_data_maps(object, request, maps)?;
    let mut builder = ModuleBuilder::parse(object).map_err(other("cannot parse the object"))?;
    for MapPin { name, pin } in &request.maps {
        let path = format!("/proc/self/fd/{}/{pin}", maps.as_fd().as_raw_fd());
        let map = Map::from_pin_file(Path::new(&path)).map_err(other("cannot open a map's pin"))?;
        builder.replace_map(name, map).map_err(other("cannot hand over a map"))?;
    }
    let mut module = builder.to_module().map_err(other("cannot relocate the object"))?;
    let (version, license) = (module.version, module.license.clone());
    let program = module
        .programs
        .iter_mut()
        .find(|p| matches!(p, Program::XDP(_)) && p.name() == request.function)
        .ok_or_else(|| Failure::Other(format!("redbpf finds no XDP program `{}`", request.function)))?;
    program.load(version, license).map_err(|_| Failure::Load)?;
    let fd = (*program.fd()).ok_or_else(|| Failure::Other("redbpf loaded no program".into()))?;
    let program = KernelProgram::from_number(fd, &*request.function);
    program.map(KernelProgram::into).map_err(|e| Failure::Other(e.to_string()))
}

/// Writes the descriptors of our maps where the program refers to global variables. redbpf would make maps of its own, so
/// the object that it gets has no other trace of them. The maps are to stay open until the program is loaded.
fn put_data_maps(object: &mut [u8], request: &Request, maps: &Dir) -> Result<Vec<KernelMap>, Failure> {
    let mut open = Vec::new();
    for MapPin { name, pin } in &request.data {
        let failed = |e: &dyn std::fmt::Display| Failure::Other(format!("data section `{name}`: {e}"));
        let map = maps.open_map(pin, Access::ReadWrite).map_err(|e| failed(&e))?;
        let number = map.as_fd().as_raw_fd().to_le_bytes();
        for reference in request.data_references.iter().filter(|reference| reference.map == *name) {
            let place =
                reference.at.checked_add(number.len()).and_then(|end| object.get_mut(reference.at..end));
            place.ok_or_else(|| failed(&"a reference outside of the object"))?.copy_from_slice(&number);
        }
        open.push(map);
    }
    Ok(open)
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
