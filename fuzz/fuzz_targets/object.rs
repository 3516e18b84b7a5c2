//! An object of either dialect: the gate, and all that `check` and `apply` do with what passes it before a loading library
//! sees it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xdpd::object::Object;
use xdpd::object::explain::Explanation;
use xdpd::output::check::{ObjectFacts, Report, text};
use xdpd::output::json;

fuzz_target!(|bytes: &[u8]| {
    let Ok(object) = Object::inspect(bytes.to_vec()) else { return };
    for program in object.programs() {
        assert_eq!(object.engine_bytes(program).map(|patched| patched.len()), Ok(bytes.len()));
        let _ = object.source_line(program, 1);
        object.attach_type(program);
    }
    let explanation = Explanation::of(&object);
    let facts = ObjectFacts { object: String::new(), run_by: Vec::new(), explanation };
    let report = Report {
        format_version: "1.0",
        config: None,
        interfaces: Vec::new(),
        programs: Vec::new(),
        objects: vec![facts],
    };
    assert!(!text(&report).contains(|c: char| c.is_control() && c != '\n'));
    assert!(json::line(&report).starts_with('{'));
});
