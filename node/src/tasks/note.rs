//! Notes about tasks: what nodes tell each other of the work of a topic.
//!
//! They are records of kind 14 beside those about agents, and go on counting where these end: whoever knows
//! no tasks reads over them. A task is named by the record that asks for it. Spec: `docs/protocol.md` §12.
//!
//! Not here: what follows from notes (`ledger`, `rules`).

use aquifer_protocol::canonical::encodes_to;
use aquifer_protocol::limits::BODY_BYTES_MAX;
use aquifer_protocol::{Body, Kind, Record, RecordId, placement};
use aquifer_runner::outcome::{Outcome, Said};
use aquifer_runner::serve::Answer;
use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};

/// Most bytes of a job that travels in a note, its files and its input among them.
pub const JOB_BYTES_MAX: usize = 48 << 10;
/// Most bytes of an outcome's two outputs that travel in a note; what is longer is cut, and says so.
pub const SAID_BYTES_MAX: usize = 48 << 10;
/// What is left of stderr at least, if both are long.
const STDERR_BYTES: usize = 16 << 10;
/// Most models that a task needs.
pub const MODELS_MAX: usize = 16;
/// Most bytes of a reason.
pub const WHY_BYTES_MAX: usize = 512;

const _: () = assert!(JOB_BYTES_MAX + MODELS_MAX * 34 + 1_024 < BODY_BYTES_MAX);
const _: () = assert!(SAID_BYTES_MAX + 4 * WHY_BYTES_MAX + 1_024 < BODY_BYTES_MAX);

/// One note.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum TaskNote {
    /// Somebody wants a job run. The record that says so is the task.
    #[n(7)]
    Asked {
        /// The job, canonical.
        #[n(0)]
        job: ByteVec,
        /// What the node that runs it must have.
        #[n(1)]
        needs: Needs,
    },
    /// The record's writer runs the task, or goes on running it.
    #[n(8)]
    Claimed {
        /// Which task.
        #[n(0)]
        task: RecordId,
        /// Until then nobody else need try, in milliseconds since 1970 by the writer's clock.
        #[n(1)]
        until: u64,
    },
    /// The record's writer claimed the task and does not run it any more.
    #[n(9)]
    Left {
        /// Which task.
        #[n(0)]
        task: RecordId,
        /// Whether it may try again: it was interrupted. Else it cannot run the task at all.
        #[n(1)]
        again: bool,
        /// Why.
        #[n(2)]
        why: String,
    },
    /// What came of the task where the record's writer ran it.
    #[n(10)]
    Ended {
        /// Which task.
        #[n(0)]
        task: RecordId,
        /// The hash of what the job made, before its outputs were cut to fit; zeros if it made nothing.
        #[n(1)]
        product: ByteArray<32>,
        /// The outcome, or why there is none.
        #[n(2)]
        answer: Answer,
    },
    /// Whoever asked for the task does not want it any more.
    #[n(11)]
    Cancelled {
        /// Which task.
        #[n(0)]
        task: RecordId,
    },
}

/// What the node that runs a task must have.
#[derive(Clone, PartialEq, Eq, Default, Debug, Encode, Decode)]
#[cbor(array)]
pub struct Needs {
    /// Bytes of GPU memory.
    #[n(0)]
    pub gpu_bytes: u64,
    /// Bytes of memory.
    #[n(1)]
    pub ram_bytes: u64,
    /// BLAKE3 hashes of models that must be there.
    #[n(2)]
    pub models: Vec<ByteArray<32>>,
}

impl Needs {
    /// The same, as placement asks for it. A job that may use so much memory needs a node that has it.
    pub fn placed(&self, memory_bytes: u64) -> placement::Needs {
        placement::Needs {
            gpu_bytes: self.gpu_bytes,
            ram_bytes: self.ram_bytes.max(memory_bytes),
            models: self.models.iter().map(|hash| **hash).collect(),
        }
    }
}

impl TaskNote {
    /// As it lies in a record.
    pub fn to_bytes(&self) -> Vec<u8> {
        minicbor::to_vec(self).expect("a vector takes any encoding")
    }

    /// As a record's body.
    pub fn body(&self) -> Body {
        Body::Agent(self.to_bytes().into())
    }

