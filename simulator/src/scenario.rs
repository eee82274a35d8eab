//! The scenario: everything that one seed decides before the first beat.
//!
//! How many nodes, where, how skewed their clocks; which topics under which laws, and when the laws
//! change; how often each thing goes wrong. The rates themselves are drawn, and each kind of fault is
//! absent from about half of the seeds, because bugs hide behind faults that always come together
//! (swarm testing: Groce et al. 2012; rates after TigerBeetle's VOPR).
//!
//! Not here: plans, which fix some of it by hand (`plan`); the judge of the laws (`rule`).

pub mod plan;
pub mod rule;

use crate::chance::Dice;
use crate::engine::Index;
use aquifer_protocol::{Region, Seed, TopicName};
use core::time::Duration;
use rule::Rule;
use serde::Deserialize;

/// One node's place in the world.
#[derive(Clone, Debug)]
pub struct Site {
    /// Its certified region.
    pub region: Region,
    /// By how many milliseconds its clock is ahead of the world's.
    pub skew_ms: i64,
    /// How long a commit takes at most, in microseconds.
    pub sync_micros: u64,
    /// Whether it lies.
    pub traitor: bool,
}

/// A topic is founded, or its law changed.
#[derive(Clone, Debug)]
pub struct Change {
    /// When, after the start.
    pub at: Duration,
    /// The topic's name.
    pub topic: TopicName,
    /// Who founds it, and alone may change it.
    pub founder: Index,
    /// The law from then on.
    pub rule: Rule,
    /// Whether this founds the topic.
    pub founds: bool,
}

/// How often things go wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// Packets lost, in thousandths.
    pub loss: u32,
    /// Packets that arrive twice, in thousandths.
    pub duplicate: u32,
    /// Packets that may overtake others, in thousandths.
    pub reorder: u32,
    /// Packets that travel as bytes and are opened at the door, in thousandths.
    pub frames: u32,
    /// Beats that end in a crash, in thousandths.
    pub crash: u32,
    /// Crashes that take the disk along, in thousandths.
    pub disk_lost: u32,
    /// Commits that the disk refuses, in thousandths.
    pub refused: u32,
    /// Splits of the network in two.
    pub partitions: u32,
    /// Links that lose one direction.
    pub one_way: u32,
    /// Links that are slow for a while.
    pub clogs: u32,
    /// Bits that flip on disks.
    pub rots: u32,
    /// What each traitor does.
    pub attacks: u32,
}

/// Everything that is decided beforehand.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// From which all of it, and every throw of the run, comes.
    pub seed: u64,
    /// The nodes.
    pub sites: Vec<Site>,
    /// Foundings and changes of law, by time.
    pub changes: Vec<Change>,
    /// How many operations the agents attempt.
    pub operations: u32,
    /// How long things go wrong.
    pub storm: Duration,
    /// How long it may then take until all is well.
    pub patience: Duration,
    /// How often things go wrong.
    pub rates: Rates,
}

/// The worlds that seeds choose from: leaf regions, some nested.
const WORLDS: [&[&str]; 5] = [
    &["eu"],
    &["eu", "us"],
    &["eu/fr", "eu/de", "us"],
    &["eu/fr/paris-1", "eu/fr/lyon-1", "eu/de", "us/east"],
    &["eu", "us", "ap/jp", "sa"],
];

impl Scenario {
    /// Draws a scenario from `seed`.
    pub fn draw(seed: u64) -> Self {
        let root = Seed::from_number(seed);
        let mut dice = Dice::new(&root, "scenario");
        let world = *dice.pick(&WORLDS);
        let count = match dice.below(100) {
            0 => dice.between(21, 50),
            1..=9 => dice.between(9, 20),
            _ => dice.between(3, 8),
        };
        let mut scenario = Self {
            seed,
            sites: sites(&mut dice, world, count as usize),
            changes: Vec::new(),
            operations: dice.between(10, 80) as u32,
            storm: dice.millis(20_000, 80_000),
            patience: Duration::from_secs(400),
            rates: Rates::draw(&mut dice),
        };
        let topics = dice.between(1, 4) as usize;
        scenario.changes = changes(&mut Dice::new(&root, "laws"), &scenario, topics, true);
        scenario
    }

    /// Nodes in these regions, nothing goes wrong, nobody asks for anything, no topic: a clean sheet
    /// for stories.
    ///
    /// # Panics
    /// If a region's name is not one.
    pub fn quiet(seed: u64, regions: &[&str]) -> Self {
        let site = |region: &&str| Site {
            region: region.parse().expect("a region's name"),
            skew_ms: 0,
            sync_micros: 1_000,
            traitor: false,
        };
        Self {
            seed,
            sites: regions.iter().map(site).collect(),
            changes: Vec::new(),
            operations: 0,
            storm: Duration::from_secs(5),
            patience: Duration::from_secs(300),
            rates: Rates::default(),
        }
    }

    /// Plans that `founder` founds `topic` under `rule` at the start.
    ///
    /// # Panics
    /// If the topic's name is not one.
    #[must_use]
    pub fn with_topic(self, topic: &str, founder: Index, rule: Rule) -> Self {
        self.with_change(Duration::ZERO, topic, founder, rule, true)
    }

    /// Plans that the law of `topic` becomes `rule` at `at`.
    ///
    /// # Panics
    /// If the topic's name is not one.
    #[must_use]
    pub fn with_law(self, at: Duration, topic: &str, founder: Index, rule: Rule) -> Self {
        self.with_change(at, topic, founder, rule, false)
    }

