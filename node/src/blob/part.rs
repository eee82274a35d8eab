//! A blob of which some is here: `HASH.part`, its tree, and a map of the groups that were proved.
//!
//! A slice is proved, then written, then marked in the map. After a kill the map is therefore true as
//! it stands; after a power cut it may claim what never reached the disk. So what it claims is read
//! back and proved again when the part is opened: no cut of the map, and no damage, can make a byte
//! count that does not belong to the blob, and no group that is there is fetched again.

use super::BlobHash;
use super::bits::Bits;
use super::files::{Files, sync_folder, write_at};
use super::shelf::Names;
use super::tree::{self, GROUP_BYTES, OpenSlice, PAIR_BYTES, SLICE_GROUPS, Shape};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _};
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// After so many new bytes what is there is made durable, so that a power cut costs no more.
const SYNC_EVERY_BYTES: u64 = 64 << 20;

/// A blob of which some is here. Slices may be given from several threads at once.
#[derive(Debug)]
pub(crate) struct Part {
    name: BlobHash,
    shape: Shape,
    names: Names,
    files: Files,
    map: File,
    have: Mutex<Have>,
    /// Bytes that were here when it was opened, and bytes that the map claimed and that were not.
    pub(crate) found_bytes: u64,
    pub(crate) spoilt_bytes: u64,
}

#[derive(Debug)]
struct Have {
    bits: Bits,
    unsynced: u64,
}

/// Why a slice was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AcceptSlice {
    /// It does not belong to the blob: whoever sent it lies, or its disk does.
    #[error(transparent)]
    Open(#[from] OpenSlice),
    /// It could not be written.
    #[error("the slice cannot be written")]
    Write(#[from] io::Error),
}

impl Part {
    /// Begins the blob `name` of `bytes` bytes in `folder`, or goes on with what is there of it.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn open(folder: &Path, name: BlobHash, bytes: u64) -> io::Result<Self> {
        let (names, shape) = (Names::of(folder, &name), Shape::of(bytes));
        let open = |path: &Path| {
            let mut options = OpenOptions::new();
            options.create(true).truncate(false).read(true).write(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            options.open(path)
        };
        let files = Files {
            data: open(&names.part)?,
            tree: open(&names.tree_part)?,
        };
        let mut map = open(&names.map)?;
        let mut claims = Vec::new();
        (&mut map)
            .take(shape.groups().div_ceil(8))
            .read_to_end(&mut claims)?;
        let claimed = Bits::read(claims, shape.groups());
        let bits = tree::check(&name, shape, &claimed, &files, &mut |_| {});
        // Holes: they take no room until they are filled.
        files.data.set_len(bytes)?;
        files.tree.set_len(shape.tree_bytes())?;
        map.rewind()?;
        map.set_len(bits.as_bytes().len() as u64)?;
        write_at(&map, 0, bits.as_bytes())?;
        Ok(Self {
            found_bytes: bytes_of(shape, &bits),
            spoilt_bytes: bytes_of(shape, &claimed) - bytes_of(shape, &bits),
            name,
            shape,
            names,
            files,
            map,
            have: Mutex::new(Have { bits, unsynced: 0 }),
        })
    }

    /// How long the blob is to be, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.shape.bytes()
    }

    /// How many bytes of it are here and proved.
    pub(crate) fn have_bytes(&self) -> u64 {
        bytes_of(self.shape, &self.have().bits)
    }

    /// The slices that are not whole here, in order.
    pub(crate) fn missing(&self) -> Vec<Range<u64>> {
        let have = self.have();
        let firsts = (0..self.shape.groups()).step_by(SLICE_GROUPS as usize);
        firsts
            .map(|first| self.shape.slice(first))
            .filter(|slice| !have.bits.whole(slice.clone()))
            .map(|slice| trimmed(&have.bits, slice))
            .collect()
    }

    /// Proves a slice and keeps it. How many of its bytes are new.
    ///
    /// # Errors
    /// [`AcceptSlice`]; nothing of it counts then.
    pub(crate) fn accept(&self, groups: &Range<u64>, encoded: &[u8]) -> Result<u64, AcceptSlice> {
        let slice = tree::open(&self.name, self.shape, groups, encoded)?;
        let span = self.shape.span(groups);
        write_at(&self.files.data, span.start, &slice.data)?;
        for (place, pairs) in &slice.pairs {
            write_at(&self.files.tree, place * PAIR_BYTES, pairs)?;
        }
        let mut have = self.have();
        let before = bytes_in(self.shape, &have.bits, groups.clone());
        have.bits.set(groups.clone());
        let fresh = (span.end - span.start) - before;
        let touched = (groups.start / 8) as usize..groups.end.div_ceil(8) as usize;
        write_at(
            &self.map,
            touched.start as u64,
            &have.bits.as_bytes()[touched],
        )?;
        have.unsynced += fresh;
        let due = have.unsynced >= SYNC_EVERY_BYTES;
        if due {
            have.unsynced = 0;
        }
        // Others go on writing meanwhile.
        drop(have);
        if due {
            self.files.data.sync_data()?;
            self.files.tree.sync_data()?;
        }
        Ok(fresh)
    }

    /// Makes a blob of which all is here durable, and puts it in its place.
    ///
    /// # Errors
    /// The file system's; `InvalidData` if something is missing.
    pub(crate) fn finish(&self) -> io::Result<()> {
        if self.have_bytes() != self.bytes() || !self.have().bits.whole(0..self.shape.groups()) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a blob is not whole",
            ));
        }
        self.files.data.sync_all()?;
        self.files.tree.sync_all()?;
        // The blob last: where it is, its tree is too.
        fs::rename(&self.names.tree_part, &self.names.tree)?;
        fs::rename(&self.names.part, &self.names.data)?;
        fs::remove_file(&self.names.map)?;
        self.names.data.parent().map_or(Ok(()), sync_folder)
    }

    fn have(&self) -> MutexGuard<'_, Have> {
        self.have.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A slice without the groups at its ends that are here.
