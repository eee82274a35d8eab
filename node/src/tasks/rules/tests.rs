//! The rules, case by case; under random schedules in `schedules`.

mod schedules;

use super::*;
use aquifer_protocol::Time;

const TASK: RecordId = RecordId([9; 32]);
const JOB: [u8; 32] = [5; 32];
const BEGIN: u64 = 1_790_000_000_000;

fn node(number: usize) -> NodeId {
    NodeId([number as u8 + 1; 32])
}

fn asked(at: Stamp) -> Asked {
    Asked {
        topic: TopicId([1; 32]),
        writer: node(0),
        author: AgentId([1; 32]),
        by_agent: false,
        at,
        job: JOB,
        wall_ms: 120_000,
        needs: placement::Needs::default(),
    }
}

fn at(ms: u64) -> At {
    let stamp = Stamp::at(Time::from_millis(BEGIN + ms));
    let id = digest("test", &[&ms.to_be_bytes()]);
    (stamp, RecordId(id))
}

fn claimed(ms: u64) -> Fact {
    Fact::Claimed { until: BEGIN + ms }
}

fn task(facts: &[(u64, usize, Fact)]) -> Task {
    let mut task = Task {
        asked: Some(asked(at(0).0)),
        ..Task::default()
    };
    for (ms, by, fact) in facts {
        task.join(at(*ms), node(*by), fact.clone());
    }
    task
}

#[test]
fn the_first_whose_turn_it_is_claims_at_once_and_the_next_waits_for_it() {
    let able = [node(1), node(2), node(3)];
    let acts: Vec<Act> = able
        .iter()
        .map(|node| task(&[]).next(&TASK, node, &able, BEGIN, None))
        .collect();
    let until = BEGIN + LEASE_MS;
    let claims = acts
        .iter()
        .filter(|act| matches!(act, Act::Claim(to, _) if *to == until));
    assert_eq!(1, claims.count(), "{acts:?}");
    let rests = |after| Act::Rest(Some(BEGIN + after * APART_MS));
    assert!(
        acts.contains(&rests(1)) && acts.contains(&rests(2)),
        "{acts:?}"
    );
    let other = node(7);
    assert_eq!(
        Act::Rest(None),
        task(&[]).next(&TASK, &other, &able, BEGIN + 9_000, None)
    );
}

/// With more to do than they can, nodes take different tasks, and none waits for ever.
#[test]
fn nodes_that_are_behind_take_different_tasks() {
    let able = [node(1), node(2)];
    let best = |me: usize, after: u64| {
        let orders = (0..64u8).filter_map(|number| {
            let id = RecordId([number; 32]);
            match task(&[]).next(&id, &node(me), &able, BEGIN + after, None) {
                Act::Claim(_, order) => Some((order, number)),
                _ => None,
            }
        });
        let mut orders: Vec<(Order, u8)> = orders.collect();
        orders.sort_unstable();
        orders
            .into_iter()
            .map(|(_, number)| number)
            .collect::<Vec<u8>>()
    };
    let (first, second) = (best(1, 0), best(2, 0));
    assert_eq!(64, first.len() + second.len(), "at first each has its own");
    assert!(first.iter().all(|number| !second.contains(number)));
    let (later, other) = (best(1, APART_MS), best(2, APART_MS));
    assert_eq!((64, 64), (later.len(), other.len()));
    assert_eq!(
        first,
        later[..first.len()],
        "its own come before those of others"
    );
    let (long, also) = (best(1, LONG_MS), best(2, LONG_MS));
    let both = long.iter().zip(&also).filter(|(one, other)| one == other);
    assert!(both.count() < 8, "{long:?} {also:?}");
}

#[test]
fn a_claim_keeps_others_away_and_is_renewed_for_as_long_as_it_ran() {
    let (able, me) = ([node(1), node(2)], node(1));
    let claim = at(10).1;
    let one = task(&[(10, 1, claimed(10 + LEASE_MS))]);
    let mine = Some(Mine { claim });
    let next =
        |task: &Task, node: &NodeId, ms, mine| task.next(&TASK, node, &able, BEGIN + ms, mine);
    assert_eq!(
        Act::Rest(Some(BEGIN + 10 + LEASE_MS + 1)),
        next(&one, &node(2), 5_000, None)
    );
    assert!(matches!(next(&one, &me, 4_000, mine), Act::Rest(Some(_))));
    assert_eq!(
        Act::Renew(BEGIN + 5_010 + LEASE_MS),
        next(&one, &me, 5_010, mine)
    );
    let long = task(&[
        (10, 1, claimed(10 + LEASE_MS)),
        (9_000, 1, claimed(19_000)),
        (18_000, 1, claimed(36_000)),
        (30_010, 1, claimed(60_000)),
    ]);
    let Standing::Running(term) = long.standing(BEGIN + 59_000) else {
        panic!("it runs");
    };
    assert_eq!((BEGIN + 10, BEGIN + 60_000), (term.from, term.until));
    // Its job has two minutes, and no claim makes a term longer than that and the slack.
    let greedy = task(&[(10, 1, claimed(9_000_000))]);
    assert_eq!(Standing::Waiting, greedy.standing(BEGIN + 11 + LEASE_MS));
}

