//! Agents ask for tasks: what a WASM agent cannot do, a node that can does for it.
//!
//! An agent asks by saying on a topic, on which its manifest lets it speak, the CBOR of `{"task": {…}}`, with
//! the fields of a request for a task in JSON (`api::SubmitTask`) and beside them a `key` of its own. That
//! memory is the task: every node that reads it knows the same task by the same id, and nobody need turn it
//! into one. The node that runs it says what came of it on the same topic, and so whoever follows the topic
//! wakes.
//!
//! Not here: whether an agent may speak there (`agents::outlook`), who runs it (`rules`).

use super::note::{JOB_BYTES_MAX, MODELS_MAX, Needs};
use crate::agents::said;
use crate::api::SubmitTask;
use aquifer_protocol::body::Memory;
use aquifer_protocol::{Body, Kind, Record, RecordId};
use aquifer_runner::job::Job;
use aquifer_runner::outcome::Said;
use aquifer_runner::serve::Answer;
use serde::Deserialize;
use serde_json::{Value, json};

/// What the tag of whoever is an agent begins with.
const AGENT: &str = "agent:";
/// The longest key of an agent's own, as JSON.
const KEY_BYTES_MAX: usize = 64;
/// Most bytes of each output that an agent is told: its inbox has 16 KiB.
const TOLD_BYTES_MAX: usize = 4 << 10;
/// Episodic: it tells of something that happened.
const EPISODIC: u8 = 1;

/// What an agent asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wish {
    /// The job.
    pub job: Job,
    /// What the node that runs it must have.
    pub needs: Needs,
    /// By what the agent knows it.
    pub key: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spoken {
    task: SubmitTask,
    #[serde(default)]
    key: Value,
}

impl Wish {
    /// What a record asks for, if it is an agent's and asks for a task.
    pub fn of(record: &Record) -> Option<Self> {
        let kind = record.header().kind;
        if kind != Kind::MEMORY {
            return None;
        }
        let bytes = record.body()?;
        // Nearly all memories are none, and are not taken apart.
        let tagged = bytes.windows(AGENT.len()).any(|at| at == AGENT.as_bytes());
        let memory = tagged.then(|| Body::open(kind, &bytes))?;
        match memory {
            Ok(Body::Memory(memory)) => Self::read(&memory),
            _ => None,
        }
    }

    fn read(memory: &Memory) -> Option<Self> {
        if !memory.tags.iter().any(|tag| tag.starts_with(AGENT)) {
            return None;
        }
        let spoken = said::to_json(&said::told(memory))?;
        spoken.get("task")?;
        let Spoken { task, key } = serde_json::from_value(spoken).ok()?;
        let hash = |hash: &String| {
            let bytes = data_encoding::HEXLOWER.decode(hash.as_bytes()).ok()?;
            let hash: [u8; 32] = bytes.try_into().ok()?;
            Some(hash.into())
        };
        let asked = &task.needs;
        let needs = Needs {
            gpu_bytes: asked.gpu_bytes,
            ram_bytes: asked.ram_bytes,
            models: asked.models.iter().map(hash).collect::<Option<_>>()?,
        };
        let is_small = needs.models.len() <= MODELS_MAX
            && key.to_string().len() <= KEY_BYTES_MAX
            && task.topic.is_none();
        let job = is_small.then(|| crate::memory::job(task).ok())??;
        (job.bytes().len() <= JOB_BYTES_MAX).then_some(Self { job, needs, key })
    }
}

/// What an agent is told of its task: the memory to write beside the outcome.
pub fn told(task: RecordId, key: &Value, answer: &Answer) -> Option<Body> {
    let id = task.to_string();
    let mut told = json!({ "key": key, "of": id });
    let (how, rest) = match answer {
        Answer::Ran(outcome) => {
            let (how, number) = crate::memory::ended(outcome.ended);
            let (stdout, cut) = text(&outcome.stdout);
            let (stderr, also_cut) = text(&outcome.stderr);
            let cut = cut || also_cut;
            let said = json!({ "number": number, "stdout": stdout, "stderr": stderr, "cut": cut });
            (how, said)
        }
        Answer::NoJob(why) | Answer::Refused(why) | Answer::Failed(why) => {
            ("refused", json!({ "why": why }))
        }
    };
    let fields = told.as_object_mut()?;
    fields.insert("ended".to_owned(), how.into());
    fields.extend(rest.as_object()?.clone());
    let (text, metadata) = said::kept(&said::of_json(&told)?);
    Some(Body::Memory(Memory {
        class: EPISODIC,
        tags: vec![format!("task:{}", &id[..16])],
        metadata,
        tier: 2,
        ..Memory::of(text)
    }))
}

fn text(said: &Said) -> (String, bool) {
    let most = said.bytes.len().min(TOLD_BYTES_MAX);
    let text = String::from_utf8_lossy(&said.bytes[..most]).into_owned();
    (text, said.is_cut || most < said.bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use aquifer_runner::outcome::{Ended, Outcome, Usage};

    fn spoken(value: &Value) -> Memory {
        let (text, metadata) = said::kept(&said::of_json(value).expect("it has a form"));
        Memory {
            metadata,
            tags: vec!["agent:clerk".to_owned(), "step:00.1.0".to_owned()],
            ..Memory::of(text)
        }
    }

    #[test]
    fn an_agent_asks_in_the_words_of_a_request_and_all_others_do_not() {
        let asked = json!({ "task": { "argv": ["sum"], "stdin": "MSAy", "needs": { "gpu_bytes": 7 } }, "key": 3 });
        let wish = Wish::read(&spoken(&asked)).expect("a wish");
        assert_eq!(["sum"], wish.job.request().argv[..]);
        assert_eq!(
            (b"1 2".as_slice(), 7),
            (&wish.job.request().stdin[..], wish.needs.gpu_bytes)
        );
        assert_eq!(json!(3), wish.key);
        assert_eq!(Some(wish), Wish::read(&spoken(&asked)), "all read the same");
        let untagged = Memory {
            tags: Vec::new(),
            ..spoken(&asked)
        };
        assert_eq!(None, Wish::read(&untagged));
        for other in [
            json!({ "task": { "argv": [] } }),
            json!({ "task": { "argv": ["a"] }, "also": 1 }),
            json!({ "task": { "argv": ["a"], "topic": "elsewhere" } }),
            json!({ "task": { "argv": ["a"] }, "key": "k".repeat(80) }),
            json!({ "task": { "argv": ["a"], "needs": { "models": ["llama"] } } }),
            json!(["task"]),
            json!("task"),
        ] {
            assert_eq!(None, Wish::read(&spoken(&other)), "{other}");
        }
    }

    #[test]
    fn what_came_of_it_fits_an_inbox() {
        let said = Said {
            bytes: vec![b'"'; 40_000],
            is_cut: false,
        };
        let outcome = Outcome {
            job: [1; 32],
            runner: "process".into(),
            ended: Ended::Exited(0),
            stdout: said.clone(),
            stderr: said,
            usage: Usage::default(),
        };
        let body = told(RecordId([7; 32]), &json!("k"), &Answer::Ran(outcome));
        let Some(Body::Memory(memory)) = body else {
            panic!("a memory");
        };
        let told = said::told(&memory);
        assert!(told.len() < 12_000, "{}", told.len());
        let told = said::to_json(&told).expect("it has a form");
        assert_eq!(
            (json!("k"), json!("exited"), json!(true)),
            (
                told["key"].clone(),
                told["ended"].clone(),
                told["cut"].clone()
            )
        );
        assert_eq!(None, Wish::read(&memory), "an outcome asks for nothing");
    }
}
