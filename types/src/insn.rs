//! Instructions of programs.

/// What a program declares that is to be attached to a device: `BPF_XDP` of `enum bpf_attach_type`.
pub const ATTACH_TYPE_XDP: u32 = 37;

/// One instruction, `struct bpf_insn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Insn(u64);

impl Insn {
    /// An instruction from its parts: opcode, registers, offset, constant.
    pub fn new(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Self {
        // Two bit fields of four bits, and a compiler for a big-endian machine lays the first into the upper half.
        let registers = if cfg!(target_endian = "little") {
            (src & 0xf) << 4 | (dst & 0xf)
        } else {
            (dst & 0xf) << 4 | (src & 0xf)
        };
        let (off, imm) = (off.to_ne_bytes(), imm.to_ne_bytes());
        Self(u64::from_ne_bytes([code, registers, off[0], off[1], imm[0], imm[1], imm[2], imm[3]]))
    }

    /// `r<dst> = imm`, all 64 bits.
    pub fn mov(dst: u8, imm: i32) -> Self {
        Self::new(0xb7, dst, 0, 0, imm)
    }

    /// Its eight bytes as a number in the machine's order.
    pub fn raw(self) -> u64 {
        self.0
    }

    /// `exit`: returns what is in `r0`.
    pub fn exit() -> Self {
        Self::new(0x95, 0, 0, 0, 0)
    }
}
