//! Models over real nodes on loopback: placement, residency, removal, damage, a kill in the middle.

use aquifer_node::Up;
use aquifer_node::api::{AskModel, ModelView, PolicyView, Problem, PushModel, PushedModel};
use aquifer_node::client::Client;
use aquifer_node::driver::{Passing, Tap};
use aquifer_node::home::Home;
use aquifer_node::memory::models::Content;
use aquifer_node::surface::{Doors, Place};
use aquifer_protocol::placement::{Needs, capable, model_entry};
use aquifer_tests::fleet::{Fleet, Runner, files_with, until};
use aquifer_tests::models::{Size, run};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const CANARY: &str = "canary-91d27be3c40f6a58";

/// A file of a few slices that begins with the canary; `salt` makes it another one.
fn file(fleet: &Fleet, salt: u8) -> PathBuf {
    let mut bytes: Vec<u8> = (0..3_000_000_u32)
        .map(|i| ((i * 31) >> 7) as u8 ^ salt)
        .collect();
    bytes[..CANARY.len()].copy_from_slice(CANARY.as_bytes());
    let path = fleet.home(&format!("file-{salt}"));
    std::fs::write(&path, bytes).expect("there is room");
    path
}

fn push_of(path: &Path, topic: &str, regions: &[&str]) -> PushModel {
    PushModel {
        path: path.display().to_string(),
        name: "llama:q4".into(),
        topic: Some(topic.into()),
        licence: "Apache-2.0".into(),
        purpose: "tells canaries apart".into(),
        gpu_bytes: 8 << 30,
        regions: regions.iter().map(|r| (*r).to_owned()).collect(),
        ..PushModel::default()
    }
}

async fn pushes(node: &Runner, asked: PushModel) -> Result<PushedModel, Problem> {
    let stop = CancellationToken::new();
    let memory = node.memory();
    let push = memory.model_push(asked, Content::File, Arc::new(|_| {}), stop);
    push.await
}

fn asked(topic: &str) -> AskModel {
    AskModel {
        name: "llama:q4".into(),
        topic: Some(topic.into()),
    }
}

async fn pulls(node: &Runner, topic: &str) -> Result<ModelView, Problem> {
    let stop = CancellationToken::new();
    let pull = node.memory();
    pull.model_pull(&asked(topic), Arc::new(|_| {}), stop).await
}

async fn comes_to_hold(node: &Runner, topic: &str) {
    let what = format!("{} holds the model", node.name);
    until(&what, || async {
        let shown = node.memory().model_show(&asked(topic)).await;
        shown.is_ok_and(|model| model.held)
    })
    .await;
}

fn blobs(fleet: &Fleet, name: &str) -> Vec<String> {
    let folder = std::fs::read_dir(fleet.home(name).join("blobs"));
    let entries = folder.into_iter().flatten().flatten();
    entries
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect()
}

