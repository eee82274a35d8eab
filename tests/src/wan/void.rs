//! Void: a run that could not do what it is for. It is never green by silence.
//!
//! A test that is void because of the machine prints a line that starts with `VOID:` and leaves a
//! note under the target folder, which `./check` shows in its summary: a runner of tests hides what
//! a passing test prints. A run whose fault did not bite fails instead (see `report`).

use std::path::PathBuf;

/// Why a run is void.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Void(pub String);

/// What came of `tried`, or nothing and a visible note that the run called `what` is void.
pub fn or_void<T>(what: &str, tried: Result<T, Void>) -> Option<T> {
    match tried {
        Ok(made) => Some(made),
        Err(Void(why)) => {
            let line = format!("VOID: {what}: {why}");
            eprintln!("{line}");
            let folder = notes();
            std::fs::create_dir_all(&folder).expect("the target folder can be written");
            std::fs::write(folder.join(what), line + "\n").expect("a note can be written");
            None
        }
    }
}

/// Where notes are left.
#[must_use]
pub fn notes() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    crate::repository().join(target).join("void")
}
