//! The node's side: a real node that does what its stdin says.
//!
//! It is the product (`aquifer_node::start`) with a tap and another door. When its stdin ends it ends,
//! so no node outlives the test that started it.

use super::canary::Masked;
use super::micros;
use super::talk::{Ask, Line, Said, Start};
use super::tap::Counter;
use aquifer_node::api::{Happening, Invite, List, Problem, Recall};
use aquifer_node::home::Home;
use aquifer_node::memory::Memory;
use aquifer_node::{Up, start};
use aquifer_protocol::identity::digest;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::sync::{broadcast, mpsc};
use tokio::time::timeout;
use tracing_subscriber::EnvFilter;

/// Where a node listens.
const PORT: u16 = 27_471;

/// Where it echoes.
const ECHO_PORT: u16 = 7;

/// A ping that is not back after this is lost.
const PING_PATIENCE: Duration = Duration::from_secs(1);

/// Without news, a text that is waited for is looked for this often.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Once it is here, it is looked for this often until the index has it.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Answers that wait to be written.
const ANSWERS: usize = 256;

/// Runs a node until its stdin ends or says so.
///
/// # Errors
/// If stdin or stdout fail, or the first line is no [`Start`].
pub async fn run() -> io::Result<()> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let first = lines.next_line().await?.unwrap_or_default();
    let asked: Start = serde_json::from_str(&first)?;
    log_to_stderr();
    let (say, mut said) = mpsc::channel::<Line<Said>>(ANSWERS);
    let writer = tokio::spawn(async move {
        let mut out = tokio::io::stdout();
        while let Some(line) = said.recv().await {
            let mut text = serde_json::to_vec(&line).expect("it is plain data");
            text.push(b'\n');
            // Who does not listen any more has ended, and so do we.
            if out.write_all(&text).await.is_err() || out.flush().await.is_err() {
                return;
            }
        }
    });
    echo(asked.address)?;
    let masked = Masked::read(&asked.masked).unwrap_or_else(|| panic!("not masked forms"));
    let counter = Counter::new(masked);
    let node = match start(flags(&asked, &counter)).await {
        Ok(node) => node,
        Err(problem) => {
            let _ = say
                .send(Line {
                    number: 0,
                    body: Said::Refused(problem),
                })
                .await;
            drop(say);
            let _ = writer.await;
            return Ok(());
        }
    };
    let memory = node.memory();
    let me = memory.status().await.map(|status| Said::Up(status.node_id));
    let body = me.unwrap_or_else(Said::Refused);
    let _ = say.send(Line { number: 0, body }).await;
    while let Some(line) = lines.next_line().await? {
        let Line { number, body } = serde_json::from_str(&line)?;
        if matches!(body, Ask::Stop) {
            node.stop().await;
            let _ = say
                .send(Line {
                    number,
                    body: Said::Done,
                })
                .await;
            drop(say);
            let _ = writer.await;
            return Ok(());
        }
        let answering = Answering {
            memory: memory.clone(),
            counter: counter.clone(),
            say: say.clone(),
            number,
        };
        tokio::spawn(answering.answer(body));
    }
    Ok(())
}

/// The log is one of the places where forbidden bytes are looked for.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("AQUIFER_LOG").unwrap_or_else(|_| "aquifer=info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(io::stderr)
        .init();
}

fn flags(asked: &Start, counter: &Counter) -> Up {
    let address = asked.address;
    Up {
        home: Some(Home::at(Some(asked.home.clone()))),
        region: asked.region.clone(),
        ticket: asked.ticket.clone(),
        api: Some("127.0.0.1:0".into()),
        listen: vec![
            format!("/ip4/{address}/udp/{PORT}/quic-v1"),
            format!("/ip4/{address}/tcp/{PORT}"),
        ],
        no_mdns: true,
        tap: Some(counter.tap()),
        ..Up::default()
    }
}

struct Answering {
    memory: Memory,
    counter: Counter,
    say: mpsc::Sender<Line<Said>>,
    number: u64,
}

impl Answering {
    async fn answer(self, ask: Ask) {
        let body = self.find(ask).await.unwrap_or_else(Said::Refused);
        self.tell(body).await;
    }

    async fn tell(&self, body: Said) {
        let number = self.number;
        let _ = self.say.send(Line { number, body }).await;
    }