    fn with_change(
        mut self,
        at: Duration,
        topic: &str,
        founder: Index,
        mut rule: Rule,
        founds: bool,
    ) -> Self {
        rule.tag = self.changes.len() as u32;
        rule.home = self.sites[founder].region.as_str().to_owned();
        let topic = topic.parse().expect("a topic's name");
        self.changes.push(Change {
            at,
            topic,
            founder,
            rule,
            founds,
        });
        self
    }

    /// The leaf regions that nodes are in, each once.
    pub fn regions(&self) -> Vec<&str> {
        let mut all: Vec<&str> = self.sites.iter().map(|site| site.region.as_str()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl Rates {
    fn draw(dice: &mut Dice) -> Self {
        let mut some = |most: u64| -> u32 {
            let (on, rate) = (dice.permille(500), dice.between(1, most));
            if on { rate as u32 } else { 0 }
        };
        let mut rates = Self {
            loss: some(300),
            duplicate: some(500),
            reorder: some(500),
            frames: some(200),
            crash: some(15),
            disk_lost: some(300),
            refused: some(5),
            partitions: some(5),
            one_way: some(5),
            clogs: some(6),
            rots: some(8),
            attacks: some(10),
        };
        // One good copy must be left of what rots, so disks are not lost in the same run.
        if rates.rots > 0 {
            rates.disk_lost = 0;
        }
        rates
    }
}

fn sites(dice: &mut Dice, world: &[&str], count: usize) -> Vec<Site> {
    let skewed = match dice.below(10) {
        0 => 90_000,
        1..=4 => 5_000,
        _ => 0,
    };
    let slow = dice.between(200, 20_000);
    // Fewer than a third lie, and in half of the seeds nobody does.
    let liars = if dice.permille(500) {
        dice.below(count as u64 / 3 + 1) as usize
    } else {
        0
    };
    (0..count)
        .map(|i| Site {
            region: dice.pick(world).parse().expect("a region's name"),
            skew_ms: dice.between(0, 2 * skewed) as i64 - skewed as i64,
            sync_micros: dice.between(100, slow.max(200)),
            traitor: i >= count - liars,
        })
        .collect()
}

/// Draws foundings, and now and then a change of law, in order of time.
pub(crate) fn changes(
    dice: &mut Dice,
    scenario: &Scenario,
    topics: usize,
    amend: bool,
) -> Vec<Change> {
    let honest: Vec<Index> = (0..scenario.sites.len())
        .filter(|i| !scenario.sites[*i].traitor)
        .collect();
    let mut all: Vec<Change> = Vec::new();
    for i in 0..topics {
        let parent = (i > 0 && dice.permille(400)).then(|| dice.pick(&all).clone());
        let drawn = *dice.pick(&honest);
        let (name, founder, mut rule) = match &parent {
            Some(above) => {
                // Mostly the founder above goes on below, sometimes somebody else does.
                let founder = if dice.permille(700) {
                    above.founder
                } else {
                    drawn
                };
                let rule = above.rule.narrowed(dice, &scenario.regions());
                (format!("{}/t{i}", above.topic), founder, rule)
            }
            None => (format!("t{i}"), drawn, Rule::draw(dice, scenario)),
        };
        rule.home = scenario.sites[founder].region.as_str().to_owned();
        let early = parent.as_ref().map_or(Duration::ZERO, |above| above.at);
        let late = dice.permille(300);
        let wait = dice.millis(0, 15_000);
        let at = if late {
            early + wait
        } else {
            early + Duration::from_millis(200)
        };
        let topic = name.parse().expect("a topic's name");
        all.push(Change {
            at,
            topic,
            founder,
            rule,
            founds: true,
        });
    }
    for founding in all.clone() {
        let (amended, at) = (dice.permille(350), dice.millis(3_000, 60_000));
        let widens = dice.permille(400);
        if amend && amended {
            let mut rule = if widens {
                Rule::draw(dice, scenario)
            } else {
                founding.rule.narrowed(dice, &scenario.regions())
            };
            rule.home.clone_from(&founding.rule.home);
            all.push(Change {
                at: founding.at + at,
                rule,
                founds: false,
                ..founding
            });
        }
    }
    all.sort_by_key(|change| change.at);
    // Tags rise with time, so that a later rule never looks wider than an earlier one by its tag.
    for (tag, change) in all.iter_mut().enumerate() {
        change.rule.tag = tag as u32;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_draw_worlds_of_every_size_and_every_kind_of_fault_is_absent_from_some() {
        let drawn: Vec<Scenario> = (0..300).map(Scenario::draw).collect();
        assert!(drawn.iter().all(|s| (3..=50).contains(&s.sites.len())));
        assert!(drawn.iter().any(|s| s.sites.len() > 8));
        assert!(
            drawn
                .iter()
                .all(|s| s.sites.iter().any(|site| !site.traitor))
        );
        let kinds: [fn(&Rates) -> u32; 12] = [
            |r| r.loss,
            |r| r.duplicate,
            |r| r.reorder,
            |r| r.frames,
            |r| r.crash,
            |r| r.disk_lost,
            |r| r.refused,
            |r| r.partitions,
            |r| r.one_way,
            |r| r.clogs,
            |r| r.rots,
            |r| r.attacks,
        ];
        for (i, kind) in kinds.iter().enumerate() {
            let on = drawn.iter().filter(|s| kind(&s.rates) > 0).count();
            assert!((50..250).contains(&on), "kind {i} is on in {on} of 300");
        }
        assert!(drawn.iter().any(|s| s.changes.iter().any(|c| !c.founds)));
    }
}
