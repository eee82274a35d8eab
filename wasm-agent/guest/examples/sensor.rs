//! Sensor: learns what is ordinary for each of up to 16 peers, and says when a reading is not.
//!
//! A reading is an integer in CBOR. For each peer the agent keeps a mean and a mean deviation that
//! forget slowly (exponentially weighted), in 1/256 of a unit, without floats. A reading that is
//! further from the mean than four deviations and a unit is a spike: it is published on `alerts`, as
//! `[peer, reading, mean, deviation]` with what was ordinary before it, and it moves the mean no
//! further than the most that is ordinary, so one spike does not hide the next.
//!
//! An invocation is answered with the state: `[readings, spikes, [[id, mean, deviation, readings,
//! seen], ...]]`.
//!
//! Not here: what to do about a spike.

#![cfg_attr(not(test), no_std)]

use aquifer_guest::cbor::{Reader, Writer};
use aquifer_guest::host::{self, Health};
use aquifer_guest::text::Text;
use aquifer_guest::{Error, Input, Keep, Kind, State, agent};

const PEERS_MAX: usize = 16;
/// Fixed point: this many parts in a unit.
const UNIT: i64 = 256;
/// A reading beyond this, to either side, is refused, so that no sum below overflows.
const READING_MAX: u64 = 1 << 40;
/// Readings of a peer before anything of it can be a spike.
const WARM_UP: u64 = 8;
/// Readings of a peer between two summaries of it.
const SUMMARY_EVERY: u64 = 32;
/// Between two reports of health, in milliseconds.
const REPORT_MS: u32 = 60_000;

agent!(wake);

fn wake(input: &Input<'_>, state: &mut State) -> Result<(), Error> {
    let mut watch = Watch::EMPTY;
    state.load(&mut watch)?;
    if input.kind == Kind::Timer || state.as_bytes().is_empty() {
        host::wake_after(REPORT_MS)?;
    }
    match input.kind {
        Kind::Message | Kind::Publication => watch.reading(input)?,
        Kind::Timer => watch.report()?,
        Kind::Invocation => host::answer(state.as_bytes())?,
    }
    state.store(&watch)
}

struct Watch {
    /// A peer without readings is a free place.
    peers: [Peer; PEERS_MAX],
    /// Readings and spikes since the last report.
    readings: u64,
    spikes: u64,
}

#[derive(Clone, Copy)]
struct Peer {
    /// The first eight bytes of its name: enough to tell 16 peers apart.
    id: u64,
    mean: i64,
    deviation: i64,
    readings: u64,
    /// When it was last heard of, in milliseconds since 1970.
    seen: u64,
}

impl Watch {
    fn reading(&mut self, input: &Input<'_>) -> Result<(), Error> {
        let from = input.from.ok_or(Error::BadArgument)?;
        let mut body = Reader::new(input.body);
        let reading = body.int();
        body.finish()?;
        if reading.unsigned_abs() > READING_MAX {
            return Err(Error::BadArgument);
        }
        let peer = self.peer(id(from)).ok_or(Error::BadArgument)?;
        peer.seen = input.stamp;
        let (mean, deviation) = (peer.mean / UNIT, peer.deviation / UNIT);
        let spike = peer.learn(reading);
        if spike {
            let mut room = [0; 80];
            let mut alert = Writer::new(&mut room);
            alert
                .array(4)
                .bytes(from)
                .int(reading)
                .int(mean)
                .int(deviation);
            host::publish("alerts", alert.done()?)?;
        }
        if peer.readings % SUMMARY_EVERY == 0 {
            peer.remember()?;
        }
        self.readings += 1;
        self.spikes += u64::from(spike);
        Ok(())
    }

    /// The peer of that name; a new one comes to a free place, or to that of who was silent longest.
    fn peer(&mut self, id: u64) -> Option<&mut Peer> {
        let rank = |peer: &&mut Peer| match peer.id == id {
            true => 0,
            false => peer.seen.saturating_add(1),
        };
        let peer = self.peers.iter_mut().min_by_key(rank)?;
        if peer.id != id {
            *peer = Peer { id, ..Peer::FREE };
        }
        Some(peer)
    }

