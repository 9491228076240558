//! The first bytes on every connection, in both directions. Little-endian; pinned by `tests/golden.rs`.
//!
//! ```text
//!  offset 0       1       2       3       4       5       6       7
//!        +-------+-------+-------+-------+-------+-------+-------+-------+
//!      0 |                magic "bps\r\n" 1A 0A 00                       |
//!        +-------+-------+-------+-------+-------+-------+-------+-------+
//!      8 |   lowest version  highest     |  name length  |software length|
//!        +-------+-------+-------+-------+-------+-------+-------+-------+
//!     16 |                 largest frame the sender takes                |
//!        +-------+-------+-------+-------+-------+-------+-------+-------+
//!     24 |  name (UTF-8)                                                 |
//!        ~                                                               ~
//!        |  software (UTF-8)                                             |
//!        ~                                                               ~
//!        |  CRC32C of everything before  |
//!        +-------+-------+-------+-------+
//! ```
//!
//! Every version of the protocol keeps this layout, so that hosts of any two versions can tell each other which they
//! speak. The magic breaks when text is translated on the way (line ends, seven bits).

use crate::bounds::NAME_BYTES_MAX;
use crate::error::WireError;
use crate::header::VERSION;
use crate::message::Hello;

/// The first eight bytes.
pub const HELLO_MAGIC: [u8; 8] = *b"bps\r\n\x1a\n\0";
/// Bytes whose number does not depend on the names.
pub const HELLO_FIXED_BYTES: usize = 24;
/// Longest hello.
pub const HELLO_BYTES_MAX: usize = HELLO_FIXED_BYTES + 2 * NAME_BYTES_MAX + CRC_BYTES;
/// Versions this crate speaks, lowest and highest.
pub const VERSIONS: (u16, u16) = (VERSION, VERSION);

const CRC_BYTES: usize = 4;

/// The bytes of a hello.
///
/// # Errors
/// Where a name is too long.
pub fn encode_hello(hello: &Hello) -> Result<Vec<u8>, WireError> {
    let mut bytes = Vec::with_capacity(HELLO_FIXED_BYTES + hello.name.len() + hello.software.len() + CRC_BYTES);
    bytes.extend_from_slice(&HELLO_MAGIC);
    bytes.extend_from_slice(&hello.versions.0.to_le_bytes());
    bytes.extend_from_slice(&hello.versions.1.to_le_bytes());
    bytes.extend_from_slice(&length("hello.name", hello.name.len())?.to_le_bytes());
    bytes.extend_from_slice(&length("hello.software", hello.software.len())?.to_le_bytes());
    bytes.extend_from_slice(&hello.frame_bytes_max.to_le_bytes());
    bytes.extend_from_slice(hello.name.as_bytes());
    bytes.extend_from_slice(hello.software.as_bytes());
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    Ok(bytes)
}

/// Bytes of a whole hello, by its first [`HELLO_FIXED_BYTES`]; at most [`HELLO_BYTES_MAX`].
///
/// # Errors
/// Where it is no hello, or a name is too long.
pub fn hello_bytes(fixed: &[u8; HELLO_FIXED_BYTES]) -> Result<usize, WireError> {
    let magic: [u8; 8] = std::array::from_fn(|i| fixed[i]);
    if magic != HELLO_MAGIC {
        return Err(WireError::HelloMagic { found: magic });
    }
    let name = length("hello.name", usize::from(u16_at(fixed, 12)))?;
    let software = length("hello.software", usize::from(u16_at(fixed, 14)))?;
    Ok(HELLO_FIXED_BYTES + usize::from(name) + usize::from(software) + CRC_BYTES)
}

/// Reads a whole hello.
///
/// # Errors
/// The first thing that is wrong with it. Versions are not compared here: see [`agree`].
pub fn decode_hello(bytes: &[u8]) -> Result<Hello, WireError> {
    let short = WireError::HelloLength { needed: HELLO_FIXED_BYTES, got: bytes.len() };
    let fixed = bytes.first_chunk::<HELLO_FIXED_BYTES>().ok_or(short)?;
    let needed = hello_bytes(fixed)?;
    if bytes.len() != needed {
        return Err(WireError::HelloLength { needed, got: bytes.len() });
    }
    let (rest, crc) = bytes.split_at(needed - CRC_BYTES);
    let found = crc.iter().rev().fold(0, |n, &b| (n << 8) | u32::from(b));
    let computed = crc32c::crc32c(rest);
    if found != computed {
        return Err(WireError::Checksum { part: "hello", found, computed });
    }
    let (name, software) = rest[HELLO_FIXED_BYTES..].split_at(usize::from(u16_at(fixed, 12)));
    let text = |field, bytes: &[u8]| {
        String::from_utf8(bytes.to_vec()).map_err(|_| WireError::Field { field, what: "not UTF-8" })
    };
    Ok(Hello {
        versions: (u16_at(fixed, 8), u16_at(fixed, 10)),
        name: text("hello.name", name)?,
        software: text("hello.software", software)?,
        frame_bytes_max: u64::from_le_bytes(std::array::from_fn(|i| fixed[16 + i])),
    })
}

/// The highest version both speak.
///
/// # Errors
/// Where there is none; it names both ranges, so that people know which host to update.
pub fn agree(ours: &Hello, theirs: &Hello) -> Result<u16, WireError> {
    let version = ours.versions.1.min(theirs.versions.1);
    if version >= ours.versions.0.max(theirs.versions.0) {
        return Ok(version);
    }
    Err(WireError::Versions {
        ours: ours.versions,
        theirs: theirs.versions,
        peer: theirs.name.clone(),
        software: theirs.software.clone(),
    })
}

fn length(field: &'static str, bytes: usize) -> Result<u16, WireError> {
    match u16::try_from(bytes) {
        Ok(length) if bytes <= NAME_BYTES_MAX => Ok(length),
        _ => Err(WireError::TooMany { field, value: bytes as u64, max: NAME_BYTES_MAX as u64 }),
    }
}

fn u16_at(bytes: &[u8; HELLO_FIXED_BYTES], offset: usize) -> u16 {
    u16::from_le_bytes([bytes[offset], bytes[offset + 1]])
}
