//! A swarm: nodes in regions, each in its namespace and its home, with a WAN between them.
//!
//! The verbs are those of a story, as in `fleet`. Everything waits for a condition; how long it took
//! is measured, not asserted.

use super::canary::{self, Canary, Sighting};
use super::namespaces::{Namespaces, address};
use super::process::{Process, Unanswered, Written, answer};
use super::roads::{Chance, End, Line, Roads, Tally};
use super::talk::{Ask, Said, Start};
use super::tap::Passings;
use super::void::Void;
use aquifer_node::api::{PolicyView, Remember};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// After so long a condition that has not come true never will.
pub const PATIENCE: Duration = Duration::from_secs(100);

/// A topic that may be in every region.
pub const OPEN: &str = "open";

/// Which nodes there are, and how far apart.
#[derive(Clone, Debug)]
pub struct Map {
    /// Regions, and how many nodes each has. The first node of the first founds the hive.
    pub regions: Vec<(&'static str, usize)>,
    /// One-way delays in milliseconds between regions, both ways.
    pub ways: Vec<(&'static str, &'static str, u64)>,
    /// The one-way delay inside a region, in milliseconds.
    pub inside: u64,
    /// How many of a thousand packets are lost, everywhere.
    pub loss_permille: u16,
}

impl Map {
    /// Europe, America and Asia, `each` nodes in each: 40, 80 and 150 ms one way, 1 ms inside a region,
    /// one packet of a hundred lost.
    #[must_use]
    pub fn of_the_world(each: usize) -> Self {
        Self {
            regions: vec![("eu", each), ("us", each), ("ap", each)],
            ways: vec![("eu", "us", 40), ("us", "ap", 80), ("eu", "ap", 150)],
            inside: 1,
            loss_permille: 10,
        }
    }

    /// A number of nodes of the map: those of region `name`.
    fn region(&self, name: &str) -> usize {
        let mut names = self.regions.iter();
        let found = names.position(|(region, _)| *region == name);
        found.unwrap_or_else(|| panic!("the map has no region {name}"))
    }

    fn roads(&self, seed: u64) -> Roads {
        let counts = self.regions.iter().enumerate();
        let region_of = counts.flat_map(|(number, (_, count))| vec![number; *count]);
        let mut roads = Roads::new(region_of.collect(), seed);
        for number in 0..self.regions.len() {
            roads.set(number, number, Line::of(self.inside, self.loss_permille));
        }
        for (a, b, delay) in &self.ways {
            let line = Line::of(*delay, self.loss_permille);
            roads.set_both(self.region(a), self.region(b), line);
        }
        roads
    }
}

/// Where a node of the swarm is, whether it runs or not.
#[derive(Debug)]
pub struct Place {
    /// Its name: the region and a number, such as `eu1`.
    pub name: String,
    /// Its region.
    pub region: &'static str,
    /// Its address.
    pub address: Ipv4Addr,
    process: Mutex<Option<Arc<Process>>>,
}

impl Place {
    /// Its node, if it runs.
    pub fn process(&self) -> Option<Arc<Process>> {
        let process = self.process.lock();
        process.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn runs(&self, process: Option<Process>) {
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = process.map(Arc::new);
    }
}

/// Nodes, and the WAN between them. Dropped, it kills the nodes and takes the WAN down.
#[derive(Debug)]
pub struct Swarm {
    places: Vec<Place>,
    map: Map,
    program: PathBuf,
    canary: Canary,
    chance: Mutex<Chance>,
    wan: Namespaces,
    folder: TempDir,
}

impl Swarm {
    /// Makes the WAN of `map` and starts its nodes by `program node`. They know each other and the
    /// topic [`OPEN`] when this returns.
    ///
    /// # Errors
    /// [`Void`], if this machine or user may not make a WAN.
    ///
    /// # Panics
    /// If a node does not start, or they do not meet.
    pub async fn raise(program: &Path, map: Map, seed: u64) -> Result<Self, Void> {
        let mut places = Vec::new();
        for (number, (region, count)) in map.regions.iter().enumerate() {
            places.extend((0..*count).map(|i| Place {
                name: format!("{region}{}", i + 1),
                region,
                address: address(number, i),
                process: Mutex::default(),
            }));
        }
        let addresses: Vec<Ipv4Addr> = places.iter().map(|place| place.address).collect();
        let mut chance = Chance::new(seed);
        let wan = Namespaces::make(&addresses, map.roads(chance.bits()))?;
        let folder = tempfile::Builder::new().prefix("aquifer-wan-").tempdir();
        let swarm = Self {
            canary: Canary::draw(&mut chance),
            program: program.to_owned(),
            folder: folder.expect("a temporary folder"),
            places,
            map,
            chance: Mutex::new(chance),
            wan,
        };
        swarm.populate().await;
        Ok(swarm)
    }

