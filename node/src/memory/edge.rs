//! Edge: this node as the gateway of devices.
//!
//! A device is a member of the hive that holds nothing. What its agent did comes in parcels, and each deed
//! becomes a memory of its topic, written by this node under the agent's name: the law is asked for the
//! device (`Op::Publish`) and once more for this node, which writes. A deed is known by agent, step and
//! place, and is done once: the ledger says up to which step all is done, and for what a crash left between
//! the commit and the ledger, the memory itself says so, whose tags name the step. Nothing is acknowledged
//! before it is durable, and the receipt is signed.
//!
//! What the law refuses stays refused and holds up nothing: the receipt names it. What cannot be done just
//! now (a full disk, an index that is still read) is not acknowledged, and comes again.
//!
//! In `edge/`: `content` a deed as a memory and back, `ledger` what was done, `news` the way down.

mod content;
mod ledger;
mod news;

use super::{INDEX_PATIENCE, Memory, unexpected};
use crate::api::Problem;
use crate::net::{Called, EDGE_BYTES_MAX};
use crate::view::View;
use aquifer_protocol::certificate::{Chain, role};
use aquifer_protocol::{
    AgentId, Body, Command, Denial, Durability, Keys, Member, NodeId, Op, Refusal as Refused,
    Reply as Replied, Subject, TopicName, decide,
};
use aquifer_wasm::uplink::{
    Deed, Parcel, REASON_BYTES_MAX, REFUSALS_MAX, Receipt, Refusal, Reply, Step, UNKNOWN_AGENT,
    WORD_BYTES_MAX, Word, agent_of,
};
use ledger::Ledger;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const _: () = assert!(WORD_BYTES_MAX == EDGE_BYTES_MAX);

/// The most deeds that are written in one commit.
const DEEDS_PER_WRITE: usize = 256;

/// This node, to devices. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Gateway {
    memory: Memory,
    keys: Arc<Keys>,
    ledger: Arc<Ledger>,
}

/// Why a parcel has no receipt.
enum Untaken {
    /// For good.
    Refused(&'static str, String),
    /// Until later: nothing of it is acknowledged.
    Later(String),
}

/// Why a deed is not done.
enum Undone {
    /// For good: a code, and why.
    Refused(String, String),
    /// Until later.
    Later(String),
}

impl Gateway {
    /// The gateway that writes by `memory` and signs with the node's keys.
    pub(crate) fn new(memory: Memory, keys: Keys) -> Self {
        let ledger = Ledger::in_home(memory.inner.home.clone());
        Self {
            memory,
            keys: Arc::new(keys),
            ledger: Arc::new(ledger),
        }
    }

    /// Answers devices until the node stops. How many at a time, the network bounds.
    pub(crate) async fn answer_devices(
        self,
        mut calls: mpsc::Receiver<Called>,
        stop: CancellationToken,
    ) {
        loop {
            let call = tokio::select! {
                () = stop.cancelled() => return,
                call = calls.recv() => call,
            };
            let Some(call) = call else { return };
            let gateway = self.clone();
            tokio::spawn(async move {
                let from = NodeId(call.from);
                let reply = gateway.hears(from, &call.request).await.to_bytes();
                // The device may have gone meanwhile.
                let _ = call.reply.send(reply);
            });
        }
    }

    /// What this node replies to a device.
    async fn hears(&self, from: NodeId, word: &[u8]) -> Reply {
        let observed = &self.memory.inner.observed;
        let word = match Word::open(word) {
            Ok(word) => word,
            Err(why) => {
                observed.count("bad_words", why.code());
                return Reply::Refused(why.code().to_owned(), why.to_string());
            }
        };
        let view = self.memory.view();
        if view.me.grant().roles & role::GATEWAY == 0 {
            let why = "this node is no gateway: its certificate lacks the role";
            return Reply::Refused("no_gateway".to_owned(), why.to_owned());
        }
        let Some(device) = self.memory.inner.admission.admitted(&from) else {
            let why = "this device has shown no certificate";
            return Reply::Refused("unknown_member".to_owned(), why.to_owned());
        };
        let reply = match word {
            Word::Up {
                chain,
                parcel,
                manifest,
            } => match self.takes(&device, &chain, &parcel, &manifest).await {
                Ok(receipt) => Reply::Taken(receipt.seal(&self.keys).into()),
                Err(Untaken::Refused(code, why)) => Reply::Refused(code.to_owned(), why),
                Err(Untaken::Later(why)) => Reply::Later(why),
            },
            Word::Down {
                agent,
                follows,
                bookmark,
            } => news::since(&self.memory, &device, AgentId(agent), &follows, &bookmark),
        };
        observed.count("edge_words", kind_of(&reply));
        reply
    }

