//! multistream-select 1.0: how the two ends of a stream agree on a protocol.
//!
//! Each line is its length as a varint, the text and a newline. Whoever opened the stream proposes.

use super::LinkFailure;
use quinn::{RecvStream, SendStream};

const HEADER: &str = "/multistream/1.0.0";
const NOT_AVAILABLE: &str = "na";

/// The longest line, in bytes, with its newline.
const LINE_MAX: usize = 127;

/// Proposals that are heard on one stream.
const PROPOSALS_MAX: usize = 8;

/// Proposes one protocol.
///
/// # Errors
/// [`LinkFailure::Unsupported`] if the other end does not speak it.
pub(super) async fn propose(
    write: &mut SendStream,
    read: &mut RecvStream,
    protocol: &str,
) -> Result<(), LinkFailure> {
    let said = [line(HEADER), line(protocol)].concat();
    write.write_all(&said).await.map_err(LinkFailure::broken)?;
    if hear(read).await? != HEADER {
        return Err(LinkFailure::Nonsense);
    }
    match hear(read).await? {
        answer if answer == protocol => Ok(()),
        answer if answer == NOT_AVAILABLE => Err(LinkFailure::Unsupported {
            protocol: protocol.to_owned(),
        }),
        _ => Err(LinkFailure::Nonsense),
    }
}

/// Agrees to one protocol and to no other. False if it was not asked for.
///
/// # Errors
/// If the stream ends, or what is said is not of this protocol.
pub(super) async fn accept(
    write: &mut SendStream,
    read: &mut RecvStream,
    protocol: &str,
) -> Result<bool, LinkFailure> {
    if hear(read).await? != HEADER {
        return Err(LinkFailure::Nonsense);
    }
    let mut said = line(HEADER);
    for _ in 0..PROPOSALS_MAX {
        let agreed = hear(read).await? == protocol;
        said.extend(line(if agreed { protocol } else { NOT_AVAILABLE }));
        write.write_all(&said).await.map_err(LinkFailure::broken)?;
        said.clear();
        if agreed {
            return Ok(true);
        }
    }
    Ok(false)
}

fn line(text: &str) -> Vec<u8> {
    let len = text.len() + 1;
    debug_assert!(len <= LINE_MAX, "a longer one has a longer varint");
    [&[len as u8], text.as_bytes(), b"\n"].concat()
}

async fn hear(read: &mut RecvStream) -> Result<String, LinkFailure> {
    let mut len = [0];
    read.read_exact(&mut len)
        .await
        .map_err(LinkFailure::broken)?;
    let len = usize::from(len[0]);
    if !(1..=LINE_MAX).contains(&len) {
        return Err(LinkFailure::Nonsense);
    }
    let mut text = vec![0; len];
    read.read_exact(&mut text)
        .await
        .map_err(LinkFailure::broken)?;
    if text.pop() != Some(b'\n') {
        return Err(LinkFailure::Nonsense);
    }
    String::from_utf8(text).map_err(|_| LinkFailure::Nonsense)
}
