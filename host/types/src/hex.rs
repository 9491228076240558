//! Digests as people, protocols and file names have them.

/// Two hex digits a byte, small letters.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// What [`hex`] has made of a SHA-256; none where it cannot have.
pub fn digest_from_hex(digits: &str) -> Option<[u8; 32]> {
    if digits.len() != 64 || !digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_is_read() {
        let digest: [u8; 32] = std::array::from_fn(|i| (i * 8) as u8);
        let text = hex(&digest);
        assert_eq!(&text[..8], "00081018");
        assert_eq!(digest_from_hex(&text), Some(digest));
        for wrong in [&text[1..], &text.to_uppercase(), &format!("+{}", &text[1..]), &format!("{text}0")] {
            assert_eq!(digest_from_hex(wrong), None, "{wrong}");
        }
    }
}
