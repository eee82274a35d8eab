//! The society: agents that do something together, in clusters, meshes of clusters, and all.
//!
//! Neighbouring agents of a region form **clusters** of some ten, clusters a **mesh** of some thousand, and
//! all meshes are one. Each group has a head, and others that stand by. What agents do is a behaviour of the
//! plan: they [`gather`] what they see up to the top, [`recall`] what others remember, follow each other's
//! [`signals`], or do [`tasks`] and vote on the results. Each behaviour is a model of its own for the same
//! engines as gossip, so that it too has one digest, whatever runs it.
//!
//! Agents come and go as the plan says, regions are cut off from each other, and ways are as long as they
//! are; what a behaviour sends is a message, and takes that long.
//!
//! Not here: how a message spreads to all (`gossip`).

pub mod gather;
pub mod recall;
pub mod signals;
pub mod tasks;
mod words;

use super::draw::{Draws, Purpose};
use super::engine::{Clockwork, Digest, Event, Model, Out};
use super::event::{EPOCH_MAX, Kind};
use super::geography::Geography;
use super::gossip::churn::{Churn, Cut};
use super::plan::{Behaviour, Hierarchy, ParseSwarm, Plan};
use super::run::{Engine, churn, cuts, geography};
use crate::parallel::crew::{self, Crew, Watch};
use crate::swarm::engine::epoch::Owners;
use serde::Serialize;

/// Who is grouped with whom, and who is here.
#[derive(Debug)]
pub struct Society {
    geography: Geography,
    plan: Hierarchy,
    churn: Option<Churn>,
    cuts: Vec<Cut>,
    draws: Draws,
    /// The first agent of each cluster, and one more than the last agent.
    clusters: Vec<u32>,
    /// The first cluster of each mesh, and one more than the last cluster.
    meshes: Vec<u32>,
    /// The first cluster of each region.
    regions: Vec<u32>,
}

/// What a behaviour came to.
#[derive(Clone, Debug, Serialize)]
pub struct Done {
    /// Events that happened.
    pub events: u64,
    /// The same run has the same.
    pub digest: String,
    /// What came of it.
    #[serde(flatten)]
    pub what: What,
}

/// What came of each kind of behaviour.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum What {
    /// What was gathered.
    Gather(gather::Gathered),
    /// What was recalled.
    Recall(recall::Recalled),
    /// Where signals led.
    Signals(signals::Led),
    /// What was done.
    Tasks(tasks::Did),
}

/// The timers that all behaviours share: the slot.
const GOES: u8 = 30;
const COMES: u8 = 31;

/// Bytes of what surrounds one thing sent.
const FRAME: u64 = 40;

/// Who is here, and what was sent.
#[derive(Debug)]
pub struct Presence {
    away: Vec<bool>,
    /// How many are here.
    pub here: u64,
    /// Things sent, and their bytes: inside clusters, inside meshes, beyond.
    pub sent: [(u64, u64); 3],
    /// Things lost, since whoever they were for was away or cut off.
    pub lost: u64,
}

/// Runs the behaviours of a plan, one after the other.
///
/// # Errors
/// If the plan asks for what cannot be.
pub fn behave(
    plan: &Plan,
    seed: u64,
    engine: Engine,
    watch: Watch<'_>,
) -> Result<Vec<Done>, ParseSwarm> {
    let mut done = Vec::new();
    for behaviour in &plan.behaviour {
        let society = Society::of(plan, seed)?;
        let horizon = plan.hierarchy.horizon.as_micros() as u64;
        done.push(match behaviour {
            Behaviour::Gather(_) => {
                let model = gather::Gather::new(society);
                let shard = model.shard();
                run(&model, shard, horizon, engine, watch, |shard| {
                    What::Gather(model.ended(shard))
                })
            }
            Behaviour::Recall(plan) => {
                let model = recall::Recall::new(society, plan.clone());
                let shard = model.shard();
                run(&model, shard, horizon, engine, watch, |shard| {
                    What::Recall(model.ended(shard))
                })
            }
            Behaviour::Signals(plan) => {
                let model = signals::Signals::new(society, plan.clone());
                let shard = model.shard();
                run(&model, shard, horizon, engine, watch, |shard| {
                    What::Signals(model.ended(shard))
                })
            }
            Behaviour::Tasks(plan) => {
                let model = tasks::Tasks::new(society, plan.clone());
                let shard = model.shard();
                run(&model, shard, horizon, engine, watch, |shard| {
                    What::Tasks(model.ended(shard))
                })
            }
        });
    }
    Ok(done)
}

