//! Network namespaces: one per node, made by `ip` (iproute2), named after this process.
//!
//! They go when they are dropped, also after a panic. A process that was killed could not do that:
//! the next one that makes namespaces takes away those whose process is gone. Only names that start
//! with our prefix are touched.

use super::roads::Roads;
use super::router::Router;
use super::tun::Tun;
use super::void::Void;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

const PREFIX: &str = "aqw";

/// Like a link with some tunnelling on the way.
const MTU: u32 = 1_400;

/// Every address of a run is below this.
const NETWORK: &str = "10.77.0.0/16";

/// The namespaces of one run, and the router between them.
#[derive(Debug)]
pub struct Namespaces {
    names: Vec<String>,
    /// The router.
    pub router: Router,
}

/// The address of the node that is `number` in region `region`, both counted from 0.
#[must_use]
pub fn address(region: usize, number: usize) -> Ipv4Addr {
    let small = |number: usize| u8::try_from(number + 1).expect("a small run");
    Ipv4Addr::new(10, 77, small(region), small(number))
}

impl Namespaces {
    /// Makes a namespace for each address, and a router that carries between them.
    ///
    /// # Errors
    /// [`Void`], with what the system said, if this machine or this user may not do so.
    pub fn make(addresses: &[Ipv4Addr], roads: Roads) -> Result<Self, Void> {
        sweep();
        static RUNS: AtomicU32 = AtomicU32::new(0);
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let mut made = Made(Vec::new());
        let mut ends = Vec::new();
        for (number, address) in addresses.iter().enumerate() {
            let tun = Tun::open(PREFIX)
                .map_err(|why| Void(format!("no TUN device (/dev/net/tun, root): {why}")))?;
            let name = format!("{PREFIX}-{}-{run}-{number}", std::process::id());
            ip(&["netns", "add", &name])?;
            made.0.push(name.clone());
            let device = &tun.name;
            ip(&["link", "set", device, "netns", &name])?;
            let script = format!(
                "link set lo up\n\
                 addr add {address}/32 dev {device}\n\
                 link set {device} mtu {MTU} txqueuelen 2000 up\n\
                 route add {NETWORK} dev {device} src {address}\n"
            );
            batch(&name, &script)?;
            ends.push((*address, tun.file));
        }
        let router = Router::start(ends, roads)
            .map_err(|why| Void(format!("the router did not start: {why}")))?;
        let names = std::mem::take(&mut made.0);
        Ok(Self { names, router })
    }

    /// The name of the namespace of node `number`.
    #[must_use]
    pub fn name(&self, number: usize) -> &str {
        &self.names[number]
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        Made(std::mem::take(&mut self.names));
    }
}

/// Namespaces that go when this does.
struct Made(Vec<String>);

impl Drop for Made {
    fn drop(&mut self) {
        for name in &self.0 {
            if let Err(Void(why)) = ip(&["netns", "del", name]) {
                eprintln!("a namespace is left behind: {why}");
            }
        }
    }
}

fn ip(arguments: &[&str]) -> Result<(), Void> {
    run(Command::new("ip").args(arguments), "")
}

fn batch(namespace: &str, script: &str) -> Result<(), Void> {
    run(
        Command::new("ip").args(["-n", namespace, "-batch", "-"]),
        script,
    )
}

fn run(command: &mut Command, input: &str) -> Result<(), Void> {
    let child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.map_err(|why| Void(format!("`ip` (iproute2) cannot be run: {why}")))?;
    // A command that reads no stdin may have ended already.
    let _ = child
        .stdin
        .take()
        .expect("it is piped")
        .write_all(input.as_bytes());
    let ended = child
        .wait_with_output()
        .map_err(|why| Void(format!("`ip` did not end: {why}")))?;
    if ended.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    Err(Void(format!("{command:?}: {}", said.trim())))
}

/// Takes away namespaces of runs whose process is gone.
fn sweep() {
    for entry in std::fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let mut parts = name.split('-');
        let ours = parts.next() == Some(PREFIX);
        let pid = parts.next().and_then(|pid| pid.parse::<u32>().ok());
        if let Some(pid) = pid.filter(|_| ours)
            && !Path::new(&format!("/proc/{pid}")).exists()
        {
            drop(Made(vec![name]));
        }
    }
}
