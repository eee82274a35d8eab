//! Membership of this node: founding, joining, announcing itself, staying certified.
//!
//! A home without a certificate founds a hive of its own, or redeems a ticket; one that has a
//! certificate carries on. A certificate is renewed when a third of its time is left, by this home
//! itself if it holds the root, else by any peer that may certify, and even after it has lapsed.

use crate::admission::{Admission, wants_renewal};
use crate::api::Problem;
use crate::clock::{self, Clock};
use crate::config::{Settings, Up};
use crate::discovery;
use crate::driver::Helm;
use crate::home::Home;
use crate::keys::{self, Ask, Issuer};
use crate::net::{MeshSettings, NetCommand};
use crate::ticket::{self, Ticket};
use aquifer_protocol::body::Manifest;
use aquifer_protocol::certificate::{Chain, role};
use aquifer_protocol::identity::digest;
use aquifer_protocol::time::Time;
use aquifer_protocol::{Command, HiveId, Keys, Member, Region, Reply, limits, mesh};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

const SEEDS_FILE: &str = "seeds.txt";
const RENEW_EVERY: Duration = Duration::from_secs(3_600);
const JOIN_PATIENCE: Duration = Duration::from_secs(30);

/// How this node is or becomes a member.
pub(crate) enum Plan {
    /// It is one.
    Member(Member),
    /// It redeems a ticket.
    Join(Box<(Ticket, Keys)>),
}

impl Plan {
    /// What this home and these flags come to. Founds a hive if there is nothing to carry on.
    pub(crate) fn of(
        home: &Home,
        node: &Keys,
        up: &Up,
        settings: &Settings,
        clock: &Clock,
    ) -> Result<Self, Problem> {
        let ticket = up
            .ticket
            .as_deref()
            .map(|text| ticket::read(text, clock::wall()))
            .transpose()?;
        let chain = keys::chain(home)?;
        let member = chain
            .as_ref()
            .map(|chain| keys::member(home, chain, node))
            .transpose()?;
        match (member, ticket) {
            (Some(member), Some(ticket)) if ticket.hive != member.grant().hive => {
                Err(Problem::new(
                    "wrong_hive",
                    5,
                    format!(
                        "this home belongs to hive {}, the ticket is for hive {}",
                        member.grant().hive,
                        ticket.hive
                    ),
                    "join with a home of its own: --home DIR",
                ))
            }
            (Some(member), _) => {
                expect_region(settings, member.region())?;
                Ok(Self::Member(renew_at_home(
                    home,
                    node,
                    member,
                    clock.now(),
                )?))
            }
            (None, Some(ticket)) => {
                expect_region(settings, &ticket.region)?;
                Ok(Self::Join(Box::new((ticket, node.clone()))))
            }
            (None, None) => {
                let local = || "local".parse().expect("a legal region");
                let region = settings.region.clone().unwrap_or_else(local);
                let roles = settings.roles.unwrap_or(role::ALL);
                let chain = keys::found_hive(home, node, &region, roles, clock.now())?;
                Ok(Self::Member(keys::member(home, &chain, node)?))
            }
        }
    }

    /// The hive it is about.
    pub(crate) fn hive(&self) -> HiveId {
        match self {
            Self::Member(member) => member.grant().hive,
            Self::Join(join) => join.0.hive,
        }
    }

    /// The region this node is or will be in.
    pub(crate) fn region(&self) -> &Region {
        match self {
            Self::Member(member) => member.region(),
            Self::Join(join) => &join.0.region,
        }
    }

    /// Carries it out: the member this node is from now on.
    pub(crate) async fn join(
        self,
        home: &Home,
        net: &mpsc::Sender<NetCommand>,
    ) -> Result<Member, Problem> {
        let (ticket, node) = match self {
            Self::Member(member) => return Ok(member),
            Self::Join(join) => *join,
        };
        let mut last = Problem::new(
            "issuer_unreachable",
            1,
            "the ticket names no address of the node that issued it",
            "start that node so that others can reach it (--listen), and ask for a new ticket",
        );
        let request = Admission::redemption(&ticket);
        for addr in reachable_first(&ticket.addresses) {
            match ask(net, &addr, request.clone()).await {
                Ok(answer) => {
                    let member = Admission::issued(&answer, &ticket.hive)?;
                    if member.node() != node.node() {
                        return Err(Problem::new(
                            "bad_answer",
                            1,
                            "the certificate is for another node",
                            "",
                        ));
                    }
                    // Its addresses first: with a certificate and no address it would be alone.
                    keep_seeds(home, &ticket.addresses)?;
                    keys::keep_chain(home, member.chain())?;
                    return Ok(member);
                }
                Err(why) => {
                    let hint = "check that the node that issued the ticket is up and that its port can be reached from here";
                    last = Problem::new("issuer_unreachable", 1, why, hint);
                }
            }
        }
        Err(last)
    }
}

