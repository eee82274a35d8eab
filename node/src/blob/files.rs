//! Reading and writing at a place of a file, whoever else does so at the same time.

use super::tree::{PAIR_BYTES, Stored};
use std::fs::File;
use std::io;
use std::path::Path;

/// A blob and its tree, as two files.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) data: File,
    pub(crate) tree: File,
}

impl Stored for Files {
    fn data(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        read_at(&self.data, offset, into)
    }

    fn pair(&self, place: u64) -> io::Result<[u8; PAIR_BYTES as usize]> {
        let mut pair = [0; PAIR_BYTES as usize];
        read_at(&self.tree, place * PAIR_BYTES, &mut pair)?;
        Ok(pair)
    }
}

/// Fills `into` from `offset` on.
#[cfg(unix)]
pub(crate) fn read_at(file: &File, offset: u64, into: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, into, offset)
}

/// Writes all of `bytes` at `offset`.
#[cfg(unix)]
pub(crate) fn write_at(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

/// Fills `into` from `offset` on.
#[cfg(windows)]
pub(crate) fn read_at(file: &File, mut offset: u64, mut into: &mut [u8]) -> io::Result<()> {
    while !into.is_empty() {
        let count = std::os::windows::fs::FileExt::seek_read(file, into, offset)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        into = &mut std::mem::take(&mut into)[count..];
        offset += count as u64;
    }
    Ok(())
}

/// Writes all of `bytes` at `offset`.
#[cfg(windows)]
pub(crate) fn write_at(file: &File, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = std::os::windows::fs::FileExt::seek_write(file, bytes, offset)?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        (bytes, offset) = (&bytes[count..], offset + count as u64);
    }
    Ok(())
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}
