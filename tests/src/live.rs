//! The simulator beside live nodes: one plan and seed, played by both.
//!
//! The same agents have the same links of the same lengths that come up in the same order, hearts beat
//! at the same moments, and the same messages are published by the same. Left to chance on both sides,
//! each with its own dice, is whom an agent picks. The one thing that is fitted is how long an agent
//! needs for a message; it is fitted on some seeds and judged on others.
//!
//! Here a plan becomes a [`Scene`] and both are run; what they say is compared in [`score`].

pub mod calibration;
pub mod lookups;
pub mod score;

use std::time::Duration;

use aquifer_node::net::live::{Link, MeshShape, Saying, Scene, Seen};
use aquifer_simulator::swarm::draw::Purpose;
use aquifer_simulator::swarm::plan::{ParseSwarm, Plan};
use aquifer_simulator::swarm::run::{How, prepare};
use score::Spread;

/// Nodes come to life within a second; then links come up, within this time.
const LINKING: Duration = Duration::from_secs(3);

/// And meshes settle, for as long.
const SETTLING: Duration = Duration::from_secs(4);

/// After the last message.
const ENDING: Duration = Duration::from_secs(4);

/// Messages of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kind {
    /// What it is called.
    pub name: &'static str,
    /// The length of each, bytes.
    pub bytes: u32,
    /// How long each is judged.
    pub validate: Duration,
    /// Whether nodes say what they do not want.
    pub dont_want: bool,
}

/// Small ones that are passed on at once; larger ones that are judged for a while, and the same where
/// nodes tell each other what they have.
pub const KINDS: [Kind; 3] = [
    Kind {
        name: "small",
        bytes: 256,
        validate: Duration::ZERO,
        dont_want: false,
    },
    Kind {
        name: "judged",
        bytes: 2_048,
        validate: Duration::from_millis(20),
        dont_want: false,
    },
    Kind {
        name: "idontwant",
        bytes: 2_048,
        validate: Duration::from_millis(20),
        dont_want: true,
    },
];

/// A plan for both, of so many agents and messages.
///
/// # Panics
/// If the plan in this file is none.
#[must_use]
pub fn plan(agents: u64, messages: u32, kind: Kind) -> Plan {
    // The product's own mesh (`node/src/net/gossip.rs`). Messages a second: so many that the machine
    // is idle more than half of the time.
    let rate = 800.0 / agents as f64;
    let text = format!(
        "agents = {agents}\nlinks = 20\nhorizon = \"{horizon}s\"\n\
         [latency]\nprocessing = [\"100us\", \"500us\"]\n\
         [mesh]\ndegree = 6\nlow = 5\nhigh = 12\noutbound = 2\nlazy = 6\n\
         linking = \"{linking}s\"\n\
         validate = \"{validate}us\"\ndont_want = {dont_want}\n\
         [[workload]]\ncount = {messages}\nrate = {rate}\nbytes = {bytes}\nfrom = \"{from}s\"\n",
        horizon = 30 + (f64::from(messages) / rate) as u64,
        linking = LINKING.as_secs(),
        validate = kind.validate.as_micros(),
        dont_want = if kind.dont_want { 1_001 } else { 0 },
        bytes = kind.bytes,
        from = (Duration::from_secs(1) + LINKING + SETTLING).as_secs(),
    );
    Plan::parse(&text).expect("a legal plan")
}

/// The scene of a plan and a seed.
///
/// # Errors
/// If the plan asks for what cannot be.
pub fn scene(plan: &Plan, seed: u64) -> Result<Scene, ParseSwarm> {
    let prepared = prepare(plan, seed, How::default())?;
    let model = prepared.model();
    let agents = model.geography.agents() as u32;
    let beat = model.mesh.heartbeat;
    let born = |agent: u32| {
        let phase = model.draws.bits(Purpose::Heartbeat, agent.into(), 0) % beat;
        Duration::from_micros(phase)
    };
    let (mut links, mut found) = (Vec::new(), Vec::new());
    let place = |agent: u32| (u64::from(agent), model.geography.region(agent.into()));
    for agent in 0..agents {
        model.graph.links(agent, &mut found);
        // Of a pair of links, the first is the one that this agent makes.
        for link in found.iter().step_by(2).flatten() {
            let at = Duration::from_micros(model.made_at(agent, link.peer).into());
            links.push(Link {
                ends: (agent, link.peer),
                way: Duration::from_micros(model.geography.way(place(agent), place(link.peer))),
                at: Duration::from_secs(1) + at,
            });
        }
    }
    let saying = |message: &aquifer_simulator::swarm::gossip::Message| Saying {
        at: Duration::from_micros(message.at),
        by: message.publisher,
        bytes: message.bytes as usize,
    };
    let sayings: Vec<Saying> = model.messages.iter().map(saying).collect();
    let last = sayings.last().map_or(Duration::ZERO, |saying| saying.at);
    Ok(Scene {
        born: (0..agents).map(born).collect(),
        links,
        looks: Duration::from_secs(1) + LINKING + SETTLING,
        ends: last + ENDING,
        sayings,
        mesh: MeshShape {
            degree: model.mesh.degree as usize,
            low: model.mesh.low as usize,
            high: model.mesh.high as usize,
            outbound: model.mesh.outbound as usize,
            lazy: model.mesh.lazy as usize,
            stock: model.mesh.dont_want > 0,
        },
        validate: Duration::from_micros(model.mesh.validate),
    })
}

/// What live nodes saw, in the terms of [`score`].
#[must_use]
pub fn of_live(seen: &Seen) -> Spread {
    let micros = |(_, delay): &(u32, Duration)| delay.as_micros() as u64;
    let message = |arrivals: &Vec<(u32, Duration)>| {
        let mut delays: Vec<u64> = arrivals.iter().map(micros).collect();
        delays.sort_unstable();
        delays
    };
    Spread {
        messages: seen.arrivals.iter().map(message).collect(),
        copies: seen.copies,
        degrees: seen.degrees.clone(),
    }
}

/// What the simulator says of the plan.
///
/// # Errors
/// If the plan asks for what cannot be.
pub fn of_model(plan: &Plan, seed: u64) -> Result<Spread, ParseSwarm> {
    let how = How {
        records: true,
        ..How::default()
    };
    let prepared = prepare(plan, seed, how)?;
    let mut messages = vec![Vec::new(); prepared.model().messages.len()];
    let tally = prepared.run(&|_| true).tally;
    for arrival in &tally.arrivals {
        messages[arrival.message as usize].push(arrival.micros);
    }
    messages
        .iter_mut()
        .for_each(|delays| delays.sort_unstable());
    Ok(Spread {
        messages,
        copies: tally.firsts() + tally.duplicates,
        degrees: tally.degrees.to_vec(),
    })
}
