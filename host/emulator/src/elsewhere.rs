//! The same names on systems without network namespaces: nothing can be made, so that callers take the proxy.

use crate::conditions::Conditions;
use crate::pipe::Counts;
use std::net::Ipv4Addr;

/// Why there is no emulated network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Only Linux has network namespaces.
    #[error("network namespaces exist on Linux only")]
    NotPermitted,
    /// Never said here.
    #[error("the program `ip` is missing (package iproute2)")]
    NoIp,
}

/// Cannot be had here.
#[derive(Debug)]
pub enum Place {}

impl Place {
    /// # Errors
    /// Always.
    pub fn make(_role: &str) -> Result<Self, NetworkError> {
        Err(NetworkError::NotPermitted)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match *self {}
    }

    /// A way in.
    pub fn door(&self) -> Door {
        match *self {}
    }
}

/// Cannot be had here.
#[derive(Clone, Debug)]
pub enum Door {}

impl Door {
    /// # Errors
    /// Cannot be called.
    pub fn enter(&self) -> Result<(), NetworkError> {
        match *self {}
    }
}

/// Cannot be had here.
#[derive(Debug)]
pub enum TunLink {}

impl TunLink {
    /// # Errors
    /// Cannot be called.
    pub fn start(weak: &Place, _strong: &Place, _subnet: u8, _conditions: Conditions) -> Result<Self, NetworkError> {
        match *weak {}
    }

    /// The strong host's address.
    pub fn strong_address(&self) -> Ipv4Addr {
        match *self {}
    }

    /// The weak host's address now.
    pub fn weak_address(&self) -> Ipv4Addr {
        match *self {}
    }

    /// Both directions are like this from now on.
    pub fn set(&self, _conditions: Conditions) {
        match *self {}
    }

    /// # Errors
    /// Cannot be called.
    pub fn roam(&self) -> Result<(), NetworkError> {
        match *self {}
    }

    /// What became of the packets so far.
    pub fn counts(&self) -> [Counts; 2] {
        match *self {}
    }
}

/// Nothing is left over where nothing can be made.
///
/// # Errors
/// Never.
pub fn remove_leftovers() -> Result<Vec<String>, NetworkError> {
    Ok(Vec::new())
}

/// # Errors
/// Always.
pub fn pin(_core: usize) -> Result<(), NetworkError> {
    Err(NetworkError::NotPermitted)
}

/// None: threads cannot be kept to them.
pub fn cores() -> Vec<usize> {
    Vec::new()
}
