//! Text to a JSON value that remembers where each part of it was written.

use std::{collections::BTreeMap, fmt};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Location, Spanned};

use crate::fault::Fault;

/// Stack for the deepest text that is read.
const STACK_BYTES: usize = 16 * 1024 * 1024;

/// Where parts of a document were written, by JSON pointer. A map's entry is located at its key, because that is what a
/// person looks for.
#[derive(Debug)]
pub struct Located {
    /// The document.
    pub value: Value,
    places: BTreeMap<String, Location>,
    /// Keys that are there twice or are no text; the value has the last of them, or none.
    pub(crate) faults: Vec<Fault>,
}

impl Located {
    /// Reads YAML, and with that JSON. `yes`, `no` and `on` are text, as YAML 1.2 has it.
    pub fn read(text: &str) -> Result<Self, Vec<Fault>> {
        // A key that is there twice is told below, with all others.
        let duplicate_keys = serde_saphyr::options::DuplicateKeyPolicy::LastWins;
        let options = serde_saphyr::options! { strict_booleans: true, duplicate_keys: duplicate_keys };
        // A level takes up to 50 KB of stack in a debug build, and the reader goes 64 levels down: more than a task may have.
        let read = || serde_saphyr::from_str_with_options(text, options);
        let root: Spanned<Node> = stacker::grow(STACK_BYTES, read).map_err(|error| {
            let (line, column) = error.location().map_or((0, 0), |place| (place.line(), place.column()));
            let sentence = error.without_snippet().to_string();
            let message = sentence.split(" at line ").next().unwrap_or_default().to_owned();
            vec![Fault { line, column, path: String::new(), message }]
        })?;
        let mut reader = Reader { places: BTreeMap::new(), faults: Vec::new() };
        let value = reader.read(root, "");
        Ok(Self { value, places: reader.places, faults: reader.faults })
    }

    /// A document that was not read from a text: its faults have keys, but no lines.
    pub fn of(value: Value) -> Self {
        Self { value, places: BTreeMap::new(), faults: Vec::new() }
    }

    /// Line and column of what is at that pointer, if that was written.
    pub fn place(&self, pointer: &str) -> Option<(u64, u64)> {
        self.places.get(pointer).map(|place| (place.line(), place.column()))
    }

    /// A fault at that pointer, placed at the nearest thing around it that was written.
    pub fn fault(&self, pointer: &str, message: String) -> Fault {
        let mut around = pointer;
        let place = loop {
            match (self.places.get(around), around.rfind('/')) {
                (Some(place), _) => break Some(place),
                (None, Some(end)) => around = &around[..end],
                (None, None) => break None,
            }
        };
        let (line, column) = place.map_or((0, 0), |place| (place.line(), place.column()));
        Fault { line, column, path: dotted(pointer), message }
    }
}

/// One more token on a JSON pointer.
pub fn below(pointer: &str, token: &str) -> String {
    format!("{pointer}/{}", token.replace('~', "~0").replace('/', "~1"))
}

fn dotted(pointer: &str) -> String {
    let tokens: Vec<String> =
        pointer.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~")).collect();
    tokens.join(".")
}

struct Reader {
    places: BTreeMap<String, Location>,
    faults: Vec<Fault>,
}

impl Reader {
    fn read(&mut self, node: Spanned<Node>, pointer: &str) -> Value {
        self.places.entry(pointer.to_owned()).or_insert(node.referenced);
        match node.value {
            Node::Scalar(value) => value,
            Node::List(items) => items
                .into_iter()
                .enumerate()
                .map(|(index, item)| self.read(item, &below(pointer, &index.to_string())))
                .collect(),
            Node::Map(entries) => Value::Object(self.read_map(entries, pointer)),
        }
    }

    fn read_map(&mut self, entries: Vec<(Spanned<Node>, Spanned<Node>)>, pointer: &str) -> Map<String, Value> {
        let mut map = Map::new();
        for (key, node) in entries {
            let name = match &key.value {
                Node::Scalar(Value::String(text)) => text.clone(),
                Node::Scalar(Value::Number(number)) => number.to_string(),
                _ => {
                    self.places.entry(pointer.to_owned()).or_insert(key.referenced);
                    self.faults.push(Fault {
                        line: key.referenced.line(),
                        column: key.referenced.column(),
                        path: dotted(pointer),
                        message: "a key must be text; put it in quotes".to_owned(),
                    });
                    continue;
                }
            };
            let pointer = below(pointer, &name);
            if self.places.insert(pointer.clone(), key.referenced).is_some() {
                self.faults.push(Fault {
                    line: key.referenced.line(),
                    column: key.referenced.column(),
                    path: dotted(&pointer),
                    message: "this key is here twice".to_owned(),
                });
                // What is in the last of them is no second time.
                let inside = format!("{pointer}/");
                let stale = self.places.range(inside.clone()..).take_while(|(place, _)| place.starts_with(&inside));
                let stale: Vec<String> = stale.map(|(place, _)| place.clone()).collect();
                stale.iter().for_each(|place| _ = self.places.remove(place));
            }
            let value = self.read(node, &pointer);
            map.insert(name, value);
        }
        map
    }
}

enum Node {
    Scalar(Value),
    List(Vec<Spanned<Node>>),
    Map(Vec<(Spanned<Node>, Spanned<Node>)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what JSON can say")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("numbers are finite"))?;
        Ok(Node::Scalar(number.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Map(entries))
    }
}
