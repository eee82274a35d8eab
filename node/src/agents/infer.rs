//! Infer: the model that this node has for its agents, if its operator gave it one.
//!
//! It is a command, run by the shell for each prompt: it reads the prompt from stdin and says its answer
//! on stdout. So anything will do that can be asked on a command line, from a model in a file to a server
//! next door. What a command starts ends with it. An agent whose node has no model is told so, and does
//! without.
//!
//! Not here: who may ask (the agent's manifest), that nobody waits for it (`aquifer-wasm`).

use aquifer_wasm::abi::Code;
use aquifer_wasm::desk::Answer;
use rustix::process::{Pid, Signal, kill_process_group};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// How long all that one wake asks may take together.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Most bytes of an answer: a guest has no room for more.
const ANSWER_MAX: usize = aquifer_wasm::abi::PAGE;

/// A model that can be asked.
#[derive(Debug)]
pub(super) struct Model {
    command: String,
    runtime: Handle,
    stop: CancellationToken,
}

/// All that a command has started. It ends when this is dropped.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended by itself.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Model {
    /// The model that `command` asks, until `stop`.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub(super) fn new(command: String, stop: CancellationToken) -> Self {
        Self {
            command,
            runtime: Handle::current(),
            stop,
        }
    }

    /// What it says to `prompt`, within `patience`. Blocks meanwhile; not for a thread of the runtime.
    ///
    /// # Errors
    /// [`Code::Unavailable`] if it fails, or takes longer; [`Code::TooLarge`] if it says too much.
    pub(super) fn ask(&self, prompt: &str, patience: Duration) -> Answer {
        self.runtime.block_on(async {
            let said = tokio::time::timeout(patience, self.says(prompt));
            let said = tokio::select! {
                () = self.stop.cancelled() => return Err(Code::Unavailable),
                said = said => said,
            };
            said.unwrap_or_else(|_| Err(format!("it took more than {patience:?}")))
                .map_err(|why| {
                    tracing::warn!(target: "aquifer::agents", command = self.command, %why, "no model");
                    Code::Unavailable
                })
                .and_then(|said| match said.len() > ANSWER_MAX {
                    true => Err(Code::TooLarge),
                    false => Ok(said),
                })
        })
    }

    async fn says(&self, prompt: &str) -> Result<Vec<u8>, String> {
        let mut child = Command::new("sh")
            .arg("-c")
            .arg(&self.command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|why| format!("cannot start sh: {why}"))?;
        let leader = child.id().and_then(|id| Pid::from_raw(id as i32));
        let mut group = Group(leader);
        let mut stdin = child.stdin.take().expect("it was asked for");
        let stdout = child.stdout.take().expect("it was asked for");
        let tells = async move {
            // A command that does not read all of it has read what it wants.
            let _ = stdin.write_all(prompt.as_bytes()).await;
        };
        let mut said = Vec::new();
        let mut stdout = stdout.take(ANSWER_MAX as u64 + 1);
        let hears = stdout.read_to_end(&mut said);
        let (_, heard) = tokio::join!(tells, hears);
        heard.map_err(|why| format!("cannot read what it says: {why}"))?;
        if said.len() > ANSWER_MAX {
            return Ok(said);
        }
        let ended = child.wait().await;
        group.0 = None;
        match ended {
            Ok(ended) if ended.success() => {
                let len = said.trim_ascii_end().len();
                said.truncate(len);
                Ok(said)
            }
            Ok(ended) => Err(format!("{ended}")),
            Err(why) => Err(format!("cannot wait for it: {why}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn asked(command: &str, prompt: &str, patience: Duration) -> Answer {
        let model = Model::new(command.into(), CancellationToken::new());
        let prompt = prompt.to_owned();
        let asked = tokio::task::spawn_blocking(move || model.ask(&prompt, patience));
        asked.await.expect("it does not panic")
    }

    #[tokio::test]
    async fn a_command_hears_the_prompt_and_says_the_answer() {
        let prompt = "how warm\nis it?";
        let said = asked("tr a-z A-Z", prompt, PATIENCE).await;
        assert_eq!(Ok(b"HOW WARM\nIS IT?".to_vec()), said);
        // It need not listen, and may be told more than fits into a pipe.
        let long = "x".repeat(1 << 20);
        assert_eq!(Ok(b"21".to_vec()), asked("echo 21", &long, PATIENCE).await);
        let len = asked("wc -c", &long, PATIENCE).await.expect("it counts");
        assert_eq!(b"1048576", &len[..]);
    }

    #[tokio::test]
    async fn one_that_fails_or_says_too_much_is_no_model() {
        for bad in ["exit 3", "no-such-program", "kill -9 $$"] {
            assert_eq!(
                Err(Code::Unavailable),
                asked(bad, "", PATIENCE).await,
                "{bad}"
            );
        }
        let flood = asked("yes", "", PATIENCE).await;
        assert_eq!(Err(Code::TooLarge), flood);
    }

    #[tokio::test]
    async fn one_that_takes_too_long_ends_with_all_that_it_started() {
        let folder = tempfile::tempdir().expect("a folder");
        let told = folder.path().join("told");
        let command = format!("(sleep 1; echo alive > {}) & sleep 100", told.display());
        let soon = Duration::from_millis(100);
        assert_eq!(Err(Code::Unavailable), asked(&command, "", soon).await);
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert!(!told.exists(), "its children ended too");
    }
}
