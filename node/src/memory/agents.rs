//! Agents as they are asked about: which there are, what they say, log and answer for.
//!
//! Not here: deploying them (`ordering`), how they live (`crate::agents`).

use super::{Memory, topic_name};
use crate::agents::note::{Note, known_as};
use crate::agents::roster::{Dispute, Name, Placed};
use crate::agents::{Host, engine, said};
use crate::api::{
    AgentHere, AgentView, DisputeView, Doubt, Grants, Health, Hosted, Invoke, Invoked, LogLine,
    Problem, ReceiptView, Verified, VerifyAgent,
};
use crate::view::View;
use crate::{clock, names};
use aquifer_protocol::{AgentId, Body, NodeId};
use aquifer_wasm::abi::Cause;
use aquifer_wasm::desk::Effect;
use aquifer_wasm::ledger::{Checker, Entry};
use aquifer_wasm::manifest::Manifest;
use std::collections::BTreeSet;
use std::time::Duration;

const WAIT_MS: u64 = 10_000;
/// The most steps that are shown, or taken again, at once.
const STEPS_MAX: usize = 1_000_000;
/// Lines and receipts, if nobody says how many.
pub(crate) const SHOWN: usize = 50;
/// Findings that are told of a verification.
const DOUBTS_MAX: usize = 20;

const HEX: data_encoding::Encoding = data_encoding::HEXLOWER;

impl Memory {
    /// All agents that this node knows of.
    ///
    /// # Errors
    /// If the node is stopping. So for every call below.
    pub async fn agents(&self) -> Result<Vec<AgentView>, Problem> {
        let view = self.view();
        let all = self.inner.agents.with(move |host| {
            let seen: Vec<_> = host
                .roster
                .orders()
                .map(|(name, placed)| (name.clone(), placed.clone()))
                .collect();
            let show = |(name, placed): &(Name, Placed)| Seen::of(host, name, placed);
            seen.iter().map(show).collect::<Vec<_>>()
        });
        let all = all.await?;
        let mut all: Vec<_> = all
            .into_iter()
            .map(|seen| self.show_agent(&view, seen))
            .collect();
        all.sort_by(|a, b| (&a.topic, &a.name).cmp(&(&b.topic, &b.name)));
        Ok(all)
    }

    /// The agent called `name`, or `name@` and the beginning of its publisher's key.
    ///
    /// # Errors
    /// `not_found`, `ambiguous_agent`.
    pub async fn agent_named(&self, name: &str) -> Result<AgentView, Problem> {
        let (name, _) = self.find_agent(name).await?;
        self.agent(&name).await
    }

    pub(super) async fn agent(&self, name: &Name) -> Result<AgentView, Problem> {
        let (view, of) = (self.view(), name.clone());
        let seen = self.inner.agents.with(move |host| {
            let placed = host.roster.order_of(&of).cloned();
            placed.map(|placed| Seen::of(host, &of, &placed))
        });
        // The order has just been written: the agents' thread reads it in a moment.
        match seen.await? {
            Some(seen) => Ok(self.show_agent(&view, seen)),
            None => Err(no_agent(&name.1)),
        }
    }

    pub(super) async fn order_of(&self, name: &Name) -> Result<Option<Placed>, Problem> {
        let name = name.clone();
        self.inner
            .agents
            .with(move |host| host.roster.order_of(&name).cloned())
            .await
    }

    /// Whose agent it is, and its order.
    pub(super) async fn find_agent(&self, text: &str) -> Result<(Name, Placed), Problem> {
        let (called, by) = text
            .split_once('@')
            .map_or((text, ""), |(name, by)| (name, by));
        let (called, by) = (called.to_owned(), by.to_owned());
        let found = self.inner.agents.with(move |host| {
            let orders = host.roster.orders();
            let fits = orders.filter(|(name, _)| {
                let publisher = names::agent(&AgentId(name.0));
                let key = publisher.trim_start_matches("did:key:");
                name.1 == called && (publisher.starts_with(&by) || key.starts_with(&by))
            });
            fits.map(|(name, placed)| (name.clone(), placed.clone()))
                .collect::<Vec<_>>()
        });
        let mut found = found.await?;
        // One that lives goes before those that were stopped.
        found.sort_by_key(|(_, placed)| placed.signed.order.agents == 0);
        let living = found
            .iter()
            .filter(|(_, placed)| placed.signed.order.agents > 0)
            .count();
        match (found.into_iter().next(), living) {
            (Some(one), 0 | 1) => Ok(one),
            (Some(_), several) => Err(Problem::new(
                "ambiguous_agent",
                2,
                format!("{several} publishers have an agent `{text}`"),
                "add @ and the beginning of the publisher's key: `aquifer agent list` shows it",
            )),
            (None, _) => Err(no_agent(text)),
        }
    }

