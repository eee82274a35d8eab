//! A node's store: one engine behind the core's `Store`, chosen when the home is made.
//!
//! Every batch that returned would survive a power cut. Readers take [`Snapshot`]s, which a commit
//! never stalls. What an engine finds corrupt is not served and not deleted: it is put aside and the
//! store begins anew, to be rebuilt from peers. After a failed write nothing is acknowledged any
//! more (I18); where the disk was full, [`NodeStore::reopened`] goes on from what is durable.
//!
//! In `store/`: the engines, `room` (is there any on the disk?), `pace` (how fast is it?). Not here:
//! what the bytes mean (`protocol::log`); that records match their hashes is checked there.

mod engine;
mod pace;
mod redb;
mod room;
#[cfg(feature = "sled")]
mod sled;

use self::engine::{Closed, Engine, OpenEngine, Reader, no_room, read_only};
use crate::api::Problem;
use crate::clock;
use crate::home::Home;
use aquifer_protocol::{Batch, Store, StoreFailure, Table};
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use pace::{Health, Pace};
pub(crate) use room::{LOOK_EVERY, Room, free_bytes};

/// Says which engine a home has, so that it is never opened with another.
const ENGINE_FILE: &str = "store.engine";
/// There if the last run saw the store fail: it is then checked whole before it is used.
const SUSPECT_FILE: &str = "store.suspect";
/// A reader that has just been let go of may hold the files a moment longer.
const LOCKED_TRIES: u32 = 100;
const LOCKED_PAUSE: Duration = Duration::from_millis(50);

/// A store engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EngineKind {
    /// The default.
    Redb,
    /// Beta by its maker's word, and it never gives bytes back: for topics that restrict nothing.
    Sled,
}

impl EngineKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Redb, Self::Sled];

    /// Its name in flags, files and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Redb => "redb",
            Self::Sled => "sled",
        }
    }

    /// The engine called `name`.
    ///
    /// # Errors
    /// `store_engine` if there is none.
    pub fn parse(name: &str) -> Result<Self, Problem> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| {
            engine_problem(
                format!("`{name}` is not a store engine"),
                "give redb or sled",
            )
        })
    }

    /// Whether what is removed leaves the disk for good: at the latest when the store is compacted.
    pub fn erases(self) -> bool {
        self == Self::Redb
    }

    /// What an operator should know before relying on it; empty if nothing.
    pub fn warning(self) -> &'static str {
        match self {
            Self::Redb => "",
            Self::Sled => {
                "the sled engine is beta and cannot remove what was erased from the disk: topics that restrict where or how long data may rest are not kept here"
            }
        }
    }

    fn path(self, home: &Home) -> PathBuf {
        home.file(&format!("store.{}", self.name()))
    }

    fn open(self, path: &Path, check: bool) -> Result<Box<dyn Engine>, OpenEngine> {
        match self {
            Self::Redb => Ok(Box::new(redb::RedbEngine::open(path, check)?)),
            #[cfg(feature = "sled")]
            Self::Sled => Ok(Box::new(sled::SledEngine::open(path)?)),
            #[cfg(not(feature = "sled"))]
            Self::Sled => Err(OpenEngine::Version(
                "sled, which this build leaves out".into(),
            )),
        }
    }
}

/// A node's store.
pub struct NodeStore {
    home: Home,
    kind: EngineKind,
    engine: Box<dyn Engine>,
    /// The store as of the last commit: what is read between commits.
    current: Reader,
    health: Health,
    /// Set once a write has failed: after that nothing may be acknowledged (I18).
    failed: Option<StoreFailure>,
}

/// The store as it was after one commit. Cheap to clone.
#[derive(Clone)]
pub struct Snapshot {
    reader: Reader,
    erases: bool,
}

/// An engine that was opened, and its first reader.
type OpenStore = (Box<dyn Engine>, Reader);

/// A store that was opened, and what had to be put aside for it.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: NodeStore,
    /// Where a corrupt store was put.
    pub put_aside: Option<PathBuf>,
}

impl NodeStore {
    /// Opens the store of `home`, or makes it: with the engine asked for, else with the one it has,
    /// else with redb. A corrupt one is put aside, never deleted.
    ///
    /// # Errors
    /// `store_engine` if the home has another engine than the one asked for; `home_locked`,
    /// `store_newer`, `home_unusable`.
    pub fn open(home: &Home, asked: Option<EngineKind>) -> Result<Opened, Problem> {
        let kind = settle_engine(home, asked)?;
        let ((engine, current), put_aside) = open_or_put_aside(home, kind)?;
        if !kind.warning().is_empty() {
            tracing::warn!(target: "aquifer::store", engine = kind.name(), "{}", kind.warning());
        }
        let store = Self {
            home: home.clone(),
            kind,
            engine,
            current,
            health: Health::default(),
            failed: None,
        };
        Ok(Opened { store, put_aside })
    }

