//! Geography: which agent is where, and how long the way is.
//!
//! Agents are numbered region by region, so a region is a range. A link takes the time of its two
//! regions and up to a part more, drawn once for each pair of agents; what an agent needs to handle a
//! message comes on top, drawn each time. All times are one way, in microseconds.
//!
//! Not here: who is linked to whom (`graph`).

use super::draw::{Draws, Purpose, scaled};
use super::engine::epoch::Owners;

/// Most regions.
pub const REGIONS_MAX: usize = 16;

/// The regions of a run.
#[derive(Clone, Debug)]
pub struct Geography {
    /// Their names.
    pub names: Vec<String>,
    /// Region `i` has the agents from `bounds[i]` up to but not including `bounds[i+1]`.
    pub bounds: Vec<u64>,
    /// One way from region to region.
    base: [[u32; REGIONS_MAX]; REGIONS_MAX],
    /// A link takes up to so many 256ths more.
    jitter: u32,
    /// What an agent needs to handle a message, at least and at most.
    processing: (u32, u32),
    draws: Draws,
    /// The region of each run of `1 << grain` agents, for those in one region.
    table: Vec<u8>,
    grain: u32,
}

/// A table of ways that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("latency matrix, line {line}: {why}")]
pub struct ReadMatrix {
    /// Of the file.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

/// Names of regions, and one way between each two in microseconds.
pub type Matrix = (Vec<String>, Vec<Vec<u32>>);

/// Reads a latency matrix: a line of names, then a line for each region, in milliseconds.
///
/// # Errors
/// If a line does not fit the names or a cell is no time above 0.
pub fn read_matrix(text: &str) -> Result<Matrix, ReadMatrix> {
    let mut lines = (1..).zip(text.lines().map(str::trim));
    let mut next = || {
        lines
            .by_ref()
            .find(|(_, line)| !line.is_empty() && !line.starts_with('#'))
    };
    let (line, names) = next().unwrap_or((0, ""));
    let names: Vec<String> = names
        .split(',')
        .skip(1)
        .map(|n| n.trim().to_owned())
        .collect();
    let fail = |line, why| Err(ReadMatrix { line, why });
    if names.is_empty() || names.len() > REGIONS_MAX {
        return fail(
            line,
            format!("name 1 to {REGIONS_MAX} regions, after a comma"),
        );
    }
    let mut rows = Vec::new();
    for name in &names {
        let Some((line, text)) = next() else {
            return fail(line, format!("`{name}` has no line"));
        };
        let mut cells = text.split(',').map(str::trim);
        if cells.next() != Some(name) {
            return fail(line, format!("this should be the line of `{name}`"));
        }
        let row: Vec<u32> = cells
            .map_while(|cell| cell.parse::<f64>().ok())
            .filter(|ms| *ms > 0.0 && *ms < 10_000.0)
            .map(|ms| (ms * 1_000.0) as u32)
            .collect();
        if row.len() != names.len() || row.contains(&0) {
            return fail(
                line,
                format!("give {} times in milliseconds, above 0", names.len()),
            );
        }
        rows.push(row);
    }
    Ok((names, rows))
}

impl Geography {
    /// `agents` over the regions of a matrix, by `shares`; `jitter` in hundredths.
    ///
    /// # Panics
    /// If there are not as many shares as regions, or none is above 0.
    pub fn new(
        agents: u64,
        shares: &[f64],
        (names, ways): Matrix,
        jitter: u32,
        processing: (u32, u32),
        draws: Draws,
    ) -> Self {
        assert_eq!(shares.len(), names.len(), "a share for each region");
        let sum: f64 = shares.iter().sum();
        assert!(sum > 0.0, "somebody lives somewhere");
        let mut bounds = vec![0];
        let mut upto = 0.0;
        for share in shares {
            upto += share / sum;
            bounds.push((agents as f64 * upto).round() as u64);
        }
        *bounds.last_mut().expect("not empty") = agents;
        let mut base = [[0; REGIONS_MAX]; REGIONS_MAX];
        for (to, row) in base.iter_mut().zip(&ways) {
            to[..row.len()].copy_from_slice(row);
        }
        // So fine that few runs cross a border.
        let grain = (agents.max(1) / 4_096).max(1).ilog2();
        let region = |agent: u64| bounds[1..].iter().filter(|bound| agent >= **bound).count() as u8;
        let table = (0..=agents >> grain)
            .map(|run| {
                let (first, last) = (run << grain, ((run + 1) << grain) - 1);
                let first = region(first);
                if first == region(last) {
                    first
                } else {
                    u8::MAX
                }
            })
            .collect();
        Self {
            names,
            base,
            jitter: jitter * 256 / 100,
            processing,
            draws,
            table,
            grain,
            bounds,
        }
    }