#[test]
fn an_outcome_counts_if_its_writer_had_claimed_the_task_and_was_not_late() {
    let ended = || Fact::Ended { job: Some(JOB) };
    let claim = (10, 1, claimed(10 + LEASE_MS));
    let counts = |facts: &[(u64, usize, Fact)]| task(facts).end().map(|(_, by, _)| by);
    assert_eq!(
        None,
        counts(&[(20, 1, ended())]),
        "of nobody who claimed it"
    );
    assert_eq!(
        None,
        counts(&[claim.clone(), (20, 2, ended())]),
        "nor of another"
    );
    assert_eq!(Some(node(1)), counts(&[claim.clone(), (20, 1, ended())]));
    let other = Fact::Ended { job: Some([6; 32]) };
    assert_eq!(
        None,
        counts(&[claim.clone(), (20, 1, other)]),
        "nor of another job"
    );
    let late = 10 + LEASE_MS + LATE_MS;
    assert_eq!(Some(node(1)), counts(&[claim.clone(), (late, 1, ended())]));
    assert_eq!(None, counts(&[claim.clone(), (late + 1, 1, ended())]));
    // Claims that crossed: the second is nobody's term, and its outcome counts if it is the first.
    let crossed = (11, 2, claimed(11 + LEASE_MS));
    let both = [claim.clone(), crossed, (30, 2, ended()), (40, 1, ended())];
    assert_eq!(Some(node(2)), counts(&both));
    assert_eq!(1, task(&both).terms().len());
    assert_eq!(
        None,
        counts(&[claim.clone(), (20, 2, Fact::Cancelled)]),
        "only the asker cancels"
    );
    assert_eq!(
        Some(node(0)),
        counts(&[claim, (20, 0, Fact::Cancelled), (30, 1, ended())])
    );
}

#[test]
fn who_cannot_is_asked_no_more_and_three_attempts_are_enough() {
    let able = [node(1), node(2)];
    let left = |again| Fact::Left {
        again,
        why: "no such program".into(),
    };
    let declined = task(&[(10, 1, claimed(10 + LEASE_MS)), (20, 1, left(false))]);
    let next = |task: &Task, node: usize, ms| {
        task.next(
            &TASK,
            &NodeId([node as u8 + 1; 32]),
            &able,
            BEGIN + ms,
            None,
        )
    };
    assert_eq!(Act::Rest(None), next(&declined, 1, 60_000));
    assert!(matches!(next(&declined, 2, 20 + APART_MS), Act::Claim(..)));
    // Their claims crossed, and each left it to the other: one of them says so for both.
    let crossed = task(&[
        (10, 1, claimed(10 + LEASE_MS)),
        (11, 2, claimed(11 + LEASE_MS)),
        (20, 1, left(false)),
        (21, 2, left(false)),
    ]);
    let claims = |node| matches!(next(&crossed, node, 21 + 2 * APART_MS), Act::Claim(..));
    assert!(claims(1) && claims(2));
    let mut facts = Vec::new();
    for (turn, by) in [(0, 1), (1, 2), (2, 1)] {
        let ms = 10 + turn * 2 * LEASE_MS;
        assert_eq!(Standing::Waiting, task(&facts).standing(BEGIN + ms));
        facts.push((ms, by, claimed(ms + LEASE_MS)));
    }
    let vain = task(&facts);
    let over = 10 + 5 * LEASE_MS;
    assert!(matches!(vain.standing(BEGIN + over), Standing::Running(_)));
    assert_eq!(Standing::GivenUp, vain.standing(BEGIN + over + LATE_MS + 1));
    assert_eq!(Act::Rest(None), next(&vain, 2, over + LATE_MS + 1));
    // A claim of this node's that it knows nothing of was made before it was started anew.
    assert_eq!(Act::Leave, next(&vain, 1, over));
}
