//! The text of a file: whatever it is, it is a config or a list of errors that point into it.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use xdpd_config::Config;

fuzz_target!(|text: &str| {
    match Config::parse(Path::new("/etc/xdpd/config.toml"), text) {
        Ok(config) => {
            for interface in &config.interfaces {
                let program = config.program_of(interface);
                for map in program.maps.keys() {
                    config.reuse_of(interface, program, map);
                }
            }
        }
        Err(diagnostics) => assert!(!diagnostics.render(false).is_empty()),
    }
});
