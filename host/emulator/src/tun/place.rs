//! Network namespaces: places with interfaces and addresses of their own.

use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// Where `ip` keeps namespaces that have a name.
const FOLDER: &str = "/run/netns";
/// What names of ours begin with; the process that made them is at the end.
const PREFIX: &str = "bps-";

/// Why there is no emulated network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Only root may.
    #[error("making network namespaces and devices needs root (CAP_NET_ADMIN and CAP_SYS_ADMIN)")]
    NotPermitted,
    /// It is part of every distribution, but not of every container.
    #[error("the program `ip` is missing (package iproute2)")]
    NoIp,
    /// `ip` said no.
    #[error("`ip {command}` failed: {said}")]
    Ip {
        /// Its arguments.
        command: String,
        /// Its words.
        said: String,
    },
    /// The system said no.
    #[error("{what} could not be had")]
    Io {
        /// What.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// A network namespace; dropping it removes it.
#[derive(Debug)]
pub struct Place {
    name: String,
    door: Door,
}

/// A way into a network namespace; the namespace lives as long as somebody holds one, its name as long as its [`Place`].
#[derive(Clone, Debug)]
pub struct Door(Arc<File>);

impl Place {
    /// Makes the namespace `bps-ROLE-PID` of this process, with loopback up.
    ///
    /// # Errors
    /// No right to, or `ip` is missing or refuses.
    pub fn make(role: &str) -> Result<Self, NetworkError> {
        let name = format!("{PREFIX}{role}-{}", std::process::id());
        ip(&["netns", "add", &name])?;
        let opened = File::open(Path::new(FOLDER).join(&name));
        let file = opened.map_err(|source| NetworkError::Io { what: "the new namespace", source })?;
        let place = Self { name, door: Door(Arc::new(file)) };
        ip(&["-n", &place.name, "link", "set", "lo", "up"])?;
        Ok(place)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A way in.
    pub fn door(&self) -> Door {
        self.door.clone()
    }
}

impl Door {
    /// Moves the calling thread there, and with it the processes and threads that it starts from then on.
    ///
    /// # Errors
    /// No right to.
    pub fn enter(&self) -> Result<(), NetworkError> {
        setns(&self.0, CloneFlags::CLONE_NEWNET)
            .map_err(|e| NetworkError::Io { what: "entry to a network namespace", source: e.into() })
    }
}

/// Keeps the calling thread on one core, and with it the processes and threads that it starts from then on.
///
/// # Errors
/// There is no such core, or it may not be used.
pub fn pin(core: usize) -> Result<(), NetworkError> {
    let mut set = CpuSet::new();
    set.set(core)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .map_err(|e| NetworkError::Io { what: "a core of its own", source: e.into() })
}

/// The cores that the calling thread may use; empty where the system does not say.
pub fn cores() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else { return Vec::new() };
    (0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap_or(false)).collect()
}

impl Drop for Place {
    fn drop(&mut self) {
        // What cannot be removed now is a leftover that the next run removes.
        let _ = ip(&["netns", "del", &self.name]);
    }
}

/// Removes namespaces of runs that ended without doing so, and ends the processes in them. Returns their names.
///
/// # Errors
/// `ip` is missing or refuses.
pub fn remove_leftovers() -> Result<Vec<String>, NetworkError> {
    let mut removed = Vec::new();
    // No folder: no namespaces.
    for entry in fs::read_dir(FOLDER).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !is_leftover(&name, |pid| fs::read_to_string(format!("/proc/{pid}/comm")).ok()) {
            continue;
        }
        let listed = ip(&["netns", "pids", &name])?;
        for pid in listed.lines().filter_map(|l| l.trim().parse::<i32>().ok()) {
            // One that has just ended by itself is as good.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        ip(&["netns", "del", &name])?;
        removed.push(name);
    }
    Ok(removed)
}

/// Whether a namespace is ours and its process is gone. `program` says what runs under a process number.
fn is_leftover(name: &str, program: impl Fn(u32) -> Option<String>) -> bool {
    let Some((_, number)) = name.strip_prefix(PREFIX).and_then(|rest| rest.rsplit_once('-')) else { return false };
    let Ok(pid) = number.parse() else { return false };
    // The number may belong to another program by now.
    pid != std::process::id() && !program(pid).is_some_and(|p| p.starts_with("bps"))
}

/// Runs `ip`.
pub(super) fn ip(arguments: &[&str]) -> Result<String, NetworkError> {
    let output = Command::new("ip").args(arguments).output().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => NetworkError::NoIp,
        _ => NetworkError::Io { what: "the program `ip`", source },
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if said.contains("Operation not permitted") || said.contains("Permission denied") {
        return Err(NetworkError::NotPermitted);
    }
    Err(NetworkError::Ip { command: arguments.join(" "), said })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_can_be_kept_to_each_core_it_may_use() {
        let all = cores();
        assert!(!all.is_empty());
        std::thread::spawn(move || {
            for core in all {
                pin(core).unwrap();
                assert_eq!(cores(), [core]);
            }
            assert!(pin(CpuSet::count() + 1).is_err());
        })
        .join()
        .unwrap();
    }

    #[test]
    fn leftovers_are_ours_and_of_nobody_alive() {
        let running = |pid: u32| match pid {
            10 => Some("bps\n".to_owned()),
            11 => Some("bash\n".to_owned()),
            _ => None,
        };
        for (name, expected) in [
            ("bps-edge-10", false),
            ("bps-edge-11", true),
            ("bps-server-12", true),
            ("bps-edge", false),
            ("bps-edge-x", false),
            ("other-12", false),
        ] {
            assert_eq!(is_leftover(name, running), expected, "{name}");
        }
        assert!(!is_leftover(&format!("bps-edge-{}", std::process::id()), |_| None));
    }
}
