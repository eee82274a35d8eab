//! Replicas: the product's own core behind every agent, for the full tier.
//!
//! Links, meshes, heartbeats, churn and ways are those of the compact tier. But what an agent does with
//! a message is what its [`Replica`] says: it judges each, keeps records on a store of its own, opens
//! talks of anti-entropy with the peers of its links, carries over as a bridge, and asks the law. A
//! message of the mesh is what some replica published; whatever replicas say to one peer travels as a
//! **letter** over that link.
//!
//! One input is one beat here, committed at once. What all begin with (the law, who writes) is read by
//! all from one store, under what each has written itself (`shelf`).
//!
//! Not here: how a hive is founded (`founding`), when what is called (`gossip::minded`).

mod founding;
mod shelf;

use super::plan::ParseSwarm;
use crate::world::START;
use aquifer_protocol::event::{Durability, RejectRecord};
use aquifer_protocol::{
    AgentId, Body, Command, CommandId, Event, Input, LogId, LogKey, Member, Message, NodeId,
    Output, Record, Region, Replica, Reply, Seq, Time, TopicId, TopicName, body,
};
use aquifer_protocol::{Ticket, Verdict};
use core::time::Duration;
pub use founding::Site;
use serde::Serialize;
use shelf::Shelf;
use std::collections::BTreeMap;

/// The replicas of all agents.
pub struct Replicas {
    minds: Vec<Mind>,
    post: Post,
    members: Vec<Member>,
    topics: Vec<Topic>,
    /// Where each message's record lies, once it is written, by number.
    places: Vec<Option<Place>>,
    numbers: BTreeMap<Place, u32>,
    /// What the mesh passes on as each message.
    said: Vec<Option<Message>>,
    reaction: Reaction,
    /// What was counted.
    pub counts: Counts,
}

/// A topic of the plan.
struct Topic {
    name: TopicName,
    id: TopicId,
    /// The mesh that carries it, by the agent's region.
    meshes: Vec<Option<Region>>,
}

/// One agent's.
struct Mind {
    replica: Replica<Shelf>,
    /// Who is at the other end of each link.
    peers: Vec<Option<NodeId>>,
    /// How many letters it has sent over each link.
    sent: Vec<u32>,
    /// Letters on their way to it: the link, their number, and where in the post they lie.
    mail: Vec<(u8, u32, u32)>,
    /// When it is to be woken, in microseconds; never if that is `u64::MAX`.
    wake_at: u64,
    /// By how much its clock is ahead of the slowest, in microseconds.
    ahead: u64,
}

/// Letters on their way, of everybody: each agent would need room for the most it ever had at once.
#[derive(Default)]
struct Post {
    letters: Vec<Option<Message>>,
    free: Vec<u32>,
}

impl Post {
    fn put(&mut self, letter: Message) -> u32 {
        let place = self.free.pop().unwrap_or_else(|| {
            self.letters.push(None);
            self.letters.len() as u32 - 1
        });
        self.letters[place as usize] = Some(letter);
        place
    }

    fn take(&mut self, place: u32) -> Message {
        self.free.push(place);
        let letter = self.letters[place as usize].take();
        letter.expect("a letter is taken once")
    }
}

/// A record's place in its log.
type Place = (NodeId, LogId, Seq);

/// What replicas did, all together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Counts {
    /// Inputs that were handled, each committed.
    pub beats: u64,
    /// Records that were kept.
    pub kept: u64,
    /// Letters, and their bytes.
    pub letters: u64,
    /// Times the law said no, to whatever.
    pub denied: u64,
}

/// What is to become of what a replica let out.
#[derive(Default)]
pub struct Reaction {
    /// Messages whose records were taken for the first time.
    pub taken: Vec<u32>,
    /// Messages to say to the mesh.
    pub published: Vec<u32>,
    /// Messages that may go on in the mesh, or may not.
    pub judged: Vec<(u32, bool)>,
    /// Letters, by link and number: they wait at the other end.
    pub letters: Vec<(u8, Message)>,
    /// When the replica wants to be woken, if that is sooner than is planned.
    pub wake: Option<u64>,
}

impl Replicas {
    /// Founds a hive of agents at `sites`: all are members, `topics` stand under their laws, and the
    /// `publishers` of the messages are known to all. `links` is how many ends each has.
    ///
    /// # Errors
    /// If a topic or region has no legal name.
    pub fn found(
        seed: u64,
        sites: &[Site],
        topics: &[(String, Vec<bool>)],
        publishers: &[u32],
        links: usize,
    ) -> Result<Self, ParseSwarm> {
        founding::found(seed, sites, topics, publishers, links)
    }

