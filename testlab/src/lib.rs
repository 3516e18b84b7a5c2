//! What the tests stand on: network labs with exact packet counts, private bpffs mounts, runners, object
//! counts.
//!
//! Nothing here is mocked. A [`Lab`] is two network namespaces joined by veth pairs; a [`Sender`] on the far
//! side puts an exact number of frames on the wire, so a test can ask for equality and not for "about".
//!
//! # Kernel tests
//!
//! libtest has no "skipped at run time": a test that returns early is reported as `ok`. So a test that needs
//! root says so twice. The attribute makes `cargo test` report it as `ignored, needs root`, which is the
//! truth for an ordinary user; `make test` adds `--include-ignored` when it runs as root. The macro is for
//! those who add it without being root.
//!
//! ```no_run
//! use xdpd_testlab::{DEADLINE, Lab, require_root, wait_until};
//!
//! #[test]
//! #[ignore = "needs root"]
//! fn frames_arrive() {
//!     require_root!();
//!     let lab = Lab::new("frames");
//!     let veth = lab.veth("eth0", "peer0");
//!     assert_eq!(lab.sender(&veth).send(1000), 1000);
//! }
//! ```
//!
//! # Alone or together
//!
//! Tests run beside each other, each in namespaces and on a bpffs of its own. A test that counts the kernel's
//! objects machine-wide must run alone: it takes [`Lab::alone`] instead of [`Lab::new`] and waits until no
//! other lab is left.

#![forbid(unsafe_code)]
// Every function here ends the test with a panic when the machine does not do what was asked.
#![allow(clippy::missing_panics_doc)]

pub mod bpffs;
pub mod lab;
pub mod leftovers;
pub mod lock;
pub mod netns;
pub mod objects;
pub mod run;
pub mod sender;
pub mod stats;
pub mod wait;

pub use bpffs::Bpffs;
pub use lab::{Lab, Veth};
pub use lock::Lock;
pub use netns::{Netns, command};
pub use objects::KernelObjects;
pub use run::{Invocation, Output, xdp_stats, xdpd};
pub use sender::{Sender, Traffic};
pub use stats::Stats;
pub use wait::{DEADLINE, wait_for, wait_until};

/// Whether the tests may create namespaces, links and BPF objects.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Tells the terminal that the calling test does not run. Not through `eprintln!`, which libtest would
/// swallow.
#[doc(hidden)]
pub fn report_skipped() {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    // A closed stderr leaves nobody to tell.
    let _ = std::io::Write::write_all(
        &mut std::io::stderr(),
        format!("{test}: skipped: needs root\n").as_bytes(),
    );
}

/// Leaves the calling test, with a line on stderr, when it does not run as root.
#[macro_export]
macro_rules! require_root {
    () => {
        if !$crate::is_root() {
            $crate::report_skipped();
            return;
        }
    };
}
