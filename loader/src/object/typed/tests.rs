//! What each type takes, what it refuses, and that nothing is lost on the way there and back.

use proptest::prelude::*;
use xdpd_config::{Located, Value, hex};

use super::super::btf::Btf;
use super::{TypeProblem, decode, describe, encode};

/// Writes BTF as a compiler would.
#[derive(Clone)]
struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

impl Builder {
    fn new() -> Self {
        Self { types: Vec::new(), strings: vec![0], count: 0 }
    }

    fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let at = u32::try_from(self.strings.len()).unwrap();
        self.strings.extend(text.as_bytes());
        self.strings.push(0);
        at
    }

    /// The id of the new type.
    fn add(&mut self, name: &str, kind: u32, flag: bool, parts: usize, size: u32, rest: &[u32]) -> u32 {
        let name = self.string(name);
        let info = kind << 24 | u32::from(flag) << 31 | u32::try_from(parts).unwrap();
        for word in [name, info, size].iter().chain(rest) {
            self.types.extend(word.to_le_bytes());
        }
        self.count += 1;
        self.count
    }

    fn int(&mut self, name: &str, size: u32, flags: u32) -> u32 {
        self.add(name, 1, false, 0, size, &[flags << 24 | (size * 8)])
    }

    fn array(&mut self, element: u32, len: u32) -> u32 {
        self.add("", 3, false, 0, 0, &[element, element, len])
    }

    fn typedef(&mut self, name: &str, of: u32) -> u32 {
        self.add(name, 8, false, 0, of, &[])
    }

    /// Members: name, type, offset in bytes.
    fn structure(&mut self, name: &str, size: u32, members: &[(&str, u32, u32)]) -> u32 {
        let words: Vec<u32> =
            members.iter().flat_map(|(name, id, at)| [self.string(name), *id, *at * 8]).collect();
        self.add(name, 4, false, members.len(), size, &words)
    }

    fn btf(&self) -> Btf {
        let (types, strings) = (self.types.len(), self.strings.len());
        let words = [24, 0, types, types, strings].map(|word| u32::try_from(word).unwrap().to_le_bytes());
        let header = [&[0x9f, 0xeb, 1, 0][..], &words.concat()].concat();
        Btf::parse(&[header, self.types.clone(), self.strings.clone()].concat()).unwrap()
    }
}

const SIGNED: u32 = 1;
const BOOL: u32 = 4;

fn value(text: &str) -> Located<Value> {
    Value::parse(text).unwrap_or_else(|| panic!("{text}")).unplaced()
}

/// The bytes of a value in hex, or what is wrong with it.
fn bytes(btf: &Btf, id: u32, text: &str) -> String {
    match encode(btf, id, &value(text)) {
        Ok(bytes) => hex(&bytes),
        Err(problem) => problem.to_string(),
    }
}

#[track_caller]
fn table(btf: &Btf, id: u32, cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(bytes(btf, id, text), *expected, "{text}");
    }
}

