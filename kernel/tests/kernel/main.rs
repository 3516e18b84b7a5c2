//! The crate against the running kernel. Without root, tests that need it are reported as ignored.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "helpers of tests are tests, too"
)]

mod lab;

mod links;
mod locks;
mod maps;
mod namespaces;
mod netlink;
mod pins;
mod speed;
mod watches;
