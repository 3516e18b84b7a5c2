//! The built-in programs: the object that `build.rs` made of `probes/`.

/// The ELF object, in the redbpf dialect. Its functions are [`xdpd_config::BUILTIN_FUNCTIONS`].
pub(crate) const OBJECT: &[u8] = &ALIGNED.0;

/// `include_bytes!` promises no alignment; parsers read ELF headers in place, as structures of eight-byte
/// fields.
#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);

static ALIGNED: &Aligned<[u8]> = &Aligned(*include_bytes!(env!("XDPD_BUILTIN_ELF")));

#[cfg(test)]
mod tests {
    use super::*;
    use object::{Object, ObjectSection, ObjectSymbol};

    fn parse() -> object::File<'static> {
        object::File::parse(OBJECT).expect("the built-in object parses")
    }

    #[test]
    fn the_object_holds_exactly_the_promised_functions() {
        let object = parse();
        let mut found: Vec<_> = object
            .sections()
            .filter_map(|section| section.name().ok()?.strip_prefix("xdp/").map(str::to_owned))
            .collect();
        let mut promised = xdpd_config::BUILTIN_FUNCTIONS.map(str::to_owned);
        found.sort();
        promised.sort();
        assert_eq!(found, promised);
    }

    #[test]
    fn the_object_has_the_stats_map_and_btf_and_no_other_map() {
        let object = parse();
        let maps: Vec<_> = object
            .sections()
            .filter_map(|section| section.name().ok().map(str::to_owned))
            .filter(|name| {
                [".rodata", ".data", ".bss", "maps/"].iter().any(|prefix| name.starts_with(prefix))
            })
            .collect();
        assert_eq!(maps, ["maps/xdp_stats_map"]);
        assert!(object.section_by_name(".BTF").is_some());
    }

    #[test]
    fn the_object_says_nothing_of_the_machine_that_built_it() {
        let object = parse();
        assert!(object.sections().all(|section| !section.name().unwrap().starts_with(".debug")));
        assert!(object.symbols().all(|symbol| symbol.kind() != object::SymbolKind::File));
        let root = env!("CARGO_MANIFEST_DIR").as_bytes();
        let root = &root[..root.len() - "/loader".len()];
        assert!(!OBJECT.windows(root.len()).any(|window| window == root));
    }

    #[test]
    fn the_object_is_aligned_for_reading_in_place() {
        assert_eq!(OBJECT.as_ptr() as usize % 8, 0);
    }
}
