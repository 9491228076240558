//! What a codec at one value does to the model's answers.

use super::loss::{Answer, Judge, output_error};
use super::net::{Net, Place, Row, join};
use anyhow::{Result, anyhow};
use bps_codec::ff::{self, CutPackage, Loss, Mode, Order, Settings};
use bps_types::HostTensor;

/// Rows at a cut, with what becomes of them without a codec.
pub(in crate::commands) struct Trial<'a> {
    pub(in crate::commands) net: &'a Net,
    pub(in crate::commands) place: &'a Place,
    /// The values of the cut.
    pub(in crate::commands) rows: Vec<&'a Row>,
    /// The numbers of the rows, for the judge.
    pub(in crate::commands) numbers: Vec<usize>,
    /// Their answers without a codec.
    pub(in crate::commands) clean: Vec<&'a Answer>,
    pub(in crate::commands) judge: &'a Judge,
}

/// What a codec does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Effect {
    /// Bits of an element, small rows in a frame with others: the mean.
    pub(super) bits: f32,
    /// The 95th percentile of the same.
    pub(super) bits_p95: f32,
    /// Relative squared error of the outputs.
    pub(super) output_nmse: f32,
    /// Accuracy lost, where somebody judges.
    pub(super) loss: Option<Loss>,
    /// Rows with another first class.
    pub(super) changed: usize,
}

/// What becomes of the answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::commands) struct Judged {
    /// Relative squared error of the outputs.
    pub(in crate::commands) output_nmse: f32,
    /// Accuracy lost, where somebody judges.
    pub(in crate::commands) loss: Option<Loss>,
    /// Rows with another first class.
    pub(in crate::commands) changed: usize,
}

/// Bits of an element, row by row in ascending order.
pub(super) struct Sizes(Vec<f32>);

impl Effect {
    pub(super) fn of(sizes: Sizes, judged: Judged) -> Self {
        let Sizes(sizes) = sizes;
        let Judged { output_nmse, loss, changed } = judged;
        Self {
            bits: sizes.iter().sum::<f32>() / sizes.len().max(1) as f32,
            bits_p95: sizes.get((sizes.len() * 95).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0.0),
            output_nmse,
            loss,
            changed,
        }
    }
}

impl Trial<'_> {
    /// Sends the value of each row through a codec. `code` gives what is decoded and the bytes that travelled. Small rows
    /// travel together, as they do between hosts, and share a frame's head.
    pub(super) fn through(
        &self,
        code: impl Fn(&HostTensor) -> Result<(HostTensor, usize)> + Sync,
    ) -> Result<(Vec<HostTensor>, Sizes)> {
        let (place, elements) = (self.place, self.place.elements().max(1));
        let together = if self.net.graph().batchable { ff::rows_together(elements) } else { 1 };
        let frames: Vec<&[&Row]> = self.rows.chunks(together).collect();
        let coded = each(&frames, |rows| {
            let values = rows.iter().map(|row| shaped(&row[place.at], place)).collect::<Result<Vec<_>>>()?;
            let (value, bytes) = code(&join(&values.iter().collect::<Vec<_>>())?)?;
            let values: Vec<HostTensor> = match rows.len() {
                1 => vec![value],
                count => (0..count).map(|row| value.slice_rows(row..row + 1)).collect(),
            };
            Ok((values, 8.0 * bytes as f32 / (rows.len() * elements) as f32))
        })?;
        let mut sizes: Vec<f32> = coded.iter().flat_map(|(values, bits)| vec![*bits; values.len()]).collect();
        sizes.sort_by(f32::total_cmp);
        Ok((coded.into_iter().flat_map(|(values, _)| values).collect(), Sizes(sizes)))
    }

    /// Relative squared error of the values themselves.
    pub(super) fn error_of(&self, values: &[HostTensor]) -> Result<f32> {
        let one = |tensor: &HostTensor| Ok(vec![tensor.to_f32()?]);
        let clean = self.rows.iter().map(|row| one(&row[self.place.at])).collect::<Result<Vec<Answer>>>()?;
        let coded = values.iter().map(one).collect::<Result<Vec<Answer>>>()?;
        Ok(output_error(&clean.iter().collect::<Vec<_>>(), &coded))
    }

    /// Sends the rows on through the rest of the model with these values at the place, one for each row.
    pub(in crate::commands) fn judged(&self, values: &[HostTensor]) -> Result<Judged> {
        let rows = self.rows.iter().zip(values).map(|(row, value)| replaced(row, self.place, value));
        let rows = rows.collect::<Result<Vec<Row>>>()?;
        let answers = answers(&self.net.tail(self.place.cut, &rows.iter().collect::<Vec<_>>())?)?;
        let (loss, changed) = self.judge.loss(&self.numbers, &self.clean, &answers);
        Ok(Judged { output_nmse: output_error(&self.clean, &answers), loss, changed })
    }

    /// Of FF with a package.
    pub(super) fn ff(&self, package: &CutPackage, mode: Mode, q: u8) -> Result<Effect> {
        let settings = Settings { package: Some(package), ..Settings::new(mode, q) };
        let (values, sizes) = self.through(|value| {
            let frame = ff::encode(&settings, value)?;
            Ok((ff::decode(&frame, value.shape(), Order::Nchw, Some(package))?, frame.len()))
        })?;
        Ok(Effect::of(sizes, self.judged(&values)?))
    }
}

/// The value as FF takes it.
pub(in crate::commands) fn shaped(value: &HostTensor, place: &Place) -> Result<HostTensor> {
    Ok(HostTensor::new(value.data_type(), place.shape.clone(), value.data().clone())?)
}

/// The row with another value at the place.
pub(super) fn replaced(row: &Row, place: &Place, value: &HostTensor) -> Result<Row> {
    let mut row = row.clone();
    row[place.at] = HostTensor::new(value.data_type(), row[place.at].shape().to_vec(), value.data().clone())?;
    Ok(row)
}

/// Outputs as numbers.
pub(in crate::commands) fn answers(rows: &[Row]) -> Result<Vec<Answer>> {
    let one = |row: &Row| row.iter().map(|tensor| Ok(tensor.to_f32()?)).collect::<Result<Answer>>();
    rows.iter().map(one).collect()
}

/// Does the same with each, on all cores; results in order.
fn each<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> Result<R> + Sync) -> Result<Vec<R>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = items.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let work = &work;
        let spawn = |part| scope.spawn(move || on_one(part, work));
        let parts: Vec<_> = items.chunks(share).map(spawn).collect();
        let mut all = Vec::with_capacity(items.len());
        for part in parts {
            all.extend(part.join().unwrap_or_else(|_| Err(anyhow!("a codec panicked")))?);
        }
        Ok(all)
    })
}

fn on_one<T, R>(items: &[T], work: &impl Fn(&T) -> Result<R>) -> Result<Vec<R>> {
    items.iter().map(work).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_stay_in_order_and_errors_come_out() {
        let items: Vec<usize> = (0..37).collect();
        assert_eq!(each(&items, |i| Ok(i * 2)).unwrap(), items.iter().map(|i| i * 2).collect::<Vec<_>>());
        let failed = each(&items, |i| if *i == 30 { Err(anyhow!("thirty")) } else { Ok(()) });
        assert_eq!(failed.unwrap_err().to_string(), "thirty");
        assert!(each(&[] as &[u8], |_| Ok(())).unwrap().is_empty());
    }
}
