//! Custody under random interleavings: whatever clients, devices and policies do, no request is lost or answered twice.

mod driver;
mod scripted;
mod steps;
mod world;

use driver::Driver;
use proptest::prelude::*;
use steps::steps;

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_request_is_lost_or_answered_twice(steps in steps()) {
        let mut driver = Driver::new();
        for step in steps {
            driver.step(step);
        }
        driver.drain();
        let ledger = driver.scheduler.ledger();
        prop_assert_eq!(ledger.waiting + ledger.running, 0);
        prop_assert!(driver.outputs.values().all(|done| !done) || driver.outputs.is_empty(), "outputs are released");
        while let Some(execution) = driver.pick(0) {
            driver.finish(execution);
        }
        prop_assert_eq!(driver.joints, 0, "every execution for others has its receipt");
    }
}
