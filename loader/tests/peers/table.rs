//! Who may do what to whom, as data: each row is one thing that one does while the other is there.

use std::fmt::Write as _;

/// How things are before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    /// Nothing is attached; xdpd has not been here, or has been and was detached.
    Free,
    /// xdpd has applied.
    Ours,
    /// The same, natively.
    Native,
    /// The same, in generic mode.
    Generic,
    /// Another tool has attached its program through netlink.
    Theirs,
    /// Another program is held by a `bpf_link` of its owner.
    TheirLink,
    /// xdpd has taken the place of another tool's program.
    Taken,
}

/// How an attempt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    /// It does what was asked for.
    Done,
    /// With exit code 0, and nothing has changed.
    Ignored,
    /// With an error that says this.
    Refused(&'static str),
}

/// Whose program the device runs afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runs {
    /// xdpd's.
    Ours,
    /// The other tool's, or the other's.
    Theirs,
    /// None.
    None,
    /// xdpd's, and the device is no longer where it was.
    Away,
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) before: Before,
    /// A command line, in which words in angle brackets stand for others.
    pub(crate) does: &'static str,
    pub(crate) ends: Ends,
    pub(crate) runs: Runs,
    /// What `xdpd status` says about it; empty where it has nothing to say.
    pub(crate) status: &'static str,
    /// Exit codes of `xdpd diff`, of `apply`, and of `apply --takeover` where that is another.
    pub(crate) codes: [i32; 3],
}

/// What changes nothing.
const fn harmless(before: Before, does: &'static str, ends: Ends) -> Row {
    Row { before, does, ends, runs: Runs::Ours, status: "", codes: [0, 0, 0] }
}

const fn refused(does: &'static str, says: &'static str) -> Row {
    harmless(Before::Ours, does, Ends::Refused(says))
}

/// What puts another program onto a free device.
const fn first(does: &'static str) -> Row {
    let status = "attached through netlink";
    Row { before: Before::Free, does, ends: Ends::Done, runs: Runs::Theirs, status, codes: [2, 2, 0] }
}

/// What changes something of ours, which the next apply repairs.
const fn drift(does: &'static str, runs: Runs, status: &'static str) -> Row {
    Row { before: Before::Ours, does, ends: Ends::Done, runs, status, codes: [1, 0, 0] }
}

/// What the operator has to decide about.
const fn blocked(does: &'static str, runs: Runs, status: &'static str) -> Row {
    Row { before: Before::Ours, does, ends: Ends::Done, runs, status, codes: [2, 2, 2] }
}

/// What xdpd does to others.
const fn ours(before: Before, does: &'static str, ends: Ends, runs: Runs, codes: [i32; 3]) -> Row {
    let status = match (before, runs) {
        (Before::TheirLink, _) => "held by bpf_link",
        (_, Runs::Theirs) => "attached through netlink",
        _ => "",
    };
    Row { before, does, ends, runs, status, codes }
}

const SAME: &str = "Can't replace active BPF XDP link";
const OTHER: &str = "Native and generic XDP can't be active at the same time";

