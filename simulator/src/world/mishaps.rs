//! Mishaps: crashes and restarts, partitions, slow links, rot.
//!
//! Not here: lost and doubled packets (`network`), lies (`traitor`).

use super::{World, node};
use crate::disk::{Disk, Ending};
use crate::engine::{Happening, Index, Mishap};
use crate::report::Fault;
use aquifer_protocol::body::Manifest;
use aquifer_protocol::log;
use aquifer_protocol::{
    Command, CommandId, Input, RecordId, Replica, Settings, Store, Table, TopicId,
};
use core::time::Duration;

impl World {
    /// How this beat's commit ends, if badly.
    pub(super) fn draw_ending(&mut self) -> Option<Ending> {
        let (throw, after) = (self.chaos.below(1_000) as u32, self.chaos.permille(500));
        let rates = self.scenario.rates;
        if !self.stormy {
            None
        } else if throw < rates.crash {
            Some(if after {
                Ending::CutAfter
            } else {
                Ending::CutBefore
            })
        } else if throw < rates.crash + rates.refused {
            Some(Ending::Refused)
        } else {
            None
        }
    }

    /// A node is gone; what it had not committed is gone with it.
    pub fn crash(&mut self, node: Index, ending: Ending) {
        let fault = match ending {
            Ending::CutBefore => Fault::CrashBefore,
            Ending::CutAfter => Fault::CrashAfter,
            Ending::Refused => Fault::Refused,
        };
        self.report.bite(fault);
        self.line(|| format!("n{node} crashes ({ending:?})"));
        let disk_lost = self.chaos.permille(self.scenario.rates.disk_lost);
        let it = &mut self.nodes[node];
        it.replica = None;
        it.life += 1;
        it.inbox.clear();
        it.ear = Default::default();
        it.beat_planned = false;
        it.wake_at = None;
        self.report.unknown += self.ledger.forget_commands(node);
        if disk_lost && self.stormy {
            self.lose_disk(node);
        }
        for (peer, epoch) in self.network.forget(node) {
            let delay = self.chaos.millis(0, 3_000);
            self.engine.plan_in(
                delay,
                Happening::Notice {
                    node: peer,
                    peer: node,
                    epoch,
                },
            );
        }
        let down = self.chaos.millis(300, 15_000);
        self.engine.plan_in(down, Happening::Restart { node });
    }

    /// The disk of a node that is down is replaced by an empty one.
    ///
    /// # Panics
    /// If the node is up.
    pub fn lose_disk(&mut self, node: Index) {
        assert!(
            self.nodes[node].replica.is_none(),
            "a node that is up has its disk"
        );
        self.report.bite(Fault::DiskLost);
        self.line(|| format!("n{node} loses its disk"));
        self.nodes[node].disk = Disk::default();
        self.ledger.lose_disk(node);
    }

    /// A node comes up, with what its disk has.
    pub(super) fn start(&mut self, node: Index) {
        let local = self.clock(node);
        let it = &mut self.nodes[node];
        let seed = self
            .seed
            .branch("node", node as u64)
            .branch("life", it.life);
        let settings = Settings {
            hive: self.hive,
            member: Some(it.member.clone()),
            erases: true,
        };
        let opened = Replica::open(it.keys.clone(), settings, it.disk.clone(), seed, local);
        let replica = match opened {
            Ok(replica) => replica,
            Err(why) => {
                let what = format!("node {node} cannot be opened: {why}");
                return self.violate(crate::check::Violation::Panicked { what });
            }
        };
        it.accepted = replica
            .logs()
            .iter()
            .flat_map(|(key, state)| (0..state.height).map(move |seq| (key.topic, *state, seq)))
            .filter_map(|(topic, state, seq)| {
                let place = log::record_key(state.number, seq);
                let bytes = it.disk.get(Table::Records, &place).ok()??;
                Some((
                    log::read_stored(state.number, seq, &bytes).ok()?.id(),
                    topic,
                ))
            })
            .collect();
        // What cannot be read is there all the same.
        let rotten = self.ledger.rotten.iter().filter(|((at, _), _)| *at == node);
        it.accepted
            .extend(rotten.map(|((_, id), topic)| (*id, *topic)));
        it.replica = Some(replica);
        it.judged = 0;
        self.line(|| format!("n{node} starts"));
        crate::check::after_start(self, node);
        let manifest = Manifest {
            chain: self.nodes[node].member.chain().to_vec().into(),
            addresses: Vec::new(),
            agent: "aquifer-sim".to_owned(),
            storage_bytes: 0,
            gpu_bytes: 0,
            models: Vec::new(),
            up_since: local.millis(),
        };
        let id = self.command_id();
        self.input(
            node,
            Input::Command {
                id,
                command: Command::Announce { manifest },
            },
        );
        self.plan_wake(node);
        for peer in (0..self.nodes.len()).filter(|peer| *peer != node) {
            let delay = self.chaos.millis(1, 500);
            self.plan_dial(node, peer, delay);
        }
    }

