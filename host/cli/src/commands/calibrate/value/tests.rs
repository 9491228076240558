use super::*;

fn effect(output_nmse: f32, loss: f32) -> Effect {
    let loss = Some(Loss::around(loss, 0.01));
    Effect { bits: 1.0, bits_p95: 1.0, output_nmse, loss, changed: usize::from(loss.is_some_and(|l| l.mean > 0.0)) }
}

#[test]
fn rates_are_walked_from_the_middle_as_far_as_they_matter() {
    let rates = [0, 2, 4, 6, 8, 10, 12, 14];
    let measured = |hopeless_from: u8, clear_until: u8| {
        let found = walk(&rates, Ok, |q| *q >= hopeless_from, |q| *q <= clear_until).unwrap();
        found.into_iter().map(|(q, _)| q).collect::<Vec<_>>()
    };
    assert_eq!(measured(12, 4), [8, 10, 12, 6, 4]);
    assert_eq!(measured(99, 0), [8, 10, 12, 14, 6, 4, 2, 0]);
    assert_eq!(measured(8, 8), [8]);
    assert!(walk(&[], Ok, |_| false, |_| false).unwrap().is_empty());
}

#[test]
fn no_rate_claims_to_lose_less_than_was_seen() {
    let effects = Effects::from([
        ((Mode::Scalar, 8), effect(1e-3, 0.0)),
        ((Mode::Scalar, 16), effect(1e-2, 0.02)),
        ((Mode::Haar1, 12), effect(1e-2, 0.3)),
    ]);
    let of = |mode, q| loss_of(&effects, None, mode, q).map(|loss| loss.mean);
    let table = [(0, 0.0), (8, 0.0), (10, 0.02), (16, 0.02), (30, 0.02)];
    assert!(table.iter().all(|(q, loss)| of(Mode::Scalar, *q) == Some(*loss)));
    assert_eq!((of(Mode::Haar1, 30), of(Mode::Haar2, 8)), (Some(0.3), None));
    assert!(hopeless(&effects[&(Mode::Haar1, 12)]) && !hopeless(&effects[&(Mode::Scalar, 16)]));
    assert!(hopeless(&Effect { loss: None, ..effect(0.6, 0.0) }) && clear(&effect(1e-6, 0.0), &effect(1e-5, 0.0)));
    assert!(!clear(&effect(1e-6, 0.01), &effect(1e-5, 0.0)), "a row has changed");
}

#[test]
fn modes_that_are_the_same_are_measured_once() {
    let of = |shape: &[usize]| {
        modes(&Place { name: String::new(), cut: 1, at: 0, shape: shape.to_vec(), flops: (0, 0) }).unwrap()
    };
    assert_eq!(of(&[1, 8, 8, 8]), Mode::ALL);
    assert_eq!(of(&[1, 8, 2, 2]), [Mode::Scalar, Mode::Haar1]);
    assert_eq!(of(&[1, 8]), [Mode::Scalar]);
}