    fn report(&mut self) -> Result<(), Error> {
        let mut room = [0; 96];
        let mut text = Text::new(&mut room);
        text.int(self.readings as i64).text(" readings, ");
        text.int(self.spikes as i64).text(" spikes");
        let health = if self.readings == 0 {
            Health::Degraded
        } else {
            Health::Well
        };
        host::health(health, text.done()?)?;
        self.readings = 0;
        self.spikes = 0;
        Ok(())
    }

    fn known(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter().filter(|peer| peer.readings > 0)
    }
}

impl Peer {
    const FREE: Self = Self {
        id: 0,
        mean: 0,
        deviation: 0,
        readings: 0,
        seen: 0,
    };

    /// Takes a reading in; says whether it is a spike.
    fn learn(&mut self, reading: i64) -> bool {
        self.readings += 1;
        if self.readings == 1 {
            self.mean = reading * UNIT;
            return false;
        }
        let error = reading * UNIT - self.mean;
        let ordinary = 4 * self.deviation + UNIT;
        let spike = self.readings > WARM_UP && error.abs() > ordinary;
        let error = if spike {
            ordinary * error.signum()
        } else {
            error
        };
        self.mean += error / 8;
        self.deviation += (error.abs() - self.deviation) / 4;
        spike
    }

    fn remember(&self) -> Result<(), Error> {
        let (mut key, mut value) = ([0; 32], [0; 96]);
        let (mut key, mut value) = (Text::new(&mut key), Text::new(&mut value));
        key.text("sensor/").hex(&self.id.to_le_bytes());
        value
            .text("mean ")
            .int(self.mean / UNIT)
            .text(", deviation ")
            .int(self.deviation / UNIT);
        value
            .text(", after ")
            .int(self.readings as i64)
            .text(" readings");
        host::remember(key.done()?, value.done()?)
    }
}

impl Keep for Watch {
    const EMPTY: Self = Self {
        peers: [Peer::FREE; PEERS_MAX],
        readings: 0,
        spikes: 0,
    };

    fn read(&mut self, from: &mut Reader<'_>) {
        from.array_of(3);
        self.readings = from.uint();
        self.spikes = from.uint();
        let known = from.array();
        for peer in self.peers.iter_mut().take(known) {
            from.array_of(5);
            peer.id = from.uint();
            peer.mean = from.int();
            peer.deviation = from.int();
            peer.readings = from.uint();
            peer.seen = from.uint();
        }
    }

    fn write(&self, to: &mut Writer<'_>) {
        to.array(3).uint(self.readings).uint(self.spikes);
        to.array(self.known().count());
        for peer in self.known() {
            to.array(5).uint(peer.id).int(peer.mean).int(peer.deviation);
            to.uint(peer.readings).uint(peer.seen);
        }
    }
}

