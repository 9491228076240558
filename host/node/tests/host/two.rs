//! Two hosts in one process, a real link between them, and in the link's place a proxy that breaks it on demand; and one
//! host with another that the test plays ([`strangers`]).

mod faults;
mod splits;
pub(crate) mod stand;
mod strangers;
mod versions;
