//! Recall at 100,000 memories: insert, search and erase, beside what this machine's memory allows.
//!
//! The text is generated from a seed: about 40 words a memory, drawn by Zipf's law from 50,000
//! words of which the commonest are English function words. The baseline is the plainest recall
//! there is: `str::contains` of one word over all the text. Nothing here is asserted; read the table.
//!
//! `cargo bench -p aquifer-node --bench recall [memories]`

use std::hint::black_box;
use std::time::{Duration, Instant};

use aquifer_node::recall::{Entry, Filter, Index, Mode};

const MEMORIES: usize = 100_000;
const VOCABULARY: usize = 50_000;
const TOPICS: u64 = 16;
const QUERIES: usize = 1_000;
const FUNCTION_WORDS: &str = "the of and to a in is it you that he was for on are with as i his they \
    be at this have from or by not but what all were we when your can there an which their if do \
    will each about how up out them then she so some her would him into has more two no way could";

fn main() {
    let asked = std::env::args().skip(1).find_map(|word| word.parse().ok());
    let memories: usize = asked.unwrap_or(MEMORIES);
    let mut chance = Chance(7);
    let words = Zipf::new(&mut chance);
    let texts: Vec<String> = (0..memories)
        .map(|_| words.text(&mut chance, 28..=52))
        .collect();
    let bytes: usize = texts.iter().map(String::len).sum();
    println!(
        "{memories} memories, {} bytes of text each",
        bytes / memories.max(1)
    );

    let scan = median(9, || {
        black_box(
            texts
                .iter()
                .filter(|text| text.contains(black_box("zzqzz")))
                .count(),
        );
    });
    println!(
        "baseline: contains() over all text  {:9.3} ms",
        millis(scan)
    );

    let mut index = Index::default();
    let start = Instant::now();
    for (number, text) in texts.iter().enumerate() {
        index
            .insert(&entry(number as u64, text))
            .expect("there is room");
    }
    let took = start.elapsed();
    let each = index.memory_bytes() / memories.max(1);
    println!("insert  {:9.0} /s", memories as f64 / took.as_secs_f64());
    println!(
        "memory  {each:9} B each, {:.2} x the text; {} terms",
        each as f64 * memories as f64 / bytes as f64,
        index.terms()
    );

    let all = Filter {
        topics: (0..TOPICS).map(topic).collect(),
        ..Filter::default()
    };
    let one = Filter {
        topics: [topic(3)].into(),
        ..Filter::default()
    };
    let queries: Vec<String> = (0..QUERIES)
        .map(|_| words.query(&mut chance, &texts))
        .collect();
    println!("search, top 10             p50 ms    p99 ms    max ms   p50 / baseline");
    for (name, filter, mode) in [
        ("hybrid, all topics", &all, Mode::Hybrid),
        ("lexical, all topics", &all, Mode::Lexical),
        ("semantic, all topics", &all, Mode::Semantic),
        ("hybrid, 1 topic of 16", &one, Mode::Hybrid),
    ] {
        let took = queries.iter().map(|query| {
            let start = Instant::now();
            black_box(index.search(query, filter, mode, 10));
            start.elapsed()
        });
        report(name, took.collect(), scan);
    }

    let removed = memories / 10;
    let start = Instant::now();
    for number in 0..removed {
        index.remove(&id((number * 7 % memories) as u64));
    }
    println!(
        "remove  {:9.0} /s",
        removed as f64 / start.elapsed().as_secs_f64()
    );
}

fn report(name: &str, mut took: Vec<Duration>, baseline: Duration) {
    took.sort_unstable();
    let at = |share: f64| millis(took[((took.len() - 1) as f64 * share) as usize]);
    let (p50, p99, max) = (at(0.5), at(0.99), at(1.0));
    println!(
        "  {name:<22} {p50:9.3} {p99:9.3} {max:9.3} {:9.2}",
        p50 / millis(baseline)
    );
}

fn median(runs: usize, mut of: impl FnMut()) -> Duration {
    let timed = |_| {
        let start = Instant::now();
        of();
        start.elapsed()
    };
    let mut took: Vec<Duration> = (0..runs).map(timed).collect();
    took.sort_unstable();
    took[runs / 2]
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

fn entry(number: u64, text: &str) -> Entry<'_> {
    Entry {
        id: id(number),
        version_ms: number,
        topic: topic(number % TOPICS),
        author: topic(number % 50),
        kind: 0,
        tags: &[],
        created_ms: number,
        valid_from_ms: None,
        valid_until_ms: None,
        importance: 0.5,
        text,
    }
}

fn id(number: u64) -> [u8; 32] {
    let mut id = [0; 32];
    for (at, part) in id.chunks_exact_mut(8).enumerate() {
        part.copy_from_slice(&Chance(number ^ (at as u64) << 56).next().to_le_bytes());
    }
    id
}

fn topic(number: u64) -> [u8; 32] {
    id(number | 1 << 40)
}

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// Words, and how often each is drawn: the nth with weight 1/n.
struct Zipf {
    words: Vec<String>,
    cumulative: Vec<f64>,
    common: usize,
}

impl Zipf {
    fn new(chance: &mut Chance) -> Self {
        let mut words: Vec<String> = FUNCTION_WORDS
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        let common = words.len();
        words.resize_with(VOCABULARY, || {
            let syllables = 2 + chance.below(3);
            let syllable = |_| {
                let onset = [
                    "b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "st",
                ];
                let rhyme = [
                    "a", "e", "i", "o", "u", "an", "er", "in", "or", "al", "ing", "ed",
                ];
                [
                    onset[chance.below(onset.len())],
                    rhyme[chance.below(rhyme.len())],
                ]
                .concat()
            };
            (0..syllables).map(syllable).collect()
        });
        let weigh = |sum: &mut f64, rank: usize| {
            *sum += 1.0 / (rank as f64 + 1.0);
            Some(*sum)
        };
        let cumulative = (0..words.len()).scan(0.0, weigh).collect();
        Self {
            words,
            cumulative,
            common,
        }
    }

    fn draw(&self, chance: &mut Chance) -> &str {
        let total = self.cumulative.last().copied().unwrap_or(0.0);
        let at = (chance.next() >> 11) as f64 / (1u64 << 53) as f64 * total;
        &self.words[self.cumulative.partition_point(|&sum| sum <= at)]
    }

    fn text(&self, chance: &mut Chance, words: std::ops::RangeInclusive<usize>) -> String {
        let count = words.start() + chance.below(words.end() - words.start() + 1);
        let words: Vec<&str> = (0..count).map(|_| self.draw(chance)).collect();
        words.join(" ")
    }

    /// Three to five words of one memory, and a function word between.
    fn query(&self, chance: &mut Chance, texts: &[String]) -> String {
        let words: Vec<&str> = texts[chance.below(texts.len())].split(' ').collect();
        let count = 3 + chance.below(3);
        let mut query: Vec<&str> = (0..count)
            .map(|_| words[chance.below(words.len())])
            .collect();
        query.push(&self.words[chance.below(self.common)]);
        query.join(" ")
    }
}
