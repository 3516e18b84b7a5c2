//! Checks the system packages; `src/lib.rs` says why it is done here.

#[expect(dead_code, reason = "only loader/build.rs wants to know what was found")]
mod system;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=system.rs");
    if let Err(problem) = system::check() {
        println!("cargo::error={problem}");
    }
}
