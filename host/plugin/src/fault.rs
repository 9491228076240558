//! From an error of wasmtime to the class of fault that the scheduler acts on.

use crate::guest::GuestState;
use bps_sched::{Fault, FaultClass};
use std::fmt::Write;
use std::time::Duration;
use wasmtime::{Trap, WasmBacktrace};

/// Frames of a backtrace that a message repeats.
const FRAMES_MAX: usize = 4;

/// What an error of a guest call means. Anything that is neither a trap nor a refused resource came up while results were
/// read out of the guest: it broke the ABI.
pub(crate) fn classify(error: &wasmtime::Error, state: &GuestState, budget: Duration) -> Fault {
    let trap = error.downcast_ref::<Trap>().copied();
    let class = match trap {
        Some(Trap::Interrupt) => FaultClass::Deadline,
        _ if state.memory_refused => FaultClass::Memory,
        Some(trap) if is_abi(trap) => FaultClass::Abi,
        Some(_) => FaultClass::Trap,
        None if is_oversize(error) => FaultClass::Oversize,
        None => FaultClass::Abi,
    };
    Fault::new(class, message(error, trap, state, budget))
}

fn message(error: &wasmtime::Error, trap: Option<Trap>, state: &GuestState, budget: Duration) -> String {
    let mut text = match trap {
        Some(Trap::Interrupt) => format!("still running after {budget:?}"),
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    if state.memory_refused {
        let _ = write!(text, "; it was refused more than {} bytes of memory", state.memory_bytes);
    }
    if let Some(said) = &state.last_error {
        let _ = write!(text, "; its last words: {said}");
    }
    if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
        let names = backtrace.frames().iter().filter_map(|frame| frame.func_name()).take(FRAMES_MAX);
        for name in names {
            let _ = write!(text, "; in {name}");
        }
    }
    text
}

/// Traps that stand for a broken ABI rather than for a broken program.
fn is_abi(trap: Trap) -> bool {
    matches!(
        trap,
        Trap::InvalidChar
            | Trap::DebugAssertStringEncodingFinished
            | Trap::DebugAssertEqualCodeUnits
            | Trap::DebugAssertPointerAligned
            | Trap::DebugAssertUpperBitsUnset
            | Trap::StringOutOfBounds
            | Trap::ListOutOfBounds
            | Trap::InvalidDiscriminant
            | Trap::UnalignedPointer
            | Trap::CannotLeaveComponent
            | Trap::CannotEnterComponent
    )
}

/// wasmtime keeps the type of this error to itself, so its words are all there is to go by; a test holds them.
fn is_oversize(error: &wasmtime::Error) -> bool {
    error.chain().any(|cause| cause.to_string().contains("fuel allocated for hostcalls has been exhausted"))
}
