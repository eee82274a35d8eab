//! Stories of recall: what an asker finds, may see, and what is gone after erasure.

use super::*;

const WORK: [u8; 32] = [1; 32];
const HOME: [u8; 32] = [2; 32];
const ANN: [u8; 32] = [3; 32];
const BEN: [u8; 32] = [4; 32];

fn entry(number: u8, text: &str) -> Entry<'_> {
    Entry {
        id: [number; 32],
        version_ms: u64::from(number),
        topic: WORK,
        author: ANN,
        kind: 0,
        tags: &[],
        created_ms: u64::from(number),
        valid_from_ms: None,
        valid_until_ms: None,
        importance: 0.5,
        text,
    }
}

fn holding(entries: &[Entry<'_>]) -> Index {
    let mut index = Index::default();
    entries
        .iter()
        .for_each(|entry| index.insert(entry).unwrap());
    index
}

fn texts(texts: &[&str]) -> Index {
    let number = |(at, text)| entry(at as u8 + 1, text);
    holding(
        &texts
            .iter()
            .copied()
            .enumerate()
            .map(number)
            .collect::<Vec<_>>(),
    )
}

fn work() -> Filter {
    Filter {
        topics: [WORK].into(),
        ..Filter::default()
    }
}

fn found(index: &Index, query: &str, filter: &Filter) -> Vec<u8> {
    numbers(&index.search(query, filter, Mode::Hybrid, 10))
}

fn numbers(hits: &[Hit]) -> Vec<u8> {
    hits.iter().map(|hit| hit.id[0]).collect()
}

fn some_notes() -> Index {
    texts(&[
        "The production database listens on db_port 5433",
        "Alice prefers dark roast coffee",
        "connectionPool keeps forty connections to the ledger",
        "To be or not to be",
        "Größe der Tabelle",
    ])
}

#[test]
fn an_inflected_word_finds_its_memory() {
    assert_eq!(found(&some_notes(), "connected", &work())[0], 3);
    assert_eq!(
        found(&some_notes(), "which database is listening?", &work())[0],
        1
    );
}

#[test]
fn an_identifier_is_found_whole_in_another_case_and_by_its_parts() {
    for query in ["db_port", "dbPort", "port", "DB_PORT"] {
        assert_eq!(found(&some_notes(), query, &work())[0], 1, "{query}");
    }
    assert_eq!(found(&some_notes(), "connection_pool", &work())[0], 3);
}

#[test]
fn a_misspelt_word_is_found_by_its_spelling_though_no_term_matches() {
    let hits = some_notes().search("prodction databse", &work(), Mode::Hybrid, 10);
    assert_eq!(hits[0].id, [1; 32]);
    assert_eq!(hits[0].lexical, 0.0);
    assert_eq!(
        some_notes().search("prodction databse", &work(), Mode::Lexical, 10),
        []
    );
}

#[test]
fn stop_words_alone_are_looked_up_and_beside_others_are_not() {
    assert_eq!(found(&some_notes(), "to be or not to be", &work())[0], 4);
    let hits = some_notes().search("to the coffee", &work(), Mode::Lexical, 10);
    assert_eq!(numbers(&hits), [2]);
}

#[test]
fn words_of_other_languages_match_as_they_are() {
    assert_eq!(found(&some_notes(), "GRÖSSE größe", &work())[0], 5);
}

#[test]
fn what_nobody_wrote_is_not_found() {
    assert_eq!(
        found(&some_notes(), "zygomorphic xylophone", &work()),
        [0; 0]
    );
    assert_eq!(found(&some_notes(), "🦀 …", &work()), [0; 0]);
}

#[test]
fn a_blank_query_gives_the_newest_first() {
    assert_eq!(found(&some_notes(), " \n", &work()), [5, 4, 3, 2, 1]);
    let two = some_notes().search("", &work(), Mode::Hybrid, 2);
    assert_eq!(numbers(&two), [5, 4]);
}

#[test]
fn scores_lie_between_zero_and_one_and_the_best_comes_first() {
    let hits = some_notes().search("production database coffee", &work(), Mode::Hybrid, 10);
    assert!(hits.len() >= 2 && hits.is_sorted_by(|a, b| a.score >= b.score));
    for hit in &hits {
        for part in [hit.score, hit.lexical, hit.semantic] {
            assert!((0.0..=1.0).contains(&part), "{hit:?}");
        }
    }
}

#[test]
fn importance_then_age_then_id_order_memories_that_match_equally() {
    let tea = |number, importance, created_ms| Entry {
        importance,
        created_ms,
        ..entry(number, "tea at four")
    };
    let index = holding(&[
        tea(9, 0.1, 5),
        tea(2, 0.9, 1),
        tea(5, 0.1, 7),
        tea(4, 0.1, 5),
    ]);
    assert_eq!(found(&index, "tea", &work()), [2, 5, 4, 9]);
    let odd = holding(&[
        tea(1, f32::NAN, 1),
        tea(2, f32::INFINITY, 1),
        tea(3, -7.0, 1),
    ]);
    assert_eq!(found(&odd, "tea", &work()), [2, 1, 3]);
}

#[test]
fn a_filter_that_names_no_topic_sees_nothing() {
    let index = some_notes();
    for query in ["coffee", ""] {
        assert_eq!(found(&index, query, &Filter::default()), [0; 0]);
    }
    let statistics = index.statistics("coffee", &Filter::default());
    assert_eq!(
        (statistics.documents, statistics.terms[0].documents),
        (0, 0)
    );
}

#[test]
fn a_topic_the_asker_may_not_read_moves_no_score() {
    let mut index = some_notes();
    let before = index.search("dark coffee database", &work(), Mode::Hybrid, 10);
    for number in 100..150 {
        let secret = Entry {
            topic: HOME,
            ..entry(number, "dark coffee for the dark database")
        };
        index.insert(&secret).unwrap();
    }
    assert_eq!(
        index.search("dark coffee database", &work(), Mode::Hybrid, 10),
        before
    );
}

#[test]
fn each_filter_narrows() {
    let tags = ["release".to_owned(), "eu".to_owned()];
    let index = holding(&[
        Entry {
            tags: &tags,
            ..entry(1, "tea")
        },
        Entry {
            tags: &tags[..1],
            author: BEN,
            ..entry(2, "tea")
        },
        Entry {
            kind: 2,
            ..entry(3, "tea")
        },
        Entry {
            topic: HOME,
            ..entry(4, "tea")
        },
        Entry {
            valid_from_ms: Some(50),
            valid_until_ms: Some(60),
            ..entry(5, "tea")
        },
    ]);
    let with = |change: fn(&mut Filter)| {
        let mut filter = work();
        change(&mut filter);
        let all = found(&index, "tea", &filter);
        assert_eq!(all, found(&index, "", &filter));
        all
    };
    assert_eq!(with(|_| {}), [5, 3, 2, 1]);
    assert_eq!(
        with(|filter| filter.topics = [WORK, HOME].into()),
        [5, 4, 3, 2, 1]
    );
    assert_eq!(with(|filter| filter.tags = vec!["release".into()]), [2, 1]);
    assert_eq!(
        with(|filter| filter.tags = vec!["eu".into(), "release".into()]),
        [1]
    );
    assert_eq!(with(|filter| filter.tags = vec!["nowhere".into()]), [0; 0]);
    assert_eq!(with(|filter| filter.author = Some(BEN)), [2]);
    assert_eq!(with(|filter| filter.author = Some([77; 32])), [0; 0]);
    assert_eq!(with(|filter| filter.kind = Some(2)), [3]);
    assert_eq!(with(|filter| filter.since_ms = Some(3)), [5, 3]);
    assert_eq!(with(|filter| filter.until_ms = Some(2)), [2, 1]);
    assert_eq!(with(|filter| filter.valid_at_ms = Some(49)), [3, 2, 1]);
    assert_eq!(with(|filter| filter.valid_at_ms = Some(50)), [5, 3, 2, 1]);
    assert_eq!(with(|filter| filter.valid_at_ms = Some(60)), [3, 2, 1]);
}

#[test]
fn a_later_version_supersedes_and_the_earlier_is_found_as_of_its_time() {
    let version = |at, text| Entry {
        version_ms: at,
        created_ms: 10,
        ..entry(1, text)
    };
    let (old, new) = (version(10, "port 5432"), version(20, "harbour 6000"));
    for order in [[old, new], [new, old]] {
        let index = holding(&order);
        assert_eq!((index.len(), index.versions()), (1, 2));
        assert_eq!(found(&index, "harbour", &work()), [1]);
        assert_eq!(found(&index, "port", &work()), [0; 0]);
        let as_of = |at| Filter {
            as_of_ms: Some(at),
            ..work()
        };
        for (at, query, expected) in [
            (9, "", &[][..]),
            (10, "port", &[1]),
            (19, "port", &[1]),
            (19, "harbour", &[]),
            (20, "harbour", &[1]),
            (20, "port", &[]),
            (u64::MAX - 1, "harbour", &[1]),
        ] {
            assert_eq!(
                found(&index, query, &as_of(at)),
                expected,
                "{query} at {at}"
            );
        }
    }
}

#[test]
fn the_same_version_again_replaces_itself() {
    let mut index = some_notes();
    index.insert(&entry(2, "Alice prefers green tea")).unwrap();
    assert_eq!((index.len(), index.versions()), (5, 5));
    assert_eq!(found(&index, "tea", &work())[0], 2);
    assert_eq!(index.search("coffee", &work(), Mode::Lexical, 10), []);
}

#[test]
fn of_too_many_versions_the_oldest_go() {
    let mut index = Index::default();
    for at in (0..MAX_VERSIONS as u64 + 10).rev() {
        index
            .insert(&Entry {
                version_ms: at,
                ..entry(1, "tea")
            })
            .unwrap();
    }
    assert_eq!((index.len(), index.versions()), (1, MAX_VERSIONS));
    let as_of = |at| Filter {
        as_of_ms: Some(at),
        ..work()
    };
    assert_eq!(found(&index, "tea", &as_of(9)), [0; 0]);
    assert_eq!(found(&index, "tea", &as_of(10)), [1]);
}

#[test]
fn an_erased_memory_leaves_no_trace_in_any_version() {
    let tags = ["hush".to_owned()];
    let mut index = some_notes();
    let (terms, empty) = (index.terms(), Index::default().memory_bytes());
    index.insert(&entry(9, "Zanzibar at noon")).unwrap();
    let later = Entry {
        version_ms: 50,
        tags: &tags,
        ..entry(9, "xylophone_concert at noon")
    };
    index.insert(&later).unwrap();
    let words = ["zanzibar", "xylophon", "hush"];
    let seen = |index: &Index| words.map(|word| format!("{index:?}").contains(word));
    assert_eq!(
        seen(&index),
        [true; 3],
        "or the search below proves nothing"
    );

    assert!(index.remove(&[9; 32]));
    assert!(!index.remove(&[9; 32]));
    assert_eq!(seen(&index), [false; 3]);
    assert!(!format!("{index:?}").contains("9, 9, 9, 9"), "the id");
    assert_eq!(
        (index.terms(), index.len(), index.versions()),
        (terms, 5, 5)
    );

    (1..=5).for_each(|number| assert!(index.remove(&[number; 32])));
    assert_eq!((index.terms(), index.len(), index.versions()), (0, 0, 0));
    assert!(
        index.memory_bytes() < empty + 10_000,
        "{}",
        index.memory_bytes()
    );
}

#[test]
fn the_order_of_arrival_changes_no_answer() {
    let notes: Vec<String> = (0..200)
        .map(|n: usize| format!("note{} tea{} milk{} sugar", n % 7, n % 3, n % 11))
        .collect();
    let entries: Vec<_> = notes
        .iter()
        .enumerate()
        .map(|(n, text)| entry(n as u8, text))
        .collect();
    let straight = holding(&entries);
    let mut shuffled = Index::default();
    for at in 0..200 {
        shuffled.insert(&entries[at * 77 % 200]).unwrap();
    }
    (0..50).for_each(|at| assert!(shuffled.remove(&entries[at].id)));
    entries[..50]
        .iter()
        .for_each(|entry| shuffled.insert(entry).unwrap());
    for query in ["note3 tea1", "milk", "suger", ""] {
        for mode in [Mode::Hybrid, Mode::Lexical, Mode::Semantic] {
            let of = |index: &Index| index.search(query, &work(), mode, 20);
            assert_eq!(of(&straight), of(&shuffled), "{query} {mode:?}");
        }
    }
}

#[test]
fn an_asker_scores_two_nodes_answers_as_one_node_holding_all_would() {
    let notes: Vec<String> = (1..60)
        .map(|n: usize| format!("tea{} milk{} jam", n % 5, n % 7))
        .collect();
    let number = |(at, text): (usize, &String)| (at as u8, text.clone());
    let entries: Vec<(u8, String)> = notes.iter().enumerate().map(number).collect();
    let (mut whole, mut a, mut b) = (Index::default(), Index::default(), Index::default());
    for (at, text) in &entries {
        whole.insert(&entry(*at, text)).unwrap();
        if *at < 10 { &mut a } else { &mut b }
            .insert(&entry(*at, text))
            .unwrap();
    }
    let query = "tea3 milk2 bread";
    for mode in [Mode::Hybrid, Mode::Lexical, Mode::Semantic] {
        let expected = whole.search(query, &work(), mode, 5);
        let mut statistics = a.statistics(query, &work());
        statistics.merge(&b.statistics(query, &work()));
        assert_eq!(statistics, whole.statistics(query, &work()));
        let mut hits = a.search(query, &work(), mode, 60);
        hits.extend(b.search(query, &work(), mode, 60));
        hits.extend(a.search(query, &work(), mode, 60));
        assert_eq!(rank(hits, &statistics, mode, 5), expected, "{mode:?}");
    }
}

#[test]
fn a_peers_impossible_numbers_are_bounded() {
    let index = some_notes();
    let mut statistics = index.statistics("coffee", &work());
    let mut hits = index.search("coffee", &work(), Mode::Hybrid, 1);
    statistics.terms[0].documents = u64::MAX;
    hits[0].semantic = f32::NAN;
    hits[0].importance = f32::INFINITY;
    hits[0].frequencies = vec![u32::MAX; 500];
    statistics.merge(&statistics.clone());
    let ranked = rank(hits, &statistics, Mode::Hybrid, 10);
    assert!((0.0..=1.0).contains(&ranked[0].score), "{ranked:?}");
}

#[test]
fn hostile_text_and_queries_are_taken_within_bounds() {
    let mut index = Index::default();
    let long = "\u{202e}a\u{0301}\u{0301}_İ ".repeat(20_000);
    for (number, text) in [long.as_str(), "", "\0\0", "🦀🦀", &"x".repeat(100_000)]
        .iter()
        .enumerate()
    {
        index.insert(&entry(number as u8, text)).unwrap();
    }
    assert_eq!(index.len(), 5);
    assert_eq!(
        index.search(&long, &work(), Mode::Hybrid, usize::MAX)[0].id,
        [0; 32]
    );
    assert!(index.statistics(&long, &work()).terms.len() <= 64);
    (0..5).for_each(|number| assert!(index.remove(&[number; 32])));
    assert_eq!(index.terms(), 0);
}

#[test]
fn pages_of_the_newest_meet_every_memory_once_even_those_of_one_millisecond() {
    let mut index = Index::default();
    for n in 0..25u8 {
        let text = format!("note {n}");
        let entry = Entry {
            created_ms: 1_000 + u64::from(n / 10),
            ..entry(n, &text)
        };
        index.insert(&entry).unwrap();
    }
    let mut filter = work();
    let mut seen = Vec::new();
    loop {
        let page = index.search("", &filter, Mode::Hybrid, 4);
        let Some(last) = page.last() else { break };
        filter.after = Some((last.created_ms, last.id));
        seen.extend(page.iter().map(|hit| hit.id));
    }
    let mut once = seen.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!((seen.len(), once.len()), (25, 25));
}
