//! The shelf: taking in, holding, removing, checking.

use super::*;
use crate::blob::tree::tests::noise;

const BYTES: u64 = (3 << 20) + 5;
const TOPIC: TopicId = TopicId([3; 32]);

fn shelf() -> (tempfile::TempDir, Arc<Shelf>) {
    let folder = tempfile::tempdir().expect("a folder");
    let home = Home::at(Some(folder.path().to_owned()));
    let shelf = Shelf::open(&home, 0).expect("a shelf");
    (folder, Arc::new(shelf))
}

fn take(shelf: &Arc<Shelf>, data: &[u8]) -> BlobHash {
    let taken = shelf.take_in(data, data.len() as u64, TOPIC, &mut |_| true);
    taken.expect("room").name
}

#[test]
fn what_is_taken_in_lies_there_under_its_hash_and_is_removed_unless_held() {
    let (_folder, shelf) = shelf();
    let data = noise(BYTES);
    let name = take(&shelf, &data);
    assert_eq!(&name.0, blake3::hash(&data).as_bytes());
    assert_eq!(fs::read(shelf.path_of(&name)).expect("there"), data);
    assert_eq!(shelf.topics_of(&name).expect("there"), [TOPIC].into());
    let bytes = Some(BYTES);
    assert_eq!(shelf.list().expect("lists"), [Kept { name, bytes }]);
    let hold = shelf.hold(name);
    assert_eq!(shelf.remove(&name).expect("held"), 0);
    assert_eq!(shelf.bytes_of(&name), bytes);
    drop(hold);
    assert!(shelf.remove(&name).expect("removes") > BYTES);
    assert_eq!(shelf.list().expect("lists"), []);
    assert_eq!(fs::read_dir(&shelf.folder).expect("there").count(), 0);
}

#[test]
fn a_file_that_is_longer_or_shorter_than_was_said_is_refused_and_leaves_nothing() {
    let (_folder, shelf) = shelf();
    let data = noise(BYTES);
    for said in [BYTES - 1, BYTES + 1] {
        let refused = shelf.take_in(&data[..], said, TOPIC, &mut |_| true);
        assert!(matches!(refused, Err(KeepBlob::Changed)), "{refused:?}");
    }
    let refused = shelf.take_in(&data[..], BYTES, TOPIC, &mut |done| done < 1 << 20);
    assert!(matches!(refused, Err(KeepBlob::CalledOff)), "{refused:?}");
    assert_eq!(fs::read_dir(&shelf.folder).expect("there").count(), 0);
}

#[test]
fn a_disk_without_room_beside_the_reserve_takes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let free = free_bytes(folder.path()).expect("known here");
    let home = Home::at(Some(folder.path().to_owned()));
    // Other processes free some meanwhile.
    let reserve = free.saturating_add(1 << 40);
    let shelf = Arc::new(Shelf::open(&home, reserve).expect("a shelf"));
    let refused = shelf.take_in(&[1; 9][..], 9, TOPIC, &mut |_| true);
    assert!(
        matches!(refused, Err(KeepBlob::NoRoom { .. })),
        "{refused:?}"
    );
    let refused = shelf.part(BlobHash([1; 32]), 9);
    assert!(
        matches!(refused, Err(KeepBlob::NoRoom { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_check_finds_rot_and_leaves_a_part_that_lacks_only_that() {
    let (_folder, shelf) = shelf();
    let data = noise(BYTES);
    let name = take(&shelf, &data);
    let mut seen = 0;
    let sound = shelf.check(&name, BYTES, &mut |done| seen = done);
    assert_eq!(sound.expect("reads").damaged_bytes, 0);
    assert_eq!(seen, BYTES);
    let mut rotten = data.clone();
    rotten[40_000] ^= 4;
    fs::write(shelf.path_of(&name), &rotten).expect("writes");
    let found = shelf.check(&name, BYTES, &mut |_| {}).expect("reads");
    assert_eq!(found.damaged_bytes, tree::GROUP_BYTES);
    assert_eq!(shelf.bytes_of(&name), None);
    let part = shelf.part(name, BYTES).expect("a part");
    assert_eq!(part.have_bytes(), BYTES - tree::GROUP_BYTES);
    assert!(matches!(&part.missing()[..], [one] if *one == (2..3)));
}

#[test]
fn what_a_crash_left_half_taken_in_is_removed_at_the_next_start() {
    let (folder, shelf) = shelf();
    let (path, _) = shelf.spool().expect("a file");
    let home = Home::at(Some(folder.path().to_owned()));
    Shelf::open(&home, 0).expect("a shelf");
    assert!(!path.exists());
}
