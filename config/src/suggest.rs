//! Near misses: which of the known words somebody probably meant.

/// Words longer than this are not looked at: nobody means them, and comparing takes time and memory in their
/// square.
const LONGEST: usize = 64;

/// As many candidates are looked at: among more, the time for a file full of unknown words would be felt.
const MOST: usize = 100;

/// Words shorter than this are parts of too many others.
const SHORTEST_PART: usize = 4;

/// The candidate that `found` is a near miss of: the closest of those that differ in a third of the letters
/// at most, whatever their case, or else the only one that `found` is a part of.
///
/// The caller puts it into words: "did you mean `…`?".
pub fn suggest<'a>(found: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    if found.is_empty() || found.len() > LONGEST {
        return None;
    }
    let found = found.to_lowercase();
    let letters = found.chars().count();
    let allowed = (letters / 3).max(usize::from(letters > 1)).min(3);
    let (mut closest, mut containing) = (None, Vec::new());
    for candidate in candidates.into_iter().take(MOST).filter(|candidate| candidate.len() <= LONGEST) {
        let lower = candidate.to_lowercase();
        if found.len().abs_diff(lower.len()) <= 4 * allowed {
            let distance = strsim::damerau_levenshtein(&found, &lower);
            if distance <= allowed && closest.is_none_or(|(least, _)| distance < least) {
                closest = Some((distance, candidate));
            }
        }
        if found.len() >= SHORTEST_PART && lower.contains(&found) {
            containing.push(candidate);
        }
    }
    match (closest, containing.as_slice()) {
        (Some((_, closest)), _) => Some(closest.to_owned()),
        (None, [only]) => Some((*only).to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODES: [&str; 3] = ["native", "generic", "offload"];

    #[test]
    fn the_closest_candidate_is_suggested() {
        assert_eq!(suggest("nativ", MODES).as_deref(), Some("native"));
        assert_eq!(suggest("GENERIC", MODES).as_deref(), Some("generic"));
        assert_eq!(suggest("ofload", MODES).as_deref(), Some("offload"));
        assert_eq!(suggest("maps", ["map", "mapss", "mops"]).as_deref(), Some("map"));
    }

    #[test]
    fn a_part_suggests_the_only_word_that_holds_it() {
        assert_eq!(suggest("drop", ["xdp_pass_func", "xdp_drop_func"]).as_deref(), Some("xdp_drop_func"));
        assert_eq!(suggest("func", ["xdp_pass_func", "xdp_drop_func"]), None);
        assert_eq!(suggest("off", ["offload_everything"]), None);
    }

    #[test]
    fn words_that_have_little_in_common_are_not_suggested() {
        assert_eq!(suggest("auto", MODES), None);
        assert_eq!(suggest("", MODES), None);
        assert_eq!(suggest("x", ["y"]), None);
        assert_eq!(suggest(&"n".repeat(1000), MODES), None);
    }
}
