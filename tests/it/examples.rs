//! What `examples/` shows is what the product takes.

use bps_node::FileConfig;
use std::path::Path;

#[test]
fn the_annotated_config_is_taken_as_it_stands() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/bps.toml");
    let config = FileConfig::load(&path).expect("examples/bps.toml is valid");
    assert!(!config.models.is_empty(), "it serves something");
}
