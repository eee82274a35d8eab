//! Deeds: of what a guest did, what others are to do something about, and to which topic it belongs.
//!
//! What is said belongs to its topic, what is remembered to the name that its manifest grants, what is sent
//! to the other agent's inbox; how the agent is and what it logs, to `agents/NAME`.

use aquifer_wasm::desk::Effect;
use aquifer_wasm::manifest::Manifest;
use aquifer_wasm::sleepers::Owed;
use aquifer_wasm::uplink::{Deed, Step, What, inbox_of};

/// The longest name of an agent that is part of a topic's.
const NAME_MAX: usize = 64;

/// The step as it travels; none if nothing of it is for others.
pub fn step_of(owed: &Owed, manifest: &Manifest) -> Option<Step> {
    let deeds = (0_u16..).zip(&owed.effects);
    let deeds: Vec<Deed> = deeds
        .filter_map(|(place, effect)| deed_of(place, effect, manifest))
        .collect();
    (!deeds.is_empty()).then_some(Step {
        seq: owed.seq,
        stamp: owed.stamp,
        deeds,
    })
}

/// The topic for how an agent is, and what it logs.
pub fn own_topic(name: &str) -> String {
    let letter = |letter: char| match letter.to_ascii_lowercase() {
        letter @ ('a'..='z' | '0'..='9' | '-' | '_' | '.') => letter,
        _ => '-',
    };
    let name: String = name.chars().take(NAME_MAX).map(letter).collect();
    match name.trim_matches('.') {
        "" => "agents/unnamed".to_owned(),
        name => format!("agents/{name}"),
    }
}

fn deed_of(place: u16, effect: &Effect, manifest: &Manifest) -> Option<Deed> {
    let own = || own_topic(&manifest.name);
    let (topic, what) = match effect {
        Effect::Publish { topic, data } => (topic.clone(), What::Said(data.clone().into())),
        Effect::Remember { key, text } => {
            let topic = remembered_under(&manifest.remembers, key);
            (topic, What::Remembered(key.clone(), text.clone()))
        }
        Effect::Send { agent, data } => (inbox_of(agent), What::Sent(*agent, data.clone().into())),
        Effect::Health { code, words } => (own(), What::Health(*code, words.clone())),
        Effect::Log { level, line } => (own(), What::Logged(*level, line.clone())),
        // Nobody waits for the answer to an invocation here; the rest is between the guest and its host.
        Effect::Answer { .. } | Effect::Keep { .. } | Effect::Wake { .. } => return None,
    };
    Some(Deed { place, topic, what })
}

/// The name that grants the key: the longest there is.
fn remembered_under(names: &[String], key: &str) -> String {
    let covers = |name: &&String| {
        let rest = key.strip_prefix(name.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let longest = names.iter().filter(covers).max_by_key(|name| name.len());
    longest.map_or_else(|| key.to_owned(), Clone::clone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aquifer_wasm::abi::Imports;
    use aquifer_wasm::manifest::{Budget, Rate};

    #[test]
    fn each_deed_has_its_topic_and_keeps_its_place() {
        let manifest = Manifest {
            name: "Sensor 7/b".into(),
            module: [0; 32],
            imports: Imports::USUAL,
            publishes: vec!["plant".into()],
            follows: vec![],
            remembers: vec!["plant".into(), "plant/hall".into()],
            budget: Budget::USUAL,
            rate: Rate::USUAL,
            kv_bytes: 0,
            not_after: 0,
            attest: None,
        };
        let remember = |key: &str| Effect::Remember {
            key: key.into(),
            text: "a".into(),
        };
        let log = Effect::Log {
            level: 0,
            line: "a".into(),
        };
        let send = Effect::Send {
            agent: [7; 32],
            data: vec![1],
        };
        let mut owed = Owed {
            agent: 0,
            id: [1; 32],
            seq: 3,
            input: [0; 16],
            stamp: 5,
            effects: vec![
                Effect::Wake { after: 1 },
                remember("plant/hall/1"),
                remember("plant/hallway"),
                log,
                send,
            ],
        };
        let step = step_of(&owed, &manifest).expect("deeds");
        let found: Vec<_> = step
            .deeds
            .iter()
            .map(|d| (d.place, d.topic.as_str()))
            .collect();
        let inbox = format!("inbox/{}", "07".repeat(32));
        let expected = [
            (1, "plant/hall"),
            (2, "plant"),
            (3, "agents/sensor-7-b"),
            (4, &*inbox),
        ];
        assert_eq!(expected[..], found);
        owed.effects.truncate(1);
        assert_eq!(None, step_of(&owed, &manifest));
        assert_eq!("agents/unnamed", own_topic(".."));
    }
}