/// All agents in one shard: behaviours look at what others have said, which lies with them.
fn run<M: Model>(
    model: &M,
    shard: M::Shard,
    horizon: u64,
    engine: Engine,
    watch: Watch<'_>,
    what: impl FnOnce(M::Shard) -> What,
) -> Done {
    let clockwork = Clockwork::new(EPOCH_MAX, horizon);
    let (ran, shard) = match engine {
        Engine::Heap => crew::heap(model, shard, clockwork, watch),
        Engine::Epoch => {
            let crew = Crew {
                owners: Owners {
                    bounds: vec![0, u32::MAX >> 5],
                },
                partitions: 1,
                window: 1 << 10,
            };
            let (ran, mut shards) = crew::epochs(model, vec![shard], clockwork, &crew, watch);
            (ran, shards.remove(0))
        }
    };
    let digest: &Digest = &ran.digest;
    Done {
        events: ran.events,
        digest: digest.to_string(),
        what: what(shard),
    }
}

impl Society {
    /// Groups the agents of a plan.
    ///
    /// # Errors
    /// If the plan asks for what cannot be.
    pub fn of(plan: &Plan, seed: u64) -> Result<Self, ParseSwarm> {
        let draws = Draws::new(seed);
        let geography = geography(plan, draws)?;
        let hierarchy = plan.hierarchy.clone();
        let (each, many) = (hierarchy.cluster, hierarchy.mesh / hierarchy.cluster);
        let (mut clusters, mut meshes, mut regions) = (Vec::new(), Vec::new(), Vec::new());
        for pair in geography.bounds.windows(2) {
            regions.push(clusters.len() as u32);
            for (count, first) in (pair[0] as u32..pair[1] as u32)
                .step_by(each as usize)
                .enumerate()
            {
                if count.is_multiple_of(many as usize) {
                    meshes.push(clusters.len() as u32);
                }
                clusters.push(first);
            }
        }
        if meshes.len() > 1 << 16 {
            let (key, why) = ("hierarchy", "more than 65536 meshes".to_owned());
            return Err(ParseSwarm::Impossible { key, why });
        }
        meshes.push(clusters.len() as u32);
        clusters.push(plan.agents as u32);
        Ok(Self {
            churn: churn(&plan.churn),
            cuts: cuts(plan, &geography.names),
            plan: hierarchy,
            geography,
            draws,
            clusters,
            meshes,
            regions,
        })
    }

    fn agents(&self) -> std::ops::Range<u32> {
        0..self.geography.agents() as u32
    }

    /// How many clusters and meshes there are.
    pub fn groups(&self) -> [usize; 2] {
        [self.clusters.len() - 1, self.meshes.len() - 1]
    }

    fn cluster_of(&self, agent: u32) -> u32 {
        let region = self.geography.region(agent.into());
        let place = agent - self.geography.bounds[region] as u32;
        self.regions[region] + place / self.plan.cluster
    }

    fn mesh_of(&self, cluster: u32) -> u32 {
        self.meshes.partition_point(|first| *first <= cluster) as u32 - 1
    }

    /// The agents of a cluster.
    fn members(&self, cluster: u32) -> std::ops::Range<u32> {
        self.clusters[cluster as usize]..self.clusters[cluster as usize + 1]
    }

    /// The head of a group at a level (0 of clusters, 1 of meshes, 2 of all), or who stands by for it.
    fn head(&self, level: usize, group: u32, stand_by: u32) -> u32 {
        let cluster = match level {
            0 => group,
            1 => self.meshes[group as usize] + stand_by,
            _ => self.meshes[stand_by as usize],
        };
        let first = self.clusters[cluster as usize];
        if level == 0 { first + stand_by } else { first }
    }

    /// How many may be the head of a group.
    fn heads(&self, level: usize, group: u32) -> u32 {
        let size = match level {
            0 => self.members(group).len() as u32,
            1 => self.meshes[group as usize + 1] - self.meshes[group as usize],
            _ => self.meshes.len() as u32 - 1,
        };
        (self.plan.standby + 1).min(size)
    }

    fn every(&self, level: usize) -> u64 {
        let plan = &self.plan;
        let all = [
            plan.cluster_every,
            plan.mesh_every,
            plan.global_every,
            plan.checkpoint_every,
        ];
        all[level].as_micros() as u64
    }

