//! The scene: what a plan and a seed leave no more to chance. Where agents are, who is linked to whom, who
//! says what when, what the law says of it, and who does harm.

use super::micros;
use crate::scenario::rule::Rule;
use crate::swarm::draw::{Draws, Purpose};
use crate::swarm::geography::Geography;
use crate::swarm::gossip::churn::{Churn, Cut};
use crate::swarm::gossip::{self, Gossip, Harm, Mesh, Message};
use crate::swarm::graph::{Graph, Shape};
use crate::swarm::plan::{ChurnPlan, ParseSwarm, Partition, Plan, Tier, Workload, is_in};
use crate::swarm::replicas::{Replicas, Site};
use crate::swarm::sessions::Spans;
use aquifer_protocol::decide::{Label, allowed_in};
use aquifer_protocol::{Region, TopicName};
use std::time::Duration;

/// How many agents are in these regions.
pub(super) fn crowd(geography: &Geography, allowed: u16) -> u64 {
    let regions = (0..geography.regions()).filter(|region| allowed >> region & 1 == 1);
    let size = |region: usize| geography.bounds[region + 1] - geography.bounds[region];
    regions.map(size).sum()
}

/// Where all agents are.
pub(in crate::swarm) fn geography(plan: &Plan, draws: Draws) -> Result<Geography, ParseSwarm> {
    let matrix = plan.matrix()?;
    let shares = match plan.latency.shares.is_empty() {
        true => vec![1.0; matrix.0.len()],
        false => plan.latency.shares.clone(),
    };
    let [least, most] = plan.latency.processing.map(|span| micros(span) as u32);
    let jitter = plan.latency.jitter;
    Ok(Geography::new(
        plan.agents,
        &shares,
        matrix,
        jitter,
        (least, most),
        draws,
    ))
}

/// What all agents know.
pub(super) fn model(plan: &Plan, seed: u64) -> Result<Gossip, ParseSwarm> {
    let draws = Draws::new(seed);
    let geography = geography(plan, draws)?;
    let graph = Graph::new(plan.shape, plan.links, &geography, draws);
    let honest = Honest::of(plan, &geography, draws);
    let messages = messages(plan, &geography, &honest, draws)?;
    let cuts = cuts(plan, &geography.names);
    let heartbeat = micros(plan.mesh.heartbeat);
    let most = match heartbeat {
        0 => messages.len(),
        _ => abreast(&messages, micros(plan.mesh.memory) + 2 * heartbeat),
    };
    Ok(Gossip {
        graph,
        geography,
        shape: plan.shape,
        links: plan.links,
        mesh: Mesh {
            degree: plan.mesh.degree,
            low: plan.mesh.low,
            high: plan.mesh.high,
            outbound: plan.mesh.outbound,
            lazy: plan.mesh.lazy,
            heartbeat,
            flood: plan.mesh.flood,
            scores: plan.mesh.scores,
            linking: micros(plan.mesh.linking) as u32,
            validate: micros(plan.mesh.validate),
            dont_want: plan.mesh.dont_want,
        },
        messages,
        words: most.div_ceil(8).next_power_of_two(),
        memory: micros(plan.mesh.memory),
        loss: plan.latency.loss,
        uplink: plan.latency.uplink,
        churn: churn(&plan.churn),
        // Replicas sync by themselves, as often as the product's.
        sync: match plan.tier {
            Tier::Full => 0,
            _ => micros(plan.mesh.sync),
        },
        is_hindered: plan.latency.loss > 0
            || plan.latency.uplink > 0
            || plan.adversary.eclipsed > 0
            || plan.nat.behind > 0
            || !cuts.is_empty(),
        cuts,
        minded: plan.tier == Tier::Full,
        censors: plan.adversary.censors,
        censors_from: micros(plan.adversary.from),
        violators: plan.adversary.violators,
        harm: Harm {
            eclipsed: plan.adversary.eclipsed,
            spammers: plan.adversary.spammers,
            spam_every: (1_000_000.0 / plan.adversary.spam) as u64,
            replayers: plan.adversary.replayers,
        },
        nat: [plan.nat.behind, plan.nat.punched],
        records: false,
        draws,
    })
}

