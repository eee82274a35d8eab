//! Refusals: what the core's reasons are called outside, and what to do next.

use crate::api::Problem;
use aquifer_protocol::body::OpenBody;
use aquifer_protocol::{Denial, Refusal};

/// The problem that the law forbids it.
pub(super) fn denied(denial: &Denial) -> Problem {
    let (code, exit, hint) = match denial {
        Denial::UnknownTopic => ("not_found", 3, "list the topics with `aquifer topic list`"),
        Denial::NotFounder { .. } => (
            "not_authorised",
            5,
            "run this on the node that founded the topic",
        ),
        Denial::Expired { .. } => (
            "certificate_expired",
            5,
            "connect to a seed of the region, which renews it, or join again",
        ),
        Denial::Scope { .. } => (
            "not_authorised",
            5,
            "ask for a ticket whose topics include it: `aquifer invite --topic`",
        ),
        Denial::Encryption { .. } => (
            "encryption_unavailable",
            6,
            "create the topic without encryption, or wait for a version that has it",
        ),
        Denial::Engine { .. } => (
            "store_engine",
            6,
            "use a topic that restricts nothing (`aquifer topic create NAME` without --regions or --retention), or a node whose home was made with --store redb",
        ),
        Denial::BodyLen { .. } => ("oversize", 2, "split it, or remember a summary"),
        Denial::Reserved { .. } => ("reserved_topic", 5, "choose another name"),
        Denial::Widens { .. } => (
            "policy_refused",
            6,
            "narrow the policy, or widen the topic above first",
        ),
        Denial::Region { .. } | Denial::Border { .. } => (
            "policy_refused",
            6,
            "ask on a node inside; `aquifer policy explain` shows the rule",
        ),
        _ => (
            "policy_refused",
            6,
            "`aquifer policy explain` shows the rule",
        ),
    };
    Problem::new(code, exit, denial.to_string(), hint)
}

/// The problem that a command was refused.
pub(super) fn refused(why: &Refusal) -> Problem {
    let problem = |code, exit, hint: &str| Problem::new(code, exit, why.to_string(), hint);
    match why {
        Refusal::Denied(denial) => denied(denial),
        Refusal::NoTopic { topic } => problem(
            "not_found",
            3,
            &format!("create it with `aquifer topic create {topic}`"),
        ),
        Refusal::TopicExists { topic } => problem(
            "topic_exists",
            1,
            &format!("change its policy with `aquifer topic policy set {topic}`"),
        ),
        Refusal::NoMemory { .. } => {
            problem("not_found", 3, "list what there is with `aquifer list`")
        }
        Refusal::Body(OpenBody::TooLong { .. }) => problem("oversize", 2, "make it shorter"),
        Refusal::Body(OpenBody::Malformed) => problem("malformed", 2, ""),
        Refusal::TooManyCopies { .. } => problem(
            "too_many_copies",
            6,
            "ask for fewer, or raise `copies` in the topic's policy",
        ),
        Refusal::ClockAhead { .. } => problem(
            "clock_ahead",
            1,
            "set the clock (NTP); nothing was written, reading goes on",
        ),
        Refusal::DiskFull => problem(
            "disk_full",
            1,
            "make room on the disk of the node's home, or forget something: the node goes on by itself; reading and forgetting work",
        ),
        Refusal::Busy => problem("busy", 1, "try again in a moment"),
        Refusal::NotAMember => problem("not_a_member", 5, "join a hive with `aquifer join TICKET`"),
    }
}

/// The problem that the core answered what it never should.
pub(super) fn unexpected() -> Problem {
    Problem::new(
        "internal",
        1,
        "the node gave an answer that does not fit the question",
        "this is a bug: please report it",
    )
}
