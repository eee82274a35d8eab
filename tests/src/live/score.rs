//! The score: how alike two spreads of the same messages are.
//!
//! The measures, and how far apart both may be: the usual statistics of two
//! samples (Kolmogorov–Smirnov distance, total variation).

use serde::Serialize;

/// How messages spread, in one run or in some.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// For each message, after how many microseconds it arrived, in order.
    pub messages: Vec<Vec<u64>>,
    /// Copies that came, first ones among them.
    pub copies: u64,
    /// How often an agent was seen with so many links in its mesh.
    pub degrees: Vec<u64>,
}

/// One measure of both, and how far apart they may be.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What is measured.
    pub measure: &'static str,
    /// Of the live nodes, where it is a number of each.
    pub live: Option<f64>,
    /// Of the model.
    pub model: Option<f64>,
    /// How far apart they are.
    pub apart: f64,
    /// How far they may be.
    pub limit: f64,
}

impl Row {
    /// Whether it is within its limit.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.apart <= self.limit
    }
}

impl Spread {
    /// Adds another run's.
    pub fn add(&mut self, other: Self) {
        self.messages.extend(other.messages);
        self.copies += other.copies;
        let longer = self.degrees.len().max(other.degrees.len());
        self.degrees.resize(longer, 0);
        let counts = self.degrees.iter_mut().zip(other.degrees);
        counts.for_each(|(sum, count)| *sum += count);
    }

    /// All delays, in order.
    #[must_use]
    pub fn pooled(&self) -> Vec<u64> {
        let mut all: Vec<u64> = self.messages.iter().flatten().copied().collect();
        all.sort_unstable();
        all
    }

    /// All delays, each less the median of its message: the shape without the place.
    #[must_use]
    pub fn centred(&self) -> Vec<i64> {
        let centre = |delays: &Vec<u64>| {
            let median = quantile(delays, 0.5) as i64;
            delays
                .iter()
                .map(move |delay| *delay as i64 - median)
                .collect::<Vec<_>>()
        };
        let mut all: Vec<i64> = self.messages.iter().flat_map(centre).collect();
        all.sort_unstable();
        all
    }

    fn medians(&self) -> Vec<u64> {
        let some = self.messages.iter().filter(|delays| !delays.is_empty());
        let mut all: Vec<u64> = some.map(|delays| quantile(delays, 0.5)).collect();
        all.sort_unstable();
        all
    }

    /// Copies for each first one, beyond it.
    #[must_use]
    pub fn duplicates(&self) -> f64 {
        let firsts: usize = self.messages.iter().map(Vec::len).sum();
        self.copies as f64 / firsts.max(1) as f64 - 1.0
    }

    fn firsts(&self) -> f64 {
        self.messages.iter().map(Vec::len).sum::<usize>() as f64
    }
}

/// Compares what live nodes saw with what the model says of the same messages.
#[must_use]
pub fn compare(live: &Spread, model: &Spread) -> Vec<Row> {
    let pooled = [live.pooled(), model.pooled()];
    let medians = [live.medians(), model.medians()];
    let relative = |measure, limit, [live, model]: [f64; 2]| Row {
        measure,
        live: Some(live),
        model: Some(model),
        apart: (model / live - 1.0).abs(),
        limit,
    };
    let distance = |measure, limit, apart| Row {
        measure,
        live: None,
        model: None,
        apart,
        limit,
    };
    let time = |part| {
        pooled
            .each_ref()
            .map(|all| quantile(all, part) as f64 / 1_000.0)
    };
    let mean = |all: &Vec<u64>| all.iter().sum::<u64>() as f64 / all.len().max(1) as f64 / 1_000.0;
    let duplicates = [live.duplicates(), model.duplicates()];
    let centred = [live.centred(), model.centred()];
    vec![
        distance(
            "propagation, message-centred: KS",
            0.05,
            ks(&centred[0], &centred[1]),
        ),
        distance(
            "medians of messages: KS",
            0.15,
            ks(&medians[0], &medians[1]),
        ),
        relative("mean of medians, ms", 0.05, medians.each_ref().map(mean)),
        relative("p50, ms", 0.05, time(0.5)),
        relative("p90, ms", 0.05, time(0.9)),
        relative("p99, ms", 0.10, time(0.99)),
        Row {
            measure: "duplicates for each delivery",
            live: Some(duplicates[0]),
            model: Some(duplicates[1]),
            apart: (duplicates[0] - duplicates[1]).abs(),
            limit: 0.25,
        },
        Row {
            live: Some(mean_degree(&live.degrees)),
            model: Some(mean_degree(&model.degrees)),
            ..distance("mesh degree: TV", 0.05, tv(&live.degrees, &model.degrees))
        },
        relative("deliveries", 0.0001, [live.firsts(), model.firsts()]),
    ]
}