#[test]
fn integers_have_the_size_sign_and_range_of_their_type() {
    let mut b = Builder::new();
    let (u8, i8) = (b.int("unsigned char", 1, 0), b.int("signed char", 1, SIGNED));
    let (u64, i64) = (b.int("unsigned long long", 8, 0), b.int("long long", 8, SIGNED));
    let (u128, i128) = (b.int("unsigned __int128", 16, 0), b.int("__int128", 16, SIGNED));
    let volatile = b.add("", 9, false, 0, u8, &[]);
    let constant = b.add("", 10, false, 0, volatile, &[]);
    let typedef = b.typedef("__u8", constant);
    let btf = b.btf();
    for id in [u8, volatile, constant, typedef] {
        table(&btf, id, &[("0", "00"), ("0xff", "ff")]);
    }
    table(
        &btf,
        typedef,
        &[
            ("256", "expected an integer from 0 to 255 (`__u8`), found 256"),
            ("-1", "expected an integer from 0 to 255 (`__u8`), found -1"),
            ("\"1\"", "expected an integer from 0 to 255 (`__u8`), found \"1\""),
            ("[1]", "expected an integer from 0 to 255 (`__u8`), found an array of 1 element"),
        ],
    );
    table(
        &btf,
        i8,
        &[
            ("-128", "80"),
            ("127", "7f"),
            ("128", "expected an integer from -128 to 127 (`signed char`), found 128"),
            ("-129", "expected an integer from -128 to 127 (`signed char`), found -129"),
        ],
    );
    table(
        &btf,
        u64,
        &[
            ("1", "0100000000000000"),
            ("\"18446744073709551615\"", "ffffffffffffffff"),
            ("\"0xffff_ffff_ffff_fffe\"", "feffffffffffffff"),
            (
                "\"18446744073709551616\"",
                "expected an integer from 0 to 18446744073709551615, in quotes where it is large \
                 (`unsigned long long`), found \"18446744073709551616\"",
            ),
        ],
    );
    table(
        &btf,
        i64,
        &[
            ("-1", "ffffffffffffffff"),
            ("\"-9223372036854775808\"", "0000000000000080"),
            (
                "\"9223372036854775808\"",
                "expected an integer from -9223372036854775808 to 9223372036854775807 (`long long`), \
                 found \"9223372036854775808\"",
            ),
        ],
    );
    table(&btf, u128, &[("\"0xffffffffffffffffffffffffffffffff\"", &"ff".repeat(16))]);
    table(&btf, i128, &[("-2", &format!("fe{}", "ff".repeat(15)))]);
}

#[test]
fn network_integers_are_stored_with_their_highest_byte_first() {
    let mut b = Builder::new();
    let (u16, u32) = (b.int("unsigned short", 2, 0), b.int("unsigned int", 4, 0));
    let (be16, be32) = (b.typedef("__be16", u16), b.typedef("__be32", u32));
    let port = b.typedef("port_t", be16);
    let i32 = b.int("int", 4, SIGNED);
    let btf = b.btf();
    table(&btf, be16, &[("443", "01bb")]);
    table(&btf, port, &[("443", "01bb")]);
    table(&btf, u16, &[("443", "bb01")]);
    table(&btf, be32, &[("1", "00000001"), ("\"192.0.2.1\"", "c0000201")]);
    table(&btf, u32, &[("1", "01000000"), ("\"192.0.2.1\"", "c0000201")]);
    let wrong =
        "expected an IPv4 address like \"192.0.2.1\" or an integer from 0 to 4294967295 (`__be32`), found";
    table(&btf, be32, &[("\"192.0.2\"", &format!("{wrong} \"192.0.2\""))]);
    table(
        &btf,
        i32,
        &[(
            "\"192.0.2.1\"",
            "expected an integer from -2147483648 to 2147483647 (`int`), found \"192.0.2.1\"",
        )],
    );
    assert_eq!(decode(&btf, be16, &[1, 0xbb]).to_string(), "443");
    assert_eq!(decode(&btf, be32, &[192, 0, 2, 1]).to_string(), "\"192.0.2.1\"");
    assert_eq!(decode(&btf, u32, &[192, 0, 2, 1]).to_string(), "16908480");
}

#[test]
fn booleans_are_true_or_false() {
    let mut b = Builder::new();
    let (c, int) = (b.int("_Bool", 1, BOOL), b.int("int", 4, SIGNED));
    let btf = b.btf();
    table(&btf, c, &[("true", "01"), ("false", "00"), ("1", "expected true or false (`_Bool`), found 1")]);
    let problem = encode(&btf, int, &value("true")).unwrap_err();
    assert_eq!(problem.help.as_deref(), Some("write 1 for true"));
    assert_eq!(decode(&btf, c, &[1]).to_string(), "true");
    assert_eq!(decode(&btf, c, &[2]).to_string(), "\"0x02\"");
}

