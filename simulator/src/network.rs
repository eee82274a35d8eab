//! The network: connections that come and go, and packets that are late, lost, doubled or overtaken.
//!
//! Every two nodes have a link. While it is up, packets travel with the latency of their regions and
//! jitter; each side learns that it is up before any packet arrives over it, as real drivers see to,
//! and learns that it broke some time after it did, each side by itself. A partition first swallows
//! packets in silence and breaks links later.
//!
//! Not here: when the network fails (`world::mishaps`), what packets say (the core).

use crate::chance::Dice;
use crate::engine::Index;
use crate::report::{Fault, Report};
use crate::scenario::Rates;
use aquifer_protocol::{Message, Region, Time};
use bytes::Bytes;
use core::time::Duration;
use std::collections::BTreeMap;

/// What travels.
#[derive(Clone, Debug)]
pub enum Packet {
    /// A message that is open already: its records are shared, not copied.
    Message(Message),
    /// Bytes, to be opened at the door.
    Frame(Bytes),
    /// Something said in a mesh.
    Gossip(Region, Message),
}

/// All links.
#[derive(Debug)]
pub struct Network {
    regions: Vec<Region>,
    links: BTreeMap<(Index, Index), Link>,
    cuts: Vec<Cut>,
    clogs: BTreeMap<(Index, Index), (Time, Duration)>,
    /// When the last packet in a direction arrives.
    arrivals: BTreeMap<(Index, Index), Time>,
    rates: Rates,
    dice: Dice,
}

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    epoch: u64,
    up: bool,
    /// Whether each side believes that it is up.
    believed: [bool; 2],
}

/// Packets from inside to outside vanish; both ways unless `one_way`.
#[derive(Clone, Debug)]
struct Cut {
    inside: u64,
    outside: u64,
    one_way: bool,
    until: Time,
}

impl Network {
    /// No link is up yet.
    pub fn new(regions: Vec<Region>, rates: Rates, dice: Dice) -> Self {
        Self {
            regions,
            links: BTreeMap::new(),
            cuts: Vec::new(),
            clogs: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            rates,
            dice,
        }
    }

    /// From now on nothing goes wrong.
    pub fn heal(&mut self) {
        self.cuts.clear();
        self.clogs.clear();
        self.rates = Rates::default();
    }

    /// Brings a link up, if both sides know that it is down. True if it is up now, and new.
    pub fn connect(&mut self, a: Index, b: Index, now: Time) -> bool {
        if self.swallows(a, b, now).is_some() || self.swallows(b, a, now).is_some() {
            return false;
        }
        let link = self.links.entry(pair(a, b)).or_default();
        if link.up || link.believed != [false; 2] {
            return false;
        }
        *link = Link {
            epoch: link.epoch + 1,
            up: true,
            believed: [true; 2],
        };
        true
    }

    /// Whether the link is up or believed to be.
    pub fn is_settled(&self, a: Index, b: Index) -> bool {
        self.links
            .get(&pair(a, b))
            .is_some_and(|link| link.up && link.believed == [true; 2])
    }

    /// Breaks a link. Returns the connection that broke, of which both sides must take notice.
    pub fn sever(&mut self, a: Index, b: Index) -> Option<u64> {
        let link = self.links.get_mut(&pair(a, b)).filter(|link| link.up)?;
        link.up = false;
        Some(link.epoch)
    }

    /// A side takes notice that a connection broke. True if it is news to it.
    pub fn notice(&mut self, node: Index, peer: Index, epoch: u64) -> bool {
        let Some(link) = self.links.get_mut(&pair(node, peer)) else {
            return false;
        };
        let believed = &mut link.believed[usize::from(node > peer)];
        link.epoch == epoch && !link.up && std::mem::take(believed)
    }

    /// A node is gone and has forgotten everything: its links break. Returns the peers that must
    /// take notice, and of which connection.
    pub fn forget(&mut self, node: Index) -> Vec<(Index, u64)> {
        let mut told = Vec::new();
        for ((a, b), link) in &mut self.links {
            if *a == node || *b == node {
                let peer = if *a == node { *b } else { *a };
                link.up = false;
                link.believed[usize::from(node > peer)] = false;
                if link.believed[usize::from(peer > node)] {
                    told.push((peer, link.epoch));
                }
            }
        }
        told
    }

    /// The connection over which a packet that arrives now came, if it is still up.
    pub fn is_current(&self, a: Index, b: Index, epoch: u64) -> bool {
        self.links
            .get(&pair(a, b))
            .is_some_and(|link| link.up && link.epoch == epoch)
    }

    /// Whether a node believes that it can send to `peer`.
    pub fn believes(&self, node: Index, peer: Index) -> bool {
        let link = self.links.get(&pair(node, peer));
        link.is_some_and(|link| link.believed[usize::from(node > peer)])
    }

    /// Packets between `inside` and everyone else vanish until `until`.
    pub fn split(&mut self, inside: u64, until: Time) {
        self.cuts.push(Cut {
            inside,
            outside: !inside,
            one_way: false,
            until,
        });
    }

    /// Packets from `from` to `to` vanish until `until`.
    pub fn deafen(&mut self, from: Index, to: Index, until: Time) {
        self.cuts.push(Cut {
            inside: 1 << from,
            outside: 1 << to,
            one_way: true,
            until,
        });
    }

    /// Packets from `from` to `to` take `delay` longer until `until`.
    pub fn clog(&mut self, from: Index, to: Index, until: Time, delay: Duration) {
        self.clogs.insert((from, to), (until, delay));
    }

