//! What the definition of a map takes from the machine that it is made on.

use std::fmt;

/// The machine for which an object is inspected. libbpf completes definitions by it when it loads an object.
#[derive(Clone, Copy)]
pub struct Machine<'m> {
    /// Bytes of a page of memory: the size of a ring buffer is a power of two of pages.
    pub page_size: u32,
    /// The number of possible CPUs, or why it is not known: an array of perf events has a slot for each.
    pub possible_cpus: &'m dyn Fn() -> Result<u32, String>,
}

impl Default for Machine<'_> {
    /// Pages of 4096 bytes and one CPU: for what depends on neither.
    fn default() -> Self {
        Self { page_size: 4096, possible_cpus: &|| Ok(1) }
    }
}

impl fmt::Debug for Machine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("page_size", &self.page_size).finish_non_exhaustive()
    }
}
