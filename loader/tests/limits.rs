//! The limit of open files: each interface takes some, and services and shells give 1024.

mod common;

use common::Site;
use common::state::State;
use xdpd_testlab::{Invocation, Output, require_root, xdp_stats, xdpd};

const DEVICES: [&str; 12] = ["v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11"];

/// A program that may have so many open files: the soft limit, and the hard one.
fn limited(program: &Invocation, soft: usize, hard: usize) -> Invocation {
    Invocation::of("prlimit").arg(format!("--nofile={soft}:{hard}")).arg(program.path())
}

fn site(name: &str) -> Site {
    let site = Site::new(name);
    site.lab.veths("v", DEVICES.len());
    site
}

fn glob(site: &Site, function: &str) {
    site.config(&format!(
        "[programs.p]\nobject = 'builtin'\nfunction = '{function}'\n\
         [interfaces.'v*']\nnetns = '$NETNS'\nprogram = 'p'\nreuse = 'never'\n"
    ));
}

#[test]
#[ignore = "needs root"]
fn a_soft_limit_of_open_files_is_no_limit() {
    require_root!();
    let site = site("softlimit");
    glob(&site, "xdp_drop_func");
    let run = |program: &Invocation| limited(program, 16, 4096).current_dir(site.lab.dir());
    run(&xdpd()).args(["apply", "config.toml"]).run().expect_code(0);
    let once = run(&xdp_stats()).args(["--config", "config.toml", "--once", "--json"]).run().expect_code(0);
    assert_eq!(once.json_lines().len(), DEVICES.len());
}

#[test]
#[ignore = "needs root"]
fn an_apply_that_may_not_open_all_files_that_it_needs_changes_nothing() {
    require_root!();
    let site = site("hardlimit");
    let apply = |limit: usize| -> Output {
        let xdpd = limited(&xdpd(), limit, limit).current_dir(site.lab.dir());
        xdpd.args(["apply", "config.toml"]).run()
    };
    for function in ["xdp_drop_func", "xdp_pass_func"] {
        glob(&site, function);
        let before = State::of(&site, &DEVICES, &[]);
        // What it takes to say anything at all.
        let mut limit = 16;
        loop {
            let output = apply(limit);
            if output.code() == Some(0) {
                break;
            }
            assert_eq!(output.code(), Some(2), "{limit}: {output}");
            assert!(output.stderr.contains("open files"), "{limit}: {output}");
            assert!(output.stderr.contains("LimitNOFILE="), "{limit}: {output}");
            assert_eq!(State::of(&site, &DEVICES, &[]), before, "{limit}: {output}");
            limit += 7;
        }
        assert!(limit > 64, "{limit}");
        site.expect("diff", 0);
    }
}
