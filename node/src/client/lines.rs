//! An answer that is read line by line while it arrives: events, exports.

use super::broken;
use crate::api::Problem;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// The longest line, in bytes: 2 MiB. A memory's text is 48 KiB, six times that in JSON.
const LINE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The lines of an answer.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    rest: Vec<u8>,
    ended: bool,
}

impl Lines {
    pub(super) fn of(body: Incoming) -> Self {
        Self {
            body,
            rest: Vec::new(),
            ended: false,
        }
    }

    /// The next line without its end, or none when the answer is complete.
    ///
    /// # Errors
    /// `daemon_unreachable` when the answer broke off, `daemon_answered_badly` when a line is over
    /// 2 MiB or is no UTF-8.
    pub async fn next(&mut self) -> Result<Option<String>, Problem> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.rest.drain(..=end).collect();
                line.pop();
                return text(line).map(Some);
            }
            if self.ended {
                let last = std::mem::take(&mut self.rest);
                return if last.is_empty() {
                    Ok(None)
                } else {
                    text(last).map(Some)
                };
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.take(frame.into_data().unwrap_or_default())?,
                Some(Err(cause)) => return Err(broken(&cause)),
                None => self.ended = true,
            }
        }
    }

    fn take(&mut self, data: Bytes) -> Result<(), Problem> {
        if self.rest.len() + data.len() > LINE_BYTES_MAX + 64 * 1024 && !data.contains(&b'\n') {
            let message = format!("a line of the answer is over {LINE_BYTES_MAX} bytes");
            return Err(Problem::new("daemon_answered_badly", 1, message, ""));
        }
        self.rest.extend_from_slice(&data);
        Ok(())
    }
}

fn text(line: Vec<u8>) -> Result<String, Problem> {
    String::from_utf8(line).map_err(|_| {
        Problem::new(
            "daemon_answered_badly",
            1,
            "a line of the answer is no UTF-8",
            "",
        )
    })
}