    pub(super) fn command_id(&mut self) -> CommandId {
        self.next_command += 1;
        CommandId(self.next_command)
    }

    fn plan_dial(&mut self, a: Index, b: Index, delay: Duration) {
        if self.dialing.insert((a.min(b), a.max(b))) {
            self.engine.plan_in(
                delay,
                Happening::Dial {
                    a: a.min(b),
                    b: a.max(b),
                },
            );
        }
    }

    /// Everybody who is not connected tries to connect.
    pub(super) fn redial(&mut self) {
        for a in 0..self.nodes.len() {
            for b in a + 1..self.nodes.len() {
                if !self.network.is_settled(a, b) {
                    let delay = self.chaos.millis(1, 500);
                    self.plan_dial(a, b, delay);
                }
            }
        }
    }

    pub(super) fn dial(&mut self, a: Index, b: Index) {
        self.dialing.remove(&(a, b));
        let up = |world: &Self, node: Index| world.nodes[node].replica.is_some();
        if !up(self, a) || !up(self, b) || self.network.is_settled(a, b) {
            // Whoever is down dials when it comes up.
            return;
        }
        if self.network.connect(a, b, self.engine.now()) {
            self.line(|| format!("n{a} and n{b} connect"));
            for (node, peer) in [(a, b), (b, a)] {
                let member = self.nodes[peer].member.clone();
                self.input(node, Input::PeerUp { member });
            }
        } else {
            let delay = self.chaos.millis(1_000, 4_000);
            self.plan_dial(a, b, delay);
        }
    }

    /// A connection breaks; both sides will notice.
    pub(super) fn sever(&mut self, a: Index, b: Index) {
        if !self.stormy {
            return;
        }
        let Some(epoch) = self.network.sever(a, b) else {
            return;
        };
        for (node, peer) in [(a, b), (b, a)] {
            let delay = self.chaos.millis(0, 2_000);
            self.engine
                .plan_in(delay, Happening::Notice { node, peer, epoch });
        }
    }

    pub(super) fn notice(&mut self, node: Index, peer: Index, epoch: u64) {
        if self.network.notice(node, peer, epoch) {
            self.line(|| format!("n{node} sees that n{peer} is gone"));
            let gone = self.nodes[peer].keys.node();
            self.input(node, Input::PeerDown { peer: gone });
            let delay = self.chaos.millis(300, 3_000);
            self.plan_dial(node, peer, delay);
        }
    }

    pub(super) fn mishap(&mut self, mishap: Mishap) {
        match mishap {
            Mishap::Partition => {
                let count = self.nodes.len();
                let by_region = self.chaos.permille(400);
                let top = self.nodes[self.chaos.index(count)].site.region.top();
                let inside: Vec<Index> = (0..count)
                    .filter(|i| {
                        let drawn = self.chaos.permille(500);
                        if by_region {
                            top.covers(&self.nodes[*i].site.region)
                        } else {
                            drawn
                        }
                    })
                    .collect();
                let lasts = self.chaos.millis(1_000, 25_000);
                self.partition(&inside, lasts);
            }
            Mishap::OneWay => {
                let (from, to) = self.draw_link();
                let (lasts, breaks) = (self.chaos.millis(1_000, 15_000), self.chaos.permille(500));
                self.line(|| format!("n{to} cannot hear n{from} for {lasts:?}"));
                self.network.deafen(from, to, self.engine.now() + lasts);
                if breaks {
                    self.engine
                        .plan_in(lasts / 2, Happening::Break { a: from, b: to });
                }
            }
            Mishap::Clog => {
                let (from, to) = self.draw_link();
                let lasts = self.chaos.millis(1_000, 15_000);
                let delay = self.chaos.millis(200, 5_000);
                self.line(|| format!("n{from} to n{to} takes {delay:?} longer for {lasts:?}"));
                self.network
                    .clog(from, to, self.engine.now() + lasts, delay);
            }
            Mishap::Rot => self.rot(),
            Mishap::Attack => self.attack(),
        }
    }