/// I3, for content: a node that is to hold the topic comes to hold the model by itself; one outside its
/// regions gets not one byte, and is told by which rule.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_kept_where_its_topic_is_and_not_a_byte_of_it_elsewhere() {
    let fleet = Fleet::default();
    let tap = |count: &Arc<AtomicUsize>| {
        let count = count.clone();
        Tap::new(move |passing, bytes: &[u8]| {
            let heard = matches!(passing, Passing::Heard { .. });
            let holds = bytes.windows(CANARY.len()).any(|w| w == CANARY.as_bytes());
            count.fetch_add(usize::from(heard && holds), Ordering::Relaxed);
        })
    };
    let (heard_b, heard_c) = (Arc::default(), Arc::default());
    let a = fleet.founds("a", "eu").await;
    let joins = |name, ticket, tap| {
        let up = Up {
            ticket: Some(ticket),
            tap: Some(tap),
            gpu: (name == "b").then(|| "8GiB".to_owned()),
            ..fleet.flags(name)
        };
        fleet.starts(name, up)
    };
    let (eu, us) = (a.invites("eu/fr").await, a.invites("us").await);
    let b = joins("b", eu, tap(&heard_b)).await.expect("joins");
    let c = joins("c", us, tap(&heard_c)).await.expect("joins");
    a.creates("acme/models", &["eu"]).await;
    let pushed = pushes(&a, push_of(&file(&fleet, 0), "acme/models", &[])).await;
    let pushed = pushed.expect("pushed");
    assert!(pushed.model.held && pushed.bytes_per_second > 0);
    comes_to_hold(&b, "acme/models").await;
    let model = b
        .memory()
        .model_show(&asked("acme/models"))
        .await
        .expect("known");
    assert_eq!(
        (model.gpu_bytes, model.licence.as_str()),
        (8 << 30, "Apache-2.0")
    );
    assert_eq!(model.purpose, "tells canaries apart");
    let copy = std::fs::read(model.path.expect("it is here")).expect("there");
    assert_eq!(blake3::hash(&copy).to_hex().as_str(), model.blob);

    // Everybody sees who is capable of what, and outside only by the content's hash.
    let entry = model_entry(blake3::hash(&copy).as_bytes());
    until("c knows that b has it", || async {
        let peers = c.memory().peers().await.expect("runs");
        peers
            .iter()
            .any(|peer| peer.gpu_bytes == 8 << 30 && peer.models.contains(&entry))
    })
    .await;
    let seen = a.memory().peers().await.expect("runs");
    let named = "acme/models/llama:q4".to_owned();
    assert!(
        seen.iter().any(|peer| peer.models.contains(&named)),
        "{seen:?}"
    );
    let held = b.memory().status().await.expect("runs").models;
    assert_eq!((held.len(), held[0].here_bytes), (1, 3_000_000));

    let refused = pulls(&c, "acme/models").await.expect_err("outside");
    assert_eq!((refused.code.as_str(), refused.exit), ("policy_refused", 6));
    let refused = pushes(&c, push_of(&file(&fleet, 1), "acme/models", &[])).await;
    assert_eq!(refused.expect_err("outside").exit, 6);
    b.stops().await;
    c.stops().await;
    assert_eq!(heard_c.load(Ordering::Relaxed), 0);
    assert!(
        heard_b.load(Ordering::Relaxed) > 0,
        "the tap must be able to see it"
    );
    assert_eq!(
        (
            files_with(&fleet.home("c"), CANARY),
            blobs(&fleet, "c").len()
        ),
        (0, 0)
    );
    assert!(
        files_with(&fleet.home("b"), CANARY) > 0,
        "the search must be able to find it"
    );
}

