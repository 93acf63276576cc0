//! The root of a share: one number that is equal exactly when all entries are.
//!
//! An additive multiset hash: the sum, modulo 2^256, of the BLAKE3 hashes of (path, entry). Adding or taking away
//! an entry is one hash and one addition, however large the share is. It is a check for convergence, not a
//! signature: whoever may choose many entries could make two sets with equal sums, but every file's bytes are
//! checked by their own hash, and the hub is the one who says what stands where.

use crate::RelPath;
use std::fmt;

/// The sum over all entries; [`RootHash::default`] is that of nothing.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct RootHash {
    words: [u64; 4],
}

impl RootHash {
    /// Adds the entry whose encoded form is `entry`, standing at `path`.
    pub fn add(&mut self, path: &RelPath, entry: &[u8]) {
        let mut carry = false;
        for (sum, word) in self.words.iter_mut().zip(digest(path, entry)) {
            (*sum, carry) = add_with_carry(*sum, word, carry);
        }
    }

    /// Takes away what [`RootHash::add`] added.
    pub fn remove(&mut self, path: &RelPath, entry: &[u8]) {
        let mut borrow = false;
        for (sum, word) in self.words.iter_mut().zip(digest(path, entry)) {
            let (partial, first) = sum.overflowing_sub(word);
            let (difference, second) = partial.overflowing_sub(u64::from(borrow));
            *sum = difference;
            borrow = first || second;
        }
    }

    /// The 32 bytes, little-endian.
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(self.words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Reads what [`RootHash::to_bytes`] gave.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let mut words = [0; 4];
        for (word, chunk) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*chunk);
        }
        Self { words }
    }
}

fn add_with_carry(a: u64, b: u64, carry: bool) -> (u64, bool) {
    let (partial, first) = a.overflowing_add(b);
    let (sum, second) = partial.overflowing_add(u64::from(carry));
    (sum, first || second)
}

/// BLAKE3 of (length of the path, path, entry), as four little-endian words.
fn digest(path: &RelPath, entry: &[u8]) -> [u64; 4] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(path.as_bytes().len() as u64).to_le_bytes());
    hasher.update(path.as_bytes());
    hasher.update(entry);
    RootHash::from_bytes(hasher.finalize().into()).words
}

impl fmt::Debug for RootHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for RootHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_bytes()[..8].iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(n: u8) -> RelPath {
        RelPath::new(format!("p{n}").into_bytes()).unwrap()
    }

    proptest! {
        #[test]
        fn the_order_of_changes_does_not_matter(mut entries in prop::collection::vec((any::<u8>(), any::<[u8; 4]>()), 0..20)) {
            let sum = |entries: &[(u8, [u8; 4])]| {
                let mut root = RootHash::default();
                entries.iter().for_each(|(p, e)| root.add(&path(*p), e));
                root
            };
            let forwards = sum(&entries);
            entries.reverse();
            prop_assert_eq!(forwards, sum(&entries));
            let mut emptied = forwards;
            entries.iter().for_each(|(p, e)| emptied.remove(&path(*p), e));
            prop_assert_eq!(emptied, RootHash::default());
            prop_assert_eq!(RootHash::from_bytes(forwards.to_bytes()), forwards);
        }

        #[test]
        fn one_other_byte_is_another_root(a in any::<[u8; 4]>(), b in any::<[u8; 4]>()) {
            let (mut x, mut y) = (RootHash::default(), RootHash::default());
            x.add(&path(0), &a);
            y.add(&path(0), &b);
            prop_assert_eq!(a == b, x == y);
        }
    }
}
