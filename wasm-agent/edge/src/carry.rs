//! Carrying: a device with a gateway hands over the parcels of one without.
//!
//! The parcel is signed by who made it and addressed to the gateway, and the gateway's receipt is signed
//! too; so the carrier can neither change a parcel, nor say that it arrived if it did not. It passes
//! through the carrier's memory and rests nowhere: who cannot hand it over at once says so. One carries for
//! devices of its own region only, so nothing goes where it was not.
//!
//! Not here: who may be asked (`neighbours`), when (`run`).

use crate::link::{Asked, Expected, Identity, Link, LinkFailure, Listener};
use aquifer_protocol::{Chain, HiveId, NodeId, Region};
use aquifer_wasm::uplink::{Reply, WORD_BYTES_MAX, Word};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

/// The protocol between two devices.
const CARRY: &str = "/aquifer/carry/1";

/// Parcels that may wait here for the gateway.
pub const ERRANDS_MAX: usize = 4;

/// Devices that are served at once.
const SERVED_MAX: usize = 8;

/// How long one may wait for its turn.
const PATIENCE: Duration = Duration::from_secs(20);

/// A word to carry to the gateway, and where the reply goes.
pub struct Errand {
    /// What to say: a parcel and its maker's certificates.
    pub word: Word,
    /// What the gateway replied. Dropped, it says that nothing could be carried.
    pub reply: oneshot::Sender<Reply>,
}

/// What this device carries, and for whom.
#[derive(Clone, Debug)]
pub struct Carrier {
    /// Members of this hive,
    pub hive: HiveId,
    /// in this region.
    pub region: Region,
}

/// Takes parcels of other devices from now on. Returns the port on which it does.
///
/// # Errors
/// If there is no socket.
pub fn carries(
    identity: &Identity,
    at: SocketAddr,
    carrier: Carrier,
    errands: mpsc::Sender<Errand>,
) -> Result<u16, LinkFailure> {
    let listener = Listener::bind(identity, at)?;
    let port = listener.port();
    let places = Arc::new(Semaphore::new(SERVED_MAX));
    tokio::spawn(async move {
        while let Some(incoming) = listener.next().await {
            // Whoever finds no place is refused by being dropped.
            let Ok(place) = places.clone().try_acquire_owned() else {
                continue;
            };
            let (carrier, errands) = (carrier.clone(), errands.clone());
            tokio::spawn(async move {
                let _place = place;
                // What goes wrong with one device is no concern of the others.
                if let Ok(asked) = incoming.request(CARRY, WORD_BYTES_MAX).await {
                    let _ = carrier.serve(asked, &errands).await;
                }
            });
        }
    });
    Ok(port)
}

/// Hands a word to a neighbour and hears what the gateway replied, if it did.
///
/// # Errors
/// [`LinkFailure`].
pub async fn hand_over(
    identity: Identity,
    to: (NodeId, SocketAddr),
    hive: HiveId,
    word: Word,
) -> Result<Reply, LinkFailure> {
    let (node, address) = to;
    let link = Link::connect(&identity, address, Expected { hive, node }).await?;
    let reply = link.exchange(CARRY, &word.to_bytes(), WORD_BYTES_MAX).await;
    link.close().await;
    Reply::open(&reply?).map_err(|_| LinkFailure::Nonsense)
}

impl Carrier {
    async fn serve(&self, asked: Asked, errands: &mpsc::Sender<Errand>) -> Result<(), LinkFailure> {
        let reply = match self.judge(asked.from, &asked.request) {
            Ok(word) => self.errand(word, errands).await,
            Err(why) => Reply::Refused("not_carried".to_owned(), why.to_owned()),
        };
        asked.reply(&reply.to_bytes()).await
    }

    /// The word, if it is a parcel of the device that asks, and this one carries for that.
    fn judge(&self, from: NodeId, request: &[u8]) -> Result<Word, &'static str> {
        let word = Word::open(request).map_err(|_| "the word is malformed")?;
        let Word::Up { chain, .. } = &word else {
            return Err("parcels are carried and nothing else");
        };
        let maker = Chain::open(chain, &self.hive).map_err(|_| "its maker is no member")?;
        match maker.node() == from && *maker.region() == self.region {
            true => Ok(word),
            false => Err("one's own parcels are carried, within one region"),
        }
    }

    async fn errand(&self, word: Word, errands: &mpsc::Sender<Errand>) -> Reply {
        let (reply, answer) = oneshot::channel();
        let later = || Reply::Later("no gateway is near just now".to_owned());
        if errands.try_send(Errand { word, reply }).is_err() {
            return later();
        }
        match timeout(PATIENCE, answer).await {
            Ok(Ok(reply)) => reply,
            _ => later(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::beat::tests::member;
    use aquifer_protocol::Keys;
    use std::net::Ipv4Addr;

    fn keys(n: u8) -> Keys {
        Keys::from_secret(&[n; 32])
    }

    fn word(of: &Keys, region: &str) -> Word {
        Word::Up {
            chain: member(&keys(1), of, region).chain().to_vec().into(),
            parcel: vec![1, 2, 3].into(),
            manifest: vec![].into(),
        }
    }

    /// Two devices over real QUIC: what one hands over comes to the other's errands, and the reply goes back.
    #[tokio::test]
    async fn a_parcel_goes_over_and_the_reply_comes_back() {
        let hive = HiveId(keys(1).public());
        let carrier = Carrier {
            hive,
            region: "eu".parse().expect("legal"),
        };
        let (errands, mut todo) = mpsc::channel(1);
        let theirs = Identity::new(&keys(2), &[22; 32]);
        let at = (Ipv4Addr::LOCALHOST, 0).into();
        let port = carries(&theirs, at, carrier, errands).expect("a port");
        let to = (keys(2).node(), (Ipv4Addr::LOCALHOST, port).into());
        let mine = Identity::new(&keys(3), &[33; 32]);
        let served = tokio::spawn(async move {
            let errand = todo.recv().await.expect("one comes");
            let said = errand.word;
            errand
                .reply
                .send(Reply::Taken(vec![9].into()))
                .expect("it waits");
            (said, todo)
        });
        let reply = hand_over(mine.clone(), to, hive, word(&keys(3), "eu")).await;
        assert_eq!(Ok(Reply::Taken(vec![9].into())), reply);
        let (said, todo) = served.await.expect("it ends");
        assert_eq!(word(&keys(3), "eu"), said);
        // Neither another's parcel nor one of another region is carried.
        for other in [word(&keys(4), "eu"), word(&keys(3), "us")] {
            let reply = hand_over(mine.clone(), to, hive, other).await;
            assert!(matches!(reply, Ok(Reply::Refused(..))), "{reply:?}");
        }
        // Whoever has no gateway says so, at once.
        drop(todo);
        let reply = hand_over(mine.clone(), to, hive, word(&keys(3), "eu")).await;
        assert!(matches!(reply, Ok(Reply::Later(_))), "{reply:?}");
        // Another device at that place is not taken for the carrier.
        let elsewhere = (keys(5).node(), to.1);
        let reply = hand_over(mine, elsewhere, hive, word(&keys(3), "eu")).await;
        assert!(
            matches!(reply, Err(LinkFailure::Connect { .. })),
            "{reply:?}"
        );
    }
}
