//! Models that are well-formed protobuf and nothing else: an input's bytes choose operators, operands, attributes, weights
//! and extents, so that the fuzzer spends its time behind the decoder.

#![no_main]

use bps_fuzz::{Input, graph::exercise, seed};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: seed(seeds(), &["\\xff"]), |data: &[u8]| {
    let model = model(&mut Input::new(data));
    if let Err(error) = exercise(&model) {
        assert!(!matches!(error, bps_graph::GraphError::Decode(_)), "{error}");
        assert!(!error.to_string().is_empty());
    }
});

const OPERATORS: [&str; 53] = [
    "Abs",
    "Add",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Clip",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Conv",
    "Div",
    "Dropout",
    "Elu",
    "Erf",
    "Exp",
    "Flatten",
    "Gather",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LRN",
    "LeakyRelu",
    "Log",
    "MatMul",
    "Max",
    "MaxPool",
    "Min",
    "Mul",
    "Neg",
    "Pad",
    "Pow",
    "ReduceMean",
    "Relu",
    "Reshape",
    "Shape",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Softplus",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Sum",
    "Tanh",
    "Transpose",
    "Unsqueeze",
    "",
    "Loop",
    "relu",
];

const ATTRIBUTES: [&str; 41] = [
    "allowzero",
    "alpha",
    "auto_pad",
    "axes",
    "axis",
    "beta",
    "bias",
    "ceil_mode",
    "count_include_pad",
    "dilations",
    "end",
    "ends",
    "epsilon",
    "group",
    "keepdims",
    "kernel_shape",
    "max",
    "min",
    "mode",
    "noop_with_empty_axes",
    "pads",
    "perm",
    "size",
    "spatial",
    "split",
    "start",
    "starts",
    "steps",
    "storage_order",
    "strides",
    "to",
    "transA",
    "transB",
    "value",
    "value_float",
    "value_floats",
    "value_int",
    "value_ints",
    "training_mode",
    "shape",
    "",
];

const TEXTS: [&str; 7] = ["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID", "constant", "edge", ""];

/// ONNX's codes: FLOAT, INT64, INT32, BOOL, FLOAT16, DOUBLE, BFLOAT16, INT8, and none.
const TYPES: [i64; 9] = [1, 7, 6, 9, 10, 11, 16, 3, 99];

/// A message of protobuf.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn raw_number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn number(mut self, tag: u64, number: i64) -> Self {
        self.raw_number(tag << 3);
        self.raw_number(number as u64);
        self
    }

    fn bytes(mut self, tag: u64, bytes: &[u8]) -> Self {
        self.raw_number(tag << 3 | 2);
        self.raw_number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(self, tag: u64, text: &str) -> Self {
        self.bytes(tag, text.as_bytes())
    }

    fn float(mut self, tag: u64, number: f32) -> Self {
        self.raw_number(tag << 3 | 5);
        self.0.extend(number.to_le_bytes());
        self
    }

    fn all(self, tag: u64, messages: impl IntoIterator<Item = Message>) -> Self {
        messages.into_iter().fold(self, |whole, part| whole.bytes(tag, &part.0))
    }
}

fn model(input: &mut Input<'_>) -> Vec<u8> {
    let opset = Message::default().number(2, i64::from(input.byte() % 21) + 6);
    let mut names = Vec::new();
    let inputs: Vec<_> = (0..1 + input.byte() % 2).map(|_| port(input, &mut names)).collect();
    let weights: Vec<_> = (0..input.byte() % 8).map(|_| weight(input, &mut names)).collect();
    let nodes: Vec<_> = (0..input.byte() % 64).map(|_| node(input, &mut names)).collect();
    let last = names.last().cloned().unwrap_or_default();
    let others: Vec<String> = (0..input.byte() % 3).map(|_| any(input, &names)).collect();
    let outputs = others.iter().chain([&last]).map(|name| Message::default().text(1, name));
    let graph = Message::default().text(2, "g").all(1, nodes).all(5, weights).all(11, inputs).all(12, outputs);
    Message::default().number(1, 8).all(7, [graph]).all(8, [opset]).0
}

/// A tensor that is there already, now and then none at all or one that never is.
fn any(input: &mut Input<'_>, names: &[String]) -> String {
    match input.byte() {
        255 => "nowhere".to_owned(),
        254 => String::new(),
        // The last ones are meant most.
        back => names.len().checked_sub(1 + usize::from(back)).map_or_else(|| first(names), |i| names[i].clone()),
    }
}

fn first(names: &[String]) -> String {
    names.first().cloned().unwrap_or_default()
}

/// A name of its own, now and then one that is taken.
fn new(input: &mut Input<'_>, names: &mut Vec<String>) -> String {
    let name = if input.byte() == 255 { first(names) } else { format!("t{}", names.len()) };
    names.push(name.clone());
    name
}

fn port(input: &mut Input<'_>, names: &mut Vec<String>) -> Message {
    let name = new(input, names);
    let extent = |input: &mut Input<'_>| match input.number() {
        0 => Message::default().text(2, "open"),
        number => Message::default().number(1, number),
    };
    let dims: Vec<_> = (0..input.byte() % 10).map(|_| extent(input)).collect();
    let shape = Message::default().all(1, dims);
    let tensor = Message::default().number(1, if input.byte() == 255 { 7 } else { 1 }).all(2, [shape]);
    Message::default().text(1, &name).all(2, [Message::default().all(1, [tensor])])
}

