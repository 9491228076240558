//! Who this host is: a key pair and a self-signed certificate, made once and kept in the state folder.
//!
//! **Invariants.** A host is its certificate: its [`HostKey`] is the SHA-256 of the certificate's DER. The file appears
//! whole or not at all, and two processes that make it at once end with the same one. Only its owner can read it.

use bps_wire::HostKey;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ED25519};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Its file in the state folder: the certificate and its key, PEM.
pub const IDENTITY_FILE: &str = "identity.pem";
/// Ours has about 700 bytes; a file that is much larger is a wrong path.
const IDENTITY_BYTES_MAX: u64 = 64 << 10;

/// Why this host has no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read or written.
    #[error("the identity {}: cannot {what}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// Others can read the key.
    #[error("others can read the identity {p}; run: chmod 600 {p}", p = path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// It is not what this program wrote.
    #[error(
        "the identity {} is damaged: {what}; restore it, or remove it and pair this host anew",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// No key pair or certificate came about.
    #[error("cannot make an identity: {0}")]
    Make(#[from] rcgen::Error),
}

/// This host's key pair and certificate. Cloning it is cheap.
#[derive(Clone)]
pub struct Identity {
    key: HostKey,
    certified: Arc<CertifiedKey>,
}

impl Identity {
    /// The identity in `state_dir`; one is made, with the folder, where there is none.
    ///
    /// # Errors
    /// Where the file cannot be read or written, is readable by others, or is damaged; each names the file.
    pub fn load_or_make(state_dir: &Path) -> Result<Self, IdentityError> {
        let path = state_dir.join(IDENTITY_FILE);
        // A pipe would be waited at for ever.
        if std::fs::metadata(&path).is_ok_and(|known| !known.is_file()) {
            return Err(io_error(&path, "read it", std::io::Error::other("is not a plain file")));
        }
        match File::open(&path) {
            Ok(file) => Self::load(file, &path),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                make(state_dir, &path)?;
                let file = File::open(&path).map_err(|source| io_error(&path, "read it", source))?;
                Self::load(file, &path)
            }
            Err(source) => Err(io_error(&path, "read it", source)),
        }
    }

    /// Who this host is.
    pub fn key(&self) -> HostKey {
        self.key
    }

    /// What TLS signs with.
    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        self.certified.clone()
    }

    fn load(file: File, path: &Path) -> Result<Self, IdentityError> {
        #[cfg(unix)]
        {
            let metadata = file.metadata().map_err(|source| io_error(path, "read it", source))?;
            if std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o077 != 0 {
                return Err(IdentityError::Exposed { path: path.to_owned() });
            }
        }
        let mut pem = Vec::new();
        file.take(IDENTITY_BYTES_MAX + 1).read_to_end(&mut pem).map_err(|source| io_error(path, "read it", source))?;
        let damaged = |what: String| IdentityError::Damaged { path: path.to_owned(), what };
        if pem.len() as u64 > IDENTITY_BYTES_MAX {
            return Err(damaged(format!("more than {IDENTITY_BYTES_MAX} bytes")));
        }
        let certificate = CertificateDer::from_pem_slice(&pem).map_err(|e| damaged(format!("no certificate ({e})")))?;
        let private = PrivateKeyDer::from_pem_slice(&pem).map_err(|e| damaged(format!("no private key ({e})")))?;
        let key = key_of(&certificate);
        // Also refuses a key that does not belong to the certificate.
        let certified = CertifiedKey::from_der(vec![certificate], private, &rustls::crypto::ring::default_provider())
            .map_err(|e| damaged(e.to_string()))?;
        Ok(Self { key, certified: Arc::new(certified) })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("key", &self.key).finish_non_exhaustive()
    }
}

/// Who shows this certificate.
pub(crate) fn key_of(certificate: &CertificateDer<'_>) -> HostKey {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    let mut key = [0; 32];
    key.copy_from_slice(digest.as_ref());
    HostKey(key)
}

