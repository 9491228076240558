//! `bps codec list`: the codecs there are.

use crate::output::Output;
use crate::table::Table;
use anyhow::Result;
use bps_codec::{CodecSpec, codecs};
use bps_types::DataType;
use serde::Serialize;

/// Rates up to here are listed one by one.
const LISTED_MAX: usize = 4;

#[derive(Serialize)]
struct CodecReport {
    number: u8,
    name: &'static str,
    rates: &'static [u8],
    usual_rate: u8,
    lossless: bool,
    for_input: bool,
    layout: String,
    zstd: bool,
    takes: Vec<DataType>,
    /// One a rate; one where there are none.
    assumed: Vec<Assumed>,
}

#[derive(Serialize)]
struct Assumed {
    rate: u8,
    bits_per_element: f32,
    loss_ppm: u32,
}

/// Lists them.
pub(super) fn run(out: Output) -> Result<()> {
    out.emit(&codecs().iter().map(report).collect::<Vec<_>>(), |all| text(all))
}

fn report(spec: &'static CodecSpec) -> CodecReport {
    let rates = if spec.rates.is_empty() { &[0] } else { spec.rates };
    let assumed = |&rate: &u8| Assumed {
        rate,
        bits_per_element: spec.bits_per_element_assumed(rate),
        loss_ppm: spec.loss_ppm_assumed(rate),
    };
    CodecReport {
        number: spec.id,
        name: spec.name,
        rates: spec.rates,
        usual_rate: spec.usual_rate(),
        lossless: spec.lossless,
        for_input: spec.for_input,
        layout: format!("{:?}", spec.layout).to_lowercase(),
        zstd: spec.squeezed,
        takes: DataType::ALL.into_iter().filter(|t| spec.takes(*t)).collect(),
        assumed: rates.iter().map(assumed).collect(),
    }
}

fn text(all: &[CodecReport]) -> String {
    let mut table = Table::new(&[">number", "codec", "rates", "lossless", "takes", ">assumed bits"]);
    for codec in all {
        let bits = |assumed: Option<&Assumed>| assumed.map_or(0.0, |a| a.bits_per_element);
        let (first, last) = (bits(codec.assumed.first()), bits(codec.assumed.last()));
        table.row([
            codec.number.to_string(),
            codec.name.to_owned(),
            rates(codec.rates),
            if codec.lossless { "yes" } else { "no" }.to_owned(),
            takes(codec),
            if first == last { format!("{first}") } else { format!("{first} to {last}") },
        ]);
    }
    format!(
        "{table}\nassumed bits: an element of FP32 (jpeg: UINT8), from the first rate to the last, before anything was \
         measured;\n`bps codec encode` measures. rates: those that plans use; here FF's take every one, 0 to 31\n"
    )
}

fn rates(rates: &[u8]) -> String {
    match rates {
        [] => "-".to_owned(),
        [first, second, .., last] if rates.len() > LISTED_MAX => format!("{first}, {second} .. {last}"),
        _ => rates.iter().map(u8::to_string).collect::<Vec<_>>().join(", "),
    }
}

fn takes(codec: &CodecReport) -> String {
    let missing: Vec<DataType> = DataType::ALL.into_iter().filter(|t| !codec.takes.contains(t)).collect();
    match (&codec.takes[..], &missing[..]) {
        (_, []) => "every type".to_owned(),
        (_, [one]) => format!("every type but {one}"),
        ([one], _) if codec.for_input => format!("{one} images, a model's input"),
        (some, _) => some.iter().map(DataType::to_string).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_is_listed_with_what_there_is_to_know() {
        let all: Vec<_> = codecs().iter().map(report).collect();
        let text = text(&all);
        for spec in codecs() {
            let words = format!("{}  {}", spec.id, spec.name);
            assert!(text.lines().any(|line| line.trim_start().starts_with(&words)), "{words}: {text}");
        }
        assert!(text.contains("0, 2 .. 30") && text.contains("50, 75, 90, 95"), "{text}");
        assert!(text.contains("every type but BYTES") && text.contains("UINT8 images"), "{text}");
        let json = serde_json::to_value(&all).unwrap();
        assert_eq!((&json[7]["name"], json[7]["assumed"].as_array().unwrap().len()), (&"ff-s".into(), 16));
        assert_eq!((&json[0]["layout"], &json[2]["takes"]), (&"plain".into(), &serde_json::json!(["FP32"])));
    }
}
