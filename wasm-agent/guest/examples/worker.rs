//! Worker: does tasks from a queue, votes on their results, and says when two of three agree.
//!
//! A task is `[id, payload]` on the topic `tasks`. The work here is the lower median of an array of
//! integers: it stands for any work whose result is the same on every node. The result goes to
//! `results` as a vote, `[id, result]`. Votes of others are counted, one for each worker; as soon as
//! two of the first three are equal, `[id, result]` goes to `agreed`. So one worker that is broken or
//! lies decides nothing.
//!
//! An invocation is answered with the state: `[next, [[id, voter, result, ...], ...]]`.
//!
//! Not here: who gets a task; every worker that follows the queue does all of them.

#![cfg_attr(not(test), no_std)]

use aquifer_guest::cbor::{Reader, Writer};
use aquifer_guest::{Error, Input, Keep, Kind, State, agent, host};

const TASKS: &[u8] = b"tasks";
const RESULTS: &[u8] = b"results";
const AGREED: &[u8] = b"agreed";
/// The tasks that are kept, the newest. A task is voted on once as long as it is among them.
const TASKS_MAX: usize = 10;
const VOTES_MAX: usize = 3;
const ID_BYTES_MAX: usize = 32;
const NUMBERS_MAX: usize = 64;
/// The voter that is this agent. Its own publications do not come back to it.
const SELF: u64 = 0;

agent!(wake);

fn wake(input: &Input<'_>, state: &mut State) -> Result<(), Error> {
    let mut desk = Desk::EMPTY;
    state.load(&mut desk)?;
    match input.kind {
        Kind::Publication => desk.publication(input)?,
        Kind::Invocation => host::answer(state.as_bytes())?,
        _ => {}
    }
    state.store(&desk)
}

/// What the worker has on its desk: a ring of tasks.
struct Desk {
    tasks: [Task; TASKS_MAX],
    /// The place of the next new task, which is that of the oldest.
    next: usize,
}

/// A task without an id is a free place.
#[derive(Clone, Copy)]
struct Task {
    id: [u8; ID_BYTES_MAX],
    id_len: usize,
    votes: [Vote; VOTES_MAX],
    votes_len: usize,
}

#[derive(Clone, Copy)]
struct Vote {
    /// The first eight bytes of the worker's name.
    voter: u64,
    result: i64,
}

impl Desk {
    fn publication(&mut self, input: &Input<'_>) -> Result<(), Error> {
        let mut body = Reader::new(input.body);
        body.array_of(2);
        let task = self.task(body.bytes())?;
        if input.topic == TASKS {
            let payload = body.bytes();
            body.finish()?;
            if task.votes().iter().any(|vote| vote.voter == SELF) {
                return Ok(());
            }
            let result = median(payload)?;
            task.say(RESULTS, result)?;
            task.count(SELF, result)
        } else if input.topic == RESULTS {
            let result = body.int();
            body.finish()?;
            task.count(voter(input.from.ok_or(Error::BadArgument)?), result)
        } else {
            Err(Error::BadArgument)
        }
    }

    /// The task of that id, which may be new.
    fn task(&mut self, id: &[u8]) -> Result<&mut Task, Error> {
        if id.is_empty() || id.len() > ID_BYTES_MAX {
            return Err(Error::BadArgument);
        }
        let known = self.tasks.iter().position(|task| task.id() == id);
        let at = known.unwrap_or(self.next);
        let task = self.tasks.get_mut(at).ok_or(Error::BadArgument)?;
        if known.is_none() {
            *task = Task::FREE;
            task.name(id);
            self.next = (at + 1) % TASKS_MAX;
        }
        Ok(task)
    }
}

impl Task {
    const FREE: Self = Self {
        id: [0; ID_BYTES_MAX],
        id_len: 0,
        votes: [Vote {
            voter: SELF,
            result: 0,
        }; VOTES_MAX],
        votes_len: 0,
    };

    /// Takes an id, of at most 32 bytes.
    fn name(&mut self, id: &[u8]) {
        for (to, from) in self.id.iter_mut().zip(id) {
            *to = *from;
        }
        self.id_len = id.len();
    }

