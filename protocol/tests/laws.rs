//! Laws of the law: a pure function of the set of records, whatever their order and repetition.
//!
//! Three founders, topics that nest, policies that overlap, manifests that come late or again.
//! Not here: what a law does to data (`stories/laws_of_topics.rs`), policies alone (`policy`).

use aquifer_protocol::body::{Body, Founding, Manifest};
use aquifer_protocol::certificate::role;
use aquifer_protocol::record::Header;
use aquifer_protocol::{
    AgentId, Chain, Grant, HiveId, Keys, Law, LogId, Member, Policy, Record, RecordId, Regions,
    Stamp, TopicName,
};
use proptest::prelude::*;

const TOPICS: [&str; 4] = ["org", "org/eu", "org/eu/hr", "lab"];

fn root() -> Keys {
    Keys::from_secret(&[1; 32])
}

fn keys(node: u8) -> Keys {
    Keys::from_secret(&[10 + node; 32])
}

fn member(node: u8, serial: u64) -> Member {
    let region = ["eu", "us", "eu/fr"][usize::from(node)];
    let hive = HiveId(root().public());
    let grant = Grant {
        hive,
        subject: keys(node).node(),
        region: region.parse().ok(),
        topics: None,
        roles: role::ALL,
        may_issue: false,
        not_before: 0,
        not_after: u64::MAX,
        serial,
    };
    Chain::rooted(&root(), grant)
        .check(&hive)
        .expect("a good chain")
}

fn policy(choice: u8) -> Policy {
    let regions = [
        vec!["eu"],
        vec!["us"],
        vec!["eu", "us"],
        vec!["eu/fr", "us", "ap"],
        vec!["ap"],
        vec![],
    ];
    let chosen = &regions[usize::from(choice % 6)];
    let parsed = chosen.iter().map(|r| r.parse().expect("a legal region"));
    let mut policy = Policy::within(Regions::only(parsed));
    policy.location.cross_border_allowed = choice & 64 == 0;
    policy.location.retention = (choice & 128 != 0).then_some(u64::from(choice) * 60);
    policy
}

fn sign(node: u8, log: u64, stamp: u64, body: &Body) -> Record {
    let (kind, bytes) = body.to_bytes().expect("short");
    let header = Header {
        version: 1,
        topic: TopicName::hive().id(&HiveId(root().public())),
        writer: keys(node).node(),
        log: LogId(log),
        seq: 0,
        prev: RecordId([0; 32]),
        stamp: Stamp::from_bits(stamp),
        kind,
        author: AgentId([node; 32]),
        policy_epoch: 0,
        cap_hash: member(node, 1).cap_hash(),
        body_len: 0,
        body_hash: [0; 32],
    };
    Record::author(&keys(node), header, [7; 16], &bytes).expect("short")
}

fn manifest(node: u8, serial: u64, agent: &str) -> Manifest {
    Manifest {
        chain: member(node, serial).chain().to_vec().into(),
        addresses: Vec::new(),
        agent: agent.into(),
        storage_bytes: 0,
        gpu_bytes: 0,
        models: Vec::new(),
        up_since: 0,
    }
}

/// A record of the hive's topic and what it says.
#[derive(Clone, Debug)]
struct Word(Record, Body);

fn learn(law: &mut Law, Word(record, body): &Word) {
    match body {
        Body::Manifest(m) => {
            law.learn_manifest(record, m).expect("good");
        }
        Body::Founding(f) => {
            law.learn_founding(record, f).expect("good");
        }
        other => panic!("{other:?}"),
    }
}

fn law<'a>(words: impl IntoIterator<Item = &'a Word>) -> Law {
    let mut law = Law::new(HiveId(root().public()));
    words.into_iter().for_each(|word| learn(&mut law, word));
    law
}

/// All that a law says, as text: whoever reads the same text decides the same.
fn said(law: &Law) -> String {
    let topics: Vec<_> = law.topics().collect();
    let members: Vec<_> = law.members().collect();
    format!("{topics:#?}\n{members:#?}")
}

/// By whom (0 to 2), what (a topic of four, or a manifest), which policy, which version, when.
fn words() -> impl Strategy<Value = Vec<Word>> {
    let draft = (0u8..3, 0usize..5, any::<u8>(), 1u64..4, 1u64..6);
    proptest::collection::vec(draft, 1..14).prop_map(|drafts| {
        let word =
            |(log, (node, what, choice, version, stamp)): (usize, (u8, usize, u8, u64, u64))| {
                let body = match TOPICS.get(what) {
                    Some(topic) => Body::Founding(Founding {
                        topic: topic.parse().expect("legal"),
                        version,
                        replaces: None,
                        policy: policy(choice),
                    }),
                    // Stamps of one node's manifests differ: ties have a test of their own.
                    None => Body::Manifest(manifest(node, 1, &format!("v{log}"))),
                };
                let stamp = if what == 4 { 100 + log as u64 } else { stamp };
                Word(sign(node, log as u64, stamp, &body), body)
            };
        drafts.into_iter().enumerate().map(word).collect()
    })
}

/// The words, and an order of them with repetitions that leaves none out.
fn shuffled() -> impl Strategy<Value = (Vec<Word>, Vec<usize>)> {
    words().prop_flat_map(|words| {
        let all = words.len();
        let again = proptest::collection::vec(0..all, 0..all);
        let order = again.prop_map(move |again| (0..all).chain(again).collect::<Vec<_>>());
        (Just(words), order.prop_shuffle())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// I2, I10: the same records, the same law.
    #[test]
    fn a_law_is_the_same_whatever_the_order_and_repetition((words, order) in shuffled()) {
        let written = law(&words);
        let heard = law(order.iter().map(|i| &words[*i]));
        prop_assert_eq!(said(&heard), said(&written));
    }

    /// A child is never wider than any topic above it, whoever founded what and when.
    #[test]
    fn a_childs_law_lies_within_its_parents(words in words()) {
        let law = law(&words);
        for (_, topic) in law.topics() {
            for above in topic.name.ancestors() {
                let Some(above) = law.named(&above) else { continue };
                prop_assert!(topic.policy().narrows(above.policy()), "{} in {}", topic.name, above.name);
            }
        }
    }

    /// What a forked log had taught is forgotten as if it had never been heard.
    #[test]
    fn a_founding_unlearnt_leaves_the_law_of_the_others((words, order) in shuffled(), pick in any::<prop::sample::Index>()) {
        let Word(record, Body::Founding(founding)) = pick.get(&words) else {
            return Ok(());
        };
        let mut heard = law(order.iter().map(|i| &words[*i]));
        heard.unlearn_founding(record, founding);
        let others = law(words.iter().filter(|word| word.0.id() != record.id()));
        prop_assert_eq!(said(&heard), said(&others));
    }
}

/// Two machines with one disk announce themselves in the same millisecond: every node must believe
/// the same one.
#[test]
fn of_two_manifests_with_one_stamp_every_node_believes_the_same() {
    let words: Vec<Word> = (0..2)
        .map(|log| {
            let body = Body::Manifest(manifest(0, log, &format!("machine {log}")));
            Word(sign(0, log, 50, &body), body)
        })
        .collect();
    assert_eq!(said(&law(&words)), said(&law(words.iter().rev())));
}
