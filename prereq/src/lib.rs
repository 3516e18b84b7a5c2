//! Makes the build fail early, in one line, when a system package is missing.
//!
//! redbpf builds libbpf and runs an old bindgen. Without their system packages both end in pages of
//! backtrace, and they run before any build script of this project: redbpf does not depend on us. It does
//! depend on `lazycell`, by way of bindgen, so this package takes that name (`[patch.crates-io]` in the
//! workspace's `Cargo.toml`) and its build script is a place that cargo must pass first. The library below is
//! the part of `lazycell` that bindgen 0.59 calls.

use std::cell::OnceCell;

/// A cell that is filled at its first use.
#[derive(Debug)]
pub struct LazyCell<T>(OnceCell<T>);

impl<T> LazyCell<T> {
    /// An empty cell.
    #[expect(clippy::new_without_default, reason = "bindgen calls no more than this")]
    pub const fn new() -> Self {
        Self(OnceCell::new())
    }

    /// The content, made by `fill` when there is none yet.
    pub fn borrow_with(&self, fill: impl FnOnce() -> T) -> &T {
        self.0.get_or_init(fill)
    }
}