    fn draw_link(&mut self) -> (Index, Index) {
        let count = self.nodes.len();
        let from = self.chaos.index(count);
        (
            from,
            (from + 1 + self.chaos.index((count - 1).max(1))) % count,
        )
    }

    /// Splits the network between `inside` and the rest. Long splits break links.
    pub fn partition(&mut self, inside: &[Index], lasts: Duration) {
        self.line(|| format!("{inside:?} are cut off for {lasts:?}"));
        self.network.split(
            node::bits(inside.iter().copied()),
            self.engine.now() + lasts,
        );
        let timeout = self.chaos.millis(2_000, 10_000);
        if timeout < lasts {
            for a in inside {
                for b in (0..self.nodes.len()).filter(|b| !inside.contains(b)) {
                    self.engine.plan_in(timeout, Happening::Break { a: *a, b });
                }
            }
        }
    }

    /// Flips a bit of a stored record, of which another honest node has a good copy.
    fn rot(&mut self) {
        let honest: Vec<Index> = self.honest().collect();
        let node = *self.chaos.pick(&honest);
        let (which, bit) = (self.chaos.bits(), self.chaos.bits());
        let ids: Vec<_> = self.nodes[node].accepted.keys().copied().collect();
        let Some(id) = ids.get((which % ids.len().max(1) as u64) as usize) else {
            return;
        };
        let disk = &self.nodes[node].disk;
        let Ok(Some(place)) = log::place_of(disk, id) else {
            return;
        };
        // One good copy stays (a fault atlas, after TigerBeetle's), so that whatever is lost is a bug: it
        // lies where no law of this run will have it removed.
        let topic = self.nodes[node].accepted[id];
        let good = honest.into_iter().find(|other| {
            let record = log::record_by_id(&self.nodes[*other].disk, id);
            *other != node
                && self.keeps_for_ever(*other, topic)
                && !self.ledger.rotten.contains_key(&(*other, *id))
                && record.is_ok_and(|r| r.is_some_and(|r| r.carried().is_some()))
        });
        let Some(good) = good else { return };
        if self.nodes[node]
            .disk
            .rot(Table::Records, &log::record_key(place.0, place.1), bit)
        {
            self.report.bite(Fault::Rot);
            self.line(|| format!("n{node}: a bit of {id:?} flips; n{good} has it whole"));
            self.ledger.rot(node, *id, topic, good);
        }
    }

    /// Whether every law that `topic` will ever stand under lets `node` have it.
    fn keeps_for_ever(&self, node: Index, topic: TopicId) -> bool {
        let Some(name) = self.names.get(&topic) else {
            return false;
        };
        let region = self.nodes[node].site.region.as_str();
        let mut laws = self.scenario.changes.iter();
        laws.all(|change| !change.topic.covers(name) || change.rule.permits(node, region))
    }

    /// A bit flips where `part` lies in the stored record `id` of a node.
    ///
    /// # Panics
    /// If it is not there, or no other honest node has the record.
    pub fn spoil(&mut self, node: Index, id: RecordId, part: &[u8]) {
        let disk = &self.nodes[node].disk;
        let place = log::place_of(disk, &id)
            .expect("memory can be read")
            .expect("it is there");
        let key = log::record_key(place.0, place.1);
        let value = disk
            .get(Table::Records, &key)
            .expect("memory")
            .expect("it is there");
        let at = value
            .windows(part.len())
            .position(|w| w == part)
            .expect("it is in there");
        disk.rot(Table::Records, &key, at as u64 * 8);
        let good = self
            .honest()
            .find(|other| *other != node && self.nodes[*other].has(&id));
        let topic = self.nodes[node].accepted[&id];
        self.report.bite(Fault::Rot);
        self.ledger
            .rot(node, id, topic, good.expect("somebody has it whole"));
    }
}
