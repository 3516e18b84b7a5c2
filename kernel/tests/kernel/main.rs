//! The crate against the running kernel. Without root, tests that need it are reported as skipped.

mod lab;

mod links;
mod locks;
mod maps;
mod namespaces;
mod netlink;
mod pins;
mod speed;
mod watches;