    /// Says something to an agent, and waits for its answer unless it is a message.
    ///
    /// # Errors
    /// `not_found`, `bad_input`, `timeout` (the input stays and will be handled), `agent_failed` if
    /// the wake came to nothing, `policy_refused`.
    pub async fn agent_invoke(&self, name: &str, asked: Invoke) -> Result<Invoked, Problem> {
        let body = input(&asked)?;
        let (name, placed) = self.find_agent(name).await?;
        let (order, copy) = (&placed.signed.order, asked.copy.unwrap_or(0));
        if copy >= order.agents {
            let message = match order.agents {
                0 => format!("agent `{}` was stopped", name.1),
                some => format!("agent `{}` has {some} copies, counted from 0", name.1),
            };
            return Err(Problem::new(
                "not_found",
                3,
                message,
                "see `aquifer agent list`",
            ));
        }
        let view = self.view();
        let home = view
            .law
            .label(placed.topic)
            .map_err(|denial| super::denied(&denial))?;
        let home = topic_name(home.topic.as_str())?;
        let (agent, author) = (placed.signed.granted.agent(copy), view.me.node().0);
        let id = clock::entropy();
        let known = known_as(&author, &agent, &id);
        let note = Note::Input {
            agent: agent.into(),
            id: id.into(),
            invocation: !asked.send,
            body: body.into(),
        };
        let body = Body::Agent(note.to_bytes().into());
        self.write_for_agent(&home, AgentId(author), vec![body])
            .await?;
        if asked.send {
            return Ok(Invoked {
                input: HEX.encode(&known),
                step: None,
                bytes: None,
                said: None,
            });
        }
        self.answered(&name.1, known, asked.wait_ms.unwrap_or(WAIT_MS))
            .await
    }

    async fn answered(&self, name: &str, id: [u8; 16], wait_ms: u64) -> Result<Invoked, Problem> {
        let mut news = self.inner.observed.changes();
        let deadline = tokio::time::sleep(Duration::from_millis(wait_ms));
        tokio::pin!(deadline);
        loop {
            let answer = self
                .inner
                .agents
                .with(move |host| host.roster.answer(&id).cloned())
                .await?;
            match answer {
                Some(answer) if answer.step.is_some() => {
                    let said = answer.said.as_deref();
                    return Ok(Invoked {
                        input: HEX.encode(&id),
                        step: answer.step,
                        bytes: said.map(|bytes| data_encoding::BASE64.encode(bytes)),
                        said: said.and_then(said::to_json),
                    });
                }
                Some(answer) => {
                    let why =
                        String::from_utf8_lossy(&answer.said.unwrap_or_default()).into_owned();
                    let hint = "the agent is as it was before; `aquifer agent logs` may say more";
                    return Err(Problem::new("agent_failed", 1, why, hint));
                }
                None => {}
            }
            tokio::select! {
                () = &mut deadline => {
                    let message = format!("agent `{name}` did not answer within {wait_ms} ms");
                    let hint = "the input is kept and will be handled; `aquifer agent list` shows where it lives";
                    return Err(Problem::new("timeout", 124, message, hint));
                }
                _ = news.changed() => tokio::time::sleep(Duration::from_millis(1)).await,
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
        }
    }

    /// What an agent logged in its last steps on this node, oldest first.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn agent_logs(
        &self,
        name: &str,
        last: Option<usize>,
    ) -> Result<Vec<LogLine>, Problem> {
        let last = last.unwrap_or(SHOWN).min(STEPS_MAX);
        let entries = self.entries(name, last.saturating_mul(4)).await?;
        let lines = entries.iter().flat_map(|entry| {
            let logged = entry.step.effects.iter().filter_map(|effect| match effect {
                Effect::Log { level, line } => Some((*level, line.clone())),
                _ => None,
            });
            logged.map(|(level, line)| LogLine {
                at: entry.step.wakeup.stamp,
                agent: HEX.encode(&entry.step.agent),
                step: entry.step.seq,
                level: LEVELS[usize::from(level).min(LEVELS.len() - 1)].to_owned(),
                line,
            })
        });
        let mut lines: Vec<_> = lines.collect();
        lines.drain(..lines.len().saturating_sub(last));
        Ok(lines)
    }