    /// Closes the store and opens it again, after a write found no room: what is durable is what is
    /// there. Every [`Snapshot`] must be on its way out.
    ///
    /// # Errors
    /// As [`NodeStore::open`]; a store that is corrupt now is a failure.
    pub fn reopened(mut self) -> Result<Self, Problem> {
        if !self.engine.is_unharmed() {
            (self.engine, self.current) = (Box::new(Closed), Arc::new(Closed));
            (self.engine, self.current) =
                open_patiently(&self.home, self.kind, false).map_err(|why| match why {
                    OpenEngine::Locked => store_failed("the engine did not let go of its files"),
                    why => cannot_open(&self.home, self.kind, why),
                })?;
        }
        self.failed = None;
        self.unsuspect();
        Ok(self)
    }

    /// Its engine.
    pub fn kind(&self) -> EngineKind {
        self.kind
    }

    /// Whether what is removed leaves the disk for good.
    pub fn erases(&self) -> bool {
        self.kind.erases()
    }

    /// The store as it is now, for a reader.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            reader: self.current.clone(),
            erases: self.kind.erases(),
        }
    }

    /// How it is doing, for those who look after it.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Gives unused bytes back to the file system; no [`Snapshot`] may be held. False if there were
    /// none, or if the engine cannot.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn compact(&mut self) -> Result<bool, StoreFailure> {
        self.current = Arc::new(Closed);
        let moved = self.engine.compact();
        self.current = self.engine.reader()?;
        moved
    }

    /// The bytes that the store of `home` takes on disk.
    pub fn bytes_on_disk(home: &Home) -> u64 {
        EngineKind::ALL
            .iter()
            .map(|kind| bytes_below(&kind.path(home)))
            .sum()
    }

    fn suspect(&self) {
        // On a disk that refuses writes this may fail too; the engine checks what it must by itself.
        let _ = std::fs::write(self.home.file(SUSPECT_FILE), b"");
    }

    fn unsuspect(&self) {
        let _ = std::fs::remove_file(self.home.file(SUSPECT_FILE));
    }
}

impl Snapshot {
    /// A snapshot of which nothing can be read: while the store is opened anew.
    pub(crate) fn closed(&self) -> Self {
        Self {
            reader: Arc::new(Closed),
            erases: self.erases,
        }
    }

    /// Whether what is removed from its store leaves the disk for good.
    pub fn erases(&self) -> bool {
        self.erases
    }
}

impl Drop for NodeStore {
    fn drop(&mut self) {
        // Whatever gave up here may have met what the disk has changed.
        if std::thread::panicking() {
            self.suspect();
        }
    }
}

impl std::fmt::Debug for NodeStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeStore({})", self.kind.name())
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Snapshot")
    }
}

impl Store for Snapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreFailure> {
        self.reader.get(table, key)
    }

    fn range(
        &self,
        table: Table,
        from: &[u8],
        until: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), StoreFailure> {
        self.reader.range(table, from, until, visit)
    }

    fn apply(&mut self, _: Batch) -> Result<(), StoreFailure> {
        Err(read_only())
    }
}

impl Store for NodeStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreFailure> {
        let read = self.current.get(table, key);
        read.inspect_err(|_| self.suspect())
    }

    fn range(
        &self,
        table: Table,
        from: &[u8],
        until: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), StoreFailure> {
        let read = self.current.range(table, from, until, visit);
        read.inspect_err(|_| self.suspect())
    }

    fn apply(&mut self, batch: Batch) -> Result<(), StoreFailure> {
        if let Some(failure) = &self.failed {
            return Err(failure.clone());
        }
        let (done, took) = clock::timed(|| {
            self.engine.apply(&batch)?;
            self.engine.reader()
        });
        self.health.committed(took);
        let kept = done.map(|reader| self.current = reader);
        kept.inspect_err(|failure| {
            // Whether the batch is on disk is unknown now, and another fsync would not tell.
            self.failed = Some(failure.clone());
            self.suspect();
        })
    }
}

/// The engine of this home: written down before the store is made.
fn settle_engine(home: &Home, asked: Option<EngineKind>) -> Result<EngineKind, Problem> {
    let there = EngineKind::ALL
        .into_iter()
        .find(|kind| kind.path(home).exists());
    let written = home.read(ENGINE_FILE, 64)?;
    let has = match &written {
        Some(name) => Some(EngineKind::parse(String::from_utf8_lossy(name).trim())?),
        // Homes were made before there was a choice.
        None => there,
    };
    let kind = has.or(asked).unwrap_or(EngineKind::Redb);
    if let Some(asked) = asked.filter(|asked| *asked != kind) {
        return Err(engine_problem(
            format!(
                "the store of {} is {}, not {}",
                home.path().display(),
                kind.name(),
                asked.name()
            ),
            "leave --store out to carry on with it, or give the other engine a home of its own and join with a new ticket; nothing was changed",
        ));
    }
    if kind == EngineKind::Sled && !cfg!(feature = "sled") {
        return Err(engine_problem(
            "this build has no sled engine".to_owned(),
            "build with the feature `sled`, or use redb in a home of its own",
        ));
    }
    if written.is_none() {
        home.write(ENGINE_FILE, format!("{}\n", kind.name()).as_bytes())?;
    }
    Ok(kind)
}