    /// Sets an agent's clock: so many microseconds ahead of the slowest.
    pub fn sets_clock(&mut self, agent: u32, ahead: u64) {
        self.minds[agent as usize].ahead = ahead;
    }

    /// Tells an agent who is at the other end of a link of its.
    pub fn links(&mut self, agent: u32, slot: u8, peer: u32) {
        let peer = self.members[peer as usize].node();
        self.minds[agent as usize].peers[usize::from(slot)] = Some(peer);
    }

    /// A link is up.
    pub fn peer_up(&mut self, (agent, at): (u32, u64), peer: u32) -> Reaction {
        let member = self.members[peer as usize].clone();
        self.beat(agent, at, Input::PeerUp { member }, None)
    }

    /// A link is down.
    pub fn peer_down(&mut self, (agent, at): (u32, u64), slot: u8) -> Reaction {
        match self.minds[agent as usize].peers[usize::from(slot)] {
            Some(peer) => self.beat(agent, at, Input::PeerDown { peer }, None),
            None => Reaction::default(),
        }
    }

    /// An agent remembers something: message `number`, of so many bytes.
    pub fn writes(
        &mut self,
        (agent, at): (u32, u64),
        number: u32,
        topic: usize,
        bytes: u32,
    ) -> Reaction {
        let text = format!("{number} ").repeat(bytes as usize / 2);
        let text: String = text.chars().take(bytes as usize).collect();
        let command = Command::Write {
            topic: self.topics[topic].name.clone(),
            author: AgentId([0; 32]),
            bodies: vec![Body::Memory(body::Memory::of(text))],
            durability: Durability::Local,
        };
        let id = CommandId(number.into());
        self.beat(agent, at, Input::Command { id, command }, Some(number))
    }

    /// Something said in the mesh reaches an agent in `region` over a link.
    pub fn hears(
        &mut self,
        (agent, at): (u32, u64),
        (number, topic): (u32, usize),
        region: usize,
        slot: u8,
    ) -> Reaction {
        let from = self.minds[agent as usize].peers[usize::from(slot)];
        let mesh = self.topics[topic].meshes[region].clone();
        let (Some(from), Some(mesh), Some(message)) = (from, mesh, &self.said[number as usize])
        else {
            return Reaction::default();
        };
        let input = Input::GossipMessage {
            mesh,
            from,
            ticket: Ticket(number.into()),
            message: message.clone(),
        };
        self.beat(agent, at, input, None)
    }

    /// Posts a letter of an agent, to lie at the other end until it arrives. Returns its number.
    pub fn posts(
        &mut self,
        (agent, slot): (u32, u8),
        (peer, reverse): (u32, u8),
        letter: Message,
    ) -> u32 {
        let sent = &mut self.minds[agent as usize].sent[usize::from(slot)];
        let number = *sent % LETTERS_AHEAD;
        *sent += 1;
        let place = self.post.put(letter);
        let mail = &mut self.minds[peer as usize].mail;
        mail.push((reverse, number, place));
        number
    }

    /// A letter has arrived: takes it out of the mail.
    pub fn collects(&mut self, agent: u32, slot: u8, number: u32) -> Option<Message> {
        let mail = &mut self.minds[agent as usize].mail;
        let found = mail
            .iter()
            .position(|(over, n, _)| (*over, *n) == (slot, number))?;
        let (.., place) = mail.swap_remove(found);
        Some(self.post.take(place))
    }

    /// An agent reads a letter that came over a link.
    pub fn reads(&mut self, (agent, at): (u32, u64), slot: u8, letter: Message) -> Reaction {
        match self.minds[agent as usize].peers[usize::from(slot)] {
            Some(from) => {
                let message = letter;
                self.beat(agent, at, Input::Message { from, message }, None)
            }
            None => Reaction::default(),
        }
    }

    /// An agent's timer goes off, unless another was planned instead.
    pub fn wakes(&mut self, agent: u32, at: u64) -> Option<Reaction> {
        let mind = &mut self.minds[agent as usize];
        if mind.wake_at != at {
            return None;
        }
        mind.wake_at = u64::MAX;
        Some(self.beat(agent, at, Input::Tick, None))
    }

    /// An agent that is away is not woken.
    pub fn sleeps(&mut self, agent: u32) {
        self.minds[agent as usize].wake_at = u64::MAX;
    }

