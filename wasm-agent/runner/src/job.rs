//! Jobs: a program, what it gets, and what it may use.
//!
//! A [`Request`] is what somebody wants run. A [`Job`] is a request that has been checked, with its
//! canonical bytes and their hash: there is no other way to one than [`Job::of`] and [`Job::open`]. Files
//! that come with a job are named by their hash, so two jobs with one hash are one job.
//!
//! A job has no network. What it sees of the machine is named in it, and whether the machine shows that
//! is for the runner to say.
//!
//! Not here: what came of it (`outcome`), and who asked for it.

use crate::limits::{
    ARGV_MAX, CORES_MAX, ENV_MAX, FILE_NAME_MAX, FILES_BYTES_MAX, FILES_MAX, JOB_BYTES_MAX,
    MEMORY_BYTES_MAX, MEMORY_BYTES_MIN, OUTPUT_BYTES_MAX, PIDS_MAX, SCRATCH_BYTES_MAX, SEES_MAX,
    STDIN_BYTES_MAX, WALL_MAX, WORDS_BYTES_MAX,
};
use aquifer_protocol::identity::digest;
use minicbor::{Decode, Encode};
use std::collections::BTreeSet;

const DOMAIN: &str = "aquifer/job/1";

/// What programs of most machines need to see: programs and libraries.
pub const USUAL_SIGHTS: [&str; 10] = [
    "/bin",
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
    "/sbin",
    "/usr",
];

/// What somebody wants run.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct Request {
    /// The program, which is looked for in `PATH` if it has no `/`, and its arguments.
    #[n(0)]
    pub argv: Vec<String>,
    /// Variables and what they are. There are no others but `PATH` and `HOME`, if these are not named.
    #[n(1)]
    pub env: Vec<(String, String)>,
    /// Files that are put into `/in`, read-only.
    #[n(2)]
    pub files: Vec<Placed>,
    /// What it reads from its stdin.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub stdin: Vec<u8>,
    /// Folders and files of the machine that it sees, read-only. Those that a machine does not have are
    /// left out; those that it does not show are refused.
    #[n(4)]
    pub sees: Vec<String>,
    /// What it may use.
    #[n(5)]
    pub budget: Budget,
}

/// A file that comes with a job.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct Placed {
    /// What it is called in `/in`: letters, digits, `.`, `-` and `_`, and no `.` first.
    #[n(0)]
    pub name: String,
    /// BLAKE3 of its bytes.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub hash: [u8; 32],
    /// Whether it is a program.
    #[n(2)]
    pub is_program: bool,
    /// Its bytes.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
}

impl Placed {
    /// A file of these bytes.
    #[must_use]
    pub fn of(name: impl Into<String>, bytes: impl Into<Vec<u8>>, is_program: bool) -> Self {
        let bytes = bytes.into();
        Self {
            name: name.into(),
            hash: *blake3::hash(&bytes).as_bytes(),
            is_program,
            bytes,
        }
    }
}

/// What a job may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct Budget {
    /// Time, in milliseconds.
    #[n(0)]
    pub wall_ms: u64,
    /// Time of processors, of all its processes together, in milliseconds.
    #[n(1)]
    pub cpu_ms: u64,
    /// Processors at once, in thousandths.
    #[n(2)]
    pub cores: u32,
    /// Memory, of all its processes together. Its own files are in memory, too.
    #[n(3)]
    pub memory_bytes: u64,
    /// Processes and threads at once.
    #[n(4)]
    pub pids: u32,
    /// Bytes of both its outputs together.
    #[n(5)]
    pub output_bytes: u64,
    /// Bytes of files of its own.
    #[n(6)]
    pub scratch_bytes: u64,
}

impl Budget {
    /// Enough for a script: ten seconds, 256 MiB, 64 processes, a mebibyte of output.
    pub const USUAL: Self = Self {
        wall_ms: 10_000,
        cpu_ms: 10_000,
        cores: 1_000,
        memory_bytes: 256 << 20,
        pids: 64,
        output_bytes: 1 << 20,
        scratch_bytes: 64 << 20,
    };

    /// The most that any job can ask for.
    pub const MOST: Self = Self {
        wall_ms: WALL_MAX.as_secs() * 1_000,
        cpu_ms: WALL_MAX.as_secs() * CORES_MAX as u64,
        cores: CORES_MAX,
        memory_bytes: MEMORY_BYTES_MAX,
        pids: PIDS_MAX,
        output_bytes: OUTPUT_BYTES_MAX,
        scratch_bytes: SCRATCH_BYTES_MAX,
    };

    /// The first part, by name, of which `self` asks more than `most` has, if there is one.
    #[must_use]
    pub fn exceeds(&self, most: &Self) -> Option<&'static str> {
        [
            ("wall_ms", self.wall_ms > most.wall_ms),
            ("cpu_ms", self.cpu_ms > most.cpu_ms),
            ("cores", self.cores > most.cores),
            ("memory_bytes", self.memory_bytes > most.memory_bytes),
            ("pids", self.pids > most.pids),
            ("output_bytes", self.output_bytes > most.output_bytes),
            ("scratch_bytes", self.scratch_bytes > most.scratch_bytes),
        ]
        .into_iter()
        .find_map(|(name, is_more)| is_more.then_some(name))
    }
}

