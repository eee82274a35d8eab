//! Configuration: as written in files, flags and the environment; as used once resolved.
//!
//! Flags win over `AQUIFER_*` variables, those over `config.toml` in the home, that over
//! `/etc/aquifer/config.toml`, that over defaults. An unknown key is an error that names it.

use crate::agents::Engines;
use crate::amount;
use crate::api::Problem;
use crate::driver::Tap;
use crate::home::Home;
use crate::net::{ReachSettings, RelayUse};
use crate::store::EngineKind;
use crate::tasks::settings::TaskSettings;
use aquifer_protocol::Region;
use aquifer_protocol::certificate::role;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The API's address if none is given.
pub const API_DEFAULT: &str = "127.0.0.1:27470";
/// The swarm's port if none is given.
pub const SWARM_PORT: u16 = 27_471;
/// With less than this free on its disk a node takes no new records, in MiB, unless told otherwise.
pub const DISK_RESERVE_MIB: u64 = 64;
/// With how many members a node stays connected if nothing is said.
pub const MAX_PEERS: usize = 24;

/// How a node is to be started: the flags of `aquifer up` and `aquifer join`.
#[derive(Clone, Debug, Default)]
pub struct Up {
    /// Everything the node owns is there.
    pub home: Option<Home>,
    /// The region, when a hive is founded.
    pub region: Option<String>,
    /// The API's address.
    pub api: Option<String>,
    /// Multiaddrs to listen on.
    pub listen: Vec<String>,
    /// Multiaddrs to connect to.
    pub seeds: Vec<String>,
    /// Roles, when a hive is founded.
    pub roles: Vec<String>,
    /// Do not look for nodes on the local network.
    pub no_mdns: bool,
    /// The store engine, when a home is made: `redb` or `sled`.
    pub store: Option<String>,
    /// GPU memory to say that this node has, such as `8GiB`.
    pub gpu: Option<String>,
    /// The command that asks a model for agents.
    pub infer: Option<String>,
    /// Topics whose tasks this node runs.
    pub tasks: Vec<String>,
    /// How many tasks it runs at once.
    pub tasks_at_once: Option<usize>,
    /// Whether it runs those that agents ask for.
    pub tasks_from_agents: bool,
    /// The ticket of `aquifer join`.
    pub ticket: Option<String>,
    /// Sees what leaves, for tests.
    pub tap: Option<Tap>,
    /// By how many milliseconds this machine's clock is wrong, for tests.
    pub clock_shift_ms: i64,
    /// On what agents run, if not on what they usually do.
    pub engines: Option<Engines>,
}

/// A configuration file, as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The file's format: 1.
    pub schema_version: Option<u32>,
    /// The region, when a hive is founded.
    pub region: Option<String>,
    /// The API's address.
    pub api: Option<String>,
    /// Multiaddrs to listen on.
    pub listen: Option<Vec<String>>,
    /// Whether to look for nodes on the local network.
    pub mdns: Option<bool>,
    /// Seeds per region: multiaddrs, among them `/dnsaddr/NAME`.
    pub seeds: BTreeMap<String, Vec<String>>,
    /// `internet` (relays, hole punching, dial-back) or `lan` (none of them).
    pub reach: Option<String>,
    /// When to keep a place at a relay: `auto`, `always` or `never`.
    pub relay: Option<String>,
    /// Multiaddrs at which this node is reached from outside, where it cannot know itself.
    pub external: Option<Vec<String>>,
    /// With how many members to stay connected.
    pub max_peers: Option<usize>,
    /// Most connections at once.
    pub max_connections: Option<u32>,
    /// No new connection while the process holds more memory than this, in MiB.
    pub max_memory_mib: Option<usize>,
    /// The store engine, when a home is made: `redb` or `sled`.
    pub store: Option<String>,
    /// With less than this free on the disk, in MiB, the node takes no new records; 0 for no limit.
    pub disk_reserve_mib: Option<u64>,
    /// GPU memory to say that this node has, such as `8GiB`.
    pub gpu: Option<String>,
    /// The command that asks a model for agents: the prompt on stdin, the answer on stdout.
    pub infer: Option<String>,
    /// Topics whose tasks this node runs.
    pub tasks: Option<Vec<String>>,
    /// How many tasks it runs at once; 1 if absent.
    pub tasks_at_once: Option<usize>,
    /// Whether it runs those that agents ask for.
    pub tasks_from_agents: Option<bool>,
}