    /// The receipts of an agent's last steps on this node, oldest first.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn agent_receipts(
        &self,
        name: &str,
        last: Option<usize>,
    ) -> Result<Vec<ReceiptView>, Problem> {
        let last = last.unwrap_or(SHOWN).min(STEPS_MAX);
        let entries = self.entries(name, last).await?;
        Ok(entries.iter().map(show_receipt).collect())
    }

    /// Takes an agent's last steps again, on another engine, and says what differs.
    ///
    /// # Errors
    /// `not_found`, `bad_engine`.
    pub async fn agent_verify(&self, name: &str, asked: VerifyAgent) -> Result<Verified, Problem> {
        let steps = asked.steps.unwrap_or(1_000).min(STEPS_MAX);
        let engine = engine(asked.engine.as_deref().unwrap_or("wasmi"))?;
        let entries = self.entries(name, steps).await?;
        let checked = tokio::task::spawn_blocking(move || {
            let mut checker = Checker::new(&*engine);
            let wrong = entries.iter().filter_map(|entry| {
                let what = checker.check(entry).err()?.to_string();
                Some(Doubt {
                    agent: HEX.encode(&entry.step.agent),
                    step: entry.step.seq,
                    node: names::node(&NodeId(entry.proof.node)),
                    what,
                })
            });
            let mut findings: Vec<Doubt> = wrong.collect();
            let (checked, different) = (entries.len(), findings.len());
            findings.truncate(DOUBTS_MAX);
            Verified {
                engine: engine.name().to_owned(),
                checked,
                equal: checked - different,
                different,
                findings,
            }
        });
        checked.await.map_err(|_| super::unexpected())
    }

    async fn entries(&self, name: &str, most: usize) -> Result<Vec<Entry>, Problem> {
        let (name, _) = self.find_agent(name).await?;
        let called = name.1.clone();
        let (here, entries) = self
            .inner
            .agents
            .with(move |host| (host.family(&name).is_some(), host.steps(&name, most)))
            .await?;
        if !here {
            return Err(Problem::new(
                "not_here",
                3,
                format!("agent `{called}` does not live on this node"),
                "`aquifer agent list` shows its hosts: ask there",
            ));
        }
        entries
    }

    fn show_agent(&self, view: &View, seen: Seen) -> AgentView {
        let Seen {
            name,
            placed,
            outcomes,
            active,
            quarantined,
            disputes,
            here,
        } = seen;
        let (order, manifest) = (&placed.signed.order, &placed.signed.granted.manifest);
        let hosts: Vec<Hosted> = order
            .hosts
            .iter()
            .zip(outcomes)
            .map(|(node, outcome)| Hosted {
                node: self.name_node(node),
                settled: matches!(outcome, Some(None)),
                failed: outcome.flatten(),
                active: active == Some(*node),
                quarantined: quarantined.contains(node),
            })
            .collect();
        let state = match order.agents {
            0 => "stopped",
            _ if hosts.iter().any(|host| host.settled) => "running",
            _ if hosts.iter().any(|host| host.failed.is_none()) => "starting",
            _ if order.version > 1 => "rolled back",
            _ => "failed",
        };
        AgentView {
            id: names::agent(&AgentId(placed.signed.granted.agent(0))),
            publisher: names::agent(&AgentId(name.0)),
            topic: view.topic_name(placed.topic),
            module: HEX.encode(&manifest.module),
            version: order.version,
            agents: order.agents,
            state: state.to_owned(),
            hosts,
            grants: show_grants(manifest),
            disputes: disputes.iter().map(show_dispute).collect(),
            here,
            name: name.1,
        }
    }
}