/// Why a request is not a job.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RefuseJob {
    /// Not the canonical encoding of a request.
    #[error("the job is malformed")]
    Malformed,
    /// It names no program.
    #[error("the job names no program")]
    NoProgram,
    /// More of something than a job may have.
    #[error("the job has too much: {what}")]
    TooMuch {
        /// Of what.
        what: &'static str,
    },
    /// A budget with which nothing can run.
    #[error("the job cannot run on so little: {what}")]
    TooLittle {
        /// Of what.
        what: &'static str,
    },
    /// An argument, a variable, a path or a name that cannot be one.
    #[error("the job says {what} as {text:?}")]
    Odd {
        /// What it was to be.
        what: &'static str,
        /// What it is.
        text: String,
    },
    /// A file is not what its hash says.
    #[error("the file {name} is not what its hash says")]
    OtherFile {
        /// Its name.
        name: String,
    },
}

/// A request that has been checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Job {
    request: Request,
    bytes: Vec<u8>,
}

impl Job {
    /// The job that `request` asks for. Sights are put in order, so that order makes no difference.
    ///
    /// # Errors
    /// [`RefuseJob`]: what is wrong with it.
    pub fn of(mut request: Request) -> Result<Self, RefuseJob> {
        request.sees.sort();
        request.sees.dedup();
        check(&request)?;
        let bytes = minicbor::to_vec(&request).expect("a vector takes any encoding");
        Ok(Self { request, bytes })
    }

    /// The job that these bytes, from anywhere, are the canonical encoding of.
    ///
    /// # Errors
    /// [`RefuseJob`]: what is wrong with it.
    pub fn open(bytes: &[u8]) -> Result<Self, RefuseJob> {
        if bytes.len() > JOB_BYTES_MAX {
            return Err(RefuseJob::TooMuch { what: "bytes" });
        }
        let request = minicbor::decode(bytes).map_err(|_| RefuseJob::Malformed)?;
        let job = Self::of(request)?;
        match job.bytes == bytes {
            true => Ok(job),
            false => Err(RefuseJob::Malformed),
        }
    }

    /// What is asked for.
    #[must_use]
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Its canonical encoding.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it is named by.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        digest(DOMAIN, &[&self.bytes])
    }
}

fn check(request: &Request) -> Result<(), RefuseJob> {
    words(request)?;
    sights(&request.sees)?;
    files(&request.files)?;
    at_most("stdin", request.stdin.len(), STDIN_BYTES_MAX)?;
    let budget = &request.budget;
    if let Some(what) = budget.exceeds(&Budget::MOST) {
        return Err(RefuseJob::TooMuch { what });
    }
    let least = [
        ("wall_ms", budget.wall_ms > 0),
        ("cpu_ms", budget.cpu_ms > 0),
        ("cores", budget.cores >= 10),
        ("memory_bytes", budget.memory_bytes >= MEMORY_BYTES_MIN),
        ("pids", budget.pids > 0),
    ];
    match least.into_iter().find(|(_, is_enough)| !is_enough) {
        Some((what, _)) => Err(RefuseJob::TooLittle { what }),
        None => Ok(()),
    }
}

fn words(request: &Request) -> Result<(), RefuseJob> {
    at_most("arguments", request.argv.len(), ARGV_MAX)?;
    at_most("variables", request.env.len(), ENV_MAX)?;
    if request.argv.first().is_none_or(String::is_empty) {
        return Err(RefuseJob::NoProgram);
    }
    let mut bytes = 0;
    for word in &request.argv {
        bytes += word.len();
        fair("an argument", word, !word.contains('\0'))?;
    }
    let mut names = BTreeSet::new();
    for (name, value) in &request.env {
        bytes += name.len() + value.len();
        let is_name = !name.is_empty() && !name.contains(['=', '\0']) && names.insert(name);
        fair("a variable", name, is_name)?;
        fair("a value", value, !value.contains('\0'))?;
    }
    at_most("bytes of words", bytes, WORDS_BYTES_MAX)
}

fn sights(sees: &[String]) -> Result<(), RefuseJob> {
    at_most("sights", sees.len(), SEES_MAX)?;
    for path in sees {
        let mut parts = path.split('/');
        let is_absolute =
            parts.next() == Some("") && (2..4_096).contains(&path.len()) && !path.contains('\0');
        fair(
            "a path",
            path,
            is_absolute && parts.all(|part| !matches!(part, "" | "." | "..")),
        )?;
    }
    Ok(())
}

