//! What activations may take of a device's memory. An allocation that fails ends the process, and every request in it: so what
//! cannot fit is refused before it runs.

use bps_engine::DeviceDescription;
use bps_graph::{Graph, Shapes};
use bps_types::policy::DeviceKind;

/// Activations may take one of so many parts of the smallest device's memory: weights, the allocator's pages, other models and
/// requests want the rest.
const SHARE: u64 = 2;
/// A device that does not say how much it has: what a small graphics card has.
const UNKNOWN_BYTES: u64 = 4 << 30;

/// Bytes that one execution's activations may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ActivationMemory(u64);

impl ActivationMemory {
    pub(super) fn of(devices: &[&DeviceDescription]) -> Self {
        // Those that run on the processor share its memory.
        let is_shared = |device: &DeviceDescription| matches!(device.kind, DeviceKind::Cpu | DeviceKind::Software);
        let sharing = devices.iter().filter(|device| is_shared(device)).count() as u64;
        let has = |device: &&DeviceDescription| {
            let bytes = device.memory_bytes.unwrap_or(UNKNOWN_BYTES);
            if is_shared(device) { bytes / sharing } else { bytes }
        };
        Self(devices.iter().map(has).min().unwrap_or(UNKNOWN_BYTES) / SHARE)
    }

    /// The most rows, up to `wanted`, of which a batch fits. Errors where one row does not.
    pub(super) fn rows(self, graph: &Graph, row: &Shapes, wanted: u32) -> Result<u32, String> {
        let each = graph.peak_bytes(row).max(1);
        match u32::try_from(self.0 / each).unwrap_or(u32::MAX).min(wanted) {
            0 => Err(format!(
                "the activations of one row take {}, and half of the smallest device's memory is {}",
                gibibytes(each),
                gibibytes(self.0)
            )),
            rows => Ok(rows),
        }
    }

    /// Errors where a request with these shapes does not fit as often as rows may be joined: requests of one shape share
    /// executions.
    pub(crate) fn check(self, graph: &Graph, shapes: &Shapes, rows: u32, batch_max: u32) -> Result<(), String> {
        let peak = graph.peak_bytes(shapes).saturating_mul(u64::from(batch_max.div_ceil(rows.max(1))));
        if peak <= self.0 {
            return Ok(());
        }
        Err(format!(
            "would take {} for the activations of {batch_max} rows of these extents, which may share a batch; half of the smallest \
             device's memory is {}: a smaller batch_max in model.toml leaves room for larger inputs",
            gibibytes(peak),
            gibibytes(self.0)
        ))
    }
}

fn gibibytes(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bps_graph::Limits;
    use bps_graph::build::{Attribute, Fill, ModelBuilder};

    /// A convolution from one channel to 256, and the mean of its maps.
    fn wide(extents: &[usize]) -> Graph {
        let mut b = ModelBuilder::new("wide");
        let x = b.input("x", extents);
        let w = b.weight("w", &[256, 1, 1, 1], Fill::Constant(1.0));
        let x = b.node("Conv", "conv", &[&x, &w], &[]);
        let x = b.node("GlobalAveragePool", "pool", &[&x], &[]);
        let y = b.node("Flatten", "flat", &[&x], &[("axis", Attribute::Int(1))]);
        b.output(&y, "y", &[256]);
        Graph::parse(&b.write(0), &Limits::default()).unwrap()
    }

    #[test]
    fn what_cannot_fit_is_refused_and_batches_are_as_large_as_fits() {
        let graph = wide(&[1, 64, 64]);
        let row = graph.row_shapes().unwrap();
        let each = 4 * 64 * 64 * 257;
        assert_eq!(graph.peak_bytes(&row), each, "the input and what the convolution makes of it");
        assert_eq!(ActivationMemory(10 * each).rows(&graph, &row, 32), Ok(10));
        assert_eq!(ActivationMemory(100 * each).rows(&graph, &row, 32), Ok(32));
        let error = ActivationMemory(each - 1).rows(&graph, &row, 32).unwrap_err();
        assert!(error.starts_with("the activations of one row take 0.0 GiB"), "{error}");
    }

    #[test]
    fn the_smallest_device_counts_and_those_of_the_processor_share() {
        let device = |kind, memory_bytes| DeviceDescription {
            index: 0,
            name: "one".into(),
            kind,
            fingerprint: String::new(),
            memory_bytes,
            threads: 1,
            slowdown: 1.0,
        };
        let of = |devices: &[DeviceDescription]| ActivationMemory::of(&devices.iter().collect::<Vec<_>>()).0 >> 30;
        let cpu = || device(DeviceKind::Cpu, Some(64 << 30));
        assert_eq!(of(&[cpu()]), 32);
        assert_eq!(of(&[cpu(), cpu(), device(DeviceKind::Software, Some(64 << 30)), cpu()]), 8);
        assert_eq!(of(&[cpu(), device(DeviceKind::Gpu, None)]), 2, "a card that does not say");
        assert_eq!(of(&[cpu(), device(DeviceKind::Gpu, Some(8 << 30))]), 4);
    }

    #[test]
    fn a_request_must_fit_with_all_that_may_join_it() {
        let graph = wide(&[1, 64, 64]);
        let (row, each) = (graph.row_shapes().unwrap(), 4 * 64 * 64 * 257);
        assert_eq!(ActivationMemory(4 * each).check(&graph, &row, 1, 4), Ok(()));
        assert!(ActivationMemory(4 * each).check(&graph, &row, 1, 5).unwrap_err().contains("batch_max"));
    }
}
