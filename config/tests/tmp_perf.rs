use std::path::Path;
use std::time::Instant;
use xdpd_config::Config;
#[test]
fn perf() {
    let n = 1 << 20;
    let rep = |s: &str| s.repeat(n / s.len());
    let many_refs = {
        let mut t = String::new();
        for i in 0..8000 {
            t += &format!("[programs.program{i}]\nobject='a'\n");
        }
        for i in 0..12000 {
            t += &format!("[interfaces.e{i}]\nprogram='progrem{i}'\n");
        }
        t
    };
    let keys: String = (0..60000).map(|i| format!("key{i} = {i}\n")).collect();
    let one_line: String =
        format!("stats = {{ {} }}", (0..60000).map(|i| format!("key{i}={i}")).collect::<Vec<_>>().join(", "));
    let dup_tables = rep("[interfaces.eth0]\n");
    let claims: String = (0..15000).map(|i| format!("[interfaces.label{i}]\nname='eth0'\n")).collect();
    for (name, text) in [
        ("x lines", rep("x\n")),
        ("quotes", rep("\"")),
        ("brackets", rep("[")),
        ("braces", rep("a={")),
        ("dup", rep("a=1\n")),
        ("dup tables", dup_tables),
        ("refs", many_refs),
        ("keys", keys),
        ("one line", one_line),
        ("claims", claims),
        ("control", rep("\u{1}")),
        ("dots", rep("a.")),
        ("globs", format!("[interfaces.\"{}\"]", "*a".repeat(n / 2 - 20))),
        ("commas", format!("a=[{}", rep(","))),
    ] {
        let t = Instant::now();
        let r = Config::parse(Path::new("c.toml"), &text);
        let p = t.elapsed();
        let t = Instant::now();
        match r {
            Ok(c) => println!("{name}: ok {} {p:?}", c.interfaces.len()),
            Err(e) => {
                let n = e.iter().count();
                let it = t.elapsed();
                let t = Instant::now();
                let s = e.to_string();
                println!(
                    "{name}: {n} errors parse {p:?} iter {it:?} render {:?} {} bytes",
                    t.elapsed(),
                    s.len()
                );
            }
        }
    }
}