fn weight(input: &mut Input<'_>, names: &mut Vec<String>) -> Message {
    let name = new(input, names);
    tensor(input).text(8, &name)
}

/// Contents are as many as the extents say, if that is not much and the input does not say otherwise.
fn tensor(input: &mut Input<'_>) -> Message {
    let code = input.pick(&TYPES);
    let dims: Vec<i64> = (0..input.byte() % 10).map(|_| input.number()).collect();
    let count = dims.iter().try_fold(1i64, |n, d| n.checked_mul(*d)).filter(|n| (0..=4_096).contains(n)).unwrap_or(3);
    let mut message = dims.iter().fold(Message::default().number(2, code), |message, dim| message.number(1, *dim));
    let style = input.byte();
    if style == 255 {
        return message.number(14, 1);
    }
    // The listed elements, and the last of them again and again.
    let listed: Vec<i64> = (0..1 + style % 8).map(|_| input.number()).collect();
    let elements = (0..count as usize).map(|i| listed[i.min(listed.len() - 1)]);
    if style & 0x40 != 0 {
        // In the fields of their type.
        for element in elements {
            message = match code {
                1 => message.float(4, element as f32),
                7 => message.number(7, element),
                11 => {
                    message.raw_number(10 << 3 | 1);
                    message.0.extend((element as f64).to_le_bytes());
                    message
                }
                _ => message.number(5, i64::from(element as i32)),
            };
        }
        return message;
    }
    let raw: Vec<u8> = elements
        .flat_map(|element| match code {
            1 => (element as f32).to_le_bytes().to_vec(),
            7 => element.to_le_bytes().to_vec(),
            11 => (element as f64).to_le_bytes().to_vec(),
            6 => (element as i32).to_le_bytes().to_vec(),
            10 | 16 => (element as i16).to_le_bytes().to_vec(),
            _ => vec![element as u8],
        })
        .collect();
    message.bytes(9, &raw)
}

fn node(input: &mut Input<'_>, names: &mut Vec<String>) -> Message {
    let operator = input.pick(&OPERATORS);
    let counts = input.byte();
    let mut message = Message::default().text(4, operator);
    for _ in 0..counts & 7 {
        message = message.text(1, &any(input, names));
    }
    for _ in 0..counts >> 3 & 7 {
        let attribute = attribute(input);
        message = message.all(5, [attribute]);
    }
    // Most have one result.
    for _ in 0..[1, 1, 2, 3][usize::from(counts >> 6)] {
        message = message.text(2, &new(input, names));
    }
    message
}

fn attribute(input: &mut Input<'_>) -> Message {
    let name = input.pick(&ATTRIBUTES);
    let message = Message::default().text(1, name);
    let kind = input.byte();
    match kind % 6 {
        0 => message.number(3, input.number()),
        1 => (0..kind / 6).fold(message, |message, _| message.number(8, input.number())),
        2 => message.float(2, input.number() as f32 / 8.0),
        3 => message.text(4, input.pick(&TEXTS)),
        4 => message.all(5, [tensor(input)]),
        _ => (0..kind / 6).fold(message, |message, _| message.float(7, input.number() as f32 / 8.0)),
    }
}

/// Small models in the bytes of this target.
fn seeds() -> Vec<Vec<u8>> {
    let operator = |name: &str| OPERATORS.iter().position(|o| *o == name).expect("it is listed") as u8;
    let attribute = |name: &str| ATTRIBUTES.iter().position(|a| *a == name).expect("it is listed") as u8;
    // Opset 13, one input [N, 2, 6, 6].
    let image = [7, 0, 0, 4, 1, 2, 6, 6, 0];
    // One weight [4, 2, 3, 3] of ones; a convolution with pads, a ReLU, a mean, no further outputs.
    let convolution = [
        &image[..],
        &[1, 0, 0, 4, 4, 2, 3, 3, 0, 1],
        &[3, operator("Conv"), 2 | 1 << 3, 1, 0, attribute("pads"), 1 + 6 * 4, 1, 1, 1, 1, 0],
        &[operator("Relu"), 1, 0, 0, operator("GlobalAveragePool"), 1, 0, 0, 0],
    ];
    // Its shape, gathered, joined with -1, and what is reshaped to that.
    let reshape = [
        &image[..],
        &[2, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 240],
        &[4, operator("Shape"), 1, 2, 0, operator("Gather"), 2, 0, 2, 0],
        &[operator("Concat"), 2 | 1 << 3, 0, 2, attribute("axis"), 0, 0, 0, operator("Reshape"), 2, 5, 0, 0, 0],
    ];
    // Three pieces along an axis, joined again.
    let split = [
        &image[..],
        &[0, 2, operator("Split"), 1 | 1 << 3 | 3 << 6, 0, attribute("axis"), 0, 3, 0, 0, 0],
        &[operator("Concat"), 3 | 1 << 3, 0, 1, 2, attribute("axis"), 0, 2, 0, 0],
    ];
    vec![convolution.concat(), reshape.concat(), split.concat()]
}
