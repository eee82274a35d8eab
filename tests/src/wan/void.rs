//! Void: a run that could not do what it is for. It is never green by silence.
//!
//! A test that is void because of the machine prints a line that starts with `VOID:` and leaves a
//! note under the target folder, which `./check` shows in its summary: a runner of tests hides what
//! a passing test prints. A run whose fault did not bite fails instead (see `report`).

use std::path::{Path, PathBuf};

/// Why a run is void.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Void(pub String);

/// What came of `tried`, or nothing and a visible note that the run called `what` is void.
pub fn or_void<T>(what: &str, tried: Result<T, Void>) -> Option<T> {
    match tried {
        Ok(made) => Some(made),
        Err(Void(why)) => {
            note(&notes(), what, &why);
            None
        }
    }
}

fn note(folder: &Path, what: &str, why: &str) {
    let line = format!("VOID: {what}: {why}");
    eprintln!("{line}");
    std::fs::create_dir_all(folder).expect("the target folder can be written");
    std::fs::write(folder.join(what), line + "\n").expect("a note can be written");
}

/// Where notes are left.
#[must_use]
pub fn notes() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    crate::repository().join(target).join("void")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_void_run_leaves_a_note_that_says_what_and_why() {
        let folder = tempfile::tempdir().expect("a folder");
        let deep = folder.path().join("target/void");
        note(&deep, "apart", "no TUN device");
        let said = std::fs::read_to_string(deep.join("apart")).expect("a note");
        assert_eq!(said, "VOID: apart: no TUN device\n");
        assert_eq!(or_void("fine", Ok(1)), Some(1));
    }
}
