//! Words: from any text to the terms both rankings count.
//!
//! Words are found by UAX #29, lower-cased and, where they are plain English letters, stemmed
//! (Porter's Snowball English). An identifier is kept whole and also indexed by its parts:
//! `db_port` gives `db_port`, `db`, `port`; `camelCase` gives `camelcase`, `camel`, `case`. Words of
//! other languages are kept as they are and match exactly.
//!
//! Text is a stranger's: bytes read, tokens kept and token length are all bounded here, by cutting,
//! never by failing. Not here: postings (`postings.rs`), scores (`score.rs`).

use rust_stemmers::{Algorithm, Stemmer};
use unicode_segmentation::UnicodeSegmentation;

/// Bytes of one memory's text that are read; the rest is not searchable.
pub(super) const TEXT_BYTES: usize = 64 * 1024;
/// Bytes of a query that are read.
pub(super) const QUERY_BYTES: usize = 4 * 1024;
/// Tokens kept of one text.
const TOKENS: usize = 16_384;
/// Bytes kept of one token; a longer one matches by its beginning.
const TOKEN_BYTES: usize = 64;
/// Distinct terms of one query that are looked up.
pub(super) const QUERY_TERMS: usize = 64;

/// The tokens of one text, in order, in one allocation.
#[derive(Default)]
pub(super) struct Words {
    buffer: String,
    spans: Vec<Span>,
}

#[derive(Clone, Copy)]
struct Span {
    start: u32,
    end: u32,
    stop: bool,
}

/// One distinct term of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Term<'a> {
    /// The stem.
    pub(super) text: &'a str,
    /// How often it occurs; at least 1.
    pub(super) count: u32,
    /// It is an English stop-word and carries no meaning beside others.
    pub(super) stop: bool,
}

impl Words {
    /// Reads at most `bytes` bytes of `text`.
    pub(super) fn of(text: &str, bytes: usize) -> Self {
        let text = cut(text, bytes);
        let mut words = Self {
            buffer: String::with_capacity(text.len() + text.len() / 4),
            spans: Vec::with_capacity((text.len() / 4).min(TOKENS)),
        };
        let stemmer = Stemmer::create(Algorithm::English);
        let mut lower = String::with_capacity(TOKEN_BYTES);
        for word in text.unicode_words() {
            if words.spans.len() >= TOKENS {
                break;
            }
            let whole = words.push(word, &stemmer, &mut lower);
            if is_compound(word) {
                words.push_parts(word, whole, &stemmer, &mut lower);
            }
        }
        words
    }

    /// How many tokens were kept.
    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    /// The distinct terms with their counts, sorted by their text: a pure function of the multiset.
    pub(super) fn terms(&self) -> Vec<Term<'_>> {
        let mut terms: Vec<Term<'_>> = self.spans.iter().map(|&span| self.term(span)).collect();
        terms.sort_unstable_by(|a, b| a.text.cmp(b.text));
        terms.dedup_by(|next, kept| {
            let same = next.text == kept.text;
            if same {
                kept.count += next.count;
                kept.stop &= next.stop;
            }
            same
        });
        terms
    }

    /// What a query looks up: distinct terms in order of appearance, at most [`QUERY_TERMS`].
    /// Stop-words count only when there is nothing else ("to be or not to be").
    pub(super) fn query(&self) -> Vec<String> {
        let only_stops = self.spans.iter().all(|span| span.stop);
        let mut terms: Vec<String> = Vec::new();
        for term in self.spans.iter().map(|&span| self.term(span)) {
            let counts = only_stops || !term.stop;
            if counts && !terms.iter().any(|known| known == term.text) {
                terms.push(term.text.to_owned());
                if terms.len() == QUERY_TERMS {
                    break;
                }
            }
        }
        terms
    }

    fn term(&self, span: Span) -> Term<'_> {
        let text = &self.buffer[span.start as usize..span.end as usize];
        Term {
            text,
            count: 1,
            stop: span.stop,
        }
    }

    /// Appends one token and returns its span.
    fn push(&mut self, word: &str, stemmer: &Stemmer, lower: &mut String) -> Span {
        lower_into(word, lower);
        let stop = is_stop(lower);
        let stem = if !stop && is_english(lower) {
            stemmer.stem(lower)
        } else {
            (**lower).into()
        };
        let start = self.buffer.len() as u32;
        self.buffer.push_str(&stem);
        let span = Span {
            start,
            end: self.buffer.len() as u32,
            stop,
        };
        self.spans.push(span);
        span
    }

    fn push_parts(&mut self, word: &str, whole: Span, stemmer: &Stemmer, lower: &mut String) {
        for part in parts(word).filter(|part| part.chars().nth(1).is_some()) {
            if self.spans.len() >= TOKENS {
                return;
            }
            let span = self.push(part, stemmer, lower);
            if self.term(span).text == self.term(whole).text {
                self.spans.pop();
                self.buffer.truncate(span.start as usize);
            }
        }
    }
}