    /// Does what a parcel says, as far as it was not done.
    async fn takes(
        &self,
        bearer: &Member,
        chain: &[u8],
        parcel: &[u8],
        manifest: &[u8],
    ) -> Result<Receipt, Untaken> {
        let device = self.maker(bearer, chain)?;
        let parcel = Parcel::open(parcel, &device.node().0)
            .map_err(|why| Untaken::Refused(why.code(), why.to_string()))?;
        let (me, now) = (self.memory.view().me.node(), self.memory.inner.helm.now());
        if parcel.gateway != me.0 {
            let why = format!("the parcel is for gateway {}", NodeId(parcel.gateway));
            return Err(Untaken::Refused("other_gateway", why));
        }
        if !device.valid_at(now) {
            let why = "the certificate of the device is not in force: renew it";
            return Err(Untaken::Refused("lapsed", why.to_owned()));
        }
        // One parcel of an agent at a time, whoever brings it.
        let mut page = self.ledger.open(&parcel.agent).await.map_err(later)?;
        if page.is_new() && agent_of(manifest) != Some(parcel.agent) {
            let why = "this gateway does not know the agent yet: show its manifest";
            return Err(Untaken::Refused(UNKNOWN_AGENT, why.to_owned()));
        }
        if !page.is_of(&device.node()) {
            let why = "this agent lives on another device: give each device a manifest of its own";
            return Err(Untaken::Refused("not_yours", why.to_owned()));
        }
        if parcel.steps.iter().any(|step| !page.has(step.seq)) {
            self.remembers_all().await?;
            let mut refused = Vec::new();
            for step in parcel.steps.iter().filter(|step| !page.has(step.seq)) {
                refused.extend(self.does(&device, &parcel, step).await?);
            }
            let through = parcel.steps.last().map(|step| step.seq);
            page.close(&device.node(), through, refused)
                .map_err(later)?;
        }
        Ok(Receipt {
            agent: parcel.agent,
            through: page.through().unwrap_or_default(),
            refused: page.refused(&parcel.steps),
        })
    }

    /// The device that made a parcel: who brings it, or whom the chain beside it names.
    fn maker(&self, bearer: &Member, chain: &[u8]) -> Result<Member, Untaken> {
        if chain.is_empty() {
            return Ok(bearer.clone());
        }
        let hive = bearer.grant().hive;
        let maker = Chain::open(chain, &hive)
            .map_err(|why| Untaken::Refused("bad_chain", why.to_string()))?;
        // What one carries for another passes through it: it is to be where the other is.
        if maker.region() != bearer.region() {
            let why = "a device carries only for devices of its own region";
            return Err(Untaken::Refused("other_region", why.to_owned()));
        }
        Ok(maker)
    }

    /// Whether a deed was done before a crash is asked of the index: it must have read everything.
    async fn remembers_all(&self) -> Result<(), Untaken> {
        let indexer = &self.memory.inner.indexer;
        if indexer.is_filled() || indexer.caught_up(INDEX_PATIENCE).await {
            return Ok(());
        }
        Err(Untaken::Later(
            "this node is still reading its store".to_owned(),
        ))
    }

    /// Does the deeds of one step, those of one topic together. Returns what was refused.
    async fn does(
        &self,
        device: &Member,
        parcel: &Parcel,
        step: &Step,
    ) -> Result<Vec<Refusal>, Untaken> {
        let mut refused = Vec::new();
        let same = |a: &Deed, b: &Deed| a.topic == b.topic;
        for run in step.deeds.chunk_by(same) {
            for deeds in run.chunks(DEEDS_PER_WRITE) {
                match self.writes(device, parcel, step, deeds).await {
                    Ok(()) => {}
                    Err(Undone::Later(why)) => return Err(Untaken::Later(why)),
                    // One that cannot be written must not take the others with it.
                    Err(Undone::Refused(..)) if deeds.len() > 1 => {
                        for deed in deeds {
                            let one = std::slice::from_ref(deed);
                            match self.writes(device, parcel, step, one).await {
                                Ok(()) => {}
                                Err(Undone::Later(why)) => return Err(Untaken::Later(why)),
                                Err(Undone::Refused(code, reason)) => {
                                    refused.push(refusal(step, deed, code, reason));
                                }
                            }
                        }
                    }
                    Err(Undone::Refused(code, reason)) => {
                        refused.extend(
                            deeds
                                .iter()
                                .map(|deed| refusal(step, deed, code.clone(), reason.clone())),
                        );
                    }
                }
            }
        }
        refused.truncate(REFUSALS_MAX);
        Ok(refused)
    }

