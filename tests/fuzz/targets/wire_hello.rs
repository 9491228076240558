//! The first bytes of a connection. What is read must be what is written, byte by byte.

#![no_main]

use bps_fuzz::{Input, seed, within};
use bps_wire::{HELLO_BYTES_MAX, HELLO_FIXED_BYTES, Hello, VERSIONS, agree, decode_hello, encode_hello, hello_bytes};
use libfuzzer_sys::fuzz_target;

/// Leaves checksum and length as they are.
const AS_IT_IS: u8 = 1;

fuzz_target!(init: seed(seeds(), &["bps\\x0d\\x0a\\x1a\\x0a\\x00"]), |data: &[u8]| {
    let mut input = Input::new(data);
    let flags = input.byte();
    let mut bytes = input.rest().to_vec();
    if flags & AS_IT_IS == 0 {
        mend(&mut bytes);
    }
    within(64 << 10, || {
        let needed = bytes.first_chunk::<HELLO_FIXED_BYTES>().map(hello_bytes);
        if let Some(Ok(needed)) = needed {
            assert!(needed <= HELLO_BYTES_MAX);
        }
        let Ok(hello) = decode_hello(&bytes) else { return };
        assert_eq!(needed, Some(Ok(bytes.len())));
        assert_eq!(encode_hello(&hello).expect("what was taken keeps the bounds"), bytes);
        let ours = ours();
        let agreed = agree(&ours, &hello);
        assert_eq!(agreed.as_ref().ok(), agree(&hello, &ours).as_ref().ok(), "both sides agree on the same");
        if let Err(error) = agreed {
            assert!(!error.to_string().is_empty());
        }
    });
});

fn ours() -> Hello {
    Hello { versions: VERSIONS, name: "edge".into(), software: "bps 0.1.0".into(), frame_bytes_max: 1 << 26 }
}

/// Puts the length of the second text and the checksum right.
fn mend(bytes: &mut [u8]) {
    let Some(texts) = bytes.len().checked_sub(HELLO_FIXED_BYTES + 4) else { return };
    let name = usize::from(u16::from_le_bytes([bytes[12], bytes[13]]));
    let software = texts.saturating_sub(name) as u16;
    bytes[14..16].copy_from_slice(&software.to_le_bytes());
    let (body, crc) = bytes.split_at_mut(HELLO_FIXED_BYTES + texts);
    crc.copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
}

fn seeds() -> Vec<Vec<u8>> {
    let named = |name: &str, versions| Hello { name: name.into(), versions, ..ours() };
    let hellos = [ours(), named("", (0, 9)), named("höhe", (2, 7)), named(&"n".repeat(256), (1, 1))];
    let bytes = hellos.iter().map(|hello| encode_hello(hello).expect("keeps the bounds"));
    bytes.flat_map(|hello| [[&[AS_IT_IS], &hello[..]].concat(), [&[0], &hello[..]].concat()]).collect()
}
