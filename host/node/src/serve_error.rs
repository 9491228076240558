//! Why a client gets no result, in words that a client can act on.

use bps_types::Nanos;

/// Why a request was not answered. [`ServeError::status`] gives the HTTP status it maps to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServeError {
    /// No such model or version is served here.
    #[error("{0}")]
    NotFound(String),
    /// The request contradicts the model or itself.
    #[error("{0}")]
    Invalid(String),
    /// Larger than this host takes.
    #[error("{what} is {got} bytes, at most {max} are taken")]
    TooLarge {
        /// What is too large.
        what: String,
        /// Bytes there are.
        got: u64,
        /// Bytes allowed.
        max: u64,
    },
    /// Not now: a queue is full, the model is loading or unloading, the host is draining.
    #[error("{0}")]
    Unavailable(String),
    /// The request's deadline passed before its result was there.
    #[error("the deadline passed: no result within {}", .0)]
    Expired(Nanos),
    /// The scheduling policy chose not to serve it.
    #[error("shed by the scheduling policy")]
    Shed,
    /// Its execution failed.
    #[error("{0}")]
    Failed(String),
    /// This host cannot do that at all.
    #[error("{0}")]
    Unsupported(String),
}

impl ServeError {
    /// The HTTP status.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Invalid(_) => 400,
            Self::NotFound(_) => 404,
            Self::TooLarge { .. } => 413,
            Self::Failed(_) => 500,
            Self::Unsupported(_) => 501,
            Self::Unavailable(_) | Self::Shed => 503,
            Self::Expired(_) => 504,
        }
    }

    /// The label of this outcome in metrics.
    pub const fn outcome(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "not-found",
            Self::Invalid(_) => "invalid",
            Self::TooLarge { .. } => "too-large",
            Self::Unavailable(_) => "refused",
            Self::Expired(_) => "expired",
            Self::Shed => "shed",
            Self::Failed(_) => "failed",
            Self::Unsupported(_) => "unsupported",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_the_protocols() {
        let all = [
            (ServeError::NotFound("x".into()), 404),
            (ServeError::Invalid("x".into()), 400),
            (ServeError::TooLarge { what: "body".into(), got: 2, max: 1 }, 413),
            (ServeError::Unavailable("x".into()), 503),
            (ServeError::Expired(Nanos::from_millis(5)), 504),
            (ServeError::Shed, 503),
            (ServeError::Failed("x".into()), 500),
            (ServeError::Unsupported("x".into()), 501),
        ];
        for (error, status) in all {
            assert_eq!(error.status(), status, "{error}");
        }
    }
}
