//! Agents: the WebAssembly agents that live on this node, nearly all of them asleep.
//!
//! A publisher **orders** an agent in a topic, its home; the nodes that the order names **host** it. One
//! thread reads what is new in the logs ([`reader`]), keeps the [`roster`] of orders, wakes agents over
//! what is for them, and when their steps are durable does what these say (`outward`). All of it goes
//! through the one API, and so under the law.
//!
//! Not here: how an agent runs (`aquifer-wasm`), what is asked of agents from outside (`memory::agents`).

pub mod company;
mod host;
mod infer;
pub mod lease;
pub mod note;
mod outlook;
mod outward;
pub mod reader;
pub mod roster;
pub mod said;

use crate::api::Problem;
use crate::memory::Memory;
use aquifer_wasm::engine::interpreter::Interpreter;
use aquifer_wasm::engine::jit::Jit;
use aquifer_wasm::engine::kernel::Kernel;
use aquifer_wasm::engine::tiered::Tiered;
use aquifer_wasm::engine::{Engine, LoadModule, Loaded};
use aquifer_wasm::profile::Profile;
pub(crate) use host::Host;
use std::fmt;
use std::sync::{Arc, OnceLock};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Questions to the thread that may wait.
const ASKS: usize = 64;

/// Something to be done on the thread of the agents.
type Errand = Box<dyn FnOnce(&mut Host) + Send>;

/// The way to the agents of this node. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Agents {
    errands: mpsc::Sender<Errand>,
}

/// The thread's end of the way.
pub(crate) struct Errands(mpsc::Receiver<Errand>);

/// A way to agents that are still to be started.
pub(crate) fn way() -> (Agents, Errands) {
    let (errands, todo) = mpsc::channel(ASKS);
    (Agents { errands }, Errands(todo))
}

impl Agents {
    /// Waits until the thread has let go of the journal.
    pub(crate) async fn ended(&self) {
        self.errands.closed().await;
    }

    /// What `errand` comes to, on the agents' own thread, between two wakes.
    ///
    /// # Errors
    /// If the node is stopping.
    pub(crate) async fn with<T: Send + 'static>(
        &self,
        errand: impl FnOnce(&mut Host) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let stopping = || Problem::new("stopping", 1, "the node is stopping", "start it again");
        let (reply, answer) = oneshot::channel();
        let errand = Box::new(move |host: &mut Host| {
            // Whoever asked may have gone.
            let _ = reply.send(errand(host));
        });
        self.errands.send(errand).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }
}

/// On what agents run here, and on what the steps of others are taken again: two engines that share as little
/// as can be. Whoever starts a node may give it others.
#[derive(Clone)]
pub struct Engines {
    /// Wakes the agents that live here.
    pub wakes: Arc<dyn Engine>,
    /// Takes again what another host signed for.
    pub checks: Arc<dyn Engine>,
}

impl Default for Engines {
    /// wasmtime, with wasmi until it has compiled, and wasmi.
    fn default() -> Self {
        Self {
            wakes: Arc::new(Lazy::default()),
            checks: Arc::new(Interpreter::new()),
        }
    }
}

impl fmt::Debug for Engines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Engines")
    }
}

/// Starts the thread. What lives here is read from the home; the first wake is not waited for.
///
/// # Errors
/// If the journal of agents cannot be read, or no thread can be had.
///
/// # Panics
/// Outside of a runtime.
pub(crate) fn start(
    memory: Memory,
    errands: Errands,
    infer: Option<String>,
    stop: CancellationToken,
    engines: Engines,
) -> Result<(), Problem> {
    let model = infer.map(|command| infer::Model::new(command, stop.clone()));
    let host = Host::open(memory, engines, model)?;
    let no_thread =
        |e: std::io::Error| Problem::new("no_thread", 1, format!("cannot start a thread: {e}"), "");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(no_thread)?;
    std::thread::Builder::new()
        .name("agents".into())
        .spawn(move || runtime.block_on(host.run(errands.0, stop)))
        .map_err(no_thread)?;
    Ok(())
}

/// The engine called `name`.
///
/// # Errors
/// `bad_engine`, or `engine_unavailable` if this machine cannot run it.
pub(crate) fn engine(name: &str) -> Result<Arc<dyn Engine>, Problem> {
    match name {
        "wasmtime" => Ok(Arc::new(Jit::new().map_err(unavailable)?)),
        "wasmi" => Ok(Arc::new(Interpreter::new())),
        "kernel" => Ok(Arc::new(Kernel)),
        _ => Err(Problem::new(
            "bad_engine",
            2,
            format!("`{name}` is not an engine"),
            "give wasmtime, wasmi or kernel",
        )),
    }
}

fn unavailable(why: LoadModule) -> Problem {
    Problem::new(
        "engine_unavailable",
        1,
        why.to_string(),
        "try --engine wasmi, which needs nothing of the machine",
    )
}

/// The interpreter at once and wasmtime as soon as it has compiled, from the first module on: a node
/// without agents has no use for its pool. The interpreter alone where that cannot be had.
#[derive(Default)]
struct Lazy(OnceLock<Box<dyn Engine>>);

impl Lazy {
    fn engine(&self) -> &dyn Engine {
        let made = self.0.get_or_init(|| {
            let both = Jit::new().map_err(|why| why.to_string()).and_then(|jit| {
                let first = Box::new(Interpreter::new());
                Tiered::new(first, Box::new(jit)).map_err(|why| why.to_string())
            });
            match both {
                Ok(both) => Box::new(both),
                Err(why) => {
                    tracing::warn!(target: "aquifer::agents", %why, "agents run in the interpreter");
                    Box::new(Interpreter::new())
                }
            }
        });
        &**made
    }
}

impl Engine for Lazy {
    fn name(&self) -> &'static str {
        self.engine().name()
    }

    fn load(&self, module: &[u8], profile: &Profile) -> Result<Arc<dyn Loaded>, LoadModule> {
        self.engine().load(module, profile)
    }
}
