//! The index against its definition: random inserts, revisions and erasures, then the same question
//! put to the index and to a scorer that keeps a plain list and works everything out anew.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::text::QUERY_BYTES;
use super::*;

#[derive(Debug, Clone)]
enum Step {
    Insert(Note),
    Remove(u8),
}

#[derive(Debug, Clone)]
struct Note {
    id: u8,
    version: u8,
    topic: u8,
    created: u8,
    tags: Vec<String>,
    importance: f32,
    text: String,
}

impl Note {
    fn entry(&self) -> Entry<'_> {
        Entry {
            id: [self.id; 32],
            version_ms: u64::from(self.version),
            topic: [self.topic; 32],
            author: [self.id % 2; 32],
            kind: self.id % 3,
            tags: &self.tags,
            created_ms: u64::from(self.created),
            valid_from_ms: None,
            valid_until_ms: None,
            importance: self.importance,
            text: &self.text,
        }
    }
}

const WORDS: [&str; 16] = [
    "tea",
    "teas",
    "the",
    "of",
    "database",
    "databse",
    "db_port",
    "port",
    "camelCase",
    "case",
    "Größe",
    "数据",
    "connect",
    "connected",
    "to",
    "jam",
];

fn some_text() -> impl Strategy<Value = String> {
    let words = prop::collection::vec(prop::sample::select(&WORDS[..]), 0..12);
    prop_oneof![9 => words.prop_map(|words| words.join(" ")), 1 => any::<String>()]
}

/// Never blank: a blank query asks for the newest, and is told of in `stories.rs`.
fn some_query() -> impl Strategy<Value = String> {
    some_text().prop_map(|text| {
        if text.trim().is_empty() {
            "tea".to_owned()
        } else {
            text
        }
    })
}

fn some_step() -> impl Strategy<Value = Step> {
    let tags = prop::collection::vec(prop::sample::select(vec!["a".to_owned(), "b".into()]), 0..3);
    let note = (
        0..12u8,
        0..4u8,
        0..3u8,
        any::<u8>(),
        tags,
        0.0..1.0f32,
        some_text(),
    )
        .prop_map(|(id, version, topic, created, tags, importance, text)| {
            Step::Insert(Note {
                id,
                version,
                topic,
                created,
                tags,
                importance,
                text,
            })
        });
    prop_oneof![5 => note, 1 => (0..12u8).prop_map(Step::Remove)]
}

fn some_filter() -> impl Strategy<Value = Filter> {
    let tags = prop::collection::vec(prop::sample::select(vec!["a".to_owned(), "b".into()]), 0..2);
    let topics = prop::collection::btree_set(0..3u8, 0..4);
    (
        topics,
        tags,
        prop::option::weighted(0.2, 0..3u8),
        prop::option::weighted(0.2, any::<u8>()),
        prop::option::weighted(0.4, 0..5u64),
    )
        .prop_map(|(topics, tags, kind, since, as_of_ms)| Filter {
            topics: topics.into_iter().map(|topic| [topic; 32]).collect(),
            tags,
            kind,
            since_ms: since.map(u64::from),
            as_of_ms,
            ..Filter::default()
        })
}

/// The definition, in double precision: versions by (memory, version), nothing else.
#[derive(Default)]
struct List(BTreeMap<(u8, u8), Note>);

impl List {
    fn take(&mut self, step: &Step) {
        match step {
            Step::Insert(note) => {
                self.0.insert((note.id, note.version), note.clone());
            }
            Step::Remove(id) => self.0.retain(|(held, _), _| held != id),
        }
    }

    fn readable(&self, filter: &Filter) -> Vec<&Note> {
        let at = filter.as_of_ms.unwrap_or(u64::MAX);
        let mut latest: BTreeMap<u8, &Note> = BTreeMap::new();
        for note in self.0.values().filter(|note| u64::from(note.version) <= at) {
            latest.insert(note.id, note);
        }
        let allowed = |note: &&Note| filter.topics.contains(&[note.topic; 32]);
        latest.into_values().filter(allowed).collect()
    }

