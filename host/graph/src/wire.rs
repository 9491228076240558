//! A look at the protobuf before it is decoded: how much memory the decoded messages will take.
//!
//! A two-byte empty node decodes to a structure of two hundred bytes, a one-byte integer of a packed list to eight. This walk
//! allocates nothing and stops at the limit. It follows only what [`proto`](crate::proto) declares; what is malformed is
//! left to the decoder, which reports it.

use crate::error::GraphError;
use crate::proto::{AttributeProto, NodeProto, TensorProto, ValueInfoProto};
use bytes::Buf;
use prost::encoding::decode_varint;

/// What a length-delimited field decodes to.
#[derive(Clone, Copy)]
enum Field {
    /// A message with fields of its own.
    Message(&'static [(u64, Field)], usize),
    /// A list of integers, at least one byte each.
    Integers,
    /// Text; anything else costs as little.
    Text,
}

const LEAF: &[(u64, Field)] = &[];
const TEXT_BYTES: usize = size_of::<String>();
const ENTRY: Field = Field::Message(LEAF, 2 * TEXT_BYTES);
const TENSOR: Field = Field::Message(
    &[(1, Field::Integers), (5, Field::Integers), (7, Field::Integers), (13, ENTRY)],
    size_of::<TensorProto>(),
);
const ATTRIBUTE: Field = Field::Message(&[(5, TENSOR), (8, Field::Integers)], size_of::<AttributeProto>());
const NODE: Field = Field::Message(&[(1, Field::Text), (2, Field::Text), (5, ATTRIBUTE)], size_of::<NodeProto>());
// a type's dimensions are nested messages; each costs its own entry
const DIMENSION: Field = Field::Message(LEAF, 64);
const SHAPE: Field = Field::Message(&[(1, DIMENSION)], 32);
const TENSOR_TYPE: Field = Field::Message(&[(2, SHAPE)], 0);
const TYPE: Field = Field::Message(&[(1, TENSOR_TYPE)], 0);
const VALUE: Field = Field::Message(&[(2, TYPE)], size_of::<ValueInfoProto>());
const GRAPH: Field = Field::Message(&[(1, NODE), (5, TENSOR), (11, VALUE), (12, VALUE), (13, VALUE)], 0);
const MODEL: &[(u64, Field)] = &[(7, GRAPH), (8, ENTRY), (14, ENTRY)];

/// Fails if the decoded messages would take more than `limit` bytes, tensor contents aside.
pub(crate) fn check(bytes: &[u8], limit: u64) -> Result<(), GraphError> {
    let mut taken = 0;
    walk(bytes, MODEL, limit, &mut taken);
    let what = "memory for the model's messages (bytes)".to_owned();
    if taken > limit { Err(GraphError::Limit { what, got: taken, limit }) } else { Ok(()) }
}

/// Adds up one message; ends at its first flaw or at the limit. The tables nest seven deep, so does this.
fn walk(mut bytes: &[u8], fields: &'static [(u64, Field)], limit: u64, taken: &mut u64) {
    while bytes.has_remaining() && *taken <= limit {
        let Ok(key) = decode_varint(&mut bytes) else { return };
        let field = fields.iter().find(|(tag, _)| *tag == key >> 3).map(|(_, f)| *f);
        let skipped = match key & 7 {
            0 => {
                // an unpacked integer of a list; any other integer has its place in the message
                *taken += if matches!(field, Some(Field::Integers)) { 8 } else { 0 };
                decode_varint(&mut bytes).map(|_| 0).ok()
            }
            1 => Some(8),
            5 => Some(4),
            2 => decode_varint(&mut bytes).ok().and_then(|n| usize::try_from(n).ok()),
            _ => None,
        };
        let Some((inner, rest)) = skipped.and_then(|n| bytes.split_at_checked(n)) else { return };
        bytes = rest;
        if key & 7 != 2 {
            continue;
        }
        match field {
            Some(Field::Message(inner_fields, size)) => {
                *taken += size as u64;
                walk(inner, inner_fields, limit, taken);
            }
            Some(Field::Integers) => *taken = taken.saturating_add(inner.len() as u64 * 8),
            Some(Field::Text) => *taken += (TEXT_BYTES + inner.len()) as u64,
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{GraphProto, ModelProto};
    use prost::Message;

    #[test]
    fn tiny_messages_are_counted() {
        let node = vec![NodeProto::default(); 10_000];
        let model = ModelProto { graph: Some(GraphProto { node, ..Default::default() }), ..Default::default() };
        let bytes = model.encode_to_vec();
        assert!(bytes.len() < 21_000);
        let err = check(&bytes, 1 << 20).unwrap_err();
        assert!(matches!(err, GraphError::Limit { got, .. } if got > 1 << 20), "{err}");
        assert!(check(&bytes, 4 << 20).is_ok());
    }

    #[test]
    fn packed_and_unpacked_integers_are_counted() {
        let tensor = TensorProto { dims: vec![1; 1000], int64_data: vec![1; 1000], ..Default::default() };
        let graph = GraphProto { initializer: vec![tensor], ..Default::default() };
        let bytes = ModelProto { graph: Some(graph), ..Default::default() }.encode_to_vec();
        assert!(check(&bytes, 15_999).is_err());
        assert!(check(&bytes, 17_000).is_ok());
    }
}
