//! The commands, one file each.

pub(crate) mod bench;
pub(crate) mod calibrate;
pub(crate) mod codec;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod devices;
pub(crate) mod infer;
pub(crate) mod model;
pub(crate) mod pair;
pub(crate) mod peers;
pub(crate) mod policy;
pub(crate) mod profile;
pub(crate) mod receipts;
pub(crate) mod serve;
pub(crate) mod testbed;
pub(crate) mod unpair;