/// The messages of all workloads, in the order in which they are published.
fn messages(
    plan: &Plan,
    geography: &Geography,
    honest: &Honest,
    draws: Draws,
) -> Result<Vec<Message>, ParseSwarm> {
    let mut messages = Vec::new();
    for (topic, workload) in (0_u64..).zip(&plan.workload) {
        let (allowed, lawful) = law(workload, geography)?;
        let apart = 1_000_000.0 / workload.rate;
        for count in 0..workload.count {
            let about = topic << 32 | u64::from(count);
            let drawn = |number| {
                let bits = draws.bits(Purpose::Publish, about, number);
                someone(geography, allowed, bits) as u32
            };
            let mut drawn = (0..PUBLISHERS_TRIED).map(drawn);
            let publisher = drawn.find(|agent| honest.has(*agent));
            messages.push(Message {
                at: micros(workload.from) + (f64::from(count) * apart) as u64,
                topic: topic as u32,
                publisher: publisher.ok_or_else(|| ParseSwarm::Impossible {
                    key: "adversary",
                    why: format!("nobody honest was found to publish on `{}`", workload.topic),
                })?,
                audience: honest.count(allowed) - 1,
                bytes: workload.bytes,
                allowed,
                lawful,
            });
        }
    }
    messages.sort_by_key(|message| message.at);
    Ok(messages)
}

/// The product's replicas for all agents. A region of the matrix is a top-level region of theirs where the
/// shape is regional, since each has a mesh of its own; else all are inside one.
pub(super) fn minds(plan: &Plan, seed: u64, model: &Gossip) -> Result<Replicas, ParseSwarm> {
    let geography = &model.geography;
    let within = match plan.shape {
        Shape::Flat => "world/",
        Shape::Regional => "",
    };
    let name = |region: usize| format!("{within}{}", geography.names[region].replace('/', "-"));
    let site = |agent: u64| {
        let number = geography.region(agent);
        let bridges = model.bridge(agent as u32).is_some();
        Site {
            region: name(number),
            number,
            bridges,
        }
    };
    let sites: Vec<Site> = (0..plan.agents).map(site).collect();
    let mut topics = Vec::new();
    for workload in &plan.workload {
        let (allowed, _) = law(workload, geography)?;
        let allowed = (0..geography.regions()).map(|region| allowed >> region & 1 == 1);
        topics.push((workload.topic.clone(), allowed.collect()));
    }
    let publishers: Vec<u32> = model
        .messages
        .iter()
        .map(|message| message.publisher)
        .collect();
    let links = usize::from(plan.links) + geography.regions();
    let mut replicas = Replicas::found(seed, &sites, &topics, &publishers, links)?;
    let most = (2 * micros(plan.skew) / 1_000) as u32;
    for agent in (0..plan.agents as u32).filter(|_| most > 0) {
        let millis = model.draws.below(most + 1, Purpose::Clock, agent.into(), 0);
        replicas.sets_clock(agent, u64::from(millis) * 1_000);
    }
    Ok(replicas)
}

/// Draws until somebody honest is found: with one honest agent in a hundred, all but one in 10¹⁷ find one.
const PUBLISHERS_TRIED: u64 = 4_096;

/// Who publishes and is to be reached: all but the censors.
struct Honest {
    censors: u32,
    draws: Draws,
    /// How many, by region.
    counts: Vec<u64>,
}

impl Honest {
    fn of(plan: &Plan, geography: &Geography, draws: Draws) -> Self {
        let mut honest = Self {
            censors: plan.adversary.censors,
            draws,
            counts: Vec::new(),
        };
        let count = |pair: &[u64]| match honest.censors {
            0 => pair[1] - pair[0],
            _ => (pair[0]..pair[1])
                .filter(|agent| honest.has(*agent as u32))
                .count() as u64,
        };
        honest.counts = geography.bounds.windows(2).map(count).collect();
        honest
    }

