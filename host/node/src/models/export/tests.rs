use super::*;
use bps_codec::ff::Package;
use bps_graph::build::with_external;
use bps_graph::topology::{Topology, make};

const NOW: Nanos = Nanos::from_secs(1);

fn wanted(file: [u8; 32], offset: u64, bytes: u32) -> ModelWanted {
    ModelWanted { digest: [0; 32], file, offset, bytes }
}

/// A model in a folder; its weights, all but the first, in turn in the files that are named.
fn model(folder: &Path, files: &[&str]) -> (Source, Graph) {
    let mut count = 0;
    let in_turn = |_: &str| {
        count += 1;
        (count > 1 && !files.is_empty()).then(|| files[count % files.len()].to_owned())
    };
    let (onnx, outside) = with_external(&make(Topology::DigitsNet, 7), in_turn).unwrap();
    for (name, content) in outside {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let path = folder.join("net.onnx");
    std::fs::write(&path, onnx).unwrap();
    std::fs::write(folder.join("net.toml"), "batch_max = 4\n").unwrap();
    let graph = Graph::load(&path, &Limits::default()).unwrap();
    let manifests = vec![folder.join("none.toml"), folder.join("net.toml")];
    (Source::File { onnx: path, manifests }, graph)
}

fn names(list: &ModelList) -> Vec<&str> {
    list.files.iter().map(|file| file.name.as_str()).collect()
}

#[test]
fn what_the_model_names_is_listed_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (source, graph) = model(folder.path(), &["b.bin", "a.bin"]);
    std::fs::write(folder.path().join("secret.txt"), "not for you").unwrap();
    std::fs::write(folder.path().join("net.ff"), Package::new(graph.digest, vec![]).unwrap().to_bytes().unwrap())
        .unwrap();
    let export = Export::of(&source, &graph, None).unwrap();
    let list = export.list_blocking(NOW).unwrap();
    assert_eq!((names(&list), list.manifest.as_str()), (vec![MODEL, "a.bin", "b.bin"], "batch_max = 4\n"));

    let calibration = Calibration::of(&source, "net", &graph.digest);
    let export = Export::of(&source, &graph, calibration.as_ref()).unwrap();
    let list = export.list_blocking(NOW).unwrap();
    assert_eq!(names(&list), [MODEL, "a.bin", "b.bin", CALIBRATION]);
    assert_eq!(check_list(&list), Ok(export.file_bytes));
    for file in &list.files {
        let name = file.name.replace("model.", "net.");
        let content = std::fs::read(folder.path().join(name)).unwrap();
        let piece = export.read_blocking(&wanted(file.digest, 0, u32::MAX), NOW).unwrap();
        assert_eq!((&piece[..], file.digest), (&content[..], Sha256::digest(&content).into()), "{}", file.name);
    }
    assert!(export.read_blocking(&wanted([9; 32], 0, 1), NOW).unwrap_err().contains("no such file"));
}

#[test]
fn pieces_are_inside_the_file_and_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let (source, graph) = model(folder.path(), &[]);
    let onnx = Bytes::from(std::fs::read(folder.path().join("net.onnx")).unwrap());
    let builtin = Source::Builtin { onnx: onnx.clone(), manifest: "batch_max = 4\n".into(), calibration: Bytes::new() };
    for source in [source, builtin] {
        let export = Export::of(&source, &graph, None).unwrap();
        let list = export.list_blocking(NOW).unwrap();
        let (file, bytes) = (list.files[0].digest, list.files[0].bytes);
        assert_eq!((names(&list), bytes, file), (vec![MODEL], onnx.len() as u64, graph.digest));
        assert_eq!(list.manifest, "batch_max = 4\n");
        assert_eq!(export.read_blocking(&wanted(file, bytes - 1, 10), NOW).unwrap(), &onnx[onnx.len() - 1..]);
        assert_eq!(export.read_blocking(&wanted(file, 1_000, 3), NOW).unwrap(), &onnx[1_000..1_003]);
        for outside in [bytes, u64::MAX] {
            assert!(export.read_blocking(&wanted(file, outside, 1), NOW).is_err(), "{outside}");
        }
    }
    let large = Part::builtin(MODEL, &vec![0; 300_000].into());
    let parts = vec![large];
    let export = Export {
        model: [7; 32],
        calibration: None,
        manifest: String::new(),
        parts,
        file_bytes: 300_000,
        list: Mutex::default(),
    };
    let file = export.list_blocking(NOW).unwrap().files[0].digest;
    assert_eq!(export.read_blocking(&wanted(file, 0, u32::MAX), NOW).unwrap().len(), PIECE_BYTES_MAX as usize);
}

#[test]
fn a_model_whose_files_could_not_lie_together_elsewhere_does_not_leave() {
    for name in ["sub/w.bin", "model.toml", "model.ff", "Model.onnx", "w\u{e9}.bin", ".w"] {
        let folder = tempfile::tempdir().unwrap();
        let (source, graph) = model(folder.path(), &[name]);
        let error = Export::of(&source, &graph, None).err().expect(name);
        assert!(error.contains(&format!("{name:?}")), "{name}: {error}");
    }
}

#[test]
fn a_file_that_has_grown_is_not_read_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    std::fs::write(&path, vec![0; 1_000]).unwrap();
    assert_eq!(digest_of(&path, 1_000).unwrap().1, 1_000);
    assert_eq!(digest_of(&path, 10).unwrap().1, 11);
}

#[test]
fn files_that_have_changed_since_are_not_given() {
    for name in ["net.onnx", "w.bin", "net.ff"] {
        let folder = tempfile::tempdir().unwrap();
        let (source, graph) = model(folder.path(), &["w.bin"]);
        let package = Package::new(graph.digest, vec![]).unwrap().to_bytes().unwrap();
        std::fs::write(folder.path().join("net.ff"), &package).unwrap();
        let calibration = Calibration::of(&source, "net", &graph.digest);
        let export = Export::of(&source, &graph, calibration.as_ref()).unwrap();
        let path = folder.path().join(name);
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(export.list_blocking(NOW).is_err(), "{name}");
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(export.list_blocking(NOW).is_err(), "{name}: it is not read again at every question");
        assert!(export.list_blocking(NOW + FAILURE_KEPT).is_ok(), "{name}: as it was");
    }
}
