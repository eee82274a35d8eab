//! Keys: a node's identity, and what its home may sign with.
//!
//! Every node has one Ed25519 key. The node that founds a hive also keeps the hive's root and the
//! keys of the region authorities it certifies; seeds that were granted the right certify with their
//! own key. Agents of this node each have a key too. All are files of 32 bytes, 0600.

use crate::api::Problem;
use crate::clock;
use crate::home::Home;
use aquifer_protocol::certificate::{Chain, Grant, OpenChain, role};
use aquifer_protocol::time::Time;
use aquifer_protocol::{AgentId, HiveId, Keys, Member, NodeId, Region, TopicName};

/// How long a node's certificate is good.
pub const NODE_DAYS: u64 = 30;
/// How long a region authority's certificate is good.
const AUTHORITY_DAYS: u64 = 3_650;
const DAY_MS: u64 = 86_400_000;
const CHAIN_FILE: &str = "certificate.cbor";

/// Reads the key in the file `name`, or draws one and keeps it.
pub fn load_or_draw(home: &Home, name: &str) -> Result<Keys, Problem> {
    if let Some(keys) = load(home, name)? {
        return Ok(keys);
    }
    let keys = Keys::from_secret(&clock::entropy());
    home.write(name, &keys.secret())?;
    Ok(keys)
}

/// Reads the key in the file `name`, if it is there.
pub fn load(home: &Home, name: &str) -> Result<Option<Keys>, Problem> {
    let Some(bytes) = home.read(name, 33)? else {
        return Ok(None);
    };
    let secret: [u8; 32] = bytes.as_slice().try_into().map_err(|_| {
        let path = home.file(name);
        let hint = "restore it from a backup, or move the home folder away to begin anew";
        Problem::new(
            "key_unusable",
            1,
            format!("{} is not a key", path.display()),
            hint,
        )
    })?;
    Ok(Some(Keys::from_secret(&secret)))
}

/// The node's own key.
pub fn identity(home: &Home) -> Result<Keys, Problem> {
    load_or_draw(home, "identity.key")
}

/// The agent called `name` on this node; the node itself if none is named.
pub fn agent(home: &Home, name: Option<&str>, node: NodeId) -> Result<AgentId, Problem> {
    match name {
        None => Ok(AgentId(node.0)),
        Some(name) => Ok(AgentId(agent_keys(home, name)?.public())),
    }
}

/// The key of the agent called `name` on this node.
pub fn agent_keys(home: &Home, name: &str) -> Result<Keys, Problem> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > 64 || !name.bytes().all(legal) || name.starts_with('.') {
        let hint = "give up to 64 letters, digits, `-`, `_` or `.`";
        return Err(Problem::new(
            "bad_agent",
            2,
            format!("`{name}` is not an agent's name"),
            hint,
        ));
    }
    load_or_draw(home, &format!("agents/{name}.key"))
}

/// The keys of all agents of this node.
pub fn all_agents(home: &Home) -> Result<Vec<Keys>, Problem> {
    let Ok(folder) = std::fs::read_dir(home.file("agents")) else {
        return Ok(Vec::new());
    };
    let names = folder.filter_map(|file| file.ok()?.file_name().into_string().ok());
    let names = names.filter(|name| name.ends_with(".key"));
    let keys = names.map(|name| load(home, &format!("agents/{name}")));
    keys.filter_map(Result::transpose).collect()
}

/// The chain in this home, if it is a member of a hive.
pub fn chain(home: &Home) -> Result<Option<Chain>, Problem> {
    let Some(bytes) = home.read(CHAIN_FILE, 64 << 10)? else {
        return Ok(None);
    };
    Chain::from_bytes(&bytes)
        .map(Some)
        .map_err(|why| unusable_chain(home, &why))
}

/// Keeps a chain in this home.
pub fn keep_chain(home: &Home, chain: &[u8]) -> Result<(), Problem> {
    home.write(CHAIN_FILE, chain)
}

/// The problem that this home's certificate is not good.
pub fn unusable_chain(home: &Home, why: &OpenChain) -> Problem {
    let message = format!(
        "the certificate in {} is not good: {why}",
        home.path().display()
    );
    Problem::new(
        "certificate_unusable",
        5,
        message,
        "join again with a new ticket",
    )
}

/// Founds a hive in this home: a root, an authority for `region`, and this node's certificate.
pub fn found_hive(
    home: &Home,
    node: &Keys,
    region: &Region,
    roles: u32,
    now: Time,
) -> Result<Chain, Problem> {
    let root = load_or_draw(home, "hive/root.key")?;
    let ask = Ask {
        subject: node.node(),
        region: region.clone(),
        topics: None,
        roles,
        may_issue: true,
    };
    let chain = Issuer::Root(Box::new(root)).issue(home, ask, now)?;
    keep_chain(home, &chain.to_bytes())?;
    Ok(chain)
}

/// What a certificate is wanted for.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The node.
    pub subject: NodeId,
    /// Where it is.
    pub region: Region,
    /// Topics; every topic if absent.
    pub topics: Option<Vec<TopicName>>,
    /// Bits of [`role`].
    pub roles: u32,
    /// Whether it may certify others in its region.
    pub may_issue: bool,
}

