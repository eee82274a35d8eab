//! Inputs: lines of a sensor, from a FIFO or from standard input, one reading each.
//!
//! A line that is a whole number becomes an integer in CBOR, any other a text. A line that begins with `#`
//! and a name (`#1042 21`) is known by that name and taken once, however often it is said: who feeds a
//! device that may lose its power says the last lines again. A line without one is taken each time.

use crate::clock;
use crate::problem::Problem;
use aquifer_protocol::identity::digest;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::path::PathBuf;
use tokio::sync::mpsc;

/// The longest line, in bytes; the rest of a longer one is a line of its own.
pub const LINE_MAX: u64 = 8 * 1024;

/// Lines that may wait for the guest.
const LINES_MAX: usize = 64;

/// Where lines come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// Standard input, to its end.
    Standard,
    /// A FIFO or a file. A FIFO is opened again whenever its writer has gone.
    Path(PathBuf),
}

/// One reading.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// What it is known by.
    pub id: [u8; 16],
    /// Its name, if it has one.
    pub name: Option<String>,
    /// What wakes the guest: CBOR.
    pub body: Vec<u8>,
}

impl Line {
    /// What a line says; none if it is empty. `unnamed` is what one without a name is known by.
    pub fn read(text: &str, unnamed: [u8; 16]) -> Option<Self> {
        let text = text.trim();
        let named = text.strip_prefix('#').and_then(|rest| {
            let (name, value) = rest.split_once(char::is_whitespace)?;
            (!name.is_empty()).then(|| (name, value.trim()))
        });
        let (name, value) = match named {
            Some((name, value)) => (Some(name), value),
            None => (None, text),
        };
        if value.is_empty() {
            return None;
        }
        let body = match value.parse::<i64>() {
            Ok(number) => minicbor::to_vec(number),
            Err(_) => minicbor::to_vec(value),
        };
        let known_by = |name: &str| {
            let hash = digest("aquifer/edge-line/1", &[name.as_bytes()]);
            *hash.first_chunk().expect("32 bytes hold 16")
        };
        Some(Self {
            id: name.map_or(unnamed, known_by),
            name: name.map(str::to_owned),
            body: body.expect("a vector takes any encoding"),
        })
    }
}

/// Reads lines on a thread of their own. The channel is closed at the end of a source that has one.
///
/// # Errors
/// `io` if there is no thread, `not_found` if there is no such file.
pub fn lines(source: Source) -> Result<mpsc::Receiver<Line>, Problem> {
    if let Source::Path(path) = &source
        && !path.exists()
    {
        let message = format!("there is no {}", path.display());
        let hint = "make a FIFO there: mkfifo PATH; or give - for standard input";
        return Err(Problem::new("not_found", 3, message, hint));
    }
    let (lines, receiver) = mpsc::channel(LINES_MAX);
    let thread = std::thread::Builder::new().name("input".into());
    let reads = thread.spawn(move || match source {
        Source::Standard => reads_all(std::io::stdin().lock(), &lines),
        Source::Path(path) => {
            // Opening a FIFO waits for its writer.
            while let Ok(file) = File::open(&path) {
                let again = is_fifo(&file);
                reads_all(file, &lines);
                if !again || lines.is_closed() {
                    return;
                }
            }
        }
    });
    reads.map_err(|why| Problem::system("start a thread", &why))?;
    Ok(receiver)
}

#[cfg(unix)]
fn is_fifo(file: &File) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    file.metadata().is_ok_and(|data| data.file_type().is_fifo())
}

#[cfg(not(unix))]
fn is_fifo(_: &File) -> bool {
    false
}

fn reads_all(from: impl Read, lines: &mpsc::Sender<Line>) {
    let mut from = BufReader::with_capacity(4_096, from);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let read = (&mut from).take(LINE_MAX).read_until(b'\n', &mut bytes);
        if read.is_ok_and(|read| read > 0) {
            let line = Line::read(&String::from_utf8_lossy(&bytes), clock::entropy());
            if line.is_some_and(|line| lines.blocking_send(line).is_err()) {
                return;
            }
        } else {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_number_and_anything_else_a_text() {
        let body = |text: &str| Line::read(text, [0; 16]).expect(text).body;
        assert_eq!(minicbor::to_vec(-21_i64).expect("a vector"), body(" -21\n"));
        assert_eq!(minicbor::to_vec("21.5").expect("a vector"), body("21.5"));
        assert_eq!(minicbor::to_vec("# 5").expect("a vector"), body("# 5"));
        assert_eq!(None, Line::read(" \n", [0; 16]));
        assert_eq!(
            None,
            Line::read("#7  \n", [0; 16]).filter(|line| line.name.is_some())
        );
    }

    #[test]
    fn a_named_line_is_known_by_its_name() {
        let line = |text: &str, lot| Line::read(text, [lot; 16]).expect(text);
        assert_eq!(line("#a 5", 1), line("#a 5", 2));
        assert_ne!(line("#a 5", 1).id, line("#b 5", 1).id);
        assert_eq!([1; 16], line("5", 1).id);
        assert_eq!(Some("a".to_owned()), line("#a 5", 1).name);
    }

    #[test]
    fn lines_come_in_order_and_a_long_one_in_parts() {
        let (lines, mut heard) = mpsc::channel(64);
        let long = "x".repeat(LINE_MAX as usize + 10);
        let text = format!("1\n\n2\n{long}\n3");
        reads_all(text.as_bytes(), &lines);
        drop(lines);
        let mut all = Vec::new();
        while let Ok(line) = heard.try_recv() {
            all.push(line.body.len());
        }
        assert_eq!(vec![1, 1, 8_192 + 3, 11, 1], all);
    }
}
