//! I3, no byte of a topic outside its regions: on disk, in memory, on the wire before encryption.
//!
//! A topic may be in Europe only, and its memories hold a canary. Meanwhile the world shares another
//! topic, a road is cut and healed, and a node outside is killed and started again: the paths on
//! which data leaks are those that mend something. Then every node is searched; where the law allows
//! it the same search must find the canary, on each channel, or the run is void.

use crate::wan::canary::Sighting;
use crate::wan::report::Report;
use crate::wan::swarm::{OPEN, Swarm};
use crate::wan::talk::{Ask, Said};
use std::collections::BTreeSet;

const TOPIC: &str = "hr";

/// Memories with the canary.
const WRITES: usize = 6;

/// Writes canaries in Europe and looks for them in the world.
pub async fn run(swarm: &Swarm) -> Report {
    let mut report = Report::of("residency: a topic of europe, and the search for it everywhere");
    let eu = swarm.of_region("eu");
    let all: Vec<usize> = (0..swarm.places().len()).collect();
    let outside: Vec<usize> = all.iter().copied().filter(|i| !eu.contains(i)).collect();
    let victim = outside[0];
    swarm.creates(eu[0], TOPIC, &["eu"]).await;
    let word = &swarm.canary().0;
    for number in 0..WRITES {
        match number {
            2 => swarm.cut("eu", "us"),
            4 => swarm.heal(),
            _ => {}
        }
        let text = format!("the salary of person {number} is {word} a month");
        swarm
            .spreads(eu[number % 2], &[eu[(number + 1) % 2]], TOPIC, &text)
            .await;
        swarm
            .remembers(eu[0], OPEN, &format!("anyone may read notice {number}"))
            .await;
    }
    swarm.kills(victim).await;
    swarm.restarts(victim).await;
    // Traffic both ways after everything was mended, and all is settled.
    swarm
        .everyone_recalls(eu[0], OPEN, "all is well in europe")
        .await;
    swarm
        .everyone_recalls(victim, OPEN, "all is well outside")
        .await;
    swarm.agree(&all, OPEN, WRITES + 2).await;

    for number in &outside {
        let (topic, query) = (TOPIC.to_owned(), "salary".to_owned());
        let said = swarm.at(*number).ask(Ask::Recall { topic, query }).await;
        let open = matches!(&said, Ok(Said::Found(texts)) if !texts.is_empty());
        report.demand(
            !open,
            format!("{} recalls it", swarm.places()[*number].name),
        );
    }
    taps(swarm, &eu, &outside, &mut report).await;
    scans(swarm, &eu, &outside, &mut report);
    report
}

/// The wire before encryption.
async fn taps(swarm: &Swarm, eu: &[usize], outside: &[usize], report: &mut Report) {
    // Ways end with a peer or a region. What is not known to stay in europe leaves it.
    let at_home: BTreeSet<String> = eu.iter().map(|i| swarm.at(*i).node.clone()).collect();
    let is_abroad = |way: &str| {
        let whither = way.rsplit(' ').next().unwrap_or_default();
        !at_home.contains(whither) && whither.split('/').next() != Some("eu")
    };
    let (mut inside, mut leaked, mut frames) = (0, 0, 0);
    for number in eu {
        for (whither, passed) in swarm.tapped(*number).await {
            if is_abroad(&whither) {
                leaked += passed.canaries;
                frames += passed.frames;
            } else {
                inside += passed.canaries;
            }
        }
    }
    for number in outside {
        for passed in swarm.tapped(*number).await.values() {
            leaked += passed.canaries;
            frames += passed.frames;
        }
    }
    report.fact("tap: canaries among nodes of europe (control)", inside);
    report.fact(
        "tap: canaries to, from and among others",
        format!("{leaked} in {frames} frames"),
    );
    report.demand(leaked == 0, format!("{leaked} canaries passed a border"));
    report.bit(inside > 0, "the tap saw no canary where it is allowed");
    report.bit(frames > 0, "the tap saw no frame that could have leaked");
}

/// Memory and disk.
fn scans(swarm: &Swarm, eu: &[usize], outside: &[usize], report: &mut Report) {
    type Scan = fn(&Swarm, usize) -> Sighting;
    let channels: [(&str, Scan); 2] = [
        ("memory", Swarm::canary_in_memory),
        ("disk", Swarm::canary_on_disk),
    ];
    for (channel, scan) in channels {
        let mut inside = u64::MAX;
        for number in eu {
            inside = inside.min(scan(swarm, *number).total());
        }
        let (mut leaked, mut bytes) = (0, 0);
        for number in outside {
            let sighting = scan(swarm, *number);
            let name = &swarm.places()[*number].name;
            let found = &sighting.found;
            report.demand(
                sighting.total() == 0,
                format!("{channel} of {name}: {found:?}"),
            );
            report.bit(
                sighting.bytes > 0,
                format!("nothing of {channel} of {name} was read"),
            );
            leaked += sighting.total();
            bytes += sighting.bytes;
        }
        report.fact(
            &format!("{channel}: canaries at each node of europe (control)"),
            format!("{inside} or more"),
        );
        report.fact(
            &format!("{channel}: canaries elsewhere"),
            format!("{leaked} in {} KiB", bytes >> 10),
        );
        report.bit(
            inside > 0,
            format!("the search of {channel} finds no canary where it is allowed"),
        );
    }
}
