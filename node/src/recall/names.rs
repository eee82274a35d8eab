//! Names: strings and keys as small numbers, counted, so the last use takes the name away.
//!
//! Terms, topics, authors and tags repeat in thousands of memories; each is held once here. The map
//! is looked up, never iterated, so its random order shows nowhere; the random key is what makes
//! chosen words unable to collide.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// Counted names of one sort. A number is reused once its name has gone.
#[derive(Debug)]
pub(super) struct Names<K> {
    numbers: HashMap<K, u32>,
    named: Vec<Option<Named<K>>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Named<K> {
    name: K,
    uses: u32,
}

impl<K> Default for Names<K> {
    fn default() -> Self {
        Self {
            numbers: HashMap::new(),
            named: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<K: Hash + Eq + Clone> Names<K> {
    /// The number of a name, with one more use.
    pub(super) fn take<Q>(&mut self, name: &Q) -> u32
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned: Into<K>> + ?Sized,
    {
        if let Some(&number) = self.numbers.get(name) {
            let named = self.named[number as usize]
                .as_mut()
                .expect("a number in the map is named");
            named.uses += 1;
            return number;
        }
        let name: K = name.to_owned().into();
        let named = Some(Named {
            name: name.clone(),
            uses: 1,
        });
        let number = match self.free.pop() {
            Some(number) => {
                self.named[number as usize] = named;
                number
            }
            None => {
                self.named.push(named);
                u32::try_from(self.named.len() - 1).expect("fewer names than bytes of text held")
            }
        };
        self.numbers.insert(name, number);
        number
    }

    /// One use less; the name is forgotten with its last use, and then this is true.
    pub(super) fn release(&mut self, number: u32) -> bool {
        let named = self.named[number as usize]
            .as_mut()
            .expect("only a taken name is released");
        named.uses -= 1;
        if named.uses > 0 {
            return false;
        }
        let gone = self.named[number as usize].take().expect("checked above");
        self.numbers.remove(&gone.name);
        self.free.push(number);
        if self.numbers.capacity() > 64 && self.numbers.len() * 4 < self.numbers.capacity() {
            self.numbers.shrink_to(self.numbers.len() * 2);
        }
        true
    }

    /// The number of a name in use.
    pub(super) fn find<Q>(&self, name: &Q) -> Option<u32>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.numbers.get(name).copied()
    }

    /// The name behind a number in use.
    pub(super) fn name(&self, number: u32) -> Option<&K> {
        Some(&self.named.get(number as usize)?.as_ref()?.name)
    }

    /// One above the highest number ever given.
    pub(super) fn bound(&self) -> usize {
        self.named.len()
    }

    /// Names in use.
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Bytes held, beside what the names own on the heap.
    pub(super) fn memory_bytes(&self) -> usize {
        // hashbrown: one control byte per bucket, 8/7 of the capacity in buckets.
        self.numbers.capacity() * 8 / 7 * (size_of::<(K, u32)>() + 1)
            + self.named.capacity() * size_of::<Option<Named<K>>>()
            + self.free.capacity() * size_of::<u32>()
    }

    /// Every name in use, in the order of its number.
    pub(super) fn iter(&self) -> impl Iterator<Item = &K> {
        self.named.iter().flatten().map(|named| &named.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_name_lives_as_long_as_its_uses() {
        let mut names: Names<Arc<str>> = Names::default();
        let tea = names.take("tea");
        assert_eq!(names.take("tea"), tea);
        assert!(!names.release(tea));
        assert_eq!(names.find("tea"), Some(tea));
        assert!(names.release(tea));
        assert_eq!(names.find("tea"), None);
        assert_eq!((names.len(), names.iter().count()), (0, 0));
        assert_eq!(names.take("milk"), tea, "a free number is used again");
    }
}
