//! Models: files of any size, published in a topic and kept where its policy places it.
//!
//! A model is a manifest, which is a memory of the topic (`model`), and the blob that it names. Pushing
//! stores the blob here and writes the manifest; from there the manifest spreads as memories do, and
//! each node that is to hold the topic fetches the blob for itself (`keep`). Whoever else may have it
//! pulls it when it is wanted. `law` says who may have what.

mod catalogue;
mod keep;
mod law;
mod show;
mod state;
mod trouble;

use super::{Memory, denied, topic_name, unexpected};
use crate::api::{
    AskModel, CheckedModel, Forget, HolderView, MemoryView, ModelProgress, ModelView, Problem,
    PushModel, PushedModel, Remember, RemovedModel,
};
use crate::blob::BlobHash;
use crate::blob::fetch::{Progress, has};
use crate::blob::shelf::Hold;
use crate::clock::Stopwatch;
use crate::config::parse_region;
use crate::model::{DEFAULT_TOPIC, Manifest, ModelName, TAG};
use crate::names;
use aquifer_protocol::body::Manifest as NodeManifest;
use aquifer_protocol::{NodeId, Regions, TopicId};
use catalogue::{Catalogue, Entry};
use law::may_keep_model;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use trouble::{model_exists, no_model, not_kept, unreadable_file};

pub(crate) use state::Models;

/// Told how far a long call is. It must not block.
pub type Seen = dyn Fn(ModelProgress) + Send + Sync;

/// Where a model's bytes come from.
pub enum Content {
    /// The file that the request names.
    File,
    /// What is read here.
    Stream {
        /// How many bytes there must be.
        bytes: u64,
        /// It is read on a thread that may wait.
        from: Box<dyn Read + Send>,
    },
}

/// How often, in bytes, a long call on this disk says how far it is.
const SAY_EVERY_BYTES: u64 = 16 << 20;

/// A blob that this node is to have, or was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    topic: TopicId,
    manifest: Manifest,
    publisher: NodeId,
}

/// A push, as far as it can be judged before its content is read.
struct Draft {
    topic: TopicId,
    topic_name: String,
    founded: bool,
    manifest: Manifest,
    revises: Option<String>,
}

fn progress(stage: &str, done_bytes: u64, total_bytes: u64) -> ModelProgress {
    ModelProgress {
        stage: stage.to_owned(),
        done_bytes,
        total_bytes,
    }
}

/// Says how far a call on this disk is, now and then.
fn say(seen: &Seen, stage: &str, done_bytes: u64, total_bytes: u64) {
    if done_bytes.is_multiple_of(SAY_EVERY_BYTES) || done_bytes == total_bytes {
        seen(progress(stage, done_bytes, total_bytes));
    }
}

/// A file and its length.
fn opened(path: &Path) -> Result<(Box<dyn Read + Send>, u64), Problem> {
    let file = File::open(path).map_err(|e| unreadable_file(path, &e))?;
    let found = file.metadata().map_err(|e| unreadable_file(path, &e))?;
    match found.is_file() {
        true => Ok((Box::new(file), found.len())),
        false => Err(unreadable_file(path, &"it is not a plain file")),
    }
}

impl Memory {
    /// Publishes `content` as a model: stores its bytes here under their hash, and writes the manifest.
    /// `stop` calls it off.
    ///
    /// # Errors
    /// `bad_model_name`, `unreadable_file`, `model_exists` (or `not_found` of an update),
    /// `policy_refused` if the content may not lie here, `disk_full`, and what keeps a memory from
    /// being written.
    pub async fn model_push(
        &self,
        asked: PushModel,
        content: Content,
        seen: Arc<Seen>,
        stop: CancellationToken,
    ) -> Result<PushedModel, Problem> {
        // Opened before anything is founded for its sake.
        let (from, bytes) = match content {
            Content::File => opened(Path::new(&asked.path))?,
            Content::Stream { bytes, from } => (from, bytes),
        };
        let draft = self.draft(&asked).await?;
        let topic = draft.topic;
        let shelf = self.inner.models.shelf.clone();
        let watch = Stopwatch::start();
        let hold = tokio::task::spawn_blocking(move || {
            let mut going = |done| {
                say(&*seen, "storing", done, bytes);
                !stop.is_cancelled()
            };
            shelf.take_in(from, bytes, topic, &mut going)
        });
        let hold = hold.await.map_err(|_| unexpected())?;
        let hold = hold.map_err(|why| not_kept(&why))?;
        let took = watch.elapsed();
        let pushed = self.publish(asked, draft, &hold, bytes).await?;
        Ok(PushedModel {
            stored_ms: took.as_millis() as u64,
            bytes_per_second: (bytes as f64 / took.as_secs_f64().max(0.001)) as u64,
            ..pushed
        })
    }

