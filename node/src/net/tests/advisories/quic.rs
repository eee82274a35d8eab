//! What comes by UDP before there is a connection: datagrams that are no handshake, and handshakes
//! whose certificate is no good.
//!
//! A certificate is made by hand after the TLS specification of libp2p: self-signed, and in it the key
//! of the peer and that key's signature over the key of the certificate.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::SystemTime;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::rustls::client::ResolvesClientCert;
use quinn::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use quinn::rustls::crypto::aws_lc_rs;
use quinn::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use quinn::rustls::sign::CertifiedKey;
use quinn::rustls::{self, ClientConfig, DigitallySignedStruct, SignatureScheme};
use rcgen::{CertificateParams, CustomExtension, KeyPair, date_time_ymd};
use tokio::net::UdpSocket;

use super::raw::{Victim, named, noise_bytes, secret};
use super::strangers::abreast;
use super::*;
use crate::net::translate;

/// Where the victim takes datagrams.
fn place(victim: &Victim) -> SocketAddr {
    let addr: Multiaddr = victim.quic.parse().expect("legal");
    let port = addr.iter().find_map(|part| match part {
        libp2p::multiaddr::Protocol::Udp(port) => Some(port),
        _ => None,
    });
    (Ipv4Addr::LOCALHOST, port.expect("QUIC is over UDP")).into()
}

/// What looks like a first datagram: a long header, ids of 8 bytes, no token, and noise.
fn initial(version: u32, number: usize, length: usize) -> Vec<u8> {
    let head = [&[0xc3], &version.to_be_bytes()[..], &[8]].concat();
    let ids = [noise_bytes(number, 8), vec![8], noise_bytes(number + 1, 8)].concat();
    [head, ids, vec![0, 0x44, 0x96], noise_bytes(number, length)].concat()
}

/// Else a stranger who sends datagrams fills the log, and keeps the node busy with it.
#[tokio::test]
async fn what_fails_on_the_wire_is_counted_each_time_and_told_once() {
    let mut node = Side::friend(1, QUIC, &[]).await;
    let victim = Victim {
        key: node.key,
        quic: node.addr.clone(),
        tcp: String::new(),
    };
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    for number in 0.. {
        let sent = socket
            .send_to(&initial(1, number, 1_174), place(&victim))
            .await;
        sent.expect("sent");
        if node.snapshot().await.incoming_failed >= 20 {
            break;
        }
    }
    let accept = |event| matches!(event, NetEvent::Trouble(Trouble::Accept { .. }));
    let mut told = 0;
    while let Ok(event) = node.events.try_recv() {
        told += u32::from(accept(event));
    }
    assert_eq!(1, told);
}

/// What looks like a first datagram, and what does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_that_are_no_handshake_harm_nobody() {
    let class = Class::new("QUIC: garbage, by strangers", Some(FRAMES_RATE));
    endures(class, |victim, mut flood| async move {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        while let Some(frame) = flood.next().await {
            let bytes = match frame % 5 {
                0 => noise_bytes(frame, 1 + frame % 1_400),
                1 => initial(1, frame, 1_174),
                2 => initial(1, frame, frame % 200),
                // A version that does not exist calls for an answer.
                3 => initial(0xbaba_baba, frame, 1_180),
                // A short header, for a connection that is none.
                _ => [vec![0x43], noise_bytes(frame, 60)].concat(),
            };
            let sent = socket.send_to(&bytes, place(&victim)).await;
            sent.expect("sent");
            if frame % 16 == 0 {
                tokio::task::yield_now().await;
            }
        }
        flood.sent()
    })
    .await;
}

/// GHSA-5hq8-qhww-jm7q: a certificate that is found to be bad only when the handshake is over, for it
/// expires that very second. And all that is wrong with others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_with_a_bad_certificate_harm_nobody() {
    let class = Class::new("QUIC: bad certificates, by strangers", Some(CONNECTS_RATE));
    let ended = endures(class, |victim, flood| async move {
        let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().expect("legal"));
        let endpoint = endpoint.expect("a port");
        let place = place(&victim);
        assert!(
            is_let_in(&endpoint, place).await,
            "with a good one it comes in"
        );
        abreast(flood, move |frame| knock(endpoint.clone(), place, frame)).await
    })
    .await;
    if let Some((_, state)) = ended {
        assert!(state.incoming_failed > 0, "they were seen to be bad");
    }
}

