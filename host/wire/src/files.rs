//! The files of a model, on their way to a host that lacks it.
//!
//! ```text
//! who fetches                              who gives
//!   ListWanted   model                ->
//!                                     <-   ModelList    model, model.toml, and of each file name, bytes, SHA-256
//!   ModelWanted  model, file, offset  ->
//!                                     <-   ModelPart    model, file, offset, the bytes
//!   ...                                    ModelDenied  instead of either answer
//! ```
//!
//! **What which digest covers.** A model is named by the SHA-256 of its `.onnx` followed by the bytes of every tensor that
//! is kept in other files, in the order in which the `.onnx` names them; so weights beside the model are part of its
//! identity, and who has fetched it can tell. Not covered are bytes of those files that no tensor refers to, and
//! `model.toml` and `model.ff`, which are the giver's word. A file in a list is named by the SHA-256 of all of it: that
//! says whether what came is what was listed, no more.

use crate::bounds::{self, DENIED_BYTES_MAX, FILE_NAME_BYTES_MAX, FILES_MAX, MANIFEST_BYTES_MAX};
use crate::error::WireError;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Wants to know which files a model is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListWanted {
    /// Of the model.
    pub digest: [u8; 32],
}

/// The files that a model is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelList {
    /// Of the model.
    pub digest: [u8; 32],
    /// Its `model.toml`; empty where it has none.
    pub manifest: String,
    /// 1 to 1,024. Names are as they came: whoever makes files of them looks at them first.
    pub files: Vec<ModelFile>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFile {
    /// What it is called beside the others; at most 128 bytes.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of all of it.
    pub digest: [u8; 32],
}

/// Wants bytes of one of a model's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelWanted {
    /// Of the model.
    pub digest: [u8; 32],
    /// SHA-256 of the file, as it was listed.
    pub file: [u8; 32],
    /// First byte.
    pub offset: u64,
    /// How many; the answer may hold fewer.
    pub bytes: u32,
}

/// Bytes of one of a model's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelPart {
    /// Of the model.
    pub digest: [u8; 32],
    /// SHA-256 of the file.
    pub file: [u8; 32],
    /// First byte.
    pub offset: u64,
    /// The piece.
    pub data: Bytes,
}

/// A model is not given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelDenied {
    /// Of the model.
    pub digest: [u8; 32],
    /// For people; at most 1,000 bytes.
    pub message: String,
}

pub(crate) fn check_list(list: &ModelList) -> Result<(), WireError> {
    bounds::most("model-list.manifest", list.manifest.len(), MANIFEST_BYTES_MAX)?;
    bounds::field(!list.files.is_empty(), "model-list.files", "no file")?;
    bounds::most("model-list.files", list.files.len(), FILES_MAX)?;
    list.files.iter().try_for_each(|file| bounds::most("model-list.files.name", file.name.len(), FILE_NAME_BYTES_MAX))
}

pub(crate) fn check_wanted(wanted: &ModelWanted) -> Result<(), WireError> {
    bounds::field(wanted.bytes > 0, "model-wanted.bytes", "zero bytes are wanted")
}

pub(crate) fn check_part(part: &ModelPart) -> Result<(), WireError> {
    let end = part.offset.checked_add(part.data.len() as u64);
    bounds::field(end.is_some(), "model-part.offset", "no file is as long")
}

pub(crate) fn check_denied(denied: &ModelDenied) -> Result<(), WireError> {
    bounds::most("model-denied.message", denied.message.len(), DENIED_BYTES_MAX)
}