/// The longest beginning of `text` of at most `bytes` bytes that ends between characters.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

fn lower_into(word: &str, lower: &mut String) {
    lower.clear();
    if word.is_ascii() {
        lower.push_str(cut(word, TOKEN_BYTES));
        lower.make_ascii_lowercase();
        return;
    }
    for c in word.chars().map(|c| if c == '\u{2019}' { '\'' } else { c }) {
        if lower.len() + c.len_utf8() > TOKEN_BYTES {
            break;
        }
        lower.extend(c.to_lowercase());
    }
    // One character may grow when lowered (U+0130): hold the bound all the same.
    let end = lower.floor_char_boundary(TOKEN_BYTES);
    lower.truncate(end);
}

/// Plain letters and apostrophes: what the English stemmer is made for.
fn is_english(lower: &str) -> bool {
    lower.len() > 2 && lower.bytes().all(|b| b.is_ascii_lowercase() || b == b'\'')
}

/// A word that may have parts: punctuation that UAX #29 joins over, or a capital inside.
fn is_compound(word: &str) -> bool {
    word.chars()
        .skip(1)
        .any(|c| !c.is_alphanumeric() || c.is_uppercase())
}

/// The parts of an identifier: split at punctuation, `aB`, and before the last capital of `ABc`.
/// Apostrophes split only before three letters or more (`l'avion`, but not `don't`).
fn parts(word: &str) -> impl Iterator<Item = &str> {
    word.split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '\u{2019}')
        .flat_map(apostrophes)
        .flat_map(humps)
}

fn apostrophes(word: &str) -> impl Iterator<Item = &str> {
    let split = word
        .char_indices()
        .find(|&(at, c)| (c == '\'' || c == '\u{2019}') && word[at..].chars().nth(3).is_some());
    let (head, tail) = match split {
        Some((at, c)) => (&word[..at], &word[at + c.len_utf8()..]),
        None => (word, ""),
    };
    [head, tail].into_iter().filter(|part| !part.is_empty())
}

fn humps(word: &str) -> impl Iterator<Item = &str> {
    let mut rest = word;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (part, after) = rest.split_at(hump_end(rest));
        rest = after;
        Some(part)
    })
}

/// Where the first hump of a non-empty word ends.
fn hump_end(word: &str) -> usize {
    let mut chars = word.char_indices().peekable();
    let mut before: Option<char> = None;
    while let Some((at, c)) = chars.next() {
        let lower_after = chars.peek().is_some_and(|(_, next)| next.is_lowercase());
        let starts = before.is_some_and(|b| {
            c.is_uppercase() && (!b.is_uppercase() || (lower_after && b.is_alphabetic()))
        });
        if starts {
            return at;
        }
        before = Some(c);
    }
    word.len()
}

/// Function words of English, sorted. `may` and `us` are left out: a month and a country.
const STOP_WORDS: [&str; 114] = [
    "a", "about", "after", "again", "all", "also", "am", "an", "and", "any", "are", "as", "at",
    "be", "because", "been", "before", "being", "both", "but", "by", "can", "could", "did", "do",
    "does", "doing", "during", "each", "few", "for", "from", "further", "had", "has", "have",
    "having", "he", "her", "here", "hers", "him", "his", "how", "i", "if", "in", "into", "is",
    "it", "its", "just", "let", "me", "more", "most", "my", "no", "nor", "not", "of", "off", "on",
    "once", "only", "or", "other", "our", "ours", "out", "over", "own", "same", "she", "should",
    "so", "some", "such", "than", "that", "the", "their", "theirs", "them", "then", "there",
    "these", "they", "this", "those", "through", "to", "too", "under", "until", "up", "very",
    "was", "we", "were", "what", "when", "where", "which", "while", "who", "whom", "why", "will",
    "with", "would", "you", "your", "yours",
];

