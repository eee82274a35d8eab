//! Ordering: agents are deployed, upgraded, moved and stopped.
//!
//! An order is signed with the publisher's key and written to the agent's home, with the module if that is
//! not there yet. Which nodes host it is decided once, here, and said in the order: all read the same.

use super::{Memory, denied, refused, topic_name, unexpected};
use crate::agents::note::{AGENTS_MAX, HOSTS_MAX, Note, Order};
use crate::agents::roster::{Name, Placed};
use crate::api::{AgentView, DEFAULT_HOME, Deploy, Grants, MoveAgent, Problem};
use crate::config::parse_region;
use crate::view::View;
use crate::{keys, names};
use aquifer_protocol::certificate::role;
use aquifer_protocol::identity::digest;
use aquifer_protocol::law::Known;
use aquifer_protocol::placement::{self, capable};
use aquifer_protocol::{
    AgentId, Body, Command, Durability, Keys, NodeId, Region, Reply, TopicName,
};
use aquifer_wasm::abi::{Import, Imports};
use aquifer_wasm::manifest::{Attest, Budget, Granted, Manifest, Rate};
use aquifer_wasm::profile::Profile;
use std::time::Duration;

const WAIT_MS: u64 = 10_000;
/// Bytes of keys and values, if nobody says.
const KV_BYTES: u32 = 16 << 10;
/// How long a manifest is good, if nobody says: a year.
const LIFE_MS: u64 = 366 * 86_400_000;

/// What the hosts of an agent must be.
#[derive(Default)]
struct Needs {
    region: Option<Region>,
    what: placement::Needs,
}

impl Memory {
    /// Deploys an agent where its home's law, its region and its needs allow.
    ///
    /// # Errors
    /// `bad_module`, `bad_grant`, `agent_exists`, `no_host` if no node may and can host it,
    /// `policy_refused`, and what keeps the node from writing.
    pub async fn agent_deploy(&self, asked: Deploy) -> Result<AgentView, Problem> {
        let (module, profile) = read_module(&asked.module)?;
        let topic = topic_name(asked.topic.as_deref().unwrap_or(DEFAULT_HOME))?;
        let publisher = self.publisher(asked.publisher.as_deref())?;
        let name: Name = (publisher.public(), legal(&asked.name)?);
        let known = self.order_of(&name).await?;
        let alive = known
            .as_ref()
            .filter(|placed| placed.signed.order.agents > 0);
        if let Some(placed) = alive {
            let home = self.view().topic_name(placed.topic);
            return Err(Problem::new(
                "agent_exists",
                1,
                format!("there is an agent `{}` in `{home}` already", name.1),
                "give it another module with `aquifer agent upgrade`, or another name",
            ));
        }
        self.found_if_new(&self.view(), &topic).await?;
        let view = self.view();
        let needs = Needs {
            region: asked.region.as_deref().map(parse_region).transpose()?,
            what: placement::Needs {
                gpu_bytes: asked.gpu_bytes.unwrap_or(0),
                models: asked
                    .models
                    .iter()
                    .map(|hash| model(hash))
                    .collect::<Result<_, _>>()?,
                ..placement::Needs::default()
            },
        };
        let manifest = granted(
            &asked.grants,
            None,
            &name.1,
            profile.hash,
            view.now.millis(),
        )?;
        let copies = asked
            .copies
            .unwrap_or_else(|| manifest.attest.map_or(1, |attest| attest.of));
        let hosts = self.places(&view, &topic, &name, &needs, copies)?;
        let agents = asked.agents.unwrap_or(1);
        if agents == 0 || agents > AGENTS_MAX {
            let message = format!("{agents} agents cannot be; there may be 1 to {AGENTS_MAX}");
            return Err(Problem::new("bad_count", 2, message, ""));
        }
        let order = Order {
            manifest: Granted::sign(&publisher, manifest)
                .as_bytes()
                .to_vec()
                .into(),
            version: known.map_or(1, |placed| placed.signed.order.version + 1),
            agents,
            hosts,
            leaving: None,
        };
        let version = order.version;
        self.order(&publisher, &topic, order, Some(&module)).await?;
        let wait_ms = asked.wait_ms.unwrap_or(WAIT_MS);
        self.settled((&name, version), wait_ms).await
    }