    /// How many regions there are.
    pub fn regions(&self) -> usize {
        self.names.len()
    }

    /// How many agents there are.
    pub fn agents(&self) -> u64 {
        *self.bounds.last().expect("not empty")
    }

    /// The region of an agent.
    #[inline]
    pub fn region(&self, agent: u64) -> usize {
        match self.table[(agent >> self.grain) as usize] {
            u8::MAX => self.bounds[1..]
                .iter()
                .filter(|bound| agent >= **bound)
                .count(),
            region => usize::from(region),
        }
    }

    /// How long the way between two agents is, given their regions; the same both ways.
    #[inline]
    pub fn way(&self, (a, home): (u64, usize), (b, abroad): (u64, usize)) -> u64 {
        let base = u64::from(self.base[home % REGIONS_MAX][abroad % REGIONS_MAX]);
        let drawn = self.draws.bits(Purpose::Jitter, a.min(b), a.max(b));
        let part = scaled(drawn, self.jitter + 1);
        base + ((base * u64::from(part)) >> 8)
    }

    /// The shortest way inside a region, in microseconds.
    pub fn inside(&self, region: usize) -> u64 {
        u64::from(self.base[region % REGIONS_MAX][region % REGIONS_MAX])
    }

    /// How long `agent` needs to handle its `count`-th message.
    #[inline]
    pub fn processing(&self, agent: u64, count: u64) -> u64 {
        self.processing_of(self.draws.bits(Purpose::Processing, agent, count))
    }

    /// The same, of 32 bits that were drawn for it: the upper half.
    #[inline]
    pub fn processing_of(&self, bits: u64) -> u64 {
        let (least, most) = self.processing;
        u64::from(least + scaled(bits, most - least + 1))
    }

    /// The shortest way between any two agents that may be linked.
    pub fn shortest(&self) -> u64 {
        let regions = 0..self.regions();
        let ways = regions
            .clone()
            .flat_map(|a| regions.clone().map(move |b| (a, b)));
        let populated = |region: usize| self.bounds[region] < self.bounds[region + 1];
        ways.filter(|(a, b)| populated(*a) && populated(*b))
            .map(|(a, b)| u64::from(self.base[a][b]))
            .min()
            .unwrap_or(1)
    }

    /// Whole regions for each of so many workers, as evenly as that can be; fewer if there are fewer
    /// regions with anybody in them.
    pub fn shared_out(&self, workers: usize) -> Owners {
        let agents = self.agents();
        let mut bounds = vec![0];
        for worker in 1..workers as u64 {
            let ideal = agents * worker / workers as u64;
            let nearest = self.bounds.iter().min_by_key(|bound| bound.abs_diff(ideal));
            let nearest = *nearest.expect("not empty");
            if nearest > *bounds.last().expect("not empty") && nearest < agents {
                bounds.push(nearest);
            }
        }
        bounds.push(agents);
        Owners {
            bounds: bounds.into_iter().map(|bound| bound as u32).collect(),
        }
    }

    /// The shortest way between agents of two workers.
    pub fn shortest_between(&self, owners: &Owners) -> u64 {
        let owner = |region: usize| {
            let first = self.bounds[region] as u32;
            owners.bounds[1..]
                .iter()
                .filter(|bound| first >= **bound)
                .count()
        };
        let regions = 0..self.regions();
        let pairs = regions
            .clone()
            .flat_map(|a| regions.clone().map(move |b| (a, b)));
        pairs
            .filter(|(a, b)| owner(*a) != owner(*b))
            .map(|(a, b)| u64::from(self.base[a][b]))
            .min()
            .unwrap_or(u64::MAX)
    }
}
