//! Hearing: what is for agents is taken on.
//!
//! Notes are read first, all of them, from the first record that this node has: what they say is kept
//! nowhere else. Inputs and publications are read once; where reading goes on is kept in the home. What
//! is told twice, after a crash, is known by its id.

use super::{From, Host};
use crate::agents::note::{self, Note};
use crate::agents::roster::Source;
use crate::agents::said;
use crate::api::Problem;
use crate::view::View;
use aquifer_protocol::body::Memory;
use aquifer_protocol::log::ReadRecord;
use aquifer_protocol::{Body, Kind, Record};
use aquifer_wasm::abi::{Cause, Wakeup};
use aquifer_wasm::manifest::covers;

/// Records read in one beat.
const RECORDS_PER_BEAT: usize = 1_024;
/// Inputs for agents that are not known yet.
const UNPLACED_MAX: usize = 1_024;

impl Host {
    /// Reads notes. Whether there is more.
    pub(super) fn reads_notes(&mut self, view: &View) -> Result<bool, Problem> {
        let (roster, mut stirred) = (&mut self.roster, false);
        let tasks = &self.memory.parts().tasks;
        let disputed = &mut self.standing.disputed;
        let more = self.noted.advance(view, RECORDS_PER_BEAT, &mut |record| {
            let header = record.header();
            match header.kind {
                Kind::AGENT => {}
                // An agent may ask for a task by what it says.
                Kind::MEMORY => return tasks.hears(&record),
                _ => return,
            }
            // What says nothing of agents may say something of tasks.
            let Some(note) = note_of(&record) else {
                return tasks.hears(&record);
            };
            stirred |= !matches!(note, Note::Input { .. } | Note::Answered { .. });
            *disputed |= matches!(note, Note::Disputed { .. } | Note::Module { .. });
            let source = Source {
                topic: header.topic,
                writer: header.writer,
                at: header.stamp.time().millis(),
            };
            roster.join(source, note);
        });
        self.stirred |= stirred;
        if let Ok(false) = more {
            tasks.has_read();
        }
        more.map_err(unreadable)
    }

    /// Reads what is for agents. Whether there is more.
    pub(super) fn reads_inputs(&mut self, view: &View) -> Result<bool, Problem> {
        let mut read = Vec::new();
        let more = self
            .told
            .advance(view, RECORDS_PER_BEAT, &mut |record| read.push(record));
        self.told_more |= !read.is_empty();
        for record in read {
            let body = record
                .body()
                .map(|bytes| Body::open(record.header().kind, &bytes));
            match body {
                Some(Ok(Body::Agent(_))) => {
                    let header = record.header();
                    let from = (header.author.0, header.stamp.time().millis());
                    note_of(&record)
                        .into_iter()
                        .for_each(|note| self.input(note, from));
                }
                Some(Ok(Body::Memory(memory))) => {
                    self.publication(view, &record, &memory);
                }
                Some(Ok(Body::Revision(revision))) => {
                    self.publication(view, &record, &revision.memory);
                }
                _ => {}
            }
        }
        more.map_err(unreadable)
    }

    /// Something for one agent.
    pub(super) fn input(&mut self, note: Note, (author, at): From) {
        let Note::Input {
            agent,
            id,
            invocation,
            body,
        } = &note
        else {
            return;
        };
        let Some((name, copy)) = self.roster.owner(agent) else {
            if self.unplaced.len() >= UNPLACED_MAX {
                self.unplaced.pop_front();
            }
            self.unplaced.push_back((note, (author, at)));
            return;
        };
        let Some(here) = self.families.get(name) else {
            return;
        };
        let wakeup = Wakeup {
            cause: note::cause(*invocation),
            from: Some(author),
            topic: String::new(),
            stamp: at,
            body: body.to_vec(),
        };
        let known = note::known_as(&author, agent, id);
        self.delivers(here.first + copy, known, wakeup);
    }

    /// Something on a topic: it wakes who follows it, but not who said it. Of many copies it wakes the
    /// one that its author falls to, always the same.
    fn publication(&mut self, view: &View, record: &Record, memory: &Memory) {
        let header = record.header();
        if self.families.iter().len() == 0 || view.may_read(header.topic).is_err() {
            return;
        }
        let topic = view.topic_name(header.topic);
        let (at, author) = (header.stamp.time().millis(), header.author.0);
        let own = self.roster.owner(&author).map(|(name, _)| name);
        let mut wanted = Vec::new();
        for (name, here) in self.families.iter() {
            let follows = &here.kind.granted().manifest.follows;
            if at >= here.since && own != Some(name) && covers(follows, &topic) {
                let falls = u64::from_be_bytes(*author.first_chunk().expect("32 bytes"));
                wanted.push(here.first + (falls % u64::from(here.agents.max(1))) as u32);
            }
        }
        let id = *record.id().0.first_chunk().expect("an id has 32 bytes");
        for agent in wanted {
            let wakeup = Wakeup {
                cause: Cause::Publication,
                from: Some(author),
                topic: topic.clone(),
                stamp: at,
                body: said::told(memory),
            };
            self.delivers(agent, for_agent(id, agent), wakeup);
        }
    }

    fn delivers(&mut self, agent: u32, id: [u8; 16], wakeup: Wakeup) {
        if let Err(why) = self.sleepers.deliver(agent, id, wakeup) {
            // It is longer than an inbox, or its agent has just gone.
            tracing::warn!(target: "aquifer::agents", agent, %why, "an input was not taken on");
        }
    }
}

fn note_of(record: &Record) -> Option<Note> {
    match Body::open(record.header().kind, &record.body()?) {
        Ok(Body::Agent(bytes)) => Note::read(&bytes),
        _ => None,
    }
}

fn unreadable(why: ReadRecord) -> Problem {
    Problem::new("unreadable", 1, why.to_string(), "see `aquifer doctor`")
}

/// One record may wake several agents: each knows it by an id of its own.
fn for_agent(mut id: [u8; 16], agent: u32) -> [u8; 16] {
    for (byte, own) in id.iter_mut().zip(agent.to_be_bytes()) {
        *byte ^= own;
    }
    id
}
