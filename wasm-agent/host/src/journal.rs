//! The journal: what happened, frame after frame, on disk before anybody is told.
//!
//! Frames are gathered and made durable together, as a batch: one hash and one `fdatasync` for as many as
//! there are. A batch is the length of its frames (four bytes, least first), eight bytes of a hash chained
//! over all batches before it, and the frames; a frame is its length (four bytes) and its payload. A file
//! whose last batch is torn ends at the last whole one, for nobody was told of what came after; a file
//! that is bad further up is a fault that somebody has to look at. A new file replaces the old one under
//! its name when it is whole (write, sync, rename, sync of the folder).
//!
//! Not here: what payloads say (`sleepers`, `ledger`).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// What a file begins with: what its payloads are, and in which version.
pub type Magic = [u8; 8];

const MAGIC: &Magic = b"AQAGENT2";
/// Bytes of a batch before its frames: a length and a hash,
const HEAD: usize = LEN + 8;
/// and of a frame before its payload.
const LEN: usize = 4;

/// Most bytes of a payload.
pub const PAYLOAD_MAX: usize = 1 << 20;

/// Most bytes of a batch: as much can be torn at a file's end.
const BATCH_MAX: usize = 16 << 20;

/// Room for a batch that is kept when one was larger.
const ROOM: usize = 1 << 20;

/// A journal that is written to.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    magic: &'static Magic,
    file: File,
    /// The hash of the last batch.
    chain: [u8; 8],
    /// The next batch, with room for its head. Nothing if there are no frames.
    gathered: Vec<u8>,
    /// Bytes of the file, without what is gathered.
    len: u64,
}

/// A journal cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalFailure {
    /// The system refused.
    #[error("cannot {operation} {}: {why}", path.display())]
    System {
        /// What was being done.
        operation: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system says.
        why: io::Error,
    },
    /// It is not a journal of agents.
    #[error("{} is no journal of agents, or one of another version", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
    },
    /// It is bad where it cannot have been torn.
    #[error(
        "{} is corrupt at byte {at} of {len}: restore it, or move it away and begin anew",
        path.display()
    )]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// Where the first bad batch begins.
        at: u64,
        /// How long the file is.
        len: u64,
    },
}

impl Journal {
    /// Opens a journal of sleepers, or begins one, and hands each payload of it to `visit`.
    ///
    /// # Errors
    /// If it cannot be read, or is corrupt.
    pub fn open(path: &Path, visit: impl FnMut(&[u8])) -> Result<Self, JournalFailure> {
        Self::open_of(MAGIC, path, visit)
    }

