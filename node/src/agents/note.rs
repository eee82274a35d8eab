//! Notes: what nodes tell each other about the agents of a topic.
//!
//! An agent lives in a topic, its **home**. All that is told about it is a record of that topic, and so
//! stands under its law: who may host it, where its module may lie, who may invoke it. Spec:
//! `docs/protocol.md` §11.
//!
//! Not here: what follows from notes (`roster`).

use aquifer_protocol::canonical::encodes_to;
use aquifer_protocol::identity::{Keys, NodeId, digest, verify};
use aquifer_wasm::abi::Cause;
use aquifer_wasm::manifest::Granted;
use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};

const ORDER: &str = "aquifer/agent-order/1";

/// Bytes of a module in one note.
pub const PART_BYTES: usize = 32 << 10;
/// Most nodes that host one agent.
pub const HOSTS_MAX: usize = 7;
/// Most agents of one order.
pub const AGENTS_MAX: u32 = 10_000_000;

/// One note.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Note {
    /// A part of a module.
    #[n(0)]
    Module {
        /// BLAKE3 of the whole.
        #[n(0)]
        hash: ByteArray<32>,
        /// Which part: each but the last has [`PART_BYTES`].
        #[n(1)]
        part: u8,
        /// Its bytes.
        #[n(2)]
        bytes: ByteVec,
    },
    /// What a publisher wants of an agent from now on: a signed [`Order`].
    #[n(1)]
    Ordered {
        /// The order's bytes.
        #[n(0)]
        order: ByteVec,
        /// The publisher's.
        #[n(1)]
        signature: ByteArray<64>,
    },
    /// What came of an order where it was carried out.
    #[n(2)]
    Settled {
        /// The digest of the order.
        #[n(0)]
        order: ByteArray<32>,
        /// Why it was not carried out; all is as it was before.
        #[n(1)]
        failed: Option<String>,
    },
    /// Something for an agent, of the record's author: it wakes it, once.
    #[n(3)]
    Input {
        /// Which.
        #[n(0)]
        agent: ByteArray<32>,
        /// By this its source knows it, and it is taken on once ([`known_as`]).
        #[n(1)]
        id: ByteArray<16>,
        /// Whether somebody waits for an answer.
        #[n(2)]
        invocation: bool,
        /// What.
        #[n(3)]
        body: ByteVec,
    },
    /// What an agent answered to an invocation.
    #[n(4)]
    Answered {
        /// By what the invocation is known ([`known_as`]).
        #[n(0)]
        input: ByteArray<16>,
        /// Which of its steps it was; none if it came to nothing.
        #[n(1)]
        step: Option<u64>,
        /// What it said, if anything; or why it came to nothing.
        #[n(2)]
        said: Option<ByteVec>,
    },
    /// All hosts that an order names have what those had that hosted the agents before.
    #[n(5)]
    Handed {
        /// The digest of the order.
        #[n(0)]
        order: ByteArray<32>,
    },
    /// A host took a step again that another had signed for, and it came to something else: both entries.
    #[n(6)]
    Disputed {
        /// What the other signed for.
        #[n(0)]
        theirs: ByteVec,
        /// What it came to here, signed for too; none if it came to nothing.
        #[n(1)]
        ours: Option<ByteVec>,
        /// What differs.
        #[n(2)]
        what: String,
    },
}

/// What a publisher wants of an agent.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct Order {
    /// What it may do, as its publisher signed it.
    #[n(0)]
    pub manifest: ByteVec,
    /// Which order it is: the highest counts.
    #[n(1)]
    pub version: u64,
    /// How many agents of this kind there are to be; none stops them.
    #[n(2)]
    pub agents: u32,
    /// The nodes that host them, the one to begin with first.
    #[n(3)]
    pub hosts: Vec<NodeId>,
    /// The node that hosted them until now and hands them over, if one does. Who is new begins with what
    /// the others have, and not before.
    #[n(4)]
    pub leaving: Option<NodeId>,
}

impl Order {
    /// All hosts, while they are handed over, and after that.
    pub fn company(&self, handed: bool) -> Vec<NodeId> {
        let leaving = self
            .leaving
            .filter(|node| !handed && !self.hosts.contains(node));
        self.hosts.iter().copied().chain(leaving).collect()
    }
}

/// An order whose signature is its publisher's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signed {
    /// What is wanted.
    pub order: Order,
    /// Of what, by whom.
    pub granted: Granted,
    /// Its digest.
    pub id: [u8; 32],
}

impl Note {
    /// As it lies in a record.
    pub fn to_bytes(&self) -> Vec<u8> {
        minicbor::to_vec(self).expect("a vector takes any encoding")
    }

    /// What a record says, if it is canonical. A stranger may have made the bytes.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let note: Self = minicbor::decode(bytes).ok()?;
        encodes_to(&note, bytes).then_some(note)
    }

    /// An order, signed by the publisher of its manifest.
    pub fn order(keys: &Keys, order: &Order) -> Self {
        let order = minicbor::to_vec(order).expect("a vector takes any encoding");
        Self::Ordered {
            signature: keys.sign(&digest(ORDER, &[&order])).into(),
            order: order.into(),
        }
    }

    /// A module's parts.
    pub fn parts(module: &[u8]) -> Vec<Self> {
        let hash = *blake3::hash(module).as_bytes();
        let parts = (0..).zip(module.chunks(PART_BYTES));
        parts
            .map(|(part, bytes)| Self::Module {
                hash: hash.into(),
                part,
                bytes: bytes.to_vec().into(),
            })
            .collect()
    }
}

impl Signed {
    /// Opens an order: it is canonical, within bounds, and signed by its manifest's publisher.
    pub fn open(bytes: &[u8], signature: &[u8; 64]) -> Option<Self> {
        let order: Order = minicbor::decode(bytes).ok()?;
        let id = digest(ORDER, &[bytes]);
        let granted = Granted::read(&order.manifest).ok()?;
        let within = order.hosts.len() <= HOSTS_MAX && order.agents <= AGENTS_MAX;
        let good =
            within && encodes_to(&order, bytes) && verify(&granted.publisher, &id, signature);
        good.then_some(Self { order, granted, id })
    }
}

/// By what an input is known that its source, `author`, calls `id`: nobody else can take its place.
pub fn known_as(author: &[u8; 32], agent: &[u8; 32], id: &[u8; 16]) -> [u8; 16] {
    let known = digest("aquifer/agent-input-id/1", &[author, agent, id]);
    *known.first_chunk().expect("a hash has 32 bytes")
}

/// Why an input wakes its agent.
pub fn cause(invocation: bool) -> Cause {
    match invocation {
        true => Cause::Invocation,
        false => Cause::Message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_known_by_who_says_it_and_to_whom() {
        let all = [
            ([1; 32], [2; 32], [3; 16]),
            ([9; 32], [2; 32], [3; 16]),
            ([1; 32], [9; 32], [3; 16]),
        ];
        let known = all.map(|(author, agent, id)| known_as(&author, &agent, &id));
        assert!(known[0] != known[1] && known[0] != known[2] && known[1] != known[2]);
        assert_ne!([3; 16], known[0]);
    }
}
