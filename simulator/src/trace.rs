//! Traces: one line for everything that a replica lets out.
//!
//! The lines are what the digest is made of, besides the bytes of messages, and what `replay --trace`
//! prints.
//!
//! Not here: where lines go (`world`).

use aquifer_protocol::{Event, Message, Output, Reply};

/// The stable name of an event, under which it is counted.
pub fn name(event: &Event) -> &'static str {
    match event {
        Event::Accepted { .. } => "accepted",
        Event::Repaired { .. } => "repaired",
        Event::Erased { .. } => "erased",
        Event::Cut { .. } => "cut",
        Event::Outlawed { .. } => "outlawed",
        Event::Withdrawn { .. } => "withdrawn",
        Event::Rejected { .. } => "rejected",
        Event::Denied { .. } => "denied",
        Event::BadFrame { .. } => "bad_frame",
        Event::LawChanged { .. } => "law_changed",
        Event::MemberLearnt { .. } => "member_learnt",
        Event::InSync { .. } => "in_sync",
        Event::Corrupt { .. } => "corrupt",
        Event::OwnLogAhead { .. } => "own_log_ahead",
        Event::ClockSkew { .. } => "clock_skew",
    }
}

/// An output in a line.
pub fn line(output: &Output) -> String {
    match output {
        Output::Send { to, message } => format!("to {to:?}: {}", message_line(message)),
        Output::Publish { mesh, message, .. } => {
            format!("to all of {mesh}: {}", message_line(message))
        }
        Output::Verdict { ticket, verdict } => format!("gossip {}: {verdict:?}", ticket.0),
        Output::Reply { to, reply } => match reply {
            Reply::Written { ids, durable } => {
                let (met, held) = (durable.met, &durable.holders);
                format!("#{} written {ids:?}, met {met}, held by {held:?}", to.0)
            }
            Reply::Governed { topic, version } => {
                format!("#{} governed {topic:?} version {version}", to.0)
            }
            Reply::Refreshing { peers } => format!("#{} asks {peers:?}", to.0),
            Reply::Refused(why) => format!("#{} refused: {why}", to.0),
        },
        Output::Event(event) => event_line(event),
    }
}

fn event_line(event: &Event) -> String {
    let name = name(event);
    match event {
        Event::Accepted { record, from } => {
            let h = record.header();
            let body = if record.carried().is_some() {
                "body"
            } else {
                "no body"
            };
            let (topic, writer, kind) = (h.topic, h.writer, h.kind.0);
            let (log, seq, id) = (h.log.0, h.seq, record.id());
            format!(
                "{name} {id:?} {topic:?} {writer:?}/{log:x}@{seq} kind {kind}, {body}, from {from:?}"
            )
        }
        Event::Repaired { record, from } => format!("{name} {:?} from {from:?}", record.id()),
        Event::Rejected { from, id, why } => format!("{name} {id:?} from {from:?}: {why}"),
        Event::Withdrawn { topic, denial } => format!("{name} {topic:?}: {denial}"),
        Event::Denied {
            op,
            topic,
            subject,
            denial,
        } => {
            format!("{name} {op:?} of {topic:?} to {subject:?}: {denial}")
        }
        Event::BadFrame { from, why } => format!("{name} from {from:?}: {why}"),
        other => format!("{name} {other:?}"),
    }
}

fn message_line(message: &Message) -> String {
    match message {
        Message::Summary {
            topic,
            digest,
            logs,
            ..
        } => {
            let digest = u32::from_be_bytes(*digest.first_chunk().expect("16 hold 4"));
            format!("summary of {topic:?}: {logs} logs, {digest:08x}")
        }
        Message::Items {
            topic,
            items,
            whole,
        } => {
            let said: Vec<String> = items
                .iter()
                .map(|i| {
                    format!(
                        "{:?}/{:x}^{} fork {:?}",
                        i.writer, i.log.0, i.height, i.fork
                    )
                })
                .collect();
            format!("items of {topic:?}, whole {whole}: {}", said.join(", "))
        }
        Message::Cells {
            topic,
            start,
            cells,
            ..
        } => {
            format!("cells of {topic:?}: {} from {start}", cells.len())
        }
        Message::MoreCells {
            topic,
            start,
            count,
            ..
        } => {
            format!("{count} more cells of {topic:?} from {start}")
        }
        Message::WantCoded { topic, wants, .. } => {
            format!("wants {} coded logs of {topic:?}", wants.len())
        }
        Message::Told { topic, told, .. } => format!("tells of {} logs of {topic:?}", told.len()),
        Message::MoreWaits => "more waits".to_owned(),
        Message::GoOn => "go on".to_owned(),
        Message::WantItems { topic, hashes, .. } => {
            format!("wants {} items of {topic:?}", hashes.len())
        }
        Message::Wants { topic, wants } => {
            let said: Vec<String> = wants
                .iter()
                .map(|w| format!("{:?}/{:x}@{}..{}", w.writer, w.log.0, w.from, w.until))
                .collect();
            format!("wants of {topic:?}: {}", said.join(", "))
        }
        Message::Records { topic, runs } => {
            let ids: Vec<_> = runs.iter().flatten().map(|record| record.id()).collect();
            format!("records of {topic:?}: {ids:?}")
        }
        Message::Receipts(receipts) => format!("receipts for {} logs", receipts.held.len()),
        Message::Proofs { topic, proofs } => format!("{} proofs in {topic:?}", proofs.len()),
        Message::Agreed { topic, .. } => format!("agreed on {topic:?}"),
        Message::WantReceipts { topic, reaches } => {
            format!("wants receipts for {} logs of {topic:?}", reaches.len())
        }
        Message::Unknown { kind } => format!("unknown {kind}"),
    }
}
