//! A node's home: the folder that holds everything it owns.
//!
//! The folder is 0700 and every secret in it 0600. Files are written beside their place and renamed
//! into it after an fsync, so a crash leaves the old one or the new one. One process at a time: a
//! lock file says who.

use crate::api::Problem;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// Where a node keeps what it owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    path: PathBuf,
}

/// Held for as long as the node runs.
#[derive(Debug)]
pub struct HomeLock {
    _file: File,
}

impl Home {
    /// The folder given, else `AQUIFER_HOME`, else `$XDG_DATA_HOME/aquifer`, else
    /// `~/.local/share/aquifer`.
    pub fn at(path: Option<PathBuf>) -> Self {
        let set = |name: &str| {
            std::env::var_os(name)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        };
        let path = path
            .or_else(|| set("AQUIFER_HOME"))
            .or_else(|| set("XDG_DATA_HOME").map(|data| data.join("aquifer")))
            .or_else(|| set("HOME").map(|home| home.join(".local/share/aquifer")))
            .unwrap_or_else(|| PathBuf::from(".aquifer"));
        Self { path }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The Unix socket of the running daemon. Socket paths are short (108 bytes on Linux), so a
    /// deep home has its socket in the temporary folder, named by the home.
    pub fn socket(&self) -> PathBuf {
        let near = self.path.join("aquifer.sock");
        if near.as_os_str().len() < 100 {
            return near;
        }
        let name = aquifer_protocol::identity::digest(
            "aquifer/socket/1",
            &[self.path.as_os_str().as_encoded_bytes()],
        );
        let name: String = name
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        std::env::temp_dir()
            .join(format!("aquifer-{name}"))
            .join("aquifer.sock")
    }

    /// The token of the HTTP API.
    pub fn token_file(&self) -> PathBuf {
        self.path.join("api.token")
    }

    /// The address that the running daemon serves.
    pub fn api_file(&self) -> PathBuf {
        self.path.join("api.addr")
    }

    /// The log of a detached daemon.
    pub fn log_file(&self) -> PathBuf {
        self.path.join("aquifer.log")
    }

    /// A file of the home.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes the folder if it is missing, and checks that only its owner may enter.
    pub fn create(&self) -> Result<(), Problem> {
        create_private(&self.path).map_err(|e| self.trouble("make the home folder", &e))?;
        if let Some(folder) = self.socket().parent() {
            create_private(folder).map_err(|e| self.trouble("make the socket's folder", &e))?;
        }
        Ok(())
    }

    /// Takes the home for this process.
    pub fn lock(&self) -> Result<HomeLock, Problem> {
        let path = self.file("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|e| self.trouble("open the lock file", &e))?;
        match file.try_lock() {
            Ok(()) => Ok(HomeLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Problem::new(
                "home_locked",
                1,
                format!("another node is running on {}", self.path.display()),
                "stop it with `aquifer down`, or give this one a home of its own with --home",
            )),
            Err(TryLockError::Error(e)) => Err(self.trouble("lock the home folder", &e)),
        }
    }

    /// Reads a file of at most `max` bytes; none if it is not there.
    pub fn read(&self, name: &str, max: u64) -> Result<Option<Vec<u8>>, Problem> {
        let file = match File::open(self.file(name)) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(self.trouble(&format!("open {name}"), &e)),
        };
        let mut bytes = Vec::new();
        file.take(max)
            .read_to_end(&mut bytes)
            .map_err(|e| self.trouble(&format!("read {name}"), &e))?;
        Ok(Some(bytes))
    }

    /// Writes a file that only its owner may read, durably, all or nothing.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Problem> {
        write_private(&self.file(name), bytes)
            .map_err(|e| self.trouble(&format!("write {name}"), &e))
    }

    /// A problem with a file of this home.
    pub fn trouble(&self, what: &str, error: &io::Error) -> Problem {
        let home = self.path.display();
        let full = error.kind() == io::ErrorKind::StorageFull;
        let hint = if full {
            "make room on the disk"
        } else {
            "check the folder's owner and permissions"
        };
        Problem::new(
            "home_unusable",
            1,
            format!("cannot {what} in {home}: {error}"),
            hint,
        )
    }
}

fn create_private(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        create_private(folder)?;
    }
    let beside = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    #[cfg(unix)]
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_the_owners_only_and_a_home_has_one_node() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = Home::at(Some(folder.path().join("deep/home")));
        home.create().expect("made");
        home.write("secret", b"s").expect("written");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode =
                |path: PathBuf| fs::metadata(path).expect("there").permissions().mode() & 0o777;
            assert_eq!(mode(home.file("secret")), 0o600);
            assert_eq!(mode(home.path().to_owned()), 0o700);
        }
        let held = home.lock().expect("free");
        let refused = home.lock().expect_err("held");
        assert_eq!(refused.code, "home_locked");
        drop(held);
        home.lock().expect("free again");
        assert_eq!(home.read("absent", 9).expect("no trouble"), None);
    }
}