/// Whether the node speaks with whom a good certificate names.
async fn is_let_in(endpoint: &quinn::Endpoint, place: SocketAddr) -> bool {
    let config = config(Some(shown(0, Flaw::None)));
    let connecting = endpoint.connect_with(config, place, "node");
    let connection = connecting.expect("legal").await.expect("a handshake");
    let (mut write, mut read) = connection.open_bi().await.expect("a stream");
    let hello = named("/multistream/1.0.0");
    write.write_all(&hello).await.expect("sent");
    let mut heard = vec![0; hello.len()];
    let reads = timeout(PATIENCE, read.read_exact(&mut heard));
    reads.await.expect("no hang").is_ok() && heard == hello
}

/// One handshake, with a certificate that is no good or with none.
async fn knock(endpoint: quinn::Endpoint, place: SocketAddr, frame: usize) {
    let flaw = match frame % 7 {
        0 => Flaw::Nameless,
        1 => Flaw::Garbled,
        2 => Flaw::Forged,
        3 => Flaw::Expired,
        4 => Flaw::Expiring,
        5 => Flaw::NoCertificate,
        _ => return shows(&endpoint, place, None).await,
    };
    shows(&endpoint, place, Some(shown(frame, flaw))).await;
}

async fn shows(endpoint: &quinn::Endpoint, place: SocketAddr, shown: Option<CertifiedKey>) {
    let connecting = endpoint.connect_with(config(shown), place, "node");
    let handshake = async {
        if let Ok(connection) = connecting.expect("legal").await {
            connection.closed().await;
        }
    };
    let _ = timeout(Duration::from_secs(1), handshake).await;
}

/// What is wrong with a certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    /// It names no peer.
    Nameless,
    /// Where it should name one there is noise.
    Garbled,
    /// It names one that has not signed.
    Forged,
    Expired,
    /// Good until the end of this second.
    Expiring,
    /// It is noise.
    NoCertificate,
}

/// A certificate with one flaw, and its key.
fn shown(number: usize, flaw: Flaw) -> CertifiedKey {
    const NAMES_PEER: [u64; 9] = [1, 3, 6, 1, 4, 1, 53594, 1, 1];
    let pair = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.not_after = match flaw {
        Flaw::Expired => date_time_ymd(1976, 1, 1),
        Flaw::Expiring => {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            date_time_ymd(1970, 1, 1) + Duration::from_secs(now.expect("later").as_secs())
        }
        _ => params.not_after,
    };
    let peer = translate::keypair(secret(u32::try_from(number).expect("small")));
    let signed = [&b"libp2p-tls-handshake:"[..], &pair.public_key_der()].concat();
    let signature = match flaw {
        Flaw::Forged => noise_bytes(number, 64),
        _ => peer.sign(&signed).expect("a key"),
    };
    // A sequence of two strings of bytes.
    let string = |bytes: &[u8]| [&[4, bytes.len() as u8], bytes].concat();
    let named = [string(&peer.public().encode_protobuf()), string(&signature)].concat();
    let named = match flaw {
        Flaw::Garbled => noise_bytes(number, 104),
        _ => [&[0x30, named.len() as u8], &named[..]].concat(),
    };
    if flaw != Flaw::Nameless {
        let extension = CustomExtension::from_oid_content(&NAMES_PEER, named);
        params.custom_extensions.push(extension);
    }
    let certificate = match flaw {
        Flaw::NoCertificate => CertificateDer::from(noise_bytes(number, 300)),
        _ => params.self_signed(&pair).expect("legal").into(),
    };
    let key = PrivatePkcs8KeyDer::from(pair.serialize_der()).into();
    let key = aws_lc_rs::sign::any_ecdsa_type(&key).expect("a key");
    CertifiedKey::new(vec![certificate], key)
}

/// A client that shows this, or nothing, and asks nothing.
fn config(shown: Option<CertifiedKey>) -> quinn::ClientConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("it speaks it")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting));
    let mut tls = match shown {
        Some(shown) => builder.with_client_cert_resolver(Arc::new(Shows(Arc::new(shown)))),
        None => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![b"libp2p".to_vec()];
    tls.enable_sni = false;
    let tls = QuicClientConfig::try_from(tls).expect("a suite for QUIC");
    quinn::ClientConfig::new(Arc::new(tls))
}

/// Shows what it has, whatever it is.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Takes anyone for a server.
#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::HandshakeNotComplete)
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
