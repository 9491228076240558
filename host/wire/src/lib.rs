//! Bytes between hosts: frames, the handshake and the messages.
//!
//! Stands between `transport`, which moves frames over a carrier, and `node`, which acts on messages. A [`Message`] becomes
//! a frame with a pinned 64-byte header, a compact body and, where tensors travel, a payload that is neither copied nor
//! interpreted here.
//!
//! What hosts say of stages and of themselves is in `message.rs`, what they say of models that travel in `files.rs`.
//! On a connection both sides first say [`Hello`], whose layout every version keeps; then frames follow (layouts in
//! `hello.rs` and `header.rs`). [`encode`] makes a frame, [`FrameReader`] takes arriving bytes apart.
//!
//! **Invariants.** No socket, no clock. Whatever arrives is hostile: every length is checked against a bound before
//! anything is allocated for it, every checksum before anything is believed, and an error names the place.

#![forbid(unsafe_code)]

mod body;
mod bounds;
mod encode;
mod error;
mod files;
mod header;
mod hello;
mod message;
mod reader;

pub use bounds::{
    DENIED_BYTES_MAX, DEVICES_MAX, DIMENSIONS_MAX, FILE_NAME_BYTES_MAX, FILES_MAX, Limits, MANIFEST_BYTES_MAX,
    MODELS_MAX, NAME_BYTES_MAX, PEERS_MAX, REASON_BYTES_MAX, ROUTE_STAGES_MAX, ROWS_MAX, TENSORS_MAX,
};
pub use encode::{Encoded, encode, encode_probe};
pub use error::WireError;
pub use files::{ListWanted, ModelDenied, ModelFile, ModelList, ModelPart, ModelWanted};
pub use header::{HEADER_BYTES, Header, Kind, MAGIC, VERSION};
pub use hello::{
    HELLO_BYTES_MAX, HELLO_FIXED_BYTES, HELLO_MAGIC, VERSIONS, agree, decode_hello, encode_hello, hello_bytes,
};
pub use reader::{FrameReader, Step};

pub use bps_types::Trace;

pub use message::{
    Advert, AdvertCodec, AdvertDevice, AdvertModel, AdvertTable, Answer, Denied, DeniedKind, DeviceReport, Execute,
    Hello, HostKey, LinkReport, Message, OUTPUT_CUT, Progress, REPLACED, Route, StageReport, Standing,
};
