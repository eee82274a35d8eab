//! The seam for agents: bytes of a job in, bytes of an answer out.
//!
//! A WASM worker that is given a task it cannot do publishes a job; a node that says it has a runner
//! answers with [`serve`]. Whatever the bytes are, there is an answer: an outcome, or why there is none.
//!
//! Not here: on which topic, by whose leave, and who signs for it (the node).

use crate::job::Job;
use crate::limits::WHY_MAX;
use crate::outcome::Outcome;
use crate::{RunFailure, Runner, Stop};
use minicbor::{Decode, Encode};

/// What is answered to the bytes of a job.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Answer {
    /// It ran.
    #[n(0)]
    Ran(#[n(0)] Outcome),
    /// The bytes are no job: nobody will run it.
    #[n(1)]
    NoJob(#[n(0)] String),
    /// This runner does not run it; another may.
    #[n(2)]
    Refused(#[n(0)] String),
    /// The runner failed: it may be asked again.
    #[n(3)]
    Failed(#[n(0)] String),
}

impl Answer {
    /// Its canonical encoding.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        minicbor::to_vec(self).expect("a vector takes any encoding")
    }

    /// The answer that these bytes are the canonical encoding of, if they are.
    #[must_use]
    pub fn open(bytes: &[u8]) -> Option<Self> {
        let answer: Self = minicbor::decode(bytes).ok()?;
        (answer.to_bytes() == bytes).then_some(answer)
    }
}

/// Runs the job that `bytes` are, and gives the bytes of an [`Answer`]. Blocks meanwhile.
#[must_use]
pub fn serve(runner: &dyn Runner, bytes: &[u8], stop: &Stop) -> Vec<u8> {
    answer(runner, bytes, stop).to_bytes()
}

fn answer(runner: &dyn Runner, bytes: &[u8], stop: &Stop) -> Answer {
    let job = match Job::open(bytes) {
        Ok(job) => job,
        Err(why) => return Answer::NoJob(short(&why.to_string())),
    };
    match runner.run(&job, stop) {
        Ok(outcome) => Answer::Ran(outcome),
        Err(why @ (RunFailure::Refused(_) | RunFailure::NoStart { .. })) => {
            Answer::Refused(short(&why.to_string()))
        }
        Err(why @ RunFailure::Stage { .. }) => Answer::Failed(short(&why.to_string())),
    }
}

fn short(why: &str) -> String {
    why.chars().take(WHY_MAX / 4).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ability::{Ability, Refusal};
    use crate::job::{Budget, Request};

    /// A runner on a machine where nothing runs.
    struct Nowhere;

    impl Runner for Nowhere {
        fn name(&self) -> &'static str {
            "nowhere"
        }

        fn probe(&self) -> Result<Ability, Refusal> {
            Err(Refusal::new("nothing runs here", ""))
        }

        fn run(&self, _: &Job, _: &Stop) -> Result<Outcome, RunFailure> {
            Err(self.probe().expect_err("nothing runs here").into())
        }
    }

    fn asked(bytes: &[u8]) -> Answer {
        let bytes = serve(&Nowhere, bytes, &Stop::default());
        Answer::open(&bytes).expect("an answer is canonical")
    }

    #[test]
    fn whatever_the_bytes_there_is_an_answer() {
        assert!(matches!(asked(b"no job"), Answer::NoJob(_)));
        let job = Job::of(Request {
            argv: vec!["true".into()],
            env: vec![],
            files: vec![],
            stdin: vec![],
            sees: vec![],
            budget: Budget::USUAL,
        });
        let said = asked(job.expect("a job").bytes());
        assert_eq!(said, Answer::Refused("nothing runs here".into()));
    }
}
