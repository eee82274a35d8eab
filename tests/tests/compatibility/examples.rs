//! One example of everything that has a byte form, made from fixed keys. Never edited: what is made
//! here is frozen in `vectors/formats-1.json`.

use aquifer_protocol::body::{Erase, Founding, Link, Manifest, Memory, Revision};
use aquifer_protocol::certificate::role;
use aquifer_protocol::identity::Seed;
use aquifer_protocol::log::{self, LogKey, LogState, Logs};
use aquifer_protocol::policy::{DataLocationPolicy, Keyring};
use aquifer_protocol::receipt::{Held, Reach, Receipts};
use aquifer_protocol::record::{Header, NO_RECORD};
use aquifer_protocol::riblt::{Cell, Sketch, SumKey};
use aquifer_protocol::store::Staged;
use aquifer_protocol::sync::{GAUGES, Gauge};
use aquifer_protocol::wire::{CodedWant, Item, Proof, Told, Want};
use aquifer_protocol::{
    AgentId, Body, Chain, Grant, HiveId, Keys, LogId, MemStore, Member, Message, NodeId, Policy,
    Record, RecordId, Regions, Replica, Settings, Stamp, Time, TopicId, TopicName,
};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) fn root() -> Keys {
    Keys::from_secret(&[0x11; 32])
}

pub(crate) fn authority() -> Keys {
    Keys::from_secret(&[0x22; 32])
}

pub(crate) fn node() -> Keys {
    Keys::from_secret(&[0x33; 32])
}

pub(crate) fn hive() -> HiveId {
    HiveId(root().public())
}

pub(crate) fn notes() -> TopicName {
    "acme/notes".parse().expect("legal")
}

pub(crate) fn topic() -> TopicId {
    notes().id(&hive())
}

pub(crate) fn chain() -> Chain {
    let grant = |subject: NodeId, region: &str, may_issue| Grant {
        hive: hive(),
        subject,
        region: region.parse().ok(),
        topics: None,
        roles: role::ALL,
        may_issue,
        not_before: 1_700_000_000_000,
        not_after: 1_900_000_000_000,
        serial: 7,
    };
    let mut leaf = grant(node().node(), "eu/fr", false);
    leaf.topics = Some(vec!["acme".parse().expect("legal")]);
    leaf.roles = role::SEED | role::INDEX;
    leaf.serial = 8;
    Chain::rooted(&root(), grant(authority().node(), "eu", true)).extended(&authority(), leaf)
}

pub(crate) fn member() -> Member {
    chain().check(&hive()).expect("a good chain")
}

pub(crate) fn full_memory() -> Memory {
    Memory {
        text: "The database listens on 5433 – not 5432.".into(),
        class: 3,
        tags: vec!["ops".into(), "db".into()],
        metadata: BTreeMap::from([
            ("ticket".into(), "OPS-17".into()),
            ("by".into(), "ana".into()),
        ]),
        importance: 750,
        valid_from: Some(1_790_000_000_000),
        valid_until: Some(1_800_000_000_000),
        source: Some("https://wiki.example/db".into()),
        tier: 2,
        created_at: Some(1_780_000_000_000),
    }
}

pub(crate) fn every_rule() -> Policy {
    Policy {
        location: DataLocationPolicy {
            allowed_regions: Regions::only([
                "eu".parse().expect("legal"),
                "us/ca".parse().expect("legal"),
            ]),
            required_region: "eu/fr".parse().ok(),
            cross_border_allowed: false,
            encryption_required: true,
            retention: Some(86_400),
        },
        copies: Some(3),
        readers: Keyring::Only(BTreeSet::from([[0x44; 32], [0x55; 32]])),
        writers: Keyring::Members,
        body_bytes_max: 4_096,
    }
}

pub(crate) fn bodies() -> Vec<(&'static str, Body)> {
    let id = |byte| RecordId([byte; 32]);
    let founding = |policy, replaces, version| Founding {
        topic: notes(),
        version,
        replaces,
        policy,
    };
    let manifest = Manifest {
        chain: chain().to_bytes().into(),
        addresses: vec!["/ip4/192.0.2.1/udp/27471/quic-v1".into()],
        agent: "aquifer/0.1.0".into(),
        storage_bytes: 1 << 40,
        gpu_bytes: 24 << 30,
        models: vec!["minilm".into()],
        up_since: 1_790_000_000_000,
    };
    let revision = Revision {
        of: id(1),
        replaces: vec![id(1), id(2)],
        memory: Memory::of("newer"),
    };
    vec![
        ("memory, all fields", Body::Memory(full_memory())),
        ("memory, text only", Body::Memory(Memory::of("hi"))),
        ("revision", Body::Revision(revision)),
        (
            "link",
            Body::Link(Link {
                from: id(1),
                to: id(2),
                relation: "explains".into(),
            }),
        ),
        (
            "erase",
            Body::Erase(Erase {
                ids: vec![id(1), id(2)],
            }),
        ),
        (
            "founding, every rule",
            Body::Founding(founding(every_rule(), Some(id(3)), 2)),
        ),
        (
            "founding, open",
            Body::Founding(founding(Policy::open(), None, 1)),
        ),
        ("manifest", Body::Manifest(manifest)),
    ]
}

