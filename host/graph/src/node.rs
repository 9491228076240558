//! One node of the file as an operator's parser sees it: attributes by name and type, operands with what is known of them.

use crate::content::{Content, Scalar};
use crate::dim::Dim;
use crate::error::GraphError;
use crate::proto::{AttributeProto, NodeProto};

/// What is wrong with a node; [`Node::error`] adds which one.
#[derive(Debug)]
pub(crate) enum Flaw {
    /// An attribute.
    Attribute(&'static str, String),
    /// Anything else.
    Node(String),
}

impl From<String> for Flaw {
    fn from(message: String) -> Self {
        Self::Node(message)
    }
}

impl From<&str> for Flaw {
    fn from(message: &str) -> Self {
        Self::Node(message.to_owned())
    }
}

/// An operand of a node.
#[derive(Clone, Copy)]
pub(crate) struct Operand<'a> {
    /// Its name in the file.
    pub(crate) name: &'a str,
    /// Its extents.
    pub(crate) dims: &'a [Dim],
    /// Its elements, if they are known.
    pub(crate) content: Option<&'a Content>,
}

/// A node with its surroundings.
pub(crate) struct Node<'a> {
    /// As it stands in the file.
    pub(crate) proto: &'a NodeProto,
    /// Its place in the file.
    pub(crate) index: usize,
    /// Version of ONNX's own operators that the file asks for.
    pub(crate) opset: i64,
    /// Operands in order; none where an optional one is absent.
    pub(crate) operands: Vec<Option<Operand<'a>>>,
}

/// The node's name, or the operator and the index where it has none.
pub(crate) fn display_name(proto: &NodeProto, index: usize) -> String {
    if proto.name.is_empty() { format!("{}_{index}", proto.op_type) } else { proto.name.clone() }
}

/// The operator, with its domain where that is not ONNX's own.
pub(crate) fn operator(proto: &NodeProto) -> String {
    if is_onnx_domain(&proto.domain) { proto.op_type.clone() } else { format!("{}.{}", proto.domain, proto.op_type) }
}

