//! Any text as a record: what can be read is written as something that reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xdpd_config::Record;

fuzz_target!(|text: &str| {
    if let Ok(record) = Record::parse(text) {
        assert_eq!(Record::parse(&record.format()).as_ref(), Ok(&record));
    }
});
