//! TLS as libp2p speaks it: who a peer is stands in its certificate.
//!
//! A certificate is signed by itself and made for a few connections. In an extension of it are the key of
//! the peer and that key's signature over the key of the certificate (libp2p TLS specification). Validity
//! in time says nothing about such a certificate and is not looked at: a device may not know what day it is.
//!
//! Both are read and written by hand, for the crates that do it are larger than all of this program.

use super::der::{
    self, BITS, BOOLEAN, BYTES, EXTENSIONS, INTEGER, NAME, Reader, SEQUENCE, VERSION,
};
use aquifer_protocol::identity::verify;
use aquifer_protocol::{Keys, NodeId};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use quinn::rustls::crypto::{CryptoProvider, ring, verify_tls13_signature_with_raw_key};
use quinn::rustls::pki_types::{
    CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use quinn::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use quinn::rustls::{
    self, CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig,
    SignatureScheme,
};
use std::sync::Arc;

const ALPN: &[u8] = b"libp2p";
const SIGNED_PREFIX: &[u8] = b"libp2p-tls-handshake:";
/// 1.3.6.1.4.1.53594.1.1, the extension.
const EXTENSION: [u8; 10] = [0x2b, 6, 1, 4, 1, 0x83, 0xa2, 0x5a, 1, 1];
/// 1.3.101.112, Ed25519, as the algorithm of a key and of a signature.
const ED25519: [u8; 7] = [0x30, 5, 6, 3, 0x2b, 0x65, 0x70];
/// Before a secret of Ed25519 in PKCS#8.
const PKCS8: [u8; 16] = [
    0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20,
];
/// From 1975 to 4096, as others say it.
const VALIDITY: &[u8] = b"\x30\x20\x17\x0d750101000000Z\x18\x0f40960101000000Z";
/// Before a key of Ed25519 in libp2p's protobuf.
const PROTOBUF: [u8; 4] = [8, 1, 0x12, 0x20];

/// This device, to whom it connects and to whom connects to it.
#[derive(Clone)]
pub struct Identity {
    certificate: CertificateDer<'static>,
    /// In PKCS#8.
    secret: Arc<[u8]>,
}

impl Identity {
    /// A certificate that names the device of `keys`; `secret` is the certificate's own and means nothing
    /// after it.
    pub fn new(keys: &Keys, secret: &[u8; 32]) -> Self {
        let own = Keys::from_secret(secret);
        Self {
            certificate: certificate(keys, &own).into(),
            secret: [&PKCS8[..], secret].concat().into(),
        }
    }

    /// To connect to one node and no other.
    pub(super) fn client(&self, expected: NodeId) -> QuicClientConfig {
        let tls = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider speaks it")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Named(Some(expected))))
            .with_client_auth_cert(vec![self.certificate.clone()], self.secret().into());
        let mut tls = tls.expect("the secret is the certificate's");
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.enable_sni = false;
        QuicClientConfig::try_from(tls).expect("the provider has a suite for QUIC")
    }

    /// To be connected to by any.
    pub(super) fn server(&self) -> QuicServerConfig {
        let tls = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider speaks it")
            .with_client_cert_verifier(Arc::new(Named(None)))
            .with_single_cert(vec![self.certificate.clone()], self.secret().into());
        let mut tls = tls.expect("the secret is the certificate's");
        tls.alpn_protocols = vec![ALPN.to_vec()];
        QuicServerConfig::try_from(tls).expect("the provider has a suite for QUIC")
    }

    fn secret(&self) -> PrivatePkcs8KeyDer<'static> {
        self.secret.to_vec().into()
    }
}

/// Whom a connection's certificate names: it was checked when the connection was made.
pub(super) fn peer_of(connection: &quinn::Connection) -> Option<NodeId> {
    let shown = connection.peer_identity()?;
    let shown = shown.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    Shown::read(shown.first()?).map(|shown| shown.node)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn certificate(keys: &Keys, own: &Keys) -> Vec<u8> {
    let key = der::value(
        SEQUENCE,
        &[&ED25519, &der::value(BITS, &[&[0], &own.public()])],
    );
    let signed = keys.sign(&[SIGNED_PREFIX, &key].concat());
    let named = [
        der::value(BYTES, &[&PROTOBUF, &keys.public()]),
        der::value(BYTES, &[&signed]),
    ];
    let named = der::value(SEQUENCE, &[&named[0], &named[1]]);
    let extension = [
        // Not critical: rustls itself looks at one's own certificate and knows no such extension.
        der::value(NAME, &[&EXTENSION]),
        der::value(BYTES, &[&named]),
    ];
    let extension = der::value(SEQUENCE, &[&extension.concat()]);
    let nobody = der::value(SEQUENCE, &[]);
    let serial = own.public()[..8].to_vec();
    let body = [
        der::value(VERSION, &[&der::value(INTEGER, &[&[2]])]),
        // A leading byte keeps it positive.
        der::value(INTEGER, &[&[1], &serial]),
        ED25519.to_vec(),
        nobody.clone(),
        VALIDITY.to_vec(),
        nobody,
        key,
        der::value(EXTENSIONS, &[&der::value(SEQUENCE, &[&extension])]),
    ];
    let body = der::value(SEQUENCE, &[&body.concat()]);
    let signature = der::value(BITS, &[&[0], &own.sign(&body)]);
    der::value(SEQUENCE, &[&body, &ED25519, &signature])
}

/// A certificate that names a peer which has signed it, and that has signed itself.
struct Shown<'c> {
    node: NodeId,
    /// The key of the certificate, with its algorithm.
    key: &'c [u8],
}

