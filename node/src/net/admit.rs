//! `/aquifer/admit/1`: the one protocol a stranger may speak.
//!
//! One request and one response per stream, each a 4-byte big-endian length and that many bytes,
//! at most 16 KiB. The bytes are opaque here: a hello, or the redemption of an invite; the node's
//! `Judge` reads them. A longer length is an error before anything is allocated, because stock
//! codecs cut long input silently and then misread it.

use std::io;
use std::time::Duration;

use libp2p::StreamProtocol;
use libp2p::futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::request_response::{self, Codec, ProtocolSupport};

/// The protocol's name on the wire.
pub(super) const ADMIT_PROTOCOL: StreamProtocol = StreamProtocol::new("/aquifer/admit/1");

/// Longest request and longest response, bytes.
pub const ADMIT_BYTES_MAX: usize = 16 * 1024;

/// How long a request may take, from its first byte to the end of its answer.
const ADMIT_TIMEOUT: Duration = Duration::from_secs(5);

/// Requests being answered or awaited at one time on one connection.
const ADMIT_STREAMS_MAX: usize = 8;

/// The admission exchange as a behaviour.
pub(super) type Behaviour = request_response::Behaviour<AdmitCodec>;

/// Its events: requests, responses and failures, all in raw bytes.
pub(super) type Event = request_response::Event<Vec<u8>, Vec<u8>>;

/// A behaviour that asks and answers, with the limits above.
pub(super) fn behaviour() -> Behaviour {
    let config = request_response::Config::default()
        .with_request_timeout(ADMIT_TIMEOUT)
        .with_max_concurrent_streams(ADMIT_STREAMS_MAX);
    request_response::Behaviour::new([(ADMIT_PROTOCOL, ProtocolSupport::Full)], config)
}

/// Length-prefixed bytes, both ways.
#[derive(Clone, Default)]
pub(super) struct AdmitCodec;

impl Codec for AdmitCodec {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read_bounded(io).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read_bounded(io).await
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write_bounded(io, &request).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        response: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write_bounded(io, &response).await
    }
}

async fn read_bounded<T: AsyncRead + Unpin + Send>(io: &mut T) -> io::Result<Vec<u8>> {
    let mut prefix = [0; 4];
    io.read_exact(&mut prefix).await?;
    let length = u32::from_be_bytes(prefix) as usize;
    if length > ADMIT_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "admission message too long",
        ));
    }
    let mut bytes = vec![0; length];
    io.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn write_bounded<T: AsyncWrite + Unpin + Send>(io: &mut T, bytes: &[u8]) -> io::Result<()> {
    if bytes.len() > ADMIT_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "admission message too long",
        ));
    }
    let length = u32::try_from(bytes.len()).expect("checked above");
    io.write_all(&length.to_be_bytes()).await?;
    io.write_all(bytes).await?;
    io.flush().await
}

#[cfg(test)]
mod tests {
    use libp2p::futures::io::Cursor;

    use super::*;

    #[tokio::test]
    async fn the_longest_message_passes_and_one_byte_more_does_not() {
        let longest = vec![5; ADMIT_BYTES_MAX];
        let mut wire = Cursor::new(Vec::new());
        write_bounded(&mut wire, &longest)
            .await
            .expect("the longest legal message");
        wire.set_position(0);
        assert_eq!(longest, read_bounded(&mut wire).await.expect("reads back"));

        let error = write_bounded(&mut wire, &vec![5; ADMIT_BYTES_MAX + 1])
            .await
            .expect_err("refused");
        assert_eq!(io::ErrorKind::InvalidInput, error.kind());
    }

    #[tokio::test]
    async fn a_lying_length_is_refused_before_anything_is_allocated() {
        for claimed in [u32::MAX, 16 * 1024 + 1] {
            let mut wire = Cursor::new(claimed.to_be_bytes().to_vec());
            let error = read_bounded(&mut wire).await.expect_err("refused");
            assert_eq!(io::ErrorKind::InvalidData, error.kind());
        }
    }

    #[tokio::test]
    async fn a_message_cut_short_is_an_error() {
        let mut wire = Cursor::new([&9u32.to_be_bytes()[..], b"short"].concat());
        let error = read_bounded(&mut wire).await.expect_err("refused");
        assert_eq!(io::ErrorKind::UnexpectedEof, error.kind());
    }
}