#[test]
fn characters_are_text_that_ends_with_nul() {
    let mut b = Builder::new();
    let (c, rust) = (b.int("char", 1, SIGNED), b.int("i8", 1, SIGNED));
    let (c, rust) = (b.array(c, 4), b.array(rust, 4));
    let names = b.array(c, 2);
    let btf = b.btf();
    for (id, name) in [(c, "char[4]"), (rust, "i8[4]")] {
        let wrong = |found: &str| {
            format!(
                "expected a string of at most 3 bytes, which leaves room for its NUL (`{name}`), found {found}"
            )
        };
        table(
            &btf,
            id,
            &[
                ("\"abc\"", "61626300"),
                ("\"\"", "00000000"),
                ("\"\u{e9}\"", "c3a90000"),
                ("[1, -1, 0, 127]", "01ff007f"),
                ("\"abcd\"", &wrong("\"abcd\"")),
                ("[1, 2]", &wrong("an array of 2 elements")),
                ("[1, 2, 3, 200]", "[3]: expected an integer from -128 to 127, found 200"),
                ("\"a\\u0000\"", "expected a string without NUL, found one that holds NUL"),
            ],
        );
    }
    table(&btf, names, &[("[\"a\", \"bc\"]", "6100000062630000")]);
    assert_eq!(describe(&btf, names), "char[2][4]");
    for (bytes, shown) in [
        (*b"abc\0", "\"abc\""),
        (*b"abcd", "[97, 98, 99, 100]"),
        (*b"a\0b\0", "[97, 0, 98, 0]"),
        ([0xff, 0, 0, 0], "[-1, 0, 0, 0]"),
    ] {
        assert_eq!(decode(&btf, c, &bytes).to_string(), shown);
    }
}

#[test]
fn addresses_are_stored_as_they_are_sent() {
    let mut b = Builder::new();
    let u8 = b.int("unsigned char", 1, 0);
    let u8 = b.typedef("__u8", u8);
    let (v4, v6, mac, other) = (b.array(u8, 4), b.array(u8, 16), b.array(u8, 6), b.array(u8, 5));
    let union = b.add("", 5, false, 0, 16, &[]);
    let in6_addr = b.structure("in6_addr", 16, &[("in6_u", union, 0)]);
    let ipv4addr = b.structure("Ipv4Addr", 4, &[("octets", v4, 0)]);
    let btf = b.btf();
    table(&btf, v4, &[("\"192.0.2.1\"", "c0000201"), ("[1, 2, 3, 4]", "01020304")]);
    table(&btf, ipv4addr, &[("\"192.0.2.1\"", "c0000201")]);
    for id in [v6, in6_addr] {
        table(&btf, id, &[("\"2001:db8::1\"", "20010db8000000000000000000000001")]);
    }
    table(
        &btf,
        mac,
        &[
            ("\"02:00:00:00:00:fF\"", "0200000000ff"),
            (
                "\"2:0:0:0:0:1\"",
                "expected a MAC address like \"02:00:00:00:00:01\" or an array of 6 elements (`__u8[6]`), \
                 found \"2:0:0:0:0:1\"",
            ),
        ],
    );
    table(&btf, other, &[("\"abcd\"", "expected an array of 5 elements (`__u8[5]`), found \"abcd\"")]);
    assert_eq!(decode(&btf, v6, &[0; 16]).to_string(), "\"::\"");
    assert_eq!(decode(&btf, mac, &[2, 0, 0, 0, 0, 1]).to_string(), "\"02:00:00:00:00:01\"");
    assert_eq!(decode(&btf, other, &[1, 2, 3, 4, 5]).to_string(), "[1, 2, 3, 4, 5]");
}