    fn id(&self) -> &[u8] {
        self.id.get(..self.id_len).unwrap_or_default()
    }

    fn votes(&self) -> &[Vote] {
        self.votes.get(..self.votes_len).unwrap_or_default()
    }

    fn say(&self, topic: &[u8], result: i64) -> Result<(), Error> {
        let mut room = [0; 48];
        let mut body = Writer::new(&mut room);
        host::publish(topic, body.array(2).bytes(self.id()).int(result).done()?)
    }

    /// Counts a vote, if it is the voter's first and one of the task's first three.
    fn count(&mut self, voter: u64, result: i64) -> Result<(), Error> {
        let place = match self.votes.get_mut(self.votes_len) {
            Some(place) => place,
            None => return Ok(()),
        };
        *place = Vote { voter, result };
        if self.votes().iter().any(|earlier| earlier.voter == voter) {
            return Ok(());
        }
        let same = self
            .votes()
            .iter()
            .filter(|earlier| earlier.result == result)
            .count();
        self.votes_len += 1;
        // The second of equals, whichever it is: so it is told once.
        if same == 1 {
            self.say(AGREED, result)?;
        }
        Ok(())
    }
}

impl Keep for Desk {
    const EMPTY: Self = Self {
        tasks: [Task::FREE; TASKS_MAX],
        next: 0,
    };

    fn read(&mut self, from: &mut Reader<'_>) {
        from.array_of(2);
        self.next = from.uint() as usize;
        let known = from.array();
        for task in self.tasks.iter_mut().take(known) {
            task.votes_len = from.array() / 2;
            task.name(from.bytes());
            for vote in task.votes.iter_mut().take(task.votes_len) {
                vote.voter = from.uint();
                vote.result = from.int();
            }
        }
    }

    fn write(&self, to: &mut Writer<'_>) {
        let known = || self.tasks.iter().filter(|task| task.id_len > 0);
        to.array(2).uint(self.next as u64).array(known().count());
        for task in known() {
            to.array(1 + task.votes_len * 2).bytes(task.id());
            for vote in task.votes() {
                to.uint(vote.voter).int(vote.result);
            }
        }
    }
}

/// The lower median of the 1 to 64 integers in `payload`, an array. It is the one that has its place
/// in the middle between those that are less and those that are the same.
fn median(payload: &[u8]) -> Result<i64, Error> {
    let mut reader = Reader::new(payload);
    let len = reader.array();
    let mut room = [0; NUMBERS_MAX];
    let numbers = room.get_mut(..len).ok_or(Error::TooLarge)?;
    for number in numbers.iter_mut() {
        *number = reader.int();
    }
    reader.finish()?;
    let is_middle = |number: &&i64| {
        let less = numbers.iter().filter(|other| *other < *number).count();
        let same = numbers.iter().filter(|other| *other == *number).count();
        (less..less + same).contains(&(len.wrapping_sub(1) / 2))
    };
    numbers
        .iter()
        .find(is_middle)
        .copied()
        .ok_or(Error::BadArgument)
}