    fn presence(&self) -> Presence {
        let away: Vec<bool> = self.agents().map(|agent| self.begins_away(agent)).collect();
        Presence {
            here: away.iter().filter(|away| !**away).count() as u64,
            away,
            sent: [(0, 0); 3],
            lost: 0,
        }
    }

    fn begins_away(&self, agent: u32) -> bool {
        let churn = self.churn;
        churn.is_some_and(|churn| churn.begins_away(self.draws, agent))
    }

    /// Plans the first departure or return of each.
    fn enters(&self, presence: &Presence, out: &mut impl Out) {
        for agent in self.agents().filter(|_| self.churn.is_some()) {
            let timer = if presence.is_away(agent) { COMES } else { GOES };
            let at = self.span(agent, timer == COMES, 0);
            let drawn = self.draws.bits(Purpose::Session, agent.into(), 1);
            let at = ((u128::from(at) * u128::from(drawn)) >> 64) as u64;
            out.send(at.max(SPAN_MIN), Event::new(agent, timer, Kind::Timer, 0));
        }
    }

    fn span(&self, agent: u32, away: bool, at: u64) -> u64 {
        let Some(churn) = self.churn else {
            return u64::MAX;
        };
        let spans = if away { churn.away } else { churn.session };
        spans
            .of(self.draws.bits(Purpose::Session, agent.into(), at << 2 | 2))
            .max(SPAN_MIN)
    }

    /// If `event` is of coming or going, does it. True if it was.
    fn moves(&self, presence: &mut Presence, at: u64, event: Event, out: &mut impl Out) -> bool {
        let (agent, timer) = (event.agent(), event.slot());
        if event.kind() != Kind::Timer || timer < GOES {
            return false;
        }
        let leaves = timer == GOES;
        presence.away[agent as usize] = leaves;
        presence.here = if leaves {
            presence.here - 1
        } else {
            presence.here + 1
        };
        let next = if leaves { COMES } else { GOES };
        let span = self.span(agent, leaves, at);
        out.send(at + span, Event::new(agent, next, Kind::Timer, 0));
        true
    }

    /// Sends something from one agent to another. False if it is lost: then it was sent all the same.
    fn send(
        &self,
        presence: &mut Presence,
        at: u64,
        (from, to): (u32, u32),
        event: Event,
        bytes: u64,
        out: &mut impl Out,
    ) -> bool {
        let [here, there] = [from, to].map(|agent| self.geography.region(agent.into()));
        let [own, other] = [from, to].map(|agent| self.cluster_of(agent));
        let level = match (own == other, self.mesh_of(own) == self.mesh_of(other)) {
            (true, _) => 0,
            (_, true) => 1,
            _ => 2,
        };
        presence.sent[level].0 += 1;
        presence.sent[level].1 += FRAME + bytes;
        let mut cuts = self.cuts.iter();
        if cuts.any(|cut| cut.is_on(at) && cut.parts(here, there)) {
            presence.lost += 1;
            return false;
        }
        let way = self.geography.way((from.into(), here), (to.into(), there));
        let takes = way
            + self
                .geography
                .processing(from.into(), at ^ u64::from(to) << 32);
        out.send(at + takes.max(EPOCH_MAX), event);
        true
    }
}

impl Presence {
    fn is_away(&self, agent: u32) -> bool {
        self.away[agent as usize]
    }
}

/// No session or absence is shorter, in microseconds.
const SPAN_MIN: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_agent_is_in_one_cluster_of_its_region_and_every_cluster_in_one_mesh() {
        let text = "agents = 1000\n[hierarchy]\ncluster = 10\nmesh = 40";
        let society = Society::of(&Plan::parse(text).expect("legal"), 1).expect("legal");
        // Eight regions of 125: thirteen clusters, in four meshes.
        assert_eq!([8 * 13, 8 * 4], society.groups());
        for agent in society.agents() {
            let cluster = society.cluster_of(agent);
            assert!(society.members(cluster).contains(&agent));
            let head = society.head(0, cluster, 0);
            let region = |agent: u32| society.geography.region(agent.into());
            assert_eq!(region(agent), region(head));
            let mesh = society.mesh_of(cluster);
            assert_eq!(region(agent), region(society.head(1, mesh, 0)));
        }
        assert_eq!(
            (2, 2, 2),
            (
                society.heads(0, 0),
                society.heads(1, 0),
                society.heads(2, 0)
            )
        );
    }
}
