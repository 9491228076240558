use super::*;
use bps_data::Split;
use bps_graph::topology::small::{Pictures, Small};
use bps_graph::topology::{self, Topology};

fn graph() -> Graph {
    Graph::parse(&topology::make(Topology::DigitsNet, 0), &bps_graph::Limits::default()).unwrap()
}

fn pixels() -> PixelInput {
    PixelInput { input: 0, height: 8, width: 8, channels: 1, mean: vec![0.0], scale: vec![1.0 / 255.0] }
}

fn save(folder: &Path, name: &str, tensor: &HostTensor) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, npy::encode(tensor).unwrap()).unwrap();
    path
}

fn floats(rows: usize) -> HostTensor {
    let values: Vec<f32> = (0..rows * 64).map(|i| (i / 64) as f32).collect();
    HostTensor::from_f32(vec![rows, 1, 8, 8], &values).unwrap()
}

#[test]
fn rows_are_chosen_evenly_and_halved_without_overlap() {
    assert_eq!(even(10, 4).collect::<Vec<_>>(), [0, 2, 5, 7]);
    assert_eq!(even(3, 9).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(even(0, 9).count(), 0);
    let (tables, accuracy) = halves(9);
    assert_eq!((tables, accuracy), (vec![0, 2, 4, 6, 8], vec![1, 3, 5, 7]));
}

#[test]
fn an_array_with_labels_is_read_in_step() {
    let (dir, graph) = (tempfile::tempdir().unwrap(), graph());
    let target = Target { graph: &graph, pixels: None, classes: Some(10) };
    let data = save(dir.path(), "x.npy", &floats(30));
    let values: Vec<u8> = (0..30i64).flat_map(|i| (i % 10).to_le_bytes()).collect();
    let labels = save(dir.path(), "y.npy", &HostTensor::new(DataType::Int64, vec![30], values.into()).unwrap());
    let found = load(Some(&data), Some(&labels), 10, target).unwrap();
    assert_eq!((found.inputs.len(), found.made_up), (10, false));
    let first = found.inputs.iter().map(|row| row[0].to_f32().unwrap()[0]).collect::<Vec<_>>();
    assert_eq!(first, [0.0, 3.0, 6.0, 9.0, 12.0, 15.0, 18.0, 21.0, 24.0, 27.0]);
    assert_eq!(found.labels.unwrap(), [0, 3, 6, 9, 2, 5, 8, 1, 4, 7]);
}

#[test]
fn digits_fit_as_pixels_and_as_numbers() {
    let graph = graph();
    let pixels = pixels();
    for pixels in [None, Some(&pixels)] {
        let target = Target { graph: &graph, pixels, classes: Some(10) };
        let found = load(Some(Path::new("digits")), None, 40, target).unwrap();
        let wanted = if pixels.is_some() { DataType::Uint8 } else { DataType::Fp32 };
        assert_eq!((found.inputs.len(), found.inputs[0][0].data_type()), (40, wanted));
        assert_eq!(found.labels.unwrap().len(), 40);
    }
}

#[test]
fn sets_come_at_the_models_size_in_two_parts() {
    let pictures = Pictures { channels: 3, side: 32, classes: 10 };
    let graph = Graph::parse(&Small::Vgg.describe(pictures).write(0), &bps_graph::Limits::default()).unwrap();
    let pixels =
        PixelInput { input: 0, height: 32, width: 32, channels: 3, mean: vec![127.5; 3], scale: vec![1.0 / 127.5; 3] };
    let load = |name: &str, pixels| {
        super::load(Some(Path::new(name)), None, 41, Target { graph: &graph, pixels, classes: Some(10) })
    };
    let found = load("shapes", Some(&pixels)).unwrap();
    assert_eq!((found.inputs.len(), found.labels.as_ref().map(Vec::len)), (40, Some(40)));
    let (tables, losses) = halves(found.inputs.len());
    for (rows, split) in [(tables, Split::Calibration), (losses, Split::Validation)] {
        for (row, picture) in rows.into_iter().zip(bps_data::rows(Set::Shapes, split, 32, 20)) {
            assert_eq!(found.inputs[row][0].data()[..], picture.pixels[..], "row {row} is of {split}");
            assert_eq!(found.labels.as_ref().unwrap()[row], usize::from(picture.label));
        }
    }
    for (name, pixels, part) in [
        (
            "digits",
            Some(&pixels),
            "digits has pictures of 32 x 32 and 64 x 64 in 1 channels, the model takes 32 x 32 in 3",
        ),
        ("shapes", None, "no [preprocess]"),
    ] {
        let error = format!("{:#}", load(name, pixels).unwrap_err());
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn images_have_the_names_of_their_folders() {
    let (dir, graph, pixels) = (tempfile::tempdir().unwrap(), graph(), pixels());
    for (name, shade) in [("ape", 10u8), ("bee", 200)] {
        fs::create_dir(dir.path().join(name)).unwrap();
        for i in 0..5 {
            let image = image::GrayImage::from_pixel(16, 12, image::Luma([shade]));
            image.save(dir.path().join(name).join(format!("{i}.png"))).unwrap();
        }
    }
    fs::write(dir.path().join("notes.txt"), "x").unwrap();
    let load = |classes| {
        load(Some(dir.path()), None, 100, Target { graph: &graph, pixels: Some(&pixels), classes: Some(classes) })
    };
    let found = load(2).unwrap();
    assert_eq!(found.labels.unwrap(), [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]);
    assert_eq!((found.inputs[0][0].shape(), found.inputs[9][0].data()[63]), (&[1, 8, 8, 1][..], 200));
    assert_eq!(load(10).unwrap().labels, None, "two names for ten classes say nothing");
    let names = BTreeSet::from(["7", "12"]);
    assert_eq!(classes_of(&names, Some(1_000)).unwrap()("12"), Some(12));
}

#[test]
fn what_does_not_fit_is_named() {
    let (dir, graph) = (tempfile::tempdir().unwrap(), graph());
    let target = Target { graph: &graph, pixels: None, classes: Some(10) };
    let small = save(dir.path(), "small.npy", &floats(3));
    let good = save(dir.path(), "good.npy", &floats(12));
    let wide = save(dir.path(), "wide.npy", &HostTensor::from_f32(vec![9, 1, 8, 9], &[0.0; 648]).unwrap());
    let mut holed = floats(12).to_f32().unwrap();
    (holed[3 * 64 + 5], holed[7 * 64]) = (f32::NAN, f32::INFINITY);
    let holed = save(dir.path(), "holed.npy", &HostTensor::from_f32(vec![12, 1, 8, 8], &holed).unwrap());
    let bytes = HostTensor::new(DataType::Uint8, vec![12, 8, 8, 1], vec![0; 768].into()).unwrap();
    let bytes = save(dir.path(), "bytes.npy", &bytes);
    let label = |name: &str, values: Vec<u8>| {
        save(dir.path(), name, &HostTensor::new(DataType::Uint8, vec![values.len()], values.into()).unwrap())
    };
    let (far, few) = (label("far.npy", vec![10; 12]), label("few.npy", vec![1; 11]));
    let none = dir.path().join("none.npy");
    let text = dir.path().join("data.csv");
    fs::write(&text, "1,2").unwrap();
    let cases: [(Option<&Path>, Option<&Path>, &str); 10] = [
        (Some(&small), None, "8 or more"),
        (Some(&wide), None, "does not fit input"),
        (Some(&bytes), None, "[preprocess]"),
        (Some(&holed), None, "holed.npy: row 3 holds NaN or infinity"),
        (Some(&none), None, "none.npy does not exist"),
        (Some(&text), None, "neither"),
        (Some(dir.path()), None, "takes no images"),
        (Some(&good), Some(&far), "label 10 is none"),
        (Some(&good), Some(&few), "11 labels for 12 rows"),
        (None, Some(&few), "without --data"),
    ];
    for (data, labels, expected) in cases {
        let error = format!("{:#}", load(data, labels, 100, target).unwrap_err());
        assert!(error.contains(expected), "{error:?} lacks {expected:?}");
    }
}
