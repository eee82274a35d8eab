//! Amounts of bytes, as people write them: `8GiB`, `512MiB`, `1.5GB`, `4096`.

use crate::api::Problem;

/// Units by their names in lower case, longest first among those that end alike.
const UNITS: [(&str, u64); 10] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("b", 1),
    ("", 1),
];

/// Reads an amount of bytes.
///
/// # Errors
/// `bad_amount` (exit 2) for what is none, or more than 2⁶³.
pub fn read(text: &str) -> Result<u64, Problem> {
    parse(text).ok_or_else(|| {
        Problem::new(
            "bad_amount",
            2,
            format!("`{text}` is not an amount of bytes"),
            "for example: 8GiB, 512MiB, 4096",
        )
    })
}

fn parse(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit.trim())?;
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = whole.parse().ok()?;
    let digits = part.get(..part.len().min(6))?;
    let part: u64 = if digits.is_empty() {
        0
    } else {
        digits.parse().ok()?
    };
    let part = u128::from(part) * u128::from(*factor) / 10_u128.pow(digits.len() as u32);
    let all = u128::from(whole) * u128::from(*factor) + part;
    u64::try_from(all).ok().filter(|bytes| *bytes <= 1 << 63)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4_096),
            ("8GiB", 8 << 30),
            ("8 gib", 8 << 30),
            ("1.5GB", 1_500_000_000),
            ("512MiB", 512 << 20),
            ("0.5KiB", 512),
        ] {
            assert_eq!(read(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in [
            "",
            "GiB",
            "8 gallons",
            "-1",
            "1e9",
            "99999999999TiB",
            "1.2.3GB",
            "٣",
        ] {
            assert_eq!(read(text).expect_err(text).code, "bad_amount");
        }
    }
}