/// Whether a domain is ONNX's own.
pub(crate) fn is_onnx_domain(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

impl<'a> Node<'a> {
    /// The flaw with its place.
    pub(crate) fn error(&self, flaw: Flaw) -> GraphError {
        let (node, index, op) = (display_name(self.proto, self.index), self.index, operator(self.proto));
        match flaw {
            Flaw::Attribute(attribute, message) => {
                GraphError::Attribute { node, index, op, attribute: attribute.to_owned(), message }
            }
            Flaw::Node(message) => GraphError::Node { node, index, op, message },
        }
    }

    fn attribute(&self, name: &str) -> Option<&'a AttributeProto> {
        self.proto.attribute.iter().find(|a| a.name == name)
    }

    /// Whether the attribute is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.attribute(name).is_some()
    }

    /// An integer attribute.
    pub(crate) fn int(&self, name: &'static str) -> Result<Option<i64>, Flaw> {
        let Some(a) = self.attribute(name) else { return Ok(None) };
        a.i.map(Some).ok_or_else(|| Flaw::Attribute(name, "is not an integer".to_owned()))
    }

    /// An integer attribute with a default.
    pub(crate) fn int_or(&self, name: &'static str, default: i64) -> Result<i64, Flaw> {
        Ok(self.int(name)?.unwrap_or(default))
    }

    /// A number attribute with a default.
    pub(crate) fn float_or(&self, name: &'static str, default: f32) -> Result<f32, Flaw> {
        let Some(a) = self.attribute(name) else { return Ok(default) };
        match a.f {
            Some(v) if !v.is_nan() => Ok(v),
            Some(_) => Err(Flaw::Attribute(name, "is not a number".to_owned())),
            None => Err(Flaw::Attribute(name, "is not a floating-point number".to_owned())),
        }
    }

    /// A list of integers.
    pub(crate) fn ints(&self, name: &'static str) -> Result<Option<&'a [i64]>, Flaw> {
        let Some(a) = self.attribute(name) else { return Ok(None) };
        let other = a.i.is_some() || a.f.is_some() || a.s.is_some() || a.t.is_some() || !a.floats.is_empty();
        if other { Err(Flaw::Attribute(name, "is not a list of integers".to_owned())) } else { Ok(Some(&a.ints)) }
    }

    /// A text attribute with a default.
    pub(crate) fn text_or(&self, name: &'static str, default: &'a str) -> Result<&'a str, Flaw> {
        let Some(a) = self.attribute(name) else { return Ok(default) };
        let text = a.s.as_ref().and_then(|s| std::str::from_utf8(s).ok());
        text.ok_or_else(|| Flaw::Attribute(name, "is not a text".to_owned()))
    }

    /// A list of extents of a fixed length; every entry at least `least`.
    pub(crate) fn extents<const N: usize>(
        &self,
        name: &'static str,
        least: usize,
        default: usize,
    ) -> Result<[usize; N], Flaw> {
        let Some(list) = self.ints(name)? else { return Ok([default; N]) };
        let mut extents = [0; N];
        if list.len() != N {
            return Err(Flaw::Attribute(name, format!("has {} entries, needs {N}", list.len())));
        }
        for (extent, &value) in extents.iter_mut().zip(list) {
            // a window of more than a million elements a side is no CNN's; the bound keeps later arithmetic far from overflow
            let fitting = usize::try_from(value).ok().filter(|v| (least..=1 << 20).contains(v));
            *extent = fitting.ok_or_else(|| Flaw::Attribute(name, format!("has entry {value}, out of range")))?;
        }
        Ok(extents)
    }

    /// An operand that has to be there.
    pub(crate) fn operand(&self, index: usize) -> Result<Operand<'a>, Flaw> {
        let operand = self.operands.get(index).copied().flatten();
        operand.ok_or_else(|| Flaw::Node(format!("input {index} is missing")))
    }

    /// Extents of an operand that has to be there.
    pub(crate) fn dims(&self, index: usize) -> Result<&'a [Dim], Flaw> {
        Ok(self.operand(index)?.dims)
    }

    /// Integers of an operand; none where it is absent. It has to be known while loading.
    pub(crate) fn integers(&self, index: usize) -> Result<Option<Vec<Scalar>>, Flaw> {
        let Some(operand) = self.operands.get(index).copied().flatten() else { return Ok(None) };
        let Some(content) = operand.content else {
            return Err(Flaw::Node(format!(
                "input {index} (`{}`) is computed by the model, not constant",
                operand.name
            )));
        };
        let integers = content.integers().map_err(|m| Flaw::Node(format!("input {index} (`{}`) {m}", operand.name)))?;
        Ok(Some(integers.values))
    }

    /// Integers of an operand that do not depend on any input's extent.
    pub(crate) fn constant_integers(&self, index: usize) -> Result<Option<Vec<i64>>, Flaw> {
        let Some(values) = self.integers(index)? else { return Ok(None) };
        let fixed = |s: &Scalar| if let Scalar::Known(v) = s { Some(*v) } else { None };
        let fixed: Option<Vec<i64>> = values.iter().map(fixed).collect();
        fixed.map(Some).ok_or_else(|| Flaw::Node(format!("input {index} depends on the batch or on an open extent")))
    }

    /// The one number of an operand; none where it is absent.
    pub(crate) fn constant_float(&self, index: usize) -> Result<Option<f32>, Flaw> {
        let Some(operand) = self.operands.get(index).copied().flatten() else { return Ok(None) };
        let place = |m: String| Flaw::Node(format!("input {index} (`{}`) {m}", operand.name));
        let content = operand.content.ok_or_else(|| place("is computed by the model, not constant".to_owned()))?;
        let tensor = content.floats().map_err(place)?;
        match tensor.data().as_chunks::<4>().0 {
            [bytes] => Ok(Some(f32::from_le_bytes(*bytes))),
            many => Err(place(format!("has {} elements, needs one", many.len()))),
        }
    }

    /// Fails where the file wants more results than are given.
    pub(crate) fn results_at_most(&self, count: usize) -> Result<(), Flaw> {
        let wanted = self.proto.output.iter().rposition(|o| !o.is_empty()).map_or(0, |i| i + 1);
        if wanted > count { Err(Flaw::Node(format!("output {count} is not supported"))) } else { Ok(()) }
    }
}

/// A position among `rank` axes, where negative counts from the end.
pub(crate) fn axis(value: i64, rank: usize) -> Result<usize, String> {
    let limit = i64::try_from(rank).unwrap_or(i64::MAX);
    let place = if value < 0 { value.checked_add(limit) } else { Some(value) };
    let place = place.and_then(|p| usize::try_from(p).ok()).filter(|p| *p < rank);
    place.ok_or_else(|| format!("axis {value} is not one of {rank} dimensions"))
}

/// Several axes, ascending, each once.
pub(crate) fn axes(values: &[i64], rank: usize) -> Result<Vec<usize>, String> {
    let mut axes = values.iter().map(|&v| axis(v, rank)).collect::<Result<Vec<_>, _>>()?;
    axes.sort_unstable();
    let repeated = axes.windows(2).any(|w| w[0] == w[1]);
    if repeated { Err(format!("axes {values:?} repeat one")) } else { Ok(axes) }
}