    /// Gives an agent another module, or other grants. Its state goes on with it; if it does not take
    /// that, all is as it was.
    ///
    /// # Errors
    /// As [`Memory::agent_deploy`]; `not_found`, `upgrade_rolled_back`.
    pub async fn agent_upgrade(&self, name: &str, asked: Deploy) -> Result<AgentView, Problem> {
        let (name, placed) = self.find_agent(name).await?;
        let (module, profile) = read_module(&asked.module)?;
        let keys = self.publisher_of(&name, asked.publisher.as_deref())?;
        let (old, now) = (&placed.signed.granted.manifest, self.view().now.millis());
        let manifest = granted(&asked.grants, Some(old), &name.1, profile.hash, now)?;
        let order = Order {
            manifest: Granted::sign(&keys, manifest).as_bytes().to_vec().into(),
            version: placed.signed.order.version + 1,
            ..placed.signed.order.clone()
        };
        let home = self.home_of(&placed)?;
        self.order(&keys, &home, order, Some(&module)).await?;
        let view = self
            .settled(
                (&name, placed.signed.order.version + 1),
                asked.wait_ms.unwrap_or(WAIT_MS),
            )
            .await?;
        let failed = view.hosts.iter().find_map(|host| host.failed.clone());
        failed.map_or(Ok(view), |why| {
            let hint = "the agent goes on with its old module; mend the new one and try again";
            Err(Problem::new("upgrade_rolled_back", 1, why, hint))
        })
    }

    /// Stops an agent for good. What its steps said is to be done still is.
    ///
    /// # Errors
    /// As [`Memory::agent_upgrade`].
    pub async fn agent_stop(&self, name: &str) -> Result<AgentView, Problem> {
        let (name, placed) = self.find_agent(name).await?;
        let order = Order {
            version: placed.signed.order.version + 1,
            agents: 0,
            ..placed.signed.order.clone()
        };
        let home = self.home_of(&placed)?;
        self.order(&self.publisher_of(&name, None)?, &home, order, None)
            .await?;
        self.settled((&name, placed.signed.order.version + 1), WAIT_MS)
            .await
    }

    /// Lets another node host an agent, with the state it has.
    ///
    /// # Errors
    /// As [`Memory::agent_upgrade`]; `no_host` if that node may not or cannot.
    pub async fn agent_move(&self, name: &str, asked: MoveAgent) -> Result<AgentView, Problem> {
        let (name, placed) = self.find_agent(name).await?;
        let (view, home) = (self.view(), self.home_of(&placed)?);
        let to = self.named(&view, &asked.to)?;
        let able = self.able(&view, &home, &Needs::default());
        if !able.contains(&to) {
            return Err(no_host(
                &home,
                &format!("node {} may not", names::node(&to)),
            ));
        }
        let mut hosts = placed.signed.order.hosts.clone();
        if hosts.contains(&to) {
            let message = format!("node {} hosts agent `{}` already", names::node(&to), name.1);
            return Err(Problem::new(
                "already_there",
                1,
                message,
                "see `aquifer agent show`",
            ));
        }
        // Whoever is in quarantine goes before all others.
        let of = name.clone();
        let out = self.inner.agents.with(move |host| host.quarantined(&of));
        let out = out.await?;
        let goes = hosts.iter().rposition(|node| out.contains(node));
        let goes = goes.or_else(|| hosts.len().checked_sub(1));
        let leaving = goes.map(|goes| hosts.remove(goes));
        hosts.insert(0, to);
        let order = Order {
            version: placed.signed.order.version + 1,
            hosts,
            leaving: leaving.filter(|_| !asked.force),
            ..placed.signed.order.clone()
        };
        self.order(&self.publisher_of(&name, None)?, &home, order, None)
            .await?;
        self.settled(
            (&name, placed.signed.order.version + 1),
            asked.wait_ms.unwrap_or(WAIT_MS),
        )
        .await
    }

    /// Writes an order, and the module before it if that is not there.
    async fn order(
        &self,
        publisher: &Keys,
        home: &TopicName,
        order: Order,
        module: Option<&[u8]>,
    ) -> Result<(), Problem> {
        let mut notes = Vec::new();
        if let Some(module) = module {
            let hash = *blake3::hash(module).as_bytes();
            let there = move |host: &mut crate::agents::Host| host.roster.module(&hash).is_some();
            if !self.inner.agents.with(there).await? {
                notes = Note::parts(module);
            }
        }
        notes.push(Note::order(publisher, &order));
        let bodies = notes.iter().map(|note| Body::Agent(note.to_bytes().into()));
        self.write_for_agent(home, AgentId(publisher.public()), bodies.collect())
            .await
    }

    /// Writes records of an agent, or about one.
    pub(crate) async fn write_for_agent(
        &self,
        topic: &TopicName,
        author: AgentId,
        bodies: Vec<Body>,
    ) -> Result<(), Problem> {
        self.found_if_new(&self.view(), topic).await?;
        let mut bodies = bodies;
        while !bodies.is_empty() {
            let rest = bodies.split_off(bodies.len().min(super::BATCH_MAX));
            let command = Command::Write {
                topic: topic.clone(),
                author,
                bodies: std::mem::replace(&mut bodies, rest),
                durability: Durability::Local,
            };
            match self.inner.helm.ask(command).await? {
                Reply::Written { .. } => {}
                Reply::Refused(why) => return Err(refused(&why)),
                _ => return Err(unexpected()),
            }
        }
        Ok(())
    }

