//! Which topic a message is about.

use super::Message;
use crate::topic::TopicId;

impl Message {
    /// The topic that a message tells something of; none if it is about the talk itself, or receipts,
    /// which say nothing that their reader did not send.
    pub(crate) fn topic(&self) -> Option<TopicId> {
        match self {
            Self::Summary { topic, .. }
            | Self::Items { topic, .. }
            | Self::Cells { topic, .. }
            | Self::MoreCells { topic, .. }
            | Self::WantItems { topic, .. }
            | Self::Wants { topic, .. }
            | Self::Records { topic, .. }
            | Self::Proofs { topic, .. }
            | Self::Agreed { topic, .. }
            | Self::WantReceipts { topic, .. }
            | Self::WantCoded { topic, .. }
            | Self::Told { topic, .. } => Some(*topic),
            Self::Receipts(_) | Self::MoreWaits | Self::GoOn | Self::Unknown { .. } => None,
        }
    }
}
