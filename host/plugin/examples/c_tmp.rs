//! tmp
use bps_plugin::*; use std::time::Instant;
fn main() {
    println!("{:?}", bench::decide(200_000).unwrap());
    let engine = PolicyEngine::new(GuestLimits::default()).unwrap();
    let corpus = Corpus::synthetic(2, 1000);
    for k in prebuilt::all() {
        let t = Instant::now(); let l = engine.load(k.wasm).unwrap(); let c = t.elapsed();
        println!("{} load {c:?} {:?}", k.name, l.rehearse("", 1, &corpus));
    }
}