#[test]
fn enumerations_go_by_their_names() {
    let mut b = Builder::new();
    let (pass, drop) = (b.string("PASS"), b.string("DROP"));
    let verdict = b.add("verdict", 6, true, 2, 4, &[pass, u32::MAX, drop, 1]);
    let wide = b.add("wide", 19, false, 1, 8, &[pass, 0, 1]);
    let btf = b.btf();
    table(&btf, verdict, &[("\"PASS\"", "ffffffff"), ("\"DROP\"", "01000000"), ("7", "07000000")]);
    table(
        &btf,
        wide,
        &[
            ("\"PASS\"", "0000000001000000"),
            (
                "\"7\"",
                "expected one of \"PASS\", an integer from 0 to 18446744073709551615, in quotes where it is large (`enum wide { PASS }`), found \"7\"",
            ),
        ],
    );
    let problem = encode(&btf, verdict, &value("\"DROPS\"")).unwrap_err();
    assert_eq!(problem.help.as_deref(), Some("did you mean \"DROP\"?"));
    assert_eq!(decode(&btf, verdict, &[255; 4]).to_string(), "\"PASS\"");
    assert_eq!(decode(&btf, verdict, &[7, 0, 0, 0]).to_string(), "7");
    assert_eq!(decode(&btf, wide, &[0, 0, 0, 0, 1, 0, 0, 0]).to_string(), "\"PASS\"");
    assert_eq!(describe(&btf, verdict), "enum verdict { PASS, DROP }");
}

/// `struct rule { __u8 kind; /* 3 bytes of padding */ __u32 limit; struct { char name[4]; }; }`.
fn rule() -> (Btf, u32) {
    let mut b = Builder::new();
    let (u8, u32, char) = (b.int("u8", 1, 0), b.int("u32", 4, 0), b.int("char", 1, SIGNED));
    let name = b.array(char, 4);
    let inner = b.structure("", 4, &[("name", name, 0)]);
    let id = b.structure("rule", 12, &[("kind", u8, 0), ("limit", u32, 4), ("", inner, 8)]);
    (b.btf(), id)
}

#[test]
fn structs_are_tables_of_all_their_members() {
    let (btf, rule) = rule();
    let whole = "struct rule { u8 kind; u32 limit; struct; }";
    assert_eq!(describe(&btf, rule), whole);
    let all = "010000000200000061000000";
    table(
        &btf,
        rule,
        &[
            ("{ kind = 1, limit = 2, name = \"a\" }", all),
            ("{ name = \"a\", limit = 2, kind = 1 }", all),
            (
                "{ limit = 2 }",
                &format!("expected every member of `{whole}`, found a table without `kind`, `name`"),
            ),
            (
                "{ kind = 1, limit = -1, name = \"a\" }",
                ".limit: expected an integer from 0 to 4294967295 (`u32`), found -1",
            ),
            ("1", &format!("expected a table (`{whole}`), found 1")),
        ],
    );
    assert_eq!(
        decode(&btf, rule, &[1, 9, 9, 9, 2, 0, 0, 0, 97, 0, 0, 0]).to_string(),
        "{ kind = 1, limit = 2, name = \"a\" }"
    );
}

#[test]
fn an_unknown_member_is_shown_where_it_is_with_what_was_meant() {
    let (btf, rule) = rule();
    let Value::Table(mut members) = value("{ kind = 1, limits = 2, name = \"a\" }").value else { panic!() };
    members[1].0.span = 10..16;
    let problem = encode(&btf, rule, &Located { value: Value::Table(members), span: 0..40 }).unwrap_err();
    assert_eq!((problem.span.clone(), problem.help.as_deref()), (10..16, Some("did you mean `limit`?")));
    let shown = problem.diagnostic("`rule`");
    assert_eq!(shown.label.as_deref(), Some("found `limits`"));
}

#[test]
fn the_place_of_an_error_is_the_part_that_is_wrong() {
    let mut b = Builder::new();
    let u8 = b.int("u8", 1, 0);
    let pair = b.structure("pair", 2, &[("a", u8, 0), ("b", u8, 1)]);
    let pairs = b.array(pair, 2);
    let btf = b.btf();
    let TypeProblem { path, .. } =
        encode(&btf, pairs, &value("[{ a = 1, b = 2 }, { a = 1, b = 300 }]")).unwrap_err();
    assert_eq!(path, "[1].b");
}

