//! What a node's store does around its engine. What every engine must do: `tests/tests/engines.rs`.

use super::*;

fn home() -> (tempfile::TempDir, Home) {
    let folder = tempfile::tempdir().expect("a folder");
    let home = Home::at(Some(folder.path().to_owned()));
    (folder, home)
}

fn batch(key: &'static str, value: &'static str) -> Batch {
    let mut batch = Batch::default();
    batch.put(Table::Meta, key, value);
    batch
}

fn made(home: &Home, kind: EngineKind) -> NodeStore {
    NodeStore::open(home, Some(kind)).expect("made").store
}

/// I18: a store that is not what was written is put aside, and the node comes up empty.
#[test]
fn a_corrupt_store_is_put_aside_and_kept() {
    let (_folder, home) = home();
    let mut store = made(&home, EngineKind::Redb);
    store.apply(batch("a", "1")).expect("durable");
    drop(store);
    let path = home.file("store.redb");
    let mut bytes = std::fs::read(&path).expect("there");
    bytes[..4096].fill(0x5a);
    std::fs::write(&path, &bytes).expect("written");
    let opened = NodeStore::open(&home, None).expect("comes up");
    let aside = opened.put_aside.expect("put aside");
    assert_eq!(std::fs::read(aside).expect("kept"), bytes);
    assert_eq!(opened.store.get(Table::Meta, b"a"), Ok(None));
}

#[test]
fn a_home_is_never_opened_with_another_engine_and_nothing_is_lost_by_trying() {
    for (kind, other) in [
        (EngineKind::Redb, EngineKind::Sled),
        (EngineKind::Sled, EngineKind::Redb),
    ] {
        let (_folder, home) = home();
        let mut store = made(&home, kind);
        store.apply(batch("a", "1")).expect("durable");
        drop(store);
        let refused = NodeStore::open(&home, Some(other)).expect_err("another engine");
        assert_eq!((refused.code.as_str(), refused.exit), ("store_engine", 2));
        assert!(!other.path(&home).exists(), "nothing was made");
        let carried_on = NodeStore::open(&home, None).expect("with its own").store;
        assert_eq!(carried_on.kind(), kind);
        assert_eq!(carried_on.get(Table::Meta, b"a"), Ok(Some("1".into())));
    }
}

#[test]
fn a_home_made_before_there_was_a_choice_has_redb() {
    let (_folder, home) = home();
    drop(made(&home, EngineKind::Redb));
    std::fs::remove_file(home.file(ENGINE_FILE)).expect("there");
    let refused = NodeStore::open(&home, Some(EngineKind::Sled)).expect_err("it has redb");
    assert_eq!(refused.code, "store_engine");
    assert_eq!(
        NodeStore::open(&home, None).expect("redb").store.kind(),
        EngineKind::Redb
    );
}

#[test]
fn a_store_opened_anew_has_what_was_durable_and_old_readers_are_told() {
    for kind in EngineKind::ALL {
        let (_folder, home) = home();
        let mut store = made(&home, kind);
        store.apply(batch("a", "1")).expect("durable");
        let closed = store.snapshot().closed();
        assert!(closed.get(Table::Meta, b"a").is_err());
        store.failed = Some(engine::failure("commit", "planted"));
        assert!(
            store.apply(batch("a", "2")).is_err(),
            "nothing after a failure"
        );
        let mut store = store.reopened().expect("again");
        assert_eq!(store.get(Table::Meta, b"a"), Ok(Some("1".into())));
        store.apply(batch("a", "3")).expect("writes on");
    }
}
