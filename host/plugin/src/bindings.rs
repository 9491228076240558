//! What wasmtime's `bindgen!` makes of the largest world. Required exports come from `policy`; `learning`, `state` and
//! `advice` are looked up one by one, since a policy may leave them out.

#![allow(missing_docs, reason = "generated; wit/policy.wit documents every item")]
#![allow(unreachable_pub, reason = "generated")]
#![allow(clippy::all, reason = "generated")]
#![allow(clippy::allow_attributes_without_reason, reason = "generated")]

wasmtime::component::bindgen!({
    path: "../../wit/policy.wit",
    world: "advised",
    ownership: Borrowing { duplicate_if_necessary: true },
    additional_derives: [PartialEq],
});
