//! The text of a record: what is read is what is written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xdpd_config::Record;

fuzz_target!(|text: &str| {
    if let Ok(record) = Record::parse(text) {
        let again = Record::parse(&record.format());
        assert_eq!(again.as_ref(), Ok(&record));
    }
});
