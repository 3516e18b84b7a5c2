//! Values in memory: converted when they are copied, compared, and settled where no program can be in the way.
//!
//! What [`super::program`] does in the kernel is the same, and is tested to be.

use xdpd_config::Merge;

use super::{Mapping, Part, Shape};

impl Mapping {
    /// Writes the fields of an old value into a new one. What has no field in the old one stays as it is.
    pub fn convert(&self, old: &[u8], new: &mut [u8]) {
        self.parts.iter().for_each(|part| part.convert(old, new));
    }

    /// What an entry begins with that has appeared in the old map since the snapshot: all but the counts, which are
    /// settled.
    pub fn seed(&self, old: &[u8], new: &mut [u8]) {
        self.parts.iter().filter(|part| part.merge != Merge::Sum).for_each(|part| part.convert(old, new));
    }

    /// The same for one that has appeared in the new map, for the old one.
    pub fn seed_back(&self, new: &[u8], old: &mut [u8]) {
        let others = self.parts.iter().filter(|part| part.merge != Merge::Sum);
        others.for_each(|part| part.reversed().convert(new, old));
    }

    /// Whether the old program has changed a field since the snapshot.
    pub fn changed(&self, old: &[u8], base: &[u8]) -> bool {
        self.parts.iter().any(|part| {
            let range = part.from..part.from + part.old_len();
            old[range.clone()] != base[range]
        })
    }

    /// Whether the new program has counted anything that is not settled.
    pub fn counted(&self, new: &[u8], base: &[u8]) -> bool {
        self.sums().any(|part| {
            part.elements().any(|(from, to, at_old, at_new)| {
                let size = from.min(to);
                cut(read(new, at_new, to).wrapping_sub(read(base, at_old, from)), size) != 0
            })
        })
    }

    /// Whether a new value is still what the snapshot was converted to.
    pub fn untouched(&self, base: &[u8], new: &[u8]) -> bool {
        let mut converted = new.to_vec();
        self.convert(base, &mut converted);
        converted == new
    }

    /// Settles what the old program has changed: in the new value, and in the base.
    pub fn settle(&self, old: &[u8], base: &mut [u8], new: &mut [u8]) {
        for part in &self.parts {
            match part.shape {
                Shape::Numbers { signed, .. } => {
                    for (from, to, at_old, at_new) in part.elements() {
                        let (o, b) = (read(old, at_old, from), read(base, at_old, from));
                        write(base, at_old, from, o);
                        let n = read(new, at_new, to);
                        let widen = |value| cut(if signed { extend(value, from) } else { value }, to);
                        let (o_wide, b_wide) = (widen(o), widen(b));
                        let greater = if signed {
                            extend(o_wide, to).cast_signed() > extend(n, to).cast_signed()
                        } else {
                            o_wide > n
                        };
                        let settled = match part.merge {
                            Merge::Sum => n.wrapping_add(extend(o.wrapping_sub(b), from)),
                            _ if o == b => n,
                            Merge::Old => o_wide,
                            _ if n == b_wide => o_wide,
                            Merge::Max if greater => o_wide,
                            Merge::Max | Merge::New => n,
                        };
                        write(new, at_new, to, settled);
                    }
                }
                Shape::Bytes(len) => {
                    let (from, to) = (part.from..part.from + len, part.to..part.to + len);
                    if old[from.clone()] == base[from.clone()] {
                        continue;
                    }
                    if part.merge == Merge::Old || new[to.clone()] == base[from.clone()] {
                        new[to].copy_from_slice(&old[from.clone()]);
                    }
                    base[from.clone()].copy_from_slice(&old[from]);
                }
            }
        }
    }

    /// Settles what the new program has counted: in the old value, and in the base.
    pub fn settle_back(&self, new: &[u8], base: &mut [u8], old: &mut [u8]) {
        for (from, to, at_old, at_new) in self.sums().flat_map(Part::elements) {
            let b = read(base, at_old, from);
            let counted = extend(read(new, at_new, to).wrapping_sub(b), from.min(to));
            write(base, at_old, from, b.wrapping_add(counted));
            let o = read(old, at_old, from);
            write(old, at_old, from, o.wrapping_add(counted));
        }
    }
}

impl Part {
    /// Bytes of the old value that are carried.
    pub(super) fn old_len(&self) -> usize {
        match self.shape {
            Shape::Numbers { from, count, .. } => from * count,
            Shape::Bytes(len) => len,
        }
    }

    /// Of each number: its size and its place in the old and in the new value. Bytes are no numbers.
    pub(super) fn elements(&self) -> impl Iterator<Item = (usize, usize, usize, usize)> + use<> {
        let (from, to, count) = match self.shape {
            Shape::Numbers { from, to, count, .. } => (from, to, count),
            Shape::Bytes(_) => (0, 0, 0),
        };
        let (at_old, at_new) = (self.from, self.to);
        (0..count).map(move |n| (from, to, at_old + n * from, at_new + n * to))
    }

    fn convert(&self, old: &[u8], new: &mut [u8]) {
        match self.shape {
            Shape::Numbers { signed, .. } => {
                for (from, to, at_old, at_new) in self.elements() {
                    let value = read(old, at_old, from);
                    write(new, at_new, to, if signed { extend(value, from) } else { value });
                }
            }
            Shape::Bytes(len) => {
                new[self.to..self.to + len].copy_from_slice(&old[self.from..self.from + len]);
            }
        }
    }

    /// The way back.
    fn reversed(&self) -> Self {
        let shape = match self.shape {
            Shape::Numbers { from, to, signed, count } => {
                Shape::Numbers { from: to, to: from, signed, count }
            }
            bytes @ Shape::Bytes(_) => bytes,
        };
        Self { from: self.to, to: self.from, shape, merge: self.merge }
    }
}

fn read(bytes: &[u8], at: usize, size: usize) -> u64 {
    let mut word = [0; 8];
    if cfg!(target_endian = "little") {
        word[..size].copy_from_slice(&bytes[at..at + size]);
    } else {
        word[8 - size..].copy_from_slice(&bytes[at..at + size]);
    }
    u64::from_ne_bytes(word)
}

/// Writes the low bytes of a number.
fn write(bytes: &mut [u8], at: usize, size: usize, value: u64) {
    let word = value.to_ne_bytes();
    let low = if cfg!(target_endian = "little") { &word[..size] } else { &word[8 - size..] };
    bytes[at..at + size].copy_from_slice(low);
}

/// The low bytes of a number.
fn cut(value: u64, size: usize) -> u64 {
    if size >= 8 { value } else { value & ((1 << (size * 8)) - 1) }
}

/// A number of this size, with the sign that it has.
fn extend(value: u64, size: usize) -> u64 {
    let unused = 64_u32.saturating_sub(u32::try_from(size * 8).unwrap_or(64));
    ((value << unused).cast_signed() >> unused).cast_unsigned()
}
