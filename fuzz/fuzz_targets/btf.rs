//! Raw BTF, of an object or of somebody's map in the kernel: layouts, types in words, values.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xdpd::object::Btf;
use xdpd::object::typed::{decode, describe};

fuzz_target!(|raw: &[u8]| {
    let Ok(btf) = Btf::parse(raw) else { return };
    for id in 0..64 {
        let _ = btf.layout(id);
        let _ = describe(&btf, id);
        if let Some(size) = btf.size(id).filter(|size| *size <= 256) {
            let _ = decode(&btf, id, &vec![0x5a; size as usize]);
        }
    }
});
