//! One table of objects: what `check` says of each, what `apply` makes of it, and how both exit.
//!
//! The objects are C programs of tests/programs, compiled here, or made of such. A row per feature, and one per refusal.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::fmt;
use std::path::Path;

use common::{DROP, PASS, Site, compile_with, flat};
use xdpd_testlab::{Veth, require_root, xdpd};

/// An object, and what becomes of it.
#[derive(Debug, Clone, Copy)]
struct Row {
    object: Source,
    function: Option<&'static str>,
    /// Further lines of its entry in `programs`.
    extra: &'static str,
    /// `eth0`, or `large` with an MTU of 9000.
    device: &'static str,
    /// What `check` says on stdout of an object that it takes.
    told: &'static [&'static str],
    fate: Fate,
}

#[derive(Debug, Clone, Copy)]
enum Source {
    /// A program of tests/programs, and options to compile it with.
    C(&'static str, &'static [&'static str]),
    /// The programs that are built in, as a file.
    Builtin,
    /// Anything else.
    Bytes(&'static str, fn() -> Vec<u8>),
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    /// `check` and `apply` exit with 0, and packets are counted under this action.
    Counts(u32),
    /// `check` and `apply` exit with 0; the program counts nothing.
    Runs,
    /// Both exit with 2 and say this.
    Unfit(&'static str),
    /// `check` exits with 0, `apply` with 2 since the kernel refuses it, and says this.
    Refused(&'static str),
}
use Fate::{Counts, Refused, Runs, Unfit};

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.object {
            Source::C(name, options) => write!(f, "{name}.c {}", options.join(" "))?,
            Source::Builtin => f.write_str("builtin")?,
            Source::Bytes(what, _) => f.write_str(what)?,
        }
        write!(f, " {}", self.function.unwrap_or_default())
    }
}

const fn c(name: &'static str, fate: Fate) -> Row {
    Row { object: Source::C(name, &[]), function: None, extra: "", device: "eth0", told: &[], fate }
}

const fn bytes(what: &'static str, make: fn() -> Vec<u8>, why: &'static str) -> Row {
    Row { object: Source::Bytes(what, make), ..c("", Unfit(why)) }
}

impl Row {
    const fn function(mut self, function: &'static str) -> Self {
        self.function = Some(function);
        self
    }

    const fn compiled(mut self, options: &'static [&'static str]) -> Self {
        if let Source::C(name, _) = self.object {
            self.object = Source::C(name, options);
        }
        self
    }

    const fn on(mut self, device: &'static str) -> Self {
        self.device = device;
        self
    }

    const fn told(mut self, told: &'static [&'static str]) -> Self {
        self.told = told;
        self
    }

    const fn with(mut self, extra: &'static str) -> Self {
        self.extra = extra;
        self
    }

    const fn builtin(mut self) -> Self {
        self.object = Source::Builtin;
        self
    }

    fn write(&self, object: &Path) {
        match self.object {
            Source::C(name, options) => drop(compile_with(object, name, options)),
            Source::Builtin => std::fs::write(object, common::builtin_object()).unwrap(),
            Source::Bytes(_, make) => std::fs::write(object, make()).unwrap(),
        }
    }

    fn config(&self) -> String {
        let function = self.function.map_or_else(String::new, |f| format!("function = \"{f}\"\n"));
        let (extra, device) = (self.extra, self.device);
        format!(
            "[programs.p]\nobject = \"own.o\"\n{function}{extra}\n\
             [interfaces.{device}]\nnetns = \"$NETNS\"\nprogram = \"p\"\nreuse = \"never\"\n"
        )
    }
}

#[rustfmt::skip] // a table
const TABLE: &[Row] = &[
    // What libbpf's conventions bring.
    c("counter", Counts(DROP)).told(&[
        "libbpf, BTF, license GPL", "program xdp_count: ", " instructions in section xdp", "run by eth0",
        "maps xdp_stats_map", "helpers bpf_map_lookup_elem", "kernel 6.1 or newer",
        "map xdp_stats_map: percpu_array, key 4 B, value 16 B, 5 entries", "key __u32",
        "value struct datarec { __u64 rx_packets; __u64 rx_bytes; }",
    ]),
    c("frags", Counts(DROP)).told(&["in section xdp.frags", "uses packets of several buffers (frags)"]),
    c("frags", Counts(DROP)).on("large").told(&["run by large"]),
    c("two_functions", Counts(DROP)).function("xdp_function_that_drops"),
    c("two_functions", Counts(PASS)).function("xdp_function_that_passes"),
    c("named_sections", Counts(DROP)).function("xdp_named").told(&["in section xdp/named"]),
    c("named_sections", Counts(PASS)).function("xdp_named_frags"),
    c("one_is_broken", Counts(DROP)).function("xdp_sound"),
    c("one_is_unresolvable", Counts(DROP)).function("xdp_sound").told(&[
        "defect `xdp_of_this_version` refers to `LINUX_KERNEL_VERSION`",
        "defect `xdp_with_timestamp` refers to `bpf_xdp_metadata_rx_timestamp`",
    ]),
    c("other_hooks", Counts(DROP)),
    c("calls", Counts(DROP)).told(&["uses functions of its own, callbacks", "bpf_loop"]),
    c("globals", Counts(PASS)).told(&[
        "map .data: array", "budget: __u64, 8 bytes = 3", "seen: __u64, 8 bytes = 0",
        "uses global variables, atomic operations",
    ]),
    c("globals", Counts(DROP)).with("globals = { budget = 0 }").told(&["sets budget = 0"]),
    c("constants", Counts(PASS)).with("globals = { action = 2 }").told(&["sets action = 2"]),
    c("constants", Counts(DROP)).told(&[
        "map .rodata: array, key 4 B, value 8 B, 1 entry, not pinned", "action: __u32, 4 bytes = 1",
        "flags rdonly_prog",
    ]),
    c("maps", Counts(DROP)).told(&[
        "map bloom: bloom_filter", "map cpus: cpumap", "map devices: devmap_hash", "map events: ringbuf",
        "map hash: hash", "map lpm: lpm_trie", "map lru: lru_hash", "map queue: queue",
        "map samples: perf_event_array", "map sockets: xskmap", "key struct prefix { __u32 len; __u32 address; }",
        "flags no_common_lru",
    ]),
    c("more_maps", Counts(DROP)).told(&[
        "map array: array", "map percpu_hash: percpu_hash", "map lru_percpu_hash: lru_percpu_hash",
        "map stack_trace: stack_trace", "map devmap: devmap", "map sockmap: sockmap",
        "map sockhash: sockhash", "map stack: stack",
    ]),
    c("tail_calls", Counts(DROP)).told(&["map next: prog_array", "uses tail calls"]),
    c("map_of_maps", Counts(DROP)).told(&[
        "map outer: array_of_maps, key 4 B, value 4 B, 1 entry",
        "inner array, key 4 B, value 4 B, 1 entry; key __u32; value __u32",
    ]),
    c("nested", Counts(DROP)).told(&[
        "maps by_key, by_number, counters_a, counters_b, flows_a, flows_b, xdp_stats_map",
        "map by_key: hash_of_maps", "values [7] = flows_a, [70] = flows_b",
        "inner percpu_array, key 4 B, value 8 B, 4 entries;", "values [1] = counters_a, [3] = counters_b",
    ]),
    c("jumps", Counts(DROP)).function("xdp_jumps").told(&[
        "run by eth0 maps more, next, only_second, xdp_stats_map helpers \
         bpf_map_lookup_elem, bpf_map_update_elem, bpf_tail_call",
        "values [0] = xdp_first, [2] = xdp_second",
    ]),
    c("jumps", Counts(DROP)).function("xdp_jumps").compiled(&["-DPROGRAM=\"xdp.frags\""]).on("large"),
    c("numa_node", Counts(DROP)).told(&["flags numa_node", "node 0"]),
    c("newer_types", Counts(DROP)).told(&["global_wide: enum wide { SMALL, LARGE }, 8 bytes = \"LARGE\""]),
    c("core", Counts(DROP)).told(&["types of the running kernel (CO-RE)"]),
    c("version_4", Counts(DROP)).compiled(&["-mcpu=v4"]).told(&["kernel 6.6 or newer, for instructions of BPF CPU v4"]),
    c("free_license", Counts(DROP)).told(&["no license"]),
    c("unreachable_helper", Counts(DROP)).told(&["note bpf_trace_printk is for programs under the GPL"]),
    c("no_maps", Runs).compiled(&["-g0"]).told(&["libbpf, no BTF", "program xdp_no_maps: "]),

    // What redbpf's bring.
    c("", Counts(DROP)).builtin().function("xdp_drop_func").told(&["redbpf, BTF, license Dual MIT/GPL", "key u32"]),
    c("", Counts(PASS)).builtin().function("xdp_pass_func"),
    c("redbpf_programs", Counts(DROP)).function("sound").told(&[
        "redbpf, BTF", "defect program `with_bss` refers to `zero`", "defect program `with_call` refers to",
    ]),
    c("redbpf_programs", Counts(DROP)).function("with_data").told(&["limit: __u64, 8 bytes = 3"]),

    // What the file gets wrong.
    c("two_functions", Unfit("choose one with `function`")),
    c("two_functions", Unfit("did you mean `xdp_function_that_drops`?")).function("xdp_function_that_drop"),
    c("", Unfit("choose one with `function`")).builtin(),
    c("", Unfit("did you mean `xdp_drop_func`?")).builtin().function("xdp_drp_func"),

    c("globals", Unfit("did you mean `budget`?")).with("globals = { budge = 3 }"),
    c("globals", Unfit("global variable `budget`: expected an integer from 0 to")).with("globals = { budget = -1 }"),
    c("constants", Unfit("global variable `debug`: expected an integer from 0 to 4294967295")).with("globals = { debug = 4294967296 }"),
    c("no_maps", Unfit("no such variable")).with("globals = { budget = 3 }"),

    // What cannot be loaded.
    c("no_xdp", Unfit("holds no XDP program: no function is in `xdp`, `xdp.frags` or `xdp/NAME`; its programs are in `tc`")),
    c("counter", Unfit("no BTF, which describes the maps in `.maps`: compile it with -g")).compiled(&["-g0"]),
    c("externs", Unfit("refers to `LINUX_KERNEL_VERSION`: it is not in the object")),
    c("one_is_unresolvable", Unfit("kernel functions are not supported")).function("xdp_with_timestamp"),
    c("addresses", Unfit("section `.data` holds addresses")),
    c("old_maps", Unfit("section `maps`: maps must be in `.maps`")),
    c("strange_map", Unfit("map `strange`: its type 200 (unknown) is none that XDP programs can use")),
    c("strange_map", Unfit("map `strange`: `colour` in its definition is not supported")).compiled(&["-DMEMBER"]),
    c("strange_values", Unfit("map `strange`: `values` are for maps of maps and program arrays, and its type is array")).compiled(&["-DTYPE=BPF_MAP_TYPE_ARRAY"]),
    c("strange_values", Unfit("map `strange`: `values` have 4 bytes, and its definition says 8")).compiled(&["-DMORE=__type(value,__u64);"]),
    c("strange_values", Unfit("map `strange`: member `values` of its definition is malformed")).compiled(&["-DTYPE=BPF_MAP_TYPE_PROG_ARRAY"]),
    c("strange_values", Unfit("map `strange`, its inner maps: its definition is no struct")).compiled(&["-DPATTERN=int"]),
    c("strange_values", Unfit("map `strange`, its inner maps: its type 200 (unknown) is none that XDP programs can use")).compiled(&["-DINNER_TYPE=200", "-DPATTERN=struct other", "-DBARE"]),
    c("strange_values", Unfit("its inner maps are maps of maps, and the kernel nests but once")).compiled(&["-DINNER_TYPE=BPF_MAP_TYPE_HASH_OF_MAPS", "-DPATTERN=struct other", "-DBARE"]),
    c("strange_values", Unfit("its inner maps are program arrays, which the kernel refuses")).compiled(&["-DINNER_TYPE=BPF_MAP_TYPE_PROG_ARRAY", "-DPATTERN=struct other", "-DBARE"]),
    c("strange_values", Unfit("`pinning` in the pattern of its inner maps")).compiled(&["-DINNER_MORE=__uint(pinning,1);", "-DPATTERN=struct other"]),
    c("strange_values", Unfit("map `other`: nothing says what its inner maps are like")).compiled(&["-DINNER_TYPE=BPF_MAP_TYPE_ARRAY_OF_MAPS"]),
    c("strange_values", Unfit("map `strange`, slot 0: the kernel takes only maps like `values`, and `other` is another one: max entries 1 -> 2")).compiled(&["-DSLOTS={(void*)&other}"]),
    c("strange_values", Unfit("and `other` is another one: type array -> hash")).compiled(&["-DSLOTS={(void*)&other}", "-DINNER_TYPE=BPF_MAP_TYPE_HASH"]),
    c("strange_values", Unfit("map `strange`, slot 1: it refers to no map of the object")).compiled(&["-DSLOTS={[1]=(void*)&number}"]),
    c("strange_values", Unfit("map `strange`, slot 2: the map has room for 2")).compiled(&["-DSLOTS={[2]=&inner}"]),
    c("strange_values", Unfit("map `strange`, slot 9: the map has room for 2")).compiled(&["-DSLOTS={[7]=&inner,[8]=&inner,[9]=&inner}", "-DTYPE=BPF_MAP_TYPE_HASH_OF_MAPS"]),
    c("strange_values", Unfit("the numbers of slots are keys of 4 bytes, and those of the map have 8")).compiled(&["-DKEY=__u64", "-DTYPE=BPF_MAP_TYPE_HASH_OF_MAPS"]),
    c("strange_values", Unfit("more than 1024 initial values in `.maps`")).compiled(&["-DSLOTS={[0 ... 1024]=&inner}"]),
    c("strange_values", Unfit("map `strange`, slot 1: `local` is static, and programs must not be")).compiled(&["-DTYPE=BPF_MAP_TYPE_PROG_ARRAY", "-DPATTERN=int(struct xdp_md*)", "-DSLOTS={[1]=&local}"]),
    c("strange_values", Unfit("map `strange`, slot 0: it refers to no XDP program of the object")).compiled(&["-DTYPE=BPF_MAP_TYPE_PROG_ARRAY", "-DPATTERN=int(struct xdp_md*)", "-DSLOTS={&classifier}"]),
    c("strange_values", Unfit("map `strange`, slot 0: it refers to no XDP program of the object")).compiled(&["-DTYPE=BPF_MAP_TYPE_PROG_ARRAY", "-DPATTERN=int(struct xdp_md*)", "-DSLOTS={&function}"]),
    c("strange_values", Unfit("map `strange`, slot 0: it refers to no XDP program of the object")).compiled(&["-DTYPE=BPF_MAP_TYPE_PROG_ARRAY", "-DPATTERN=int(struct xdp_md*)", "-DSLOTS={&foreign}"]),
    c("jumps", Unfit("map `next`, slot 2: `xdp_second` takes packets of several buffers (frags) and `xdp_jumps` does not")).function("xdp_jumps").compiled(&["-DSECOND=\"xdp.frags\""]),
    c("jumps", Counts(DROP)).function("xdp_second").compiled(&["-DSECOND=\"xdp.frags\""]),
    c("too_many_maps", Unfit("more than 64 maps")),
    c("mixed", Unfit("the object mixes two conventions")),
    c("ambiguous_sections", Unfit("use one of the two")),
    c("redbpf_programs", Unfit("refers to `zero`: redbpf has no zero-initialised global variables")).function("with_bss"),
    c("redbpf_programs", Unfit("redbpf cannot call functions that are not inlined")).function("with_call"),
    c("redbpf_no_license", Unfit("no `license` section")),

    // What is no object at all.
    c("counter", Unfit("a BPF object for this host is 64-bit little-endian")).compiled(&["-target", "bpfeb"]),
    bytes("another machine", || std::fs::read("/proc/self/exe").unwrap(), "not a BPF object"),
    bytes("nothing", Vec::new, "the file is empty"),
    bytes("a script", || b"#!/bin/sh\necho hello\n".to_vec(), "not an ELF object"),
    bytes("the first half", || half(&common::builtin_object()), "corrupt or truncated object"),
    bytes("overlapping sections", overlapping, "its sections overlap"),

    // What the kernel refuses.
    c("rejected", Refused("at rejected.c:10, `return data[13]; /* here */`: R7 offset is outside of the packet")),
    c("one_is_broken", Refused("at one_is_broken.c:7, `return *(volatile __u8 *)(long)ctx->data;`: ")).function("xdp_broken"),
    c("redbpf_programs", Refused("redbpf_programs.c:39, `return *(volatile __u8 *)(long)ctx->data;`: ")).function("rejected"),
    c("no_license", Refused("cannot call GPL-restricted function from non-GPL compatible program"))
        .told(&["no license", "note bpf_trace_printk is for programs under the GPL"]),
    c("closed_license", Refused("cannot call GPL-restricted function from non-GPL compatible program"))
        .told(&["license Proprietary (for the kernel not the GPL)"]),
    c("jumps", Refused("cannot load xdp_second: the kernel refused the program at jumps.c:")).function("xdp_jumps").compiled(&["-DBROKEN"]),
    c("foreign_helper", Refused("at foreign_helper.c:9, `skb_vlan_pop(ctx);`: "))
        .told(&["note bpf_skb_vlan_pop is not for XDP programs"]),
    c("counter", Refused("an MTU of 9000 may be too large for native XDP without frags")).on("large"),
];

fn half(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len() / 2].to_vec()
}

