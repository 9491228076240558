//! Writing a model whose weights are in files beside it.

use crate::error::GraphError;
use crate::limits::Limits;
use crate::load::decode;
use crate::proto::{DATA_LOCATION_EXTERNAL, StringStringEntryProto, TensorProto};
use bytes::Bytes;
use prost::Message;
use std::collections::BTreeMap;

/// What lies beside a model, by the name of the file.
pub type OutsideFiles = BTreeMap<String, Vec<u8>>;

/// The model with some of its weights in other files, and what those hold. `place` says for a tensor's name in which
/// file, relative to the model's folder, it goes; those it has no place for stay, and so do tensors whose elements are not
/// stored as raw bytes. Offsets are multiples of 64, as readers that map files into memory like them.
///
/// # Errors
/// Where `bytes` are no model.
pub fn with_external(
    bytes: &[u8],
    mut place: impl FnMut(&str) -> Option<String>,
) -> Result<(Vec<u8>, OutsideFiles), GraphError> {
    let mut model = decode(Bytes::copy_from_slice(bytes), &Limits::default())?;
    let graph = model.graph.as_mut().ok_or_else(|| GraphError::Model("the model has no graph".to_owned()))?;
    let mut files = OutsideFiles::new();
    for tensor in &mut graph.initializer {
        let Some(location) = place(&tensor.name) else { continue };
        let Some(raw) = tensor.raw_data.take() else { continue };
        let file = files.entry(location.clone()).or_default();
        file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
        refer(tensor, location, file.len(), raw.len());
        file.extend_from_slice(&raw);
    }
    Ok((model.encode_to_vec(), files))
}

const ALIGNMENT: usize = 64;

fn refer(tensor: &mut TensorProto, location: String, offset: usize, length: usize) {
    let entry = |key: &str, value: String| StringStringEntryProto { key: key.to_owned(), value };
    tensor.data_location = DATA_LOCATION_EXTERNAL;
    tensor.external_data =
        vec![entry("location", location), entry("offset", offset.to_string()), entry("length", length.to_string())];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Topology, make};
    use crate::{Graph, Identity, Source};

    fn weights(graph: &Graph) -> Vec<(String, Vec<f32>)> {
        let stored = graph.values.iter().filter_map(|value| match &value.source {
            Source::Constant(tensor) => Some((value.name.clone(), tensor.to_f32().unwrap())),
            _ => None,
        });
        stored.collect()
    }

    #[test]
    fn a_model_with_weights_beside_it_is_the_same_net_under_another_digest() {
        let whole = make(Topology::DigitsNet, 7);
        let mut count = 0;
        let in_turn = |_: &str| {
            count += 1;
            (count > 1).then(|| if count % 2 == 0 { "./b.bin" } else { "sub/a.bin" }.to_owned())
        };
        let (onnx, files) = with_external(&whole, in_turn).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        let path = folder.path().join("model.onnx");
        std::fs::write(&path, &onnx).unwrap();
        for (name, content) in &files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let limits = Limits::default();
        let (before, graph) = (Graph::parse(&whole, &limits).unwrap(), Graph::load(&path, &limits).unwrap());
        assert_eq!(weights(&before), weights(&graph));
        assert!(before.external.is_empty() && before.digest != graph.digest);
        assert_eq!(graph.external, ["b.bin", "sub/a.bin"], "by name, and named plainly");
        let identity = Identity::of(&path, &limits).unwrap();
        assert_eq!((identity.digest, &identity.external), (graph.digest, &graph.external));

        let file = folder.path().join("b.bin");
        let mut bytes = std::fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&file, &bytes).unwrap();
        assert_ne!(Identity::of(&path, &limits).unwrap().digest, graph.digest, "weights are part of who it is");
        std::fs::remove_file(&file).unwrap();
        assert!(Identity::of(&path, &limits).unwrap_err().to_string().contains("b.bin"));
    }
}
