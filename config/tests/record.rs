//! The text of a record, to the letter: both programs read it, and so do people.

use std::collections::BTreeMap;

use xdpd_config::{Mode, Record, RecordError};

fn record() -> Record {
    Record {
        version: 1,
        generation: 3,
        config: "/etc/xdpd/config.toml".into(),
        device: "eth0".to_owned(),
        ifindex: 6,
        netns: (4, 4_026_531_840),
        netns_name: None,
        mode: Mode::Native,
        object: "builtin:0123abcd".to_owned(),
        globals: None,
        values: BTreeMap::new(),
        function: "xdp_pass_func".to_owned(),
        program: 71,
        attach_type: 0,
        maps: BTreeMap::from([("xdp_stats_map".to_owned(), 25)]),
        inner: BTreeMap::new(),
        base: BTreeMap::new(),
        retired: BTreeMap::new(),
    }
}

#[test]
fn a_plain_record_reads_like_this() {
    let text = "v=1 gen=3 config=/etc/xdpd/config.toml device=eth0 ifindex=6 netns=4:4026531840 mode=native \
                object=builtin:0123abcd function=xdp_pass_func program=71 map.xdp_stats_map=25";
    assert_eq!(record().format(), text);
    assert_eq!(Record::parse(text), Ok(record()));
}

#[test]
fn a_full_record_reads_like_this() {
    let record = Record {
        config: "/etc/my configs/100%=a\n.toml".into(),
        netns_name: Some("tenant a".to_owned()),
        globals: Some("sha256:ff".to_owned()),
        values: BTreeMap::from([
            ("limit".to_owned(), "1000".to_owned()),
            ("name".to_owned(), "\"a = b\"".to_owned()),
        ]),
        attach_type: 37,
        maps: BTreeMap::from([(".bss".to_owned(), 26), ("xdp_stats_map".to_owned(), 25)]),
        inner: BTreeMap::from([("tenants".to_owned(), "1:4:8:16:0:0:-:e3b0c442".to_owned())]),
        base: BTreeMap::from([("xdp_stats_map".to_owned(), 20)]),
        retired: BTreeMap::from([(20, 691_272), (9, 691_000)]),
        ..record()
    };
    let text = "v=1 gen=3 config=/etc/my%20configs/100%25%3Da%0A.toml device=eth0 ifindex=6 \
                netns=4:4026531840 netns_name=tenant%20a mode=native object=builtin:0123abcd \
                globals=sha256:ff global.limit=1000 global.name=\"a%20%3D%20b\" function=xdp_pass_func program=71 attach_type=37 map..bss=26 map.xdp_stats_map=25 \
                inner.tenants=1:4:8:16:0:0:-:e3b0c442 base.xdp_stats_map=20 retired.9=691000 retired.20=691272";
    assert_eq!(record.format(), text);
    assert_eq!(Record::parse(text), Ok(record));
}

#[test]
fn the_order_of_pairs_and_spaces_around_them_mean_nothing() {
    let mut pairs: Vec<_> = record().format().split(' ').map(str::to_owned).collect();
    pairs.reverse();
    assert_eq!(Record::parse(&format!("  {} ", pairs.join("  "))), Ok(record()));
}

#[test]
fn an_error_names_the_key() {
    let cases = [
        ("ifindex=6", "ifindex=six", "`ifindex` is `six`, expected a number"),
        ("ifindex=6", "ifindex=4294967296", "`ifindex` is `4294967296`, expected a number"),
        ("netns=4:4026531840", "netns=4", "`netns` is `4`, expected two numbers"),
        ("mode=native", "mode=skb", "`mode` is `skb`, expected native, generic or offload"),
        ("device=eth0", "device=eth%0", "`device` is `eth%0`, expected UTF-8 with % escapes"),
        ("device=eth0", "device=%FF", "`device` is `%FF`, expected UTF-8 with % escapes"),
        ("map.xdp_stats_map=25", "map.xdp_stats_map=-1", "`map.xdp_stats_map` is `-1`, expected a number"),
        ("program=71", "program=71 retired.x=1", "`retired.x` is `1`, expected a number"),
        ("program=71", "program=71 program=72", "the key `program` twice"),
        ("program=71", "program", "holds `program`, which is no `key=value`"),
        ("program=71 ", "", "lacks the key `program`"),
    ];
    for (from, to, expected) in cases {
        let error = Record::parse(&record().format().replace(from, to)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn another_version_is_said_before_anything_else() {
    assert_eq!(Record::parse("v=2 something=else"), Err(RecordError::Version(2)));
    assert_eq!(Record::parse(""), Err(RecordError::Missing("v")));
}
