//! How far an import has come: a file of one line, named by the hash of what is imported.
//!
//! The hash is BLAKE3 of the file's bytes and the topic, so that a changed file, or the same one for
//! another topic, starts at its beginning.

use crate::api::Problem;
use crate::home::Home;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read, Seek};
use std::path::PathBuf;

/// A place in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Bytes before it.
    pub(super) bytes: u64,
    /// Lines before it.
    pub(super) lines: u64,
}

impl Place {
    /// The place before a line of `length` bytes that ends here.
    pub(super) fn before(self, length: usize) -> Self {
        Self {
            bytes: self.bytes - length as u64,
            lines: self.lines - 1,
        }
    }
}

/// Where the progress of one import is kept.
#[derive(Debug)]
pub(super) struct Progress {
    path: PathBuf,
}

impl Progress {
    /// Of an import of `file` into `topic`. The file is read once.
    ///
    /// # Errors
    /// `unreadable`; `home_unusable` when the folder cannot be made.
    pub(super) fn of(home: &Home, file: &mut File, topic: Option<&str>) -> Result<Self, Problem> {
        let unreadable = |cause: std::io::Error| {
            Problem::new(
                "unreadable",
                1,
                format!("cannot read the file: {cause}"),
                "",
            )
        };
        let mut hasher = blake3::Hasher::new();
        hasher.update(topic.unwrap_or_default().as_bytes());
        hasher.update(&[0]);
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let count = file.read(&mut buffer).map_err(unreadable)?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
        }
        file.rewind().map_err(unreadable)?;
        let folder = home.path().join("imports");
        std::fs::create_dir_all(&folder).map_err(|cause| unusable(&cause))?;
        Ok(Self {
            path: folder.join(format!("{}.progress", hasher.finalize().to_hex())),
        })
    }

    /// The place noted last; the beginning if there is none that can be read.
    pub(super) fn read(&self) -> Place {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Notes a place, all or nothing. It need not be durable: going back is harmless.
    pub(super) fn write(&self, place: Place) -> Result<(), Problem> {
        let beside = self.path.with_extension("new");
        let text = serde_json::to_string(&place).expect("two numbers are JSON");
        std::fs::write(&beside, text)
            .and_then(|()| std::fs::rename(&beside, &self.path))
            .map_err(|cause| unusable(&cause))
    }

    /// Forgets the place: the import is complete.
    pub(super) fn remove(&self) {
        // A file that stays makes the next import of the same bytes short; nothing is lost.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn unusable(cause: &std::io::Error) -> Problem {
    let message = format!("cannot note the import's progress in the home: {cause}");
    Problem::new(
        "home_unusable",
        1,
        message,
        "check the folder's owner and permissions",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn progress_belongs_to_one_content_and_one_topic() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = Home::at(Some(folder.path().to_owned()));
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"one\ntwo\n").expect("written");
        file.rewind().expect("rewound");
        let progress = Progress::of(&home, &mut file, Some("a")).expect("readable");
        assert_eq!(progress.read(), Place::default());
        let place = Place { bytes: 8, lines: 2 };
        progress.write(place).expect("noted");

        let again = Progress::of(&home, &mut file, Some("a")).expect("readable");
        assert_eq!(again.read(), place);
        let other = Progress::of(&home, &mut file, Some("b")).expect("readable");
        assert_eq!(
            other.read(),
            Place::default(),
            "another topic starts at the beginning"
        );
        again.remove();
        assert_eq!(progress.read(), Place::default());
        assert_eq!(place.before(4), Place { bytes: 4, lines: 1 });
    }
}
