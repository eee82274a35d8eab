//! Agents that mean harm, and what is left of it.

use aquifer_simulator::parallel::crew::Watch;
use aquifer_simulator::swarm::plan::Plan;
use aquifer_simulator::swarm::run::{Engine, How, Outcome, run};

const ALL: Watch<'static> = &|_| true;

fn outcome(text: &str, how: How) -> Outcome {
    let plan = Plan::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
    run(&plan, 1, how, ALL).expect("it can be run")
}

/// All of it at once, and half of the agents behind NATs.
const HARM: &str = r#"
agents = 1500
horizon = "20s"
[nat]
behind = 500000
punched = 400000
[mesh]
scores = true
validate = "1500us"
memory = "6s"
[adversary]
censors = 20000
violators = 20000
eclipsed = 30000
spammers = 20000
replayers = 10000
[[workload]]
count = 40
rate = 10
[[workload]]
topic = "eu/only"
law = ["eu"]
count = 6
rate = 3
"#;

#[test]
fn harm_is_one_however_it_is_run() {
    let one = outcome(
        HARM,
        How {
            engine: Engine::Heap,
            ..How::default()
        },
    );
    for (threads, partitions) in [(1, 1), (1, 64), (2, 0), (5, 1_024)] {
        let engine = Engine::Epoch;
        let how = How {
            engine,
            threads,
            partitions,
            records: false,
        };
        let other = outcome(HARM, how);
        assert_eq!(one.ran, other.ran, "{how:?}");
        assert_eq!(one.tally.spam, other.tally.spam, "{how:?}");
        assert_eq!(one.tally.eclipsed, other.tally.eclipsed, "{how:?}");
    }
    let tally = &one.tally;
    assert!(tally.relayed.count > 0 && tally.spam[0] > 0 && tally.replays[0] > 0);
    assert_eq!((0, 0), (tally.accepted, tally.replays[1]));
    assert!(tally.attempted > 0, "nobody tried to break the law");
}

/// What an agent's own links are for: with no more than those that others made, an eclipse is total.
#[test]
fn who_is_eclipsed_hears_all_over_its_own_links() {
    let text = "agents = 4000\nhorizon = \"20s\"\n[adversary]\neclipsed = 20000\n\
                [[workload]]\nfrom = \"10s\"\ncount = 5\n";
    let outcome = outcome(text, How::default());
    let heard: u64 = outcome.tally.eclipsed.iter().sum();
    assert!(heard > 5 * 40 && heard.is_multiple_of(5), "{heard}");
    assert_eq!(outcome.reachable, outcome.tally.firsts());
}

/// Four bad messages cost a peer its place and twenty its hearing: a spammer is judged no more often by
/// any of its peers, however long it goes on.
#[test]
fn spam_is_judged_twenty_times_and_then_no_more() {
    let text = |scores, horizon| {
        format!(
            "agents = 1000\nhorizon = \"{horizon}s\"\n[mesh]\nscores = {scores}\n\
             [adversary]\nspammers = 20000\nspam = 50\n"
        )
    };
    let [short, long] =
        [10, 20].map(|horizon| outcome(&text(true, horizon), How::default()).tally.spam);
    assert_eq!(short[0], long[0]);
    assert!(
        long[1] > short[1] && short[1] > 10 * short[0],
        "{short:?} {long:?}"
    );
    let open = outcome(&text(false, 10), How::default()).tally.spam;
    assert!(open[0] > 10 * short[0] && open[1] == 0, "{open:?}");
}

/// A mesh that has forgotten a message would carry it once more; replicas know what they hold.
#[test]
fn replicas_do_not_pass_on_what_they_have_long_known() {
    let text = "tier = \"full\"\nagents = 200\nhorizon = \"150s\"\nshape = \"regional\"\nskew = \"5s\"\n\
                [mesh]\nmemory = \"2m\"\n[adversary]\nreplayers = 50000\n\
                [[workload]]\nfrom = \"5s\"\ncount = 3\nbytes = 200\n";
    let outcome = outcome(text, How::default());
    assert!(outcome.tally.replays[0] > 20, "{:?}", outcome.tally.replays);
    assert_eq!(0, outcome.tally.replays[1]);
    assert_eq!(outcome.reachable, outcome.tally.firsts());
}
