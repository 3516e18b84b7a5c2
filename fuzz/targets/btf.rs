//! Any bytes as BTF: every type can be asked for everything.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xdpd_object::Btf;
use xdpd_object::typed::{decode, describe};

fuzz_target!(|raw: &[u8]| {
    let Ok(btf) = Btf::parse(raw) else { return };
    // Ids of types that there are, and of some that there are not. No record is shorter than 12 bytes.
    let ids = u32::try_from(raw.len() / 12).unwrap_or(u32::MAX).min(1000) + 2;
    for id in 0..ids {
        let (_, _, _) = (btf.size(id), btf.layout(id), btf.members(id));
        let (_, _, _) = (btf.pointee(id), btf.array_len(id), btf.shape(id));
        assert!(!describe(&btf, id).is_empty());
        if let Some(size) = btf.size(id).filter(|size| *size <= 64) {
            let _ = decode(&btf, id, &vec![0x5a; size as usize]);
        }
    }
});