/// Addresses to stay connected to: those given, and those of the ticket this node joined by.
pub(crate) fn seeds(home: &Home, settings: &Settings, plan: &Plan) -> Result<Vec<String>, Problem> {
    let kept = home.read(SEEDS_FILE, 64 << 10)?.unwrap_or_default();
    let kept = String::from_utf8_lossy(&kept)
        .lines()
        .map(str::to_owned)
        .collect::<Vec<_>>();
    let of_ticket = match plan {
        Plan::Member(_) => kept,
        Plan::Join(join) => join.0.addresses.clone(),
    };
    // An address that a later version would write must not keep this one from starting.
    let usable = of_ticket.into_iter().filter(|addr| addr.starts_with('/'));
    Ok(settings.seeds.iter().cloned().chain(usable).collect())
}

/// The regional meshes this node takes part in, and how they are named on the wire.
pub(crate) fn meshes(plan: &Plan) -> Vec<MeshSettings> {
    let narrow = match plan {
        Plan::Member(member) => !mesh::takes_part(member),
        Plan::Join(join) => join.0.topics.is_some(),
    };
    if narrow {
        return Vec::new();
    }
    let hive = plan.hive();
    let short = discovery::short(&hive);
    let meshes = plan.region().line().take(limits::MESH_DEPTH_MAX);
    meshes
        .map(|region| MeshSettings {
            protocol: format!("/aquifer/{short}/mesh/{region}"),
            key: digest(
                "aquifer/mesh/1",
                &[hive.as_bytes(), region.as_str().as_bytes()],
            ),
            region: region.to_string(),
        })
        .collect()
}

fn keep_seeds(home: &Home, addrs: &[String]) -> Result<(), Problem> {
    home.write(SEEDS_FILE, addrs.join("\n").as_bytes())
}

/// What a node says that others may run on it.
pub(crate) struct Offer {
    /// Bytes of GPU memory.
    pub(crate) gpu_bytes: u64,
    /// The models that are there, as manifests name them.
    pub(crate) models: Vec<String>,
}