    /// Every memory that is an answer, with its score.
    fn answers(&self, query: &str, filter: &Filter, mode: Mode) -> BTreeMap<[u8; 32], f64> {
        let readable = self.readable(filter);
        let counted: Vec<Words> = readable
            .iter()
            .map(|n| Words::of(&n.text, TEXT_BYTES))
            .collect();
        let count = |words: &Words, term: &str| {
            let terms = words.terms();
            terms
                .iter()
                .find(|t| t.text == term)
                .map_or(0.0, |t| f64::from(t.count.min(63)))
        };
        let documents = readable.len() as f64;
        let tokens: usize = counted.iter().map(Words::len).sum();
        let average = (tokens as f64 / documents.max(1.0)).max(1.0);
        let words = Words::of(query, QUERY_BYTES);
        let terms = words.query();
        let idf = |term: &String| {
            let holders = counted
                .iter()
                .filter(|words| count(words, term) > 0.0)
                .count() as f64;
            (1.0 + (documents - holders + 0.5) / (holders + 0.5)).ln()
        };
        let ceiling = 2.2 * terms.iter().map(idf).sum::<f64>();
        let embedding = Embedding::of(&words.terms());
        let mut answers = BTreeMap::new();
        for (note, words) in readable
            .iter()
            .zip(&counted)
            .filter(|(note, _)| wants(filter, note))
        {
            let part = |term: &String| {
                let (frequency, length) = (count(words, term), words.len() as f64);
                idf(term) * frequency * 2.2 / (frequency + 1.2 * (0.25 + 0.75 * length / average))
            };
            let lexical = terms.iter().map(part).sum::<f64>() / ceiling.max(1e-9);
            let cosine = Embedding::of(&words.terms()).cosine(&embedding);
            let semantic = f64::from(cosine.max(0.0));
            let near = cosine >= FLOOR;
            let (relevance, answers_it) = match mode {
                Mode::Hybrid => (0.7 * lexical + 0.3 * semantic, lexical > 0.0 || near),
                Mode::Lexical => (lexical, lexical > 0.0),
                Mode::Semantic => (semantic, near),
            };
            if answers_it {
                let score = 0.98 * relevance + 0.02 * f64::from(note.importance);
                answers.insert([note.id; 32], score);
            }
        }
        answers
    }
}

fn wants(filter: &Filter, note: &Note) -> bool {
    filter.tags.iter().all(|tag| note.tags.contains(tag))
        && filter.kind.is_none_or(|kind| kind == note.id % 3)
        && filter
            .since_ms
            .is_none_or(|since| since <= u64::from(note.created))
}

proptest! {
    #[test]
    fn the_index_answers_as_its_definition_does(
        steps in prop::collection::vec(some_step(), 0..60),
        query in some_query(),
        filter in some_filter(),
        mode in prop::sample::select(vec![Mode::Hybrid, Mode::Lexical, Mode::Semantic]),
    ) {
        let (mut index, mut list) = (Index::default(), List::default());
        for step in &steps {
            list.take(step);
            match step {
                Step::Insert(note) => index.insert(&note.entry()).unwrap(),
                Step::Remove(id) => {
                    index.remove(&[*id; 32]);
                }
            }
        }
        let memories: BTreeSet<u8> = list.0.keys().map(|&(id, _)| id).collect();
        prop_assert_eq!((index.len(), index.versions()), (memories.len(), list.0.len()));
        let distinct: BTreeSet<String> = list.0.values().flat_map(|note| {
            let words = Words::of(&note.text, TEXT_BYTES);
            words.terms().iter().map(|term| term.text.to_owned()).collect::<Vec<_>>()
        }).collect();
        prop_assert_eq!(index.terms(), distinct.len(), "the dictionary holds what is in the texts");

        let expected = list.answers(&query, &filter, mode);
        let hits = index.search(&query, &filter, mode, 100);
        let ids: BTreeSet<[u8; 32]> = hits.iter().map(|hit| hit.id).collect();
        prop_assert_eq!(ids, expected.keys().copied().collect());
        prop_assert!(hits.is_sorted_by(|a, b| score::order(a, b).is_le()));
        for hit in &hits {
            let score = expected[&hit.id];
            prop_assert!((f64::from(hit.score) - score).abs() < 1e-4, "{:?} {}", hit, score);
        }
        let statistics = index.statistics(&query, &filter);
        prop_assert_eq!(rank(hits.clone(), &statistics, mode, 100), hits, "the asker agrees");
    }
}