/// Configuration as used.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The region asked for, if any.
    pub region: Option<Region>,
    /// The API's address.
    pub api: SocketAddr,
    /// Whether somebody asked for that address; else another port will do.
    pub api_chosen: bool,
    /// Multiaddrs to listen on.
    pub listen: Vec<String>,
    /// Whether somebody asked for those addresses; else other ports will do.
    pub listen_chosen: bool,
    /// Seeds given by flag, variable or file.
    pub seeds: Vec<String>,
    /// Roles asked for, if any.
    pub roles: Option<u32>,
    /// Whether to look for nodes on the local network.
    pub mdns: bool,
    /// How the node is reached from outside its own network.
    pub reach: ReachSettings,
    /// With how many members to stay connected.
    pub max_peers: usize,
    /// Most connections at once.
    pub connections_max: u32,
    /// No new connection while the process holds more memory than this, in bytes.
    pub memory_max_bytes: usize,
    /// The store engine asked for, if any.
    pub store: Option<EngineKind>,
    /// With less than this free on the disk, in bytes, the node takes no new records.
    pub disk_reserve_bytes: u64,
    /// GPU memory to say that this node has, in bytes.
    pub gpu_bytes: u64,
    /// The command that asks a model for agents, if there is one.
    pub infer: Option<String>,
    /// Whose tasks it runs.
    pub tasks: TaskSettings,
}

impl Config {
    /// The configuration of a home over that of the machine.
    pub fn read(home: &Home) -> Result<Self, Problem> {
        let own = Self::file(&home.file("config.toml"))?;
        let machine = Self::file(std::path::Path::new("/etc/aquifer/config.toml"))?;
        Ok(Self {
            schema_version: own.schema_version.or(machine.schema_version),
            region: own.region.or(machine.region),
            api: own.api.or(machine.api),
            listen: own.listen.or(machine.listen),
            mdns: own.mdns.or(machine.mdns),
            seeds: machine.seeds.into_iter().chain(own.seeds).collect(),
            reach: own.reach.or(machine.reach),
            relay: own.relay.or(machine.relay),
            external: own.external.or(machine.external),
            max_peers: own.max_peers.or(machine.max_peers),
            max_connections: own.max_connections.or(machine.max_connections),
            max_memory_mib: own.max_memory_mib.or(machine.max_memory_mib),
            store: own.store.or(machine.store),
            disk_reserve_mib: own.disk_reserve_mib.or(machine.disk_reserve_mib),
            gpu: own.gpu.or(machine.gpu),
            infer: own.infer.or(machine.infer),
            tasks: own.tasks.or(machine.tasks),
            tasks_at_once: own.tasks_at_once.or(machine.tasks_at_once),
            tasks_from_agents: own.tasks_from_agents.or(machine.tasks_from_agents),
        })
    }

    fn file(path: &std::path::Path) -> Result<Self, Problem> {
        let bad = |why: String| {
            let message = format!("{} cannot be used: {why}", path.display());
            Problem::new(
                "bad_config",
                2,
                message,
                "mend the line it names; docs/operations.md lists the keys",
            )
        };
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let config: Self = toml::from_str(&text).map_err(|e| bad(e.to_string()))?;
                match config.schema_version {
                    None | Some(1) => Ok(config),
                    Some(other) => Err(bad(format!(
                        "schema_version is {other}, this version reads 1"
                    ))),
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(bad(e.to_string())),
        }
    }
}