#[test]
fn what_no_value_can_be_is_refused_by_its_name() {
    let mut b = Builder::new();
    let u32 = b.int("u32", 4, 0);
    let union = b.add("both", 5, false, 0, 4, &[]);
    let pointer = b.add("", 2, false, 0, u32, &[]);
    let float = b.add("double", 16, false, 0, 8, &[]);
    let field = b.string("flags");
    let bitfield = b.add("bits", 4, true, 1, 4, &[field, u32, 3 << 24]);
    let holder = b.structure("holder", 4, &[("both", union, 0)]);
    let unnamed = b.structure("unnamed", 4, &[("", union, 0)]);
    let part = b.add("int", 1, false, 0, 4, &[7]);
    let odd = b.int("odd", 3, 0);
    let btf = b.btf();
    let refused = |what: &str| format!("expected a type that the file can set, found {what}");
    for (id, found) in [
        (union, "`union both`: a union, which the file cannot set"),
        (pointer, "`u32 *`: a pointer, which the file cannot set"),
        (float, "`double`: a floating-point number, which the file cannot set"),
        (
            bitfield,
            "`struct bits { u32 flags; }`: a struct with the bitfield `flags`, which the file cannot set",
        ),
        (
            unnamed,
            "`struct unnamed { union both; }`: a struct with an anonymous union, which the file cannot set",
        ),
        (part, "`int`: a type that the file cannot set"),
        (odd, "`odd`: a type that the file cannot set"),
        (0, "`void`: a type that its BTF does not describe"),
        (99, "`?`: a type that its BTF does not describe"),
    ] {
        assert_eq!(bytes(&btf, id, "1"), refused(found));
    }
    let inner = refused("`union both`: a union, which the file cannot set");
    assert_eq!(bytes(&btf, holder, "{ both = 1 }"), format!(".both: {inner}"));
    assert_eq!(decode(&btf, holder, &[1, 2, 3, 4]).to_string(), "{ both = \"0x01020304\" }");
    assert_eq!(decode(&btf, bitfield, &[1, 2, 3, 4]).to_string(), "\"0x01020304\"");
    assert_eq!(decode(&btf, u32, &[1, 2]).to_string(), "\"0x0102\"");
}

#[test]
fn mangled_types_end() {
    let mut b = Builder::new();
    let u8 = b.int("u8", 1, 0);
    // An array of arrays of itself, a typedef of itself, members beyond the end, and structs without size in numbers.
    let circle = b.array(b.count + 1, 1);
    let itself = b.typedef("itself", b.count + 1);
    let beyond = b.structure("beyond", 1, &[("a", u8, 8)]);
    let huge = b.array(u8, u32::MAX / 8);
    let mut many = b.structure("", 0, &[]);
    for _ in 0..12 {
        many = b.structure("", 0, &[("", many, 0); 64]);
    }
    let deep = (0..40).fold(u8, |inner, _| b.array(inner, 1));
    let nothing = b.structure("nothing", 0, &[]);
    let nothings = b.array(nothing, u32::MAX);
    let btf = b.btf();
    for id in [circle, itself, beyond, huge, many, deep, nothings] {
        for text in ["[[1]]", "{ a = 1 }", "1", "{}", "[]"] {
            assert!(encode(&btf, id, &value(text)).is_err(), "{id}: {text}");
        }
        describe(&btf, id);
        assert!(decode(&btf, id, &[1]).to_string().len() < 100, "{id}");
    }
}

/// A type, added to a builder, and a value of it in the form that decoding shows.
#[derive(Debug, Clone)]
enum Sample {
    Int { size: u32, signed: bool, bits: u128 },
    Bool(bool),
    Be16(u16),
    Be32([u8; 4]),
    Text(String, u32),
    Bytes(Vec<u8>),
    Array(Vec<Sample>),
    Struct(Vec<Sample>),
}

