//! The shelf: the folder `HOME/blobs/` and the files in it.
//!
//! A whole blob is `HASH` and its tree `HASH.tree`; one of which some is here is `HASH.part`,
//! `HASH.tree.part` and `HASH.map`; `HASH.for` names the topics for whose sake it is here, so that what
//! a law no longer allows here can be told and removed. A blob is written beside its place, made
//! durable and renamed: it is whole or it is not there.

use super::files::{Files, sync_folder, write_at};
use super::part::Part;
use super::tree::{self, PAIR_BYTES, Shape};
use super::{BLOB_BYTES_MAX, BlobHash};
use crate::clock;
use crate::home::Home;
use crate::store::free_bytes;
use aquifer_protocol::TopicId;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// What begins the name of a file that is on its way in.
const INTAKE: &str = "intake-";
/// After so many bytes taken in, the disk is looked at again.
const LOOK_EVERY_BYTES: u64 = 64 << 20;
/// The most topics for whose sake one blob is here.
const TOPICS_PER_BLOB_MAX: usize = 64;

/// The blobs of a home.
#[derive(Debug)]
pub(crate) struct Shelf {
    folder: PathBuf,
    reserve_bytes: u64,
    /// Blobs that are in somebody's hands: they are not removed.
    held: Mutex<BTreeMap<BlobHash, usize>>,
}

/// Where the files of one blob are.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) data: PathBuf,
    pub(crate) tree: PathBuf,
    pub(crate) part: PathBuf,
    pub(crate) tree_part: PathBuf,
    pub(crate) map: PathBuf,
    topics: PathBuf,
}

/// What there is of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Its name.
    pub(crate) name: BlobHash,
    /// How many bytes it has: none if it is not whole.
    pub(crate) bytes: Option<u64>,
}

/// What a check of a whole blob found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    /// How long it is, in bytes.
    pub(crate) bytes: u64,
    /// How many of its bytes are not those of its name.
    pub(crate) damaged_bytes: u64,
}

/// Why a blob could not be taken in or kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepBlob {
    /// It is longer than any may be.
    #[error("it has {bytes} bytes; the limit is {BLOB_BYTES_MAX}")]
    TooLong {
        /// Its length, bytes.
        bytes: u64,
    },
    /// The disk has too little room beside the reserve.
    #[error("{needed} bytes are needed; {free} are free on the disk, {reserve} of them a reserve")]
    NoRoom {
        /// Bytes still to be written.
        needed: u64,
        /// Bytes free.
        free: u64,
        /// Bytes that must stay free.
        reserve: u64,
    },
    /// It is longer or shorter than was said: a file changed while it was read, or a stream broke off.
    #[error("it is longer or shorter than was said when it began to be read")]
    Changed,
    /// Whoever asked for it has gone.
    #[error("it was called off")]
    CalledOff,
    /// The file system failed.
    #[error("the file system failed")]
    Io(#[from] io::Error),
}

/// A blob that is not removed for as long as this lives.
#[derive(Debug)]
pub(crate) struct Hold {
    shelf: Arc<Shelf>,
    /// The blob's name.
    pub(crate) name: BlobHash,
}

impl Names {
    /// Of the blob `name` in `folder`.
    pub(crate) fn of(folder: &Path, name: &BlobHash) -> Self {
        let at = |end: &str| folder.join(format!("{name}{end}"));
        Self {
            data: at(""),
            tree: at(".tree"),
            part: at(".part"),
            tree_part: at(".tree.part"),
            map: at(".map"),
            topics: at(".for"),
        }
    }

    fn all(&self) -> [&PathBuf; 6] {
        // What makes a blob count goes first.
        let Self {
            data,
            tree,
            part,
            tree_part,
            map,
            topics,
        } = self;
        [data, part, map, tree, tree_part, topics]
    }
}