    async fn populate(&self) {
        let founder = self.launch(0, Some(self.places[0].region), None).await;
        self.places[0].runs(Some(founder.expect("the founder starts")));
        let mut tickets = Vec::new();
        for place in &self.places[1..] {
            let ticket = match self.at(0).ask(Ask::Invite(place.region.into())).await {
                Ok(Said::Ticket(ticket)) => ticket,
                other => panic!("no ticket: {other:?}"),
            };
            tickets.push(ticket);
        }
        let mut joining = JoinSet::new();
        for (number, ticket) in (1..).zip(tickets) {
            let joins = self.launch(number, None, Some(ticket));
            joining.spawn(async move { (number, joins.await) });
        }
        while let Some(joined) = joining.join_next().await {
            let (number, process) = joined.expect("no panic");
            let name = &self.places[number].name;
            let process = process.unwrap_or_else(|why| panic!("{name} does not join: {why}"));
            self.places[number].runs(Some(process));
        }
        let regions: Vec<&str> = self.map.regions.iter().map(|(name, _)| *name).collect();
        self.creates(0, OPEN, &regions).await;
        self.everyone_recalls(0, OPEN, "the swarm has met").await;
    }

    /// Starts the node of place `number`.
    fn launch(
        &self,
        number: usize,
        region: Option<&str>,
        ticket: Option<String>,
    ) -> impl Future<Output = std::io::Result<Process>> + Send + 'static {
        let folder = self.folder_of(number);
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        let start = Start {
            home: folder.join("home"),
            address: self.places[number].address,
            region: region.map(str::to_owned),
            ticket,
            masked: canary::masked(&self.canary.forms()),
        };
        let program = self.program.clone();
        let namespace = self.wan.name(number).to_owned();
        async move { Process::launch(&program, &namespace, &folder.join("log"), &start).await }
    }

    /// `kill -9` of the node of place `number`; it stays down.
    pub async fn kills(&self, number: usize) {
        let process = self.at(number);
        self.places[number].runs(None);
        process.kill().await;
    }

    /// Starts the node of place `number` again, in the same home.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn restarts(&self, number: usize) {
        let process = self.launch(number, None, None).await;
        let name = &self.places[number].name;
        let process = process.unwrap_or_else(|why| panic!("{name} does not carry on: {why}"));
        self.places[number].runs(Some(process));
    }

    /// Keeps homes and logs when this is dropped, and says where they are.
    pub fn keeps_homes(&mut self) {
        self.folder.disable_cleanup(true);
        eprintln!("homes and logs stay in {}", self.folder.path().display());
    }

    /// The places, in the order of their numbers.
    #[must_use]
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// The numbers of the places in `region`.
    #[must_use]
    pub fn of_region(&self, region: &str) -> Vec<usize> {
        let all = self.places.iter().enumerate();
        let there = all.filter(|(_, place)| place.region == region);
        there.map(|(number, _)| number).collect()
    }

