//! What a guest may use. Each bound has its reason beside it.

use std::time::Duration;

/// Bounds on one policy instance and on each call into it.
#[derive(Clone, Debug)]
pub struct GuestLimits {
    /// Largest component accepted. A Rust policy is a tenth of a megabyte, an interpreter with a policy 2.
    pub component_bytes_max: usize,
    /// Functions in a component, all its modules together. A Rust policy has a few hundred, an interpreter 10,000.
    pub functions_max: usize,
    /// Bytes of one function's code: what an optimiser does with one function is not linear in them.
    pub function_bytes_max: usize,
    /// Modules and components inside a component.
    pub modules_max: usize,
    /// Longest that compiling may take; past it the load fails and the compiler's thread ends by itself.
    pub compile_deadline: Duration,
    /// Linear memory of an instance, all its memories together.
    pub memory_bytes_max: usize,
    /// Elements of each table.
    pub table_elements_max: usize,
    /// Core instances in a component.
    pub instances_max: usize,
    /// Core tables and memories in a component.
    pub tables_max: usize,
    /// Time for `decide`.
    pub decide_deadline: Duration,
    /// Time for `world-changed`, `table-changed`, `observe`, `save` and `restore`.
    pub update_deadline: Duration,
    /// Time for instantiation, `describe` and `configure`.
    pub start_deadline: Duration,
    /// Bytes that one hot call may hand to the host. 256 dispatches of two stages are 25 KiB.
    pub result_bytes_max: usize,
    /// Bytes that `save`, `describe` and `configure` may hand to the host.
    pub blob_bytes_max: usize,
    /// Log lines a second; more are dropped and counted.
    pub log_lines_per_second: u32,
    /// Bytes of a log line; the rest is cut.
    pub log_line_bytes_max: usize,
    /// Period of the ticks at which running guests are looked at.
    pub tick: Duration,
}

impl Default for GuestLimits {
    fn default() -> Self {
        Self {
            component_bytes_max: 16 << 20,
            functions_max: 20_000,
            function_bytes_max: 256 << 10,
            modules_max: 64,
            compile_deadline: Duration::from_secs(60),
            memory_bytes_max: 32 << 20,
            table_elements_max: 20_000,
            instances_max: 16,
            tables_max: 8,
            decide_deadline: Duration::from_millis(5),
            update_deadline: Duration::from_millis(20),
            start_deadline: Duration::from_millis(100),
            result_bytes_max: 64 << 10,
            blob_bytes_max: 1 << 20,
            log_lines_per_second: 64,
            log_line_bytes_max: 4 << 10,
            tick: Duration::from_millis(1),
        }
    }
}
