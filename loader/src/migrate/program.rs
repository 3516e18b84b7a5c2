//! The instructions that settle one entry: an XDP program that is run for it, and attached nowhere.
//!
//! Its packet names the entry and the CPU whose values are meant. While a program runs for a test, no packet is handled
//! on its CPU (`bpf_test_run` in `net/bpf/test_run.c` turns softirqs off), so what it does to the values of that CPU
//! happens at once for every other program. Values that all CPUs share are added to atomically where the machine can:
//! 32 and 64 bits, aligned.

use xdpd_config::Merge;
use xdpd_kernel::Insn;

use super::{Mapping, Part, Shape};

/// What the program returns when the entry is in all three maps: `XDP_PASS`.
pub const SETTLED: u32 = 2;

/// The CPU's number and padding, before the key.
const HEADER: usize = 8;
/// `ETH_HLEN`: the shortest packet.
const PACKET_MIN: usize = 14;

/// `BPF_PSEUDO_MAP_FD`: the constant is the descriptor of a map.
const PSEUDO_MAP_FD: u8 = 1;
/// Numbers of `enum bpf_func_id`.
const LOOKUP: i32 = 1;
const LOOKUP_PERCPU: i32 = 195;

/// Operation codes of 64-bit instructions (include/uapi/linux/bpf.h): `_K` with a constant, `_X` with a register.
mod op {
    pub(super) const LD_IMM64: u8 = 0x18;
    pub(super) const LDX_B: u8 = 0x71;
    pub(super) const LDX_H: u8 = 0x69;
    pub(super) const LDX_W: u8 = 0x61;
    pub(super) const LDX_DW: u8 = 0x79;
    pub(super) const STX_B: u8 = 0x73;
    pub(super) const STX_H: u8 = 0x6b;
    pub(super) const STX_W: u8 = 0x63;
    pub(super) const STX_DW: u8 = 0x7b;
    pub(super) const ATOMIC_W: u8 = 0xc3;
    pub(super) const ATOMIC_DW: u8 = 0xdb;
    pub(super) const ADD_K: u8 = 0x07;
    pub(super) const ADD_X: u8 = 0x0f;
    pub(super) const SUB_X: u8 = 0x1f;
    pub(super) const OR_X: u8 = 0x4f;
    pub(super) const XOR_X: u8 = 0xaf;
    pub(super) const MOV_X: u8 = 0xbf;
    pub(super) const LSH_K: u8 = 0x67;
    pub(super) const RSH_K: u8 = 0x77;
    pub(super) const ARSH_K: u8 = 0xc7;
    pub(super) const JA: u8 = 0x05;
    pub(super) const JEQ_K: u8 = 0x15;
    pub(super) const JEQ_X: u8 = 0x1d;
    pub(super) const JNE_K: u8 = 0x55;
    pub(super) const JNE_X: u8 = 0x5d;
    pub(super) const JGT_X: u8 = 0x2d;
    pub(super) const JLE_X: u8 = 0xbd;
    pub(super) const JSLE_X: u8 = 0xdd;
    pub(super) const CALL: u8 = 0x85;
}

// Where things are, once they are found.
const NEW: u8 = 6;
const OLD: u8 = 7;
const BASE: u8 = 8;
const CPU: u8 = 9;

/// The descriptors of the maps.
#[derive(Debug, Clone, Copy)]
pub struct Descriptors {
    /// Of the old map.
    pub old: i32,
    /// Of the base.
    pub base: i32,
    /// Of the new map.
    pub new: i32,
}

/// Which way counts go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the old map to the new one.
    Forward,
    /// What the new program has counted goes to the old map.
    Back,
}

/// The program that settles entries with keys of this size; `None` where it would be too large.
pub fn instructions(
    mapping: &Mapping,
    direction: Direction,
    key_size: u32,
    per_cpu: bool,
    maps: Descriptors,
) -> Option<Vec<Insn>> {
    let mut code = find(key_size, per_cpu, maps)?;
    for part in &mapping.parts {
        code.extend(match (direction, part.merge, part.shape) {
            (Direction::Back, Merge::Sum, _) => add_back(part, per_cpu),
            (Direction::Back, _, _) => Vec::new(),
            (Direction::Forward, Merge::Sum, _) => add(part, per_cpu),
            (Direction::Forward, rule, Shape::Numbers { signed, .. }) => choose(part, rule, signed)?,
            (Direction::Forward, rule, Shape::Bytes(len)) => choose_bytes(part, rule, len)?,
        });
    }
    code.extend([Insn::mov(0, SETTLED.cast_signed()), Insn::exit()]);
    Some(code)
}

/// The packet for an entry.
pub fn packet(cpu: u32, key: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(PACKET_MIN.max(HEADER + key.len()));
    packet.extend(cpu.to_ne_bytes());
    packet.resize(HEADER, 0);
    packet.extend(key);
    packet.resize(PACKET_MIN.max(packet.len()), 0);
    packet
}

