//! The crate against the running kernel. Without root, tests that need it are reported as ignored.
#![allow(clippy::unwrap_used)] // helpers of tests

mod lab;

mod cpus;
mod links;
mod locks;
mod maps;
mod namespaces;
mod netlink;
mod pins;
mod speed;
mod watches;
