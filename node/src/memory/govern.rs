//! Govern: topics and their laws, invitations, and what there is to say about this node.

use super::{Memory, denied, not_found, refused, topic_name, unexpected};
use crate::api::{
    Explained, Invite, Invited, NodeName, PolicyView, Problem, Status, StoreView, TopicView,
};
use crate::config::{parse_region, parse_roles};
use crate::keys::Ask;
use crate::names;
use crate::net::{NetCommand, NetSnapshot};
use crate::recall::Filter;
use crate::store::NodeStore;
use crate::view::View;
use aquifer_protocol::certificate::role;
use aquifer_protocol::decide::{allowed_in, keepable};
use aquifer_protocol::law::TopicLaw;
use aquifer_protocol::policy::Keyring;
use aquifer_protocol::{
    Command, Denial, Expect, NodeId, Op, Policy, Region, Regions, Reply, Subject, TopicId, decide,
};
use std::sync::PoisonError;
use tokio::sync::oneshot;

const TICKET_SECONDS: u64 = 900;
const TICKET_SECONDS_MAX: u64 = 30 * 86_400;

#[expect(clippy::unused_async, reason = "a door need not know which calls wait")]
impl Memory {
    /// Founds a topic. It inherits the law of the topics above it; `policy` may only narrow that.
    ///
    /// # Errors
    /// `topic_exists`, `policy_refused` if it would widen a law above it, `encryption_unavailable`,
    /// `unknown_region`.
    pub async fn topic_create(&self, name: &str, policy: PolicyView) -> Result<TopicView, Problem> {
        self.govern(name, policy, Expect::New).await
    }

    /// Changes the law of a topic that this node founded. Rules left out of `policy` stay.
    ///
    /// # Errors
    /// As [`Memory::topic_create`]; `not_authorised` if another node founded it.
    pub async fn policy_set(&self, name: &str, policy: PolicyView) -> Result<TopicView, Problem> {
        self.govern(name, policy, Expect::Known).await
    }

    async fn govern(
        &self,
        name: &str,
        asked: PolicyView,
        expect: Expect,
    ) -> Result<TopicView, Problem> {
        let topic = topic_name(name)?;
        let view = self.view();
        let me = view.me.node();
        let own = view
            .law
            .named(&topic)
            .and_then(|law| law.own.iter().find(|(by, ..)| *by == me));
        let base = match own {
            Some((_, _, founding)) => founding.policy.clone(),
            None => {
                let above = topic.ancestors().filter_map(|name| view.law.named(&name));
                above.fold(Policy::open(), |policy, law| policy.meet(law.policy()))
            }
        };
        let policy = apply(base, &asked, expect == Expect::New)?;
        // What the law would refuse is refused for the law's reason, before any other.
        view.law
            .may_found(&topic, &policy, me)
            .map_err(|denial| denied(&denial))?;
        let known = |region: &Region| {
            view.me.region().covers(region)
                || region.covers(view.me.region())
                || view.law.knows_region(region)
        };
        if let Regions::Only(regions) = &policy.location.allowed_regions
            && !regions.iter().any(known)
        {
            let message = format!(
                "no node of this hive is in any of {}",
                policy.location.allowed_regions
            );
            let hint = "check the spelling; a topic needs at least one region that has a node";
            return Err(Problem::new("unknown_region", 3, message, hint));
        }
        match self
            .inner
            .helm
            .ask(Command::Govern {
                topic,
                policy,
                expect,
            })
            .await?
        {
            Reply::Governed { .. } => self.topic(name).await,
            Reply::Refused(why) => Err(refused(&why)),
            _ => Err(unexpected()),
        }
    }

