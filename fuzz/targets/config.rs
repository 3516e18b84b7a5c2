//! Any text as the file: it is valid, or each of its errors can be shown.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use xdpd_config::Config;

fuzz_target!(|text: &str| {
    match Config::parse(Path::new("/etc/xdpd/config.toml"), text) {
        Ok(config) => {
            for interface in &config.interfaces {
                let program = config.program_of(interface);
                let _ = config.reuse_of(interface, program, "xdp_stats_map");
                let _ = interface.label_of("eth0");
            }
        }
        Err(errors) => {
            assert!(!errors.render(false).is_empty() && !errors.render(true).is_empty());
            for (line, column, _) in errors.iter() {
                assert!(line >= 1 && column >= 1);
            }
        }
    }
});
