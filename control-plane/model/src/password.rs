//! The first password of a customer's account.
//!
//! Twenty characters without look-alikes, at least one lower and upper letter, three digits and two symbols. That
//! satisfies Windows' complexity rule (three of four classes) and Contabo's (upper, lower, and one digit with two symbols
//! or three digits with one, symbols from `!@#$^&*?_~`), needs no AltGr on a German or US keyboard, and no quoting in XML.

use nemordp_types::Entropy;
use secrecy::SecretString;
use zeroize::Zeroizing;

/// Length in characters.
pub const LENGTH: usize = 20;
const LOWER: &[u8] = b"abcdefghijkmnpqrstuvwxyz";
const UPPER: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZ";
const DIGIT: &[u8] = b"23456789";
const SYMBOL: &[u8] = b"!?*#_";
const ANY: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789!?*#_";
/// What is drawn from each class before the rest is drawn from all.
const CLASSES: [&[u8]; 7] = [LOWER, UPPER, DIGIT, DIGIT, DIGIT, SYMBOL, SYMBOL];

/// Makes a password from the generator.
#[must_use]
pub fn make(entropy: &dyn Entropy) -> SecretString {
    let mut password = Zeroizing::new([0u8; LENGTH]);
    for (index, slot) in password.iter_mut().enumerate() {
        let alphabet = CLASSES.get(index).copied().unwrap_or(ANY);
        *slot = alphabet[below(entropy, alphabet.len())];
    }
    // Fisher-Yates, so that the classes stand nowhere in particular.
    for last in (1..LENGTH).rev() {
        password.swap(last, below(entropy, last + 1));
    }
    SecretString::from(password.iter().map(|byte| char::from(*byte)).collect::<String>())
}

/// A number below `bound` (at most 256), each equally likely: bytes beyond the last whole multiple are drawn again.
fn below(entropy: &dyn Entropy, bound: usize) -> usize {
    let limit = 256 - 256 % bound;
    let mut byte = [0u8; 1];
    loop {
        entropy.fill(&mut byte);
        let value = usize::from(byte[0]);
        if value < limit {
            return value % bound;
        }
    }
}

#[cfg(test)]
mod tests {
    use nemordp_types::SeededEntropy;
    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    use super::*;

    proptest! {
        #[test]
        fn every_password_has_all_classes_and_no_look_alikes(seed: u64) {
            let password = make(&SeededEntropy::new(seed));
            let text = password.expose_secret();
            prop_assert_eq!(text.chars().count(), LENGTH);
            let count = |class: &[u8]| text.bytes().filter(|b| class.contains(b)).count();
            prop_assert!(count(LOWER) >= 1 && count(UPPER) >= 1 && count(DIGIT) >= 3 && count(SYMBOL) >= 2);
            prop_assert_eq!(count(ANY), LENGTH);
            prop_assert!(!text.contains(['0', 'O', 'o', '1', 'l', 'I']));
        }
    }

    #[test]
    fn every_character_comes_up_equally_often() {
        let entropy = SeededEntropy::new(11);
        let mut counts = [0u32; 61];
        for _ in 0..61_000 {
            counts[below(&entropy, 61)] += 1;
        }
        assert!(counts.iter().all(|c| (850..1_150).contains(c)), "{counts:?}");
    }

    #[test]
    fn a_password_never_shows_in_debug_output() {
        let password = make(&SeededEntropy::new(1));
        assert!(!format!("{password:?}").contains(password.expose_secret()));
    }
}
