//! What a program asks of the kernel, as far as its instructions tell.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::LD_IMM64;

/// The lower three bits of an opcode.
const CLASS: u8 = 0x07;
const LDX: u8 = 0x01;
const STX: u8 = 0x03;
const ALU: u8 = 0x04;
const JMP: u8 = 0x05;
const JMP32: u8 = 0x06;
const ALU64: u8 = 0x07;

/// `bpf_tail_call`.
const TAIL_CALL: u32 = 12;

/// A version of Linux: the two numbers that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u8, pub u8);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl Serialize for Version {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Something that not every kernel can do with a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// `xdp.frags`.
    Frags,
    /// CO-RE.
    KernelTypes,
    /// Calls between functions of the object.
    Functions,
    /// Addresses of functions, handed to helpers that call them.
    Callbacks,
    /// Programs that are run through a program array.
    TailCalls,
    /// Maps of data sections.
    GlobalData,
    /// Jumps backwards.
    Loops,
    /// Atomic additions.
    AtomicAdditions,
    /// Atomic operations other than addition, and those that return what was there.
    AtomicOperations,
    /// Loads that acquire, stores that release.
    OrderedAccess,
    /// Signed loads and division, swaps of bytes, long jumps: what `-mcpu=v4` adds.
    CpuV4,
    /// Loops that the verifier does not follow (`may_goto`).
    MayGoto,
    /// Casts between address spaces, for arenas.
    AddressSpaces,
}

impl Feature {
    /// The feature in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Frags => "packets of several buffers (frags)",
            Self::KernelTypes => "types of the running kernel (CO-RE)",
            Self::Functions => "functions of its own",
            Self::Callbacks => "callbacks",
            Self::TailCalls => "tail calls",
            Self::GlobalData => "global variables",
            Self::Loops => "loops",
            Self::AtomicAdditions => "atomic additions",
            Self::AtomicOperations => "atomic operations",
            Self::OrderedAccess => "load-acquire and store-release",
            Self::CpuV4 => "instructions of BPF CPU v4",
            Self::MayGoto => "may_goto",
            Self::AddressSpaces => "casts between address spaces",
        }
    }

    /// The first kernel that has it for XDP programs.
    pub fn since(self) -> Version {
        match self {
            // As old as XDP.
            Self::AtomicAdditions | Self::TailCalls => Version(4, 8),
            Self::Functions => Version(4, 16),
            Self::GlobalData => Version(5, 2),
            Self::Loops => Version(5, 3),
            Self::KernelTypes => Version(5, 4),
            Self::AtomicOperations => Version(5, 12),
            Self::Callbacks => Version(5, 13),
            Self::Frags => Version(5, 18),
            Self::CpuV4 => Version(6, 6),
            Self::MayGoto | Self::AddressSpaces => Version(6, 9),
            Self::OrderedAccess => Version(6, 15),
        }
    }
}

/// What instructions tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CodeFacts {
    /// The numbers of the kernel's functions that they call.
    pub(super) helpers: BTreeSet<u32>,
    /// What else they use.
    pub(super) features: BTreeSet<Feature>,
}

impl CodeFacts {
    /// Reads instructions.
    pub(super) fn of(code: &[u8]) -> Self {
        let mut facts = Self::default();
        let (insns, _) = code.as_chunks::<8>();
        let mut insns = insns.iter();
        while let Some(&[opcode, registers, off0, off1, imm @ ..]) = insns.next() {
            let (off, imm) = (i16::from_le_bytes([off0, off1]), i32::from_le_bytes(imm));
            if opcode == LD_IMM64 {
                // Its second half holds the rest of the constant.
                insns.next();
            }
            facts.note(opcode, registers >> 4, off, imm);
        }
        facts
    }

    /// Adds what others tell.
    pub(super) fn extend(&mut self, other: &Self) {
        self.helpers.extend(&other.helpers);
        self.features.extend(&other.features);
    }