/// The builtin object, whose license lies where the whole file does.
fn overlapping() -> Vec<u8> {
    use object::{Object as _, ObjectSection as _};
    let mut bytes = common::builtin_object();
    let file = object::File::parse(&*bytes).unwrap();
    let index = file.section_by_name(".BTF").unwrap().index().0;
    let headers = u64::from_le_bytes(bytes[40..48].try_into().unwrap());
    let header = usize::try_from(headers).unwrap() + index * 64;
    let len = (bytes.len() as u64).to_le_bytes();
    bytes[header + 24..header + 32].fill(0);
    bytes[header + 32..header + 40].copy_from_slice(&len);
    bytes
}

#[test]
fn check_says_of_every_object_what_it_holds_or_why_it_cannot_be_used() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.toml");
    for row in TABLE {
        row.write(&dir.path().join("own.o"));
        std::fs::write(&config, row.config().replace("$NETNS", "/no/such/netns")).unwrap();
        let check = || xdpd().arg("check").arg(&config);
        let output = check().run();
        if let Unfit(why) = row.fate {
            assert_eq!(output.code(), Some(2), "{row}: {}", output.stdout);
            assert!(flat(&output.stderr).contains(why), "{row}: {}", output.stderr);
            assert!(output.stderr.contains("config.toml:"), "{row}: {}", output.stderr);
            assert_eq!(output.stdout, "", "{row}");
            continue;
        }
        assert_eq!((output.code(), &*output.stderr), (Some(0), ""), "{row}");
        let said = flat(&output.stdout);
        for told in row.told {
            assert!(said.contains(told), "{row}: no `{told}` in\n{}", output.stdout);
        }
        // Paths are as long as they are.
        let wide = output.stdout.lines().find(|line| line.chars().count() > 80 && !line.contains("own.o"));
        assert_eq!(wide, None, "{row}");
        let json = check().arg("--json").run().expect_code(0);
        assert_eq!((json.stdout.lines().count(), &*json.stderr), (1, ""), "{row}");
        let object = &json.json()["objects"][0];
        let programs = object["programs"].as_array().unwrap();
        let function = object["run_by"][0]["function"].as_str().unwrap();
        assert_eq!(object["run_by"][0]["interfaces"][0], row.device, "{row}");
        assert!(programs.iter().any(|p| p["name"] == function && p["defect"].is_null()), "{row}");
        // The object alone, without a file around it.
        let alone = xdpd().arg("check").arg(dir.path().join("own.o")).run().expect_code(0);
        let shared = |text: &str| {
            let lines = text.lines().skip_while(|line| !line.starts_with("object "));
            lines.filter(|line| !line.starts_with("    run by")).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(shared(&alone.stdout), shared(&output.stdout), "{row}");
    }
}

