//! Neighbours: with whom a node stays connected, of all the members it could dial.
//!
//! All of them while they are few. When they are more than `max_peers`: from every other top-level
//! region two, seeds and bridges first; of the own region mostly the nearest by measured round trip,
//! and some drawn at random, since a swarm in which everyone knows only those nearby falls apart into
//! cliques. One that cannot be reached gives its place to the next best at once. Chance is a hash of
//! both names and a slow turn: two nodes draw alike of each other, so that they mostly choose each
//! other, and all draw anew now and then.
//!
//! Others may choose us whom we did not choose: whoever made a connection is the one to end it, once it
//! seeks it no longer (`net/dialing.rs`).
//!
//! [`choose`] is pure. The rest of this file feeds it and tells the network what it chose; how
//! connections are made and kept is the network's matter (`net/dialing.rs`).

use crate::driver::Helm;
use crate::net::{self, NetCommand, NetSnapshot};
use crate::observer::Observed;
use crate::view::View;
use aquifer_protocol::certificate::role;
use aquifer_protocol::identity::digest;
use aquifer_protocol::{NodeId, Region};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Members of one other region to stay connected to when there are too many for all.
const PER_OTHER_REGION: usize = 2;

/// Failed dials in a row after which another is tried in its place.
const FAILURES_MAX: u32 = 3;

/// How often the choice is looked at when nothing happens, and how often the draw changes.
const EVERY: Duration = Duration::from_secs(5);
const TURN_MS: u64 = 10 * 60 * 1_000;

/// A member that can be dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The node.
    pub node: NodeId,
    /// Where it is.
    pub region: Region,
    /// Whether it is a seed or a bridge.
    pub carries: bool,
    /// Whether it is connected now.
    pub connected: bool,
    /// Its measured round trip.
    pub rtt: Option<Duration>,
    /// Dials in a row that failed.
    pub failures: u32,
}

impl Candidate {
    fn is_lost(&self) -> bool {
        !self.connected && self.failures >= FAILURES_MAX
    }
}

/// With whom the node `me` of `own` is to stay connected: at most `most` of `all`.
pub fn choose(
    (me, own): (NodeId, &Region),
    all: &[Candidate],
    most: usize,
    turn: u64,
) -> BTreeSet<NodeId> {
    if all.len() <= most {
        return all.iter().map(|candidate| candidate.node).collect();
    }
    let draw = |candidate: &Candidate| draw(me, candidate.node, turn);
    let mut near: Vec<&Candidate> = Vec::new();
    let mut far: BTreeMap<Region, Vec<&Candidate>> = BTreeMap::new();
    for candidate in all {
        if candidate.region.top() == own.top() {
            near.push(candidate);
        } else {
            far.entry(candidate.region.top())
                .or_default()
                .push(candidate);
        }
    }
    near.sort_by_key(|c| (c.is_lost(), c.rtt.is_none(), c.rtt, draw(c)));
    for of_region in far.values_mut() {
        of_region.sort_by_key(|c| (c.is_lost(), !c.carries, c.rtt.is_none(), c.rtt, draw(c)));
    }
    let mut chosen = BTreeSet::new();
    // One of each other region, then a second: half the places at most, unless nobody else is there.
    let abroad = (most / 2).max(most.saturating_sub(near.len()));
    let rounds = (0..PER_OTHER_REGION).flat_map(|round| {
        far.values()
            .filter_map(move |of_region| of_region.get(round))
    });
    chosen.extend(rounds.take(abroad).map(|candidate| candidate.node));
    let places = most - chosen.len();
    let nearest = places - places / 4;
    chosen.extend(near.iter().take(nearest).map(|candidate| candidate.node));
    let mut rest: Vec<&Candidate> = near.into_iter().skip(nearest).collect();
    rest.sort_by_key(|c| (c.is_lost(), draw(c)));
    let others = far
        .values()
        .flat_map(|of_region| of_region.iter().skip(PER_OTHER_REGION));
    for candidate in rest.into_iter().chain(others.copied()) {
        if chosen.len() >= most {
            break;
        }
        chosen.insert(candidate.node);
    }
    chosen
}

/// Chance, the same on both sides.
fn draw(a: NodeId, b: NodeId, turn: u64) -> [u8; 32] {
    let parts = [&a.min(b).0[..], &a.max(b).0, &turn.to_be_bytes()];
    digest("aquifer/neighbour/2", &parts)
}

/// What this file works with.
pub(crate) struct Keeper {
    pub(crate) helm: Helm,
    pub(crate) observed: Observed,
    pub(crate) net: mpsc::Sender<NetCommand>,
    pub(crate) max_peers: usize,
    pub(crate) stop: CancellationToken,
}

