//! Bearer tokens: made, kept and compared without giving them away.

use crate::ApiError;
use rustls::crypto::SecureRandom;
use sha2::{Digest, Sha256};
use std::fmt;

/// Shorter tokens are refused: they can be guessed.
const TOKEN_CHARS_MIN: usize = 8;

/// A token that callers must show. Only its digest is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

impl Secret {
    /// From the token's text; white space around it (a file's last newline) does not count.
    pub fn new(token: &str) -> Result<Self, ApiError> {
        let token = token.trim();
        if token.len() < TOKEN_CHARS_MIN || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(ApiError::Token { min: TOKEN_CHARS_MIN, got: token.chars().count() });
        }
        Ok(Self(Sha256::digest(token).into()))
    }

    /// Whether `token` is it. Digests are compared, so that the time it takes says nothing about how much was right.
    pub fn matches(&self, token: &[u8]) -> bool {
        let digest: [u8; 32] = Sha256::digest(token).into();
        digest == self.0
    }

    /// Whether these headers hold `Authorization: Bearer <token>`.
    pub(crate) fn is_in(&self, headers: &axum::http::HeaderMap) -> bool {
        let value = headers.get(axum::http::header::AUTHORIZATION).map(|v| v.as_bytes());
        let token = value.and_then(|v| v.split_at_checked(7)).filter(|(s, _)| s.eq_ignore_ascii_case(b"bearer "));
        token.is_some_and(|(_, token)| self.matches(token.trim_ascii()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A new random token: 256 bits in hex.
pub fn new_token() -> Result<String, ApiError> {
    let mut bytes = [0; 32];
    let random: &dyn SecureRandom = rustls::crypto::ring::default_provider().secure_random;
    random.fill(&mut bytes).map_err(|_| ApiError::Random)?;
    Ok(bps_types::hex(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderMap, HeaderValue, header::AUTHORIZATION};

    #[test]
    fn only_the_token_matches() {
        let token = new_token().unwrap();
        assert_eq!(token.len(), 64);
        assert_ne!(token, new_token().unwrap());
        let secret = Secret::new(&format!("{token}\n")).unwrap();
        let table = [
            (format!("Bearer {token}"), true),
            (format!("bearer  {token} "), true),
            (format!("Bearer {}", &token[1..]), false),
            (format!("Basic {token}"), false),
            (token, false),
            ("Bearer ".into(), false),
            (String::new(), false),
        ];
        assert!(!secret.is_in(&HeaderMap::new()));
        for (value, expected) in table {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(&value).unwrap())]);
            assert_eq!(secret.is_in(&headers), expected, "{value}");
        }
    }

    #[test]
    fn what_protects_nothing_is_refused() {
        for token in ["", "  \n", "short", "two words", "tökentöken"] {
            assert!(Secret::new(token).is_err(), "{token:?}");
        }
        assert_eq!(format!("{:?}", Secret::new("12345678").unwrap()), "Secret(..)");
    }
}
