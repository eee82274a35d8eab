//! Does fusing help? A small made set: thirty memories among five hundred built from the same words,
//! each asked for three times: in other words, misspelt, and by a piece of an identifier or an
//! inflected form. The weight in `score.rs` was chosen on it; this test keeps the choice honest.

use super::*;

/// A memory, and three questions it answers.
pub(super) const ASKED: [(&str, [&str; 3]); 30] = [
    (
        "The production database listens on db_port 5433 since the migration",
        [
            "which port does the database use in production",
            "prodction databse prot",
            "dbPort",
        ],
    ),
    (
        "Alice prefers dark roast coffee without milk in the morning",
        [
            "what coffee does Alice like",
            "dark raost cofee",
            "roasted coffees",
        ],
    ),
    (
        "Deploys to the staging cluster need approval from the release captain",
        [
            "who approves a staging deployment",
            "stagging deplois approvel",
            "approvals for deploying",
        ],
    ),
    (
        "The invoice service retries failed payments three times with backoff",
        [
            "how often is a failed payment retried",
            "invioce servise retrys",
            "payment_retry backoff",
        ],
    ),
    (
        "Rotate the signing keys every ninety days and revoke the old ones",
        [
            "when are signing keys rotated",
            "rotaet signign kyes",
            "key rotation revoked",
        ],
    ),
    (
        "Customer records of French users must stay in region eu/fr",
        [
            "where must French customers' records stay",
            "custmer recrods frensh",
            "region eu-fr records",
        ],
    ),
    (
        "The nightly backup runs at 02:30 and writes to the cold bucket",
        [
            "when does the backup run at night",
            "nigthly bakcup",
            "backups writing to buckets",
        ],
    ),
    (
        "parseConfigFile panics when the toml has a trailing comma",
        [
            "config file parse panic",
            "parseConfgFile pannics",
            "config_file toml commas",
        ],
    ),
    (
        "Kubernetes readiness probes time out because the cache warms slowly",
        [
            "why do readiness probes time out",
            "kuberntes rediness porbe",
            "probe timeout cache warming",
        ],
    ),
    (
        "Bob is allergic to peanuts so the offsite menu avoids them",
        [
            "what is Bob allergic to",
            "peanutts alergic",
            "allergies and peanut",
        ],
    ),
    (
        "Use feature flag checkout_v2 to enable the new payment form",
        [
            "which flag enables the new form for payments",
            "feture flga chekout",
            "checkoutV2",
        ],
    ),
    (
        "The websocket gateway drops connections after sixty seconds of silence",
        [
            "silent connections dropped by the gateway",
            "websoket gatway conections",
            "web_socket gateways",
        ],
    ),
    (
        "Our Berlin office closes for the holidays on December 22",
        [
            "holiday closing of the office in Berlin",
            "ofice holydays Berln",
            "closed on a holiday",
        ],
    ),
    (
        "Search latency doubled after the index lost its bloom filters",
        [
            "why did latency of search double",
            "serch latancy dubled",
            "searching without a bloom filter",
        ],
    ),
    (
        "Carol owns the billing dashboard and its weekly report",
        [
            "owner of the billing dashboard",
            "biling dashbord weekley",
            "reports every week billing",
        ],
    ),
    (
        "Compile with --release or the simulator is forty times slower",
        [
            "slow simulator unless compiled for release",
            "simualtor relese compille",
            "compiling simulators",
        ],
    ),
    (
        "The mobile app caches avatars under user_id, never under the email",
        [
            "avatar cache key in the mobile app",
            "moblie avatrs cahce",
            "userId avatar",
        ],
    ),
    (
        "Do not retry POST requests against the ledger, they are not idempotent",
        [
            "retrying requests to the ledger",
            "legder retyr idempotant",
            "idempotency of a ledger request",
        ],
    ),
    (
        "Dana's thesis measures gossip protocols under packet loss",
        [
            "thesis about gossip and packet loss",
            "gosip protcol pakcet",
            "protocol measured losing packets",
        ],
    ),
    (
        "The vendor contract ends in March and needs two months of notice",
        [
            "notice period of the vendor contract",
            "vender contarct notcie",
            "contracts with vendors ending",
        ],
    ),
    (
        "Set RUST_LOG=debug to see the handshake in the trace",
        [
            "how do I see the handshake",
            "handhsake trcae debgu",
            "rustLog",
        ],
    ),
    (
        "Elevator B is out of service, use the stairs beside the kitchen",
        [
            "is the elevator in service",
            "elevater stiars kitchin",
            "elevators and a stair",
        ],
    ),
    (
        "The model overfits when dropout is below ten percent",
        [
            "dropout too low overfitting",
            "droppout overfitts modle",
            "overfitted models",
        ],
    ),
    (
        "Legal wants audit logs kept for seven years in write-once storage",
        [
            "how long must audit logs be kept",
            "legall aduit lgos",
            "auditing log storages",
        ],
    ),
    (
        "Erin found the memory leak in the image resizing worker",
        [
            "who found the leak of memory",
            "memroy laek resizng",
            "image_resizer leaking",
        ],
    ),
    (
        "Sensor 14 on the greenhouse roof reports humidity in steps of five",
        [
            "humidity sensor in the greenhouse",
            "greenhosue humidty sensro",
            "sensors reporting on roofs",
        ],
    ),
    (
        "The translation team reviews German strings on Thursdays",
        [
            "when are German strings reviewed",
            "tranlsation reveiws germna",
            "translated string reviewers",
        ],
    ),
    (
        "VPN access requires a hardware token since the phishing incident",
        [
            "token for access by VPN",
            "hardwrae tokne phising",
            "accessing with tokens",
        ],
    ),
    (
        "libfoo 2.4.1 breaks the ARM build, pin it to 2.3.9",
        [
            "which libfoo breaks on ARM",
            "libfo braeks biuld",
            "builds pinned to 2.3.9",
        ],
    ),
    (
        "The orchard was planted with pear and quince trees in spring",
        [
            "what trees were planted in the orchard",
            "ochard qiunce paer",
            "planting a tree in an orchard",
        ],
    ),
];