pub(crate) fn record(seq: u64, prev: RecordId, text: &str) -> Record {
    let (kind, body) = Body::Memory(Memory::of(text)).to_bytes().expect("short");
    let header = Header {
        version: 1,
        topic: topic(),
        writer: node().node(),
        log: LogId(0x0102_0304_0506_0708),
        seq,
        prev,
        stamp: Stamp::from_bits((1_790_000_000_000 << 16) + seq),
        kind,
        author: AgentId([0x66; 32]),
        policy_epoch: 1,
        cap_hash: member().cap_hash(),
        body_len: 0,
        body_hash: [0; 32],
    };
    Record::author(&node(), header, [0x77; 16], &body).expect("short")
}

pub(crate) fn key() -> LogKey {
    LogKey::of(&record(0, NO_RECORD, "first"))
}

pub(crate) fn run() -> Vec<Record> {
    let first = record(0, NO_RECORD, "first");
    let second = record(1, first.id(), "second");
    vec![first, second]
}

/// Numbers and values of coded logs.
pub(crate) fn entries_coded() -> Vec<(u64, u64)> {
    (1..=20)
        .map(|n| (n * 0x0123_4567_89ab % (1 << 48), n * 0x00cd_ef00_1122_3344))
        .collect()
}

pub(crate) fn cells() -> Vec<Cell> {
    let mut sketch = Sketch::of(SumKey([0x88; 32]), entries_coded());
    sketch.cells(8).to_vec()
}

pub(crate) fn messages() -> Vec<(&'static str, Message)> {
    let (topic, nonce, digest) = (topic(), 0x0a0b_0c0d, [0x99; 16]);
    let [first, second] = run().try_into().expect("two");
    let LogKey { writer, log, .. } = key();
    let item = |fork| Item {
        writer,
        log,
        height: 2,
        tip: second.id(),
        fork,
    };
    let held = Held {
        key: key(),
        height: 2,
        tip: second.id(),
    };
    let fork = record(1, first.id(), "another second");
    let proofs = vec![Proof::new(&second, &fork).expect("two at one place")];
    let want = Want {
        writer,
        log,
        from: 1,
        until: 2,
    };
    let clock = Stamp::from_bits(1_790_000_000_000 << 16);
    vec![
        (
            "summary",
            Message::Summary {
                topic,
                digest,
                logs: 3,
                clock,
            },
        ),
        (
            "items",
            Message::Items {
                topic,
                items: vec![item(None), item(Some(1))],
                whole: true,
            },
        ),
        (
            "cells",
            Message::Cells {
                topic,
                nonce,
                start: 0,
                gauge: Some(Box::new(Gauge(core::array::from_fn(|i| {
                    i as i16 - GAUGES as i16 / 2
                })))),
                cells: cells(),
            },
        ),
        (
            "more cells",
            Message::MoreCells {
                topic,
                nonce,
                start: 32,
                count: 40,
            },
        ),
        (
            "want items",
            Message::WantItems {
                topic,
                nonce,
                hashes: vec![1, (1 << 48) - 1],
            },
        ),
        (
            "wants",
            Message::Wants {
                topic,
                wants: vec![want],
            },
        ),
        (
            "records",
            Message::Records {
                topic,
                runs: vec![vec![first.without_body(), second]],
            },
        ),
        (
            "receipts",
            Message::Receipts(Receipts::sign(&node(), vec![held])),
        ),
        ("proofs", Message::Proofs { topic, proofs }),
        ("agreed", Message::Agreed { topic, digest }),
        (
            "want receipts",
            Message::WantReceipts {
                topic,
                reaches: vec![Reach {
                    writer: node().node(),
                    log: LogId(7),
                    height: 300,
                }],
            },
        ),
        (
            "want coded",
            Message::WantCoded {
                topic,
                nonce,
                wants: vec![
                    CodedWant {
                        short: 1,
                        from: 0,
                        until: 1,
                    },
                    CodedWant {
                        short: (1 << 48) - 1,
                        from: 127,
                        until: 100_000,
                    },
                ],
            },
        ),
        (
            "told",
            Message::Told {
                topic,
                nonce,
                told: vec![Told {
                    short: 0x0102_0304_0506,
                    height: 300,
                }],
            },
        ),
        ("more waits", Message::MoreWaits),
        ("go on", Message::GoOn),
    ]
}

pub(crate) fn state() -> LogState {
    LogState {
        height: 2,
        tip: run()[1].id(),
        stamp: run()[1].header().stamp,
        fork: Some(2),
        expired: 1,
        ..LogState::empty(5)
    }
}

/// A store as a replica leaves it: a log, its records (one without its body), and what is in `Meta`.
pub(crate) fn store() -> MemStore {
    let settings = Settings {
        hive: hive(),
        member: Some(member()),
        erases: true,
    };
    let now = Time::from_millis(1_790_000_000_000);
    let seed = Seed::from_number(1);
    let mut replica = Replica::open(node(), settings, MemStore::default(), seed, now).expect("new");
    replica.commit().expect("memory");
    let mut staged = Staged::new(replica.into_store());
    Logs::default().set(&mut staged, key(), state());
    let [first, second] = run().try_into().expect("two");
    log::put_record(&mut staged, 5, &first.without_body());
    log::put_record(&mut staged, 5, &second);
    staged.flush().expect("memory");
    staged.into_store()
}
