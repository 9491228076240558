//! Two hosts in one process, a real link between them, and in the link's place a proxy that breaks it on demand.

mod faults;
mod splits;
pub(crate) mod stand;
mod versions;