/// The id of the text of that number.
pub(super) fn id(number: usize) -> [u8; 32] {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&(number as u64).to_be_bytes());
    id
}

/// 500 texts: those that are asked for first, then noise of the same words.
pub(super) fn texts() -> Vec<String> {
    let words: Vec<&str> = ASKED.iter().flat_map(|(text, _)| text.split(' ')).collect();
    let mut texts: Vec<String> = ASKED.iter().map(|(text, _)| (*text).to_owned()).collect();
    let mut chance = 1u64;
    while texts.len() < 500 {
        let text: Vec<&str> = (0..12)
            .map(|_| {
                chance = chance
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                words[(chance >> 33) as usize % words.len()]
            })
            .collect();
        texts.push(text.join(" "));
    }
    texts
}

/// Puts the text of that number into an index, under a topic.
pub(super) fn insert(index: &mut Index, number: usize, topic: u8, text: &str) {
    let entry = Entry {
        id: id(number),
        version_ms: 1,
        topic: [topic; 32],
        author: [2; 32],
        kind: 0,
        tags: &[],
        created_ms: 1,
        valid_from_ms: None,
        valid_until_ms: None,
        importance: 0.0,
        text,
    };
    index.insert(&entry).unwrap();
}

fn corpus() -> Index {
    let mut index = Index::default();
    for (number, text) in texts().iter().enumerate() {
        insert(&mut index, number, 1, text);
    }
    index
}

/// Mean reciprocal rank within ten, of the questions of one kind.
fn reciprocal_rank(index: &Index, mode: Mode, kind: usize) -> f32 {
    let filter = Filter {
        topics: [[1; 32]].into(),
        ..Filter::default()
    };
    let ranks = ASKED.iter().enumerate().map(|(number, (_, questions))| {
        let hits = index.search(questions[kind], &filter, mode, 10);
        let rank = hits.iter().position(|hit| hit.id == id(number));
        rank.map_or(0.0, |rank| 1.0 / (rank as f32 + 1.0))
    });
    ranks.sum::<f32>() / ASKED.len() as f32
}

#[test]
fn both_rankings_together_find_more_than_either() {
    let index = corpus();
    let of = |mode| [0, 1, 2].map(|kind| reciprocal_rank(&index, mode, kind));
    let (hybrid, lexical, semantic) = (of(Mode::Hybrid), of(Mode::Lexical), of(Mode::Semantic));
    let mean = |ranks: [f32; 3]| ranks.iter().sum::<f32>() / 3.0;
    assert!(
        mean(hybrid) > mean(lexical) + 0.15,
        "{hybrid:?} {lexical:?}"
    );
    assert!(mean(hybrid) > mean(semantic), "{hybrid:?} {semantic:?}");
    assert!(
        hybrid[0] > 0.95 && hybrid[1] > 0.7 && hybrid[2] > 0.95,
        "{hybrid:?}"
    );
}
