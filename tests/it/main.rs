//! The tests that no single crate can hold: they look at the workspace as a whole, or drive scheduler, policies and engine
//! together.

mod examples;
mod hosts;
mod seam;
mod tidy;