    /// What a push comes to but for its content, if it may be made.
    async fn draft(&self, asked: &PushModel) -> Result<Draft, Problem> {
        let name = ModelName::read(&asked.name)?;
        let topic_name = topic_name(asked.topic.as_deref().unwrap_or(DEFAULT_TOPIC))?;
        let regions = asked.regions.iter().map(|region| parse_region(region));
        let regions = regions.collect::<Result<Vec<_>, _>>()?;
        let founded = self.found_if_new(&self.view(), &topic_name).await?;
        let view = self.view();
        let topic = topic_name.id(view.law.hive());
        let label = view.law.label(topic).map_err(|denial| denied(&denial))?;
        for region in &regions {
            aquifer_protocol::decide::allowed_in(label, region).map_err(|d| denied(&d))?;
        }
        let manifest = Manifest {
            name,
            blob: BlobHash([0; 32]),
            bytes: 0,
            licence: asked.licence.clone(),
            purpose: asked.purpose.trim().to_owned(),
            gpu_bytes: asked.gpu_bytes,
            ram_bytes: asked.ram_bytes,
            regions: match regions.is_empty() {
                true => Regions::Anywhere,
                false => Regions::only(regions),
            },
        };
        manifest.check().map_err(|why| {
            let message = format!("the manifest cannot be written: {why}");
            Problem::new("oversize", 2, message, "make it shorter")
        })?;
        may_keep_model(&view, topic, &manifest).map_err(|denial| denied(&denial))?;
        self.read_catalogue().await;
        let catalogue = self.inner.models.catalogue();
        let known = catalogue.named(topic, &manifest.name);
        let revises = match (known.first(), asked.update) {
            (Some((entry, _)), true) => Some(entry.id.to_string()),
            (None, true) => return Err(no_model(&manifest.name, topic_name.as_str())),
            (Some(_), false) => return Err(model_exists(&manifest.name, topic_name.as_str())),
            (None, false) => None,
        };
        Ok(Draft {
            topic,
            topic_name: topic_name.to_string(),
            founded,
            manifest,
            revises,
        })
    }

    async fn publish(
        &self,
        asked: PushModel,
        draft: Draft,
        hold: &Hold,
        bytes: u64,
    ) -> Result<PushedModel, Problem> {
        let mut manifest = draft.manifest;
        (manifest.blob, manifest.bytes) = (hold.name, bytes);
        let request = Remember {
            text: manifest.text(),
            topic: Some(draft.topic_name.clone()),
            tags: vec![TAG.to_owned()],
            metadata: manifest.metadata(),
            agent: asked.agent,
            revises: draft.revises,
            ..Remember::default()
        };
        let written = self.remember(request).await?;
        self.read_catalogue().await;
        self.inner.models.poke.notify_one();
        let ask = AskModel {
            name: manifest.name.to_string(),
            topic: Some(draft.topic_name),
        };
        Ok(PushedModel {
            model: self.model_show(&ask).await?,
            topic_founded: draft.founded,
            durable: written.durable,
            stored_ms: 0,
            bytes_per_second: 0,
        })
    }

