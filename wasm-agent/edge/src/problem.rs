//! Problems, as the door tells them: a stable code, an exit code, what happened, what to do next.
//!
//! The exit codes are those of `aquifer`: 1 failure, 2 usage, 3 not found, 5 not authorised, 6 refused by
//! policy, 124 timeout.

use serde_json::{Value, json};
use std::fmt;

/// Why something was not done.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct Problem {
    /// A stable name, such as `ticket_expired`.
    pub code: String,
    /// The exit code of the command line.
    pub exit: u8,
    /// What happened.
    pub message: String,
    /// What to do next; empty if there is nothing.
    pub hint: String,
}

impl Problem {
    /// A problem of `code` with exit code `exit`.
    pub fn new(code: &str, exit: u8, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            exit,
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// The problem that something of the operating system failed: `doing` says what.
    pub fn system(doing: impl fmt::Display, why: &std::io::Error) -> Self {
        let hint = "check the disk and the folder's permissions";
        Self::new("io", 1, format!("cannot {doing}: {why}"), hint)
    }

    /// For scripts.
    pub fn to_json(&self) -> Value {
        json!({"error": {
            "code": self.code, "message": self.message, "hint": self.hint, "exit": self.exit,
        }})
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match self.hint.is_empty() {
            true => Ok(()),
            false => write!(f, "\n  {}", self.hint),
        }
    }
}
