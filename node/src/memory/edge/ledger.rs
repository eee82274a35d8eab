//! Ledger: up to which step what agents at the edge did is done, or refused for good.
//!
//! One small file for each agent in this node's home, written after the commit and before the receipt. It
//! outlives the memories: what was done and then forgotten is not done again. The first device that brings
//! an agent's steps is the agent's: another cannot speak for it, nor claim to have gone farther.

use crate::api::Problem;
use crate::home::Home;
use aquifer_protocol::NodeId;
use aquifer_wasm::uplink::{REFUSALS_MAX, Refusal, Step};
use minicbor::{Decode, Encode};
use tokio::sync::{Mutex, MutexGuard};

/// Agents whose first byte differs may be served at once, so many at a time.
const LANES: usize = 16;

/// The longest file.
const FILE_BYTES_MAX: u64 = 128 << 10;

/// What was done for every agent.
pub(super) struct Ledger {
    home: Home,
    lanes: [Mutex<()>; LANES],
}

/// One agent's page, held by whoever does its deeds.
pub(super) struct Page<'l> {
    home: &'l Home,
    name: String,
    entry: Entry,
    _lane: MutexGuard<'l, ()>,
}

#[derive(Clone, Default, Encode, Decode)]
#[cbor(array)]
struct Entry {
    /// Whose agent it is.
    #[n(0)]
    device: Option<NodeId>,
    /// The last step that is done.
    #[n(1)]
    through: Option<u32>,
    /// The last refusals, so that a receipt that was lost can be given again.
    #[n(2)]
    refused: Vec<Refusal>,
}

impl Ledger {
    /// The ledger of this home.
    pub(super) fn in_home(home: Home) -> Self {
        let lanes = Default::default();
        Self { home, lanes }
    }

    /// An agent's page; nobody else has it until it is let go.
    pub(super) async fn open(&self, agent: &[u8; 32]) -> Result<Page<'_>, Problem> {
        let lane = self.lanes[usize::from(agent[0]) % LANES].lock().await;
        let name = format!("edge/{}.cbor", NodeId(*agent));
        let entry = match self.home.read(&name, FILE_BYTES_MAX)? {
            None => Entry::default(),
            Some(bytes) => minicbor::decode(&bytes).map_err(|_| {
                let path = self.home.file(&name);
                let message = format!("{} is no page of the ledger", path.display());
                let hint = "restore it from a backup; without it, what was forgotten may come back";
                Problem::new("ledger_unusable", 1, message, hint)
            })?,
        };
        Ok(Page {
            home: &self.home,
            name,
            entry,
            _lane: lane,
        })
    }
}

impl Page<'_> {
    /// Whether nothing of this agent was ever done here.
    pub(super) fn is_new(&self) -> bool {
        self.entry.device.is_none()
    }

    /// Whether the agent is this device's, or nobody's yet.
    pub(super) fn is_of(&self, device: &NodeId) -> bool {
        self.entry.device.is_none_or(|of| of == *device)
    }

    /// Whether the step is done.
    pub(super) fn has(&self, seq: u32) -> bool {
        self.entry.through.is_some_and(|through| seq <= through)
    }

    /// The last step that is done.
    pub(super) fn through(&self) -> Option<u32> {
        self.entry.through
    }

    /// What was refused of these steps, as far as it is remembered.
    pub(super) fn refused(&self, steps: &[Step]) -> Vec<Refusal> {
        let asked = |refusal: &&Refusal| steps.iter().any(|step| step.seq == refusal.seq);
        self.entry.refused.iter().filter(asked).cloned().collect()
    }

    /// Writes down, durably, that everything up to `through` is done or refused.
    pub(super) fn close(
        &mut self,
        device: &NodeId,
        through: Option<u32>,
        refused: Vec<Refusal>,
    ) -> Result<(), Problem> {
        let mut entry = self.entry.clone();
        entry.device = Some(*device);
        entry.through = entry.through.max(through);
        entry.refused.extend(refused);
        let surplus = entry.refused.len().saturating_sub(REFUSALS_MAX);
        entry.refused.drain(..surplus);
        let bytes = minicbor::to_vec(&entry).expect("a vector takes any encoding");
        self.home.write(&self.name, &bytes)?;
        self.entry = entry;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(seq: u32) -> Refusal {
        Refusal {
            seq,
            place: 0,
            topic: "hr".into(),
            code: "region".into(),
            reason: "only in eu".into(),
        }
    }

    #[tokio::test]
    async fn what_is_done_stays_done_over_a_restart_and_an_agent_stays_its_devices() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = Home::at(Some(folder.path().to_owned()));
        home.create().expect("made");
        let (device, agent) = (NodeId([1; 32]), [7; 32]);
        let ledger = Ledger::in_home(home.clone());
        let mut page = ledger.open(&agent).await.expect("room");
        assert!(page.is_of(&device) && !page.has(0));
        let closed = page.close(&device, Some(4), vec![refusal(3)]);
        closed.expect("room");
        drop(page);
        let ledger = Ledger::in_home(home);
        let mut page = ledger.open(&agent).await.expect("room");
        assert!(page.has(4) && !page.has(5));
        assert!(page.is_of(&device) && !page.is_of(&NodeId([2; 32])));
        let step = |seq| Step {
            seq,
            stamp: 0,
            deeds: vec![],
        };
        assert_eq!(vec![refusal(3)], page.refused(&[step(3), step(4)]));
        assert!(page.refused(&[step(4)]).is_empty());
        // It never goes back.
        page.close(&device, Some(2), vec![]).expect("room");
        assert_eq!(Some(4), page.through());
        for seq in 10..200 {
            let closed = page.close(&device, Some(seq), vec![refusal(seq)]);
            closed.expect("room");
        }
        assert_eq!(REFUSALS_MAX, page.entry.refused.len());
    }
}
