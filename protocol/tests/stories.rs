//! Stories: two to five real replicas in memory, driven by hand. A test's name is its specification.
//!
//! Not here: storms of faults (the simulator), the byte formats (`tests/tests/compatibility.rs`).

#[path = "stories/asking.rs"]
mod asking;
#[path = "stories/catching_up.rs"]
mod catching_up;
#[path = "stories/disks.rs"]
mod disks;
#[path = "stories/erasing.rs"]
mod erasing;
#[path = "stories/forgery.rs"]
mod forgery;
#[path = "stories/forks.rs"]
mod forks;
#[path = "stories/garbage.rs"]
mod garbage;
#[path = "stories/hive.rs"]
mod hive;
#[path = "stories/laws_of_topics.rs"]
mod laws_of_topics;
#[path = "stories/liars.rs"]
mod liars;
#[path = "stories/meshes.rs"]
mod meshes;
#[path = "stories/powers.rs"]
mod powers;
#[path = "stories/receipts.rs"]
mod receipts;
#[path = "stories/rooms.rs"]
mod rooms;
#[path = "stories/serving.rs"]
mod serving;
#[path = "stories/times.rs"]
mod times;
