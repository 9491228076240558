//! An answer as people read it: top classes where an output is a row of classes, shapes and first values elsewhere.

use crate::infer_wire::{Named, Reply, Timing, to_json};
use crate::table::{self, Table, clean};
use bps_types::DataType;

/// A row longer than this is no list of classes.
const CLASSES_MAX: usize = 100_000;
/// Rows that are listed one by one.
const ROWS_SHOWN: usize = 8;
const VALUES_SHOWN: usize = 6;

/// The whole answer.
pub(crate) fn text(reply: &Reply, labels: Option<&[String]>, top: usize) -> String {
    let mut text = format!("{} version {}", clean(&reply.model), clean(&reply.version));
    if let Some(timing) = &reply.timing {
        let Timing { queue_ms, compute_ms, total_ms } = timing;
        text.push_str(&format!(", {total_ms:.2} ms in the host (queue {queue_ms:.2}, device {compute_ms:.2})"));
    }
    text.push('\n');
    for output in &reply.outputs {
        let shape = output.tensor.shape();
        text.push_str(&format!("\n{} {} {shape:?}\n", clean(&output.name), output.tensor.data_type()));
        match class_rows(output) {
            Some(rows) => text.push_str(&classes(&rows, labels, top)),
            None => text.push_str(&first_values(output)),
        }
    }
    text
}

/// The rows of an output that looks like scores of classes: FP32, two-dimensional, 2 classes or more.
fn class_rows(output: &Named) -> Option<Vec<Vec<f32>>> {
    let &[rows, classes] = output.tensor.shape() else { return None };
    if output.tensor.data_type() != DataType::Fp32 || rows == 0 || !(2..=CLASSES_MAX).contains(&classes) {
        return None;
    }
    let values = output.tensor.to_f32().ok()?;
    Some(values.chunks(classes).map(<[f32]>::to_vec).collect())
}

fn classes(rows: &[Vec<f32>], labels: Option<&[String]>, top: usize) -> String {
    let mut table = Table::new(&[">row", ">class", "name", ">score", ">softmax"]);
    for (number, row) in rows.iter().take(ROWS_SHOWN).enumerate() {
        let shares = softmax(row);
        for class in ranked(row).into_iter().take(top.max(1)) {
            let name = labels.and_then(|l| l.get(class)).cloned().unwrap_or_default();
            let (score, share) = (row[class], shares[class]);
            table.row([number.to_string(), class.to_string(), name, format!("{score:.4}"), table::percent(share)]);
        }
    }
    let mut text = table.to_string();
    if rows.len() > ROWS_SHOWN {
        text.push_str(&format!("... and {} more rows (--format json shows all)\n", rows.len() - ROWS_SHOWN));
    }
    text
}

/// Classes from the highest score to the lowest; the lower index first where they are equal.
fn ranked(row: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
    order
}

/// What the scores mean if they are logits.
fn softmax(row: &[f32]) -> Vec<f64> {
    let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = row.iter().map(|&v| f64::from(v - highest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|p| p / sum).collect()
}

fn first_values(output: &Named) -> String {
    let Some(values) = to_json(&output.tensor) else { return format!("{} bytes\n", output.tensor.data().len()) };
    let list = values.as_array().map(Vec::as_slice).unwrap_or_default();
    let shown: Vec<String> = list.iter().take(VALUES_SHOWN).map(ToString::to_string).collect();
    let more = if list.len() > VALUES_SHOWN { ", ..." } else { "" };
    format!("[{}{more}]\n", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bps_types::HostTensor;

    fn reply(shape: Vec<usize>, values: &[f32]) -> Reply {
        let tensor = HostTensor::from_f32(shape, values).unwrap();
        let outputs = vec![Named { name: "y".into(), tensor }];
        Reply { model: "m".into(), version: "1".into(), outputs, timing: None }
    }

    #[test]
    fn the_top_classes_come_first() {
        let labels = ["cat", "dog", "owl"].map(str::to_owned);
        let text = text(&reply(vec![1, 3], &[0.0, 2.0, 1.0]), Some(&labels), 2);
        let words: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(words[4], ["0", "1", "dog", "2.0000", "66.5", "%"]);
        assert_eq!(words[5], ["0", "2", "owl", "1.0000", "24.5", "%"]);
        assert_eq!(words.len(), 6);
    }

    #[test]
    fn not_a_number_does_not_panic() {
        let text = text(&reply(vec![1, 3], &[f32::NAN, f32::INFINITY, 1.0]), None, 5);
        assert!(text.contains("NaN") && text.contains("inf"), "{text}");
    }

    #[test]
    fn other_outputs_show_their_first_values() {
        let text = text(&reply(vec![8], &[1.0; 8]), None, 5);
        assert!(text.contains("[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, ...]"), "{text}");
    }
}
