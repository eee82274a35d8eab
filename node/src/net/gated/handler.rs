//! The gate's half inside a connection: a handler that is empty until attached, silent until
//! opened, and empty again once revoked.
//!
//! What the inner handler reports is paced (`pace`): a peer can give no more work than that.
//!
//! It obeys the orders of `Gated` and keeps no verdicts of its own. An empty handler offers no
//! protocol at all, so a stranger's attempt fails in negotiation, before any of our code runs.

use std::collections::HashSet;
use std::fmt;
use std::iter::Flatten;
use std::option;
use std::task::{Context, Poll, ready};

use libp2p::swarm::handler::{
    ConnectionEvent, FullyNegotiatedInbound, InboundUpgradeSend, ListenUpgradeError,
    ProtocolSupport, ProtocolsChange, UpgradeInfoSend,
};
use libp2p::swarm::{
    ConnectionHandler, ConnectionHandlerEvent, Stream, StreamProtocol, SubstreamProtocol,
};
use tokio::time::Instant;

use super::pace::Pace;

/// What the gate tells a connection's handler.
pub(in crate::net) enum Order<H: ConnectionHandler> {
    /// Offer the inner protocols.
    Attach(Box<H>),
    /// The inner handler may start streams and report.
    Open,
    /// Drop the inner handler for good.
    Revoke,
    /// A message from the inner behaviour.
    Inner(H::FromBehaviour),
}

impl<H: ConnectionHandler> fmt::Debug for Order<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Attach(_) => "Attach",
            Self::Open => "Open",
            Self::Revoke => "Revoke",
            Self::Inner(_) => "Inner",
        })
    }
}

/// The handler of one connection: empty until attached, silent until opened.
pub(in crate::net) struct GatedHandler<H> {
    inner: Option<H>,
    open: bool,
    /// What the peer was found to speak before the inner handler was there to hear it.
    missed: HashSet<StreamProtocol>,
    /// What to report again, so that it hears it now: first as gone, then as there.
    replay: Vec<ProtocolSupport>,
    pace: Pace,
}

impl<H> GatedHandler<H> {
    /// A handler that offers nothing.
    pub(super) fn empty() -> Self {
        Self {
            inner: None,
            open: false,
            missed: HashSet::new(),
            replay: Vec::new(),
            pace: Pace::default(),
        }
    }
}

impl<H: ConnectionHandler> ConnectionHandler for GatedHandler<H> {
    type FromBehaviour = Order<H>;
    type ToBehaviour = H::ToBehaviour;
    type InboundProtocol = Offer<H::InboundProtocol>;
    type OutboundProtocol = H::OutboundProtocol;
    type InboundOpenInfo = Option<H::InboundOpenInfo>;
    type OutboundOpenInfo = H::OutboundOpenInfo;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol, Self::InboundOpenInfo> {
        match &self.inner {
            Some(inner) => inner
                .listen_protocol()
                .map_upgrade(|up| Offer(Some(up)))
                .map_info(Some),
            None => SubstreamProtocol::new(Offer(None), None),
        }
    }

    /// An admitted connection stays up; an empty one is left to the swarm's idle timeout.
    fn connection_keep_alive(&self) -> bool {
        self.inner.is_some()
    }

    fn on_behaviour_event(&mut self, order: Order<H>) {
        match order {
            Order::Attach(handler) => {
                self.inner = Some(*handler);
                let missed = std::mem::take(&mut self.missed);
                if !missed.is_empty() {
                    let added = ProtocolSupport::Added(missed.clone());
                    self.replay = vec![added, ProtocolSupport::Removed(missed)];
                }
            }
            Order::Open => self.open = true,
            Order::Revoke => *self = Self::empty(),
            Order::Inner(event) => {
                if let Some(inner) = &mut self.inner {
                    inner.on_behaviour_event(event);
                }
            }
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<
        ConnectionHandlerEvent<Self::OutboundProtocol, Self::OutboundOpenInfo, Self::ToBehaviour>,
    > {
        let Some(inner) = self.inner.as_mut().filter(|_| self.open) else {
            return Poll::Pending;
        };
        if let Some(support) = self.replay.pop() {
            return Poll::Ready(ConnectionHandlerEvent::ReportRemoteProtocols(support));
        }
        ready!(self.pace.poll_ready(cx));
        let event = ready!(inner.poll(cx));
        if matches!(event, ConnectionHandlerEvent::NotifyBehaviour(_)) {
            self.pace.report(Instant::now());
        }
        Poll::Ready(event)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<Self::ToBehaviour>> {
        match &mut self.inner {
            Some(inner) => inner.poll_close(cx),
            None => Poll::Ready(None),
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<
            '_,
            Self::InboundProtocol,
            Self::OutboundProtocol,
            Self::InboundOpenInfo,
            Self::OutboundOpenInfo,
        >,
    ) {
        let Some(inner) = &mut self.inner else {
            match event {
                ConnectionEvent::RemoteProtocolsChange(ProtocolsChange::Added(protocols)) => {
                    self.missed.extend(protocols.cloned());
                }
                ConnectionEvent::RemoteProtocolsChange(ProtocolsChange::Removed(protocols)) => {
                    for protocol in protocols {
                        self.missed.remove(protocol);
                    }
                }
                _ => {}
            }
            return;
        };
        let event = match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, info }) => {
                let Some(info) = info else { return };
                let negotiated = FullyNegotiatedInbound { protocol, info };
                ConnectionEvent::FullyNegotiatedInbound(negotiated)
            }
            ConnectionEvent::ListenUpgradeError(ListenUpgradeError { info, error }) => {
                let Some(info) = info else { return };
                ConnectionEvent::ListenUpgradeError(ListenUpgradeError { info, error })
            }
            ConnectionEvent::FullyNegotiatedOutbound(negotiated) => {
                ConnectionEvent::FullyNegotiatedOutbound(negotiated)
            }
            ConnectionEvent::DialUpgradeError(error) => ConnectionEvent::DialUpgradeError(error),
            ConnectionEvent::AddressChange(change) => ConnectionEvent::AddressChange(change),
            ConnectionEvent::LocalProtocolsChange(change) => {
                ConnectionEvent::LocalProtocolsChange(change)
            }
            ConnectionEvent::RemoteProtocolsChange(change) => {
                ConnectionEvent::RemoteProtocolsChange(change)
            }
            // Kinds a later libp2p may add carry nothing the inner handler relies on today.
            _ => return,
        };
        inner.on_connection_event(event);
    }
}

/// The inner handler's upgrade, or the offer of nothing at all.
pub(in crate::net) struct Offer<U>(Option<U>);

impl<U: UpgradeInfoSend> UpgradeInfoSend for Offer<U> {
    type Info = U::Info;
    type InfoIter = Flatten<option::IntoIter<U::InfoIter>>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.as_ref().map(U::protocol_info).into_iter().flatten()
    }
}

impl<U: InboundUpgradeSend> InboundUpgradeSend for Offer<U> {
    type Output = U::Output;
    type Error = U::Error;
    type Future = U::Future;

    fn upgrade_inbound(self, socket: Stream, info: Self::Info) -> Self::Future {
        let upgrade = self
            .0
            .expect("an empty offer names no protocol, so none is negotiated");
        upgrade.upgrade_inbound(socket, info)
    }
}
