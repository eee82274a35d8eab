//! The driver: the beat, on a thread of its own.
//!
//! Inputs from the network and from this node's own doors go into the replica, as many as arrived
//! during the last commit; then one commit; then what it let go is performed. The driver knows no
//! rule: it carries.
//!
//! Not here: what inputs mean (`protocol`), reading (`view`, which never waits for this thread).

mod room;

use crate::admission::Admission;
use crate::api::Problem;
use crate::clock::Clock;
use crate::indexer::Job;
use crate::net::{GossipVerdict, NetCommand, NetEvent};
use crate::observer::Observer;
use crate::store::{LOOK_EVERY, NodeStore, Room};
use crate::view::View;
use aquifer_protocol::limits::INPUTS_PER_BEAT;
use aquifer_protocol::{
    Command, CommandId, Input, Law, Member, NodeId, Output, Region, Replica, Reply, StoreFailure,
    Ticket, Time, Verdict,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

const INBOX: usize = 1_024;

/// A command and where its answer goes.
type Asked = (Command, oneshot::Sender<Answer>);
type Answer = Result<Reply, Problem>;
/// Opens a replica over a store, for the node it is given.
pub(crate) type OpenReplica =
    dyn Fn(NodeStore, &Member) -> Result<Replica<NodeStore>, Problem> + Send;

/// The way to the driver: commands in, views out. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Helm {
    inbox: mpsc::Sender<Asked>,
    view: Arc<RwLock<Arc<View>>>,
    failed: watch::Receiver<Option<Problem>>,
    clock: Arc<Clock>,
}

impl Helm {
    /// Hands a command to the replica and waits for its reply.
    pub async fn ask(&self, command: Command) -> Result<Reply, Problem> {
        let (reply, answer) = oneshot::channel();
        self.inbox
            .send((command, reply))
            .await
            .map_err(|_| self.stopped())?;
        answer.await.map_err(|_| self.stopped())?
    }

