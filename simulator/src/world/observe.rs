//! Observe: what becomes of what a replica lets out.
//!
//! Messages go onto the network, answers into the ledger, events past the checkers; all of it into
//! the digest.
//!
//! Not here: what is wrong with it (`check`).

use super::World;
use crate::check;
use crate::engine::{Happening, Index};
use crate::ledger::{Intent, Item, Written};
use crate::network::Packet;
use crate::report::Fault;
use crate::trace;
use aquifer_protocol::{CommandId, Event, Message, NodeId, Output, RecordId, Reply, Time};
use std::collections::BTreeSet;

impl World {
    pub(super) fn observe(&mut self, node: Index, departs: Time, outputs: Vec<Output>) {
        for output in outputs {
            self.hasher.update(&(node as u64).to_le_bytes());
            self.hasher
                .update(&self.engine.now().micros().to_le_bytes());
            if self.trace.is_some() {
                let line = trace::line(&output);
                self.line(|| format!("n{node} {line}"));
            }
            match output {
                Output::Send { to, message } => {
                    self.hasher.update(&message.to_bytes());
                    self.leaves(node, to, message, departs);
                }
                Output::Publish { mesh, message, .. } => {
                    self.hasher.update(mesh.as_str().as_bytes());
                    self.hasher.update(&message.to_bytes());
                    self.publish(node, &mesh, &message, departs);
                }
                Output::Verdict { ticket, verdict } => {
                    self.hasher
                        .update(format!("{ticket:?} {verdict:?}").as_bytes());
                    self.judged(node, ticket, verdict, departs);
                }
                Output::Reply { to, reply } => {
                    self.hasher.update(format!("{to:?} {reply:?}").as_bytes());
                    self.answer(node, to, reply);
                }
                Output::Event(event) => {
                    self.hasher.update(trace::name(&event).as_bytes());
                    if let Event::Accepted { record, .. } | Event::Repaired { record, .. } = &event
                    {
                        self.hasher.update(record.id().as_bytes());
                    }
                    self.report.saw(trace::name(&event));
                    self.note(node, &event);
                    check::on_event(self, node, &event);
                }
            }
        }
    }

    fn leaves(&mut self, node: Index, to: NodeId, message: Message, departs: Time) {
        let Some(to) = self.numbers.get(&to).copied() else {
            return;
        };
        check::on_send(self, node, to, &message);
        let framed = self.chaos.permille(self.scenario.rates.frames);
        let packet = if framed {
            Packet::Frame(message.to_bytes().into())
        } else {
            Packet::Message(message)
        };
        self.post(node, to, departs, packet);
    }

    /// Puts a packet onto the network.
    pub(super) fn post(&mut self, from: Index, to: Index, departs: Time, packet: Packet) {
        self.report.packets += 1;
        let (epoch, arrivals) = self.network.send(from, to, departs, &mut self.report);
        for at in arrivals.into_iter().flatten() {
            let packet = packet.clone();
            self.engine.plan(
                at,
                Happening::Arrive {
                    from,
                    to,
                    epoch,
                    packet,
                },
            );
        }
    }

    fn answer(&mut self, node: Index, to: CommandId, reply: Reply) {
        let Some(intent) = self.ledger.answered(to) else {
            return;
        };
        match (reply, intent) {
            (Reply::Refused(_), Intent::Announce | Intent::Govern { .. }) => {}
            (Reply::Refused(_), Intent::Write { .. }) => self.report.refused += 1,
            (
                Reply::Written { ids, durable },
                Intent::Write {
                    topic,
                    items,
                    asked,
                },
            ) => {
                self.report.done += 1;
                if self.nodes[node].site.skew_ms != 0 {
                    self.report.bite(Fault::Skew);
                }
                check::on_written(self, node, topic, &ids, &durable, asked);
                let holders = durable
                    .holders
                    .iter()
                    .filter_map(|id| self.numbers.get(id).copied());
                let mut safe: BTreeSet<Index> =
                    holders.filter(|i| !self.nodes[*i].site.traitor).collect();
                safe.insert(node);
                if self.nodes[node].site.traitor {
                    // A liar's own logs may be cut at any time.
                    safe.clear();
                }
                for (i, id) in ids.into_iter().enumerate() {
                    // An erase may take more records than one.
                    let item = items.get(i).cloned().unwrap_or(Item::Erase);
                    self.keep(
                        id,
                        Written {
                            topic,
                            node,
                            item,
                            safe: safe.clone(),
                        },
                    );
                }
            }
            (Reply::Governed { .. }, Intent::Govern { change }) => {
                self.ledger.governed.insert(change);
            }
            _ => {}
        }
    }

    fn keep(&mut self, id: RecordId, mut written: Written) {
        // What rotted, or was lost with a disk or by law, before it was answered is not safe there.
        let rotten = |i: &Index| self.ledger.rotten.contains_key(&(*i, id));
        written
            .safe
            .retain(|i| !rotten(i) && self.nodes[*i].has(&id));
        if matches!(written.item, Item::Memory { .. }) {
            self.ledger.memories.push(id);
        }
        self.ledger.written.insert(id, written);
    }

    fn note(&mut self, node: Index, event: &Event) {
        match event {
            Event::Withdrawn { topic, .. } => self.ledger.withdraw(node, *topic),
            Event::Outlawed { ids, .. } => ids.iter().for_each(|id| self.ledger.outlaw(node, id)),
            Event::Repaired { record, .. } => self.ledger.repaired(node, record.id()),
            _ => {}
        }
    }
}