    /// One topic.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn topic(&self, name: &str) -> Result<TopicView, Problem> {
        let topic = topic_name(name)?;
        let view = self.view();
        let law = view.law.named(&topic).ok_or_else(|| no_topic(name))?;
        Ok(self.show_topic(&view, topic.id(view.law.hive()), law))
    }

    /// All topics that this node knows, held here or not.
    ///
    /// # Errors
    /// None at present.
    pub async fn topics(&self) -> Result<Vec<TopicView>, Problem> {
        let view = self.view();
        let mut topics: Vec<_> = view
            .law
            .topics()
            .map(|(id, law)| self.show_topic(&view, id, law))
            .collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    fn show_topic(&self, view: &View, id: TopicId, law: &TopicLaw) -> TopicView {
        let refused = view.may_read(id).err().map(|denial| denial.to_string());
        let filter = Filter {
            topics: [id.0].into(),
            ..Filter::default()
        };
        TopicView {
            name: law.name.to_string(),
            id: id.to_string(),
            policy: show_policy(law.policy()),
            epoch: law.epoch(),
            founders: law.founders.iter().map(names::node).collect(),
            held: refused.is_none() && view.holders(id).contains(&view.me.node()),
            memories: if refused.is_none() {
                self.inner.indexer.count(&filter)
            } else {
                0
            },
            refused,
            holders: view
                .holders(id)
                .iter()
                .map(|node| self.name_node(node))
                .collect(),
        }
    }

    /// Whether data of a topic may go to a region or a node, and which rule says so.
    ///
    /// # Errors
    /// `not_found` if the topic is not known.
    pub async fn explain(&self, topic: &str, to: &str) -> Result<Explained, Problem> {
        let name = topic_name(topic)?;
        let view = self.view();
        let law = view.law.named(&name).ok_or_else(|| no_topic(topic))?;
        let label = law.label();
        let verdict = match names::parse_node(to) {
            Some(node) => self.explain_node(&view, law, node),
            None => allowed_in(label, &parse_region(to)?),
        };
        let holders: Vec<NodeName> = view
            .holders(name.id(view.law.hive()))
            .iter()
            .map(|node| self.name_node(node))
            .collect();
        let (allowed, rule, reason) = match verdict {
            Ok(()) => (
                true,
                "allowed",
                format!(
                    "`{name}` may be in {to}: {}",
                    label.policy.location.allowed_regions
                ),
            ),
            Err(denial) => (false, denial.code(), denial.to_string()),
        };
        Ok(Explained {
            topic: name.to_string(),
            to: to.to_owned(),
            allowed,
            rule: rule.to_owned(),
            reason,
            policy: show_policy(label.policy),
            holders,
        })
    }

    fn explain_node(&self, view: &View, law: &TopicLaw, node: NodeId) -> Result<(), Denial> {
        let member = if node == view.me.node() {
            &view.me
        } else {
            &view
                .law
                .member(&node)
                .ok_or(Denial::UnknownMember { node })?
                .member
        };
        let label = law.label();
        if node == view.me.node() {
            keepable(label, view.snapshot.erases())?;
        }
        decide(
            Op::Serve,
            label,
            Subject {
                member,
                at: view.now,
            },
            label.epoch,
        )
    }

    /// Gives out a ticket.
    ///
    /// # Errors
    /// `not_authorised` if this node may not certify for that region.
    pub async fn invite(&self, asked: Invite) -> Result<Invited, Problem> {
        let view = self.view();
        let region = match &asked.region {
            Some(region) => parse_region(region)?,
            None => view.me.region().clone(),
        };
        if let Some(own) = self.inner.admission.may_certify()?
            && !own.covers(&region)
        {
            let message = format!("this node may certify nodes of {own} only, not of {region}");
            let hint = "run `aquifer invite` on the node that founded the hive";
            return Err(Problem::new("not_authorised", 5, message, hint));
        }
        let topics = asked.topics.filter(|topics| !topics.is_empty());
        let names = topics.map(|all| {
            all.iter()
                .map(|t| topic_name(t))
                .collect::<Result<Vec<_>, _>>()
        });
        let names = names.transpose()?;
        // A plain member unless roles are asked for; only a seed certifies others.
        let roles = match &asked.roles[..] {
            [] => role::POD_HOST | role::INDEX,
            roles => parse_roles(roles)?,
        };
        let seconds = asked
            .ttl_seconds
            .unwrap_or(TICKET_SECONDS)
            .min(TICKET_SECONDS_MAX);
        let expires_at = self.inner.helm.now().millis() + seconds * 1_000;
        let ask = Ask {
            subject: view.me.node(),
            region: region.clone(),
            topics: names.clone(),
            roles,
            may_issue: roles & role::SEED != 0,
        };
        let addresses = self.net().await?.listen;
        let ticket = self.inner.admission.invite(&ask, addresses, expires_at)?;
        Ok(Invited {
            ticket: ticket.to_text(),
            region: region.to_string(),
            topics: names.map(|all| all.iter().map(ToString::to_string).collect()),
            expires_at,
        })
    }

    /// This node.
    ///
    /// # Errors
    /// Only if the node is stopping.
    pub async fn status(&self) -> Result<Status, Problem> {
        let view = self.view();
        let net = self.net().await?;
        let grant = view.me.grant();
        let peers = self.connected(&view, &net);
        let api = self
            .inner
            .api
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let topics = self.topics().await?;
        let pace = self.inner.health.pace();
        Ok(Status {
            node_id: names::node(&view.me.node()),
            region: view.me.region().to_string(),
            hive: view.law.hive().to_string(),
            roles: role::names(grant.roles)
                .into_iter()
                .map(str::to_owned)
                .collect(),
            api,
            away: self.away(&view, &net),
            external: net.external,
            relays: net
                .relays
                .iter()
                .map(|key| names::node(&NodeId(*key)))
                .collect(),
            listen: net.listen,
            peers,
            topics,
            memories: self.inner.indexer.count(&self.all_readable(&view)),
            agents: self.inner.agents.with(|host| host.count()).await?,
            models: self.held_models(),
            gpu_bytes: self.inner.gpu_bytes,
            index_ready: self.inner.indexer.is_filled(),
            store_bytes: NodeStore::bytes_on_disk(&self.inner.home),
            store: StoreView {
                engine: self.inner.engine.name().to_owned(),
                commit_ms: pace.commit.map(|took| took.as_secs_f64() * 1_000.0),
                slow: pace.slow,
                read_only: pace.full,
                free_bytes: pace.free_bytes,
            },
            version: env!("CARGO_PKG_VERSION").to_owned(),
            up_since: self.inner.up_since,
            certificate_until: grant.not_after,
            denials: self.inner.observed.denials(),
            home: self.inner.home.path().display().to_string(),
        })
    }

    /// Members that are not connected, and when each last was.
    fn away(&self, view: &View, net: &NetSnapshot) -> Vec<NodeName> {
        let me = view.me.node();
        let up = |node: &NodeId| {
            net.peers
                .iter()
                .any(|line| line.admitted && line.key == node.0)
        };
        let away = view
            .law
            .members()
            .map(|(node, _)| node)
            .filter(|node| **node != me && !up(node));
        away.map(|node| self.name_node(node)).collect()
    }

    pub(crate) async fn net(&self) -> Result<NetSnapshot, Problem> {
        let (reply, answer) = oneshot::channel();
        let stopping = || Problem::new("stopping", 1, "the node is stopping", "start it again");
        self.inner
            .net
            .send(NetCommand::Snapshot { reply })
            .await
            .map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }
}