    fn has(&self, agent: u32) -> bool {
        !gossip::is_one(self.draws, self.censors, Purpose::Censor, agent)
    }

    fn count(&self, allowed: u16) -> u64 {
        let counts = (0..).zip(&self.counts);
        let allowed = counts.filter(|(region, _)| allowed >> *region & 1 == 1);
        allowed.map(|(_, count)| count).sum()
    }
}

/// Agents that come and go, if the plan has any.
pub(in crate::swarm) fn churn(plan: &ChurnPlan) -> Option<Churn> {
    let spans = |median: Duration| Spans {
        median: micros(median),
        spread: plan.spread,
    };
    (!plan.session.is_zero()).then(|| Churn {
        session: spans(plan.session),
        away: spans(plan.away),
        crashes: plan.crashes,
        notice: micros(plan.notice),
    })
}

pub(in crate::swarm) fn cuts(plan: &Plan, names: &[String]) -> Vec<Cut> {
    let mask = |partition: &Partition| {
        let named = |region: &str| partition.regions.iter().any(|name| is_in(region, name));
        let bit = |(number, region): (usize, &String)| u16::from(named(region)) << number;
        names.iter().enumerate().map(bit).sum()
    };
    let cut = |partition: &Partition| Cut {
        regions: mask(partition),
        from: micros(partition.from),
        until: micros(partition.from + partition.lasts),
    };
    plan.partition.iter().map(cut).collect()
}

/// The regions that may have a workload's messages, as the product's policy has it and as the oracle.
pub(super) fn law(workload: &Workload, geography: &Geography) -> Result<(u16, u16), ParseSwarm> {
    let fail = |why: String| ParseSwarm::Impossible {
        key: "workload",
        why,
    };
    let name = &workload.topic;
    let topic: TopicName = name.parse().map_err(|why| fail(format!("{why}")))?;
    let rule = match workload.law.is_empty() {
        true => Rule::open(),
        false => Rule::within(&workload.law.iter().map(String::as_str).collect::<Vec<_>>()),
    };
    let policy = rule.policy(&[]);
    let label = Label {
        topic: &topic,
        policy: &policy,
        epoch: 1,
        home: None,
    };
    let (mut allowed, mut lawful) = (0, 0);
    for (number, name) in geography.names.iter().enumerate() {
        let region: Region = name
            .parse()
            .map_err(|why| fail(format!("the matrix: {why}")))?;
        allowed |= u16::from(allowed_in(label, &region).is_ok()) << number;
        lawful |= u16::from(rule.permits(0, name)) << number;
    }
    let inhabited = |number: &usize| geography.bounds[*number] < geography.bounds[number + 1];
    let regions = 0..geography.regions();
    if !regions
        .filter(inhabited)
        .any(|number| allowed >> number & 1 == 1)
    {
        return Err(fail(format!(
            "nobody may have `{name}`: no region is inside its law"
        )));
    }
    Ok((allowed, lawful))
}

/// One of the agents that may have it, each as likely.
pub(super) fn someone(geography: &Geography, allowed: u16, bits: u64) -> u64 {
    let regions = || (0..geography.regions()).filter(|region| allowed >> region & 1 == 1);
    let size = |region: usize| geography.bounds[region + 1] - geography.bounds[region];
    let all = u128::from(crowd(geography, allowed));
    let mut place = ((u128::from(bits) * all) >> 64) as u64;
    for region in regions() {
        if place < size(region) {
            return geography.bounds[region] + place;
        }
        place -= size(region);
    }
    unreachable!("the place is below the sum of all")
}

/// Most messages that are published within `span`.
fn abreast(messages: &[Message], span: u64) -> usize {
    let since = |number: usize| {
        let from = messages[number].at.saturating_sub(span);
        number + 1 - messages.partition_point(|message| message.at < from)
    };
    (0..messages.len()).map(since).max().unwrap_or(0)
}
