//! Where a codec runs: on the processor, in this process, or on a device, through the engine.

use crate::exit::usage;
use crate::latency::median;
use anyhow::{Context, Result};
use bps_codec::ff::{self, CutPackage, Order, Package, Settings};
use bps_codec::{CodecSpec, Layout};
use bps_engine::{DeviceRequest, Engine, RequestedKind};
use bps_types::{DataType, HostTensor, Packed, element_count};
use std::time::{Duration, Instant};

/// Where it runs.
pub(super) enum Place {
    /// On the processor.
    Processor,
    /// On the only device of an engine.
    Device { name: String, engine: Engine },
}

impl Place {
    /// Brings a device up.
    pub(super) fn open(device: &str) -> Result<Self> {
        let request: DeviceRequest = device.parse().map_err(|e| usage(format!("--device {e}")))?;
        match request.kind {
            _ if request.slowdown > 1.0 => Err(usage(format!("--device {device}: no slowdown here"))),
            RequestedKind::Cpu { shares: 1 } => Ok(Self::Processor),
            RequestedKind::Gpu(_) | RequestedKind::Software => {
                let engine = Engine::start(&[request]).context("the device did not start")?;
                Ok(Self::Device { name: device.to_owned(), engine })
            }
            _ => Err(usage(format!("--device {device}: a codec is tried on one device: cpu, software or gpu:N"))),
        }
    }

    /// The word that `--device` takes for it.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Processor => "cpu",
            Self::Device { name, .. } => name,
        }
    }

    /// The word for where a codec really runs, and what times mean there, where that is not obvious. `usual` says that FF is
    /// used as hosts use it.
    pub(super) fn ran(&self, spec: &CodecSpec, data_type: DataType, usual: bool) -> (String, Option<String>) {
        let Self::Device { name, .. } = self else { return (self.name().to_owned(), None) };
        let (on, note) = match spec.layout {
            Layout::Ff if !usual => (
                Self::Processor.name(),
                format!(
                    "with these options FF runs on the processor, for {name} too; times leave out the way between both"
                ),
            ),
            Layout::Ff if spec.id == ff::ID_CANCELLING => (
                self.name(),
                format!("symbols are chosen by the processor; times hold the way of tensors between {name} and it"),
            ),
            Layout::F16 | Layout::Int8 | Layout::Ff => (
                self.name(),
                format!("kernels on {name}; times hold the way of packed bytes between {name} and the processor"),
            ),
            Layout::Plain if data_type == DataType::Fp32 => (
                self.name(),
                format!("no kernel: times hold the way of the whole tensor between {name} and the processor"),
            ),
            Layout::Plain | Layout::Jpeg => {
                (Self::Processor.name(), format!("this runs on the processor, for {name} too"))
            }
        };
        (on.to_owned(), Some(note))
    }

    /// Encodes; FF with these settings, on a device where they are the `usual` ones, since it has kernels for no others.
    pub(super) fn encode(
        &self,
        spec: &CodecSpec,
        rate: u8,
        settings: Option<(&Settings<'_>, bool)>,
        tensor: &HostTensor,
    ) -> Result<(Packed, Duration)> {
        match (settings, self) {
            (Some((settings, true)), Self::Device { engine, .. }) => {
                Ok(engine.encode_on(0, spec.id, rate, tensor, settings.package)?)
            }
            (Some((settings, _)), _) => {
                let shape = ff_shape(tensor.shape())?;
                let shaped = HostTensor::new(tensor.data_type(), shape, tensor.data().clone())?;
                let (frame, time) = timed(|| ff::encode(settings, &shaped))?;
                let (data_type, shape) = (tensor.data_type(), tensor.shape().to_vec());
                Ok((Packed { codec: spec.id, rate, data_type, shape, data: frame.into() }, time))
            }
            (None, Self::Processor) => Ok(timed(|| bps_codec::encode(spec.id, rate, tensor))?),
            (None, Self::Device { engine, .. }) => Ok(engine.encode_on(0, spec.id, rate, tensor, None)?),
        }
    }

    /// Decodes; FF with this order of memory and this package, on a device where that is how it lies there.
    pub(super) fn decode(
        &self,
        packed: &Packed,
        ff: Option<(Order, Option<&CutPackage>)>,
    ) -> Result<(HostTensor, Duration)> {
        match (ff, self) {
            (Some((Order::Nchw, package)), Self::Device { engine, .. })
                if bps_codec::spec(packed.codec).is_some_and(|spec| spec.offers(packed.rate)) =>
            {
                let of = |cut: &CutPackage| Package::new(*cut.model(), vec![cut.clone()]);
                let package = package.map(of).transpose()?;
                Ok(engine.decode_on(0, packed, package.as_ref())?)
            }
            (Some((order, package)), _) => {
                let shape = ff_shape(&packed.shape)?;
                let (tensor, time) = timed(|| ff::decode(&packed.data, &shape, order, package))?;
                Ok((HostTensor::new(packed.data_type, packed.shape.clone(), tensor.data().clone())?, time))
            }
            (None, Self::Processor) => Ok(timed(|| bps_codec::decode(packed, &packed.shape))?),
            (None, Self::Device { engine, .. }) => Ok(engine.decode_on(0, packed, None)?),
        }
    }
}

