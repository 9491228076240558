//! What `wit-bindgen` makes of the world `learner`. Authors see the types through the crate root.

#![allow(missing_docs, reason = "generated; wit/policy.wit documents every item")]
#![allow(unsafe_code, reason = "generated: the canonical ABI passes pointers; wit-bindgen upholds it")]
#![allow(unreachable_pub, reason = "generated")]
#![allow(clippy::all, reason = "generated")]
#![allow(clippy::allow_attributes_without_reason, reason = "generated")]

wit_bindgen::generate!({
    path: "../../wit/policy.wit",
    world: "learner",
    pub_export_macro: true,
    export_macro_name: "__export_learner",
    default_bindings_module: "bps_policy_sdk::__bindings",
    additional_derives: [PartialEq],
});