/// Tells the hive where this node is and what it runs, if that is news. Without an `offer`, what it
/// offered before stands.
pub(crate) async fn announce(
    helm: &Helm,
    me: &Member,
    listening: &[String],
    offer: Option<Offer>,
    now: Time,
) -> Result<(), Problem> {
    let view = helm.view();
    let said = view.law.member(&me.node()).map(|known| &known.manifest);
    let before = || Offer {
        gpu_bytes: said.map_or(0, |said| said.gpu_bytes),
        models: said.map_or_else(Vec::new, |said| said.models.clone()),
    };
    let offer = offer.unwrap_or_else(before);
    let manifest = Manifest {
        chain: me.chain().to_vec().into(),
        addresses: listening
            .iter()
            .take(limits::ADDRESSES_MAX)
            .cloned()
            .collect(),
        agent: concat!("aquifer/", env!("CARGO_PKG_VERSION")).to_owned(),
        storage_bytes: 0,
        gpu_bytes: offer.gpu_bytes,
        models: offer.models,
        up_since: now.millis(),
    };
    let same = said.is_some_and(|said| {
        Manifest {
            up_since: said.up_since,
            ..manifest.clone()
        } == *said
    });
    if same {
        return Ok(());
    }
    match helm.ask(Command::Announce { manifest }).await? {
        Reply::Refused(why) => {
            // A lapsed certificate or a clock far ahead: the node comes up and reads, and says so.
            tracing::warn!(target: "aquifer::member", %why, "this node could not announce itself");
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Renews this node's certificate whenever a third of its time is left.
pub(crate) async fn keep_renewed(
    home: Home,
    helm: Helm,
    net: mpsc::Sender<NetCommand>,
    stop: CancellationToken,
) {
    loop {
        let me = helm.view().me.clone();
        if wants_renewal(&me, helm.now())
            && let Some(fresh) = renew(&home, &me, &helm, &net).await
        {
            let _ = net
                .send(NetCommand::SetHello(Admission::hello(fresh.chain())))
                .await;
            let manifest = helm
                .view()
                .law
                .member(&fresh.node())
                .map(|known| known.manifest.clone());
            if let Some(mut manifest) = manifest {
                manifest.chain = fresh.chain().to_vec().into();
                let _ = helm.ask(Command::Announce { manifest }).await;
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RENEW_EVERY) => {}
        }
    }
}

async fn renew(
    home: &Home,
    me: &Member,
    helm: &Helm,
    net: &mpsc::Sender<NetCommand>,
) -> Option<Member> {
    let issuer = load_issuer(home)?;
    if let Some((issuer @ Issuer::Root(_), now)) = issuer.map(|issuer| (issuer, helm.now())) {
        let chain = issuer.issue(home, ask_for(me), now).ok()?;
        return keep(home, &chain.check(&me.grant().hive).ok()?);
    }
    let law = helm.view().law.clone();
    let may_issue = law
        .members()
        .filter(|(_, known)| known.member.grant().may_issue);
    let addrs: Vec<String> = may_issue
        .flat_map(|(_, known)| known.manifest.addresses.clone())
        .collect();
    for addr in addrs {
        let Ok(answer) = ask(net, &addr, Admission::renewal(me.chain())).await else {
            continue;
        };
        if let Ok(fresh) = Admission::issued(&answer, &me.grant().hive)
            && fresh.node() == me.node()
        {
            return keep(home, &fresh);
        }
    }
    tracing::warn!(target: "aquifer::member", "no node that may certify could be reached to renew this node's certificate");
    None
}

/// `None` if the home cannot be read; `Some(None)` if it may not certify.
fn load_issuer(home: &Home) -> Option<Option<Issuer>> {
    let node = keys::identity(home).ok()?;
    Issuer::of(home, &node).ok()
}

fn keep(home: &Home, member: &Member) -> Option<Member> {
    keys::keep_chain(home, member.chain()).ok()?;
    Some(member.clone())
}

fn renew_at_home(home: &Home, node: &Keys, member: Member, now: Time) -> Result<Member, Problem> {
    if !wants_renewal(&member, now) {
        return Ok(member);
    }
    let Some(issuer @ Issuer::Root(_)) = Issuer::of(home, node)? else {
        return Ok(member);
    };
    let chain: Chain = issuer.issue(home, ask_for(&member), now)?;
    keys::keep_chain(home, &chain.to_bytes())?;
    keys::member(home, &chain, node)
}

fn ask_for(member: &Member) -> Ask {
    let grant = member.grant();
    Ask {
        subject: member.node(),
        region: member.region().clone(),
        topics: grant.topics.clone(),
        roles: grant.roles,
        may_issue: grant.may_issue,
    }
}

fn expect_region(settings: &Settings, region: &Region) -> Result<(), Problem> {
    match &settings.region {
        Some(asked) if asked != region => Err(Problem::new(
            "region_mismatch",
            2,
            format!("this node is certified for region {region}, not {asked}"),
            format!(
                "leave --region out, or give {region}; another region needs a new ticket and a new home"
            ),
        )),
        _ => Ok(()),
    }
}

/// Addresses on this machine last: a ticket usually crosses to another one.
fn reachable_first(addrs: &[String]) -> Vec<String> {
    let mut addrs = addrs.to_vec();
    addrs.sort_by_key(|addr| (addr.starts_with("/ip4/127."), !addr.contains("/quic-v1")));
    addrs
}

async fn ask(
    net: &mpsc::Sender<NetCommand>,
    addr: &str,
    request: Vec<u8>,
) -> Result<Vec<u8>, String> {
    let (reply, answer) = oneshot::channel();
    let command = NetCommand::Ask {
        addr: addr.to_owned(),
        request,
        reply,
    };
    net.send(command)
        .await
        .map_err(|_| "the network has stopped".to_owned())?;
    match tokio::time::timeout(JOIN_PATIENCE, answer).await {
        Ok(Ok(Ok(answer))) => Ok(answer),
        Ok(Ok(Err(why))) => Err(why.to_string()),
        Ok(Err(_)) => Err("the network has stopped".to_owned()),
        Err(_) => Err(format!(
            "no answer from {addr} within {} s",
            JOIN_PATIENCE.as_secs()
        )),
    }
}
