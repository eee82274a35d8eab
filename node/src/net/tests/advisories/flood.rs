//! How an enemy sends: how many frames, how fast, and from where.
//!
//! In the gate an enemy lives in this process. At full size it gets one of its own, of the lowest
//! priority: two cores are all there is, and what is asked is what its frames cost the node, not what
//! making them costs the machine. That process is the same test, told by its environment that it is
//! the enemy. Orders reach it line by line; how much it sent is the last thing it says.
//!
//! Not here: what is sent (`members`, `strangers`, `quic`) and what it costs (`advisories`).

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::raw::Victim;
use super::*;

/// In its environment an enemy finds whom to attack, and how.
const VICTIM: &str = "AQUIFER_VICTIM";

/// What an enemy is told, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Order {
    /// Say hello until you are understood.
    Greet,
    Begin,
    /// Enough, once you have sent all you were to send.
    End,
}

/// An enemy's side: which frame is next, and when.
pub(super) struct Flood {
    orders: watch::Receiver<Order>,
    least: usize,
    /// Frames a second; all it can without.
    rate: Option<u32>,
    sent: usize,
    began: Instant,
}

impl Flood {
    fn new(orders: watch::Receiver<Order>, least: usize, rate: Option<u32>) -> Self {
        Self {
            orders,
            least,
            rate,
            sent: 0,
            began: Instant::now(),
        }
    }

    /// Whether the node has understood something it said.
    pub(super) fn is_understood(&self) -> bool {
        *self.orders.borrow() >= Order::Begin
    }

    /// The number of the next frame, when it is due; `None` if it has been enough.
    pub(super) async fn next(&mut self) -> Option<usize> {
        if self.sent == 0 {
            self.began = Instant::now();
        }
        if self.sent >= self.least && *self.orders.borrow() == Order::End {
            return None;
        }
        if let Some(rate) = self.rate {
            let due = Duration::from_secs(1) * self.sent as u32 / rate;
            sleep_until(self.began + due).await;
        }
        self.sent += 1;
        Some(self.sent - 1)
    }

    /// How many frames, in what time.
    pub(super) fn sent(&self) -> (usize, Duration) {
        (self.sent, self.began.elapsed())
    }
}

/// The attack that this process is for, if it is an enemy.
pub(super) fn ordered() -> Option<(Victim, Flood)> {
    let orders = std::env::var(VICTIM).ok()?;
    let mut words = orders.split(' ');
    let mut word = || words.next().expect("six words");
    let key = data_encoding::HEXLOWER.decode(word().as_bytes());
    let victim = Victim {
        key: key.ok()?.try_into().expect("a key"),
        quic: word().to_owned(),
        tcp: word().to_owned(),
    };
    let (least, rate) = (word().parse().ok()?, word().parse().ok());
    let (give, take) = watch::channel(Order::Greet);
    tokio::spawn(async move {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        for order in [Order::Begin, Order::End] {
            let _ = lines.next_line().await;
            give.send_replace(order);
        }
        give.closed().await;
    });
    Some((victim, Flood::new(take, least, rate)))
}

/// What an enemy says at its end.
pub(super) fn said((frames, time): (usize, Duration)) {
    println!("\nsent {frames} {}", time.as_micros());
}

/// The node's side of an attack.
pub(super) enum Attack {
    Here {
        orders: watch::Sender<Order>,
        task: JoinHandle<(usize, Duration)>,
    },
    Elsewhere {
        process: Box<Child>,
        orders: ChildStdin,
    },
}

impl Attack {
    /// An enemy in this process.
    pub(super) fn here<F>(least: usize, attack: impl FnOnce(Flood) -> F) -> Self
    where
        F: Future<Output = (usize, Duration)> + Send + 'static,
    {
        let (orders, take) = watch::channel(Order::Greet);
        let task = tokio::spawn(attack(Flood::new(take, least, None)));
        Self::Here { orders, task }
    }

    /// An enemy in a process of its own: the same test.
    pub(super) fn elsewhere(test: &str, victim: &Victim, least: usize, rate: Option<u32>) -> Self {
        let key = data_encoding::HEXLOWER.encode(&victim.key);
        let rate = rate.map_or_else(|| "most".to_owned(), |rate| rate.to_string());
        let told = format!("{key} {} {} {least} {rate}", victim.quic, victim.tcp);
        let mut process = Command::new("nice")
            .args(["-n", "19"])
            .arg(std::env::current_exe().expect("a test"))
            .args(["--exact", test, "--nocapture"])
            .env(VICTIM, told)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("starts");
        let orders = process.stdin.take().expect("piped");
        Self::Elsewhere {
            process: Box::new(process),
            orders,
        }
    }

    async fn order(&mut self, order: Order) {
        match self {
            Self::Here { orders, .. } => {
                orders.send_replace(order);
            }
            Self::Elsewhere { orders, .. } => orders.write_all(b"\n").await.expect("it lives"),
        }
    }

    /// It is understood: the attack itself.
    pub(super) async fn begin(&mut self) {
        self.order(Order::Begin).await;
    }

    /// It may end with the last frame it has to send.
    pub(super) async fn end(&mut self) {
        self.order(Order::End).await;
    }

    pub(super) fn is_over(&mut self) -> bool {
        match self {
            Self::Here { task, .. } => task.is_finished(),
            Self::Elsewhere { process, .. } => process.try_wait().expect("ours").is_some(),
        }
    }

    /// How many frames it sent, in what time.
    pub(super) async fn outcome(self) -> (usize, Duration) {
        match self {
            Self::Here { task, .. } => task.await.expect("the enemy ends"),
            Self::Elsewhere { mut process, .. } => {
                let mut text = String::new();
                let out = process.stdout.as_mut().expect("piped");
                out.read_to_string(&mut text).await.expect("text");
                let said = text.lines().find_map(|line| line.strip_prefix("sent "));
                let (frames, micros) = said
                    .and_then(|said| said.split_once(' '))
                    .unwrap_or_else(|| panic!("the enemy ends: {text}"));
                let micros = micros.parse().expect("a number");
                let time = Duration::from_micros(micros);
                (frames.parse().expect("a number"), time)
            }
        }
    }
}
