//! A device keeps its queue, whenever its power goes.

use super::*;
use aquifer_wasm::abi::{Cause, Imports};
use aquifer_wasm::manifest::{Budget, Rate};
use aquifer_wasm::uplink::What;

const ECHO: &[u8] = include_bytes!("../../../guest/modules/echo.wasm");
const SENSOR: &[u8] = include_bytes!("../../../guest/modules/sensor.wasm");

fn grants(calls: u32) -> impl FnOnce([u8; 32]) -> (Keys, Manifest) {
    move |module| {
        let manifest = Manifest {
            name: "echo".into(),
            module,
            imports: Imports::USUAL,
            publishes: vec![],
            follows: vec![],
            remembers: vec!["echo".into()],
            budget: Budget {
                calls,
                ..Budget::USUAL
            },
            rate: Rate::USUAL,
            kv_bytes: 64,
            not_after: u64::MAX,
            attest: None,
        };
        (Keys::from_secret(&[1; 32]), manifest)
    }
}

fn home() -> (tempfile::TempDir, Home) {
    let folder = tempfile::tempdir().expect("a folder");
    let home = Home::at(folder.path().to_owned());
    (folder, home)
}

fn open(home: &Home) -> Device {
    Device::open(home, ECHO, None, grants(64)).expect("an agent")
}

/// A message of `number`, at a time from which it has its stamp.
fn says(device: &mut Device, number: u8) {
    let wakeup = Wakeup {
        cause: Cause::Message,
        from: Some([9; 32]),
        topic: String::new(),
        stamp: 1_000 + u64::from(number),
        body: vec![number],
    };
    device.takes([number; 16], wakeup).expect("short");
}

fn seqs(device: &Device) -> Vec<u32> {
    device.queue().map(|step| step.seq).collect()
}

#[test]
fn steps_wait_in_order_over_restarts_until_they_are_signed_for() {
    let (_folder, home) = home();
    let mut device = open(&home);
    assert!(device.parcel([1; 32], [2; 32]).is_none());
    (0..5).for_each(|number| says(&mut device, number));
    assert_eq!(5, device.lives(2_000).expect("room").steps);
    let bytes = device.queue_bytes();
    drop(device);
    let mut device = open(&home);
    assert_eq!(
        (vec![0, 1, 2, 3, 4], bytes),
        (seqs(&device), device.queue_bytes())
    );
    // Known lines are not taken on again.
    (0..6).for_each(|number| says(&mut device, number));
    assert_eq!(1, device.lives(2_000).expect("room").steps);
    let parcel = device.parcel([1; 32], [2; 32]).expect("steps wait");
    assert_eq!((6, 1_003), (parcel.steps.len(), parcel.steps[3].stamp));
    let to = "inbox/".to_owned() + &"09".repeat(32);
    assert_eq!(to, parcel.steps[0].deeds[0].topic);
    let sent = |deed: &aquifer_wasm::uplink::Deed| matches!(&deed.what, What::Sent(to, _) if *to == [9; 32]);
    assert!(parcel.steps[0].deeds.iter().any(sent));
    assert_eq!(3, device.settles(2).expect("room"));
    assert_eq!(0, device.settles(1).expect("room"), "an old receipt");
    drop(device);
    assert_eq!(vec![3, 4, 5], seqs(&open(&home)));
}

#[test]
fn a_journal_cut_anywhere_holds_a_step_with_all_its_deeds_or_its_input_still() {
    let (_folder, home) = home();
    let mut device = open(&home);
    let begun = std::fs::metadata(home.file(JOURNAL_FILE))
        .expect("there")
        .len();
    for number in 0..4 {
        says(&mut device, number);
        device.lives(2_000).expect("room");
    }
    drop(device);
    let whole = std::fs::read(home.file(JOURNAL_FILE)).expect("there");
    for cut in begun as usize..=whole.len() {
        std::fs::write(home.file(JOURNAL_FILE), &whole[..cut]).expect("room");
        let mut device = open(&home);
        device.lives(2_000).expect("room");
        // Whoever feeds it says again what it was not told is safe: all of it, here.
        (0..4).for_each(|number| says(&mut device, number));
        device.lives(2_000).expect("room");
        assert_eq!(vec![0, 1, 2, 3], seqs(&device), "cut at {cut}");
    }
}

#[test]
fn a_parcel_is_filled_and_no_farther_and_the_next_goes_on_behind_it() {
    let (_folder, home) = home();
    let mut device = open(&home);
    for number in 0..40_u8 {
        let wakeup = Wakeup {
            cause: Cause::Message,
            from: Some([9; 32]),
            topic: String::new(),
            stamp: 1_000,
            body: vec![number; 4_000],
        };
        device.takes([number; 16], wakeup).expect("short");
    }
    device.lives(2_000).expect("room");
    let mut through = Vec::new();
    while let Some(parcel) = device.parcel([1; 32], [2; 32]) {
        let (sealed, raw) = parcel.seal(&Keys::from_secret(&[1; 32]));
        assert!(raw <= PARCEL_BYTES_FILL + 1_024 && sealed.len() < raw);
        let last = parcel.steps.last().expect("not empty").seq;
        assert_eq!(parcel.steps.len(), device.settles(last).expect("room"));
        through.push(last);
    }
    assert!(
        through.len() > 2 && through.last() == Some(&39),
        "{through:?}"
    );
    assert_eq!(0, device.queue_bytes());
}

#[test]
fn another_module_or_manifest_is_not_taken_for_the_one_that_lives_there() {
    let (_folder, home) = home();
    drop(open(&home));
    let code = |module: &[u8], given: Option<&[u8]>| {
        let opened = Device::open(&home, module, given, grants(64));
        opened.err().map(|problem| problem.code)
    };
    assert_eq!(None, code(ECHO, None));
    assert_eq!(Some("other_agent".to_owned()), code(SENSOR, None));
    assert_eq!(Some("other_agent".to_owned()), code(ECHO, Some(b"other")));
    assert_eq!(Some("bad_module".to_owned()), code(b"noise", None));
    let (_folder, fresh) = self::home();
    let wide = Device::open(&fresh, ECHO, None, grants(CALLS_MAX + 1));
    assert_eq!(
        "bad_manifest",
        wide.err().expect("too wide for a parcel").code
    );
}
