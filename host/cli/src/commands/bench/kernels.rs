//! What the kernels of codecs reach on a device, and whether they compute what their references do.

use crate::output::Output;
use crate::table::{self, Table};
use anyhow::{Context, Result, bail};
use bps_engine::{Engine, KernelCheck, KernelTiming};
use serde::Serialize;

#[derive(Debug, Serialize)]
struct Report {
    device: String,
    rounds: u32,
    /// Checks that passed.
    passed: usize,
    /// Those that did not.
    failed: Vec<KernelCheck>,
    /// The largest deviation of each kernel, over all data.
    kernels: Vec<Kernel>,
    timings: Vec<Timing>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Kernel {
    name: String,
    deviation: f64,
    tolerance: f64,
}

#[derive(Debug, Serialize)]
struct Timing {
    work: String,
    element_count: usize,
    packed_bytes: Option<usize>,
    /// FP32 bytes over the time of the middle round.
    gigabytes_per_second: f64,
    /// The same over that of the pass that reads and writes once.
    of_one_pass: f64,
}

/// Checks and times one device. Errors where a kernel deviates more than it may.
pub(super) fn run(device: &str, elements: usize, rounds: u32, out: Output) -> Result<()> {
    let engine = Engine::start(&[device.parse()?])?;
    let checks = engine.check_kernels(0).context("the kernels could not be checked")?;
    if checks.is_empty() {
        bail!("device `{device}` is a processor: kernels run on GPUs, and on `software`");
    }
    let timings = engine.time_kernels(0, elements, rounds as usize).context("the kernels could not be timed")?;
    let failed: Vec<_> = checks.iter().filter(|check| !check.passed()).cloned().collect();
    let report = Report {
        device: device.to_owned(),
        rounds,
        passed: checks.len() - failed.len(),
        failed,
        kernels: kernels(&checks),
        timings: figures(&timings),
    };
    out.emit(&report, text)?;
    match report.failed.len() {
        0 => Ok(()),
        count => bail!("{count} of {} checks failed on `{device}`", checks.len()),
    }
}

/// The largest deviation by kernel, in the order of the checks.
fn kernels(checks: &[KernelCheck]) -> Vec<Kernel> {
    let mut kernels: Vec<Kernel> = Vec::new();
    for KernelCheck { kernel, deviation, tolerance, .. } in checks {
        match kernels.iter_mut().find(|known| known.name == *kernel) {
            Some(known) => known.deviation = known.deviation.max(*deviation),
            None => kernels.push(Kernel { name: kernel.clone(), deviation: *deviation, tolerance: *tolerance }),
        }
    }
    kernels
}

fn figures(timings: &[KernelTiming]) -> Vec<Timing> {
    let pass = timings.first().map_or(1.0, KernelTiming::gigabytes_per_second);
    let figure = |timing: &KernelTiming| Timing {
        work: timing.work.clone(),
        element_count: timing.element_count,
        packed_bytes: timing.packed_bytes,
        gigabytes_per_second: timing.gigabytes_per_second(),
        of_one_pass: timing.gigabytes_per_second() / pass,
    };
    timings.iter().map(figure).collect()
}

fn text(report: &Report) -> String {
    let mut kernels = Table::new(&["kernel", ">largest deviation", ">may be"]);
    for kernel in &report.kernels {
        kernels.row([kernel.name.clone(), format!("{:.1}", kernel.deviation), format!("{:.0}", kernel.tolerance)]);
    }
    let mut timings = Table::new(&["work", ">GB/s of FP32", ">of one pass", ">packed"]);
    for timing in &report.timings {
        let packed = timing.packed_bytes.map_or_else(|| "-".to_owned(), |bytes| table::bytes(bytes as u64));
        let rate = format!("{:.2}", timing.gigabytes_per_second);
        timings.row([timing.work.clone(), rate, format!("{:.3}", timing.of_one_pass), packed]);
    }
    let elements = report.timings.first().map_or(0, |timing| timing.element_count);
    let failed =
        report.failed.iter().map(|check| format!("failed: {} on {}: {}\n", check.kernel, check.data, check.deviation));
    format!(
        "{kernels}\n{timings}\n{}: {} checks passed, {} failed; medians of {} rounds with {} elements. Encoding is from the \
         device to host memory,\ndecoding from there to the device\n{}",
        report.device,
        report.passed,
        report.failed.len(),
        report.rounds,
        table::count(elements as u64),
        failed.collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_show_their_largest_deviation() {
        let check = |kernel: &str, deviation| KernelCheck {
            kernel: kernel.into(),
            data: "9 values".into(),
            element_count: 9,
            deviation,
            tolerance: 2.0,
        };
        let checks = [check("a", 0.5), check("b", 0.0), check("a", 1.5)];
        let kernel = |name: &str, deviation| Kernel { name: name.into(), deviation, tolerance: 2.0 };
        assert_eq!(kernels(&checks), [kernel("a", 1.5), kernel("b", 0.0)]);
    }
}
