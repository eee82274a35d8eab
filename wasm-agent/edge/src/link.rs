//! The link: one QUIC connection to a node of the hive, or to another device.
//!
//! It is what libp2p makes of QUIC, so a node's ordinary listener takes it: TLS in which certificates name
//! peers (`tls`), a protocol agreed on for each stream (`select`), and then one request and one reply, each
//! behind its length in four bytes. The other end may open streams too: it shows its certificate as every
//! node does, and is answered; whatever else it proposes is not available here.
//!
//! Not here: what is said (`gateway`, `carry`), when (`radio`).

mod address;
mod der;
mod select;
mod tls;

use aquifer_protocol::admit::{Answer, Request};
use aquifer_protocol::{Chain, HiveId, NodeId};
use quinn::{Connection, Endpoint, RecvStream, SendStream, TransportConfig, VarInt};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

pub use address::parse as parse_address;
pub use tls::Identity;

/// The protocol by which nodes and devices admit each other.
pub const ADMIT: &str = "/aquifer/admit/1";
/// The protocol of devices.
pub const EDGE: &str = "/aquifer/edge/1";

/// Longest message of admission, bytes.
pub const ADMIT_BYTES_MAX: usize = 16 * 1024;

/// How long it may take to connect.
const CONNECT_PATIENCE: Duration = Duration::from_secs(8);
/// How long a request may take, from its first byte to the end of its reply.
const EXCHANGE_PATIENCE: Duration = Duration::from_secs(60);
/// A connection that is silent for so long has ended.
const IDLE: Duration = Duration::from_secs(15);
/// Streams that the other end may have open.
const STREAMS_MAX: u32 = 8;
/// What one stream and what all may send unread, in bytes.
const WINDOW: u32 = 256 * 1024;

/// Why nothing came of a connection or of a request.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LinkFailure {
    /// No socket.
    #[error("no socket for the link: {why}")]
    Socket {
        /// What the system says.
        why: String,
    },
    /// Nobody answers there, or somebody else does.
    #[error("cannot connect to {addr}: {why}")]
    Connect {
        /// Where.
        addr: String,
        /// Why not.
        why: String,
    },
    /// The other end does not speak it: it has not admitted this device, or is of another version.
    #[error("it does not speak {protocol} with this device")]
    Unsupported {
        /// What.
        protocol: String,
    },
    /// It ended in the middle.
    #[error("the connection broke off: {why}")]
    Broken {
        /// Why.
        why: String,
    },
    /// It took too long.
    #[error("no answer in time")]
    Late,
    /// What came is not what the protocol says.
    #[error("the other end talks nonsense")]
    Nonsense,
    /// The other end is overloaded.
    #[error("the other end is overloaded")]
    Busy,
}

impl LinkFailure {
    fn broken(why: impl std::fmt::Display) -> Self {
        Self::Broken {
            why: why.to_string(),
        }
    }
}

/// Whom this device answers on a link, and what it belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// The hive.
    pub hive: HiveId,
    /// The node at the other end.
    pub node: NodeId,
}

/// A connection.
#[derive(Debug)]
pub struct Link {
    endpoint: Endpoint,
    connection: Connection,
}

impl Link {
    /// Connects to the expected node at `address`.
    ///
    /// # Errors
    /// [`LinkFailure`].
    pub async fn connect(
        identity: &Identity,
        address: SocketAddr,
        expected: Expected,
    ) -> Result<Self, LinkFailure> {
        let failed = |why: String| LinkFailure::Connect {
            addr: address.to_string(),
            why,
        };
        let any: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let endpoint = Endpoint::client((any, 0).into()).map_err(|why| LinkFailure::Socket {
            why: why.to_string(),
        })?;
        let mut config = quinn::ClientConfig::new(Arc::new(identity.client(expected.node)));
        config.transport_config(Arc::new(transport()));
        // libp2p looks at keys and not at names.
        let connecting = endpoint.connect_with(config, address, "l");
        let connecting = connecting.map_err(|why| failed(why.to_string()))?;
        let connection = match timeout(CONNECT_PATIENCE, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(why)) => return Err(failed(why.to_string())),
            Err(_) => return Err(failed("no answer".to_owned())),
        };
        tokio::spawn(answer_streams(connection.clone(), expected));
        Ok(Self {
            endpoint,
            connection,
        })
    }

    /// Says one thing and hears one.
    ///
    /// # Errors
    /// [`LinkFailure`]. Whether the other end did something about it is not known then.
    pub async fn exchange(
        &self,
        protocol: &str,
        request: &[u8],
        most: usize,
    ) -> Result<Vec<u8>, LinkFailure> {
        let exchange = async {
            let streams = self.connection.open_bi().await;
            let (mut write, mut read) = streams.map_err(LinkFailure::broken)?;
            select::propose(&mut write, &mut read, protocol).await?;
            write_frame(&mut write, request).await?;
            read_frame(&mut read, most).await
        };
        let reply = timeout(EXCHANGE_PATIENCE, exchange).await;
        reply.map_err(|_| LinkFailure::Late)?
    }

    /// Whether it still stands.
    pub fn is_up(&self) -> bool {
        self.connection.close_reason().is_none()
    }

    /// Bytes sent and received, headers of UDP not among them.
    pub fn bytes(&self) -> (u64, u64) {
        let stats = self.connection.stats();
        (stats.udp_tx.bytes, stats.udp_rx.bytes)
    }

    /// Ends it, and tells the other end.
    pub async fn close(self) {
        self.connection.close(VarInt::from_u32(0), b"");
        // One that does not drain in time is cut.
        let _ = timeout(Duration::from_secs(1), self.endpoint.wait_idle()).await;
    }
}

