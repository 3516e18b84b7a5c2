//! Objects that are made to cost time or memory are refused, or read in bounded time.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use xdpd::object::explain::Explanation;
use xdpd::object::{Object, ObjectError};

/// Far less than the hours that they once took, also on a machine that is busy.
const BOUND: Duration = Duration::from_mins(5);

/// Assembles, inspects and explains.
fn inspect(assembly: &str) -> Result<(), ObjectError> {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("object.s");
    std::fs::write(&source, assembly).unwrap();
    let object =
        common::compile_file(&dir.path().join("object.o"), &source, &["-Wno-unused-command-line-argument"]);
    let bytes = std::fs::read(object).unwrap();
    let start = Instant::now();
    let inspected = Object::inspect(bytes).map(|object| drop(Explanation::of(&object)));
    assert!(start.elapsed() < BOUND, "{:?}", start.elapsed());
    inspected
}

fn function(out: &mut String, name: &str, body: &str) {
    write!(out, ".globl {name}\n.type {name},@function\n{name}:\n{body}\nexit\n.size {name}, .-{name}\n")
        .unwrap();
}

const PROGRAM: &str = ".section xdp,\"ax\",@progbits\n";

#[track_caller]
fn refused(assembly: &str, why: &str) {
    let error = inspect(assembly).unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
}

#[test]
fn sections_are_counted() {
    let mut object = String::new();
    for n in 0..5000 {
        writeln!(object, ".section xdp/p{n},\"ax\",@progbits\nexit").unwrap();
    }
    refused(&object, "sections, at most 4096 are read");
}

#[test]
fn functions_are_counted() {
    let mut object = PROGRAM.to_owned();
    for n in 0..2000 {
        function(&mut object, &format!("f{n}"), "r0 = 0");
    }
    refused(&object, "more than 1024 functions");
}

#[test]
fn functions_of_one_program_are_counted_and_others_can_be_used() {
    let mut object = PROGRAM.to_owned();
    function(&mut object, "many", "call f0");
    function(&mut object, "one", "r0 = 0");
    object.push_str(".text\n");
    for n in 0..300 {
        function(&mut object, &format!("f{n}"), &format!("call f{}", (n + 1) % 300));
    }
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("object.s");
    std::fs::write(&source, object).unwrap();
    let path =
        common::compile_file(&dir.path().join("object.o"), &source, &["-Wno-unused-command-line-argument"]);
    let object = Object::inspect(std::fs::read(path).unwrap()).unwrap();
    assert!(object.program(Some("one")).is_ok());
    let error = object.program(Some("many")).unwrap_err().to_string();
    assert!(error.contains("more than 256 functions"), "{error}");
}

#[test]
fn functions_do_not_overlap() {
    let object = format!(
        "{PROGRAM}.type f,@function\n.globl f\nf:\nr0 = 0\n.type g,@function\n.globl g\ng:\nr0 = 0\nexit\n\
         .size g, .-g\n.size f, .-f\n"
    );
    refused(&object, "function `f` reaches into the next one");
}

#[test]
fn names_have_a_length() {
    let mut object = PROGRAM.to_owned();
    function(&mut object, &"a".repeat(5000), "r0 = 0");
    refused(&object, "a name of more than 4096 bytes");
    let mut object = PROGRAM.to_owned();
    function(&mut object, &"a".repeat(300), "r0 = 0");
    refused(&object, "a program's name has more than 255 bytes");
}

/// A BTF section with types, written as words, and strings.
fn btf(types: &str, strings: &str) -> String {
    let mut program = PROGRAM.to_owned();
    function(&mut program, "program", "r0 = 0");
    format!(
        "{program}.section .BTF,\"\",@progbits\n.long 0x1eb9f, 24\n.long 0, types_end - types\n\
         .long types_end - types, strings_end - types_end\ntypes:\n{types}\ntypes_end:\n{strings}\nstrings_end:\n"
    )
}

/// Each of 300,000 names is a part of the one before.
#[test]
fn names_of_types_that_share_their_ends_are_read_once() {
    let types = ".set name, 1\n.rept 300000\n.long name, 0x04000000, 0\n.set name, name + 1\n.endr";
    inspect(&btf(types, ".byte 0\n.fill 4000000, 1, 0x61\n.byte 0")).unwrap();
}

/// A struct with 60,000 members that all have the longest name that counts, 64 times in itself.
#[test]
fn layouts_are_cut_off() {
    let types = ".long 0, 0x01000000, 4, 32\n.long 1, 0x0400ea60, 4\n.rept 60000\n.long 1, 1, 0\n.endr\n\
                 .long 0, 0x03000000, 0, 2, 1, 64\n.long 1, 0x0e000000, 3, 1\n.long 513, 0x0f000001, 256\n.long 4, 0, 256";
    let strings = ".byte 0\n.fill 511, 1, 0x61\n.byte 0\n.ascii \".data\"\n.byte 0";
    let data =
        ".data\n.globl variable\n.type variable,@object\nvariable:\n.fill 256, 1, 7\n.size variable, 256\n";
    inspect(&format!("{}{data}", btf(types, strings))).unwrap();
}

/// A thousand programs refer to 60 arrays, and each of these to many of the programs.
#[test]
fn what_programs_reach_through_arrays_is_told_in_bounded_time() {
    const PROGRAMS: usize = 1000;
    const ARRAYS: usize = 60;
    const SLOTS: usize = 17;
    let mut source = String::from("#include \"bpf.h\"\n");
    for n in 0..PROGRAMS {
        writeln!(source, "int f{n}(struct xdp_md *ctx);").unwrap();
    }
    for array in 0..ARRAYS {
        let slots = (0..SLOTS).map(|n| format!("f{},", (array * SLOTS + n) % PROGRAMS));
        let slots = slots.collect::<Vec<_>>().concat();
        writeln!(
            source,
            "struct {{ __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, {SLOTS}); __uint(key_size, 4);
             __array(values, int(struct xdp_md *)); }} array{array} SEC(\".maps\") = {{ .values = {{ {slots} }} }};"
        )
        .unwrap();
    }
    let jumps = (0..ARRAYS).map(|array| format!("tail_call(ctx, &array{array}, 0);"));
    let jumps = jumps.collect::<Vec<_>>().concat();
    for n in 0..PROGRAMS {
        writeln!(source, "SEC(\"xdp\") int f{n}(struct xdp_md *ctx) {{ {jumps} return {}; }}", n % 5)
            .unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("object.c");
    std::fs::write(&path, source).unwrap();
    let headers = format!("-I{}/tests/programs", env!("CARGO_MANIFEST_DIR"));
    let object = common::compile_file(&dir.path().join("object.o"), &path, &[&headers, "-g", "-O1"]);
    let bytes = std::fs::read(object).unwrap();
    let start = Instant::now();
    let object = Object::inspect(bytes).unwrap();
    drop(Explanation::of(&object));
    assert!(start.elapsed() < BOUND, "{:?}", start.elapsed());
    assert!(object.programs().iter().all(|program| program.maps.len() == ARRAYS));
}
