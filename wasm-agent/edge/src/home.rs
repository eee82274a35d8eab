//! A device's home: the folder that holds everything it owns.
//!
//! The folder is 0700. Files are written beside their place, synced and renamed into it, so losing power
//! leaves the old one or the new one. One process at a time: a lock file says who.

use crate::problem::Problem;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// Where a device keeps what it owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    path: PathBuf,
}

/// Held for as long as the device runs.
#[derive(Debug)]
pub struct HomeLock {
    _file: File,
}

impl Home {
    /// This folder.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file of it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes the folder if it is missing; only its owner may enter.
    ///
    /// # Errors
    /// `io`.
    pub fn create(&self) -> Result<(), Problem> {
        let trouble = |why: io::Error| self.trouble("make the home folder", &why);
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(&self.path).map_err(trouble)
    }

    /// Takes the home for this process.
    ///
    /// # Errors
    /// `home_locked` if another process has it; `io`.
    pub fn lock(&self) -> Result<HomeLock, Problem> {
        let mut options = OpenOptions::new();
        let options = options.create(true).truncate(false).read(true).write(true);
        let file = options.open(self.file("lock"));
        let file = file.map_err(|why| self.trouble("open the lock file", &why))?;
        match file.try_lock() {
            Ok(()) => Ok(HomeLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Problem::new(
                "home_locked",
                1,
                format!("another aquifer-edge runs on {}", self.path.display()),
                "stop it, or give this one a home of its own with --home",
            )),
            Err(TryLockError::Error(why)) => Err(self.trouble("lock the home folder", &why)),
        }
    }

    /// Whether a process has it.
    pub fn is_locked(&self) -> bool {
        self.path.exists()
            && self
                .lock()
                .is_err_and(|problem| problem.code == "home_locked")
    }

    /// Reads a file of at most `max` bytes; none if it is not there.
    ///
    /// # Errors
    /// `io`.
    pub fn read(&self, name: &str, max: u64) -> Result<Option<Vec<u8>>, Problem> {
        let file = match File::open(self.file(name)) {
            Ok(file) => file,
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(why) => return Err(self.trouble(&format!("open {name}"), &why)),
        };
        let mut bytes = Vec::new();
        let read = file.take(max).read_to_end(&mut bytes);
        read.map_err(|why| self.trouble(&format!("read {name}"), &why))?;
        Ok(Some(bytes))
    }

    /// Writes a file that only its owner may read, durably, all or nothing.
    ///
    /// # Errors
    /// `io`.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Problem> {
        let write = || -> io::Result<()> {
            let beside = self.file(&format!("{name}.new"));
            let mut options = OpenOptions::new();
            options.create(true).truncate(true).write(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut file = options.open(&beside)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&beside, self.file(name))?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|why| self.trouble(&format!("write {name}"), &why))
    }

    fn trouble(&self, doing: &str, why: &io::Error) -> Problem {
        Problem::system(format!("{doing} in {}", self.path.display()), why)
    }
}