    async fn find(&self, ask: Ask) -> Result<Said, Problem> {
        let memory = &self.memory;
        Ok(match ask {
            Ask::Invite(region) => {
                let asked = Invite {
                    region: Some(region),
                    ..Invite::default()
                };
                Said::Ticket(memory.invite(asked).await?.ticket)
            }
            Ask::Create(topic, policy) => {
                memory.topic_create(&topic, policy).await?;
                Said::Done
            }
            Ask::Remember(asked) => {
                let began = micros();
                let remembered = memory.remember(asked).await?.into();
                let ended = micros();
                Said::Remembered {
                    began,
                    ended,
                    remembered,
                }
            }
            Ask::Recall { topic, query } => Said::Found(recalled(memory, &topic, &query).await?),
            Ask::Await { topic, text } => self.wait_for(&topic, &text).await,
            Ask::Status => Said::Status(Box::new(memory.status().await?)),
            Ask::Digest(topic) => digest_of(memory, &topic).await?,
            Ask::Missing(ids) => {
                let mut missing = Vec::new();
                for id in ids {
                    if memory.get(std::slice::from_ref(&id)).await.is_err() {
                        missing.push(id);
                    }
                }
                Said::Missing(missing)
            }
            Ask::Tapped => Said::Tapped(self.counter.passed()),
            Ask::Ping { to, count } => {
                let pinged = tokio::task::spawn_blocking(move || ping(to, count)).await;
                let rtts = pinged.map_err(|_| failed("the ping panicked".into()))?;
                Said::Pinged(rtts.map_err(|why| failed(why.to_string()))?)
            }
            Ask::Stop => Said::Done,
        })
    }

    /// When `text` is first recalled. Looks as soon as it is here, and then until the index has it, so
    /// that the time is right.
    async fn wait_for(&self, topic: &str, text: &str) -> Said {
        let mut news = self.memory.watch();
        self.tell(Said::Armed).await;
        let mut pause = LOOK_EVERY;
        loop {
            // A topic that is not known yet has no text either.
            let found = recalled(&self.memory, topic, text)
                .await
                .unwrap_or_default();
            if found.iter().any(|one| one == text) {
                return Said::Recallable(micros());
            }
            if timeout(pause, news_of(&mut news, text)).await.is_ok() {
                pause = LOOK_AGAIN;
            }
        }
    }
}

/// Waits for the memory `text`, or for having missed so much that it may have been among it.
async fn news_of(news: &mut broadcast::Receiver<Happening>, text: &str) {
    loop {
        match news.recv().await {
            Ok(Happening::Memory { memory, .. }) if memory.text == text => return,
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

async fn recalled(memory: &Memory, topic: &str, query: &str) -> Result<Vec<String>, Problem> {
    let asked = Recall {
        query: query.to_owned(),
        topic: Some(topic.to_owned()),
        ..Recall::default()
    };
    let found = memory.recall(asked).await?.results;
    Ok(found.into_iter().map(|hit| hit.memory.text).collect())
}

/// Equal digests: the same memories, in the same versions, with the same conflicts.
async fn digest_of(memory: &Memory, topic: &str) -> Result<Said, Problem> {
    let mut all = Vec::new();
    let mut cursor = None;
    loop {
        let asked = List {
            topic: Some(topic.to_owned()),
            limit: Some(1_000),
            cursor,
            ..List::default()
        };
        let page = memory.list(asked).await?;
        for one in page.memories {
            let versions: Vec<String> = one.conflicts.into_iter().map(|v| v.version).collect();
            let versions = versions.join(",");
            all.push(format!(
                "{} {} {versions} {}\n",
                one.id, one.updated_at, one.text
            ));
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    all.sort_unstable();
    let parts: Vec<&[u8]> = all.iter().map(String::as_bytes).collect();
    let digest = digest("aquifer/wan-digest/1", &parts);
    let hex = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Said::Digest(hex, all.len()))
}

/// Echoes every datagram, on a thread of its own, for as long as the process lives.
fn echo(address: Ipv4Addr) -> io::Result<()> {
    let socket = UdpSocket::bind((address, ECHO_PORT))?;
    let answer = move || {
        let mut buffer = [0; 64];
        loop {
            // A peer that cannot be reached shows as an error of the next call.
            if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(&buffer[..length], from);
            }
        }
    };
    std::thread::Builder::new()
        .name("echo".into())
        .spawn(answer)?;
    Ok(())
}

fn ping(to: Ipv4Addr, count: u32) -> io::Result<Vec<u64>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect((to, ECHO_PORT))?;
    socket.set_read_timeout(Some(PING_PATIENCE))?;
    let mut trips = Vec::new();
    for number in 0..count {
        let began = Instant::now();
        let sent = number.to_be_bytes();
        if socket.send(&sent).is_err() {
            continue;
        }
        let mut back = [0; 4];
        // One that comes late is the answer to an earlier ping: not this one.
        while let Ok(4) = socket.recv(&mut back) {
            if back == sent {
                let took = began.elapsed().as_micros();
                trips.push(u64::try_from(took).expect("a short time"));
                break;
            }
        }
    }
    Ok(trips)
}

fn failed(why: String) -> Problem {
    Problem::new("wan_node", 1, why, "")
}
