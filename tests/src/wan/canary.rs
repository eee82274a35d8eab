//! Canaries: bytes that must not be found where the law forbids, and the search for them.
//!
//! A canary is looked for in every [`Form`] in which software carries text by accident: raw, in
//! hexadecimal, in base64 (at each of its three alignments) and in UTF-16. A node that is searched
//! must not be told what is searched for, or it would be found for that: it gets the forms
//! [`masked`], and compares without ever undoing the mask in its memory.
//!
//! A search that finds nothing proves nothing unless the same search finds it where it is allowed:
//! every use has a positive control.

use super::roads::Chance;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// What every byte of a masked form is combined with.
const MASK: u8 = 0xa5;

/// Memory is read in pieces of this length.
const PIECE_BYTES: usize = 1 << 20;

/// Bytes of raw chance in a canary's letters.
const LETTERS: u64 = 32;

/// A secret word that nobody else would write.
#[derive(Clone, Debug)]
pub struct Canary(pub String);

/// One way to write a canary: what it is called and its bytes.
pub type Form = (&'static str, Vec<u8>);

impl Canary {
    /// A canary from chance: letters and digits, so that no index takes it apart.
    #[must_use]
    pub fn draw(chance: &mut Chance) -> Self {
        const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        let letter = |_| {
            let at = chance.below(ALPHABET.len() as u64);
            char::from(ALPHABET[usize::try_from(at).expect("small")])
        };
        Self((0..LETTERS).map(letter).collect())
    }

    /// All ways to write it.
    #[must_use]
    pub fn forms(&self) -> Vec<Form> {
        let raw = self.0.as_bytes();
        let hex: String = raw.iter().map(|byte| format!("{byte:02x}")).collect();
        let wide = self.0.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let mut forms = vec![
            ("raw", raw.to_vec()),
            ("hex", hex.clone().into_bytes()),
            ("HEX", hex.to_uppercase().into_bytes()),
            ("utf-16", wide),
        ];
        // Base64 of a longer text holds, of each alignment, the digits that only our bytes decide.
        for shift in 0..3 {
            let whole = (raw.len() - (3 - shift) % 3) / 3 * 3;
            let aligned = &raw[(3 - shift) % 3..][..whole];
            forms.push(("base64", base64(aligned)));
        }
        forms
    }
}

/// The forms with a mask over every byte, in hexadecimal, for a node that counts them.
#[must_use]
pub fn masked(forms: &[Form]) -> Vec<String> {
    let one = |(_, bytes): &Form| bytes.iter().map(|b| format!("{:02x}", b ^ MASK)).collect();
    forms.iter().map(one).collect()
}

/// Counts masked forms in bytes.
#[derive(Clone, Debug)]
pub struct Masked(Vec<Vec<u8>>);

impl Masked {
    /// Reads what [`masked`] wrote; nothing where it is not hexadecimal.
    #[must_use]
    pub fn read(forms: &[String]) -> Option<Self> {
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let one = |form: &String| form.as_bytes().chunks(2).map(byte).collect();
        forms.iter().map(one).collect::<Option<_>>().map(Self)
    }

    /// How often any form occurs.
    #[must_use]
    pub fn count(&self, bytes: &[u8]) -> u64 {
        let is = |form: &[u8], window: &[u8]| {
            form.iter()
                .zip(window)
                .all(|(masked, byte)| *masked == byte ^ MASK)
        };
        let mut found = 0;
        for at in 0..bytes.len() {
            let rest = &bytes[at..];
            let here = |form: &&Vec<u8>| form.len() <= rest.len() && is(form, rest);
            found += self.0.iter().filter(here).count() as u64;
        }
        found
    }
}

/// How often each form was found, and how much was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sighting {
    /// Occurrences by form.
    pub found: BTreeMap<&'static str, u64>,
    /// Bytes looked at.
    pub bytes: u64,
}

impl Sighting {
    /// Occurrences of any form.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.found.values().sum()
    }

    /// Counts forms that begin in `bytes`, but for the last `overlap` bytes.
    fn look(&mut self, forms: &[Form], bytes: &[u8], overlap: usize) {
        let mut firsts = [false; 256];
        for (_, form) in forms {
            firsts[usize::from(form[0])] = true;
        }
        let end = bytes.len().saturating_sub(overlap);
        for (at, byte) in bytes[..end].iter().enumerate() {
            if !firsts[usize::from(*byte)] {
                continue;
            }
            for (name, form) in forms {
                if bytes[at..].starts_with(form) {
                    *self.found.entry(name).or_default() += 1;
                }
            }
        }
        self.bytes += end as u64;
    }
}