#[test]
#[ignore = "needs root"]
fn every_object_runs_or_is_refused_with_its_reason_and_changes_nothing_then() {
    require_root!();
    let site = Site::new("table");
    let veths = ["eth0", "large"].map(|near| site.lab.veth(near, &format!("p{near}")));
    site.lab.set_mtu(&veths[1], 9000);
    for row in TABLE {
        row.write(&site.lab.dir().join("own.o"));
        site.config(&row.config());
        let running = || veths.each_ref().map(|veth: &Veth| site.running(&veth.near));
        let before = (site.bpffs.tree(), running());
        let veth = veths.iter().find(|veth| veth.near == row.device).unwrap();
        let (code, why) = match row.fate {
            Counts(_) | Runs => (0, ""),
            Unfit(why) | Refused(why) => (2, why),
        };
        let output = site.run("apply config.toml").run();
        assert_eq!(output.code(), Some(code), "{row}: {}", output.stderr);
        match row.fate {
            Counts(action) => {
                site.send(veth, row.device, action, 3);
                site.expect("diff", 0);
            }
            Runs => {
                assert!(site.running(row.device).is_some(), "{row}");
                site.expect("diff", 0);
            }
            Unfit(_) => assert!(flat(&output.stderr).contains(why), "{row}: {}", output.stderr),
            Refused(_) => {
                let last = output.stderr.trim_end().lines().last().unwrap();
                assert!(
                    last.contains(why) && last.ends_with("nothing was changed"),
                    "{row}: {}",
                    output.stderr
                );
            }
        }
        if code != 0 {
            assert_eq!((site.bpffs.tree(), running()), before, "{row}");
        }
    }
}