pub(crate) const ROWS: &[Row] = &[
    first("ip link set dev eth0 <mode> obj theirs.o sec xdp"),
    first("ip link set dev eth0 <mode> pinned <pin>"),
    first("bpftool net attach <mode> pinned <pin> dev eth0"),
    first("xdp-loader load -m <m> eth0 theirs.o"),
    ours(Before::Theirs, "xdpd apply", Ends::Refused("attached through netlink"), Runs::Theirs, [2, 2, 0]),
    ours(Before::Theirs, "xdpd apply --takeover", Ends::Done, Runs::Ours, [0, 0, 0]),
    ours(Before::Theirs, "xdpd detach", Ends::Ignored, Runs::Theirs, [2, 2, 0]),
    ours(Before::TheirLink, "xdpd apply", Ends::Refused("held by bpf_link"), Runs::Theirs, [2, 2, 2]),
    ours(
        Before::TheirLink,
        "xdpd apply --takeover",
        Ends::Refused("held by bpf_link"),
        Runs::Theirs,
        [2, 2, 2],
    ),
    harmless(Before::Taken, "ip link set dev eth0 <mode> off", Ends::Refused(SAME)),
    harmless(Before::Taken, "bpftool net detach <mode> dev eth0", Ends::Refused(SAME)),
    harmless(Before::Taken, "xdp-loader unload -a eth0", Ends::Refused(SAME)),
    refused("ip link set dev eth0 <mode> obj theirs.o sec xdp", SAME),
    refused("ip -force link set dev eth0 <mode> obj theirs.o sec xdp", SAME),
    refused("ip link set dev eth0 <other> obj theirs.o sec xdp", OTHER),
    refused("ip -force link set dev eth0 <other> obj theirs.o sec xdp", OTHER),
    refused("ip link set dev eth0 xdpoffload obj theirs.o sec xdp", "failed to load"),
    refused("ip link set dev eth0 <mode> pinned <pin>", SAME),
    refused("ip -force link set dev eth0 <other> pinned <pin>", OTHER),
    refused("ip link set dev eth0 <mode> off", SAME),
    refused("ip -force link set dev eth0 <mode> off", SAME),
    harmless(Before::Ours, "ip link set dev eth0 <other> off", Ends::Ignored),
    harmless(Before::Ours, "ip link set dev eth0 xdpoffload off", Ends::Ignored),
    harmless(Before::Native, "ip link set dev eth0 xdp obj theirs.o sec xdp", Ends::Refused(SAME)),
    harmless(Before::Native, "ip -force link set dev eth0 xdp off", Ends::Refused(SAME)),
    harmless(Before::Native, "bpftool net attach xdp pinned <pin> dev eth0 overwrite", Ends::Refused(SAME)),
    harmless(Before::Native, "bpftool net detach xdp dev eth0", Ends::Refused(SAME)),
    harmless(Before::Generic, "ip link set dev eth0 xdp obj theirs.o sec xdp", Ends::Refused(OTHER)),
    harmless(Before::Generic, "ip -force link set dev eth0 xdp off", Ends::Ignored),
    harmless(Before::Generic, "bpftool net attach xdp pinned <pin> dev eth0 overwrite", Ends::Refused(OTHER)),
    harmless(Before::Generic, "bpftool net detach xdp dev eth0", Ends::Ignored),
    refused("bpftool net attach <mode> pinned <pin> dev eth0", SAME),
    refused("bpftool net attach <mode> pinned <pin> dev eth0 overwrite", SAME),
    refused("bpftool net attach <other> pinned <pin> dev eth0 overwrite", OTHER),
    refused("bpftool net detach <mode> dev eth0", SAME),
    harmless(Before::Ours, "bpftool net detach <other> dev eth0", Ends::Ignored),
    refused("bpftool net attach xdpoffload pinned <pin> dev eth0", "Invalid argument"),
    harmless(Before::Ours, "bpftool net detach xdpoffload dev eth0", Ends::Ignored),
    refused("xdp-loader load -m <m> eth0 theirs.o", "not using a dispatcher"),
    refused("xdp-loader unload -a eth0", SAME),
    refused("xdp-loader unload -i <id> eth0", SAME),
    harmless(Before::Ours, "xdp-loader clean eth0", Ends::Ignored),
    harmless(Before::Ours, "bpftool map update pinned <root>/eth0/xdp_stats_map <key and value>", Ends::Done),
    harmless(Before::Ours, "bpftool map pin pinned <root>/eth0/xdp_stats_map <peers>/map", Ends::Done),
    harmless(Before::Ours, "bpftool link pin pinned <root>/eth0/xdp-link <peers>/link", Ends::Done),
    harmless(Before::Ours, "bpftool prog load theirs.o <root>/eth0/theirs", Ends::Done),
    Row {
        status: "theirs is a pin",
        ..harmless(Before::Ours, "bpftool prog load theirs.o <root>/theirs", Ends::Done)
    },
    Row {
        status: "foreign: other0",
        ..harmless(Before::Ours, "bpftool net attach <mode> id <id> dev other0", Ends::Done)
    },
    harmless(Before::Ours, "ip link set dev eth0 down", Ends::Done),
    drift(
        "bpftool link detach pinned <root>/eth0/xdp-link",
        Runs::None,
        "the link is detached from device eth0",
    ),
    drift("bpftool link detach id <link id>", Runs::None, "the link is detached from device eth0"),
    drift("rm <root>/eth0/xdp-link", Runs::None, "the link's pin is gone"),
    drift("rm <root>/eth0/xdp_stats_map", Runs::Ours, "the pin of map xdp_stats_map is gone"),
    blocked("rm <root>/eth0/xdp-owner", Runs::Ours, "eth0 is a directory without our record"),
    blocked("ip link set dev eth0 name eth9", Runs::Away, "device eth0 is called eth9 now"),
    blocked("ip link set dev eth0 netns <other netns>", Runs::Away, "in another network namespace now"),
    blocked("ip link del dev eth0", Runs::None, "device gone"),
];

impl Row {
    /// Before, there is nothing but what xdpd has applied.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self.before, Before::Ours | Before::Native | Before::Generic)
    }

    /// All but what is done, as cells of a Markdown table.
    fn cells(&self) -> [String; 5] {
        let before = match self.before {
            Before::Free => "nothing is attached",
            Before::Ours => "xdpd has applied",
            Before::Native => "xdpd has applied, natively",
            Before::Generic => "xdpd has applied, in generic mode",
            Before::Theirs => "theirs, through netlink",
            Before::TheirLink => "theirs, held by a bpf_link",
            Before::Taken => "xdpd has taken over",
        };
        let ends = match self.ends {
            Ends::Done => "done".to_owned(),
            Ends::Ignored => "no effect".to_owned(),
            Ends::Refused(says) => format!("refused: {says}"),
        };
        let runs = match self.runs {
            Runs::Ours => "xdpd's",
            Runs::Theirs => "theirs",
            Runs::None => "nothing",
            Runs::Away => "xdpd's, where the device is",
        };
        let status = if self.status.is_empty() { "-" } else { self.status };
        let codes = match self.codes {
            [diff, apply, takeover] if apply == takeover => format!("{diff}, {apply}"),
            [diff, apply, takeover] => format!("{diff}, {apply}, with `--takeover` {takeover}"),
        };
        [before.to_owned(), ends, runs.to_owned(), status.to_owned(), codes]
    }
}

/// The whole table; what is alike but for the command line is one row of it.
pub(crate) fn markdown() -> String {
    let mut groups: Vec<([String; 5], Vec<String>)> = Vec::new();
    for row in ROWS {
        let (cells, does) = (row.cells(), format!("`{}`", row.does));
        match groups.iter_mut().find(|(known, _)| *known == cells) {
            Some((_, lines)) => lines.push(does),
            None => groups.push((cells, vec![does])),
        }
    }
    let mut text =
        "| before | somebody runs | which is | then runs | `xdpd status` says | exit of `diff`, `apply` |\n\
                    |---|---|---|---|---|---|\n"
            .to_owned();
    for ([before, ends, runs, status, codes], lines) in groups {
        let lines = lines.join("<br>");
        let _ = writeln!(text, "| {before} | {lines} | {ends} | {runs} | {status} | {codes} |");
    }
    text
}