impl Settings {
    /// Resolves flags, variables and files, in that order.
    pub fn resolve(up: &Up, config: &Config) -> Result<Self, Problem> {
        let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let list =
            |name: &str| env(name).map(|v| v.split(',').map(|s| s.trim().to_owned()).collect());
        let flags = |given: &[String]| (!given.is_empty()).then(|| given.to_vec());
        let region = up
            .region
            .clone()
            .or_else(|| env("AQUIFER_REGION"))
            .or_else(|| config.region.clone());
        let region = region.map(|text| parse_region(&text)).transpose()?;
        let api = up
            .api
            .clone()
            .or_else(|| env("AQUIFER_API"))
            .or_else(|| config.api.clone());
        let listen = flags(&up.listen)
            .or_else(|| list("AQUIFER_LISTEN"))
            .or_else(|| config.listen.clone());
        let mut seeds = flags(&up.seeds)
            .or_else(|| list("AQUIFER_SEEDS"))
            .unwrap_or_default();
        // Local region first, then the others: the order in which they are dialled.
        let own = |name: &String| region.as_ref().is_some_and(|r: &Region| r.as_str() == name);
        let (near, far): (Vec<_>, Vec<_>) = config.seeds.iter().partition(|(name, _)| own(name));
        seeds.extend(
            near.into_iter()
                .chain(far)
                .flat_map(|(_, addrs)| addrs.clone()),
        );
        let store = up
            .store
            .clone()
            .or_else(|| env("AQUIFER_STORE"))
            .or_else(|| config.store.clone());
        let gpu = up.gpu.clone().or_else(|| env("AQUIFER_GPU"));
        let gpu = gpu.or_else(|| config.gpu.clone());
        let infer = up.infer.clone().or_else(|| env("AQUIFER_INFER"));
        let tasks = flags(&up.tasks)
            .or_else(|| list("AQUIFER_TASKS"))
            .or_else(|| config.tasks.clone());
        let at_once = up.tasks_at_once.or(config.tasks_at_once);
        let from_agents = up.tasks_from_agents || config.tasks_from_agents.unwrap_or(false);
        let roles = match &up.roles[..] {
            [] => None,
            names => Some(parse_roles(names)?),
        };
        Ok(Self {
            region,
            api_chosen: api.is_some(),
            api: parse_api(api.as_deref().unwrap_or(API_DEFAULT))?,
            listen_chosen: listen.is_some(),
            listen: listen.unwrap_or_else(|| listen_on(SWARM_PORT)),
            seeds,
            roles,
            mdns: !up.no_mdns && config.mdns.unwrap_or(true),
            reach: parse_reach(config)?,
            max_peers: config.max_peers.unwrap_or(MAX_PEERS).max(1),
            connections_max: config.max_connections.unwrap_or(512),
            memory_max_bytes: config.max_memory_mib.unwrap_or(1_024) << 20,
            store: store.as_deref().map(EngineKind::parse).transpose()?,
            disk_reserve_bytes: config
                .disk_reserve_mib
                .unwrap_or(DISK_RESERVE_MIB)
                .saturating_mul(1 << 20),
            gpu_bytes: gpu.as_deref().map_or(Ok(0), amount::read)?,
            infer: infer.or_else(|| config.infer.clone()),
            tasks: TaskSettings::read(&tasks.unwrap_or_default(), at_once, from_agents)?,
        })
    }
}

/// Reads how the node is reached, or says which words there are.
fn parse_reach(config: &Config) -> Result<ReachSettings, Problem> {
    let wrong = |key: &str, word: &str, hint: &str| {
        let message = format!("`{key}` cannot be `{word}`");
        Problem::new("bad_config", 2, message, format!("give {hint}"))
    };
    let internet = match config.reach.as_deref() {
        None | Some("internet") => true,
        Some("lan") => false,
        Some(word) => return Err(wrong("reach", word, "internet or lan")),
    };
    let relay = match config.relay.as_deref() {
        None | Some("auto") => RelayUse::Auto,
        Some("always") => RelayUse::Always,
        Some("never") => RelayUse::Never,
        Some(word) => return Err(wrong("relay", word, "auto, always or never")),
    };
    Ok(ReachSettings {
        internet,
        // Known once the node has its certificate.
        serve: false,
        relay,
        external: config.external.clone().unwrap_or_default(),
    })
}