/// A host's fingerprint as people compare it: eight groups of eight hex digits.
pub fn fingerprint(key: &HostKey) -> String {
    key.0.chunks(4).map(bps_types::hex).collect::<Vec<_>>().join(" ")
}

/// Writes a new identity to `path`, unless another process was faster.
fn make(state_dir: &Path, path: &Path) -> Result<(), IdentityError> {
    let pair = KeyPair::generate_for(&PKCS_ED25519)?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "bps host");
    let certificate = params.self_signed(&pair)?;
    let failed = |what| move |source| io_error(path, what, source);
    make_folder(state_dir).map_err(failed("make its folder"))?;
    // A temporary file is its owner's only (0600) from the start.
    let mut file = tempfile::NamedTempFile::new_in(state_dir).map_err(failed("write it"))?;
    write!(file, "{}{}", certificate.pem(), pair.serialize_pem()).map_err(failed("write it"))?;
    file.as_file().sync_all().map_err(failed("write it"))?;
    match file.persist_noclobber(path) {
        Ok(_) => sync_folder(state_dir).map_err(failed("write its folder")),
        // Another process made one in this moment: that one counts.
        Err(e) if e.error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(io_error(path, "write it", e.error)),
    }
}

/// Makes the state folder, for this user only.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Makes a rename in `folder` survive a power cut, where the system can do that.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

fn io_error(path: &Path, what: &'static str, source: io::Error) -> IdentityError {
    IdentityError::Io { path: path.to_owned(), what, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("a/b");
        let first = Identity::load_or_make(&state).unwrap();
        let second = Identity::load_or_make(&state).unwrap();
        assert_eq!(first.key(), second.key());
        let other = Identity::load_or_make(&dir.path().join("c")).unwrap();
        assert_ne!(first.key(), other.key());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&state), mode(&state.join(IDENTITY_FILE))), (0o700, 0o600));
        }
    }

    #[test]
    fn processes_that_make_it_at_once_end_with_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let keys: Vec<HostKey> = std::thread::scope(|scope| {
            let start = || Identity::load_or_make(dir.path()).unwrap().key();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|k| *k == keys[0]), "{keys:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left behind");
    }

    #[cfg(unix)]
    #[test]
    fn one_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        Identity::load_or_make(dir.path()).unwrap();
        fs::set_permissions(dir.path().join(IDENTITY_FILE), fs::Permissions::from_mode(0o640)).unwrap();
        let error = Identity::load_or_make(dir.path()).unwrap_err().to_string();
        assert!(error.contains("chmod 600") && error.contains(IDENTITY_FILE), "{error}");
    }

    #[test]
    fn a_damaged_one_is_named_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        Identity::load_or_make(dir.path()).unwrap();
        let path = dir.path().join(IDENTITY_FILE);
        let whole = fs::read_to_string(&path).unwrap();
        let cut = whole.find("-----BEGIN PRIVATE").unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        Identity::load_or_make(elsewhere.path()).unwrap();
        let other = fs::read_to_string(elsewhere.path().join(IDENTITY_FILE)).unwrap();
        let swapped = format!("{}{}", &whole[..cut], &other[other.find("-----BEGIN PRIVATE").unwrap()..]);
        for (content, what) in [
            (String::new(), "no certificate"),
            (whole[..cut].to_owned(), "no private key"),
            (whole[cut..].to_owned(), "no certificate"),
            (swapped, "damaged"),
            ("x".repeat(70_000), "more than"),
        ] {
            fs::write(&path, &content).unwrap();
            let error = Identity::load_or_make(dir.path()).unwrap_err().to_string();
            assert!(error.contains(what) && error.contains(IDENTITY_FILE), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
    }

    #[test]
    fn a_fingerprint_is_readable() {
        let mut key = [0; 32];
        (0..32).for_each(|i| key[usize::from(i)] = i);
        let text = fingerprint(&HostKey(key));
        assert_eq!(text, "00010203 04050607 08090a0b 0c0d0e0f 10111213 14151617 18191a1b 1c1d1e1f");
    }
}