    /// The running node of place `number`.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn at(&self, number: usize) -> Arc<Process> {
        let place = &self.places[number];
        let running = place.process();
        running.unwrap_or_else(|| panic!("{} does not run", place.name))
    }

    /// Everything that the node of place `number` writes to disk is below this.
    #[must_use]
    pub fn folder_of(&self, number: usize) -> PathBuf {
        self.folder.path().join(&self.places[number].name)
    }

    /// Where all homes are: the disk that acknowledged writes are on.
    #[must_use]
    pub fn disk(&self) -> &Path {
        self.folder.path()
    }

    /// The word that must not leave.
    #[must_use]
    pub fn canary(&self) -> &Canary {
        &self.canary
    }

    /// A number below `end`, from the seed of this run.
    pub fn draw(&self, end: u64) -> u64 {
        let mut chance = self.chance.lock().unwrap_or_else(PoisonError::into_inner);
        chance.below(end)
    }

    /// Founds a topic that may be in `regions`, as soon as the founder knows that they exist.
    pub async fn creates(&self, number: usize, topic: &str, regions: &[&str]) {
        let policy = PolicyView {
            allowed_regions: Some(regions.iter().map(|r| (*r).to_owned()).collect()),
            ..PolicyView::default()
        };
        self.governs(number, topic, policy).await;
    }

    /// Founds a topic under `policy`, as soon as the founder knows the regions in it.
    pub async fn governs(&self, number: usize, topic: &str, policy: PolicyView) {
        let founder = self.at(number);
        until(&format!("{topic} is founded"), || async {
            match founder.ask(Ask::Create(topic.into(), policy.clone())).await {
                Ok(_) => true,
                Err(Unanswered::Refused(no)) if no.code == "unknown_region" => false,
                Err(other) => panic!("{topic} cannot be founded: {other}"),
            }
        })
        .await;
    }

    /// Remembers `text`.
    ///
    /// # Panics
    /// If it is not acknowledged.
    pub async fn remembers(&self, number: usize, topic: &str, text: &str) -> Written {
        let written = self.at(number).remember(note(topic, text)).await;
        written.unwrap_or_else(|why| panic!("{} does not write: {why}", self.places[number].name))
    }

    /// Remembers `text` at `number` and waits until every other place recalls it.
    pub async fn everyone_recalls(&self, number: usize, topic: &str, text: &str) {
        let others: Vec<usize> = (0..self.places.len()).filter(|i| *i != number).collect();
        self.spreads(number, &others, topic, text).await;
    }

    /// Remembers `text` at `number` and waits until the `others` recall it: from the beginning of
    /// the write to each.
    ///
    /// # Panics
    /// If that does not come.
    pub async fn spreads(
        &self,
        number: usize,
        others: &[usize],
        topic: &str,
        text: &str,
    ) -> (Written, Vec<Duration>) {
        let mut waiting = Vec::new();
        for other in others {
            waiting.push((*other, self.awaits(*other, topic, text).await));
        }
        let written = self.remembers(number, topic, text).await;
        let mut took = Vec::new();
        for (other, mut waits) in waiting {
            let at = self.recalled_at(other, &mut waits).await;
            took.push(Duration::from_micros(at.saturating_sub(written.began)));
        }
        (written, took)
    }

    /// Makes `number` look out for `text`; returns when it does.
    pub async fn awaits(&self, number: usize, topic: &str, text: &str) -> mpsc::Receiver<Said> {
        let (topic, text) = (topic.to_owned(), text.to_owned());
        let sent = self.at(number).send(Ask::Await { topic, text }).await;
        let mut waits = sent.expect("it runs");
        let armed = waits.recv().await;
        assert!(matches!(armed, Some(Said::Armed)), "{armed:?}");
        waits
    }

    /// When `number` recalled what it looks out for.
    pub async fn recalled_at(&self, number: usize, waits: &mut mpsc::Receiver<Said>) -> u64 {
        let name = &self.places[number].name;
        let said = tokio::time::timeout(PATIENCE, waits.recv()).await;
        match said.map(answer) {
            Ok(Ok(Said::Recallable(at))) => at,
            other => panic!("{name} never recalls it: {other:?}"),
        }
    }

    /// The digest of `topic` at every place of `numbers`, and of how many memories; nothing where the
    /// topic is not known.
    pub async fn digests(&self, numbers: &[usize], topic: &str) -> Vec<Option<(String, usize)>> {
        let mut found = Vec::new();
        for number in numbers {
            found.push(
                match self.at(*number).ask(Ask::Digest(topic.into())).await {
                    Ok(Said::Digest(digest, count)) => Some((digest, count)),
                    _ => None,
                },
            );
        }
        found
    }

    /// Waits until all of `numbers` hold the same of `topic`, `count` memories at least.
    pub async fn agree(&self, numbers: &[usize], topic: &str, count: usize) {
        let what = format!("all hold the same {count} memories of {topic}");
        until(&what, || async {
            let digests = self.digests(numbers, topic).await;
            let first = digests.first().cloned().flatten();
            first.as_ref().is_some_and(|(_, held)| *held >= count)
                && digests.iter().all(|digest| *digest == first)
        })
        .await;
    }

    /// What the tap of place `number` saw.
    pub async fn tapped(&self, number: usize) -> Passings {
        match self.at(number).ask(Ask::Tapped).await {
            Ok(Said::Tapped(passings)) => passings,
            other => panic!("no tap: {other:?}"),
        }
    }

    /// Looks for the canary in the memory of place `number`.
    ///
    /// # Panics
    /// If it may not be looked at.
    #[must_use]
    pub fn canary_in_memory(&self, number: usize) -> Sighting {
        let pid = self.at(number).pid();
        canary::in_memory(pid, &self.canary.forms()).expect("the memory of a child can be read")
    }

    /// Looks for the canary in all that place `number` wrote to disk.
    #[must_use]
    pub fn canary_on_disk(&self, number: usize) -> Sighting {
        canary::on_disk(&self.folder_of(number), &self.canary.forms())
    }

    /// The round trip between two places as it is set, without jitter.
    #[must_use]
    pub fn round_trip(&self, from: usize, to: usize) -> Duration {
        let number = |place: usize| self.map.region(self.places[place].region);
        let roads = self.wan.router.roads();
        roads.line(number(from), number(to)).delay + roads.line(number(to), number(from)).delay
    }

    /// Cuts every road between two regions, both ways.
    pub fn cut(&self, a: &str, b: &str) {
        let end = |name| End::Region(self.map.region(name));
        self.wan.router.roads().cut_both(end(a), end(b));
    }

    /// Cuts every road from one region to another; the way back stays.
    pub fn cut_one_way(&self, from: &str, to: &str) {
        let end = |name| End::Region(self.map.region(name));
        self.wan.router.roads().cut(end(from), end(to));
    }

    /// Takes all cuts back.
    pub fn heal(&self) {
        self.wan.router.roads().heal();
    }

    /// Changes every road.
    pub fn change_roads(&self, change: impl Fn(&mut Line)) {
        self.wan.router.roads().change(change);
    }

    /// What became of all packets so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.wan.router.total()
    }

    /// What became of the packets between regions, by their names.
    #[must_use]
    pub fn tallies(&self) -> BTreeMap<(&'static str, &'static str), Tally> {
        let name = |number: usize| self.map.regions[number].0;
        let found = self.wan.router.roads().by_region();
        found
            .into_iter()
            .map(|((from, to), tally)| ((name(from), name(to)), tally))
            .collect()
    }
}

/// A memory of `text` in `topic`, to be durable here.
#[must_use]
pub fn note(topic: &str, text: &str) -> Remember {
    Remember {
        text: text.into(),
        topic: Some(topic.into()),
        ..Remember::default()
    }
}

/// Waits until `condition` holds: how long that took.
///
/// # Panics
/// If it does not within [`PATIENCE`].
pub async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) -> Duration {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < PATIENCE, "it never came true that {what}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    start.elapsed()
}
