//! The rules under random schedules: notes lost, doubled and out of order, clocks apart, nodes that crash.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// A tick, in milliseconds of the world's own time.
const TICK: u64 = 100;

/// A little generator of our own, so that a schedule is one number.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % most.max(1)
    }

    fn hits(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What a world does to its nodes.
#[derive(Clone, Copy, Debug)]
struct Weather {
    nodes: usize,
    /// How far clocks are apart, in milliseconds.
    apart: u64,
    /// The longest that a note is on its way, in milliseconds; lost ones are said again.
    delay: u64,
    /// How many crashes there are, of others than the last node.
    crashes: usize,
    /// How long the job lasts, in milliseconds.
    lasts: u64,
    /// Whether the asker cancels it.
    cancels: bool,
}

#[derive(Default)]
struct Node {
    task: Task,
    latest: Stamp,
    shift: i64,
    mine: Option<(Mine, u64)>,
    down_until: u64,
}

type Said = (At, NodeId, Fact);

struct World {
    weather: Weather,
    chance: Chance,
    now: u64,
    nodes: Vec<Node>,
    on_the_way: Vec<(u64, usize, Said)>,
    able: Vec<NodeId>,
    records: u64,
    runs: usize,
}

impl World {
    fn new(seed: u64, weather: Weather) -> Self {
        let mut chance = Chance(seed | 1);
        let nodes = (0..weather.nodes).map(|_| Node {
            shift: chance.below(2 * weather.apart + 1) as i64 - weather.apart as i64,
            ..Node::default()
        });
        let nodes: Vec<Node> = nodes.collect();
        let mut able: Vec<NodeId> = (1..weather.nodes).map(node).collect();
        // One that has gone for ever is still thought to be able.
        able.push(node(100));
        let mut world = Self {
            weather,
            chance,
            now: BEGIN,
            nodes,
            on_the_way: Vec::new(),
            able,
            records: 0,
            runs: 0,
        };
        let at = world.stamp(0);
        for node in &mut world.nodes {
            // That it is asked for is one note of one writer; when it comes makes no difference to the rules.
            node.task.asked = Some(asked(at.0));
            node.latest = at.0;
        }
        world
    }

    fn clock(&self, at: usize) -> u64 {
        let own = self.now.saturating_add_signed(self.nodes[at].shift);
        own.max(self.nodes[at].latest.time().millis())
    }

    fn stamp(&mut self, at: usize) -> At {
        let clock = Time::from_millis(self.now.saturating_add_signed(self.nodes[at].shift));
        let stamp = self.nodes[at].latest.tick(clock);
        self.records += 1;
        let id = digest("test", &[&self.records.to_be_bytes()]);
        (stamp, RecordId(id))
    }

    fn says(&mut self, from: usize, fact: Fact) -> RecordId {
        let at = self.stamp(from);
        let said = (at, node(from), fact);
        self.hears(from, &said);
        for to in (0..self.nodes.len()).filter(|to| *to != from) {
            let mut times = 1 + usize::from(self.chance.hits(20));
            while times > 0 {
                // One that is lost comes with the next round of sync.
                let late = if self.chance.hits(30) {
                    self.weather.delay / 2
                } else {
                    0
                };
                let wait = late + self.chance.below(self.weather.delay / 2);
                self.on_the_way.push((self.now + wait, to, said.clone()));
                times -= 1;
            }
        }
        at.1
    }

    fn hears(&mut self, to: usize, (at, by, fact): &Said) {
        let node = &mut self.nodes[to];
        node.latest = node.latest.max(at.0);
        node.task.join(*at, *by, fact.clone());
    }

    fn acts(&mut self, at: usize) {
        let now = self.clock(at);
        if let Some((_, ends)) = self.nodes[at].mine
            && self.now >= ends
        {
            self.nodes[at].mine = None;
            if self.nodes[at].task.may_end(&node(at), now) {
                self.says(at, Fact::Ended { job: Some(JOB) });
            }
            return;
        }
        let here = &self.nodes[at];
        let mine = here.mine.map(|(mine, _)| mine);
        match here.task.next(&TASK, &node(at), &self.able, now, mine) {
            Act::Rest(_) => {}
            Act::Claim(until, _) => {
                assert!(mine.is_none() && at > 0, "only who is able claims");
                let claim = self.says(at, Fact::Claimed { until });
                self.nodes[at].mine = Some((Mine { claim }, self.now + self.weather.lasts));
                self.runs += 1;
            }
            Act::Renew(until) => {
                assert!(until > now);
                self.says(at, Fact::Claimed { until });
            }
            Act::Leave => {
                let why = "it was started anew".to_owned();
                self.says(at, Fact::Left { again: true, why });
            }
            Act::Drop => self.nodes[at].mine = None,
        }
        let here = &self.nodes[at];
        if here.mine.is_some() && mine.is_some() {
            assert!(here.task.end().is_none(), "what has ended is run no more");
            let terms = here.task.terms();
            let of_another = terms
                .last()
                .is_some_and(|t| t.holds(now) && t.by != node(at));
            assert!(!of_another, "nor is what another has");
        }
    }

    fn tick(&mut self) {
        self.now += TICK;
        let (due, rest) = std::mem::take(&mut self.on_the_way)
            .into_iter()
            .partition(|(when, to, _)| *when <= self.now && self.nodes[*to].down_until <= self.now);
        self.on_the_way = rest;
        let due: Vec<(u64, usize, Said)> = due;
        for (_, to, said) in due {
            self.hears(to, &said);
        }
        for at in 0..self.nodes.len() {
            if self.nodes[at].down_until <= self.now {
                self.acts(at);
            }
        }
    }

    fn crash(&mut self) {
        let runs: Vec<usize> = (1..self.nodes.len() - 1)
            .filter(|at| self.nodes[*at].mine.is_some())
            .collect();
        if let Some(at) = runs.first() {
            self.nodes[*at].mine = None;
            self.nodes[*at].down_until = self.now + self.chance.below(60_000);
        }
    }

    /// Runs until nothing is to be expected any more.
    fn plays(&mut self) {
        let mut crashes = self.weather.crashes;
        let cancel = self.now + self.chance.below(self.weather.lasts * 2);
        let mut cancelled = !self.weather.cancels;
        let longest = 4 * (self.weather.lasts + 3 * self.weather.delay) + 600_000;
        let end = self.now + longest;
        while self.now < end && !(cancelled && self.is_quiet()) {
            self.tick();
            if crashes > 0 && self.chance.hits(2) && self.nodes.iter().any(|n| n.mine.is_some()) {
                self.crash();
                crashes -= 1;
            }
            if !cancelled && self.now >= cancel {
                cancelled = true;
                self.says(0, Fact::Cancelled);
            }
        }
    }

    /// Whether nothing is on its way, nothing runs, all are up, and all think it over.
    fn is_quiet(&self) -> bool {
        let is_over = |at: usize| {
            let node = &self.nodes[at];
            let standing = node.task.standing(self.clock(at));
            let is_over = matches!(standing, Standing::Ended(..) | Standing::GivenUp);
            is_over && node.mine.is_none() && node.down_until <= self.now
        };
        self.on_the_way.is_empty() && (0..self.nodes.len()).all(is_over)
    }

    /// How it stands with all, who must agree.
    fn agreed(&self) -> Standing {
        let all: Vec<Standing> = (0..self.nodes.len())
            .map(|at| self.nodes[at].task.standing(self.clock(at)))
            .collect();
        assert!(
            self.nodes.iter().all(|node| node.mine.is_none()),
            "nothing runs any more"
        );
        let facts: BTreeSet<usize> = self.nodes.iter().map(|n| n.task.facts.len()).collect();
        assert_eq!(1, facts.len(), "all have heard all");
        assert!(all.iter().all(|one| *one == all[0]), "{all:?}");
        all[0].clone()
    }
}

fn weather() -> impl Strategy<Value = Weather> {
    (
        2usize..6,
        0u64..2_000,
        200u64..6_000,
        0usize..3,
        200u64..90_000,
    )
        .prop_map(|(nodes, apart, delay, crashes, lasts)| Weather {
            nodes,
            apart,
            delay,
            crashes,
            lasts,
            cancels: false,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// While one node that can run it lives, a task ends with an outcome, and all agree on which, though
    /// notes are lost for a while, doubled and out of order, clocks are apart, and others crash.
    #[test]
    fn a_task_ends_once_while_one_capable_node_lives(seed: u64, weather in weather()) {
        let mut world = World::new(seed, weather);
        world.plays();
        let standing = world.agreed();
        prop_assert!(
            matches!(standing, Standing::Ended(_, _, Fact::Ended { .. })),
            "{standing:?} after {} runs", world.runs,
        );
    }

    /// Beyond what the rules count on (notes that are a minute late, clocks half a minute apart) work may
    /// be done in vain, but nobody waits for ever and nobody disagrees.
    #[test]
    fn in_any_weather_all_agree_in_the_end(
        seed: u64, weather in weather(), delay in 6_000u64..60_000, apart in 0u64..30_000,
        cancels: bool,
    ) {
        let mut world = World::new(seed, Weather { delay, apart, cancels, ..weather });
        world.plays();
        let standing = world.agreed();
        let is_over = matches!(standing, Standing::Ended(..) | Standing::GivenUp);
        prop_assert!(is_over, "{standing:?}");
        prop_assert!(world.runs <= 8 * ATTEMPTS_MAX, "{} runs", world.runs);
    }

    #[test]
    fn a_cancelled_task_ends_and_nobody_runs_it(seed: u64, weather in weather()) {
        let mut world = World::new(seed, Weather { cancels: true, ..weather });
        world.plays();
        prop_assert!(matches!(world.agreed(), Standing::Ended(..)));
    }

    /// What was heard decides, and not in which order.
    #[test]
    fn the_order_of_hearing_makes_no_difference(seed: u64, weather in weather()) {
        let mut world = World::new(seed, weather);
        world.plays();
        let one = &world.nodes[0].task;
        let mut facts: Vec<Said> = one.facts().map(|(a, b, f)| (*a, *b, f.clone())).collect();
        for i in (1..facts.len()).rev() {
            facts.swap(i, world.chance.below(i as u64 + 1) as usize);
        }
        let mut other = Task { asked: one.asked.clone(), ..Task::default() };
        for (at, by, fact) in facts {
            prop_assert!(other.join(at, by, fact.clone()));
            prop_assert!(!other.join(at, by, fact), "a second time it is no news");
        }
        prop_assert_eq!(&other, one);
    }
}