/// Looks for the forms in every file below `folder`.
#[must_use]
pub fn on_disk(folder: &Path, forms: &[Form]) -> Sighting {
    let mut sighting = Sighting::default();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            let below = on_disk(&path, forms);
            sighting.bytes += below.bytes;
            for (form, count) in below.found {
                *sighting.found.entry(form).or_default() += count;
            }
        } else if let Ok(bytes) = std::fs::read(&path) {
            sighting.look(forms, &bytes, 0);
        }
    }
    sighting
}

/// Looks for the forms in all that process `pid` has in memory and can read itself.
///
/// # Errors
/// What the system says if it may not be read: the search would be void.
pub fn in_memory(pid: u32, forms: &[Form]) -> io::Result<Sighting> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let overlap = forms.iter().map(|(_, form)| form.len()).max().unwrap_or(1) - 1;
    let mut sighting = Sighting::default();
    let mut piece = vec![0; PIECE_BYTES + overlap];
    for line in maps.lines() {
        let Some((mut from, until)) = readable(line) else {
            continue;
        };
        while from < until {
            let rest = usize::try_from(until - from).unwrap_or(usize::MAX);
            let wanted = rest.min(piece.len());
            // A page without anything behind it cannot be read, and holds nothing.
            let read = memory.read_at(&mut piece[..wanted], from).unwrap_or(0);
            let is_last = read == rest || read < wanted;
            sighting.look(forms, &piece[..read], if is_last { 0 } else { overlap });
            from += if is_last && read < rest {
                PAGE_BYTES.max(read as u64 / PAGE_BYTES * PAGE_BYTES)
            } else if is_last {
                read as u64
            } else {
                (read - overlap) as u64
            };
        }
    }
    Ok(sighting)
}

const PAGE_BYTES: u64 = 4_096;

/// The range of a line of `/proc/PID/maps`, if it can be read (proc_pid_maps(5)).
fn readable(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split(' ');
    let (from, until) = words.next()?.split_once('-')?;
    let may_read = words.next()?.starts_with('r');
    let number = |text| u64::from_str_radix(text, 16).ok();
    let range = (number(from)?, number(until)?);
    (may_read && !line.ends_with("[vvar]") && !line.ends_with("[vsyscall]")).then_some(range)
}

/// Base64 (RFC 4648) of a whole number of threes.
fn base64(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let four = |three: &[u8]| {
        let bits = three
            .iter()
            .fold(0, |bits, byte| bits << 8 | usize::from(*byte));
        [18, 12, 6, 0].map(|shift| DIGITS[bits >> shift & 63])
    };
    bytes.chunks_exact(3).flat_map(four).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canary() -> Canary {
        Canary::draw(&mut Chance::new(1))
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        assert_eq!(base64(b"foobar"), b"Zm9vYmFy");
    }

    #[test]
    fn every_form_is_found_on_disk_once_and_base64_at_each_alignment() {
        let canary = canary();
        let forms = canary.forms();
        let folder = tempfile::tempdir().expect("a folder");
        for (number, (name, bytes)) in forms.iter().enumerate() {
            let path = folder.path().join(format!("{number}"));
            std::fs::write(&path, [b"before ", &bytes[..], b" after"].concat()).expect("written");
            assert_eq!(on_disk(folder.path(), &forms).found, [(*name, 1)].into());
            std::fs::remove_file(path).expect("removed");
        }
        for before in ["", "x", "xy"] {
            let mut text = format!("{before}{}{}", canary.0, "tail").into_bytes();
            text.truncate(text.len() / 3 * 3);
            std::fs::write(folder.path().join("b"), base64(&text)).expect("written");
            let sighting = on_disk(folder.path(), &forms);
            assert_eq!(sighting.found, [("base64", 1)].into(), "after {before:?}");
        }
    }

    #[test]
    fn a_masked_search_finds_what_it_does_not_hold() {
        let canary = canary();
        let forms = canary.forms();
        let masks = masked(&forms);
        let masked = Masked::read(&masks).expect("hexadecimal");
        for (_, form) in &forms {
            assert_eq!(masked.count(&[b"..", &form[..], b".."].concat()), 1);
            assert!(masked.0.iter().all(|mask| mask != form));
        }
        assert_eq!(masked.count(b"nothing of the kind"), 0);
    }

    #[test]
    fn memory_of_this_process_is_searched_to_the_last_page() {
        let canary = canary();
        let mut held = vec![0; 3 * PIECE_BYTES];
        for at in [0, PIECE_BYTES - 7, 3 * PIECE_BYTES - canary.0.len()] {
            held[at..at + canary.0.len()].copy_from_slice(canary.0.as_bytes());
        }
        let sighting = in_memory(std::process::id(), &canary.forms()).expect("our own");
        // Those three, the string itself, and its raw form.
        assert!(sighting.found["raw"] >= 5, "{sighting:?}");
        assert!(sighting.bytes > 3 * PIECE_BYTES as u64);
        drop(held);
    }
}