fn id(name: &[u8; 32]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *name;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;
    use aquifer_guest::mock::{Agent, Effect};

    fn int(value: i64) -> Vec<u8> {
        Writer::new(&mut [0; 9]).int(value).done().unwrap().to_vec()
    }

    fn read(agent: &mut Agent, peer: u8, stamp: u64, value: i64) -> Vec<Effect> {
        agent
            .publication([peer; 32], "readings", stamp, &int(value))
            .unwrap()
    }

    fn watch(agent: &Agent) -> Watch {
        let mut watch = Watch::EMPTY;
        watch.read(&mut Reader::new(agent.state()));
        watch
    }

    #[test]
    fn a_spike_is_published_and_does_not_hide_the_next() {
        let mut agent = Agent::new(wake);
        assert_eq!(
            read(&mut agent, 1, 0, 20),
            [Effect::WakeAfter { ms: REPORT_MS }]
        );
        for i in 1..20 {
            assert_eq!(
                read(&mut agent, 1, i, 20 + (i % 2) as i64),
                [],
                "21 is ordinary"
            );
        }
        for stamp in [20, 21] {
            let effects = read(&mut agent, 1, stamp, 500);
            let (topic, data) = match &effects[..] {
                [Effect::Publish { topic, data }] => (topic, data),
                other => panic!("{other:?}"),
            };
            assert_eq!(topic, "alerts");
            let mut alert = Reader::new(data);
            alert.array_of(4);
            assert_eq!((alert.bytes(), alert.int()), (&[1; 32][..], 500));
            let mean = alert.int();
            assert!((20..=21).contains(&mean), "{mean}: it hardly moved");
        }
    }

    #[test]
    fn nothing_is_a_spike_before_a_peer_is_known() {
        let mut agent = Agent::new(wake);
        read(&mut agent, 1, 0, 0);
        for i in 1..WARM_UP {
            assert_eq!(
                read(&mut agent, 1, i, if i % 2 == 0 { 1000 } else { -1000 }),
                []
            );
        }
    }

    #[test]
    fn a_summary_is_remembered_each_32_readings() {
        let mut agent = Agent::new(wake);
        let mut remembered = Vec::new();
        for i in 0..64 {
            let effects = read(&mut agent, 0xab, i, -7);
            remembered.extend(
                effects
                    .into_iter()
                    .filter(|e| matches!(e, Effect::Remember { .. })),
            );
        }
        let summary = |n: u32| Effect::Remember {
            key: "sensor/abababababababab".into(),
            value: format!("mean -7, deviation 0, after {n} readings").into(),
        };
        assert_eq!(remembered, [summary(32), summary(64)]);
    }

    #[test]
    fn health_is_reported_on_the_timer_which_is_set_again() {
        let mut agent = Agent::new(wake);
        read(&mut agent, 1, 1, 5);
        read(&mut agent, 2, 2, 5);
        let again = Effect::WakeAfter { ms: REPORT_MS };
        for (code, text) in [(0, "2 readings, 0 spikes"), (1, "0 readings, 0 spikes")] {
            let health = Effect::Health {
                code,
                text: text.into(),
            };
            assert_eq!(agent.timer(60_000), Ok([again.clone(), health].to_vec()));
        }
    }

    #[test]
    fn the_seventeenth_peer_takes_the_place_of_who_was_silent_longest() {
        let mut agent = Agent::new(wake);
        for peer in 1..=16 {
            read(&mut agent, peer, peer.into(), i64::MAX >> 24);
        }
        read(&mut agent, 1, 100, -1);
        read(&mut agent, 17, 101, 0);
        let ids: Vec<u8> = watch(&agent).known().map(|peer| peer.id as u8).collect();
        assert_eq!(
            ids,
            [1, 17, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]
        );
        assert!(agent.state().len() < 800, "{}", agent.state().len());
    }

    #[test]
    fn an_invocation_is_answered_with_the_state() {
        let mut agent = Agent::new(wake);
        read(&mut agent, 9, 0, 42);
        let peer = [&[0x81, 0x85, 0x1b][..], &[9; 8], &[0x19, 42, 0, 0, 1, 0]].concat();
        let data = [&[0x83, 1, 0][..], &peer].concat();
        assert_eq!(agent.state(), data);
        assert_eq!(agent.invocation(1, &[]), Ok(vec![Effect::Answer { data }]));
    }

    #[test]
    fn what_is_no_reading_is_refused_and_changes_nothing() {
        let mut agent = Agent::new(wake);
        read(&mut agent, 1, 0, 5);
        let before = agent.state().to_vec();
        for body in [
            &b"\x61a"[..],
            b"",
            &[5, 5],
            &int(i64::MIN),
            &int((1 << 40) + 1),
        ] {
            assert_eq!(agent.message([1; 32], 1, body), Err(Error::BadArgument));
        }
        assert_eq!(agent.state(), before);
    }
}
