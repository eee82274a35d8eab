//! Forager: looks for good places by signals that fade, as ants do (stigmergy).
//!
//! A signal is `[place, strength]` on the topic `signals`. The agent keeps the strongest few, and
//! each halves every minute. On its timer it goes to the strongest place and takes a sample there. If
//! it is good, the agent strengthens the signal for all; if not, it weakens its own, takes a step at
//! random, and looks there. What is good changes with time, so a swarm of them finds new places while
//! the signals of the old ones fade, with nobody in charge.
//!
//! An invocation is answered with the state: `[place, [[place, strength, since], ...]]`.
//!
//! Not here: a real sample. It is a hash of the place and the time, good in one of four places for
//! five minutes.

#![cfg_attr(not(test), no_std)]

use aquifer_guest::cbor::{Reader, Writer};
use aquifer_guest::{Error, Input, Keep, Kind, State, agent, host};

const SIGNALS: &[u8] = b"signals";
const SIGNALS_MAX: usize = 8;
/// A signal is half as strong after this long, in milliseconds.
const HALVING_MS: u64 = 60_000;
/// How long a place stays as good as it is, in milliseconds.
const SEASON_MS: u64 = 300_000;
/// Between two steps, in milliseconds.
const STEP_MS: u32 = 10_000;
/// What a good sample adds to a signal.
const REWARD: u32 = 1000;
const STRENGTH_MAX: u32 = 1_000_000;

agent!(wake);

fn wake(input: &Input<'_>, state: &mut State) -> Result<(), Error> {
    let mut forager = Forager::EMPTY;
    state.load(&mut forager)?;
    if state.as_bytes().is_empty() {
        host::wake_after(STEP_MS)?;
    }
    match input.kind {
        Kind::Publication if input.topic == SIGNALS => {
            let mut body = Reader::new(input.body);
            body.array_of(2);
            let (place, strength) = (body.uint(), body.uint());
            body.finish()?;
            let strength = strength.min(STRENGTH_MAX.into()) as u32;
            forager.strengthen(place, strength, input.stamp);
        }
        Kind::Timer => forager.step(input.stamp)?,
        Kind::Invocation => host::answer(state.as_bytes())?,
        _ => {}
    }
    state.store(&forager)
}

struct Forager {
    place: u64,
    /// A signal without strength is a free place.
    signals: [Signal; SIGNALS_MAX],
}

#[derive(Clone, Copy)]
struct Signal {
    place: u64,
    /// How strong it was at `since`.
    strength: u32,
    /// When it was last strengthened or weakened, in milliseconds since 1970.
    since: u64,
}

impl Forager {
    fn step(&mut self, now: u64) -> Result<(), Error> {
        let strongest = self.signals.iter().max_by_key(|signal| signal.at(now));
        if let Some(strongest) = strongest.filter(|signal| signal.at(now) > 0) {
            self.place = strongest.place;
        }
        if !is_good(self.place, now) {
            self.weaken(now);
            self.place = self.place.wrapping_add(stride()?);
        }
        if is_good(self.place, now) {
            self.strengthen(self.place, REWARD, now);
            let mut room = [0; 16];
            let mut signal = Writer::new(&mut room);
            signal.array(2).uint(self.place).uint(REWARD.into());
            host::publish(SIGNALS, signal.done()?)?;
        }
        host::wake_after(STEP_MS)
    }

    /// Adds to the signal of a place. A new one takes the place of the weakest, if that is weaker.
    fn strengthen(&mut self, place: u64, strength: u32, now: u64) {
        let rank = |signal: &&mut Signal| match signal.at(now) {
            0 => 1,
            _ if signal.place == place => 0,
            left => u64::from(left) + 1,
        };
        if let Some(signal) = self.signals.iter_mut().min_by_key(rank) {
            let left = signal.at(now);
            let strength = match signal.place == place {
                true => strength.saturating_add(left).min(STRENGTH_MAX),
                false if strength > left => strength,
                false => return,
            };
            *signal = Signal {
                place,
                strength,
                since: now,
            };
        }
    }

    /// The signal of where the forager is led nowhere: here it counts half.
    fn weaken(&mut self, now: u64) {
        for signal in self
            .signals
            .iter_mut()
            .filter(|signal| signal.place == self.place)
        {
            signal.strength = signal.at(now) / 2;
            signal.since = now;
        }
    }
}

impl Signal {
    const FREE: Self = Self {
        place: 0,
        strength: 0,
        since: 0,
    };

    /// How strong it is at `now`: halved for each whole halving time, and on a straight line between.
    fn at(&self, now: u64) -> u32 {
        let elapsed = now.saturating_sub(self.since);
        let halvings = (elapsed / HALVING_MS).min(31) as u32;
        let strength = u64::from(self.strength >> halvings);
        (strength - strength * (elapsed % HALVING_MS) / (2 * HALVING_MS)) as u32
    }
}

impl Keep for Forager {
    const EMPTY: Self = Self {
        place: 0,
        signals: [Signal::FREE; SIGNALS_MAX],
    };

    fn read(&mut self, from: &mut Reader<'_>) {
        from.array_of(2);
        self.place = from.uint();
        let known = from.array();
        for signal in self.signals.iter_mut().take(known) {
            from.array_of(3);
            signal.place = from.uint();
            signal.strength = from.uint() as u32;
            signal.since = from.uint();
        }
    }

    fn write(&self, to: &mut Writer<'_>) {
        let known = || self.signals.iter().filter(|signal| signal.strength > 0);
        to.array(2).uint(self.place).array(known().count());
        for signal in known() {
            to.array(3)
                .uint(signal.place)
                .uint(signal.strength.into())
                .uint(signal.since);
        }
    }
}