    /// What a record says, if it is canonical. A stranger may have made the bytes.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let note: Self = minicbor::decode(bytes).ok()?;
        encodes_to(&note, bytes).then_some(note)
    }

    /// The note that a record carries, if it carries one.
    pub fn of(record: &Record) -> Option<Self> {
        let kind = record.header().kind;
        if kind != Kind::AGENT {
            return None;
        }
        match Body::open(kind, &record.body()?) {
            Ok(Body::Agent(bytes)) => Self::read(&bytes),
            _ => None,
        }
    }

    /// What came of a task, cut to fit a record.
    pub fn ended(task: RecordId, answer: Answer) -> Self {
        let (product, answer) = match answer {
            Answer::Ran(outcome) => (outcome.product(), Answer::Ran(fitted(outcome))),
            Answer::NoJob(why) => ([0; 32], Answer::NoJob(short(&why))),
            Answer::Refused(why) => ([0; 32], Answer::Refused(short(&why))),
            Answer::Failed(why) => ([0; 32], Answer::Failed(short(&why))),
        };
        Self::Ended {
            task,
            product: product.into(),
            answer,
        }
    }
}

/// A reason that fits.
pub fn short(why: &str) -> String {
    why.chars().take(WHY_BYTES_MAX / 4).collect()
}

fn fitted(mut outcome: Outcome) -> Outcome {
    let (out, err) = (outcome.stdout.bytes.len(), outcome.stderr.bytes.len());
    let err = err.min(STDERR_BYTES.max(SAID_BYTES_MAX.saturating_sub(out)));
    cut(&mut outcome.stderr, err);
    cut(&mut outcome.stdout, SAID_BYTES_MAX - err);
    outcome
}

fn cut(said: &mut Said, most: usize) {
    if said.bytes.len() > most {
        said.bytes.truncate(most);
        said.is_cut = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agents::note::Note;
    use aquifer_runner::outcome::{Ended, Usage};
    use proptest::prelude::*;

    const TASK: RecordId = RecordId([7; 32]);

    fn ran(out: usize, err: usize) -> Outcome {
        let said = |len| Said {
            bytes: vec![b'x'; len],
            is_cut: false,
        };
        Outcome {
            job: [1; 32],
            runner: "process".into(),
            ended: Ended::Exited(0),
            stdout: said(out),
            stderr: said(err),
            usage: Usage::default(),
        }
    }

    fn all() -> Vec<TaskNote> {
        vec![
            TaskNote::Asked {
                job: vec![1, 2].into(),
                needs: Needs {
                    gpu_bytes: 8 << 30,
                    ram_bytes: 0,
                    models: vec![[3; 32].into()],
                },
            },
            TaskNote::Claimed {
                task: TASK,
                until: 1_790_000_000_000,
            },
            TaskNote::Left {
                task: TASK,
                again: true,
                why: "it was stopped".into(),
            },
            TaskNote::ended(TASK, Answer::Ran(ran(3, 0))),
            TaskNote::Cancelled { task: TASK },
        ]
    }

    #[test]
    fn notes_go_through_their_bytes_and_mean_nothing_to_agents() {
        for (type_, note) in (7..).zip(all()) {
            let bytes = note.to_bytes();
            assert_eq!(Some(&note), TaskNote::read(&bytes).as_ref());
            assert_eq!(
                None,
                Note::read(&bytes),
                "a reader of agents passes over {type_}"
            );
            assert_eq!([0x82, type_], bytes[..2]);
            assert_eq!(None, TaskNote::read(&[&bytes[..], &[0]].concat()));
        }
        let other = Note::Handed {
            order: [0; 32].into(),
        };
        assert_eq!(None, TaskNote::read(&other.to_bytes()));
    }

    #[test]
    fn what_a_job_said_is_cut_to_fit_and_its_product_is_not() {
        for (out, err, left) in [
            (10, 20, (10, 20)),
            (1 << 20, 0, (48 << 10, 0)),
            (0, 1 << 20, (0, 48 << 10)),
            (1 << 20, 1 << 20, (32 << 10, 16 << 10)),
            (40 << 10, 9 << 10, (39 << 10, 9 << 10)),
        ] {
            let whole = ran(out, err);
            let TaskNote::Ended {
                product, answer, ..
            } = TaskNote::ended(TASK, Answer::Ran(whole.clone()))
            else {
                panic!("it ended");
            };
            let Answer::Ran(cut) = answer else {
                panic!("it ran");
            };
            assert_eq!(whole.product(), *product);
            assert_eq!(left, (cut.stdout.bytes.len(), cut.stderr.bytes.len()));
            assert_eq!(
                (left.0 < out, left.1 < err),
                (cut.stdout.is_cut, cut.stderr.is_cut)
            );
        }
    }

    proptest! {
        #[test]
        fn bytes_of_strangers_are_read_without_a_panic(
            at in 0usize..5, place in 0usize..64, byte: u8,
        ) {
            let mut bytes = all()[at].to_bytes();
            let place = place % bytes.len();
            bytes[place] = byte;
            if let Some(note) = TaskNote::read(&bytes) {
                prop_assert_eq!(note.to_bytes(), bytes);
            }
        }
    }
}