    /// The models of a topic and those below it, or of all topics: one for each name, the newest.
    ///
    /// # Errors
    /// As [`Memory::recall`].
    pub async fn model_list(&self, topic: Option<&str>) -> Result<Vec<ModelView>, Problem> {
        let readable = self.readable(&self.view(), topic)?;
        self.read_catalogue().await;
        let (view, catalogue) = (self.view(), self.inner.models.catalogue());
        let mut models = Vec::new();
        for (entry, head) in catalogue.heads() {
            if readable.contains(&entry.topic.0) {
                let all = catalogue.named(entry.topic, &head.manifest.name);
                let is_first = std::ptr::eq(all[0].1, head);
                models.extend(is_first.then(|| self.show_model(&view, &all)));
            }
        }
        models.sort_by(|a, b| (&a.topic, &a.name).cmp(&(&b.topic, &b.name)));
        Ok(models)
    }

    /// One model. Where this node does not hold the topic, those that do are asked.
    ///
    /// # Errors
    /// `not_found`, and as [`Memory::recall`].
    pub async fn model_show(&self, asked: &AskModel) -> Result<ModelView, Problem> {
        Ok(self.find_model(asked).await?.1)
    }

    async fn find_model(&self, asked: &AskModel) -> Result<(Wanted, ModelView), Problem> {
        let name = ModelName::read(&asked.name)?;
        let topic_text = asked.topic.as_deref().unwrap_or(DEFAULT_TOPIC);
        let topic = topic_name(topic_text)?.id(self.view().law.hive());
        self.readable(&self.view(), Some(topic_text))?;
        self.read_catalogue().await;
        let (view, catalogue) = (self.view(), self.inner.models.catalogue());
        let found = catalogue.named(topic, &name);
        if let Some((_, head)) = found.first() {
            let wanted = Wanted {
                topic,
                manifest: head.manifest.clone(),
                publisher: head.node,
            };
            return Ok((wanted, self.show_model(&view, &found)));
        }
        let told = self.ask_for_manifests(topic_text).await?.results;
        let mut told: Vec<(Manifest, MemoryView)> = told
            .into_iter()
            .filter(|hit| hit.memory.topic == topic_text)
            .filter_map(|hit| {
                let open = Manifest::open(&hit.memory.text, &hit.memory.metadata);
                Some((open.ok()?, hit.memory))
            })
            .filter(|(manifest, _)| manifest.name == name)
            .collect();
        told.sort_by_key(|(_, memory)| memory.updated_at);
        let (manifest, memory) = told.pop().ok_or_else(|| no_model(&name, topic_text))?;
        let shown = self.show_manifest(&view, topic, &manifest, &memory);
        let publisher = names::parse_node(&memory.node).unwrap_or(NodeId([0; 32]));
        let wanted = Wanted {
            topic,
            manifest,
            publisher,
        };
        Ok((wanted, shown))
    }

    /// Fetches a model's content to this node, if the law lets it rest here.
    ///
    /// # Errors
    /// `not_found`, `policy_refused`, `no_holder` if nobody within reach gives it, `disk_full`.
    pub async fn model_pull(
        &self,
        asked: &AskModel,
        seen: Arc<Seen>,
        stop: CancellationToken,
    ) -> Result<ModelView, Problem> {
        let (wanted, _) = self.find_model(asked).await?;
        may_keep_model(&self.view(), wanted.topic, &wanted.manifest)
            .map_err(|denial| denied(&denial))?;
        let tell = |now: &Progress| seen(progress("fetching", now.done_bytes, now.total_bytes));
        self.fetch_model(&wanted, &stop, &tell).await?;
        self.inner.models.poke.notify_one();
        Ok(self.find_model(asked).await?.1)
    }

    /// The file of a model that is here, whole.
    ///
    /// # Errors
    /// `not_found`, and `not_here` if it must be pulled first.
    pub async fn model_file(&self, asked: &AskModel) -> Result<PathBuf, Problem> {
        let shown = self.model_show(asked).await?;
        shown.path.map(PathBuf::from).ok_or_else(|| {
            let message = format!("the content of `{}` is not on this node", shown.name);
            let hint = format!("`aquifer model pull {} -t {}`", shown.name, shown.topic);
            Problem::new("not_here", 3, message, hint)
        })
    }

