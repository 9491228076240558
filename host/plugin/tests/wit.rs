//! The interface is frozen: `wit/policy.wit` is its golden copy, or a compatible extension of it.

#![expect(clippy::expect_used, reason = "a test says what it expected")]

use wit_parser::Resolve;

const HEAD: &str = include_str!("../../../wit/policy.wit");
const GOLDEN: &str = include_str!("../../../wit/golden/policy-0.1.0.wit");
const WORLDS: [&str; 4] = ["scheduler", "learner", "advised", "planner"];

/// Whether a component made for `before` still fits `after`, world by world.
fn is_compatible(before: &str, after: &str) -> Result<(), String> {
    for world in WORLDS {
        let mut resolve = Resolve::default();
        let mut push = |text: &str| resolve.push_str("policy.wit", text).map_err(|error| format!("{error:#}"));
        // Two packages of one name need two versions; the check itself looks past them.
        let (before, after) = (push(before)?, push(&after.replace("bps:policy@0.1.0", "bps:policy@0.1.999"))?);
        let select = |package| resolve.select_world(&[package], Some(world)).map_err(|error| error.to_string());
        let (before, after) = (select(before)?, select(after)?);
        wit_component::semver_check(resolve, before, after).map_err(|error| format!("world {world}: {error:#}"))?;
    }
    Ok(())
}

#[test]
fn head_fits_components_made_for_the_golden_copy() {
    if HEAD != GOLDEN {
        let verdict = is_compatible(GOLDEN, HEAD);
        assert!(
            verdict.is_ok(),
            "wit/policy.wit breaks components made for wit/golden/policy-0.1.0.wit: {verdict:?}\n\
             Undo it, or raise the package's version, keep the old interface beside it, and add a golden copy \
             (wit/README.md says how)."
        );
    }
}

#[test]
fn the_check_tells_additions_from_breaks() {
    assert_eq!(is_compatible(GOLDEN, GOLDEN), Ok(()));
    let more_host = GOLDEN.replace("  metric: func(", "  noted: func(id: u32);\n  metric: func(");
    assert_ne!(more_host, GOLDEN);
    assert_eq!(is_compatible(GOLDEN, &more_host), Ok(()), "the host may offer more");
    let field =
        GOLDEN.replace("    epoch: u32,\n    /// At most 64.", "    epoch: u32,\n    era: u32,\n    /// At most 64.");
    assert_ne!(field, GOLDEN);
    is_compatible(GOLDEN, &field).expect_err("a record may not grow");
    let required = GOLDEN.replace("  /// The hot path.", "  undecide: func();\n  /// The hot path.");
    assert_ne!(required, GOLDEN);
    is_compatible(GOLDEN, &required).expect_err("a policy may not be asked for more");
}
