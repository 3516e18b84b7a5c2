//! Any bytes as an object: it is refused, or everything can be asked of it that check, the plan and the engines ask.
//!
//! Both dialects go this way; the seeds decide which of them the fuzzer explores. What comes behind the gate, the parsers
//! of redbpf and aya, runs in a process of its own and may fail there: loader/tests has the promises about that.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xdpd_object::Object;
use xdpd_object::explain::Explanation;

fuzz_target!(|bytes: &[u8]| {
    let Ok(object) = Object::inspect(bytes.to_vec()) else { return };
    assert!(object.maps().len() <= 64);
    for program in object.programs() {
        let _ = object.attach_type(program);
        if let Ok(patched) = object.engine_bytes(program, []) {
            assert_eq!(patched.len(), bytes.len());
        }
        let _ = object.source_line(program, 1);
    }
    for name in object.maps().keys() {
        let _ = object.data(name);
    }
    assert!(serde_json::to_string(&Explanation::of(&object)).is_ok());
});
