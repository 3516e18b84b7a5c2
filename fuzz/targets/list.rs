//! Any text as a list of entries, in each of the formats.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use xdpd_config::List;

fuzz_target!(|input: (u8, &str)| {
    let (format, text) = input;
    let path = ["list.csv", "list.json", "list.toml"][usize::from(format % 3)];
    if let Err(errors) = List::parse(Path::new(path), text.to_owned()) {
        assert!(!errors.render(false).is_empty());
    }
});
