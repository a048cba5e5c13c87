//! Finds the `${ … }` of a text.

use crate::expression::{Fault, place};

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'t> {
    /// As it is, with `$${` made `${`.
    Literal(String),
    /// What stands between `${` and `}`, and where it begins, in bytes.
    Expression { source: &'t str, offset: usize },
}

/// The parts of a text, no two literals behind each other, none empty.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece<'_>>, Fault> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut at = 0;
    while let Some(found) = text[at..].find("${") {
        let begin = at + found;
        if text[at..begin].ends_with('$') {
            literal.push_str(&text[at..begin - 1]);
            literal.push_str("${");
            at = begin + 2;
            continue;
        }
        literal.push_str(&text[at..begin]);
        let offset = begin + 2;
        let Some(length) = length(&text[offset..]) else {
            let (line, column) = place(text, begin);
            let message = "`${` has no end; write `$${` where it is meant as text".to_owned();
            return Err(Fault { line, column, message });
        };
        if !literal.is_empty() {
            pieces.push(Piece::Literal(std::mem::take(&mut literal)));
        }
        pieces.push(Piece::Expression { source: &text[offset..offset + length], offset });
        at = offset + length + 1;
    }
    literal.push_str(&text[at..]);
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    Ok(pieces)
}

/// How many bytes there are before the `}` that ends an expression: none in its texts, and none that closes a map.
fn length(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut open = 0_usize;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'{' => open += 1,
            b'}' if open == 0 => return Some(at),
            b'}' => open -= 1,
            b'/' if bytes.get(at + 1) == Some(&b'/') => at += text[at..].find('\n')?,
            b'"' | b'\'' => at = text_end(bytes, at)?,
            _ => {}
        }
        at += 1;
    }
    None
}

/// The last byte of the text of CEL that begins here: with one or three quotes, raw behind an `r`.
fn text_end(bytes: &[u8], begin: usize) -> Option<usize> {
    let quote = bytes[begin];
    let before = |back: usize| begin.checked_sub(back).map(|at| bytes[at].to_ascii_lowercase());
    let is_raw = before(1) == Some(b'r') || (before(1) == Some(b'b') && before(2) == Some(b'r'));
    let long = bytes[begin..].starts_with(&[quote; 3]);
    let width = if long { 3 } else { 1 };
    let mut at = begin + width;
    loop {
        match bytes.get(at)? {
            b'\\' if !is_raw => at += 1,
            byte if *byte == quote && (!long || bytes[at..].starts_with(&[quote; 3])) => return Some(at + width - 1),
            _ => {}
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        match pieces(text) {
            Ok(pieces) => pieces
                .into_iter()
                .map(|piece| match piece {
                    Piece::Literal(literal) => literal,
                    Piece::Expression { source, offset } => {
                        assert_eq!(&text[offset..offset + source.len()], source);
                        format!("<{source}>")
                    }
                })
                .collect(),
            Err(fault) => vec![format!("fault at {}:{}", fault.line, fault.column)],
        }
    }

    #[test]
    fn expressions_end_where_they_end() {
        let cases: [(&str, &[&str]); 16] = [
            ("", &[]),
            ("plain $ { } $a", &["plain $ { } $a"]),
            ("${a}", &["<a>"]),
            ("a ${ b }c${d}", &["a ", "< b >", "c", "<d>"]),
            ("${ {'a': {'b': 1}} }", &["< {'a': {'b': 1}} >"]),
            ("${ '}' + \"}\" }.", &["< '}' + \"}\" >", "."]),
            (r"${ 'it\'s }' }", &[r"< 'it\'s }' >"]),
            (r"${ r'\' }", &[r"< r'\' >"]),
            ("${ '''a ' } ''' }", &["< '''a ' } ''' >"]),
            ("${ '' }", &["< '' >"]),
            ("${ a // }\n }", &["< a // }\n >"]),
            ("$${a} ${b}", &["${a} ", "<b>"]),
            ("$$${a}", &["$${a}"]),
            ("é ${ü}", &["é ", "<ü>"]),
            ("a ${ b", &["fault at 1:3"]),
            ("\n${ '}", &["fault at 2:1"]),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(text), expected, "{text}");
        }
    }
}