fn trimmed(bits: &Bits, slice: Range<u64>) -> Range<u64> {
    let lacks = |at: &u64| !bits.has(*at);
    let first = slice.clone().find(lacks).unwrap_or(slice.start);
    let last = slice.clone().rev().find(lacks).unwrap_or(first);
    first..last + 1
}

fn bytes_of(shape: Shape, bits: &Bits) -> u64 {
    let last = bits.len() - 1;
    let whole = bits.count() * GROUP_BYTES;
    let short = GROUP_BYTES - bytes_in(shape, &Bits::all(bits.len()), last..last + 1);
    if bits.has(last) { whole - short } else { whole }
}

fn bytes_in(shape: Shape, bits: &Bits, groups: Range<u64>) -> u64 {
    let here = groups.filter(|at| bits.has(*at));
    here.map(|at| {
        let span = shape.span(&(at..at + 1));
        span.end - span.start
    })
    .sum()
}

#[cfg(test)]
mod tests {
    use super::super::tree::tests::{InMemory, built, noise};
    use super::*;

    const BYTES: u64 = 5 * SLICE_GROUPS * GROUP_BYTES / 2 + 77;

    fn slice_of(shape: Shape, stored: &InMemory, groups: &Range<u64>) -> Vec<u8> {
        tree::encode(shape, groups, stored).expect("in memory")
    }

    /// Fetches all that is missing from memory; how many bytes were new.
    fn fetch_rest(part: &Part, shape: Shape, stored: &InMemory) -> u64 {
        let missing = part.missing();
        missing
            .iter()
            .map(|groups| {
                part.accept(groups, &slice_of(shape, stored, groups))
                    .expect("honest")
            })
            .sum()
    }

