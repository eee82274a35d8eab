//! An event in eight bytes: who, when within the epoch, over which link, what, and about which message.
//!
//! From the highest bit: agent 27, offset 10, slot 5, kind 3, message 19. Numbers in that order are
//! events in canonical order: by agent, then by time, then by the link they came over. Whoever sorts
//! them gets the same order on every machine, in every thread and however they are partitioned.
//!
//! Not here: the epoch an offset counts from (`engine`), what a kind does (`gossip`).

/// Most agents that an event can name.
pub const AGENTS_MAX: u64 = 1 << AGENT_BITS;
/// Most links of one agent.
pub const SLOTS_MAX: usize = 1 << SLOT_BITS;
/// Most messages of one run.
pub const MESSAGES_MAX: u32 = 1 << MESSAGE_BITS;
/// Longest epoch, in microseconds: an offset lies below it.
pub const EPOCH_MAX: u64 = 1 << OFFSET_BITS;

const AGENT_BITS: u32 = 27;
const OFFSET_BITS: u32 = 10;
const SLOT_BITS: u32 = 5;
const KIND_BITS: u32 = 3;
const MESSAGE_BITS: u32 = 19;

const KIND_AT: u32 = MESSAGE_BITS;
const SLOT_AT: u32 = KIND_AT + KIND_BITS;
const OFFSET_AT: u32 = SLOT_AT + SLOT_BITS;
const AGENT_AT: u32 = OFFSET_AT + OFFSET_BITS;

const _: () = assert!(AGENT_AT + AGENT_BITS == u64::BITS);

/// What an event is. Everything but `Copy` and `Timer` is a control message of GossipSub.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A message, pushed along the mesh.
    Copy = 0,
    /// A message that was asked for.
    Answer = 1,
    /// The sender has the message.
    IHave = 2,
    /// The sender asks for the message.
    IWant = 3,
    /// The sender has the message and needs no copy.
    IDontWant = 4,
    /// The sender takes the receiver into its mesh.
    Graft = 5,
    /// The sender puts the receiver out of its mesh.
    Prune = 6,
    /// Something that the agent planned for itself: the slot says what.
    Timer = 7,
}

const KINDS: [Kind; 8] = [
    Kind::Copy,
    Kind::Answer,
    Kind::IHave,
    Kind::IWant,
    Kind::IDontWant,
    Kind::Graft,
    Kind::Prune,
    Kind::Timer,
];

/// Something that happens to an agent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Event(pub(crate) u64);

impl Event {
    /// An event of `agent`, with no offset yet.
    ///
    /// # Panics
    /// In a debug build, if a part is larger than its place.
    pub fn new(agent: u32, slot: u8, kind: Kind, message: u32) -> Self {
        debug_assert!(u64::from(agent) < AGENTS_MAX && usize::from(slot) < SLOTS_MAX);
        debug_assert!(message < MESSAGES_MAX);
        Self(
            u64::from(agent) << AGENT_AT
                | u64::from(slot) << SLOT_AT
                | (kind as u64) << KIND_AT
                | u64::from(message),
        )
    }

    /// The same, `offset` microseconds after the epoch began.
    pub(crate) fn at_offset(self, offset: u64) -> Self {
        debug_assert!(offset < EPOCH_MAX && self.offset() == 0);
        Self(self.0 | offset << OFFSET_AT)
    }

    /// The same, as it was before it had an offset.
    pub(crate) fn timeless(self) -> Self {
        Self(self.0 & !((EPOCH_MAX - 1) << OFFSET_AT))
    }

    /// To whom it happens.
    pub fn agent(self) -> u32 {
        (self.0 >> AGENT_AT) as u32
    }

    /// How many microseconds after the beginning of its epoch.
    pub(crate) fn offset(self) -> u64 {
        self.0 >> OFFSET_AT & (EPOCH_MAX - 1)
    }

    /// Over which of the agent's own links, or which timer.
    pub fn slot(self) -> u8 {
        (self.0 >> SLOT_AT) as u8 & (SLOTS_MAX as u8 - 1)
    }

    /// What it is.
    pub fn kind(self) -> Kind {
        KINDS[(self.0 >> KIND_AT) as usize & (KINDS.len() - 1)]
    }

    /// About which message.
    pub fn message(self) -> u32 {
        self.0 as u32 & (MESSAGES_MAX - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_gives_back_what_it_was_made_of() {
        let most = Event::new(AGENTS_MAX as u32 - 1, 31, Kind::Timer, MESSAGES_MAX - 1);
        assert_eq!(u64::MAX, most.at_offset(EPOCH_MAX - 1).0);
        for (i, kind) in KINDS.into_iter().enumerate() {
            assert_eq!(i, kind as usize);
            let event = Event::new(77_777_777, 21, kind, 345_678);
            let timed = event.at_offset(1_000);
            assert_eq!(
                (77_777_777, 21, kind, 345_678, 1_000),
                (
                    timed.agent(),
                    timed.slot(),
                    timed.kind(),
                    timed.message(),
                    timed.offset()
                )
            );
            assert_eq!(event, timed.timeless());
        }
    }

    #[test]
    fn the_order_is_by_agent_then_time_then_link() {
        let event = |agent, offset, slot| Event::new(agent, slot, Kind::Copy, 9).at_offset(offset);
        let sorted = [
            event(1, 0, 5),
            event(1, 3, 1),
            event(1, 3, 2),
            event(2, 0, 0),
        ];
        assert!(sorted.is_sorted());
    }
}