    /// The nodes that host an agent: this one first if it can, the others by rendezvous.
    fn places(
        &self,
        view: &View,
        home: &TopicName,
        name: &Name,
        needs: &Needs,
        copies: u8,
    ) -> Result<Vec<NodeId>, Problem> {
        let me = view.me.node();
        let mut able = self.able(view, home, needs);
        let weight = |node: &NodeId| {
            digest(
                "aquifer/agent-place/1",
                &[&name.0, name.1.as_bytes(), node.as_bytes()],
            )
        };
        able.sort_by_cached_key(|node| (*node != me, weight(node)));
        let copies = usize::from(copies);
        if copies == 0 || copies > HOSTS_MAX {
            let message = format!("{copies} copies cannot be; there may be 1 to {HOSTS_MAX}");
            return Err(Problem::new("bad_copies", 2, message, ""));
        }
        if able.len() < copies {
            let why = match able.len() {
                0 => "no node may".to_owned(),
                some => format!("only {some} of the {copies} nodes that it asks for may"),
            };
            return Err(no_host(home, &why));
        }
        able.truncate(copies);
        Ok(able)
    }

    /// The nodes that may and can: they hold the home, have the role, and what is needed.
    fn able(&self, view: &View, home: &TopicName, needs: &Needs) -> Vec<NodeId> {
        let topic = home.id(view.law.hive());
        let mut holders = view.holders(topic);
        holders.retain(|node| {
            let own = (*node == view.me.node()).then_some(&view.me);
            let known = view.law.member(node);
            let Some(member) = own.or_else(|| known.map(|known| &known.member)) else {
                return false;
            };
            // What it offers stands in its manifest; where none is asked for, none need be known.
            let nothing = needs.what == placement::Needs::default();
            let able = |known: &Known| capable(&known.manifest, &needs.what);
            member.grant().roles & role::COMPUTE != 0
                && needs
                    .region
                    .as_ref()
                    .is_none_or(|region| region.covers(member.region()))
                && (nothing || known.is_some_and(able))
        });
        holders
    }

    /// Waits until every host has said what came of the order, or long enough.
    async fn settled(
        &self,
        (name, version): (&Name, u64),
        wait_ms: u64,
    ) -> Result<AgentView, Problem> {
        let mut news = self.inner.observed.changes();
        let deadline = tokio::time::sleep(Duration::from_millis(wait_ms));
        tokio::pin!(deadline);
        loop {
            match self.agent(name).await {
                Ok(view) if view.version >= version && view.is_settled() => return Ok(view),
                // The thread of the agents has not read the order yet.
                Err(problem) if problem.code != "not_found" => return Err(problem),
                _ => {}
            }
            tokio::select! {
                () = &mut deadline => return self.agent(name).await,
                _ = news.changed() => tokio::time::sleep(Duration::from_millis(5)).await,
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
            }
        }
    }

    fn home_of(&self, placed: &Placed) -> Result<TopicName, Problem> {
        let view = self.view();
        let law = view
            .law
            .label(placed.topic)
            .map_err(|denial| denied(&denial))?;
        Ok(law.topic.clone())
    }

    fn publisher(&self, name: Option<&str>) -> Result<Keys, Problem> {
        match name {
            None => keys::identity(&self.inner.home),
            Some(name) => keys::agent_keys(&self.inner.home, name),
        }
    }

    /// The key that signed for an agent, if this node has it.
    fn publisher_of(&self, name: &Name, called: Option<&str>) -> Result<Keys, Problem> {
        let keys = self.publisher(called)?;
        if keys.public() == name.0 {
            return Ok(keys);
        }
        let all = keys::all_agents(&self.inner.home)?;
        all.into_iter()
            .find(|keys| keys.public() == name.0)
            .ok_or_else(|| {
                let by = names::agent(&AgentId(name.0));
                Problem::new(
                    "not_authorised",
                    5,
                    format!(
                        "agent `{}` was published by {by}, whose key is not here",
                        name.1
                    ),
                    "run this on the node that deployed it",
                )
            })
    }
}

fn model(hash: &str) -> Result<[u8; 32], Problem> {
    let bytes = data_encoding::HEXLOWER_PERMISSIVE
        .decode(hash.as_bytes())
        .ok();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| {
            let message = format!("`{hash}` is not the hash of a model");
            let hint = "give its 64 hexadecimal digits, as `aquifer model show` prints them";
            Problem::new("bad_model", 2, message, hint)
        })
}