    /// Whether an agent holds the record of a message.
    pub fn has(&self, agent: u32, (number, topic): (u32, usize)) -> bool {
        let Some((writer, log, seq)) = self.places[number as usize] else {
            return false;
        };
        let topic = self.topics[topic].id;
        let key = LogKey { topic, writer, log };
        let state = self.minds[agent as usize].replica.logs().get(&key);
        state.is_some_and(|state| state.height > seq)
    }

    /// Gives back what a reaction was told in, to be used again.
    pub fn done(&mut self, mut reaction: Reaction) {
        reaction.clear();
        self.reaction = reaction;
    }

    /// One input, one beat.
    fn beat(&mut self, agent: u32, at: u64, input: Input, writing: Option<u32>) -> Reaction {
        let mut reaction = std::mem::take(&mut self.reaction);
        let mind = &mut self.minds[agent as usize];
        mind.replica.handle(time(at + mind.ahead), input);
        mind.replica.commit().expect("memory does not fail");
        self.counts.beats += 1;
        while let Some(output) = mind.replica.poll_output() {
            match output {
                Output::Send { to, message } => {
                    let slot = mind.peers.iter().position(|peer| *peer == Some(to));
                    if let Some(slot) = slot {
                        self.counts.letters += 1;
                        reaction.letters.push((slot as u8, message));
                    }
                }
                Output::Publish { message, .. } => {
                    let last = last_place(&message);
                    if let Some(number) = last.and_then(|place| self.numbers.get(&place)) {
                        // What is on its way does not change: whoever says it again says no more.
                        self.said[*number as usize].get_or_insert(message);
                        reaction.published.push(*number);
                    }
                }
                Output::Verdict { ticket, verdict } => {
                    let accepted = verdict == Verdict::Accept;
                    reaction.judged.push((ticket.0 as u32, accepted));
                }
                Output::Event(Event::Accepted { record, from }) => {
                    self.counts.kept += 1;
                    let place = place_of(&record);
                    match (from, writing) {
                        (None, Some(number)) => {
                            self.places[number as usize] = Some(place);
                            self.numbers.insert(place, number);
                        }
                        _ => reaction.taken.extend(self.numbers.get(&place)),
                    }
                }
                Output::Event(
                    Event::Denied { .. }
                    | Event::Rejected {
                        why: RejectRecord::Denied(_),
                        ..
                    },
                )
                | Output::Reply {
                    reply: Reply::Refused(_),
                    ..
                } => self.counts.denied += 1,
                Output::Event(_) | Output::Reply { .. } => {}
            }
        }
        if let Some((deadline, _)) = mind.replica.next_deadline() {
            let wanted = deadline.since(START).as_micros() as u64;
            let soonest = at + WAKE_MIN.as_micros() as u64;
            let wanted = wanted.saturating_sub(mind.ahead).max(soonest);
            if wanted < mind.wake_at {
                mind.wake_at = wanted;
                reaction.wake = Some(wanted);
            }
        }
        reaction
    }
}

impl Reaction {
    /// What came of it, as a number for the digest.
    pub fn effect(&self) -> u64 {
        let counts = [
            self.taken.len(),
            self.published.len(),
            self.judged.len(),
            self.letters.len(),
        ];
        let counts = counts
            .into_iter()
            .fold(20, |sum, count| sum << 12 | count as u64);
        counts ^ self.wake.unwrap_or(0)
    }

    fn clear(&mut self) {
        self.taken.clear();
        self.published.clear();
        self.judged.clear();
        self.letters.clear();
        self.wake = None;
    }
}

/// No replica is woken sooner than this after it did something: longer than any epoch.
const WAKE_MIN: Duration = Duration::from_millis(2);

/// Most letters that are on their way over one link in one direction.
pub const LETTERS_AHEAD: u32 = 1 << 18;

/// So many microseconds after the beginning.
fn time(at: u64) -> Time {
    START + Duration::from_micros(at)
}

fn place_of(record: &Record) -> Place {
    let header = record.header();
    (header.writer, header.log, header.seq)
}

/// The last record that a message brings or announces.
fn last_place(message: &Message) -> Option<Place> {
    match message {
        Message::Records { runs, .. } => runs.last()?.last().map(place_of),
        Message::Items { items, .. } => {
            let item = items.last()?;
            Some((item.writer, item.log, item.height.checked_sub(1)?))
        }
        _ => None,
    }
}