fn mean_degree(counts: &[u64]) -> f64 {
    let all: u64 = counts.iter().sum();
    let sum: u64 = (0..)
        .zip(counts)
        .map(|(degree, count)| degree * count)
        .sum();
    sum as f64 / all.max(1) as f64
}

/// The value that `part` of 1 of all are no larger than; 0 of none. `all` is in order.
fn quantile(all: &[u64], part: f64) -> u64 {
    let place = ((all.len() as f64 * part).ceil() as usize).max(1);
    all.get(place - 1).copied().unwrap_or(0)
}

/// The Kolmogorov–Smirnov distance of two samples in order: the most by which the parts of both that
/// lie below a value differ.
#[must_use]
pub fn ks<T: Ord>(a: &[T], b: &[T]) -> f64 {
    let (mut i, mut j, mut most) = (0, 0, 0.0_f64);
    while i < a.len() && j < b.len() {
        let least = (&a[i]).min(&b[j]);
        let (x, y) = (run(a, i, least), run(b, j, least));
        (i, j) = (x, y);
        let apart = i as f64 / a.len() as f64 - j as f64 / b.len() as f64;
        most = most.max(apart.abs());
    }
    if a.is_empty() != b.is_empty() {
        1.0
    } else {
        most
    }
}

/// From `from` on, past all that are `value`.
fn run<T: Ord>(all: &[T], from: usize, value: &T) -> usize {
    from + all[from..]
        .iter()
        .take_while(|other| *other == value)
        .count()
}

/// The total variation distance of two histograms.
#[must_use]
pub fn tv(a: &[u64], b: &[u64]) -> f64 {
    let part = |counts: &[u64], place: usize| {
        let all: u64 = counts.iter().sum();
        counts
            .get(place)
            .map_or(0.0, |count| *count as f64 / all.max(1) as f64)
    };
    let places = 0..a.len().max(b.len());
    places
        .map(|place| (part(a, place) - part(b, place)).abs())
        .sum::<f64>()
        / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_books() {
        assert_eq!(0.0, ks(&[1, 2, 2, 3], &[1, 2, 2, 3]));
        assert_eq!(1.0, ks(&[1, 2], &[3, 4]));
        assert_eq!(0.5, ks(&[1, 2, 3, 4], &[3, 4, 5, 6]));
        assert_eq!(1.0, ks(&[], &[1]));
        assert_eq!(0.25, ks(&[2, 2, 2, 2], &[1, 2, 2, 2]));
        assert_eq!(0.0, tv(&[1, 2, 1], &[2, 4, 2]));
        assert_eq!(1.0, tv(&[1], &[0, 3]));
        assert_eq!(0.5, tv(&[1, 1], &[0, 1]));
    }

    #[test]
    fn a_spread_is_like_itself_and_unlike_one_that_is_slower() {
        let spread = |stretch: u64| Spread {
            messages: (1..=20)
                .map(|m| {
                    (1..=50)
                        .map(|n| (m * 1_000 + n * 4_000) * stretch)
                        .collect()
                })
                .collect(),
            copies: 7_000 * stretch,
            degrees: vec![0, 1, 5, 3],
        };
        assert!(compare(&spread(1), &spread(1)).iter().all(Row::holds));
        let failed: Vec<&str> = compare(&spread(1), &spread(2))
            .iter()
            .filter(|row| !row.holds())
            .map(|row| row.measure)
            .collect();
        assert_eq!(7, failed.len(), "{failed:?}");
    }
}