    #[test]
    fn a_part_that_was_cut_anywhere_goes_on_and_fetches_no_proved_group_again() {
        let (name, shape, stored) = built(noise(BYTES));
        let slices: Vec<_> = (0..shape.groups())
            .step_by(SLICE_GROUPS as usize)
            .map(|first| shape.slice(first))
            .collect();
        for done in 0..=slices.len() {
            let folder = tempfile::tempdir().expect("a folder");
            let part = Part::open(folder.path(), name, BYTES).expect("a part");
            for groups in &slices[..done] {
                part.accept(groups, &slice_of(shape, &stored, groups))
                    .expect("honest");
            }
            let had = part.have_bytes();
            drop(part);
            let part = Part::open(folder.path(), name, BYTES).expect("goes on");
            assert_eq!((part.found_bytes, part.spoilt_bytes), (had, 0));
            assert_eq!(fetch_rest(&part, shape, &stored), BYTES - had);
            part.finish().expect("whole");
            let names = Names::of(folder.path(), &name);
            assert_eq!(fs::read(&names.data).expect("there"), stored.data);
            assert_eq!(fs::read(&names.tree).expect("there"), stored.pairs);
            assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 2);
        }
    }

    /// Whatever a crash leaves of the map, the data or the tree, the blob comes out right, and what
    /// is claimed and not there is fetched again.
    #[test]
    fn every_cut_of_the_map_and_of_the_files_ends_in_the_right_blob() {
        let (name, shape, stored) = built(noise(BYTES));
        let folder = tempfile::tempdir().expect("a folder");
        let names = Names::of(folder.path(), &name);
        let part = Part::open(folder.path(), name, BYTES).expect("a part");
        for groups in [shape.slice(0), shape.slice(SLICE_GROUPS)] {
            part.accept(&groups, &slice_of(shape, &stored, &groups))
                .expect("honest");
        }
        let had = part.have_bytes();
        drop(part);
        let files = [&names.part, &names.tree_part, &names.map];
        let kept = files.map(|path| fs::read(path).expect("there"));
        let cuts = |len: usize| (0..=len).step_by((len / 23).max(1));
        for (which, whole) in kept.iter().enumerate() {
            for cut in cuts(whole.len()) {
                for (path, bytes) in files.iter().zip(&kept) {
                    fs::write(path, bytes).expect("writes");
                }
                fs::write(files[which], &whole[..cut]).expect("writes");
                let part = Part::open(folder.path(), name, BYTES).expect("goes on");
                assert!(part.found_bytes <= had);
                if which == 2 {
                    assert_eq!(
                        part.spoilt_bytes, 0,
                        "a shorter map claims less, not wrongly"
                    );
                }
                let found = part.found_bytes;
                assert_eq!(fetch_rest(&part, shape, &stored), BYTES - found);
                part.finish().expect("whole");
                assert_eq!(fs::read(&names.data).expect("there"), stored.data);
                fs::remove_file(&names.data).expect("removes");
                fs::remove_file(&names.tree).expect("removes");
            }
        }
    }

    #[test]
    fn a_map_that_claims_all_is_not_believed() {
        let (name, shape, stored) = built(noise(BYTES));
        let folder = tempfile::tempdir().expect("a folder");
        let names = Names::of(folder.path(), &name);
        drop(Part::open(folder.path(), name, BYTES).expect("a part"));
        fs::write(&names.map, Bits::all(shape.groups()).as_bytes()).expect("writes");
        let part = Part::open(folder.path(), name, BYTES).expect("goes on");
        assert_eq!((part.found_bytes, part.spoilt_bytes), (0, BYTES));
        assert!(part.finish().is_err());
        assert_eq!(fetch_rest(&part, shape, &stored), BYTES);
    }

    #[test]
    fn a_lie_is_refused_and_leaves_no_trace() {
        let (name, shape, stored) = built(noise(BYTES));
        let folder = tempfile::tempdir().expect("a folder");
        let part = Part::open(folder.path(), name, BYTES).expect("a part");
        let groups = shape.slice(0);
        let mut lie = slice_of(shape, &stored, &groups);
        let end = lie.len() - 1;
        lie[end] ^= 1;
        let refused = part.accept(&groups, &lie).expect_err("a lie");
        assert!(matches!(
            refused,
            AcceptSlice::Open(OpenSlice::Group { group: 63 })
        ));
        assert_eq!(part.have_bytes(), 0);
        assert_eq!(
            fs::metadata(Names::of(folder.path(), &name).part)
                .expect("there")
                .len(),
            BYTES
        );
    }
}