fn timed<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<(T, Duration), E> {
    let started = Instant::now();
    work().map(|result| (result, started.elapsed()))
}

/// As hosts hand tensors to FF: maps of at most four extents as they are; of anything else a row is a line of features.
fn ff_shape(shape: &[usize]) -> Result<Vec<usize>> {
    match shape {
        [] => Ok(vec![1, 1]),
        [_, _, _, _, _, ..] => Ok(vec![shape[0], element_count(&shape[1..]).context("a row is too large")?]),
        _ => Ok(shape.to_vec()),
    }
}

/// Does it once without counting, since the first time compiles kernels and fills caches, and then so many times: the last
/// result, and the median in microseconds.
pub(super) fn repeated<T>(times: u32, mut work: impl FnMut() -> Result<(T, Duration)>) -> Result<(T, f64)> {
    let (mut last, first) = work()?;
    let mut micros = Vec::new();
    for _ in 0..times {
        let (result, time) = work()?;
        last = result;
        micros.push(time.as_secs_f64() * 1e6);
    }
    Ok((last, median(&micros).unwrap_or(first.as_secs_f64() * 1e6)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bps_codec::codecs;

    #[test]
    fn one_device_without_options() {
        let wrong = |device: &str| Place::open(device).map(|place| place.name().to_owned()).unwrap_err().to_string();
        assert!(wrong("tpu").contains("`tpu`"));
        assert!(wrong("cpu:2").contains("one device") && wrong("auto").contains("one device"));
        assert!(wrong("cpu,slowdown=2").contains("no slowdown"));
        assert_eq!(Place::open("cpu").unwrap().name(), "cpu");
    }

    #[test]
    fn the_first_time_does_not_count() {
        let mut calls = 0;
        let mut work = || {
            calls += 1;
            Ok((calls, Duration::from_micros(if calls == 1 { 900 } else { calls })))
        };
        assert_eq!(repeated(5, &mut work).unwrap(), (6, 4.0));
    }

    #[test]
    fn ff_frames_are_those_of_the_registry() {
        for shape in [vec![], vec![7], vec![2, 9], vec![2, 3, 4, 5], vec![2, 3, 2, 2, 2, 1], vec![0, 2, 3, 2, 2]] {
            let values: Vec<f32> = (0..shape.iter().product::<usize>()).map(|i| i as f32 - 9.0).collect();
            let tensor = HostTensor::from_f32(shape, &values).unwrap();
            for spec in codecs().iter().filter(|spec| spec.layout == Layout::Ff) {
                let settings = ff::settings_of(spec.id, 8, None).unwrap();
                let (packed, _) = Place::Processor.encode(spec, 8, Some((&settings, true)), &tensor).unwrap();
                assert_eq!(packed, bps_codec::encode(spec.id, 8, &tensor).unwrap());
                let (back, _) = Place::Processor.decode(&packed, Some((Order::Nchw, None))).unwrap();
                assert_eq!(back, bps_codec::decode(&packed, tensor.shape()).unwrap());
            }
        }
    }
}
