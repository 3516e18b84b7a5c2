//! Types for maps whose object describes none: numbers where the size is that of one, bytes otherwise.

use crate::object::Btf;

/// Sizes of numbers, and what they are called.
const NUMBERS: [(u32, &str); 4] = [(1, "__u8"), (2, "__u16"), (4, "__u32"), (8, "__u64")];

/// Type information that has no more than the types of a key and a value of these sizes, and their ids in it.
pub(super) fn types(key_size: u32, value_size: u32) -> Option<(Btf, u32, u32)> {
    let mut strings = vec![0];
    let mut words: Vec<u32> = Vec::new();
    for (size, name) in NUMBERS {
        let at = u32::try_from(strings.len()).ok()?;
        strings.extend_from_slice(name.as_bytes());
        strings.push(0);
        words.extend([at, 1 << 24, size, size * 8]); // BTF_KIND_INT
    }
    let count = u32::try_from(NUMBERS.len()).ok()?;
    for size in [key_size, value_size] {
        words.extend([0, 3 << 24, 0, 1, 3, size]); // BTF_KIND_ARRAY of __u8, with indexes of __u32
    }
    let types_len = u32::try_from(words.len() * 4).ok()?;
    let mut raw = Vec::new();
    raw.extend(0xeb9f_u16.to_le_bytes());
    raw.extend([1, 0]); // version, flags
    for number in [24, 0, types_len, types_len, u32::try_from(strings.len()).ok()?] {
        raw.extend(number.to_le_bytes());
    }
    raw.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    raw.extend(strings);
    let id = |size: u32, bytes: u32| {
        let number = NUMBERS.iter().position(|(of, _)| *of == size);
        number.and_then(|n| u32::try_from(n + 1).ok()).unwrap_or(bytes)
    };
    Some((Btf::parse(&raw).ok()?, id(key_size, count + 1), id(value_size, count + 2)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::typed::describe;

    #[test]
    fn sizes_of_numbers_are_numbers_and_others_are_bytes() {
        for (size, name) in
            [(1, "__u8"), (2, "__u16"), (4, "__u32"), (8, "__u64"), (6, "__u8[6]"), (20, "__u8[20]")]
        {
            let (btf, key, value) = types(size, size).unwrap();
            assert_eq!((describe(&btf, key), describe(&btf, value)), (name.to_owned(), name.to_owned()));
            assert_eq!((btf.size(key), btf.size(value)), (Some(size), Some(size)));
        }
    }
}