    fn note(&mut self, opcode: u8, source: u8, off: i16, imm: i32) {
        /// `BPF_CALL`, `BPF_EXIT` and `BPF_JA` in the upper bits of a jump.
        const CALL: u8 = 0x80;
        const EXIT: u8 = 0x90;
        const JA: u8 = 0x00;
        let operation = opcode & 0xf0;
        let feature = match opcode & CLASS {
            JMP if operation == CALL => match source {
                0 => {
                    let number = imm.cast_unsigned();
                    self.helpers.insert(number);
                    (number == TAIL_CALL).then_some(Feature::TailCalls)
                }
                1 => Some(Feature::Functions),
                _ => None,
            },
            JMP if operation == 0xe0 => Some(Feature::MayGoto),
            JMP32 if operation == JA => Some(Feature::CpuV4),
            JMP | JMP32 if operation != EXIT && off < 0 => Some(Feature::Loops),
            // BPF_ATOMIC
            STX if opcode & 0xe0 == 0xc0 => Some(match imm {
                0 => Feature::AtomicAdditions,
                0x100 | 0x110 => Feature::OrderedAccess,
                _ => Feature::AtomicOperations,
            }),
            // BPF_MEMSX
            LDX if opcode & 0xe0 == 0x80 => Some(Feature::CpuV4),
            // BPF_MOV: an offset of 1 between registers of 64 bits casts, others extend the sign.
            ALU | ALU64 if operation == 0xb0 && off == 1 => Some(Feature::AddressSpaces),
            ALU | ALU64 if operation == 0xb0 && off != 0 => Some(Feature::CpuV4),
            // BPF_DIV and BPF_MOD, signed
            ALU | ALU64 if [0x30, 0x90].contains(&operation) && off == 1 => Some(Feature::CpuV4),
            // BPF_END
            ALU64 if operation == 0xd0 => Some(Feature::CpuV4),
            _ => None,
        };
        self.features.extend(feature);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(insns: &[[u8; 8]]) -> CodeFacts {
        CodeFacts::of(insns.as_flattened())
    }

    fn features(insns: &[[u8; 8]]) -> Vec<Feature> {
        facts(insns).features.into_iter().collect()
    }

    #[test]
    fn calls_are_told_apart_by_their_source_register() {
        let found = facts(&[[0x85, 0, 0, 0, 12, 0, 0, 0], [0x85, 0, 0, 0, 1, 0, 0, 0]]);
        assert!(found.helpers.iter().eq(&[1, 12]), "{found:?}");
        assert!(found.features.iter().eq(&[Feature::TailCalls]), "{found:?}");
        assert_eq!(features(&[[0x85, 0x10, 0, 0, 9, 0, 0, 0]]), [Feature::Functions]);
    }

    #[test]
    fn the_second_half_of_a_long_constant_is_no_instruction() {
        let found = facts(&[[0x18, 1, 0, 0, 0, 0, 0, 0], [0x85, 0, 0, 0, 6, 0, 0, 0]]);
        assert_eq!(found, CodeFacts::default());
    }

    #[test]
    fn each_feature_has_its_instructions() {
        for (insn, feature) in [
            ([0xdb, 0x10, 0, 0, 0, 0, 0, 0], Feature::AtomicAdditions),
            ([0xdb, 0x10, 0, 0, 0x01, 0, 0, 0], Feature::AtomicOperations),
            ([0xc3, 0x10, 0, 0, 0xf1, 0, 0, 0], Feature::AtomicOperations),
            ([0xdb, 0x10, 0, 0, 0, 1, 0, 0], Feature::OrderedAccess),
            ([0x05, 0, 0xff, 0xff, 0, 0, 0, 0], Feature::Loops),
            ([0x1d, 0, 0xf0, 0xff, 0, 0, 0, 0], Feature::Loops),
            ([0x06, 0, 0, 0, 5, 0, 0, 0], Feature::CpuV4),
            ([0x81, 0, 0, 0, 0, 0, 0, 0], Feature::CpuV4),
            ([0xbf, 0x10, 8, 0, 0, 0, 0, 0], Feature::CpuV4),
            ([0x3f, 0x10, 1, 0, 0, 0, 0, 0], Feature::CpuV4),
            ([0xd7, 0, 0, 0, 16, 0, 0, 0], Feature::CpuV4),
            ([0xbf, 0x10, 1, 0, 1, 0, 0, 0], Feature::AddressSpaces),
            ([0xe5, 0, 4, 0, 0, 0, 0, 0], Feature::MayGoto),
        ] {
            assert_eq!(features(&[insn]), [feature], "{insn:x?}");
        }
        // Moves, jumps forwards, unsigned division, a return.
        let plain = [
            [0xbf, 0x10, 0, 0, 0, 0, 0, 0],
            [0x05, 0, 1, 0, 0, 0, 0, 0],
            [0x3f, 0x10, 0, 0, 0, 0, 0, 0],
            [0x95, 0, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(features(&plain), []);
    }
}
