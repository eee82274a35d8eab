//! Whether a swarm ranks as one node that holds all: the set of `quality.rs`, split over five nodes
//! whose statistics are skewed.
//!
//! Texts are dealt to topics by what they say, so that a word common on one node is rare on another;
//! each node holds two of the five topics, so every text is held twice.

use super::quality::{ASKED, id, insert, texts};
use super::*;

const NODES: usize = 5;
const K: usize = 10;

/// The topic of a text: those with certain words are kept together.
fn topic(text: &str) -> u8 {
    let marks = [
        ["the", "gossip"],
        ["of", "port"],
        ["in", "cache"],
        ["and", "a"],
    ];
    let has = |words: &[&str; 2]| {
        text.split(' ')
            .any(|word| words.contains(&&*word.to_lowercase()))
    };
    1 + marks.iter().position(has).unwrap_or(4) as u8
}

/// One node with everything, and five with two topics each.
fn split() -> (Index, Vec<Index>) {
    let mut whole = Index::default();
    let mut nodes: Vec<Index> = (0..NODES).map(|_| Index::default()).collect();
    for (number, text) in texts().iter().enumerate() {
        let topic = topic(text);
        insert(&mut whole, number, topic, text);
        for holder in [topic as usize % NODES, (topic as usize + 2) % NODES] {
            insert(&mut nodes[holder], number, topic, text);
        }
    }
    (whole, nodes)
}

fn everything() -> Filter {
    Filter {
        topics: (1..=NODES as u8).map(|topic| [topic; 32]).collect(),
        ..Filter::default()
    }
}

/// As the asker does: statistics first, then every node's best by their union.
fn asked(nodes: &[Index], query: &Query, mode: Mode) -> Vec<Hit> {
    let mut union = Union::new(query.terms());
    for node in nodes {
        for (topic, told) in node.statistics_by_topic(query, &everything()) {
            union.add(topic, &told);
        }
    }
    let total = union.total();
    let best = |node: &Index| node.find(query, &everything(), mode, Some(&total), K);
    rank(nodes.iter().flat_map(best).collect(), &total, mode, K)
}

/// What not to do: every node's own scores, put in order.
fn naive(nodes: &[Index], query: &Query, mode: Mode) -> Vec<Hit> {
    let mut best: BTreeMap<[u8; 32], Hit> = BTreeMap::new();
    for hit in nodes
        .iter()
        .flat_map(|node| node.find(query, &everything(), mode, None, K))
    {
        let known = best.entry(hit.id).or_insert_with(|| hit.clone());
        if hit.score > known.score {
            *known = hit;
        }
    }
    let mut hits: Vec<Hit> = best.into_values().collect();
    hits.sort_by(score::order);
    hits.truncate(K);
    hits
}

fn same(a: &[Hit], b: &[Hit]) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|(a, b)| a.id == b.id && (a.score - b.score).abs() < 1e-6)
}

fn reciprocal_rank(hits: &[Hit], number: usize) -> f32 {
    let rank = hits.iter().position(|hit| hit.id == id(number));
    rank.map_or(0.0, |rank| 1.0 / (rank as f32 + 1.0))
}

#[test]
fn five_nodes_rank_as_one_that_holds_all_and_local_scores_put_together_do_not() {
    let (whole, nodes) = split();
    let (least, most) = nodes.iter().fold((usize::MAX, 0), |(least, most), node| {
        (least.min(node.len()), most.max(node.len()))
    });
    assert!(
        least > 0 && most > 2 * least,
        "not skewed: {least} to {most}"
    );
    let mut differ = 0;
    let mut ranks = [0.0f32; 3];
    for (number, (_, questions)) in ASKED.iter().enumerate() {
        for text in questions {
            let query = Query::of(text);
            for mode in [Mode::Hybrid, Mode::Lexical, Mode::Semantic] {
                let one = whole.find(&query, &everything(), mode, None, K);
                let swarm = asked(&nodes, &query, mode);
                assert!(same(&one, &swarm), "{text:?} {mode:?}");
                if mode == Mode::Hybrid {
                    let merged = naive(&nodes, &query, mode);
                    differ += usize::from(!same(&one, &merged));
                    for (sum, hits) in ranks.iter_mut().zip([&one, &swarm, &merged]) {
                        *sum += reciprocal_rank(hits, number);
                    }
                }
            }
        }
    }
    let questions = ASKED.len() * 3;
    assert!(
        differ * 2 > questions,
        "only {differ} of {questions} differ: the comparison would be void"
    );
    assert!(
        ranks[2] < ranks[0],
        "local scores found as much: {ranks:?} over {questions} questions"
    );
}

#[test]
fn a_query_that_travelled_finds_what_it_found_at_home() {
    let (whole, _) = split();
    for (_, questions) in ASKED.iter() {
        let query = Query::of(questions[1]);
        let there = Query::from_parts(query.terms().to_vec(), Some(&query.values()));
        assert_eq!(query, there);
        let find = |query| whole.find(query, &everything(), Mode::Hybrid, None, K);
        assert_eq!(find(&query), find(&there));
    }
    let unlike = Query::from_parts(vec!["port".into()], Some(&[1; 8]));
    let hits = whole.find(&unlike, &everything(), Mode::Hybrid, None, K);
    assert!(
        !hits.is_empty() && hits.iter().all(|hit| hit.semantic == 0.0),
        "another embedder's vector is not compared"
    );
}

#[test]
fn copies_count_once_and_the_fullest_counts() {
    let terms = vec!["port".to_owned()];
    let told = |documents: u64, with: u64| Statistics {
        terms: vec![TermCount {
            term: "port".into(),
            documents: with,
        }],
        documents,
        length: 10 * documents,
    };
    let mut union = Union::new(&terms);
    union.add([1; 32], &told(100, 7));
    union.add([1; 32], &told(90, 6));
    union.add([2; 32], &told(5, 5));
    assert_eq!(union.total(), told(105, 12));
}
