//! `xdpd` as a library: the parts that its binary and its tests put together.
//!
//! Data goes one way: a file is parsed and resolved to the [desired] state, the kernel is
//! [observed], [plan] compares the two, and `execute` carries the plan out.

mod builtin;
pub mod cli;
pub mod commands;
pub mod desired;
pub mod devices;
pub mod dispatcher;
pub mod engine;
pub mod entries;
mod events;
mod execute;
pub mod exit;
pub mod globals;
pub mod inner_map;
mod interrupt;
mod lints;
pub mod migrate;
mod mode;
pub mod objects;
pub mod observed;
pub mod output;
pub mod permissions;
pub mod plan;
pub mod privileges;
mod root;
mod sd_notify;
mod trial;

pub use xdpd_object as object;
