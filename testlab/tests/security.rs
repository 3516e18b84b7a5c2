//! What SECURITY.md says of tests is so.

use std::path::Path;

#[test]
fn every_test_that_security_md_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = std::fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let quoted = text.split('`').skip(1).step_by(2);
    let named: Vec<(&str, &str)> = quoted.filter_map(|word| word.split_once(".rs::")).collect();
    assert!(named.len() > 20, "the table is there: {named:?}");
    for (file, test) in named {
        let source = std::fs::read_to_string(root.join(file).with_extension("rs"))
            .unwrap_or_else(|e| panic!("{file}.rs: {e}"));
        let before = source.find(&format!("fn {test}(")).map(|at| &source[..at]);
        let attributes = before.unwrap_or_else(|| panic!("{file}.rs has no test {test}")).lines().rev();
        let is_test = attributes.take(4).any(|line| line.trim() == "#[test]");
        assert!(is_test, "{test} of {file}.rs is no test");
    }
}
