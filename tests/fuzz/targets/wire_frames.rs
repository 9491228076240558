//! Frames as they arrive from a peer: any bytes in any pieces. Whatever is read must be the same in one piece, and must come
//! back when it is written again.

#![no_main]

use bps_fuzz::{Input, seed, within};
use bps_wire::{FrameReader, HEADER_BYTES, Limits, MAGIC, Message, WireError, encode};
use libfuzzer_sys::fuzz_target;

#[path = "../../../host/wire/tests/sample/mod.rs"]
mod sample;

const LIMITS: Limits = sample::LIMITS;
/// Leaves checksums and lengths as they are.
const AS_IT_IS: u8 = 1;

fuzz_target!(init: seed(seeds(), &["BPSF"]), |data: &[u8]| {
    let mut input = Input::new(data);
    let (flags, pieces) = (input.byte(), input.byte());
    let mut stream = input.rest().to_vec();
    if flags & AS_IT_IS == 0 {
        mend(&mut stream);
    }
    // A frame's room is made at once, a list's up to a megabyte at a time, a list's element takes a few times its bytes.
    within((8 << 20) + 64 * stream.len(), || {
        let whole = read(&stream, usize::MAX);
        assert_eq!(read(&stream, 1 + usize::from(pieces)), whole, "in pieces");
        for message in whole.0 {
            let again = encode(&message, &LIMITS).expect("what was taken keeps the bounds").parts.concat();
            assert_eq!(read(&again, usize::MAX), (vec![message], None), "written again");
        }
    });
});

/// The messages of a stream, and what was wrong in the end.
fn read(stream: &[u8], piece_bytes: usize) -> (Vec<Message>, Option<WireError>) {
    let mut reader = FrameReader::new(LIMITS);
    let mut messages = Vec::new();
    for mut piece in stream.chunks(piece_bytes.min(stream.len()).max(1)) {
        loop {
            match reader.feed(&mut piece) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}

/// Puts lengths and checksums right: a frame ends where the next one begins. The payload keeps its length where it can,
/// the body gets what is left.
fn mend(stream: &mut [u8]) {
    let mut start = 0;
    while let Some(frame) = stream.get_mut(start..).filter(|f| f.len() >= HEADER_BYTES) {
        let next = frame[HEADER_BYTES..].windows(MAGIC.len()).position(|w| w == MAGIC);
        let end = next.map_or(frame.len(), |at| HEADER_BYTES + at);
        let (header, rest) = frame[..end].split_at_mut(HEADER_BYTES);
        let said = u64::from_le_bytes(std::array::from_fn(|i| header[16 + i]));
        let payload = usize::try_from(said).ok().filter(|p| *p > 0 && p.saturating_add(4) <= rest.len()).unwrap_or(0);
        let body = rest.len() - if payload == 0 { 0 } else { payload + 4 };
        if payload > 0 {
            let crc = crc32c::crc32c(&rest[body..body + payload]);
            rest[body + payload..].copy_from_slice(&crc.to_le_bytes());
        }
        header[16..24].copy_from_slice(&(payload as u64).to_le_bytes());
        header[24..28].copy_from_slice(&(body as u32).to_le_bytes());
        header[28..32].copy_from_slice(&crc32c::crc32c(&rest[..body]).to_le_bytes());
        let crc = crc32c::crc32c(&header[..60]);
        header[60..].copy_from_slice(&crc.to_le_bytes());
        start += end;
    }
}

/// Each message alone, and all in one stream.
fn seeds() -> Vec<Vec<u8>> {
    let messages = sample::one_of_each();
    let frames = messages.iter().map(|m| sample::bytes_of(&encode(m, &LIMITS).expect("keeps the bounds")));
    let frames: Vec<Vec<u8>> = frames.collect();
    let alone =
        frames.iter().flat_map(|frame| [[&[AS_IT_IS, 30], &frame[..]].concat(), [&[0, 200], &frame[..]].concat()]);
    alone.chain([[&[AS_IT_IS, 99], &frames.concat()[..]].concat()]).collect()
}