fn voter(name: &[u8; 32]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *name;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;
    use aquifer_guest::mock::{Agent, Effect};

    const QUEUE: [u8; 32] = [0xff; 32];

    fn task(id: &[u8], numbers: &[i64]) -> Vec<u8> {
        let (mut payload, mut body) = ([0; 700], [0; 800]);
        let mut payload = Writer::new(&mut payload);
        payload.array(numbers.len());
        for number in numbers {
            payload.int(*number);
        }
        let payload = payload.done().unwrap();
        Writer::new(&mut body)
            .array(2)
            .bytes(id)
            .bytes(payload)
            .done()
            .unwrap()
            .to_vec()
    }

    fn vote(id: &[u8], result: i64) -> Vec<u8> {
        Writer::new(&mut [0; 64])
            .array(2)
            .bytes(id)
            .int(result)
            .done()
            .unwrap()
            .to_vec()
    }

    fn published(topic: &str, id: &[u8], result: i64) -> Vec<Effect> {
        let (topic, data) = (topic.to_owned(), vote(id, result));
        vec![Effect::Publish { topic, data }]
    }

    #[test]
    fn the_median_is_that_of_the_sorted_numbers() {
        let mut agent = Agent::new(wake);
        for (id, numbers) in [
            &[7][..],
            &[2, 1],
            &[3, 1, 2],
            &[5, 5, 1, 9],
            &[-4, i64::MIN, i64::MAX, 0, 0, 0, 12],
            &[9; 64],
        ]
        .iter()
        .enumerate()
        {
            let mut sorted = numbers.to_vec();
            sorted.sort_unstable();
            let median = sorted[(sorted.len() - 1) / 2];
            let id = [id as u8];
            let effects = agent.publication(QUEUE, "tasks", 0, &task(&id, numbers));
            assert_eq!(effects, Ok(published("results", &id, median)));
        }
    }

    #[test]
    fn two_equal_votes_of_three_are_an_agreement_which_is_told_once() {
        let mut agent = Agent::new(wake);
        agent
            .publication(QUEUE, "tasks", 0, &task(b"t", &[1, 2, 3]))
            .unwrap();
        let mut results = |from: u8, result| {
            agent
                .publication([from; 32], "results", 1, &vote(b"t", result))
                .unwrap()
        };
        assert_eq!(results(1, 99), [], "it differs");
        assert_eq!(results(1, 2), [], "it had its vote");
        assert_eq!(results(2, 2), published("agreed", b"t", 2));
        assert_eq!(results(3, 2), [], "three were counted");
        let answer = Effect::Answer {
            data: agent.state().to_vec(),
        };
        assert_eq!(agent.invocation(2, &[]), Ok(vec![answer]));
    }

    #[test]
    fn votes_may_come_before_their_task() {
        let mut agent = Agent::new(wake);
        agent
            .publication([1; 32], "results", 0, &vote(b"t", 2))
            .unwrap();
        let effects = agent
            .publication(QUEUE, "tasks", 1, &task(b"t", &[1, 2, 3]))
            .unwrap();
        let both = [published("results", b"t", 2), published("agreed", b"t", 2)].concat();
        assert_eq!(effects, both);
    }

    #[test]
    fn a_task_that_comes_again_is_not_voted_on_again() {
        let mut agent = Agent::new(wake);
        let first = task(b"first", &[1]);
        agent.publication(QUEUE, "tasks", 0, &first).unwrap();
        for other in 1..TASKS_MAX as u8 {
            agent
                .publication(QUEUE, "tasks", 0, &task(&[other], &[1]))
                .unwrap();
            assert_eq!(agent.publication(QUEUE, "tasks", 0, &first), Ok(vec![]));
        }
        agent
            .publication(QUEUE, "tasks", 0, &task(b"one more", &[1]))
            .unwrap();
        let again = agent.publication(QUEUE, "tasks", 0, &first);
        assert_eq!(
            again,
            Ok(published("results", b"first", 1)),
            "the ring is bounded"
        );
    }

    #[test]
    fn a_full_desk_fits_the_state() {
        let mut agent = Agent::new(wake);
        for id in 0..2 * TASKS_MAX as u8 {
            for from in 1..=5 {
                let far = i64::MIN + i64::from(from);
                agent
                    .publication([from; 32], "results", 0, &vote(&[id; 32], far))
                    .unwrap();
            }
        }
        assert!(agent.state().len() > 850, "{}", agent.state().len());
    }

    #[test]
    fn what_is_no_task_is_refused() {
        let mut agent = Agent::new(wake);
        let too_many = task(b"t", &[0; 65]);
        assert_eq!(
            agent.publication(QUEUE, "tasks", 0, &too_many),
            Err(Error::TooLarge)
        );
        for body in [
            task(b"t", &[]),
            task(b"", &[1]),
            task(&[1; 33], &[1]),
            vote(b"t", 1),
            vec![],
        ] {
            assert_eq!(
                agent.publication(QUEUE, "tasks", 0, &body),
                Err(Error::BadArgument)
            );
        }
        assert_eq!(agent.state(), &[] as &[u8]);
        assert_eq!(
            agent.publication(QUEUE, "elsewhere", 0, &vote(b"t", 1)),
            Err(Error::BadArgument)
        );
    }
}