/// Reads the packet and finds the entry in each map, or ends.
fn find(key_size: u32, per_cpu: bool, maps: Descriptors) -> Option<Vec<Insn>> {
    const CTX: u8 = 1;
    const KEY: u8 = 6;
    let needed = i32::try_from(HEADER).ok()? + i32::try_from(key_size).ok()?;
    let lookup = |map: i32, into: Option<u8>, left: usize| {
        let mut code =
            vec![Insn::new(op::LD_IMM64, 1, PSEUDO_MAP_FD, 0, map), Insn::new(0, 0, 0, 0, 0), mov(2, KEY)];
        if per_cpu {
            code.push(mov(3, CPU));
        }
        code.push(Insn::new(op::CALL, 0, 0, 0, if per_cpu { LOOKUP_PERCPU } else { LOOKUP }));
        code.push(Insn::new(op::JEQ_K, 0, 0, offset(left)?, 0));
        code.extend(into.map(|register| mov(register, 0)));
        Some(code)
    };
    // Each jumps over the rest, and over the jump that skips the end.
    let mut new = lookup(maps.new, None, 2)?;
    // Takes the place of the key, which is not needed any more.
    new.push(mov(NEW, 0));
    let base = lookup(maps.base, Some(BASE), 1 + new.len() + 1)?;
    let old = lookup(maps.old, Some(OLD), 1 + base.len() + new.len() + 1)?;
    let begin = [load(4, CPU, KEY, 0), add_imm(KEY, i32::try_from(HEADER).ok()?)];
    let rest = begin.len() + old.len() + base.len() + new.len() + 1;
    let mut code = vec![
        load(4, KEY, CTX, 0),
        load(4, 2, CTX, 4),
        mov(3, KEY),
        add_imm(3, needed),
        Insn::new(op::JGT_X, 3, 2, offset(rest)?, 0),
    ];
    code.extend(begin);
    code.extend([old, base, new].concat());
    code.extend([Insn::new(op::JA, 0, 0, 2, 0), Insn::mov(0, 1), Insn::exit()]);
    Some(code)
}

/// `new += old - base; base = old`
fn add(part: &Part, per_cpu: bool) -> Vec<Insn> {
    let each = part.elements().flat_map(|(from, to, at_old, at_new)| {
        let mut code = vec![
            load(from, 1, OLD, at_old),
            load(from, 2, BASE, at_old),
            store(from, BASE, at_old, 1),
            sub(1, 2),
        ];
        code.extend(extend(1, from));
        code.extend(add_to(to, NEW, at_new, per_cpu));
        code
    });
    each.collect()
}

/// `d = new - base; base += d; old += d`
fn add_back(part: &Part, per_cpu: bool) -> Vec<Insn> {
    let each = part.elements().flat_map(|(from, to, at_old, at_new)| {
        let mut code = vec![load(to, 1, NEW, at_new), load(from, 2, BASE, at_old), sub(1, 2)];
        code.extend(extend(1, from.min(to)));
        code.extend([Insn::new(op::ADD_X, 2, 1, 0, 0), store(from, BASE, at_old, 2)]);
        code.extend(add_to(from, OLD, at_old, per_cpu));
        code
    });
    each.collect()
}

/// Adds `r1` to a number in a value.
fn add_to(size: usize, value: u8, at: usize, per_cpu: bool) -> Vec<Insn> {
    let plain = [load(size, 2, value, at), Insn::new(op::ADD_X, 2, 1, 0, 0), store(size, value, at, 2)];
    match (per_cpu, size) {
        (true, _) => plain.to_vec(),
        (false, 4 | 8) if at.is_multiple_of(size) => {
            let code = if size == 8 { op::ATOMIC_DW } else { op::ATOMIC_W };
            vec![Insn::new(code, value, 1, small(at), 0)]
        }
        // Nothing is written where nothing is added: other CPUs may be writing there.
        (false, _) => {
            let mut code = vec![Insn::new(op::JEQ_K, 1, 0, 3, 0)];
            code.extend(plain);
            code
        }
    }
}