    /// The same for a journal of other payloads.
    ///
    /// # Errors
    /// If it cannot be read, is corrupt, or begins with another magic.
    pub fn open_of(
        magic: &'static Magic,
        path: &Path,
        visit: impl FnMut(&[u8]),
    ) -> Result<Self, JournalFailure> {
        let system = |operation| failed(operation, path);
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path).map_err(system("open"))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(system("read"))?;
        let len = bytes.len() as u64;
        // A head that is torn is that of a file on which nothing rests.
        if bytes.len() < magic.len() && magic.starts_with(&bytes) {
            return Self::begun(magic, path, file).map_err(system("begin"));
        }
        let (at, chain) = frames(magic, path, &bytes, visit)?;
        if bytes.len() - at > BATCH_MAX {
            return Err(corrupt(path, at, len));
        }
        let journal = Self {
            path: path.into(),
            magic,
            file,
            chain,
            gathered: Vec::new(),
            len: at as u64,
        };
        if journal.len < len {
            journal.file.set_len(journal.len).map_err(system("cut"))?;
            journal.file.sync_all().map_err(system("sync"))?;
        }
        Ok(journal)
    }

    /// Hands each payload of a journal to `visit` that was closed whole, and leaves it as it is.
    ///
    /// # Errors
    /// If it cannot be read, begins with another magic, or does not end with a whole batch.
    pub fn read(
        magic: &'static Magic,
        path: &Path,
        visit: impl FnMut(&[u8]),
    ) -> Result<(), JournalFailure> {
        let bytes = std::fs::read(path).map_err(failed("read", path))?;
        let (at, _) = frames(magic, path, &bytes, visit)?;
        match at == bytes.len() {
            true => Ok(()),
            false => Err(corrupt(path, at, bytes.len() as u64)),
        }
    }

    fn begun(magic: &'static Magic, path: &Path, mut file: File) -> io::Result<Self> {
        file.set_len(0)?;
        io::Seek::seek(&mut file, io::SeekFrom::Start(0))?;
        file.write_all(magic)?;
        file.sync_all()?;
        sync_folder(path)?;
        Ok(Self {
            path: path.into(),
            magic,
            file,
            chain: [0; 8],
            gathered: Vec::new(),
            len: magic.len() as u64,
        })
    }

    /// Gathers a frame. It is not durable yet.
    ///
    /// # Panics
    /// If the payload is longer than [`PAYLOAD_MAX`].
    pub fn append(&mut self, payload: &[u8]) {
        self.append_with(|bytes| bytes.extend(payload));
    }

    /// Gathers a frame whose payload `writes` puts at the end of what it is given.
    ///
    /// # Panics
    /// As [`Journal::append`].
    pub fn append_with(&mut self, writes: impl FnOnce(&mut Vec<u8>)) {
        if self.gathered.len() >= BATCH_MAX - LEN - PAYLOAD_MAX {
            // What is early on disk does no harm. If this fails, so will the sync that somebody waits for.
            let _ = self.flush();
        }
        if self.gathered.is_empty() {
            self.gathered.extend([0; HEAD]);
        }
        let head = self.gathered.len();
        self.gathered.extend([0; LEN]);
        writes(&mut self.gathered);
        let len = self.gathered.len() - head - LEN;
        assert!(len <= PAYLOAD_MAX, "a payload of {len} bytes");
        self.gathered[head..head + LEN].copy_from_slice(&(len as u32).to_le_bytes());
    }

    /// Makes durable what was gathered.
    ///
    /// # Errors
    /// If the system refuses. What was gathered still is, and can be synced when there is room again.
    pub fn sync(&mut self) -> Result<(), JournalFailure> {
        self.flush()?;
        self.gathered.shrink_to(ROOM);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), JournalFailure> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        // What is hashed lies in one piece where the batch will be: then the hash takes the first part's place.
        self.gathered[LEN..HEAD].copy_from_slice(&self.chain);
        let hash = chain(&self.gathered[LEN..]);
        let len = (self.gathered.len() - HEAD) as u32;
        self.gathered[..LEN].copy_from_slice(&len.to_le_bytes());
        self.gathered[LEN..HEAD].copy_from_slice(&hash);
        // If half of it is there then, the next try writes over it, and who opens the journal cuts it off.
        self.written()?;
        self.chain = hash;
        self.len += self.gathered.len() as u64;
        self.gathered.clear();
        Ok(())
    }

    fn written(&self) -> Result<(), JournalFailure> {
        let mut file = &self.file;
        let system = |operation| failed(operation, &self.path);
        let end = io::SeekFrom::Start(self.len);
        io::Seek::seek(&mut file, end).map_err(system("seek in"))?;
        file.write_all(&self.gathered).map_err(system("write"))?;
        file.sync_data().map_err(system("sync"))
    }

    /// How long it is, in bytes.
    pub fn len(&self) -> u64 {
        self.len + self.gathered.len() as u64
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == self.magic.len() as u64
    }

    /// Writes a new journal in the place of this one, at once or not at all: each of `payloads` puts one at
    /// the end of what it is given.
    ///
    /// # Errors
    /// If the system refuses. This one is then as it was.
    pub fn replace(
        &mut self,
        payloads: impl Iterator<Item = impl FnOnce(&mut Vec<u8>)>,
    ) -> Result<(), JournalFailure> {
        let beside = self.path.with_extension("new");
        let system = |operation| failed(operation, &beside);
        let file = File::create(&beside).map_err(system("create"))?;
        let mut fresh = Self::begun(self.magic, &beside, file).map_err(system("begin"))?;
        for payload in payloads {
            fresh.append_with(payload);
        }
        fresh.sync()?;
        std::fs::rename(&beside, &self.path).map_err(system("rename"))?;
        sync_folder(&self.path).map_err(failed("sync the folder of", &self.path))?;
        fresh.path = std::mem::take(&mut self.path);
        *self = fresh;
        Ok(())
    }
}

/// Visits all payloads of a file that lie in whole batches. Returns where these end, and the hash of the
/// last one.
fn frames(
    magic: &Magic,
    path: &Path,
    bytes: &[u8],
    mut visit: impl FnMut(&[u8]),
) -> Result<(usize, [u8; 8]), JournalFailure> {
    if !bytes.starts_with(magic) {
        return Err(JournalFailure::Foreign { path: path.into() });
    }
    let (mut at, mut chain) = (magic.len(), [0; 8]);
    while let Some((mut batch, hash)) = batch(&bytes[at..], &chain) {
        let len = batch.len();
        while !batch.is_empty() {
            // Whoever wrote a hash of this wrote something else before it.
            let payload = counted(&mut batch);
            visit(payload.ok_or_else(|| corrupt(path, at, bytes.len() as u64))?);
        }
        at += HEAD + len;
        chain = hash;
    }
    Ok((at, chain))
}

/// The frames of the first batch of `bytes` and its hash, if it is whole.
fn batch<'b>(bytes: &'b [u8], before: &[u8; 8]) -> Option<(&'b [u8], [u8; 8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    let (hash, rest) = rest.split_first_chunk::<8>()?;
    let frames = rest.get(..u32::from_le_bytes(*len) as usize)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(before).update(frames);
    hasher
        .finalize()
        .as_bytes()
        .starts_with(hash)
        .then_some((frames, *hash))
}