    /// What this node's manifest says of it: what others place work by.
    pub fn own_manifest(&self) -> Option<NodeManifest> {
        let view = self.view();
        let known = view.law.member(&view.me.node())?;
        Some(known.manifest.clone())
    }

    /// Reads what is here of a model and proves every byte, and asks the other holders what they have.
    ///
    /// # Errors
    /// `not_found`; that bytes are damaged is an answer.
    pub async fn model_check(
        &self,
        asked: &AskModel,
        seen: Arc<Seen>,
    ) -> Result<CheckedModel, Problem> {
        let (wanted, shown) = self.find_model(asked).await?;
        let Manifest { blob, bytes, .. } = wanted.manifest;
        let shelf = self.inner.models.shelf.clone();
        let checked = tokio::task::spawn_blocking(move || {
            let _hold = shelf.hold(blob);
            let mut tell = |done| say(&*seen, "checking", done, bytes);
            let here = shelf.bytes_of(&blob);
            here.map(|_| shelf.check(&blob, bytes, &mut tell))
                .transpose()
        });
        let checked = checked.await.map_err(|_| unexpected())?;
        let checked = checked.map_err(|e| self.inner.home.trouble("read a model", &e))?;
        if checked.is_some_and(|checked| checked.damaged_bytes > 0) {
            let what = format!(
                "the content of model `{}` is damaged on this node's disk; it is fetched again",
                wanted.manifest.name
            );
            self.inner.observed.trouble(what);
            self.inner.models.poke.notify_one();
        }
        let damaged_bytes = checked.map_or(0, |checked| checked.damaged_bytes);
        Ok(CheckedModel {
            proved_bytes: checked.map_or(0, |checked| checked.bytes - damaged_bytes),
            damaged_bytes,
            holders: self.ask_holders(&wanted).await,
            model: shown,
        })
    }

    async fn ask_holders(&self, wanted: &Wanted) -> Vec<HolderView> {
        let view = self.view();
        let me = view.me.node();
        let source = self.source(wanted);
        let holders = view.holders(wanted.topic).into_iter();
        let mut answers = Vec::new();
        for node in holders.filter(|node| *node != me) {
            let asked = has(&source, wanted.order(), node).await;
            answers.push(HolderView {
                node: self.name_node(&node),
                holds: asked.is_ok(),
                why: asked.err().unwrap_or_default(),
            });
        }
        answers
    }

    /// Erases the manifests of a model, everywhere and for good; each holder then removes the content,
    /// unless another model names it too.
    ///
    /// # Errors
    /// `not_found`, and as [`Memory::forget`].
    pub async fn model_remove(&self, asked: &AskModel) -> Result<RemovedModel, Problem> {
        let (wanted, shown) = self.find_model(asked).await?;
        self.read_catalogue().await;
        let catalogue = self.inner.models.catalogue();
        let known = catalogue.named(wanted.topic, &wanted.manifest.name);
        let ids = known.iter().map(|(entry, _)| entry.id.to_string());
        let ids: BTreeSet<String> = ids.chain([shown.id]).collect();
        let forget = Forget {
            ids: ids.into_iter().collect(),
            ..Forget::default()
        };
        let forgotten = self.forget(forget).await?;
        self.read_catalogue().await;
        let after = self.inner.models.catalogue();
        let blobs = known.iter().flat_map(|(entry, _)| entry.blobs());
        let mut freed_bytes = 0;
        for blob in blobs.collect::<BTreeSet<_>>() {
            if !after.names(&blob) {
                let freed = self.inner.models.shelf.remove(&blob);
                freed_bytes += freed.map_err(|e| self.inner.home.trouble("remove a model", &e))?;
            }
        }
        self.inner.models.poke.notify_one();
        Ok(RemovedModel {
            ids: forgotten.ids,
            freed_bytes,
            durable: forgotten.durable,
        })
    }
}