fn no_topic(name: &str) -> Problem {
    let hint = format!(
        "list the topics with `aquifer topic list`, or create it with `aquifer topic create {name}`"
    );
    Problem {
        hint,
        ..not_found(format!("there is no topic `{name}` here"))
    }
}

/// `asked` over `base`: what it does not name stays.
fn apply(mut base: Policy, asked: &PolicyView, fresh: bool) -> Result<Policy, Problem> {
    let location = &mut base.location;
    if let Some(regions) = &asked.allowed_regions {
        if regions.is_empty() {
            let hint = "name at least one region, or leave the rule out for anywhere";
            return Err(Problem::new(
                "unknown_region",
                2,
                "a topic must be allowed somewhere",
                hint,
            ));
        }
        let regions = regions
            .iter()
            .map(|r| parse_region(r))
            .collect::<Result<Vec<_>, _>>()?;
        location.allowed_regions = Regions::only(regions);
    }
    if let Some(region) = &asked.required_region {
        location.required_region = Some(parse_region(region)?);
    }
    location.cross_border_allowed = asked
        .cross_border_allowed
        .unwrap_or(location.cross_border_allowed);
    location.encryption_required = asked
        .encryption_required
        .unwrap_or(location.encryption_required);
    location.retention = asked.retention_seconds.or(location.retention);
    base.copies = asked.copies.or(base.copies);
    base.body_bytes_max = asked.body_bytes_max.unwrap_or(base.body_bytes_max);
    if let Some(readers) = &asked.readers {
        base.readers = keyring(readers)?;
    }
    if let Some(writers) = &asked.writers {
        base.writers = keyring(writers)?;
    }
    if fresh && base.copies == Some(0) {
        return Err(Problem::new(
            "bad_copies",
            2,
            "a topic needs at least one copy",
            "leave copies out for all nodes",
        ));
    }
    let location = &base.location;
    if let Some(required) = &location.required_region
        && !location.allowed_regions.contains(required)
    {
        let message = format!(
            "required_region {required} is not inside {}",
            location.allowed_regions
        );
        return Err(Problem::new(
            "unknown_region",
            2,
            message,
            "allow it, or require another",
        ));
    }
    Ok(base)
}

fn keyring(nodes: &[String]) -> Result<Keyring, Problem> {
    let parse = |text: &String| {
        names::parse_node(text).map(|node| node.0).ok_or_else(|| {
            let message = format!("`{text}` is not a node");
            Problem::new(
                "bad_node",
                2,
                message,
                "give peer ids, as `aquifer peers` prints them",
            )
        })
    };
    Ok(Keyring::Only(
        nodes.iter().map(parse).collect::<Result<_, _>>()?,
    ))
}

fn show_policy(policy: &Policy) -> PolicyView {
    let location = &policy.location;
    let regions = match &location.allowed_regions {
        Regions::Anywhere => None,
        Regions::Only(regions) => Some(regions.iter().map(ToString::to_string).collect()),
    };
    let nodes = |ring: &Keyring| match ring {
        Keyring::Members => None,
        Keyring::Only(keys) => Some(keys.iter().map(|key| names::node(&NodeId(*key))).collect()),
    };
    PolicyView {
        allowed_regions: regions,
        required_region: location.required_region.as_ref().map(ToString::to_string),
        cross_border_allowed: Some(location.cross_border_allowed),
        encryption_required: Some(location.encryption_required),
        retention_seconds: location.retention,
        copies: policy.copies,
        readers: nodes(&policy.readers),
        writers: nodes(&policy.writers),
        body_bytes_max: Some(policy.body_bytes_max),
    }
}
