//! Equality of encoded values: that of [`crate::Value`]'s `==`, without the trees where possible.

use super::{Token, Tokens, decode};

/// Structural equality of two checked values: types never mix, floats compare by IEEE rules, the
/// order of object keys does not count. Bytes that are no value equal nothing.
///
/// Objects that list their keys in the same order, as those of one writer do, are compared in one
/// pass. Where an order differs both values are built as trees: n log n.
#[must_use]
pub fn encoded_equal(a: &[u8], b: &[u8]) -> bool {
    match same_order(a, b) {
        Some(Comparison::Equal) => true,
        Some(Comparison::KeysDiffer) => match (decode(a), decode(b)) {
            (Ok(a), Ok(b)) => a == b,
            _ => false,
        },
        Some(Comparison::Different) | None => false,
    }
}

/// How two values compare, read side by side.
enum Comparison {
    Equal,
    Different,
    /// Two objects of one size had different keys at one place, which decides nothing yet.
    KeysDiffer,
}

/// Compares item by item. Containers of one size are equal if all that follows in them is, so only
/// the number of items still to come is remembered. None if the bytes are no values.
fn same_order(a: &[u8], b: &[u8]) -> Option<Comparison> {
    let (mut a, mut b) = (Tokens::new(a), Tokens::new(b));
    // Open containers, innermost last: items left, and whether each has a key in front.
    let mut open: Vec<(usize, bool)> = Vec::new();
    loop {
        let (item_a, item_b) = (a.next_token().ok()?, b.next_token().ok()?);
        // Counts and types of containers are compared here too.
        if item_a != item_b {
            return Some(Comparison::Different);
        }
        match item_a {
            Token::Array(len) => open.push((len, false)),
            Token::Map(len) => open.push((len, true)),
            _ => {}
        }
        while open.pop_if(|(left, _)| *left == 0).is_some() {}
        let Some((left, has_key)) = open.last_mut() else {
            break;
        };
        *left -= 1;
        if *has_key && a.next_token().ok()? != b.next_token().ok()? {
            return Some(Comparison::KeysDiffer);
        }
    }
    let is_at_end = a.remaining_len_bytes() == 0 && b.remaining_len_bytes() == 0;
    is_at_end.then_some(Comparison::Equal)
}
