//! What others have published of the same protocols, reproduced. Sources: `docs/simulation.md`.

use aquifer_simulator::swarm::draw::Draws;
use aquifer_simulator::swarm::geography::{Geography, read_matrix};
use aquifer_simulator::swarm::kademlia::{Kademlia, Lookups, Settings};
use aquifer_simulator::swarm::plan::Plan;
use aquifer_simulator::swarm::run::{How, run};
use aquifer_simulator::swarm::tally::{Tally, quantile};

fn tally(text: &str) -> Tally {
    let plan = Plan::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
    run(&plan, 1, How::default(), &|_| true)
        .expect("it can be run")
        .tally
}

fn duplicates(tally: &Tally) -> f64 {
    tally.duplicates as f64 / tally.firsts() as f64
}

/// The baseline of the GossipSub 1.1 evaluation (Protocol Labs TechRep 2020-001; configuration
/// `1k.json` of gossipsub-hardening): 1,000 nodes with 20 connections of 25 ms and a tenth, D = 8, flood
/// publishing. Twenty first, then seven from each: three to four hops, half within some 75 ms.
#[test]
fn the_baseline_of_gossipsub_takes_three_to_four_hops() {
    let tally = tally(
        r#"
agents = 1000
links = 20
horizon = "3s"
[latency]
matrix = """
,one
one,22.5"""
jitter = 22
processing = ["200us", "1ms"]
[mesh]
degree = 8
low = 6
high = 12
lazy = 12
flood = true
[[workload]]
count = 40
rate = 120
from = "2s"
bytes = 2048
"#,
    );
    let within = |part| quantile(&tally.all_delays(), part).expect("some");
    let (half, most) = (within(0.5), within(0.99));
    assert!((65..=85).contains(&half), "half within {half} ms");
    assert!((95..=125).contains(&most), "99 % within {most} ms");
}

/// Ethereum's duplicates (ProbeLab, ethresear.ch 19921): between D - 2, where copies are passed on at
/// once, and (D - 2) / 2, where judging takes so long that of two neighbours only one sends.
#[test]
fn duplicates_lie_between_all_and_half_of_the_mesh() {
    let with = |validate: &str| {
        duplicates(&tally(&format!(
            "agents = 2000\nlinks = 8\nhorizon = \"8s\"\n[mesh]\ndegree = 8\nhigh = 8\n\
             heartbeat = \"0s\"\ndont_want = 0\nvalidate = \"{validate}\"\n[[workload]]\ncount = 4\n"
        )))
    };
    let (quick, slow) = (with("0s"), with("500ms"));
    assert!((quick - 6.0).abs() < 0.05, "{quick}");
    // Where both ends have it within the time that the way between them takes, both send.
    assert!((3.0..4.0).contains(&slow), "{slow}");
}

fn lookups(agents: u64, count: u64) -> Lookups {
    let matrix = read_matrix(",here\nhere,50").expect("legal");
    let draws = Draws::new(7);
    let geography = Geography::new(agents, &[1.0], matrix, 37, (200, 1_200), draws);
    // Three at a time to the end, as that program did; libp2p gets hasty.
    let settings = Settings {
        stalled: 3,
        ..Settings::default()
    };
    Kademlia::new(&geography, settings, draws).lookups(count)
}

/// A program of ours that shares no code with this one, with ideal tables: hops to the nearest and questions, at
/// 15,371 nodes, a million and a thousand million. RFM17 of ProbeLab: within four hops all of the closest
/// are known to 95 % of lookups.
#[test]
fn lookups_take_as_many_hops_and_questions_as_others_have_found() {
    let all = [
        (15_371, 2.68, 23.2),
        (1_000_000, 3.70, 25.7),
        (1_000_000_000, 5.44, 29.7),
    ];
    for (agents, hops, asked) in all {
        let found = lookups(agents, 200);
        assert_eq!(200, found.found, "{agents}");
        let apart = (found.hops / hops - 1.0, found.asked / asked - 1.0);
        assert!(
            apart.0.abs() < 0.1 && apart.1.abs() < 0.15,
            "{agents}: {apart:?}"
        );
    }
    let within: u64 = lookups(15_371, 200).all_hops[..=4].iter().sum();
    assert!(within >= 190, "{within} of 200 within four hops");
}

/// vyzo's simsub (a simulator of GossipSub 1.0 in Gerbil, 2020): 250, 500 and 1,000 nodes, 60 messages to
/// each. Its degree is not told; at D = 8 ours are a few hundredths below.
#[test]
fn duplicates_are_those_of_another_simulator() {
    for (agents, theirs) in [(250, 5.42), (500, 5.32), (1_000, 5.29)] {
        let text = format!(
            "agents = {agents}\nhorizon = \"75s\"\n[mesh]\noutbound = 0\ndont_want = 0\n\
             [[workload]]\nfrom = \"40s\"\ncount = 60\nrate = 2\n"
        );
        let ours = duplicates(&tally(&text));
        assert!(
            (theirs - 0.4..theirs + 0.1).contains(&ours),
            "{agents}: {ours}"
        );
    }
}
