//! test
mod delta;
mod record;
fn main() {}
