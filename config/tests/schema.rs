//! The JSON Schema accepts every file that is valid.

#![allow(clippy::unwrap_used)] // also in the helpers of tests

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use xdpd_config::{Config, SCHEMA};

/// Whether `value` is as `schema` says, as far as the keywords go that the schema uses.
fn accepts(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let schema = schema.as_object().unwrap();
    for (keyword, wanted) in schema {
        let fits = match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" | "default" | "properties" => Ok(()),
            "$ref" => {
                let place = wanted.as_str().unwrap().strip_prefix('#').unwrap();
                accepts(root, root.pointer(place).unwrap(), value)
            }
            "type" => is(wanted, value),
            "const" => same(wanted == value, "const"),
            "enum" => same(wanted.as_array().unwrap().contains(value), "enum"),
            "pattern" => same(
                value.as_str().unwrap().starts_with(wanted.as_str().unwrap().trim_start_matches('^')),
                "pattern",
            ),
            "minLength" => same(
                value.as_str().is_none_or(|s| s.chars().count() as u64 >= wanted.as_u64().unwrap()),
                keyword,
            ),
            "maxLength" => same(
                value.as_str().is_none_or(|s| s.chars().count() as u64 <= wanted.as_u64().unwrap()),
                keyword,
            ),
            "minItems" => {
                same(value.as_array().is_none_or(|a| a.len() as u64 >= wanted.as_u64().unwrap()), keyword)
            }
            "minProperties" => {
                same(value.as_object().is_none_or(|o| o.len() as u64 >= wanted.as_u64().unwrap()), keyword)
            }
            "uniqueItems" => {
                same(value.as_array().is_none_or(|a| (1..a.len()).all(|i| !a[..i].contains(&a[i]))), keyword)
            }
            "required" => same(
                wanted.as_array().unwrap().iter().all(|key| value.get(key.as_str().unwrap()).is_some()),
                keyword,
            ),
            "items" => {
                value.as_array().into_iter().flatten().try_for_each(|item| accepts(root, wanted, item))
            }
            "anyOf" => {
                same(wanted.as_array().unwrap().iter().any(|one| accepts(root, one, value).is_ok()), keyword)
            }
            "additionalProperties" => value.as_object().into_iter().flatten().try_for_each(|(key, value)| {
                match schema.get("properties").and_then(|known| known.get(key)) {
                    Some(known) => accepts(root, known, value),
                    None if wanted == false => Err(format!("unknown key {key}")),
                    None => accepts(root, wanted, value),
                }
                .map_err(|why| format!("{key}: {why}"))
            }),
            other => panic!("the keyword {other} is not known to this test"),
        };
        fits?;
    }
    Ok(())
}

fn same(fits: bool, keyword: &str) -> Result<(), String> {
    fits.then_some(()).ok_or_else(|| keyword.to_owned())
}

fn is(kind: &Value, value: &Value) -> Result<(), String> {
    if let Some(kinds) = kind.as_array() {
        return same(kinds.iter().any(|kind| is(kind, value).is_ok()), "type");
    }
    let fits = match kind.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64(),
        "boolean" => value.is_boolean(),
        other => panic!("the type {other} is not known to this test"),
    };
    same(fits, "type")
}

fn files() -> Vec<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = |dir: PathBuf| fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let golden = list(here.join("tests/golden")).map(|case| case.join("config.toml"));
    golden
        .chain(list(here.join("../examples/configs")))
        .filter(|p| p.extension().is_some_and(|e| e == "toml"))
        .collect()
}

#[test]
fn the_schema_accepts_what_is_valid_and_refuses_most_of_what_is_not() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let (mut valid, mut refused) = (0, 0);
    for file in files() {
        let text = fs::read_to_string(&file).unwrap();
        let Ok(table) = text.parse::<toml::Table>() else { continue };
        let answer = accepts(&schema, &schema, &serde_json::to_value(table).unwrap());
        if Config::parse(&file, &text).is_ok() {
            assert_eq!(answer, Ok(()), "{}", file.display());
            valid += 1;
        } else if answer.is_err() {
            refused += 1;
        }
    }
    assert!(valid > 10 && refused > 40, "{valid} valid, {refused} refused");
}
