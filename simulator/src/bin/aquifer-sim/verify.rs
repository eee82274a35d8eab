//! Whether a swarm is one, however it is run; and if not, where it parts.

use crate::storms::pretty;
use aquifer_simulator::report::Outcome;
use aquifer_simulator::swarm::engine::watched::Happened;
use aquifer_simulator::swarm::plan::{ParseSwarm, Plan, Tier};
use aquifer_simulator::swarm::run::{Engine, How, prepare};
use aquifer_simulator::swarm::society::behave;
use serde::Serialize;
use std::time::Instant;

/// One way to run it.
#[derive(Serialize)]
struct Way {
    engine: &'static str,
    threads: usize,
    partitions: usize,
    digest: String,
    events: u64,
    seconds: f64,
}

/// What it came to.
#[derive(Serialize)]
struct Verified {
    profile: &'static str,
    ways: Vec<Way>,
    /// The digests of each behaviour, by the heap and by epochs.
    behaviours: Vec<(String, String)>,
    same: bool,
    /// The first epoch in which two differ, and what happened in it that is not in both.
    #[serde(skip_serializing_if = "Option::is_none")]
    parted: Option<(usize, Vec<String>)>,
}

/// Lines of a difference that are worth reading.
const LINES: usize = 20;

/// Runs a plan by the heap, and by epochs with one and two threads and 1, 64 and 1,024 partitions.
pub(crate) fn verify(plan: &Plan, seed: u64, json: bool) -> Result<Outcome, ParseSwarm> {
    let mut hows = vec![How {
        engine: Engine::Heap,
        threads: 1,
        partitions: 1,
        records: false,
    }];
    for threads in [1, 2] {
        hows.extend([1, 64, 1_024].map(|partitions| How {
            engine: Engine::Epoch,
            threads,
            partitions,
            records: false,
        }));
    }
    if !matches!(plan.tier, Tier::Full | Tier::Compact) {
        let (key, why) = (
            "tier",
            "only the full and the compact tier have engines".to_owned(),
        );
        return Err(ParseSwarm::Impossible { key, why });
    }
    let (mut ways, mut first, mut parted) = (Vec::new(), None, None);
    for how in hows {
        let began = Instant::now();
        let ran = prepare(plan, seed, how)?.run(&|_| true).ran;
        let engine = match how.engine {
            Engine::Heap => "heap",
            Engine::Epoch => "epoch",
        };
        let way = Way {
            engine,
            threads: how.threads,
            partitions: how.partitions,
            digest: ran.digest.to_string(),
            events: ran.events,
            seconds: began.elapsed().as_secs_f64(),
        };
        if !json {
            let Way {
                threads,
                partitions,
                digest,
                events,
                seconds,
                ..
            } = &way;
            println!(
                "{engine:<5} {threads} threads {partitions:>4} partitions  {digest}  {events} events in {seconds:.2} s"
            );
        }
        ways.push(way);
        let (digest, reference) = first.get_or_insert_with(|| (ran.digest.clone(), how));
        let epoch = digest.first_difference(&ran.digest);
        if let Some(epoch) = epoch.filter(|_| parted.is_none()) {
            let seen = [*reference, how].map(|how| {
                let watched = prepare(plan, seed, how)?.watched(epoch as u64);
                Ok::<_, ParseSwarm>(watched)
            });
            let [one, other] = seen;
            let (one, other) = (one?, other?);
            let only = |name, these: &[Happened], those: &[Happened]| {
                let unlike = these.iter().filter(|seen| !those.contains(seen));
                let said = unlike.map(|seen| format!("only in {name}: {seen:?}"));
                said.collect::<Vec<String>>()
            };
            let mut lines = only("the first", &one, &other);
            lines.extend(only(engine, &other, &one));
            lines.truncate(LINES);
            parted = Some((epoch, lines));
        }
    }
    let acts = [Engine::Heap, Engine::Epoch].map(|engine| behave(plan, seed, engine, &|_| true));
    let [one, other] = acts;
    let behaviours: Vec<(String, String)> = (one?.into_iter().zip(other?))
        .map(|(one, other)| (one.digest, other.digest))
        .collect();
    if !json {
        for (heap, epoch) in &behaviours {
            println!("behaviour, heap and epochs: {heap} {epoch}");
        }
    }
    let same = ways.iter().all(|way| way.digest == ways[0].digest)
        && behaviours.iter().all(|(heap, epoch)| heap == epoch);
    let profile = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    let verified = Verified {
        profile,
        ways,
        behaviours,
        same,
        parted,
    };
    if json {
        println!("{}", pretty(&verified));
    } else if let Some((epoch, lines)) = &verified.parted {
        println!("they part in epoch {epoch}:");
        lines.iter().for_each(|line| println!("  {line}"));
    } else if same {
        println!("one digest, {profile} build");
    } else {
        println!("the same events, and some agent served in another order");
    }
    Ok(if same {
        Outcome::Green
    } else {
        Outcome::Safety
    })
}