/// Whether a lower-cased word is a stop-word, also as `it's` or `couldn't`.
fn is_stop(lower: &str) -> bool {
    let listed = |word: &str| word.len() <= 7 && STOP_WORDS.binary_search(&word).is_ok();
    match lower.split_once('\'') {
        Some((base, _)) => listed(base) || base.strip_suffix('n').is_some_and(listed),
        None => listed(lower),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<String> {
        let words = Words::of(text, TEXT_BYTES);
        words
            .spans
            .iter()
            .map(|&span| words.term(span).text.to_owned())
            .collect()
    }

    #[test]
    fn the_stop_words_are_sorted_for_binary_search() {
        assert!(STOP_WORDS.is_sorted());
        assert!(STOP_WORDS.iter().all(|&word| is_stop(word)));
    }

    #[test]
    fn inflected_english_words_share_a_stem() {
        assert_eq!(tokens("connections connected connecting"), ["connect"; 3]);
        assert_eq!(tokens("John\u{2019}s John's"), ["john"; 2]);
    }

    #[test]
    fn an_identifier_is_kept_whole_and_by_its_parts() {
        assert_eq!(tokens("db_port"), ["db_port", "db", "port"]);
        assert_eq!(tokens("camelCase"), ["camelcas", "camel", "case"]);
        assert_eq!(tokens("HTTPServer"), ["httpserver", "http", "server"]);
        assert_eq!(tokens("v1.2.3"), ["v1.2.3", "v1"]);
        assert_eq!(tokens("recall.rs"), ["recall.rs", "recal", "rs"]);
        assert_eq!(tokens("Postgres README"), ["postgr", "readm"]);
        assert_eq!(tokens("l'avion"), ["l'avion", "avion"]);
        assert_eq!(tokens("don't"), ["don't"]);
    }

    #[test]
    fn other_scripts_are_kept_exact() {
        assert_eq!(tokens("Größe ПОРТ"), ["größe", "порт"]);
        assert_eq!(tokens("数据"), ["数", "据"]);
        assert_eq!(tokens("🦀 …"), [""; 0]);
    }

    #[test]
    fn a_query_drops_stop_words_only_beside_other_words() {
        let query = |text| Words::of(text, QUERY_BYTES).query();
        assert_eq!(
            query("what is the port of the database, isn't it"),
            ["port", "databas"]
        );
        assert_eq!(query("to be or not to be"), ["to", "be", "or", "not"]);
    }

    #[test]
    fn terms_are_counted_and_sorted() {
        let words = Words::of("port db port", TEXT_BYTES);
        let db = Term {
            text: "db",
            count: 1,
            stop: false,
        };
        assert_eq!(
            words.terms(),
            [
                db,
                Term {
                    text: "port",
                    count: 2,
                    stop: false
                }
            ]
        );
    }

    #[test]
    fn hostile_text_is_cut_and_never_refused() {
        let long = "x".repeat(1000);
        assert_eq!(tokens(&long), ["x".repeat(TOKEN_BYTES)]);
        assert!(
            tokens(&"İ".repeat(1000))
                .iter()
                .all(|token| token.len() <= TOKEN_BYTES)
        );
        let many = "a_b ".repeat(TEXT_BYTES);
        assert_eq!(Words::of(&many, TEXT_BYTES).len(), TOKENS);
        assert!(tokens(&"_'.".repeat(20_000)).len() <= TOKENS);
        assert!(Words::of("é".repeat(10).as_str(), 3).buffer.len() <= 3);
        let distinct: String = (0..1000).map(|n| format!("w{n} ")).collect();
        assert_eq!(Words::of(&distinct, QUERY_BYTES).query().len(), QUERY_TERMS);
    }
}
