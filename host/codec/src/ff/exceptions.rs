//! Elements that travel as they are: not-a-number, infinities, what is too large for symbols, and in bounded frames
//! whatever would miss the bound.
//!
//! ```text
//! count (LEB128) | per exception: elements skipped since the last (LEB128) | the element's 32 bits
//! ```

/// Position in the chunk (channels one after another) and bits of an element.
pub(super) type Exception = (u32, u32);

/// Writes them behind what is in `out`; positions ascend.
pub(super) fn write(exceptions: &[Exception], out: &mut Vec<u8>) {
    write_number(exceptions.len() as u32, out);
    let mut next = 0;
    for (position, bits) in exceptions {
        write_number(position - next, out);
        out.extend(bits.to_le_bytes());
        next = position + 1;
    }
}

/// Reads exceptions and what comes behind them. Errors with what is wrong.
pub(super) fn read(bytes: &[u8], elements: usize) -> Result<(Vec<Exception>, &[u8]), &'static str> {
    let (count, mut rest) = read_number(bytes).ok_or("no count")?;
    // Each takes five bytes or more: what is not there is not allocated for.
    if count as usize > elements || count as usize > rest.len() / 5 {
        return Err("more of them than bytes or elements");
    }
    let mut exceptions = Vec::with_capacity(count as usize);
    let mut next = 0u64;
    for _ in 0..count {
        let (skipped, after) = read_number(rest).ok_or("cut off")?;
        let (bits, after) = after.split_first_chunk::<4>().ok_or("cut off")?;
        let position = next + u64::from(skipped);
        if position >= elements as u64 {
            return Err("a position is behind the last element");
        }
        exceptions.push((position as u32, u32::from_le_bytes(*bits)));
        next = position + 1;
        rest = after;
    }
    Ok((exceptions, rest))
}

fn write_number(mut number: u32, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn read_number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let mut number = 0u64;
    for (i, byte) in bytes.iter().enumerate().take(5) {
        number |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((u32::try_from(number).ok()?, &bytes[i + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for list in [&[][..], &[(0, 1)], &[(0, 7), (1, 8), (300, u32::MAX), (70_000, 0)]] {
            let mut bytes = Vec::new();
            write(list, &mut bytes);
            bytes.push(9);
            let (back, rest) = read(&bytes, 70_001).unwrap();
            assert_eq!((&back[..], rest), (list, &[9][..]));
            if !list.is_empty() {
                assert!((0..bytes.len() - 1).all(|n| read(&bytes[..n], 70_001).is_err()));
                assert!(read(&bytes, list.last().unwrap().0 as usize).is_err());
            }
        }
    }

    #[test]
    fn nothing_is_allocated_for_what_is_only_said() {
        assert!(read(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0], 1 << 30).is_err());
        assert!(read(&[0xff, 0xff, 0xff, 0xff, 0xff], 1 << 30).is_err());
    }
}