impl<'c> Shown<'c> {
    /// Reads and checks a certificate. A stranger may have made the bytes.
    fn read(bytes: &'c [u8]) -> Option<Self> {
        let mut outer = Reader(bytes);
        let mut outside = Reader(outer.expect(SEQUENCE)?.content);
        let body = outside.expect(SEQUENCE)?;
        let algorithm = outside.expect(SEQUENCE)?;
        let signature = outside.expect(BITS)?.content.strip_prefix(&[0])?;
        if !outer.0.is_empty() || !outside.0.is_empty() {
            return None;
        }
        let mut inside = Reader(body.content);
        inside.expect(VERSION)?;
        inside.expect(INTEGER)?;
        // Algorithm, issuer, validity, subject.
        for _ in 0..4 {
            inside.expect(SEQUENCE)?;
        }
        let key = inside.expect(SEQUENCE)?;
        let node = named(inside.expect(EXTENSIONS)?.content, key.whole)?;
        let own = has_signed(key.content, algorithm.content, body.whole, signature);
        own.then_some(Self {
            node,
            key: key.whole,
        })
    }
}

/// The peer that the extensions name, if it has signed the certificate's key. No other may be critical.
fn named(extensions: &[u8], key: &[u8]) -> Option<NodeId> {
    let mut all = Reader(Reader(extensions).expect(SEQUENCE)?.content);
    let mut found = None;
    while let Some(extension) = all.next() {
        let mut parts = Reader(extension.content);
        let name = parts.expect(NAME)?.content;
        let mut part = parts.next()?;
        let critical = part.tag == BOOLEAN && part.content != [0];
        if part.tag == BOOLEAN {
            part = parts.next()?;
        }
        match name == EXTENSION {
            true if found.is_none() && part.tag == BYTES => found = Some(part.content),
            true => return None,
            false if critical => return None,
            false => {}
        }
    }
    let mut parts = Reader(Reader(found?).expect(SEQUENCE)?.content);
    let peer = parts.expect(BYTES)?.content.strip_prefix(&PROTOBUF)?;
    let peer: [u8; 32] = peer.try_into().ok()?;
    let signature = parts.expect(BYTES)?.content.try_into().ok()?;
    verify(&peer, &[SIGNED_PREFIX, key].concat(), &signature).then_some(NodeId(peer))
}

/// Whether the certificate's key has signed its body, by any algorithm that the provider knows.
fn has_signed(key: &[u8], algorithm: &[u8], body: &[u8], signature: &[u8]) -> bool {
    let mut parts = Reader(key);
    let (Some(kind), Some(bits)) = (parts.expect(SEQUENCE), parts.expect(BITS)) else {
        return false;
    };
    let Some(bits) = bits.content.strip_prefix(&[0]) else {
        return false;
    };
    let known = provider().signature_verification_algorithms.all;
    known.iter().any(|one| {
        one.public_key_alg_id().as_ref() == kind.content
            && one.signature_alg_id().as_ref() == algorithm
            && one.verify_signature(bits, body, signature).is_ok()
    })
}

/// Takes a peer for whom its certificate names: this one, if one is expected.
#[derive(Debug)]
struct Named(Option<NodeId>);

impl Named {
    fn check(&self, shown: &CertificateDer<'_>, others: usize) -> Result<(), rustls::Error> {
        let bad = rustls::Error::InvalidCertificate(CertificateError::BadEncoding);
        let peer = Shown::read(shown).filter(|_| others == 0).ok_or(bad)?.node;
        match self.0.is_none_or(|expected| expected == peer) {
            true => Ok(()),
            false => Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName,
            )),
        }
    }

    fn signed(
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let bad = rustls::Error::InvalidCertificate(CertificateError::BadEncoding);
        let key = SubjectPublicKeyInfoDer::from(Shown::read(shown).ok_or(bad)?.key);
        let known = provider().signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &key, signed, &known)
    }

    fn schemes() -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(shown, others.len())?;
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
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Self::signed(message, shown, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::schemes()
    }
}

impl ClientCertVerifier for Named {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(shown, others.len())?;
        Ok(ClientCertVerified::assertion())
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
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Self::signed(message, shown, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_names_who_signed_it_and_every_flipped_bit_closes_it() {
        let (keys, own) = (Keys::from_secret(&[1; 32]), Keys::from_secret(&[2; 32]));
        let good = certificate(&keys, &own);
        let shown = Shown::read(&good).expect("good");
        assert_eq!(keys.node(), shown.node);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Shown::read(&bad).is_none(), "bit {bit}");
        }
        for cut in 0..good.len() {
            assert!(Shown::read(&good[..cut]).is_none(), "{cut}");
        }
        assert!(Shown::read(&[&good[..], &[0]].concat()).is_none());
    }

    #[test]
    fn one_node_is_expected_and_no_other_is_taken_for_it() {
        let (keys, own) = (Keys::from_secret(&[1; 32]), Keys::from_secret(&[2; 32]));
        let shown = CertificateDer::from(certificate(&keys, &own));
        assert!(Named(Some(keys.node())).check(&shown, 0).is_ok());
        assert!(Named(None).check(&shown, 0).is_ok());
        assert!(Named(Some(own.node())).check(&shown, 0).is_err());
        assert!(Named(None).check(&shown, 1).is_err(), "a chain");
    }
}
