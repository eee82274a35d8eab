//! What is said at the edge opens as it was, and nothing else opens.

use super::sealed::{Signed, encoded};
use super::*;

fn keys() -> Keys {
    Keys::from_secret(&[1; 32])
}

fn parcel(steps: u32, text: &str) -> Parcel {
    let deed = |place| Deed {
        place,
        topic: "plant".into(),
        what: What::Remembered("plant/a".into(), text.into()),
    };
    let step = |seq| Step {
        seq,
        stamp: 1_790_000_000_000,
        deeds: vec![deed(0), deed(2)],
    };
    Parcel {
        gateway: [9; 32],
        device: keys().public(),
        agent: [7; 32],
        name: "sensor".into(),
        steps: (0..steps).map(step).collect(),
    }
}

#[test]
fn a_parcel_opens_as_it_was_and_every_flipped_bit_closes_it() {
    let device = keys().public();
    let parcel = parcel(1, "mean 7");
    let (bytes, _) = parcel.seal(&keys());
    assert_eq!(Ok(parcel), Parcel::open(&bytes, &device));
    assert_eq!(Err(OpenUplink::Unsigned), Parcel::open(&bytes, &[3; 32]));
    for bit in 0..bytes.len() * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(Parcel::open(&bad, &device).is_err(), "bit {bit}");
    }
    for cut in 0..bytes.len() {
        assert!(Parcel::open(&bytes[..cut], &device).is_err(), "{cut}");
    }
}

#[test]
fn what_repeats_shrinks_and_what_does_not_travels_as_it_is() {
    let device = keys().public();
    let (bytes, raw) = parcel(100, "mean 7, deviation 0").seal(&keys());
    assert!(bytes.len() * 4 < raw, "{} of {raw}", bytes.len());
    assert_eq!(
        100,
        Parcel::open(&bytes, &device).expect("good").steps.len()
    );
    let mut noise = vec![0; 2_000];
    let mut source = blake3::Hasher::new().finalize_xof();
    source.fill(&mut noise);
    let mut once = parcel(1, "");
    once.steps[0].deeds[0].what = What::Said(noise.into());
    let (bytes, raw) = once.seal(&keys());
    assert!((raw..raw + 100).contains(&bytes.len()));
    assert_eq!(Ok(once), Parcel::open(&bytes, &device));
}

/// What is packed and says that it is longer than may be is not unpacked; what says less than it is
/// does not open either.
#[test]
fn a_parcel_that_lies_about_its_length_is_refused() {
    let device = keys().public();
    let raw = encoded(&parcel(100, "mean 7"));
    let packed = lz4_flex::block::compress(&raw);
    let sealed = |len: usize| {
        let len = u32::try_from(len).expect("short");
        encoded(&Signed::new(PARCEL_DOMAIN, &keys(), len, packed.clone()))
    };
    assert!(Parcel::open(&sealed(raw.len()), &device).is_ok());
    let bomb = Parcel::open(&sealed(PARCEL_BYTES_MAX + 1), &device);
    let len = PARCEL_BYTES_MAX + 1;
    assert_eq!(Err(OpenUplink::TooLong { len }), bomb);
    for len in [raw.len() - 1, raw.len() + 1, 1] {
        let opened = Parcel::open(&sealed(len), &device);
        assert_eq!(Err(OpenUplink::Malformed), opened, "{len}");
    }
}

#[test]
fn steps_out_of_order_are_refused() {
    let device = keys().public();
    let open = |change: fn(&mut Parcel)| {
        let mut parcel = parcel(3, "a");
        change(&mut parcel);
        Parcel::open(&parcel.seal(&keys()).0, &device).map(drop)
    };
    assert_eq!(Ok(()), open(|_| {}));
    for change in [
        (|p| p.steps.clear()) as fn(&mut Parcel),
        |p| p.steps.swap(0, 1),
        |p| p.steps[1].seq = 0,
        |p| p.steps[0].deeds.clear(),
        |p| p.steps[0].deeds[1].place = 0,
        |p| p.device = [3; 32],
    ] {
        assert_eq!(Err(OpenUplink::Order), open(change));
    }
}

#[test]
fn a_receipt_is_the_gateways_word_and_nobody_elses() {
    let receipt = Receipt {
        agent: [7; 32],
        through: 5,
        refused: vec![Refusal {
            seq: 4,
            place: 0,
            topic: "hr".into(),
            code: "region".into(),
            reason: "only in eu".into(),
        }],
    };
    let bytes = receipt.seal(&keys());
    assert_eq!(Ok(receipt), Receipt::open(&bytes, &keys().public()));
    assert_eq!(Err(OpenUplink::Unsigned), Receipt::open(&bytes, &[3; 32]));
}

#[test]
fn words_and_replies_have_one_form() {
    let word = Word::Down {
        agent: [7; 32],
        follows: vec!["plant".into()],
        bookmark: vec![1].into(),
    };
    let bytes = word.to_bytes();
    assert_eq!(Ok(word), Word::open(&bytes));
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(Err(OpenUplink::Malformed), Word::open(&longer));
    let many = Word::Down {
        agent: [7; 32],
        follows: vec![String::new(); FOLLOWS_MAX + 1],
        bookmark: vec![].into(),
    };
    assert!(Word::open(&many.to_bytes()).is_err());
    for garbage in [&b""[..], b"\xff", &[0x9f; 64], &[0x82; 4096]] {
        assert!(Word::open(garbage).is_err() && Reply::open(garbage).is_err());
    }
    let later = Reply::Later("the index is being read".into());
    assert_eq!(Ok(later.clone()), Reply::open(&later.to_bytes()));
}

/// What leaves the process is a designed format: these bytes are those of the first version.
#[test]
fn the_bytes_are_those_that_were_designed() {
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
    let word = Word::Down {
        agent: [7; 32],
        follows: vec!["plant".into()],
        bookmark: vec![1].into(),
    };
    assert_eq!(
        format!("8201835820{}8165706c616e744101", "07".repeat(32)),
        hex(&word.to_bytes())
    );
    let later = Reply::Later("soon".into());
    assert_eq!("82018164736f6f6e", hex(&later.to_bytes()));
    let receipt = Receipt {
        agent: [7; 32],
        through: 5,
        refused: vec![],
    };
    let (parcel, receipt) = (parcel(1, "mean 7").seal(&keys()).0, receipt.seal(&keys()));
    let sums = [&parcel, &receipt].map(|bytes| blake3::hash(bytes).to_hex()[..16].to_owned());
    assert_eq!(["47f2626046e4dcaa", "51741667be32cea9"], sums);
}