fn engine_problem(message: String, hint: &str) -> Problem {
    Problem::new("store_engine", 2, message, hint)
}

fn open_or_put_aside(
    home: &Home,
    kind: EngineKind,
) -> Result<(OpenStore, Option<PathBuf>), Problem> {
    let suspect = home.file(SUSPECT_FILE);
    let opened = match open_patiently(home, kind, suspect.exists()) {
        Ok(engine) => (engine, None),
        Err(OpenEngine::Corrupt(why)) => {
            let aside = free_name(home, kind);
            std::fs::rename(kind.path(home), &aside)
                .map_err(|e| home.trouble("put the store aside", &e))?;
            tracing::error!(target: "aquifer::store", %why, aside = %aside.display(),
                "the store is corrupt; it was put aside and is rebuilt from peers");
            let engine =
                open_patiently(home, kind, false).map_err(|why| cannot_open(home, kind, why))?;
            (engine, Some(aside))
        }
        Err(why) => return Err(cannot_open(home, kind, why)),
    };
    let _ = std::fs::remove_file(&suspect);
    Ok(opened)
}

/// The home is locked by us, so whoever has the files open is a reader of a store that has just been
/// closed in this process: it lets go in a moment.
fn open_patiently(home: &Home, kind: EngineKind, check: bool) -> Result<OpenStore, OpenEngine> {
    let path = kind.path(home);
    let mut opened = open_at(kind, &path, check);
    for _ in 0..LOCKED_TRIES {
        // Room may be made any moment, too.
        match &opened {
            Err(OpenEngine::Locked) => {}
            Err(OpenEngine::Io(e)) if no_room(e) => {}
            _ => break,
        }
        std::thread::sleep(LOCKED_PAUSE);
        opened = open_at(kind, &path, check);
    }
    opened
}

fn open_at(kind: EngineKind, path: &Path, check: bool) -> Result<OpenStore, OpenEngine> {
    let open = || {
        let engine = kind.open(path, check)?;
        let corrupt = |why: StoreFailure| OpenEngine::Corrupt(why.to_string());
        let reader = engine.reader().map_err(corrupt)?;
        // Reading where the logs stand touches every page that opening the replica needs.
        let seen = Snapshot {
            reader: reader.clone(),
            erases: kind.erases(),
        };
        aquifer_protocol::log::Logs::load(&seen).map_err(corrupt)?;
        Ok((engine, reader))
    };
    // Engines assert on some corruptions; a node must come up all the same.
    let opened = std::panic::catch_unwind(open);
    opened.unwrap_or_else(|_| {
        Err(OpenEngine::Corrupt(format!(
            "{} gave up on it",
            kind.name()
        )))
    })
}

fn cannot_open(home: &Home, kind: EngineKind, why: OpenEngine) -> Problem {
    match why {
        OpenEngine::Locked => Problem::new(
            "home_locked",
            1,
            format!("another process has {} open", kind.path(home).display()),
            "stop it, or give this node a home of its own with --home",
        ),
        OpenEngine::Version(what) => newer(&what),
        OpenEngine::Io(e) => home.trouble("open the store", &e),
        OpenEngine::Corrupt(why) => store_failed(&why),
    }
}

fn store_failed(why: &str) -> Problem {
    Problem::new(
        "store_failed",
        1,
        format!("the store cannot be opened: {why}"),
        "start the node again: the store is checked, and rebuilt from peers if it must be",
    )
}

fn free_name(home: &Home, kind: EngineKind) -> PathBuf {
    let names = (1u32..).map(|n| home.file(&format!("store.corrupt-{n}.{}", kind.name())));
    names
        .into_iter()
        .find(|path| !path.exists())
        .expect("some number is free")
}

fn bytes_below(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else {
        return std::fs::metadata(path).map_or(0, |file| file.len());
    };
    entries
        .flatten()
        .map(|entry| bytes_below(&entry.path()))
        .sum()
}

/// The problem that the store was written by a newer version.
pub fn newer(what: &str) -> Problem {
    Problem::new(
        "store_newer",
        1,
        format!("the store was written by another version of aquifer ({what})"),
        "install that version or a later one; nothing was changed",
    )
}

#[cfg(test)]
#[path = "store/tests.rs"]
mod tests;