/// All interfaces, QUIC first, TCP beside it.
pub fn listen_on(port: u16) -> Vec<String> {
    vec![
        format!("/ip4/0.0.0.0/udp/{port}/quic-v1"),
        format!("/ip4/0.0.0.0/tcp/{port}"),
    ]
}

/// Reads a region, or says what one looks like.
pub fn parse_region(text: &str) -> Result<Region, Problem> {
    text.parse()
        .map_err(|why: aquifer_protocol::region::ParseRegion| {
            Problem::new(
                "unknown_region",
                2,
                why.to_string(),
                "for example: --region eu, or --region eu/fr",
            )
        })
}

/// Reads roles, or says which there are.
pub fn parse_roles(names: &[String]) -> Result<u32, Problem> {
    let mut roles = 0;
    for name in names
        .iter()
        .flat_map(|names| names.split(','))
        .map(str::trim)
    {
        roles |= role::from_name(name).ok_or_else(|| {
            let hint = format!("give any of {}", role::NAMES.join(", "));
            Problem::new("unknown_role", 2, format!("`{name}` is not a role"), hint)
        })?;
    }
    Ok(roles)
}

fn parse_api(text: &str) -> Result<SocketAddr, Problem> {
    text.parse().map_err(|_| {
        let message = format!("`{text}` is not an address for the API");
        Problem::new(
            "bad_address",
            2,
            message,
            "for example: --api 127.0.0.1:27470, or port 0 for any free one",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_and_defaults_are_not_chosen() {
        let config: Config = toml::from_str(
            "region = 'us'\n[seeds]\neu = ['/dnsaddr/eu.example']\nus = ['/dnsaddr/us.example']",
        )
        .expect("good");
        let up = Up {
            api: Some("127.0.0.1:0".into()),
            ..Up::default()
        };
        let settings = Settings::resolve(&up, &config).expect("good");
        assert_eq!(
            settings.region.map(|r| r.to_string()).as_deref(),
            Some("us")
        );
        assert!(settings.api_chosen && !settings.listen_chosen);
        assert_eq!(
            settings.seeds,
            ["/dnsaddr/us.example", "/dnsaddr/eu.example"]
        );
    }

    #[test]
    fn reach_is_internet_unless_a_file_says_otherwise() {
        let read = |text: &str| {
            let config: Config = toml::from_str(text).expect("good");
            Settings::resolve(&Up::default(), &config)
        };
        let open = read("").expect("good");
        assert_eq!(
            (true, RelayUse::Auto),
            (open.reach.internet, open.reach.relay)
        );
        assert_eq!(MAX_PEERS, open.max_peers);
        let shut = read("reach = 'lan'\nrelay = 'never'\nmax_peers = 8").expect("good");
        assert_eq!(
            (false, RelayUse::Never),
            (shut.reach.internet, shut.reach.relay)
        );
        assert_eq!(8, shut.max_peers);
        for bad in ["reach = 'moon'", "relay = 'sometimes'"] {
            assert_eq!(
                "bad_config",
                read(bad).expect_err("no such word").code,
                "{bad}"
            );
        }
    }

    #[test]
    fn bad_words_are_named() {
        let said = toml::from_str::<Config>("regoin = 'eu'")
            .expect_err("unknown")
            .to_string();
        assert!(said.contains("regoin") && said.contains("region"), "{said}");
        let up = Up {
            region: Some("Mars!".into()),
            ..Up::default()
        };
        let problem = Settings::resolve(&up, &Config::default()).expect_err("no region");
        assert_eq!((problem.code.as_str(), problem.exit), ("unknown_region", 2));
    }
}
