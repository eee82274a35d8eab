//! Agents that do something together.

use aquifer_simulator::parallel::crew::Watch;
use aquifer_simulator::swarm::plan::Plan;
use aquifer_simulator::swarm::run::Engine;
use aquifer_simulator::swarm::society::{Done, What, behave};

const ALL: Watch<'static> = &|_| true;

fn behaves(text: &str, engine: Engine) -> Vec<Done> {
    let plan = Plan::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
    behave(&plan, 1, engine, ALL).expect("it can be run")
}

/// All four, in small, in peace.
const PEACE: &str = r#"
agents = 1024
[hierarchy]
cluster = 16
mesh = 64
cluster_every = "2s"
mesh_every = "10s"
global_every = "1m"
checkpoint_every = "5m"
horizon = "20m"
[[behaviour]]
kind = "gather"
[[behaviour]]
kind = "recall"
memories = 400
count = 1000
rate = 2
from = "5m"
[[behaviour]]
kind = "signals"
random = 200000
[[behaviour]]
kind = "tasks"
count = 500
rate = 5
"#;

/// Agents that come and go, and a continent that is cut off for a while.
const TROUBLE: &str = r#"
[churn]
session = "5m"
away = "1m"
[[partition]]
regions = ["eu"]
from = "8m"
lasts = "4m"
"#;

/// I20, of behaviours.
#[test]
fn what_agents_do_is_one_whichever_engine_runs_it() {
    let text = format!(
        "{}{TROUBLE}",
        PEACE.replace("count = 500", "count = 500\nfaulty = 100000")
    );
    let [heap, epoch] = [Engine::Heap, Engine::Epoch].map(|engine| behaves(&text, engine));
    for (one, other) in heap.iter().zip(&epoch) {
        assert!(one.events > 2_000);
        assert_eq!(
            (one.events, &one.digest),
            (other.events, &other.digest),
            "{:?}",
            one.what
        );
    }
    assert_eq!(4, heap.len());
}

#[test]
fn in_peace_all_is_gathered_and_no_older_than_the_periods_of_its_way() {
    let done = behaves(PEACE, Engine::Epoch);
    let What::Gather(it) = &done[0].what else {
        panic!("{done:?}")
    };
    assert_eq!(Some([1.0, 1.0]), it.coverage);
    assert_eq!((0, 0), (it.takeovers, it.fenced));
    assert!(it.looks >= 19 && it.checkpoints >= 3, "{it:?}");
    // Twice a period of each level below, and the ways.
    for (age, most) in it.age_seconds.iter().zip([4.5, 24.5, 144.5]) {
        assert!(age[0] > 0.5 && age[1] < most, "{it:?}");
    }
}

#[test]
fn in_peace_every_question_is_answered_that_some_head_can_know_of() {
    let done = behaves(PEACE, Engine::Epoch);
    let What::Recall(it) = &done[1].what else {
        panic!("{done:?}")
    };
    assert_eq!(it.asked, it.answered[1] + it.too_fresh, "{it:?}");
    assert!(
        it.answered[1] > 500 && it.known_by.iter().all(|known| *known > 0),
        "{it:?}"
    );
    assert!(it.p50_ms < it.p99_ms && it.p99_ms < Some(1_500), "{it:?}");
}

#[test]
fn signals_lead_to_the_best_place_and_after_it_when_it_moves() {
    let done = behaves(PEACE, Engine::Epoch);
    let What::Signals(it) = &done[2].what else {
        panic!("{done:?}")
    };
    let [first, second] = it.found_seconds;
    assert!(first < Some(120.0) && second.is_some(), "{it:?}");
    let [fourth, last] = [3, 9].map(|tenth: usize| it.at_the_best[tenth]);
    assert!(fourth > 0.9 && last > 0.9, "{it:?}");
}

/// Two of three: with one in ten faulty, 0.1³ + 3 · 0.1² · 0.9 = 2.8 % are decided wrongly, and none of
/// them if nobody is.
#[test]
fn tasks_are_decided_by_those_who_agree() {
    let tasks = |text: &str| {
        let done = behaves(text, Engine::Epoch);
        let What::Tasks(it) = done.into_iter().nth(3).expect("four").what else {
            panic!()
        };
        it
    };
    let honest = tasks(PEACE);
    assert_eq!(
        ([500, 0], 0, 0),
        (honest.decided, honest.open, honest.handoffs)
    );
    let many = PEACE
        .replace("count = 500", "count = 5000\nfaulty = 100000")
        .replace("rate = 5", "rate = 50");
    let faulty = tasks(&many);
    let wrong = faulty.decided[1] as f64 / 5_000.0;
    assert!(
        (0.012..0.048).contains(&wrong) && faulty.open == 0,
        "{faulty:?}"
    );
    let stricter = tasks(&many.replace("rate = 50", "rate = 50\nasks = 5\nagree = 4"));
    assert!(
        stricter.decided[1] < faulty.decided[1] / 3 && stricter.open == 0,
        "{stricter:?}"
    );
}

#[test]
fn in_trouble_others_take_over_and_one_speaks_for_a_group() {
    let done = behaves(&format!("{PEACE}{TROUBLE}"), Engine::Epoch);
    let What::Gather(gathered) = &done[0].what else {
        panic!("{done:?}")
    };
    assert!(
        gathered.takeovers > 10 && gathered.fenced > 0,
        "{gathered:?}"
    );
    let What::Tasks(tasks) = &done[3].what else {
        panic!("{done:?}")
    };
    assert!(tasks.handoffs > 0 && tasks.handovers > 0, "{tasks:?}");
    assert_eq!(0, tasks.decided[1]);
    assert!(tasks.decided[0] > 480, "{tasks:?}");
}