/// A device to which others connect, until it is dropped.
pub(crate) struct Listener {
    endpoint: Endpoint,
}

/// One request of another device.
pub(crate) struct Asked {
    /// Who asks, as its certificate says.
    pub(crate) from: NodeId,
    /// What.
    pub(crate) request: Vec<u8>,
    write: SendStream,
}

impl Listener {
    /// Listens on a port of this address.
    ///
    /// # Errors
    /// [`LinkFailure::Socket`].
    pub(crate) fn bind(identity: &Identity, at: SocketAddr) -> Result<Self, LinkFailure> {
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(identity.server()));
        config.transport_config(Arc::new(transport()));
        config.max_incoming(16).migration(false);
        let endpoint = Endpoint::server(config, at).map_err(|why| LinkFailure::Socket {
            why: why.to_string(),
        })?;
        Ok(Self { endpoint })
    }

    /// The port.
    pub(crate) fn port(&self) -> u16 {
        self.endpoint.local_addr().map_or(0, |addr| addr.port())
    }

    /// The next connection, if the endpoint still stands.
    pub(crate) async fn next(&self) -> Option<Incoming> {
        Some(Incoming(self.endpoint.accept().await?))
    }
}

/// Another device that connects.
pub(crate) struct Incoming(quinn::Incoming);

impl Incoming {
    /// Its one request for `protocol`.
    ///
    /// # Errors
    /// [`LinkFailure`].
    pub(crate) async fn request(self, protocol: &str, most: usize) -> Result<Asked, LinkFailure> {
        let ask = async {
            let connection = self.0.await.map_err(LinkFailure::broken)?;
            let from = tls::peer_of(&connection).ok_or(LinkFailure::Nonsense)?;
            let streams = connection.accept_bi().await;
            let (mut write, mut read) = streams.map_err(LinkFailure::broken)?;
            if !select::accept(&mut write, &mut read, protocol).await? {
                return Err(LinkFailure::Nonsense);
            }
            let request = read_frame(&mut read, most).await?;
            Ok(Asked {
                from,
                request,
                write,
            })
        };
        timeout(CONNECT_PATIENCE, ask)
            .await
            .map_err(|_| LinkFailure::Late)?
    }
}

impl Asked {
    /// Replies, and waits until the reply has arrived.
    ///
    /// # Errors
    /// [`LinkFailure`].
    pub(crate) async fn reply(mut self, reply: &[u8]) -> Result<(), LinkFailure> {
        write_frame(&mut self.write, reply).await?;
        let arrives = timeout(CONNECT_PATIENCE, self.write.stopped()).await;
        arrives
            .map_err(|_| LinkFailure::Late)?
            .map_err(LinkFailure::broken)?;
        Ok(())
    }
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    let idle = IDLE.try_into().expect("short");
    transport
        .max_idle_timeout(Some(idle))
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(WINDOW))
        .receive_window(VarInt::from_u32(WINDOW))
        .send_window(u64::from(WINDOW));
    transport
}

/// Answers the streams that the other end opens, until the connection ends.
async fn answer_streams(connection: Connection, expected: Expected) {
    while let Ok((write, read)) = connection.accept_bi().await {
        // A node asks for its ping, its sync and more on several streams at once.
        tokio::spawn(async move {
            // What goes wrong on a stream of the other end is its own concern.
            let _ = timeout(IDLE, answer_stream(write, read, expected)).await;
        });
    }
}

async fn answer_stream(
    mut write: SendStream,
    mut read: RecvStream,
    expected: Expected,
) -> Result<(), LinkFailure> {
    if !select::accept(&mut write, &mut read, ADMIT).await? {
        return Ok(());
    }
    let request = read_frame(&mut read, ADMIT_BYTES_MAX).await?;
    write_frame(&mut write, &judge(&request, expected).to_bytes()).await
}

/// Whether the other end is the member that it should be. Its certificate's time is not looked at: this
/// device may not know what day it is, and the key is the one that its ticket names.
fn judge(request: &[u8], expected: Expected) -> Answer {
    let refuse = |code: &str, why: String| Answer::Refused(code.to_owned(), why);
    let Ok(Request::Hello(chain)) = minicbor::decode(request) else {
        return refuse(
            "malformed",
            "a device takes hellos and nothing else".to_owned(),
        );
    };
    match Chain::open(&chain, &expected.hive) {
        Ok(member) if member.node() == expected.node => Answer::Welcome,
        Ok(_) => refuse("not_yours", "the certificate is another node's".to_owned()),
        Err(why) => refuse("bad_chain", why.to_string()),
    }
}

async fn write_frame(write: &mut SendStream, bytes: &[u8]) -> Result<(), LinkFailure> {
    let len = u32::try_from(bytes.len()).map_err(|_| LinkFailure::Nonsense)?;
    let written = async {
        write.write_all(&len.to_be_bytes()).await?;
        write.write_all(bytes).await
    };
    written.await.map_err(LinkFailure::broken)?;
    write.finish().map_err(LinkFailure::broken)
}

/// A frame of at most `most` bytes. None at all say that the other end is overloaded.
async fn read_frame(read: &mut RecvStream, most: usize) -> Result<Vec<u8>, LinkFailure> {
    let mut len = [0; 4];
    read.read_exact(&mut len)
        .await
        .map_err(LinkFailure::broken)?;
    let len = u32::from_be_bytes(len) as usize;
    if len > most {
        return Err(LinkFailure::Nonsense);
    }
    let mut bytes = vec![0; len];
    read.read_exact(&mut bytes)
        .await
        .map_err(LinkFailure::broken)?;
    match bytes.is_empty() {
        true => Err(LinkFailure::Busy),
        false => Ok(bytes),
    }
}