/// Keeps the network told with whom to stay connected, until the node stops.
pub(crate) async fn keep(keeper: Keeper) {
    let mut told: BTreeMap<NodeId, Vec<String>> = BTreeMap::new();
    let mut stirs = keeper.observed.stirs();
    loop {
        let Some(state) = snapshot(&keeper.net).await else {
            return;
        };
        let turn = keeper.helm.now().millis() / TURN_MS;
        // The view goes at once: what the store has changed since an old one takes room until then.
        let wanted = wanted(&keeper.helm.view(), &state, keeper.max_peers, turn);
        let gone = told.keys().filter(|node| !wanted.contains_key(node));
        let news = wanted
            .iter()
            .filter(|(node, addrs)| told.get(node) != Some(addrs));
        let known = gone
            .map(|node| (node, Vec::new()))
            .chain(news.map(|(node, addrs)| (node, addrs.clone())))
            .map(|(node, addrs)| NetCommand::Know {
                peer: node.0,
                addrs,
            });
        for command in known {
            if keeper.net.send(command).await.is_err() {
                return;
            }
        }
        told = wanted;
        tokio::select! {
            () = keeper.stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
            _ = stirs.changed() => {}
        }
    }
}

/// The state of the network; `None` once it has stopped.
pub(crate) async fn snapshot(net: &mpsc::Sender<NetCommand>) -> Option<NetSnapshot> {
    let (reply, answer) = oneshot::channel();
    net.send(NetCommand::Snapshot { reply }).await.ok()?;
    answer.await.ok()
}

/// The nodes to be connected with, and where they listen.
fn wanted(
    view: &View,
    state: &NetSnapshot,
    max_peers: usize,
    turn: u64,
) -> BTreeMap<NodeId, Vec<String>> {
    let me = (view.me.node(), view.me.region());
    let chosen = choose(me, &candidates(view, state), max_peers, turn);
    let with_addresses = chosen
        .into_iter()
        .map(|node| (node, addresses(view, &node)));
    with_addresses.collect()
}

fn candidates(view: &View, state: &NetSnapshot) -> Vec<Candidate> {
    let lines: BTreeMap<NodeId, Option<f64>> = state
        .peers
        .iter()
        .filter(|line| line.admitted)
        .map(|line| (NodeId(line.key), line.rtt_ms))
        .collect();
    let failing: BTreeMap<NodeId, u32> = state
        .failing
        .iter()
        .map(|(key, failures)| (NodeId(*key), *failures))
        .collect();
    view.law
        .members()
        .filter(|(node, known)| **node != view.me.node() && !known.manifest.addresses.is_empty())
        .map(|(node, known)| {
            let rtt_ms = lines.get(node).copied().flatten();
            Candidate {
                node: *node,
                region: known.member.region().clone(),
                carries: known.member.grant().roles & (role::SEED | role::BRIDGE) != 0,
                connected: lines.contains_key(node),
                rtt: rtt_ms.map(|ms| Duration::from_secs_f64(ms / 1_000.0)),
                failures: failing.get(node).copied().unwrap_or(0),
            }
        })
        .collect()
}

/// Where a member says it listens, as far as it may.
fn addresses(view: &View, node: &NodeId) -> Vec<String> {
    let known = view.law.member(node);
    let said = known
        .into_iter()
        .flat_map(|known| &known.manifest.addresses);
    said.filter(|addr| is_lawful(view, node, addr))
        .cloned()
        .collect()
}