impl Sample {
    /// The id and size of its type, and its value.
    fn build(&self, b: &mut Builder) -> (u32, u32, Value) {
        match self {
            Self::Int { size, signed, bits } => {
                let id = b.int("number", *size, u32::from(*signed));
                let unused = 128 - size * 8;
                let text = if *signed {
                    ((bits << unused).cast_signed() >> unused).to_string()
                } else {
                    (bits << unused >> unused).to_string()
                };
                let value = text.parse().map_or(Value::String(text), Value::Integer);
                (id, *size, value)
            }
            Self::Bool(truth) => (b.int("bool", 1, BOOL), 1, Value::Boolean(*truth)),
            Self::Be16(number) => {
                let u16 = b.int("u16", 2, 0);
                (b.typedef("__be16", u16), 2, Value::Integer((*number).into()))
            }
            Self::Be32(bytes) => {
                let u32 = b.int("u32", 4, 0);
                (b.typedef("__be32", u32), 4, Value::String(std::net::Ipv4Addr::from(*bytes).to_string()))
            }
            Self::Text(text, more) => {
                let char = b.int("char", 1, SIGNED);
                let len = u32::try_from(text.len()).unwrap() + more;
                (b.array(char, len), len, Value::String(text.clone()))
            }
            Self::Bytes(bytes) => {
                let u8 = b.int("u8", 1, 0);
                let len = u32::try_from(bytes.len()).unwrap();
                let values = bytes.iter().map(|byte| Value::Integer((*byte).into()).unplaced());
                (b.array(u8, len), len, Value::Array(values.collect()))
            }
            Self::Array(elements) => {
                let (mut of, mut size, mut values) = (0, 0, Vec::new());
                for element in elements {
                    let (id, bytes, value) = element.build(b);
                    (of, size) = (id, bytes);
                    values.push(value.unplaced());
                }
                let len = u32::try_from(elements.len()).unwrap();
                (b.array(of, len), size * len, Value::Array(values))
            }
            Self::Struct(parts) => {
                let (mut members, mut values, mut at) = (Vec::new(), Vec::new(), 0);
                for (n, part) in parts.iter().enumerate() {
                    let (id, size, value) = part.build(b);
                    let name = format!("m{n}");
                    members.push((name.clone(), id, at));
                    values.push((Located { value: name, span: n..n }, value.unplaced()));
                    at += size + 3; // some padding
                }
                let members: Vec<_> = members.iter().map(|(name, id, at)| (&**name, *id, *at)).collect();
                (b.structure("sample", at, &members), at, Value::Table(values))
            }
        }
    }
}

fn sample() -> impl Strategy<Value = Sample> {
    let leaf = prop_oneof![
        (prop::sample::select(vec![1, 2, 4, 8, 16]), any::<bool>(), any::<u128>())
            .prop_map(|(size, signed, bits)| Sample::Int { size, signed, bits }),
        any::<bool>().prop_map(Sample::Bool),
        any::<u16>().prop_map(Sample::Be16),
        any::<[u8; 4]>().prop_map(Sample::Be32),
        ("[^\0]{0,8}", 1u32..8).prop_map(|(text, more)| Sample::Text(text, more)),
        prop::collection::vec(any::<u8>(), 7..12).prop_map(Sample::Bytes),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            (inner.clone(), 1usize..4).prop_map(|(one, n)| Sample::Array(vec![one; n])),
            prop::collection::vec(inner, 1..4).prop_map(Sample::Struct),
        ]
    })
}

proptest! {
    #[test]
    fn a_value_is_read_back_as_it_was_written(sample in sample()) {
        let mut b = Builder::new();
        let (id, size, value) = sample.build(&mut b);
        let btf = b.btf();
        let bytes = encode(&btf, id, &value.clone().unplaced());
        let bytes = bytes.map_err(|problem| TestCaseError::fail(format!("{value}: {problem}")))?;
        prop_assert_eq!(bytes.len(), size as usize);
        prop_assert_eq!(decode(&btf, id, &bytes).to_string(), value.to_string());
    }

    #[test]
    fn a_value_is_encoded_or_refused_whatever_it_is(sample in sample(), other in sample()) {
        let mut b = Builder::new();
        let (id, size, _) = sample.build(&mut b);
        let (_, _, value) = other.build(&mut b);
        if let Ok(bytes) = encode(&b.btf(), id, &value.unplaced()) {
            prop_assert_eq!(bytes.len(), size as usize);
        }
    }
}
