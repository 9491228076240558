//! Ids, one type each, so that a queue's number cannot stand where a device's belongs.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// One inference asked of this host; never reused within a run.
    RequestId(u64)
);
id!(
    /// One attempt to execute one stage of a plan; an answer with an older id than the flight's is dropped.
    ExecutionId(u64)
);
id!(
    /// Something that executes layers, over all hosts.
    DeviceId(u32)
);
id!(
    /// A loaded model; a reload gets a new one.
    ModelId(u32)
);
id!(
    /// A waiting line: one model, one input shape.
    QueueId(u32)
);
id!(
    /// A process of bps.
    HostId(u32)
);
id!(
    /// A stage that came from another host; never reused within a run.
    ArrivalId(u64)
);
id!(
    /// Counts the policies this run has had; the native fallback before any policy is generation 0.
    Generation(u32)
);