/// Whether a member may be dialled at `addr`: a way through a relay counts only if the relay is a
/// seed of the member's own top-level region.
pub(crate) fn is_lawful(view: &View, node: &NodeId, addr: &str) -> bool {
    let Some(relay) = net::relay_in(addr) else {
        return true;
    };
    let member = |node: &NodeId| view.law.member(node).map(|known| known.member.clone());
    let both = member(node).zip(member(&NodeId(relay)));
    both.is_some_and(|(node, relay)| {
        let seed = relay.grant().roles & role::SEED != 0;
        seed && relay.region().top() == node.region().top()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(text: &str) -> Region {
        text.parse().expect("legal")
    }

    /// Member `number` of `place`, `ms` away.
    fn member(number: u8, place: &str, ms: u64) -> Candidate {
        Candidate {
            node: NodeId([number; 32]),
            region: region(place),
            carries: false,
            connected: true,
            rtt: Some(Duration::from_millis(ms)),
            failures: 0,
        }
    }

    const ME: NodeId = NodeId([255; 32]);

    fn chosen(all: &[Candidate], most: usize) -> Vec<u8> {
        let chosen = choose((ME, &region("eu/fr")), all, most, 7);
        chosen.iter().map(|node| node.0[0]).collect()
    }

    #[test]
    fn few_are_all_kept() {
        let all = [
            member(1, "eu", 5),
            member(2, "us", 90),
            member(3, "ap", 200),
        ];
        assert_eq!(vec![1, 2, 3], chosen(&all, 3));
    }

    #[test]
    fn of_many_the_own_region_and_the_nearest_come_first_and_two_of_each_other_are_kept() {
        let mut all: Vec<_> = (1..=40).map(|n| member(n, "eu/de", u64::from(n))).collect();
        all.extend((101..=110).map(|n| member(n, "us", 90)));
        all.extend((201..=210).map(|n| member(n, "ap/jp", 200)));
        all.iter_mut()
            .filter(|c| [105, 107, 203].contains(&c.node.0[0]))
            .for_each(|c| c.carries = true);
        let kept = chosen(&all, 16);
        assert_eq!(16, kept.len());
        assert!(
            kept.contains(&105) && kept.contains(&107) && kept.contains(&203),
            "{kept:?}"
        );
        assert_eq!(2, kept.iter().filter(|n| (101..=110).contains(*n)).count());
        assert_eq!(2, kept.iter().filter(|n| (201..=210).contains(*n)).count());
        assert!((1..=9).all(|near| kept.contains(&near)), "{kept:?}");
    }

    #[test]
    fn one_that_cannot_be_reached_gives_its_place_to_the_next_best() {
        let mut all: Vec<_> = (1..=8).map(|n| member(n, "eu", u64::from(n))).collect();
        assert!(chosen(&all, 4).starts_with(&[1, 2, 3]));
        all[0].connected = false;
        assert!(chosen(&all, 4).contains(&1), "it may come back at once");
        all[0].failures = FAILURES_MAX;
        let kept = chosen(&all, 4);
        assert!(
            !kept.contains(&1) && kept.starts_with(&[2, 3, 4]),
            "{kept:?}"
        );
    }

    #[test]
    fn many_regions_take_half_the_places_at_most() {
        let mut all: Vec<_> = (1..=30).map(|n| member(n, "eu", u64::from(n))).collect();
        for (at, place) in ["us", "ap", "af", "sa", "me", "oc", "in", "cn"]
            .iter()
            .enumerate()
        {
            let first = 100 + 10 * u8::try_from(at).expect("few");
            all.extend((first..first + 3).map(|n| member(n, place, 100)));
        }
        let kept = chosen(&all, 10);
        assert_eq!(
            (10, 5),
            (kept.len(), kept.iter().filter(|n| **n >= 100).count())
        );
    }

    #[test]
    fn a_lonely_region_takes_its_places_from_others() {
        let all: Vec<_> = (1..=40).map(|n| member(n, "us", u64::from(n))).collect();
        assert_eq!(10, chosen(&all, 10).len());
    }

    #[test]
    fn two_of_many_choose_each_other_more_often_than_not() {
        let nodes: Vec<NodeId> = (1..=50).map(|n| NodeId([n; 32])).collect();
        let eu = region("eu");
        let choice = |me: &NodeId| {
            let others = nodes.iter().filter(|node| *node != me);
            let all: Vec<_> = others
                .map(|node| Candidate {
                    node: *node,
                    connected: false,
                    rtt: None,
                    ..member(0, "eu", 0)
                })
                .collect();
            choose((*me, &eu), &all, 24, 1)
        };
        let choices: Vec<_> = nodes.iter().map(choice).collect();
        let chosen = |a: usize, b: usize| choices[a].contains(&nodes[b]);
        let pairs = (0..50).flat_map(|a| (0..a).map(move |b| (a, b)));
        let (mut one, mut both) = (0, 0);
        for (a, b) in pairs {
            one += usize::from(chosen(a, b) || chosen(b, a));
            both += usize::from(chosen(a, b) && chosen(b, a));
        }
        assert!(both * 4 > one * 3, "{both} of {one}");
    }

    #[test]
    fn nodes_draw_differently_and_draw_anew_with_the_turn() {
        let all: Vec<_> = (1..=100)
            .map(|n| Candidate {
                rtt: None,
                ..member(n, "eu", 0)
            })
            .collect();
        let eu = region("eu");
        let draw = |me: NodeId, turn| choose((me, &eu), &all, 10, turn);
        assert_ne!(draw(ME, 1), draw(NodeId([254; 32]), 1));
        assert_ne!(draw(ME, 1), draw(ME, 2));
        assert_eq!(draw(ME, 1), draw(ME, 1));
    }
}
