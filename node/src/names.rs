//! Names: how ids are spelt outside. One key, several views.
//!
//! A node is its libp2p peer id, an agent its `did:key` (W3C did:key method: multibase base58btc of
//! the multicodec 0xed01 and the key), a memory the hexadecimal digits of its record id.

use crate::api::Problem;
use crate::net;
use aquifer_protocol::body::Memory;
use aquifer_protocol::{AgentId, NodeId, RecordId};

const ED25519_MULTICODEC: [u8; 2] = [0xed, 0x01];

/// A node's peer id.
pub fn node(id: &NodeId) -> String {
    net::peer_name(&id.0).unwrap_or_else(|| id.to_string())
}

/// The node called `text`: a peer id, or the hexadecimal digits of its key.
pub fn parse_node(text: &str) -> Option<NodeId> {
    net::key_in(&format!("/p2p/{text}"))
        .map(NodeId)
        .or_else(|| NodeId::from_hex(text))
}

/// An agent's `did:key`.
pub fn agent(id: &AgentId) -> String {
    let bytes = [&ED25519_MULTICODEC[..], &id.0[..]].concat();
    format!("did:key:z{}", bs58::encode(bytes).into_string())
}

/// The agent called `text`.
pub fn parse_agent(text: &str) -> Option<AgentId> {
    let bytes = bs58::decode(text.strip_prefix("did:key:z")?)
        .into_vec()
        .ok()?;
    let key = bytes.strip_prefix(&ED25519_MULTICODEC[..])?;
    Some(AgentId(key.try_into().ok()?))
}

/// The record called `text`, or the problem that it is no id at all.
pub fn parse_record(text: &str) -> Result<RecordId, Problem> {
    RecordId::from_hex(text).ok_or_else(|| {
        let hint = "give the id that `remember`, `recall` or `list` printed: 64 hexadecimal digits";
        Problem::new(
            "bad_id",
            2,
            format!("`{text}` is not the id of a memory"),
            hint,
        )
    })
}

/// The class of memory that a number in [`Memory::class`] stands for.
pub fn class(number: u8) -> &'static str {
    match number {
        1 => "episodic",
        3 => "procedural",
        _ => "semantic",
    }
}

/// The number of the class called `text`.
pub fn parse_class(text: &str) -> Result<u8, Problem> {
    match text {
        "episodic" => Ok(1),
        "semantic" => Ok(2),
        "procedural" => Ok(3),
        _ => Err(Problem::new(
            "bad_kind",
            2,
            format!("`{text}` is not a kind of memory"),
            "give episodic, semantic or procedural",
        )),
    }
}

/// How far a memory is to be trusted: its own tier, but no better than `member` if another node
/// signed it. A tier is a claim of the writer; whose claim, the reader's node knows.
pub fn trust(memory: &Memory, own: bool) -> &'static str {
    match (memory.tier, own) {
        (0, true) => "self",
        (1, true) => "operator",
        (0..=2, _) => "member",
        (3, _) => "guest",
        _ => "web",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        let key = aquifer_protocol::Keys::from_secret(&[7; 32]);
        let node_id = key.node();
        assert_eq!(parse_node(&node(&node_id)), Some(node_id));
        assert_eq!(parse_node(&node_id.to_string()), Some(node_id));
        let agent_id = AgentId(key.public());
        let did = agent(&agent_id);
        assert!(did.starts_with("did:key:z6Mk"), "{did}");
        assert_eq!(parse_agent(&did), Some(agent_id));
        assert_eq!(parse_agent("did:key:zzz"), None);
        assert_eq!(parse_record("12").expect_err("short").exit, 2);
    }
}