/// A step to either side, of up to eight places.
fn stride() -> Result<u64, Error> {
    let mut random = [0];
    host::random(&mut random)?;
    let [random] = random;
    let far = u64::from(random & 7) + 1;
    Ok(if random & 8 == 0 {
        far
    } else {
        far.wrapping_neg()
    })
}

/// A sample: one place in four is good, and others are after each season.
fn is_good(place: u64, now: u64) -> bool {
    let season = now / SEASON_MS;
    // The mixing steps of SplitMix64.
    let mut hash = place.wrapping_add(season.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (hash ^ hash >> 31) >> 62 == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use aquifer_guest::mock::{Agent, Effect};

    fn signal(place: u64, strength: u64) -> Vec<u8> {
        let mut room = [0; 32];
        Writer::new(&mut room)
            .array(2)
            .uint(place)
            .uint(strength)
            .done()
            .unwrap()
            .to_vec()
    }

    fn hear(agent: &mut Agent, stamp: u64, place: u64, strength: u64) {
        agent
            .publication([1; 32], "signals", stamp, &signal(place, strength))
            .unwrap();
    }

    fn forager(agent: &Agent) -> Forager {
        let mut forager = Forager::EMPTY;
        forager.read(&mut Reader::new(agent.state()));
        forager
    }

    fn published(effects: &[Effect]) -> Option<u64> {
        effects.iter().find_map(|effect| match effect {
            Effect::Publish { topic, data } if topic == "signals" => {
                let mut reader = Reader::new(data);
                reader.array_of(2);
                Some(reader.uint())
            }
            _ => None,
        })
    }

    fn place(good: bool, now: u64) -> u64 {
        (1000..).find(|place| is_good(*place, now) == good).unwrap()
    }

    #[test]
    fn a_signal_halves_each_minute_and_goes_to_nothing() {
        let signal = Signal {
            place: 1,
            strength: 1000,
            since: 5,
        };
        let at = |ms: u64| signal.at(5 + ms);
        assert_eq!(
            (at(0), at(30_000), at(60_000), at(120_000)),
            (1000, 750, 500, 250)
        );
        assert!(
            (0..700_000).step_by(997).all(|ms| at(ms) >= at(ms + 997)),
            "it only falls"
        );
        assert_eq!(at(601_000), 0);
        assert_eq!(at(u64::MAX - 5), 0);
        assert_eq!(signal.at(0), 1000, "a clock that goes back does no harm");
    }

    #[test]
    fn a_good_place_is_strengthened_for_all() {
        let mut agent = Agent::new(wake);
        let good = place(true, 60_000);
        hear(&mut agent, 0, 1, 900);
        hear(&mut agent, 0, good, 2000);
        let effects = agent.timer(60_000).unwrap();
        assert_eq!(published(&effects), Some(good));
        assert_eq!(effects.last(), Some(&Effect::WakeAfter { ms: STEP_MS }));
        let forager = forager(&agent);
        assert_eq!(forager.place, good);
        let left = forager
            .signals
            .iter()
            .find(|signal| signal.place == good)
            .unwrap();
        assert_eq!(left.strength, 2000 / 2 + REWARD);
    }

    #[test]
    fn a_bad_place_counts_half_and_the_forager_steps_aside() {
        let mut agent = Agent::new(wake);
        let bad = place(false, 0);
        hear(&mut agent, 0, bad, 2000);
        agent.timer(0).unwrap();
        let forager = forager(&agent);
        assert!((1..=8).contains(&forager.place.abs_diff(bad)));
        assert_eq!(forager.signals[0].strength, 1000);
    }

    #[test]
    fn alone_it_finds_a_good_place_and_stays_until_the_season_turns() {
        let mut agent = Agent::new(wake);
        let found: Vec<Option<u64>> = (0..60)
            .map(|i| published(&agent.timer(i * u64::from(STEP_MS)).unwrap()))
            .collect();
        let first = found.iter().position(Option::is_some).unwrap();
        assert!(
            found[first..30].iter().all(|place| *place == found[first]),
            "{found:?}"
        );
        assert_ne!(found[59], None);
        assert_ne!(found[59], found[first], "{found:?}");
    }

    #[test]
    fn the_strongest_few_are_kept() {
        let mut agent = Agent::new(wake);
        for i in 1..=20 {
            hear(&mut agent, 0, i, i * 10);
        }
        hear(&mut agent, 0, 99, 1);
        let mut kept: Vec<u64> = forager(&agent).signals.iter().map(|s| s.place).collect();
        kept.sort_unstable();
        assert_eq!(kept, [13, 14, 15, 16, 17, 18, 19, 20]);
        hear(&mut agent, 0, 13, u64::MAX);
        assert!(
            forager(&agent)
                .signals
                .iter()
                .any(|s| s.strength == STRENGTH_MAX)
        );
    }

    #[test]
    fn an_invocation_is_answered_and_noise_is_refused() {
        let mut agent = Agent::new(wake);
        hear(&mut agent, 0, 3, 8);
        let data = vec![0x82, 0, 0x81, 0x83, 3, 8, 0];
        assert_eq!(
            agent.invocation(60_000, &[]),
            Ok(vec![Effect::Answer { data }])
        );
        for body in [&[][..], &[0x82, 1], &[0x82, 1, 0x20], &[0x82, 1, 1, 1]] {
            let refused = agent.publication([1; 32], "signals", 0, body);
            assert_eq!(refused, Err(Error::BadArgument));
        }
    }
}