/// A manifest narrows its topic's law, for the content; what is said of it may be known there.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_may_be_kept_in_fewer_regions_than_its_topic_and_never_in_more() {
    let fleet = Fleet::default();
    let a = fleet.founds("a", "eu").await;
    let b = fleet.joins("b", &a, "us").await;
    a.creates("wide", &["eu", "us"]).await;
    pushes(&a, push_of(&file(&fleet, 0), "wide", &["eu"]))
        .await
        .expect("pushed");
    until("b knows the model", || async {
        b.memory()
            .model_list(Some("wide"))
            .await
            .is_ok_and(|models| models.len() == 1)
    })
    .await;
    let known = b.memory().model_show(&asked("wide")).await.expect("known");
    assert!(!known.held && !known.wanted, "{known:?}");
    let refused = pulls(&b, "wide").await.expect_err("outside");
    assert_eq!((refused.code.as_str(), refused.exit), ("policy_refused", 6));
    a.creates("narrow", &["eu"]).await;
    let refused = pushes(&a, push_of(&file(&fleet, 0), "narrow", &["us"])).await;
    assert_eq!(refused.expect_err("wider than its topic").exit, 6);
    assert_eq!(files_with(&fleet.home("b"), CANARY), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_is_fetched_and_a_removal_reaches_every_holder() {
    let fleet = Fleet::default();
    let a = fleet.founds("a", "eu").await;
    let b = fleet.joins("b", &a, "eu").await;
    a.creates("models", &["eu"]).await;
    let first = pushes(&a, push_of(&file(&fleet, 0), "models", &[])).await;
    let first = first.expect("pushed").model;
    let again = pushes(&a, push_of(&file(&fleet, 1), "models", &[])).await;
    assert_eq!(again.expect_err("it is there").code, "model_exists");
    comes_to_hold(&b, "models").await;
    let mut update = push_of(&file(&fleet, 1), "models", &[]);
    update.update = true;
    let second = pushes(&a, update).await.expect("updated").model;
    assert_eq!(first.id, second.id, "one manifest, two versions");
    assert_ne!(first.blob, second.blob);
    until("b holds the new version", || async {
        let shown = b.memory().model_show(&asked("models")).await;
        shown.is_ok_and(|model| model.held && model.blob == second.blob)
    })
    .await;
    assert!(
        blobs(&fleet, "b").contains(&first.blob),
        "the old one is kept for a while"
    );
    let removed = a
        .memory()
        .model_remove(&asked("models"))
        .await
        .expect("removed");
    assert!(removed.freed_bytes > 6_000_000, "{removed:?}");
    assert_eq!(blobs(&fleet, "a"), [""; 0]);
    until("b has removed both", || async {
        blobs(&fleet, "b").is_empty()
    })
    .await;
    let gone = b
        .memory()
        .model_show(&asked("models"))
        .await
        .expect_err("gone");
    assert_eq!((gone.code.as_str(), gone.exit), ("not_found", 3));
}

/// Rot on a disk is found by a check, and only what is damaged is fetched again.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_finds_damage_names_the_holders_and_what_is_damaged_is_fetched_again() {
    let fleet = Fleet::default();
    let a = fleet.founds("a", "eu").await;
    let b = fleet.joins("b", &a, "eu").await;
    a.creates("models", &["eu"]).await;
    pushes(&a, push_of(&file(&fleet, 0), "models", &[]))
        .await
        .expect("pushed");
    comes_to_hold(&b, "models").await;
    let check = || async {
        let memory = b.memory();
        memory
            .model_check(&asked("models"), Arc::new(|_| {}))
            .await
            .expect("known")
    };
    let sound = check().await;
    assert_eq!((sound.proved_bytes, sound.damaged_bytes), (3_000_000, 0));
    assert!(
        matches!(&sound.holders[..], [one] if one.holds),
        "{:?}",
        sound.holders
    );
    let path = sound.model.path.expect("it is here");
    let mut bytes = std::fs::read(&path).expect("there");
    bytes[2_000_000] ^= 1;
    std::fs::write(&path, &bytes).expect("writes");
    assert_eq!(check().await.damaged_bytes, 16 << 10);
    comes_to_hold(&b, "models").await;
    let fetch = b
        .memory()
        .model_show(&asked("models"))
        .await
        .expect("known")
        .fetch;
    let fetch = fetch.expect("it was fetched");
    assert_eq!(fetch.done_bytes - fetch.had_bytes, 16 << 10);
    assert_eq!(check().await.damaged_bytes, 0);
}

/// A topic of one copy: who is to hold it fetches it; another that may have it pulls it when it wants
/// it, and a third that wants nothing has nothing. When the law no longer allows it, it goes.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_beyond_placement_is_pulled_and_leaves_with_the_law() {
    let fleet = Fleet::default();
    let a = fleet.founds("a", "eu").await;
    let b = fleet.joins("b", &a, "us").await;
    let policy = PolicyView {
        allowed_regions: Some(vec!["eu".into(), "us".into()]),
        required_region: Some("eu".into()),
        copies: Some(1),
        ..PolicyView::default()
    };
    a.memory()
        .topic_create("models", policy)
        .await
        .expect("creates");
    pushes(&a, push_of(&file(&fleet, 0), "models", &[]))
        .await
        .expect("pushed");
    until("b knows the topic", || async {
        b.memory().topic("models").await.is_ok()
    })
    .await;
    until("b can pull it", || async {
        pulls(&b, "models").await.is_ok_and(|m| m.held)
    })
    .await;
    assert!(files_with(&fleet.home("b"), CANARY) > 0);
    let shut = PolicyView {
        allowed_regions: Some(vec!["eu".into()]),
        ..PolicyView::default()
    };
    a.memory()
        .policy_set("models", shut)
        .await
        .expect("narrowed");
    until("b has removed it", || async {
        blobs(&fleet, "b").is_empty()
    })
    .await;
    assert_eq!(files_with(&fleet.home("b"), CANARY), 0);
}

