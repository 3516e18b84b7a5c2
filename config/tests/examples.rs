//! Every example is a valid file that says what it is for.

use std::fs;
use std::path::Path;

use xdpd_config::Config;

#[test]
fn every_example_is_valid_and_explains_itself() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/configs");
    let mut examples = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# "), "{}: no header that explains it", path.display());
        if let Err(errors) = Config::parse(&path, &text) {
            panic!("{errors}");
        }
        examples += 1;
    }
    assert!(examples >= 8, "only {examples} examples");
}
