//! The classification extension: of each row the greatest elements, as strings `value:index`.

use bps_types::{DataType, HostTensor, TensorError};

/// The `count` greatest elements of each row of an FP32 tensor, as a BYTES tensor of shape `[rows, count]`. Equal values
/// come in the order of their indices; NaN counts as greatest, so that it is seen.
pub(super) fn greatest(tensor: &HostTensor, count: usize) -> Result<HostTensor, TensorError> {
    let values = tensor.to_f32()?;
    let rows = tensor.rows();
    let row_len = values.len().checked_div(rows).unwrap_or(0);
    let count = count.min(row_len);
    let mut framed = Vec::new();
    if count > 0 {
        for row in values.chunks_exact(row_len) {
            let mut order: Vec<usize> = (0..row_len).collect();
            order.sort_by(|&a, &b| row[b].is_nan().cmp(&row[a].is_nan()).then(row[b].total_cmp(&row[a])));
            for index in order.into_iter().take(count) {
                let text = format!("{:.6}:{index}", row[index]);
                framed.extend_from_slice(&u32::try_from(text.len()).unwrap_or(0).to_le_bytes());
                framed.extend_from_slice(text.as_bytes());
            }
        }
    }
    HostTensor::new(DataType::Bytes, vec![rows, count], framed.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oip::binary::check_bytes;
    use crate::oip::tensor_json::Elements;

    #[test]
    fn greatest_of_each_row() {
        let tensor = HostTensor::from_f32(vec![2, 3], &[0.5, 2.0, 2.0, -1.0, -f32::NAN, 0.0]).unwrap();
        let classes = greatest(&tensor, 2).unwrap();
        assert_eq!(classes.shape(), [2, 2]);
        let json = serde_json::to_string(&Elements(&classes)).unwrap();
        assert_eq!(json, r#"["2.000000:1","2.000000:2","NaN:1","0.000000:2"]"#);
        assert_eq!(check_bytes(classes.data(), 4), Ok(()));
        assert_eq!(greatest(&tensor, usize::MAX).unwrap().shape(), [2, 3]);
        assert_eq!(greatest(&HostTensor::from_f32(vec![0, 3], &[]).unwrap(), 1).unwrap().shape(), [0, 0]);
        let other = HostTensor::new(DataType::Int8, vec![1], vec![1].into()).unwrap();
        assert_eq!(greatest(&other, 1).unwrap_err().to_string(), "expected a FP32 tensor, got INT8");
    }
}
