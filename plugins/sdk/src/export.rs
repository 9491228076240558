//! `export_policy!`: one instance of a policy behind the component's exports.

use crate::{ConfigError, Policy};
use std::cell::RefCell;

/// The one policy of this component instance. The host never calls in before `configure` nor twice at a time.
pub struct Slot<P>(RefCell<Option<P>>);

impl<P: Policy> Slot<P> {
    /// Empty until `configure`.
    pub const fn new() -> Self {
        Self(RefCell::new(None))
    }

    /// Builds the instance.
    pub fn configure(&self, config: &str, seed: u64) -> Result<(), ConfigError> {
        #[cfg(target_family = "wasm")]
        crate::host::report_panics();
        *self.0.borrow_mut() = Some(P::configure(config, seed)?);
        Ok(())
    }

    /// Runs `call` on the instance.
    ///
    /// # Panics
    /// If the host broke the contract and called before `configure`.
    pub fn with<R>(&self, call: impl FnOnce(&mut P) -> R) -> R {
        call(self.0.borrow_mut().as_mut().expect("the host configures a policy before it uses it"))
    }
}

impl<P: Policy> Default for Slot<P> {
    fn default() -> Self {
        Self::new()
    }
}

/// Exports `$policy` (a [`Policy`]) as this component. Once per crate; natively it expands to a type nobody calls.
#[macro_export]
macro_rules! export_policy {
    ($policy:ty) => {
        #[cfg(target_family = "wasm")]
        mod __bps_component {
            use $crate::__bindings::exports::bps::policy::{learning, policy, state};
            use $crate::__export::Slot;
            use $crate::Policy as _;

            thread_local! {
                static POLICY: Slot<$policy> = const { Slot::new() };
            }

            struct Component;

            impl policy::Guest for Component {
                fn describe() -> $crate::Manifest {
                    <$policy>::manifest()
                }
                fn configure(config: String, seed: u64) -> Result<(), $crate::ConfigError> {
                    POLICY.with(|slot| slot.configure(&config, seed))
                }
                fn world_changed(now: $crate::WorldInfo) {
                    POLICY.with(|slot| slot.with(|policy| policy.world_changed(now)));
                }
                fn table_changed(now: $crate::Table) {
                    POLICY.with(|slot| slot.with(|policy| policy.table_changed(now)));
                }
                fn decide(now: $crate::Snapshot) -> $crate::Decision {
                    POLICY.with(|slot| slot.with(|policy| policy.decide(&now)))
                }
            }

            impl learning::Guest for Component {
                fn observe(outcomes: Vec<$crate::Outcome>, dropped: u32) {
                    POLICY.with(|slot| slot.with(|policy| policy.observe(&outcomes, dropped)));
                }
            }

            impl state::Guest for Component {
                fn save() -> Result<Vec<u8>, String> {
                    POLICY.with(|slot| slot.with(|policy| policy.save()))
                }
                fn restore(origin: $crate::Origin, blob: Vec<u8>) -> Result<bool, String> {
                    POLICY.with(|slot| slot.with(|policy| policy.restore(&origin, &blob)))
                }
            }

            $crate::__bindings::__export_learner!(Component with_types_in $crate::__bindings);
        }
    };
}