/// By what right this home certifies nodes.
#[derive(Clone, Debug)]
pub enum Issuer {
    /// It holds the hive's root.
    Root(Box<Keys>),
    /// Its own certificate says so.
    Delegate(Box<(Keys, Chain)>),
}

impl Issuer {
    /// The right that this home has, if any.
    pub fn of(home: &Home, node: &Keys) -> Result<Option<Self>, Problem> {
        if let Some(root) = load(home, "hive/root.key")? {
            return Ok(Some(Self::Root(Box::new(root))));
        }
        let chain = chain(home)?;
        let may = |chain: &Chain| chain.grant().is_some_and(|grant| grant.may_issue);
        Ok(chain
            .filter(may)
            .map(|chain| Self::Delegate(Box::new((node.clone(), chain)))))
    }

    /// The highest region it may certify for; every region if absent.
    pub fn region(&self) -> Option<Region> {
        match self {
            Self::Root(_) => None,
            Self::Delegate(own) => own.1.grant().and_then(|grant| grant.region.clone()),
        }
    }

    /// Certifies a node.
    pub fn issue(&self, home: &Home, ask: Ask, now: Time) -> Result<Chain, Problem> {
        let from = now.millis().saturating_sub(DAY_MS);
        let until = now.millis() + NODE_DAYS * DAY_MS;
        match self {
            Self::Root(root) => {
                let region = ask.region.top();
                let authority = load_or_draw(home, &format!("hive/region-{region}.key"))?;
                let top = Grant {
                    hive: HiveId(root.public()),
                    subject: authority.node(),
                    region: Some(region),
                    topics: None,
                    roles: role::ALL,
                    may_issue: true,
                    not_before: from,
                    not_after: now.millis() + AUTHORITY_DAYS * DAY_MS,
                    serial: u64::from_be_bytes(clock::entropy()),
                };
                let hive = top.hive;
                Ok(Chain::rooted(root, top).extended(&authority, leaf(hive, ask, from, until)))
            }
            Self::Delegate(own) => {
                let (keys, chain) = &**own;
                let above = chain.grant().expect("a chain that may issue has a grant");
                let grant = leaf(
                    above.hive,
                    ask,
                    from.max(above.not_before),
                    until.min(above.not_after),
                );
                if grant.narrows(above) {
                    return Ok(chain.extended(keys, grant));
                }
                let region = self
                    .region()
                    .map_or_else(String::new, |region| format!(" {region}"));
                Err(Problem::new(
                    "not_authorised",
                    5,
                    "this node's certificate does not allow it to issue that one",
                    format!(
                        "it may certify nodes below{region}, for its own topics and roles; ask the node that founded the hive"
                    ),
                ))
            }
        }
    }
}

fn leaf(hive: HiveId, ask: Ask, not_before: u64, not_after: u64) -> Grant {
    Grant {
        hive,
        subject: ask.subject,
        region: Some(ask.region),
        topics: ask.topics,
        roles: ask.roles,
        may_issue: ask.may_issue,
        not_before,
        not_after,
        serial: u64::from_be_bytes(clock::entropy()),
    }
}

/// The member that this home's chain makes of its node.
pub fn member(home: &Home, chain: &Chain, node: &Keys) -> Result<Member, Problem> {
    let hive = chain.grant().map_or(HiveId([0; 32]), |grant| grant.hive);
    let member = chain
        .check(&hive)
        .map_err(|why| unusable_chain(home, &why))?;
    if member.node() == node.node() {
        return Ok(member);
    }
    let message = format!(
        "the certificate in {} is another node's",
        home.path().display()
    );
    let hint = "a home is not to be copied: give each node its own and let it join";
    Err(Problem::new("certificate_unusable", 5, message, hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_founder_certifies_any_region_and_a_delegate_only_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = Home::at(Some(folder.path().join("a")));
        home.create().expect("made");
        let now = clock::wall();
        let node = identity(&home).expect("drawn");
        let eu: Region = "eu".parse().expect("legal");
        let chain = found_hive(&home, &node, &eu, role::ALL, now).expect("founded");
        let me = member(&home, &chain, &node).expect("a member");
        let hive = me.grant().hive;
        let ask = |region: &str, may_issue| Ask {
            subject: NodeId([9; 32]),
            region: region.parse().expect("legal"),
            topics: None,
            roles: role::SEED,
            may_issue,
        };
        let root = Issuer::of(&home, &node)
            .expect("read")
            .expect("holds the root");
        let us = root
            .issue(&home, ask("us/ny", false), now)
            .expect("any region");
        assert_eq!(us.check(&hive).expect("good").region().as_str(), "us/ny");
        let delegate = Issuer::Delegate(Box::new((node.clone(), chain)));
        delegate
            .issue(&home, ask("eu/fr", false), now)
            .expect("its own")
            .check(&hive)
            .expect("good");
        assert_eq!(
            delegate
                .issue(&home, ask("us", false), now)
                .expect_err("not its own")
                .exit,
            5
        );
    }
}
