//! The examples, as they are committed: real modules of two compilers, on all engines.
//!
//! Each takes many steps over inputs that are drawn; all engines must take the same, and each repeats
//! what the others did.

use aquifer_protocol::identity::digest;
use aquifer_wasm::abi::{Cause, Code, Imports, Wakeup};
use aquifer_wasm::desk::{Answer, Effect, World};
use aquifer_wasm::engine::Engine;
use aquifer_wasm::engine::interpreter::Interpreter;
use aquifer_wasm::engine::jit::Jit;
use aquifer_wasm::engine::kernel::Kernel;
use aquifer_wasm::lane::QUICK;
use aquifer_wasm::manifest::{Budget, Manifest, Rate};
use aquifer_wasm::profile::Profile;
use aquifer_wasm::wake::{Agent, Failed, Step};
use std::sync::Arc;

const SENSOR: &[u8] = include_bytes!("../../guest/modules/sensor.wasm");
const WORKER: &[u8] = include_bytes!("../../guest/modules/worker.wasm");
const FORAGER: &[u8] = include_bytes!("../../guest/modules/forager.wasm");
const ECHO: &[u8] = include_bytes!("../../guest/modules/echo.wasm");

struct Open;

impl World for Open {
    fn may(&mut self, _: &Effect) -> Result<(), Code> {
        Ok(())
    }

    fn recall(&mut self, query: &str) -> Answer {
        Ok(minicbor::to_vec([query]).expect("vec"))
    }

    fn kv_get(&mut self, _: &[u8]) -> Answer {
        Err(Code::NotFound)
    }

    fn infer(&mut self, _: &str) -> Answer {
        Err(Code::Unavailable)
    }
}

fn agents(module: &[u8], topics: &[&str]) -> [Agent; 3] {
    let profile = Profile::of(module).expect("an agent");
    let topics: Vec<String> = topics.iter().map(|&topic| topic.into()).collect();
    let manifest = Arc::new(Manifest {
        name: "example".into(),
        module: profile.hash,
        imports: Imports::USUAL,
        publishes: topics.clone(),
        follows: topics.clone(),
        remembers: topics,
        budget: Budget::USUAL,
        rate: Rate::USUAL,
        kv_bytes: 4_096,
        not_after: u64::MAX,
        attest: None,
    });
    let agent = |engine: &dyn Engine| Agent {
        id: [5; 32],
        manifest: manifest.clone(),
        loaded: engine.load(module, &profile).expect("loads"),
    };
    [
        agent(&Jit::new().expect("room for a pool")),
        agent(&Interpreter::new()),
        agent(&Kernel),
    ]
}

fn drawn(number: u64) -> [u8; 32] {
    digest("examples", &[&number.to_be_bytes()])
}

fn wakeup(number: u64, topic: &str, body: Vec<u8>) -> Wakeup {
    let drawn = drawn(number);
    Wakeup {
        cause: match (drawn[0] % 8, topic.is_empty()) {
            (0, _) => Cause::Timer,
            (1, _) => Cause::Invocation,
            (_, true) => Cause::Message,
            (_, false) => Cause::Publication,
        },
        from: Some([drawn[1] % 5; 32]),
        topic: topic.into(),
        stamp: 1_700_000_000_000 + number * 1_000,
        body,
    }
}

/// Takes `count` steps on all engines. Returns those that came to something.
fn lives(agents: &[Agent; 3], count: u64, input: impl Fn(u64) -> Wakeup) -> Vec<Step> {
    let (mut state, mut steps, mut seq) = (Vec::new(), Vec::new(), 0);
    for number in 0..count {
        let wake = |agent: &Agent| agent.wake(seq, state.clone(), input(number), Box::new(Open));
        let [one, others @ ..] = agents.each_ref().map(wake);
        for other in others {
            assert_eq!(one, other, "input {number}");
        }
        match one {
            Ok(step) => {
                // None of them would ever go to the lane of those that take long.
                for agent in agents {
                    let input = (seq, &state[..], &input(number));
                    let quick = agent.handle(QUICK / 2, input, Box::new(Open));
                    let quick = quick.expect("it needs little");
                    assert_eq!((&step.effects, &step.after), (&quick.effects, &quick.after));
                }
                for agent in agents {
                    assert_eq!(Ok(()), agent.repeat(&step));
                }
                state.clone_from(&step.after);
                seq += 1;
                steps.push(step);
            }
            Err(Failed::Refused { .. }) => {}
            Err(why) => panic!("input {number}: {why}"),
        }
    }
    steps
}

fn says(steps: &[Step], on: &str) -> usize {
    let effects = steps.iter().flat_map(|step| &step.effects);
    let says = |effect: &&Effect| matches!(effect, Effect::Publish { topic, .. } if topic == on);
    effects.filter(says).count()
}

#[test]
fn a_sensor_learns_and_says_what_is_odd() {
    let agents = agents(SENSOR, &["alerts", "sensor"]);
    let steps = lives(&agents, 700, |number| {
        let drawn = drawn(number);
        let reading = match drawn[2] {
            0..3 => 5_000,
            _ => 100 + i64::from(drawn[3] % 8),
        };
        wakeup(number, "", minicbor::to_vec(reading).expect("vec"))
    });
    let alerts = says(&steps, "alerts");
    assert!(
        steps.len() > 600 && (1..40).contains(&alerts),
        "{} steps, {alerts} alerts",
        steps.len()
    );
    let remembers = |step: &&Step| {
        step.effects
            .iter()
            .any(|effect| matches!(effect, Effect::Remember { .. }))
    };
    assert!(steps.iter().filter(remembers).count() > 5);
}

#[test]
fn a_worker_does_each_task_once() {
    let agents = agents(WORKER, &["results", "agreed"]);
    // Each task comes twice; others vote on it too, one of five wrongly.
    let steps = lives(&agents, 400, |number| {
        let (task, vote) = (number / 4, number % 4 > 1);
        let mut e = minicbor::Encoder::new(Vec::new());
        e.array(2)
            .and_then(|e| e.bytes(&task.to_be_bytes()))
            .expect("vec");
        if vote {
            let wrong = u64::from(drawn(number)[1].is_multiple_of(5));
            e.u64(4 + wrong).expect("vec");
        } else {
            let payload = minicbor::to_vec([9_u64, 4, 1]).expect("vec");
            e.bytes(&payload).expect("vec");
        }
        wakeup(
            number,
            if vote { "results" } else { "tasks" },
            e.into_writer(),
        )
    });
    let (votes, agreed) = (says(&steps, "results"), says(&steps, "agreed"));
    // A timer or an invocation comes in the place of every fourth input.
    assert!(
        (70..=100).contains(&votes) && (50..=100).contains(&agreed),
        "{votes} votes, {agreed} agreed"
    );
}

#[test]
fn a_forager_follows_what_is_strong() {
    let agents = agents(FORAGER, &["signals"]);
    let steps = lives(&agents, 300, |number| {
        let drawn = drawn(number);
        let place = u64::from(drawn[4] % 6);
        let body = minicbor::to_vec((place, u32::from(drawn[5])));
        wakeup(number, "signals", body.expect("vec"))
    });
    assert!(steps.len() > 150, "{} steps", steps.len());
    assert!(steps.iter().any(|step| !step.after.is_empty()));
}

#[test]
fn one_in_c_keeps_to_the_same_rules() {
    let agents = agents(ECHO, &["echo"]);
    let steps = lives(&agents, 200, |number| {
        wakeup(number, "echo", vec![7; (number % 60) as usize])
    });
    assert!(steps.iter().any(|step| !step.effects.is_empty()));
}