    /// The node as of its last commit.
    pub fn view(&self) -> Arc<View> {
        self.view
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The time now.
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// Waits until the driver has failed, and says why.
    pub async fn failure(&self) -> Problem {
        let mut failed = self.failed.clone();
        loop {
            if let Some(problem) = failed.borrow_and_update().clone() {
                return problem;
            }
            if failed.changed().await.is_err() {
                return self.stopped();
            }
        }
    }

    /// Waits until the driver's thread has let go of the store.
    pub async fn ended(&self) {
        let mut failed = self.failed.clone();
        // Its sender lives as long as the thread.
        while failed.changed().await.is_ok() {}
    }

    fn stopped(&self) -> Problem {
        let known = self.failed.borrow().clone();
        known.unwrap_or_else(|| {
            Problem::new("stopping", 1, "the node is stopping", "start it again")
        })
    }
}

/// Sees every frame that leaves this node or reaches it, in plaintext: for tests that search for what
/// must not pass. No flag and no file can set it.
#[derive(Clone)]
pub struct Tap(Arc<TapFn>);

type TapFn = dyn Fn(Passing<'_>, &[u8]) + Send + Sync;

/// Which way a frame goes.
#[derive(Clone, Copy, Debug)]
pub enum Passing<'a> {
    /// To a peer.
    Sent {
        /// The peer.
        to: &'a NodeId,
    },
    /// To all of a mesh.
    Published {
        /// The mesh.
        mesh: &'a Region,
    },
    /// From a peer, by itself or in a mesh.
    Heard {
        /// The peer that passed it on.
        from: &'a NodeId,
    },
}

impl Tap {
    /// A tap that calls `see` with each frame.
    pub fn new(see: impl Fn(Passing<'_>, &[u8]) + Send + Sync + 'static) -> Self {
        Self(Arc::new(see))
    }

    /// Shows it what passes.
    pub(crate) fn see(&self, passing: Passing<'_>, bytes: &[u8]) {
        (self.0)(passing, bytes);
    }
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tap")
    }
}

/// What the driver works with.
pub(crate) struct Rigging {
    pub(crate) replica: Replica<NodeStore>,
    pub(crate) open: Box<OpenReplica>,
    pub(crate) room: Room,
    pub(crate) clock: Arc<Clock>,
    pub(crate) admission: Admission,
    pub(crate) net: mpsc::Sender<NetCommand>,
    pub(crate) events: mpsc::Receiver<NetEvent>,
    pub(crate) observer: Observer,
    pub(crate) stop: CancellationToken,
    pub(crate) tap: Option<Tap>,
}

struct Driver {
    rigging: Rigging,
    inbox: mpsc::Receiver<Asked>,
    waiting: BTreeMap<CommandId, oneshot::Sender<Answer>>,
    next_id: u64,
    /// The first command of this beat: those before it are durable.
    beat_began: u64,
    /// Whether the replica was told that the disk is full, and when that was looked at.
    full: bool,
    looked: Time,
    /// How long the replica was last told that commits take.
    commits: Duration,
    law: Arc<Law>,
    view: Arc<RwLock<Arc<View>>>,
}

/// The view of a replica that has not been driven yet.
pub(crate) fn first_view(replica: &Replica<NodeStore>, now: Time) -> Option<Arc<View>> {
    let (law, snapshot) = (Arc::new(replica.law().clone()), replica.store().snapshot());
    Some(Arc::new(View {
        law,
        snapshot,
        me: replica.member()?.clone(),
        now,
    }))
}

/// Starts the driver's thread.
pub(crate) fn start(rigging: Rigging, view: Arc<View>) -> std::io::Result<Helm> {
    let (inbox, asked) = mpsc::channel(INBOX);
    let (fail, failed) = watch::channel(None);
    let law = view.law.clone();
    let view = Arc::new(RwLock::new(view));
    let clock = rigging.clock.clone();
    let helm = Helm {
        inbox,
        view: view.clone(),
        failed,
        clock,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let stop = rigging.stop.clone();
    std::thread::Builder::new().name("driver".into()).spawn(move || {
        let driver = Driver {
            looked: rigging.clock.now(),
            rigging,
            inbox: asked,
            waiting: BTreeMap::new(),
            next_id: 0,
            beat_began: 0,
            full: false,
            commits: Duration::ZERO,
            law,
            view,
        };
        let ended = runtime.block_on(driver.run());
        if let Err(problem) = ended {
            tracing::error!(target: "aquifer::driver", %problem, "the store failed; the node stops");
            let _ = fail.send(Some(problem));
            stop.cancel();
        }
    })?;
    Ok(helm)
}

impl Driver {
    async fn run(mut self) -> Result<(), Problem> {
        loop {
            let Some(()) = self.next_inputs().await else {
                return Ok(());
            };
            match self.rigging.replica.commit() {
                Ok(()) => self.beat_began = self.next_id,
                Err(failure) if failure.full => {
                    self = self.reopens(&failure)?;
                    continue;
                }
                Err(failure) => return Err(store_failed(&failure)),
            }
            self.publish();
            let mut jobs = Vec::new();
            while let Some(output) = self.rigging.replica.poll_output() {
                self.perform(output, &mut jobs).await;
            }
            // Answers have left by now: nobody waits for the index to take its jobs.
            let view = self.view();
            self.rigging.observer.indexer.submit(jobs, &view).await;
        }
    }

    /// Waits for the first input, then takes what else is there. `None` once the node stops.
    async fn next_inputs(&mut self) -> Option<()> {
        let wait = match self.rigging.replica.next_deadline() {
            Some((at, _)) => at.since(self.rigging.clock.now()),
            None => Duration::from_secs(3_600),
        };
        // Somebody may make room at any moment.
        let wait = if self.full {
            wait.min(LOOK_EVERY)
        } else {
            wait
        };
        tokio::select! {
            () = self.rigging.stop.cancelled() => return None,
            Some(event) = self.rigging.events.recv() => self.on_net(event).await,
            Some(asked) = self.inbox.recv() => self.on_asked(asked),
            () = tokio::time::sleep(wait) => {}
        }
        for _ in 0..INPUTS_PER_BEAT {
            let event = self.rigging.events.try_recv();
            let asked = self.inbox.try_recv();
            if event.is_err() && asked.is_err() {
                break;
            }
            if let Ok(event) = event {
                self.on_net(event).await;
            }
            if let Ok(asked) = asked {
                self.on_asked(asked);
            }
        }
        self.looks_for_room();
        self.tells_how_long_commits_take();
        // Deadlines are looked at in every beat: a busy node never reaches its sleep.
        self.handle(Input::Tick);
        Some(())
    }

    fn handle(&mut self, input: Input) {
        let now = self.rigging.clock.now();
        self.rigging.replica.handle(now, input);
    }

    fn on_asked(&mut self, (command, reply): Asked) {
        let id = CommandId(self.next_id);
        self.next_id += 1;
        self.waiting.insert(id, reply);
        self.handle(Input::Command { id, command });
    }

    async fn on_net(&mut self, event: NetEvent) {
        self.rigging.observer.on_net(&event, &self.rigging.clock);
        match event {
            NetEvent::Up { peer, .. } => {
                // Admitted, so its chain was opened and kept by the doorkeeper.
                match self.rigging.admission.admitted(&NodeId(peer)) {
                    Some(member) => self.handle(Input::PeerUp { member }),
                    None => self.tell_net(NetCommand::Expel { peer }).await,
                }
            }
            NetEvent::Down { peer } => self.handle(Input::PeerDown { peer: NodeId(peer) }),
            NetEvent::Frame { from, frame } => {
                let from = NodeId(from);
                self.tap(Passing::Heard { from: &from }, &frame);
                self.handle(Input::Frame { from, bytes: frame });
            }
            NetEvent::Gossip {
                mesh,
                from,
                ticket,
                frame,
            } => {
                let from = NodeId(from);
                self.tap(Passing::Heard { from: &from }, &frame);
                self.handle(Input::Gossip {
                    mesh: mesh.parse().expect("a mesh of ours is a region"),
                    from,
                    ticket: Ticket(ticket),
                    bytes: frame,
                });
            }
            NetEvent::Rtt { peer, rtt } => {
                let peer = NodeId(peer);
                self.handle(Input::Distance { peer, rtt });
            }
            NetEvent::Listening { .. } | NetEvent::Refused { .. } | NetEvent::Trouble(_) => {}
        }
    }

    /// Publishes the law and the store of this commit together.
    fn publish(&mut self) {
        let replica = &self.rigging.replica;
        if replica.law().revision() != self.law.revision() {
            self.law = Arc::new(replica.law().clone());
        }
        let Some(me) = replica.member().cloned() else {
            return;
        };
        let (law, snapshot) = (self.law.clone(), replica.store().snapshot());
        let view = Arc::new(View {
            law,
            snapshot,
            me,
            now: self.rigging.clock.now(),
        });
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = view;
    }

    fn view(&self) -> Arc<View> {
        self.view
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn perform(&mut self, output: Output, jobs: &mut Vec<Job>) {
        match output {
            Output::Send { to, message } => {
                let frame = Bytes::from(message.to_bytes());
                self.tap(Passing::Sent { to: &to }, &frame);
                self.tell_net(NetCommand::Send { to: to.0, frame }).await;
            }
            Output::Publish {
                mesh,
                topic,
                message,
            } => {
                let frame = Bytes::from(message.to_bytes());
                self.tap(Passing::Published { mesh: &mesh }, &frame);
                let lane = topic.as_bytes().first_chunk().expect("32 bytes hold 8");
                self.tell_net(NetCommand::Publish {
                    mesh: mesh.to_string(),
                    lane: u64::from_be_bytes(*lane),
                    frame,
                })
                .await;
            }
            Output::Verdict { ticket, verdict } => {
                let verdict = match verdict {
                    Verdict::Accept => GossipVerdict::Accept,
                    Verdict::Ignore => GossipVerdict::Ignore,
                    Verdict::Reject => GossipVerdict::Reject,
                };
                let ticket = ticket.0;
                self.tell_net(NetCommand::Judged { ticket, verdict }).await;
            }
            Output::Reply { to, reply } => {
                if let Some(waiting) = self.waiting.remove(&to) {
                    // Whoever asked may have gone; what was done stays done.
                    let _ = waiting.send(Ok(reply));
                }
            }
            Output::Event(event) => {
                let view = self.view();
                self.rigging.observer.on_event(event, &view, jobs);
            }
        }
    }

    fn tap(&self, passing: Passing<'_>, frame: &[u8]) {
        if let Some(tap) = &self.rigging.tap {
            tap.see(passing, frame);
        }
    }

    async fn tell_net(&self, command: NetCommand) {
        // The network ends only with the node.
        let _ = self.rigging.net.send(command).await;
    }
}

fn store_failed(failure: &StoreFailure) -> Problem {
    let hint =
        "check the disk; the next start checks the store and rebuilds from peers what is lost";
    Problem::new("store_failed", 1, failure.to_string(), hint)
}
