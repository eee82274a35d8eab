//! Bytes by hand: what an enemy writes when no library keeps it honest.
//!
//! Protobuf, multistream-select and yamux are spelled out here from their specifications, because a
//! library would refuse to say most of this. Not here: what is said to whom (`advisories`).

use std::io;

use libp2p::core::Endpoint;
use libp2p::core::transport::{DialOpts, PortUse};
use libp2p::core::upgrade::OutboundConnectionUpgrade;
use libp2p::futures::io::WriteHalf;
use libp2p::futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::multiaddr::Protocol;
use libp2p::{Stream, StreamProtocol, Transport, noise, tcp};
use libp2p_stream::OpenStreamError;
use tokio::task::JoinHandle;

use super::super::hostile::Enemy;
use super::*;
use crate::net::translate;

/// How long an enemy waits for a node that does not read, before it tries another stream.
const WRITE_PATIENCE: Duration = Duration::from_secs(2);

/// Whether a peer that is admitted can speak a protocol shows within this many tries, 20 ms apart.
const TRIES: usize = 50;

pub(super) fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push((number as u8 & 0x7f) | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// A protobuf field of bytes: a string, or a message inside a message.
pub(super) fn field(name: u64, bytes: &[u8]) -> Vec<u8> {
    [&varint(name << 3 | 2), &varint(bytes.len() as u64), bytes].concat()
}

/// A protobuf field of a number.
pub(super) fn number(name: u64, value: u64) -> Vec<u8> {
    [varint(name << 3), varint(value)].concat()
}

/// Behind its length, as gossipsub, Kademlia, identify and the relay send a message.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    [&varint(message.len() as u64), message].concat()
}

/// So many bytes that mean nothing, the same for the same number.
pub(super) fn noise_bytes(number: usize, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut source = blake3::Hasher::new();
    source.update(&number.to_be_bytes());
    source.finalize_xof().fill(&mut bytes);
    bytes
}

/// Twelve bytes of yamux: kind 0 is data, 1 a window update, 2 a ping, 3 a farewell; flag 1 is SYN.
pub(super) fn yamux(kind: u8, flags: u16, stream: u32, length: u32) -> Vec<u8> {
    let start = [0, kind];
    let [flags, stream, length] = [
        flags.to_be_bytes().to_vec(),
        stream.to_be_bytes().to_vec(),
        length.to_be_bytes().to_vec(),
    ];
    [&start[..], &flags, &stream, &length].concat()
}

/// One name as multistream-select writes it.
pub(super) fn named(name: &str) -> Vec<u8> {
    framed(format!("{name}\n").as_bytes())
}

/// A TCP connection on which nothing has been said.
pub(super) async fn wire(addr: &str) -> io::Result<tcp::tokio::TcpStream> {
    let addr: Multiaddr = addr.parse().expect("legal");
    let addr = addr
        .iter()
        .filter(|part| !matches!(part, Protocol::P2p(_)))
        .collect();
    let how = DialOpts {
        role: Endpoint::Dialer,
        port_use: PortUse::New,
    };
    tcp::tokio::Transport::default()
        .dial(addr, how)
        .expect("an address of TCP")
        .await
}

/// Says that it speaks `name`, and reads that the other does too.
async fn agree<T>(io: &mut T, name: &str) -> io::Result<()>
where
    T: libp2p::futures::AsyncRead + libp2p::futures::AsyncWrite + Unpin,
{
    let said = [named("/multistream/1.0.0"), named(name)].concat();
    io.write_all(&said).await?;
    io.flush().await?;
    let mut heard = vec![0; said.len()];
    io.read_exact(&mut heard).await?;
    match heard == said {
        true => Ok(()),
        false => Err(io::Error::other("it does not agree")),
    }
}

/// A connection under the name `secret` makes, as far as Noise: what is written next is yamux.
pub(super) async fn secured(
    addr: &str,
    secret: [u8; 32],
) -> io::Result<noise::Output<tcp::tokio::TcpStream>> {
    let mut io = wire(addr).await?;
    agree(&mut io, "/noise").await?;
    let config = noise::Config::new(&translate::keypair(secret)).map_err(io::Error::other)?;
    let (_, mut io) = config
        .upgrade_outbound(io, "/noise")
        .await
        .map_err(io::Error::other)?;
    agree(&mut io, "/yamux/1.0.0").await?;
    Ok(io)
}

/// Where an enemy finds its victim.
#[derive(Clone)]
pub(super) struct Victim {
    pub(super) key: NodeKey,
    pub(super) quic: String,
    pub(super) tcp: String,
}