fn read_module(base64: &str) -> Result<(Vec<u8>, Profile), Problem> {
    let bad = |why: String| {
        let hint =
            "build it as wasm-agent/guest/README.md says; `build.sh --check` names what is wrong";
        Problem::new("bad_module", 2, why, hint)
    };
    let module = data_encoding::BASE64.decode(base64.as_bytes());
    let module = module.map_err(|why| bad(format!("the module is not base64: {why}")))?;
    let profile = Profile::of(&module).map_err(|why| bad(why.to_string()))?;
    Ok((module, profile))
}

fn legal(name: &str) -> Result<String, Problem> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > 64 || !name.bytes().all(legal) {
        let message = format!("`{name}` is not an agent's name");
        let hint = "give up to 64 letters, digits, `-`, `_` or `.`";
        return Err(Problem::new("bad_agent", 2, message, hint));
    }
    Ok(name.to_owned())
}

fn no_host(home: &TopicName, why: &str) -> Problem {
    Problem::new(
        "no_host",
        6,
        format!(
            "{why} host an agent of `{home}`: a host holds the topic, has the role compute, is in the region and has what is asked for"
        ),
        "see `aquifer topic policy show` and `aquifer peers`; a node gets the role by `aquifer invite --role compute`",
    )
}

/// The manifest that is asked for, over the one there was.
fn granted(
    asked: &Grants,
    old: Option<&Manifest>,
    name: &str,
    module: [u8; 32],
    now: u64,
) -> Result<Manifest, Problem> {
    let bad = |what: String, hint: &str| Problem::new("bad_grant", 2, what, hint);
    let imports = asked.imports.as_ref().map(|names| {
        names.iter().try_fold(Imports::NONE, |all, name| {
            let import = Import::named(name);
            let known = Import::ALL.map(Import::name).join(", ");
            import.map(|import| all.with(import)).ok_or_else(|| {
                bad(
                    format!("`{name}` is nothing that a host does"),
                    &format!("give any of {known}"),
                )
            })
        })
    });
    let topics = |asked: &Option<Vec<String>>, old: Option<&Vec<String>>| {
        let names = asked.as_ref().or(old).cloned().unwrap_or_default();
        names
            .iter()
            .try_for_each(|name| topic_name(name).map(drop))?;
        Ok::<_, Problem>(names)
    };
    let attest = asked.attest.as_ref().map(|text| {
        let parts = text.split_once("of");
        let parts = parts.and_then(|(n, m)| Some((n.parse::<u8>().ok()?, m.parse::<u8>().ok()?)));
        let right = parts.filter(|(n, m)| 0 < *n && n <= m && usize::from(*m) <= HOSTS_MAX);
        right
            .map(|(agree, of)| Attest { agree, of })
            .ok_or_else(|| {
                let hint = format!("for example 2of3; at most {HOSTS_MAX} can be asked");
                bad(format!("`{text}` does not say how many must agree"), &hint)
            })
    });
    // What an older manifest gave beyond what can be had was never had.
    let budget = old.map_or(Budget::USUAL, |old| old.budget.cut());
    let budget = Budget {
        fuel: asked.fuel.unwrap_or(budget.fuel),
        calls: asked.calls.unwrap_or(budget.calls),
        bytes: asked.bytes.unwrap_or(budget.bytes),
    };
    let Budget { fuel, calls, bytes } = Budget::MOST;
    let most = format!("give at most --budget fuel={fuel},calls={calls},bytes={bytes}");
    budget.can_be().map_err(|why| bad(why.to_string(), &most))?;
    let rate = old.map_or(Rate::USUAL, |old| old.rate);
    Ok(Manifest {
        name: name.to_owned(),
        module,
        imports: imports
            .transpose()?
            .unwrap_or_else(|| old.map_or(Imports::USUAL, |old| old.imports)),
        publishes: topics(&asked.publishes, old.map(|old| &old.publishes))?,
        follows: topics(&asked.follows, old.map(|old| &old.follows))?,
        remembers: asked
            .remembers
            .clone()
            .or_else(|| old.map(|old| old.remembers.clone()))
            .unwrap_or_default(),
        budget,
        rate: Rate {
            wakes: asked.wakes_per_minute.unwrap_or(rate.wakes),
            messages: asked.messages_per_minute.unwrap_or(rate.messages),
            bytes: asked.bytes_per_minute.unwrap_or(rate.bytes),
        },
        kv_bytes: asked
            .kv_bytes
            .unwrap_or_else(|| old.map_or(KV_BYTES, |old| old.kv_bytes)),
        not_after: asked
            .expires_at
            .unwrap_or_else(|| old.map_or(now + LIFE_MS, |old| old.not_after)),
        attest: attest
            .transpose()?
            .or_else(|| old.and_then(|old| old.attest)),
    })
}