/// Numbers of which one of the two values is taken.
fn choose(part: &Part, rule: Merge, signed: bool) -> Option<Vec<Insn>> {
    let mut code = Vec::new();
    for (from, to, at_old, at_new) in part.elements() {
        let take = store(to, NEW, at_new, 1);
        let mut body = vec![store(from, BASE, at_old, 1)];
        for register in [1, 2] {
            if signed && from < to {
                body.extend(extend(register, from));
            }
            if to < 8 && (signed || from > to) {
                body.extend(cut(register, to));
            }
        }
        match rule {
            Merge::Old => body.push(take),
            Merge::New | Merge::Sum => {
                body.extend([load(to, 3, NEW, at_new), Insn::new(op::JNE_X, 3, 2, 1, 0), take]);
            }
            Merge::Max => {
                let mut compare = Vec::new();
                if signed {
                    compare.extend([mov(4, 1), mov(5, 3)]);
                    compare.extend(extend(4, to));
                    compare.extend(extend(5, to));
                    compare.push(Insn::new(op::JSLE_X, 4, 5, 1, 0));
                } else {
                    compare.push(Insn::new(op::JLE_X, 1, 3, 1, 0));
                }
                body.extend([
                    load(to, 3, NEW, at_new),
                    Insn::new(op::JEQ_X, 3, 2, offset(compare.len())?, 0),
                ]);
                body.extend(compare);
                body.push(take);
            }
        }
        code.extend([load(from, 1, OLD, at_old), load(from, 2, BASE, at_old)]);
        code.push(Insn::new(op::JEQ_X, 1, 2, offset(body.len())?, 0));
        code.extend(body);
    }
    Some(code)
}

/// The same for bytes that are one thing. Compared without a jump for each word, of which the verifier follows only so
/// many.
fn choose_bytes(part: &Part, rule: Merge, len: usize) -> Option<Vec<Insn>> {
    const DIFFERENCE: u8 = 5;
    let words = words(part.from, part.to, len);
    let compare = |value: u8, at: usize| {
        let mut code = vec![Insn::mov(DIFFERENCE, 0)];
        for (offset, size) in &words {
            code.extend([
                load(*size, 1, value, at + offset),
                load(*size, 2, BASE, part.from + offset),
                Insn::new(op::XOR_X, 1, 2, 0, 0),
                Insn::new(op::OR_X, DIFFERENCE, 1, 0, 0),
            ]);
        }
        code
    };
    let copy = |value: u8, at: usize| -> Vec<Insn> {
        let each = words.iter().flat_map(|(offset, size)| {
            [load(*size, 1, OLD, part.from + offset), store(*size, value, at + offset, 1)]
        });
        each.collect()
    };
    let take = copy(NEW, part.to);
    let mut body = Vec::new();
    if rule == Merge::Old {
        body.extend(copy(BASE, part.from));
    } else {
        body.extend(compare(NEW, part.to));
        body.extend(copy(BASE, part.from));
        body.push(Insn::new(op::JNE_K, DIFFERENCE, 0, offset(take.len())?, 0));
    }
    body.extend(take);
    let mut code = compare(OLD, part.from);
    code.push(Insn::new(op::JEQ_K, DIFFERENCE, 0, offset(body.len())?, 0));
    code.extend(body);
    Some(code)
}

/// Where and how long the words are in which bytes are handled: as large as both places allow.
fn words(from: usize, to: usize, len: usize) -> Vec<(usize, usize)> {
    let mut words = Vec::new();
    let mut at = 0;
    while at < len {
        let fits = |size: &usize| {
            at + size <= len && (from + at).is_multiple_of(*size) && (to + at).is_multiple_of(*size)
        };
        let size = [8, 4, 2].into_iter().find(fits).unwrap_or(1);
        words.push((at, size));
        at += size;
    }
    words
}

/// Gives a register's low bytes their sign.
fn extend(register: u8, size: usize) -> Vec<Insn> {
    shift(register, size, op::ARSH_K)
}

/// Leaves a register its low bytes.
fn cut(register: u8, size: usize) -> Vec<Insn> {
    shift(register, size, op::RSH_K)
}

fn shift(register: u8, size: usize, back: u8) -> Vec<Insn> {
    let unused = 64 - i32::from(small(size * 8));
    if unused <= 0 {
        return Vec::new();
    }
    vec![Insn::new(op::LSH_K, register, 0, 0, unused), Insn::new(back, register, 0, 0, unused)]
}

fn mov(to: u8, from: u8) -> Insn {
    Insn::new(op::MOV_X, to, from, 0, 0)
}

fn add_imm(to: u8, imm: i32) -> Insn {
    Insn::new(op::ADD_K, to, 0, 0, imm)
}

fn sub(to: u8, from: u8) -> Insn {
    Insn::new(op::SUB_X, to, from, 0, 0)
}

fn load(size: usize, to: u8, value: u8, at: usize) -> Insn {
    let code = match size {
        1 => op::LDX_B,
        2 => op::LDX_H,
        4 => op::LDX_W,
        _ => op::LDX_DW,
    };
    Insn::new(code, to, value, small(at), 0)
}

fn store(size: usize, value: u8, at: usize, from: u8) -> Insn {
    let code = match size {
        1 => op::STX_B,
        2 => op::STX_H,
        4 => op::STX_W,
        _ => op::STX_DW,
    };
    Insn::new(code, value, from, small(at), 0)
}

/// A place in a value. Values that are carried are much smaller than what this holds.
fn small(at: usize) -> i16 {
    i16::try_from(at).unwrap_or(i16::MAX)
}

/// A jump over so many instructions.
fn offset(instructions: usize) -> Option<i16> {
    i16::try_from(instructions).ok()
}
