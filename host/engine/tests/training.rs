//! Training end to end, short.

use bps_data::{CLASSES, Lessons, Set, Split};
use bps_engine::train::{Course, Pixels, accuracy, train, train_digits};
use bps_graph::topology::small::{Pictures, Small};
use bps_graph::{Graph, Limits};

#[test]
fn three_epochs_teach_most_digits_and_repeat_exactly() {
    let mut losses = vec![];
    let trained = train_digits(5, 3, &mut |p| losses.push(p.loss)).unwrap();
    assert_eq!((losses.len(), trained.held_out_count), (3, 500));
    assert!(losses[2] < losses[0] * 0.7, "{losses:?}");
    assert!(trained.accuracy > 0.8, "{}", trained.accuracy);
    Graph::parse(&trained.onnx, &Limits::default()).unwrap();
    assert_eq!(train_digits(5, 3, &mut |_| ()).unwrap().onnx, trained.onnx);
}

const PIXELS: Pixels = Pixels { channels: 1, mean: 127.5, divisor: 127.5 };

fn course(start: &[u8], epochs: u32) -> Course<'_> {
    let lessons = Lessons::fresh(Set::Digits, 32, 1, 320);
    Course { start, lessons, pixels: PIXELS, epochs, batch_rows: 32, rate: 2e-3, warm_up: 0.05, normalised: true }
}

#[test]
fn every_family_learns_and_what_normalised_it_is_in_its_weights() {
    for net in Small::ALL {
        let start = net.describe(Pictures { channels: 1, side: 32, classes: CLASSES }).write(1);
        // Each takes the longer the fewer weights it has.
        let epochs = match net {
            Small::Vgg => 10,
            Small::Resnet => 20,
            Small::Mobilenet => 30,
        };
        let mut losses = vec![];
        let onnx = train(Course { rate: 4e-3, ..course(&start, epochs) }, &mut |p| losses.push(p.loss)).unwrap();
        assert!(losses[losses.len() - 1] < losses[0] * 0.7, "{net}: {losses:?}");
        let judge = |onnx: &[u8]| accuracy(onnx, PIXELS, bps_data::rows(Set::Digits, Split::Test, 32, 300)).unwrap();
        let (before, after) = (judge(&start), judge(&onnx));
        assert!(before.share() < 0.3 && after.share() > 0.5, "{net}: {} then {}", before.share(), after.share());
        assert_eq!((after.count, after.origin_count()), (300, 300));
    }
}

#[test]
#[ignore = "minutes on each core: what the small networks reach on shapes"]
fn shapes_are_learned() {
    let pixels = Pixels { channels: 3, ..PIXELS };
    std::thread::scope(|scope| {
        for net in Small::ALL {
            scope.spawn(move || {
                let start = net.describe(Pictures { channels: 3, side: 32, classes: CLASSES }).write(1);
                let lessons = Lessons::fresh(Set::Shapes, 32, 1, 4_096);
                let course = Course { lessons, pixels, ..course(&start, 8) };
                let onnx = train(course, &mut |p| eprintln!("{net} epoch {}: {}", p.epoch, p.loss)).unwrap();
                let pictures = bps_data::rows(Set::Shapes, Split::Test, 32, 2_000);
                let found = accuracy(&onnx, pixels, pictures).unwrap();
                eprintln!("{net}: {}", found.share());
                assert!(found.share() > 0.7, "{net}: {}", found.share());
            });
        }
    });
}

#[test]
fn the_same_course_gives_the_same_bytes() {
    let start = Small::Mobilenet.describe(Pictures { channels: 1, side: 32, classes: CLASSES }).write(1);
    let once = train(course(&start, 1), &mut |_| ()).unwrap();
    assert_eq!(train(course(&start, 1), &mut |_| ()).unwrap(), once);
    assert_ne!(once, start);
}

#[test]
fn what_does_not_fit_is_said() {
    let colour = Small::Vgg.describe(Pictures { channels: 3, side: 32, classes: CLASSES }).write(1);
    let hundred = Small::Vgg.describe(Pictures { channels: 1, side: 32, classes: 100 }).write(1);
    for (start, part) in [(colour, "pictures do not fit an input of 3 x 32 x 32"), (hundred, "no scores of 10 classes")]
    {
        let error = train(course(&start, 1), &mut |_| ()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}