/// An enemy that comes back under another name whenever it is thrown out.
pub(super) struct Attacker {
    victim: Victim,
    /// What it says for itself; a stranger says nothing.
    hello: Option<&'static [u8]>,
    /// How many names it has used, and what tells them from those of another attack.
    pub(super) names: u32,
    pub(super) run: u32,
    enemy: Option<Enemy>,
    /// It has had a stream under this name: if it gets none now, the node has heard enough of it.
    spoke: bool,
    stream: Option<(StreamProtocol, Pipe)>,
}

/// A stream whose answers are thrown away.
pub(super) struct Pipe {
    write: WriteHalf<Stream>,
    drain: JoinHandle<()>,
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.drain.abort();
    }
}

impl Pipe {
    fn new(stream: Stream) -> Self {
        let (mut read, write) = stream.split();
        let drain = tokio::spawn(async move {
            let mut answer = [0; 4096];
            while read.read(&mut answer).await.is_ok_and(|count| count > 0) {}
        });
        Self { write, drain }
    }

    /// Whether the node took the bytes.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> bool {
        let writes = async {
            self.write.write_all(bytes).await?;
            self.write.flush().await
        };
        timeout(WRITE_PATIENCE, writes)
            .await
            .is_ok_and(|written| written.is_ok())
    }
}

/// A secret that nobody else in these tests has.
pub(super) fn secret(number: u32) -> [u8; 32] {
    let parts = [number, std::process::id()].map(u32::to_be_bytes);
    *blake3::hash(parts.as_flattened()).as_bytes()
}

impl Attacker {
    pub(super) fn stranger(victim: &Victim) -> Self {
        Self {
            victim: victim.clone(),
            hello: None,
            names: 0,
            run: std::process::id(),
            enemy: None,
            spoke: false,
            stream: None,
        }
    }

    /// Admitted, and inside the region.
    pub(super) fn member(victim: &Victim) -> Self {
        Self {
            hello: Some(b"friend"),
            ..Self::stranger(victim)
        }
    }

    /// Comes in, under a new name.
    async fn meet(&mut self) -> &mut Enemy {
        self.names += 1;
        let Victim { key, quic, .. } = &self.victim;
        let enemy = Enemy::reach(secret(self.names), quic, key, self.hello).await;
        self.stream = None;
        self.spoke = false;
        self.enemy.insert(enemy)
    }

    /// A stream of its own.
    pub(super) async fn opens(&mut self, protocol: &StreamProtocol) -> Pipe {
        for tried in 0.. {
            let enemy = match &mut self.enemy {
                Some(enemy) => enemy,
                None => self.meet().await,
            };
            match enemy.open(protocol.clone()).await {
                Ok(stream) => {
                    self.spoke = true;
                    return Pipe::new(stream);
                }
                // Not attached yet.
                Err(OpenStreamError::UnsupportedProtocol(_)) if !self.spoke && tried % 10 < 9 => {
                    sleep(Duration::from_millis(20)).await;
                }
                Err(_) => self.enemy = None,
            }
            assert!(tried < TRIES, "{protocol} is not spoken with this peer");
        }
        unreachable!("it opens or it fails")
    }

    /// Whether the node speaks this protocol with it.
    pub(super) async fn is_refused(&mut self, protocol: &str) -> bool {
        let enemy = match &mut self.enemy {
            Some(enemy) => enemy,
            None => self.meet().await,
        };
        let protocol = StreamProtocol::try_from_owned(protocol.to_owned()).expect("a name");
        let opened = enemy.open(protocol).await;
        matches!(opened, Err(OpenStreamError::UnsupportedProtocol(_)))
    }

    /// Writes one frame, on the stream it has if the node still reads that.
    pub(super) async fn says(&mut self, protocol: &StreamProtocol, bytes: &[u8]) {
        // Where the frame before was the last straw, the write fails and a new stream takes it.
        for _ in 0..2 {
            let kept = self.stream.take().filter(|(name, _)| name == protocol);
            let mut pipe = match kept {
                Some((_, pipe)) => pipe,
                None => self.opens(protocol).await,
            };
            if pipe.write(bytes).await {
                self.stream = Some((protocol.clone(), pipe));
                return;
            }
        }
    }

    /// Writes one frame on a stream of its own and hangs up.
    pub(super) async fn casts(&mut self, protocol: &StreamProtocol, bytes: &[u8]) {
        let mut pipe = self.opens(protocol).await;
        if pipe.write(bytes).await {
            // Whatever the node makes of the end is its affair.
            let _ = timeout(WRITE_PATIENCE, pipe.write.close()).await;
        }
    }
}
