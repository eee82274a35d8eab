//! Keys of plans: one that means nothing is an error that names the nearest one that does.

/// The first of `keys` that is not `known`, and the known one that is most like it.
pub fn unknown<'a>(
    mut keys: impl Iterator<Item = &'a String>,
    known: &[&'static str],
) -> Option<(String, &'static str)> {
    let key = keys.find(|key| !known.contains(&key.as_str()))?;
    let nearest = known.iter().min_by_key(|known| distance(key, known));
    Some((key.clone(), nearest.expect("something is known")))
}

/// How many letters must be changed, put in or left out (Levenshtein 1966).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_unknown_key_is_found_with_the_nearest_known_one() {
        let keys = ["agents", "horizont"].map(str::to_owned);
        let found = unknown(keys.iter(), &["agents", "horizon", "links"]);
        assert_eq!(Some(("horizont".to_owned(), "horizon")), found);
        assert_eq!(None, unknown(keys[..1].iter(), &["agents"]));
        assert_eq!(3, distance("kitten", "sitting"));
    }
}