    /// Writes deeds of one topic, those that are not there, in one commit.
    async fn writes(
        &self,
        device: &Member,
        parcel: &Parcel,
        step: &Step,
        deeds: &[Deed],
    ) -> Result<(), Undone> {
        let name = &deeds.first().ok_or_else(|| undone(&unexpected()))?.topic;
        let topic: TopicName = name
            .parse()
            .map_err(|why| Undone::Refused("bad_topic".to_owned(), format!("{why}")))?;
        self.may(device, &topic).await?;
        let view = self.memory.view();
        let id = topic.id(view.law.hive());
        let author = AgentId(parcel.agent);
        let mut bodies = Vec::new();
        for deed in deeds {
            let content = content::of(parcel, step, deed)
                .map_err(|why| Undone::Refused("oversize".to_owned(), why))?;
            if self
                .memory
                .inner
                .indexer
                .same(id, author, &content)
                .is_none()
            {
                bodies.push(Body::Memory(content));
            }
        }
        if bodies.is_empty() {
            return Ok(());
        }
        let command = Command::Write {
            topic,
            author,
            bodies,
            durability: Durability::Local,
        };
        match self.memory.inner.helm.ask(command).await {
            Ok(Replied::Written { .. }) => Ok(()),
            Ok(Replied::Refused(why)) => Err(refused_by(&why)),
            Ok(_) => Err(undone(&unexpected())),
            Err(problem) => Err(Undone::Later(problem.message)),
        }
    }

    /// Whether the device may write on a topic. One that is not there is founded as any other is, but for
    /// a device outside of what it would be founded for nothing is: a person does that.
    async fn may(&self, device: &Member, topic: &TopicName) -> Result<(), Undone> {
        let view = self.memory.view();
        let above = topic
            .ancestors()
            .any(|name| view.law.named(&name).is_some());
        let home = view.me.region().top();
        let known = view.law.named(topic).is_some() || topic.is_reserved();
        if !known && !above && !home.covers(device.region()) {
            let why = format!(
                "there is no topic `{topic}`, and a device in {} founds none on a gateway in {home}: `aquifer topic create {topic}` does",
                device.region()
            );
            return Err(Undone::Refused("unknown_topic".to_owned(), why));
        }
        if !known && let Err(denial) = self.judges_unfounded(&view, device, topic) {
            return Err(self.denied(topic, device, &denial));
        }
        if let Err(problem) = self.memory.found_if_new(&view, topic).await {
            return Err(match problem.exit {
                1 => Undone::Later(problem.message),
                _ => Undone::Refused(problem.code, problem.message),
            });
        }
        let view = self.memory.view();
        let id = topic.id(view.law.hive());
        let at = self.memory.inner.helm.now();
        let subject = Subject { member: device, at };
        let verdict = view
            .law
            .label(id)
            .and_then(|label| decide(Op::Publish, label, subject, label.epoch));
        verdict.map_err(|denial| self.denied(topic, device, &denial))
    }

    /// Nothing is founded for a device whose certificate does not cover it, or that the law above keeps out.
    fn judges_unfounded(
        &self,
        view: &View,
        device: &Member,
        topic: &TopicName,
    ) -> Result<(), Denial> {
        let at = self.memory.inner.helm.now();
        let subject = Subject { member: device, at };
        if !device.covers(topic) {
            let (topic, node) = (topic.clone(), device.node());
            return Err(Denial::Scope { topic, node });
        }
        match topic.ancestors().find_map(|name| view.law.named(&name)) {
            Some(law) => decide(Op::Publish, law.label(), subject, law.epoch()),
            None => Ok(()),
        }
    }

    fn denied(&self, topic: &TopicName, device: &Member, denial: &Denial) -> Undone {
        let observed = &self.memory.inner.observed;
        observed.denied(topic.as_str(), &device.node(), denial);
        judged(denial)
    }
}

fn refusal(step: &Step, deed: &Deed, code: String, mut reason: String) -> Refusal {
    reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
    Refusal {
        seq: step.seq,
        place: deed.place,
        topic: deed.topic.chars().take(128).collect(),
        code,
        reason,
    }
}

/// A denial for good, or one that ends when this node knows more.
fn judged(denial: &Denial) -> Undone {
    match denial {
        Denial::LawDamaged { .. } | Denial::Epoch { .. } => Undone::Later(denial.to_string()),
        _ => Undone::Refused(denial.code().to_owned(), denial.to_string()),
    }
}

fn refused_by(why: &Refused) -> Undone {
    match why {
        Refused::Denied(denial) => judged(denial),
        Refused::Busy | Refused::DiskFull | Refused::ClockAhead { .. } | Refused::NotAMember => {
            Undone::Later(why.to_string())
        }
        _ => {
            let problem = super::refused(why);
            Undone::Refused(problem.code, problem.message)
        }
    }
}

fn undone(problem: &Problem) -> Undone {
    Undone::Refused(problem.code.clone(), problem.message.clone())
}

fn later(problem: Problem) -> Untaken {
    Untaken::Later(problem.message)
}

fn kind_of(reply: &Reply) -> &'static str {
    match reply {
        Reply::Refused(..) => "refused",
        Reply::Later(_) => "later",
        Reply::Taken(_) => "taken",
        Reply::News { .. } => "news",
    }
}