impl Shelf {
    /// The shelf of `home`, on a disk of which `reserve_bytes` are to stay free. What a crash left
    /// half taken in is removed.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn open(home: &Home, reserve_bytes: u64) -> io::Result<Self> {
        let folder = home.file("blobs");
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&folder)?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(INTAKE) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Self {
            folder,
            reserve_bytes,
            held: Mutex::default(),
        })
    }

    /// How long a blob is, if it is here and whole.
    pub(crate) fn bytes_of(&self, name: &BlobHash) -> Option<u64> {
        let names = self.names(name);
        let found = fs::metadata(&names.data).ok()?;
        names.tree.exists().then_some(found.len())
    }

    /// Where a whole blob lies.
    pub(crate) fn path_of(&self, name: &BlobHash) -> PathBuf {
        self.names(name).data
    }

    /// A whole blob, to read.
    ///
    /// # Errors
    /// `NotFound` if it is not here, or whatever else keeps it from being read.
    pub(crate) fn read(&self, name: &BlobHash) -> io::Result<(Shape, Files)> {
        let names = self.names(name);
        let files = Files {
            data: File::open(&names.data)?,
            tree: File::open(&names.tree)?,
        };
        Ok((Shape::of(files.data.metadata()?.len()), files))
    }

    /// Every blob of which there is something here.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn list(&self) -> io::Result<Vec<Kept>> {
        let mut found = BTreeSet::new();
        for entry in fs::read_dir(&self.folder)? {
            let file = entry?.file_name();
            let file = file.to_string_lossy();
            let stem = file.split('.').next().unwrap_or_default();
            found.extend(BlobHash::parse(stem));
        }
        Ok(found
            .into_iter()
            .map(|name| Kept {
                name,
                bytes: self.bytes_of(&name),
            })
            .collect())
    }

    /// Notes that a blob is, or will be, here for the sake of `topic`.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn note_topic(&self, name: &BlobHash, topic: TopicId) -> io::Result<()> {
        let mut topics = self.topics_of(name)?;
        if !topics.insert(topic) || topics.len() > TOPICS_PER_BLOB_MAX {
            return Ok(());
        }
        let lines: Vec<String> = topics
            .iter()
            .map(|topic| data_encoding::HEXLOWER.encode(topic.as_bytes()))
            .collect();
        let path = self.names(name).topics;
        let beside = path.with_extension("for.new");
        let mut file = create(&beside)?;
        file.write_all(lines.join("\n").as_bytes())?;
        file.sync_all()?;
        fs::rename(beside, path)
    }

    /// The topics for whose sake a blob is here.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn topics_of(&self, name: &BlobHash) -> io::Result<BTreeSet<TopicId>> {
        let file = match File::open(self.names(name).topics) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(error) => return Err(error),
        };
        let mut text = String::new();
        file.take(TOPICS_PER_BLOB_MAX as u64 * 65)
            .read_to_string(&mut text)?;
        let topic = |line: &str| {
            let bytes = data_encoding::HEXLOWER.decode(line.as_bytes()).ok()?;
            Some(TopicId(bytes.try_into().ok()?))
        };
        Ok(text.lines().filter_map(topic).collect())
    }

    /// Begins a blob, or goes on with it.
    ///
    /// # Errors
    /// [`KeepBlob`].
    pub(crate) fn part(&self, name: BlobHash, bytes: u64) -> Result<Part, KeepBlob> {
        if bytes > BLOB_BYTES_MAX {
            return Err(KeepBlob::TooLong { bytes });
        }
        let part = Part::open(&self.folder, name, bytes)?;
        self.expect_room(bytes - part.have_bytes())?;
        Ok(part)
    }

    /// Whether `needed` more bytes fit on the disk, and the reserve stays free.
    ///
    /// # Errors
    /// [`KeepBlob::NoRoom`].
    pub(crate) fn expect_room(&self, needed: u64) -> Result<(), KeepBlob> {
        let reserve = self.reserve_bytes;
        match free_bytes(&self.folder) {
            Some(free) if free < needed.saturating_add(reserve) => Err(KeepBlob::NoRoom {
                needed,
                free,
                reserve,
            }),
            _ => Ok(()),
        }
    }

    /// A file beside the blobs, for bytes whose length is not known yet. A crash removes it.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn spool(&self) -> io::Result<(PathBuf, File)> {
        let drawn = data_encoding::HEXLOWER.encode(&clock::entropy::<8>());
        let path = self.folder.join(format!("{INTAKE}{drawn}"));
        let file = create(&path)?;
        Ok((path, file))
    }

    /// Copies what `from` holds to the shelf and hashes it on the way; its first `bytes` bytes are the
    /// blob. `seen` is told how many are done, and ends it by saying no.
    ///
    /// # Errors
    /// [`KeepBlob`]; nothing is left of it then.
    pub(crate) fn take_in(
        self: &Arc<Self>,
        mut from: impl Read,
        bytes: u64,
        topic: TopicId,
        seen: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Hold, KeepBlob> {
        if bytes > BLOB_BYTES_MAX {
            return Err(KeepBlob::TooLong { bytes });
        }
        let shape = Shape::of(bytes);
        self.expect_room(bytes.saturating_add(shape.tree_bytes()))?;
        let (data_path, data) = self.spool()?;
        let (tree_path, tree) = self.spool()?;
        let files = Files { data, tree };
        let done = self.copy(&mut from, shape, &files, seen).and_then(|name| {
            files.data.sync_all()?;
            files.tree.sync_all()?;
            // Held before it is there: nobody names it yet.
            let hold = self.hold(name);
            self.put(&name, topic, &data_path, &tree_path)?;
            Ok(hold)
        });
        if done.is_err() {
            // A crash would leave them too; the next start removes them.
            let _ = fs::remove_file(&data_path);
            let _ = fs::remove_file(&tree_path);
        }
        done
    }

    fn copy(
        &self,
        from: &mut impl Read,
        shape: Shape,
        files: &Files,
        seen: &mut dyn FnMut(u64) -> bool,
    ) -> Result<BlobHash, KeepBlob> {
        let (mut done, mut stopped) = (0, None);
        let mut read = |block: &mut [u8]| {
            from.read_exact(block).inspect_err(|error| {
                if error.kind() == io::ErrorKind::UnexpectedEof {
                    stopped = Some(KeepBlob::Changed);
                }
            })?;
            write_at(&files.data, done, block)?;
            let before = done / LOOK_EVERY_BYTES;
            done += block.len() as u64;
            let room = match done / LOOK_EVERY_BYTES > before {
                true => self.expect_room(shape.bytes() - done),
                false => Ok(()),
            };
            stopped = match room {
                Err(full) => Some(full),
                Ok(()) if !seen(done) => Some(KeepBlob::CalledOff),
                Ok(()) => return Ok(()),
            };
            Err(io::ErrorKind::Interrupted.into())
        };
        let mut put = |place: u64, pairs: &[u8]| write_at(&files.tree, place * PAIR_BYTES, pairs);
        let built = tree::build(shape, &mut read, &mut put);
        if let Some(why) = stopped {
            return Err(why);
        }
        let name = built?;
        // One byte more would be another blob.
        match from.read(&mut [0])? {
            0 => Ok(name),
            _ => Err(KeepBlob::Changed),
        }
    }

    fn put(&self, name: &BlobHash, topic: TopicId, data: &Path, tree: &Path) -> io::Result<()> {
        let names = self.names(name);
        self.note_topic(name, topic)?;
        fs::rename(tree, &names.tree)?;
        fs::rename(data, &names.data)?;
        for leftover in [&names.part, &names.tree_part, &names.map] {
            remove(leftover)?;
        }
        sync_folder(&self.folder)
    }

    /// Reads a whole blob and proves every byte. `seen` is told how many are done. If some are
    /// damaged, the blob is a part from now on, of which those are missing.
    ///
    /// # Errors
    /// The file system's; `NotFound` if it is not here.
    pub(crate) fn check(
        &self,
        name: &BlobHash,
        bytes: u64,
        seen: &mut dyn FnMut(u64),
    ) -> io::Result<Checked> {
        let (_, files) = self.read(name)?;
        let shape = Shape::of(bytes);
        let claimed = super::bits::Bits::all(shape.groups());
        let mut done = 0;
        let good = tree::check(name, shape, &claimed, &files, &mut |more| {
            done += more;
            seen(done);
        });
        let is_whole = good == claimed && files.data.metadata()?.len() == bytes;
        if is_whole {
            let damaged_bytes = 0;
            return Ok(Checked {
                bytes,
                damaged_bytes,
            });
        }
        let names = self.names(name);
        let map = create(&names.map)?;
        write_at(&map, 0, good.as_bytes())?;
        map.sync_all()?;
        fs::rename(&names.data, &names.part)?;
        fs::rename(&names.tree, &names.tree_part)?;
        sync_folder(&self.folder)?;
        let lost = (0..shape.groups()).filter(|group| !good.has(*group));
        let lost = lost.map(|group| {
            let span = shape.span(&(group..group + 1));
            span.end - span.start
        });
        Ok(Checked {
            bytes,
            damaged_bytes: lost.sum(),
        })
    }

    /// Keeps a blob from being removed.
    pub(crate) fn hold(self: &Arc<Self>, name: BlobHash) -> Hold {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        *held.entry(name).or_default() += 1;
        let shelf = self.clone();
        Hold { shelf, name }
    }

    /// Removes all that is here of a blob, unless somebody holds it. How many bytes it freed, as far as
    /// its files were long.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn remove(&self, name: &BlobHash) -> io::Result<u64> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.contains_key(name) {
            return Ok(0);
        }
        let names = self.names(name);
        let len = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
        let freed = len(&names.data).max(len(&names.part)) + len(&names.tree);
        for path in names.all() {
            remove(path)?;
        }
        sync_folder(&self.folder)?;
        drop(held);
        Ok(freed)
    }

    fn names(&self, name: &BlobHash) -> Names {
        Names::of(&self.folder, name)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self
            .shelf
            .held
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.name);
            }
        }
    }
}

/// A new file that only its owner may read.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