/// The payload of the first frame of a batch, which is taken off.
fn counted<'b>(batch: &mut &'b [u8]) -> Option<&'b [u8]> {
    let (len, rest) = batch.split_first_chunk()?;
    let (payload, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    *batch = rest;
    (payload.len() <= PAYLOAD_MAX).then_some(payload)
}

/// The hash of a batch: of the one before and of its frames, in one piece.
fn chain(bytes: &[u8]) -> [u8; 8] {
    let hash = blake3::hash(bytes);
    *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

fn corrupt(path: &Path, at: usize, len: u64) -> JournalFailure {
    JournalFailure::Corrupt {
        path: path.into(),
        at: at as u64,
        len,
    }
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalFailure {
    let path = path.to_owned();
    move |why| JournalFailure::System {
        operation,
        path,
        why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payloads(path: &Path) -> Result<Vec<Vec<u8>>, JournalFailure> {
        let mut all = Vec::new();
        Journal::open(path, |payload| all.push(payload.to_vec()))?;
        Ok(all)
    }

    #[test]
    fn a_journal_torn_anywhere_ends_at_its_last_whole_batch() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        let mut journal = Journal::open(&path, |_| {}).expect("begins");
        let (mut ends, mut all) = (vec![journal.len()], Vec::new());
        for number in 0..20_u8 {
            all.push(vec![number; usize::from(number) * 7]);
            all.push(vec![number; 3]);
            journal.append(&all[all.len() - 2]);
            journal.append(&all[all.len() - 1]);
            ends.push(journal.len());
            journal.sync().expect("room");
        }
        let whole = std::fs::read(&path).expect("it is there");
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).expect("room");
            let kept = ends.iter().filter(|end| **end <= cut as u64).count();
            assert_eq!(
                all[..2 * (kept.max(1) - 1)],
                payloads(&path).expect("opens"),
                "{cut}"
            );
            // It was cut where it is whole, and goes on from there.
            let mut journal = Journal::open(&path, |_| {}).expect("opens");
            journal.append(b"more");
            journal.sync().expect("room");
            assert_eq!(2 * kept.max(1) - 1, payloads(&path).expect("opens").len());
        }
        for place in MAGIC.len()..whole.len() {
            let mut bad = whole.clone();
            bad[place] ^= 0x10;
            std::fs::write(&path, &bad).expect("room");
            let kept = ends.iter().filter(|end| **end <= place as u64).count() - 1;
            assert_eq!(all[..2 * kept], payloads(&path).expect("opens"), "{place}");
        }
        std::fs::write(&path, b"something else").expect("room");
        assert!(matches!(
            payloads(&path),
            Err(JournalFailure::Foreign { .. })
        ));
    }

    #[test]
    fn one_that_is_only_read_is_left_as_it_is_and_must_be_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        let mut journal = Journal::open_of(b"AQOTHER1", &path, |_| {}).expect("begins");
        (0..3_u8).for_each(|number| journal.append(&[number; 9]));
        journal.sync().expect("room");
        let count = |magic| {
            let mut count = 0;
            Journal::read(magic, &path, |_| count += 1).map(|()| count)
        };
        assert_eq!(3, count(b"AQOTHER1").expect("whole"));
        let foreign = count(MAGIC);
        assert!(matches!(foreign, Err(JournalFailure::Foreign { .. })));
        let whole = std::fs::read(&path).expect("it is there");
        std::fs::write(&path, &whole[..whole.len() - 1]).expect("room");
        assert!(matches!(
            count(b"AQOTHER1"),
            Err(JournalFailure::Corrupt { at: 8, .. })
        ));
        assert_eq!(whole.len() - 1, std::fs::read(&path).expect("there").len());
    }

    #[test]
    fn one_that_is_bad_far_from_its_end_is_not_cut() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        let mut journal = Journal::open(&path, |_| {}).expect("begins");
        for _ in 0..20 {
            journal.append(&vec![7; PAYLOAD_MAX]);
        }
        journal.sync().expect("room");
        let mut bytes = std::fs::read(&path).expect("it is there");
        bytes[100] ^= 1;
        std::fs::write(&path, &bytes).expect("room");
        assert!(matches!(
            payloads(&path),
            Err(JournalFailure::Corrupt { at: 8, .. })
        ));
        assert_eq!(
            bytes.len() as u64,
            std::fs::metadata(&path).expect("there").len()
        );
    }

    #[test]
    fn a_journal_is_replaced_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        let mut journal = Journal::open(&path, |_| {}).expect("begins");
        (0..100_u8).for_each(|number| journal.append(&[number]));
        journal.sync().expect("room");
        journal
            .replace(
                [1, 2]
                    .into_iter()
                    .map(|byte| move |to: &mut Vec<u8>| to.push(byte)),
            )
            .expect("room");
        journal.append(&[3]);
        journal.sync().expect("room");
        assert_eq!(
            vec![vec![1], vec![2], vec![3]],
            payloads(&path).expect("opens")
        );
    }
}