    fn swallows(&self, from: Index, to: Index, now: Time) -> Option<Fault> {
        let has = |set: u64, node: Index| set >> node & 1 == 1;
        self.cuts
            .iter()
            .filter(|cut| now < cut.until)
            .find_map(|cut| {
                let out = has(cut.inside, from) && has(cut.outside, to);
                let back = !cut.one_way && has(cut.outside, from) && has(cut.inside, to);
                let fault = if cut.one_way {
                    Fault::OneWay
                } else {
                    Fault::Partition
                };
                (out || back).then_some(fault)
            })
    }

    /// Sends a packet. Returns over which connection, and when it arrives: never, once, or twice.
    pub fn send(
        &mut self,
        from: Index,
        to: Index,
        now: Time,
        report: &mut Report,
    ) -> (u64, [Option<Time>; 2]) {
        let Some(link) = self
            .links
            .get(&pair(from, to))
            .filter(|link| link.up)
            .copied()
        else {
            return (0, [None; 2]);
        };
        let lost = self.dice.permille(self.rates.loss);
        if let Some(fault) = self.swallows(from, to, now) {
            report.bite(fault);
            return (link.epoch, [None; 2]);
        }
        if lost {
            report.bite(Fault::Loss);
            return (link.epoch, [None; 2]);
        }
        let first = self.arrival(from, to, now, report);
        let twice = self.dice.permille(self.rates.duplicate);
        let second = twice.then(|| {
            report.bite(Fault::Duplicate);
            first + self.dice.millis(0, 3_000)
        });
        (link.epoch, [Some(first), second])
    }

    fn arrival(&mut self, from: Index, to: Index, now: Time, report: &mut Report) -> Time {
        let base = latency_micros(&self.regions[from], &self.regions[to]);
        let jitter = self.dice.below(base / 2 + 1);
        let mut at = now + Duration::from_micros(base + jitter);
        if let Some((until, delay)) = self.clogs.get(&(from, to))
            && now < *until
        {
            report.bite(Fault::Clog);
            at = at + *delay;
        }
        // Packets of one direction stay in order, as over one stream, unless they may overtake.
        let free = self.dice.permille(self.rates.reorder);
        let last = self.arrivals.entry((from, to)).or_default();
        if free && at < *last {
            report.bite(Fault::Reorder);
        } else if !free {
            at = at.max(*last);
        }
        *last = at.max(*last);
        at
    }
}

/// One way: half a millisecond in one place, some milliseconds on one side of the sea, more across.
fn latency_micros(a: &Region, b: &Region) -> u64 {
    match (a == b, a.top() == b.top()) {
        (true, _) => 500,
        (_, true) => 8_000,
        _ => 60_000,
    }
}

fn pair(a: Index, b: Index) -> (Index, Index) {
    (a.min(b), a.max(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aquifer_protocol::Seed;

    fn network(rates: Rates) -> Network {
        let regions = ["eu", "eu", "us"].map(|r| r.parse().unwrap()).to_vec();
        Network::new(regions, rates, Dice::new(&Seed::from_number(1), "network"))
    }

    #[test]
    fn packets_travel_only_while_the_link_is_up_and_keep_their_order() {
        let (mut net, mut report) = (network(Rates::default()), Report::default());
        let now = Time::from_millis(1);
        assert_eq!(net.send(0, 2, now, &mut report).1, [None; 2]);
        assert!(net.connect(0, 2, now) && !net.connect(2, 0, now));
        let mut last = now;
        for _ in 0..100 {
            let (epoch, [at, twice]) = net.send(0, 2, now, &mut report);
            assert!(at.unwrap() >= last && twice.is_none());
            last = at.unwrap();
            assert!(net.is_current(0, 2, epoch));
        }
        let broken = net.sever(0, 2).unwrap();
        assert!(!net.is_current(0, 2, broken) && net.believes(0, 2));
        assert!(net.notice(0, 2, broken) && !net.notice(0, 2, broken));
        assert!(!net.connect(0, 2, now), "one side has not noticed yet");
        assert!(net.notice(2, 0, broken) && net.connect(0, 2, now));
        assert!(report.faults.is_empty());
    }

    #[test]
    fn a_partition_swallows_both_ways_and_a_deaf_link_one() {
        let (mut net, mut report) = (network(Rates::default()), Report::default());
        let (now, until) = (Time::from_millis(1), Time::from_millis(9));
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            assert!(net.connect(a, b, now));
        }
        net.split(0b100, until);
        for (from, to, arrives) in [(0, 1, true), (0, 2, false), (2, 1, false)] {
            assert_eq!(net.send(from, to, now, &mut report).1[0].is_some(), arrives);
        }
        assert!(net.send(0, 2, until, &mut report).1[0].is_some(), "it ends");
        net.heal();
        net.deafen(0, 1, until);
        assert!(net.send(0, 1, now, &mut report).1[0].is_none());
        assert!(net.send(1, 0, now, &mut report).1[0].is_some());
        assert_eq!(report.faults[&Fault::Partition], 2);
        assert_eq!(report.faults[&Fault::OneWay], 1);
    }

    #[test]
    fn faults_are_counted_only_where_they_bit() {
        let rates = Rates {
            loss: 300,
            duplicate: 300,
            reorder: 500,
            ..Rates::default()
        };
        let (mut net, mut report) = (network(rates), Report::default());
        let now = Time::from_millis(1);
        net.connect(0, 1, now);
        let mut arrived = [0, 0];
        for _ in 0..1_000 {
            let (_, at) = net.send(0, 1, now, &mut report);
            arrived[0] += u64::from(at[0].is_some());
            arrived[1] += u64::from(at[1].is_some());
        }
        assert_eq!(report.faults[&Fault::Loss], 1_000 - arrived[0]);
        assert_eq!(report.faults[&Fault::Duplicate], arrived[1]);
        assert!(report.faults[&Fault::Reorder] > 10);
    }
}