/// What the thread of the agents tells of one order.
struct Seen {
    name: Name,
    placed: Placed,
    /// What came of the order at each of its hosts.
    outcomes: Vec<Option<Option<String>>>,
    active: Option<NodeId>,
    quarantined: BTreeSet<NodeId>,
    disputes: Vec<Dispute>,
    here: Option<AgentHere>,
}

impl Seen {
    fn of(host: &Host, name: &Name, placed: &Placed) -> Self {
        let signed = &placed.signed;
        let outcome = |node: &NodeId| host.roster.outcome(&signed.id, node).cloned();
        let here = host.family(name).map(|here| AgentHere {
            steps: host.seq(here.first),
            steps_since_start: here.steps,
            failures: here.failures,
            failed: here.failed.clone(),
            woke_at: here.woke,
            health: here
                .health
                .clone()
                .map(|(code, words)| Health { code, words }),
        });
        Self {
            name: name.clone(),
            placed: placed.clone(),
            quarantined: host.quarantined(name),
            disputes: host.roster.disputes(name).to_vec(),
            outcomes: signed.order.hosts.iter().map(outcome).collect(),
            active: host.holder(name),
            here,
        }
    }
}

/// As guests number them.
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

fn input(asked: &Invoke) -> Result<Vec<u8>, Problem> {
    let bad = |why: &str| {
        let hint = "give JSON with whole numbers, or bytes as base64";
        Problem::new("bad_input", 2, why, hint)
    };
    match (&asked.bytes, &asked.input) {
        (Some(bytes), _) => {
            let bytes = data_encoding::BASE64.decode(bytes.as_bytes());
            bytes.map_err(|_| bad("the bytes are not base64"))
        }
        (None, Some(value)) => {
            said::of_json(value).ok_or_else(|| bad("the input has no form that agents know"))
        }
        (None, None) => Ok(Vec::new()),
    }
}

fn no_agent(name: &str) -> Problem {
    Problem::new(
        "not_found",
        3,
        format!("no agent `{name}` is known here"),
        "list them with `aquifer agent list`",
    )
}

fn show_grants(manifest: &Manifest) -> Grants {
    Grants {
        imports: Some(
            manifest
                .imports
                .iter()
                .map(|import| import.name().to_owned())
                .collect(),
        ),
        publishes: Some(manifest.publishes.clone()),
        follows: Some(manifest.follows.clone()),
        remembers: Some(manifest.remembers.clone()),
        fuel: Some(manifest.budget.fuel),
        calls: Some(manifest.budget.calls),
        bytes: Some(manifest.budget.bytes),
        wakes_per_minute: Some(manifest.rate.wakes),
        messages_per_minute: Some(manifest.rate.messages),
        bytes_per_minute: Some(manifest.rate.bytes),
        kv_bytes: Some(manifest.kv_bytes),
        expires_at: Some(manifest.not_after),
        attest: manifest
            .attest
            .map(|attest| format!("{}of{}", attest.agree, attest.of)),
    }
}

fn show_dispute(dispute: &Dispute) -> DisputeView {
    DisputeView {
        what: dispute.what.clone(),
        by: names::node(&dispute.by),
        theirs: show_receipt(&dispute.theirs),
        ours: dispute.ours.as_ref().map(show_receipt),
    }
}

fn show_receipt(entry: &Entry) -> ReceiptView {
    let receipt = &entry.receipt;
    let cause = match entry.step.wakeup.cause {
        Cause::Message => "message",
        Cause::Publication => "publication",
        Cause::Timer => "timer",
        Cause::Invocation => "invocation",
    };
    ReceiptView {
        agent: HEX.encode(&receipt.agent),
        step: receipt.seq,
        at: entry.step.wakeup.stamp,
        cause: cause.to_owned(),
        code: receipt.code,
        effects: entry.step.effects.len(),
        receipt: HEX.encode(&receipt.hash()),
        kind: HEX.encode(&entry.kind.hash()),
        before: HEX.encode(&receipt.before),
        after: HEX.encode(&receipt.after),
        node: names::node(&NodeId(entry.proof.node)),
    }
}
