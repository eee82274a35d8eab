//! The law of models: who may have a model's content, asked at both ends of every transfer.
//!
//! The law is that of the topic (`decide`); a manifest may only narrow the regions. What a manifest
//! says is read anew from this node's records for every slice that leaves, so that what was erased a
//! moment ago is not given.

use super::Entry;
use crate::blob::BlobHash;
use crate::blob::fetch::{Holders, Opening};
use crate::blob::serve::{Giver, NotGiven};
use crate::blob::shelf::Shelf;
use crate::driver::Passing;
use crate::memory::Memory;
use crate::model::Manifest;
use crate::net::{CallPeer, NetCommand};
use crate::view::View;
use aquifer_protocol::decide::keepable;
use aquifer_protocol::time::Time;
use aquifer_protocol::{Denial, Member, NodeId, Op, Subject, TopicId, decide};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

/// Whether this node may keep content of `topic`, as far as the topic's law says. As with reading, a
/// certificate that has lapsed offline takes nothing from it.
pub(super) fn may_keep(view: &View, topic: TopicId) -> Result<(), Denial> {
    let label = view.law.label(topic)?;
    keepable(label, view.snapshot.erases())?;
    let grant = view.me.grant();
    let at = Time::from_millis(view.now.millis().clamp(grant.not_before, grant.not_after));
    let member = &view.me;
    decide(Op::Store, label, Subject { member, at }, label.epoch)
}

/// Whether the content that `manifest` names may be with this node.
pub(super) fn may_keep_model(
    view: &View,
    topic: TopicId,
    manifest: &Manifest,
) -> Result<(), Denial> {
    may_keep(view, topic)?;
    narrowed(view, topic, manifest, &view.me)
}

/// Whether `member` may do `op` with the content that `manifest` names.
fn may(
    op: Op,
    view: &View,
    topic: TopicId,
    manifest: &Manifest,
    subject: Subject<'_>,
) -> Result<(), Denial> {
    let label = view.law.label(topic)?;
    decide(op, label, subject, label.epoch)?;
    narrowed(view, topic, manifest, subject.member)
}

fn narrowed(
    view: &View,
    topic: TopicId,
    manifest: &Manifest,
    member: &Member,
) -> Result<(), Denial> {
    if manifest.allows(member.region()) {
        return Ok(());
    }
    Err(Denial::Region {
        topic: view.law.label(topic)?.topic.clone(),
        allowed: manifest.regions.clone(),
        region: member.region().clone(),
    })
}

/// Whom this node asks for a model's content.
pub(super) struct Source {
    pub(super) memory: Memory,
    pub(super) topic: TopicId,
    pub(super) manifest: Manifest,
    /// The node that published it: it has it, if it is there.
    pub(super) publisher: NodeId,
}

impl Source {
    fn judge(&self, view: &View, node: &NodeId) -> Result<(), Denial> {
        may_keep_model(view, self.topic, &self.manifest)?;
        let unknown = Denial::UnknownMember { node: *node };
        let member = self.memory.shown_by(view, node).ok_or(unknown)?;
        let (member, at) = (&member, self.memory.inner.helm.now());
        let subject = Subject { member, at };
        may(Op::Store, view, self.topic, &self.manifest, subject)
    }
}

impl Holders for Source {
    fn candidates(&self) -> Vec<NodeId> {
        let view = self.memory.view();
        let placed: BTreeSet<NodeId> = view.holders(self.topic).into_iter().collect();
        let mut up = self.memory.inner.observed.up();
        up.retain(|node| self.judge(&view, node).is_ok());
        up.sort_by_key(|node| (*node != self.publisher, !placed.contains(node), *node));
        up
    }

    fn allowed(&self, node: &NodeId) -> Result<(), String> {
        let view = self.memory.view();
        self.judge(&view, node).map_err(|denial| denial.to_string())
    }

    fn open(&self, node: NodeId) -> Opening<'_> {
        Box::pin(async move {
            let (reply, opened) = oneshot::channel();
            let command = NetCommand::OpenBlob { to: node.0, reply };
            let stopping = || CallPeer::NotUp.to_string();
            let net = &self.memory.inner.net;
            net.send(command).await.map_err(|_| stopping())?;
            let opened = opened.await.map_err(|_| stopping())?;
            opened.map_err(|why| why.to_string())
        })
    }

    fn got(&self, from: &NodeId, bytes: &[u8]) {
        let models = &self.memory.inner.models;
        models
            .received_bytes
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if let Some(tap) = &models.tap {
            tap.see(Passing::Heard { from }, bytes);
        }
    }
}

impl Giver for Memory {
    fn may_give(&self, to: &NodeId, topic: TopicId, blob: &BlobHash) -> Result<(), NotGiven> {
        let view = self.view();
        let refuse = |denial: Denial| {
            self.inner
                .observed
                .denied(&view.topic_name(topic), to, &denial);
            NotGiven::Denied(denial.to_string())
        };
        let unknown = Denial::UnknownMember { node: *to };
        let member = self.shown_by(&view, to).ok_or(unknown).map_err(refuse)?;
        let (member, at) = (&member, self.inner.helm.now());
        let subject = Subject { member, at };
        // The topic first, so that whoever may not have it learns nothing of what is in it.
        let label = view.law.label(topic).map_err(refuse)?;
        decide(Op::Serve, label, subject, label.epoch).map_err(refuse)?;
        view.may_read(topic).map_err(refuse)?;
        let catalogue = self.inner.models.catalogue();
        let ids: BTreeSet<_> = catalogue
            .naming(topic, blob)
            .map(|(entry, _)| entry.id)
            .collect();
        let mut refused = None;
        for id in ids {
            let entry = Entry::read(&view, &id).ok().flatten();
            let heads = entry.into_iter().flat_map(|entry| entry.heads);
            for head in heads.filter(|head| head.manifest.blob == *blob) {
                match may(Op::Serve, &view, topic, &head.manifest, subject) {
                    Ok(()) => return Ok(()),
                    Err(denial) => refused = Some(denial),
                }
            }
        }
        Err(refused.map_or(NotGiven::Unnamed, refuse))
    }

    fn shelf(&self) -> &Arc<Shelf> {
        &self.inner.models.shelf
    }

    fn gave(&self, to: &NodeId, bytes: &[u8]) {
        let models = &self.inner.models;
        models
            .sent_bytes
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if let Some(tap) = &models.tap {
            tap.see(Passing::Sent { to }, bytes);
        }
    }
}

impl Memory {
    /// The certificate a node showed when it was admitted, which is its newest, or the one the law
    /// knows.
    fn shown_by(&self, view: &View, node: &NodeId) -> Option<Member> {
        let shown = self.inner.admission.admitted(node);
        shown.or_else(|| Some(view.law.member(node)?.member.clone()))
    }
}
