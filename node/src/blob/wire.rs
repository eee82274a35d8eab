//! `/aquifer/blob/1`: slices of blobs, asked for and proved.
//!
//! Whoever opened the stream asks, as often as it likes, and is answered in that order. A request is
//! 76 bytes: the topic for whose sake it is asked (32), the blob (32), the first group (8, big-endian)
//! and how many (4): at most 64, or 0 to ask only whether it is there. An answer is one byte that says
//! what it is, four that say how many follow (big-endian), and those:
//!
//! | byte | means | follows |
//! |---|---|---|
//! | 0 | the slice | its encoding (`tree`) |
//! | 1 | the blob is here | its length in bytes (8) |
//! | 2 | the blob is not here | nothing |
//! | 3 | too much is asked of this node now | nothing |
//! | 4 | the law forbids it | the rule in words, UTF-8, at most 512 bytes |

use super::BlobHash;
use super::tree::{SLICE_BYTES_MAX, SLICE_GROUPS};
use aquifer_protocol::TopicId;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

const REQUEST_BYTES: usize = 76;
const REASON_BYTES_MAX: usize = 512;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// For whose sake: the law of this topic is asked.
    pub(crate) topic: TopicId,
    /// Of which blob.
    pub(crate) blob: BlobHash,
    /// The first group.
    pub(crate) first: u64,
    /// How many; 0 to ask only whether it is there.
    pub(crate) groups: u32,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The slice asked for.
    Slice(Vec<u8>),
    /// The blob is here, and so long.
    Here(u64),
    /// It is not.
    Absent,
    /// Too much is asked now.
    Busy,
    /// The law forbids it.
    Denied(String),
}

impl Request {
    fn to_bytes(self) -> [u8; REQUEST_BYTES] {
        let mut bytes = [0; REQUEST_BYTES];
        bytes[..32].copy_from_slice(self.topic.as_bytes());
        bytes[32..64].copy_from_slice(&self.blob.0);
        bytes[64..72].copy_from_slice(&self.first.to_be_bytes());
        bytes[72..].copy_from_slice(&self.groups.to_be_bytes());
        bytes
    }

    /// Sends it. It leaves with the next flush.
    pub(crate) async fn write(self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        to.write_all(&self.to_bytes()).await
    }

    /// The next request; none at the end of the stream.
    pub(crate) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Self>> {
        let mut bytes = [0; REQUEST_BYTES];
        match from.read_exact(&mut bytes).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        };
        let part = |from: usize| *bytes[from..].first_chunk().expect("76 bytes");
        let last = bytes.last_chunk().expect("76 bytes");
        let request = Self {
            topic: TopicId(part(0)),
            blob: BlobHash(part(32)),
            first: u64::from_be_bytes(*bytes[64..].first_chunk().expect("76 bytes")),
            groups: u32::from_be_bytes(*last),
        };
        if u64::from(request.groups) > SLICE_GROUPS {
            return Err(malformed("more groups are asked for than a slice has"));
        }
        Ok(Some(request))
    }
}

impl Reply {
    /// Sends it.
    pub(crate) async fn write(&self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let length;
        let (kind, body) = match self {
            Self::Slice(bytes) => (0, &bytes[..]),
            Self::Here(bytes) => {
                length = bytes.to_be_bytes();
                (1, &length[..])
            }
            Self::Absent => (2, &[][..]),
            Self::Busy => (3, &[][..]),
            Self::Denied(why) => (
                4,
                &why.as_bytes()[..why.floor_char_boundary(REASON_BYTES_MAX)],
            ),
        };
        let len = u32::try_from(body.len()).expect("a slice is short");
        let mut head = [0; 5];
        head[0] = kind;
        head[1..].copy_from_slice(&len.to_be_bytes());
        to.write_all(&head).await?;
        to.write_all(body).await?;
        to.flush().await
    }

    /// The next answer. A longer one than there is is an error before anything is allocated.
    pub(crate) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let mut head = [0; 5];
        from.read_exact(&mut head).await?;
        let [kind, len @ ..] = head;
        let len = u32::from_be_bytes(len) as usize;
        let most = match kind {
            0 => SLICE_BYTES_MAX,
            1 => 8,
            4 => REASON_BYTES_MAX,
            _ => 0,
        };
        if len > most {
            return Err(malformed("an answer is longer than any may be"));
        }
        let mut body = vec![0; len];
        from.read_exact(&mut body).await?;
        match kind {
            0 => Ok(Self::Slice(body)),
            1 => {
                let length = body
                    .try_into()
                    .map_err(|_| malformed("a length has 8 bytes"))?;
                Ok(Self::Here(u64::from_be_bytes(length)))
            }
            2 => Ok(Self::Absent),
            3 => Ok(Self::Busy),
            4 => Ok(Self::Denied(String::from_utf8_lossy(&body).into_owned())),
            _ => Err(malformed("an answer of no kind there is")),
        }
    }
}

fn malformed(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn now<T>(work: impl Future<Output = T>) -> T {
        futures_util::FutureExt::now_or_never(work).expect("memory never waits")
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(topic: [u8; 32], blob: [u8; 32], first: u64, groups in 0u32..=64, bytes: Vec<u8>, why in ".{0,300}") {
            let request = Request { topic: TopicId(topic), blob: BlobHash(blob), first, groups };
            let mut wire = Vec::new();
            now(request.write(&mut wire)).expect("memory");
            prop_assert_eq!(now(Request::read(&mut &wire[..])).expect("whole"), Some(request));
            let short = why[..why.floor_char_boundary(REASON_BYTES_MAX)].to_owned();
            for reply in [Reply::Slice(bytes), Reply::Here(first), Reply::Absent, Reply::Busy, Reply::Denied(short)] {
                let mut wire = Vec::new();
                now(reply.write(&mut wire)).expect("memory");
                prop_assert_eq!(now(Reply::read(&mut &wire[..])).expect("whole"), reply);
            }
        }

        /// I7: whatever bytes come, reading them ends in an answer.
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = now(Request::read(&mut &bytes[..]));
            let _ = now(Reply::read(&mut &bytes[..]));
        }
    }

    #[test]
    fn a_length_that_no_answer_has_is_refused_before_anything_is_allocated() {
        for kind in 0..=255 {
            let mut wire = vec![kind];
            wire.extend(u32::MAX.to_be_bytes());
            assert!(now(Reply::read(&mut &wire[..])).is_err());
        }
    }
}
