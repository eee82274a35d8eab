//! Names: our 32-byte node key and libp2p's `PeerId` are two views of one Ed25519 public key.
//!
//! This is the only place that converts between them. A libp2p peer id of an Ed25519 key is the
//! key itself behind a fixed prefix (an identity multihash of its protobuf form, see the libp2p
//! peer-id specification), so the conversion is exact in both directions and needs no table.
//! What a key may do is decided elsewhere.

use libp2p::identity::{Keypair, PublicKey, ed25519};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use super::NodeKey;

/// Code of the identity multihash: the digest is the encoded key itself.
const IDENTITY_MULTIHASH: u64 = 0x00;

/// The transport identity made from a 32-byte Ed25519 seed.
pub(super) fn keypair(seed: [u8; 32]) -> Keypair {
    let mut seed = seed;
    Keypair::ed25519_from_bytes(&mut seed).expect("any 32 bytes are an Ed25519 seed")
}

/// The node key inside a peer id; `None` for a peer whose identity is not Ed25519.
pub(super) fn key_of(peer: &PeerId) -> Option<NodeKey> {
    let hash = peer.as_ref();
    if hash.code() != IDENTITY_MULTIHASH {
        return None;
    }
    let key = PublicKey::try_decode_protobuf(hash.digest()).ok()?;
    Some(key.try_into_ed25519().ok()?.to_bytes())
}

/// The peer id of a node key; `None` where the 32 bytes are no point of the curve.
pub(super) fn peer_of(key: &NodeKey) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(key).ok()?;
    Some(PeerId::from_public_key(&PublicKey::from(key)))
}

/// The peer an address names in its last `/p2p` part, if it names one.
pub(super) fn peer_in(addr: &Multiaddr) -> Option<PeerId> {
    match addr.iter().last()? {
        Protocol::P2p(peer) => Some(peer),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_key_and_a_peer_id_are_the_same_name() {
        let pair = keypair([7; 32]);
        let peer = pair.public().to_peer_id();
        let key = key_of(&peer).expect("an Ed25519 identity");
        assert_eq!(Some(peer), peer_of(&key));
        assert_eq!(
            key,
            pair.public()
                .try_into_ed25519()
                .expect("ed25519")
                .to_bytes()
        );
    }

    #[test]
    fn a_hashed_identity_has_no_node_key() {
        let sha = libp2p::multihash::Multihash::<64>::wrap(0x12, &[1; 32]).expect("fits");
        let peer = PeerId::from_multihash(sha).expect("a legal peer id");
        assert_eq!(None, key_of(&peer));
    }

    #[test]
    fn the_peer_is_read_from_the_end_of_an_address() {
        let peer = keypair([9; 32]).public().to_peer_id();
        let bare: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().expect("legal");
        assert_eq!(None, peer_in(&bare));
        assert_eq!(
            Some(peer),
            peer_in(&bare.with_p2p(peer).expect("no peer yet"))
        );
    }
}
