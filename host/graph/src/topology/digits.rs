//! DigitsNet: a small residual network for 8 x 8 images of digits, without normalisation so that every constant of the
//! graph is an initializer of the file and can be trained by name.

use super::ConvShape;
use crate::build::ModelBuilder;

pub(super) fn describe(name: &str) -> ModelBuilder {
    let mut b = ModelBuilder::new(name);
    let pixels = b.input("pixels", &[1, 8, 8]);
    let mut x = b.conv("stem", &pixels, ConvShape::new(1, 16, 3, 1), true);
    x = b.relu("stem", &x);
    x = block(&mut b, "block1", &x, 16);
    x = b.conv("down", &x, ConvShape::new(16, 32, 3, 2), true);
    x = b.relu("down", &x);
    x = block(&mut b, "block2", &x, 32);
    x = b.flatten(&x);
    x = b.linear("head", &x, 32 * 4 * 4, 10);
    b.output(&x, "logits", &[10]);
    b
}

/// `relu(x + conv2(relu(conv1(x))))`
fn block(b: &mut ModelBuilder, module: &str, x: &str, channels: usize) -> String {
    let shape = ConvShape::new(channels, channels, 3, 1);
    let y = b.conv(&format!("{module}.conv1"), x, shape, true);
    let y = b.relu(&format!("{module}.relu1"), &y);
    let y = b.conv(&format!("{module}.conv2"), &y, shape, true);
    let y = b.node("Add", &format!("/{module}/Add"), &[x, &y], &[]);
    b.relu(module, &y)
}