/// The doors: lines of progress over HTTP, and a file as the body of a request.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_comes_by_http_as_a_path_and_as_a_stream() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let fleet = Fleet::default();
    let a = fleet.founds("a", "eu").await;
    let place = Place {
        api: "127.0.0.1:0".parse().expect("an address"),
        insecure: false,
        socket: a.node.home().socket(),
        token: a.node.token().to_owned(),
    };
    let doors = Doors::open(place).await.expect("opens");
    let (api, stop) = (doors.api(), doors.stop());
    let served = tokio::spawn(doors.serve(a.memory()));
    let client = Client::of(&Home::at(Some(fleet.home("a"))));
    let mut seen = 0;
    let asked = push_of(&file(&fleet, 0), "models", &[]);
    let pushed = client.model_work("/v1/models", &asked, |_| seen += 1);
    pushed.await.expect("pushed");
    assert!(seen > 0, "it says how far it is");

    // Longer than any other body may be.
    let body = std::fs::read(file(&fleet, 7)).expect("there").repeat(2);
    let head = format!(
        "PUT /v1/models/streamed?topic=models&gpu=1GiB HTTP/1.1\r\nHost: {api}\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/octet-stream\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        a.node.token(),
        body.len()
    );
    let send = |head: String, body: Vec<u8>, is_cut: bool| async move {
        let mut stream = tokio::net::TcpStream::connect(api).await.expect("answers");
        stream.write_all(head.as_bytes()).await.expect("sent");
        stream.write_all(&body).await.expect("sent");
        if is_cut {
            stream.shutdown().await.expect("sent");
        }
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        answer
    };
    let answer = send(head.clone(), body.clone(), false).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let models = client.models(Some("models")).await.expect("lists");
    let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
    assert_eq!(names, ["llama:q4", "streamed:latest"]);
    assert_eq!(models[1].blob, blake3::hash(&body).to_hex().as_str());
    assert_eq!(models[1].gpu_bytes, 1 << 30);

    // A body that breaks off is no model, and leaves nothing.
    let before = blobs(&fleet, "a").len();
    let (head, part) = (head.replace("streamed", "cut"), body[..1_000_000].to_vec());
    let cut = send(head, part, true).await;
    assert!(!cut.starts_with("HTTP/1.1 2"), "{cut}");
    until("nothing is left of it", || async {
        blobs(&fleet, "a").len() == before
    })
    .await;
    stop.cancel();
    served.await.expect("ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_what_it_is_capable_of() {
    let fleet = Fleet::default();
    let up = Up {
        region: Some("eu".into()),
        gpu: Some("2GiB".into()),
        ..fleet.flags("a")
    };
    let a = fleet.starts("a", up).await.expect("founds");
    let pushed = pushes(&a, push_of(&file(&fleet, 0), "models", &[]))
        .await
        .expect("pushed");
    assert!(pushed.topic_founded);
    let blob = data_of(&pushed.model.blob);
    let needs = |gpu_bytes| Needs {
        gpu_bytes,
        models: vec![blob],
        ..Needs::default()
    };
    until("its manifest names the model", || async {
        let manifest = a.memory().own_manifest().expect("announced");
        capable(&manifest, &needs(2 << 30))
    })
    .await;
    let manifest = a.memory().own_manifest().expect("announced");
    assert!(!capable(&manifest, &needs(3 << 30)));
    let bad = Up {
        gpu: Some("plenty".into()),
        ..fleet.flags("b")
    };
    assert_eq!(
        fleet.starts("b", bad).await.expect_err("no amount").code,
        "bad_amount"
    );
}

fn data_of(hex: &str) -> [u8; 32] {
    let digit = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hexadecimal");
    std::array::from_fn(digit)
}

/// Five processes, one killed with `kill -9` in the middle of its fetch. `AQUIFER_MODEL_MIB` makes it
/// larger; what is held is the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_holder_killed_in_the_middle_goes_on_where_it_was() {
    let mib = std::env::var("AQUIFER_MODEL_MIB")
        .ok()
        .and_then(|mib| mib.parse().ok());
    let size = Size {
        mib: mib.unwrap_or(48),
        patience: Duration::from_secs(300),
    };
    let program = Path::new(env!("CARGO_BIN_EXE_aquifer-models"));
    let report = run(program, size, |line| eprintln!("{line}"))
        .await
        .expect("it runs");
    println!("{report:#?}");
    assert_eq!(report.transfers.len(), 3);
    for transfer in &report.transfers {
        assert_eq!(transfer.proved_bytes, report.bytes, "{transfer:?}");
    }
    assert!(
        report.resumed_from_bytes >= report.killed_at_bytes,
        "{report:?}"
    );
    assert_eq!((report.leaked_files, report.leaked_bytes), (0, 0));
    assert_eq!(report.refusal, "policy_refused");
    assert!(
        report.killed_at_bytes < report.bytes,
        "killed after its end: the run is void"
    );
}