fn files(files: &[Placed]) -> Result<(), RefuseJob> {
    at_most("files", files.len(), FILES_MAX)?;
    let mut names = BTreeSet::new();
    let mut bytes = 0;
    for file in files {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let is_name = (1..=FILE_NAME_MAX).contains(&file.name.len())
            && !file.name.starts_with('.')
            && file.name.chars().all(is_plain)
            && names.insert(&file.name);
        fair("a file's name", &file.name, is_name)?;
        bytes += file.bytes.len();
    }
    at_most("bytes of files", bytes, FILES_BYTES_MAX)?;
    match files
        .iter()
        .find(|file| *blake3::hash(&file.bytes).as_bytes() != file.hash)
    {
        Some(file) => Err(RefuseJob::OtherFile {
            name: file.name.clone(),
        }),
        None => Ok(()),
    }
}

fn at_most(what: &'static str, count: usize, most: usize) -> Result<(), RefuseJob> {
    match count <= most {
        true => Ok(()),
        false => Err(RefuseJob::TooMuch { what }),
    }
}

fn fair(what: &'static str, text: &str, is_fair: bool) -> Result<(), RefuseJob> {
    match is_fair {
        true => Ok(()),
        false => Err(RefuseJob::Odd {
            what,
            text: text.chars().take(80).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request() -> Request {
        Request {
            argv: vec!["cat".into(), "/in/a".into()],
            env: vec![("LANG".into(), "C".into())],
            files: vec![Placed::of("a", b"text".as_slice(), false)],
            stdin: b"in".to_vec(),
            sees: vec!["/bin".into(), "/usr".into()],
            budget: Budget::USUAL,
        }
    }

    fn refused(change: impl FnOnce(&mut Request)) -> RefuseJob {
        let mut request = request();
        change(&mut request);
        let bytes = minicbor::to_vec(&request).expect("a vector takes any encoding");
        assert!(Job::open(&bytes).is_err(), "its bytes are refused as well");
        Job::of(request).expect_err("it is no job")
    }

    #[test]
    fn a_job_goes_through_its_bytes_and_is_named_by_them() {
        let job = Job::of(request()).expect("a job");
        assert_eq!(Job::open(job.bytes()), Ok(job.clone()));
        let mut other = request();
        other.stdin.push(0);
        let other = Job::of(other).expect("a job");
        assert_ne!(job.hash(), other.hash());
    }

    /// A change of these bytes is a change of what travels between nodes.
    #[test]
    fn the_bytes_of_a_job_are_what_they_were() {
        let hex: String = Job::of(request())
            .expect("a job")
            .hash()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            hex,
            "3afcdb45f9378a7b93cb8beca5dd2f965a833221b2c355476d392b258c3f689f"
        );
    }

    #[test]
    fn only_the_canonical_bytes_are_a_job() {
        let job = Job::of(request()).expect("a job");
        let longer = [job.bytes(), &[0]].concat();
        assert_eq!(Job::open(&longer), Err(RefuseJob::Malformed));
        let mut unordered = request();
        unordered.sees = vec!["/usr".into(), "/bin".into()];
        let bytes = minicbor::to_vec(&unordered).expect("a vector takes any encoding");
        assert_eq!(Job::open(&bytes), Err(RefuseJob::Malformed));
        assert_eq!(Job::open(&[0xff; 9]), Err(RefuseJob::Malformed));
    }

    #[test]
    fn what_cannot_be_run_is_refused_by_name() {
        use RefuseJob::{NoProgram, Odd, OtherFile, TooLittle, TooMuch};
        assert_eq!(refused(|r| r.argv.clear()), NoProgram);
        assert!(matches!(refused(|r| r.argv[1] = "a\0b".into()), Odd { .. }));
        for path in ["usr", "/usr/../etc", "/usr//a", "/", "/a/", "/./a", ""] {
            let said = refused(|r| r.sees = vec![path.into()]);
            assert!(matches!(said, Odd { what: "a path", .. }), "{path}");
        }
        for name in ["", ".a", "a/b", "..", "a b"] {
            let said = refused(|r| r.files[0].name = name.into());
            assert!(matches!(said, Odd { .. }), "{name}");
        }
        let twice = refused(|r| r.files.push(r.files[0].clone()));
        assert!(matches!(twice, Odd { .. }));
        assert_eq!(
            refused(|r| r.files[0].bytes[0] ^= 1),
            OtherFile { name: "a".into() }
        );
        assert!(matches!(
            refused(|r| r.env.push(("A=B".into(), String::new()))),
            Odd { .. }
        ));
        assert_eq!(
            refused(|r| r.stdin = vec![0; STDIN_BYTES_MAX + 1]),
            TooMuch { what: "stdin" }
        );
        assert_eq!(
            refused(|r| r.budget.pids = PIDS_MAX + 1),
            TooMuch { what: "pids" }
        );
        assert_eq!(
            refused(|r| r.budget.memory_bytes = 1 << 20),
            TooLittle {
                what: "memory_bytes"
            }
        );
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Job::open(&bytes);
        }

        #[test]
        fn a_changed_byte_never_opens_as_the_same_job(at in 0usize..200, bit in 0u8..8) {
            let job = Job::of(request()).expect("a job");
            let mut bytes = job.bytes().to_vec();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            if let Ok(other) = Job::open(&bytes) {
                prop_assert_ne!(other.hash(), job.hash());
            }
        }
    }
}
