//! What `--map` puts into maps before the run.

use std::path::Path;
use std::sync::Arc;

use ebpf_runtime::maps::{Map, MapError, UpdateMode};

use crate::read::{self, ReadError};
use hex::FromHexError;

/// Why an element cannot be put into a map.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MapArgError {
    /// The argument has no `=`, or nothing before it.
    #[error("expected NAME=KEYHEX:VALHEX or NAME=@FILE")]
    Syntax,
    /// An element without colon.
    #[error("expected KEYHEX:VALHEX, found `{0}`")]
    NoColon(String),
    /// A key or value that is not hex.
    #[error("{what}: {source}")]
    Hex {
        /// `key` or `value`.
        what: &'static str,
        /// Why.
        source: FromHexError,
    },
    /// The program has no such map.
    #[error("the program has no map {name}; {}", names(.available))]
    NoSuchMap {
        /// The name asked for.
        name: String,
        /// The names there are.
        available: Vec<String>,
    },
    /// The file of elements cannot be read.
    #[error("{file}: {source}")]
    Read {
        /// The file.
        file: String,
        /// Why.
        source: ReadError,
    },
    /// A line of a file of elements is wrong.
    #[error("{file}:{line}: {source}")]
    Line {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        source: Box<MapArgError>,
    },
    /// The map does not take the element.
    #[error(transparent)]
    Map(#[from] MapError),
}

fn names(names: &[String]) -> String {
    if names.is_empty() { "it has none".into() } else { format!("it has: {}", names.join(", ")) }
}

/// Puts what one `--map NAME=KEYHEX:VALHEX` or `--map NAME=@FILE` says into one of `maps`.
///
/// The file has an element a line, `KEYHEX:VALHEX`; empty lines do not count, and neither does
/// what follows a `#`.
pub(crate) fn apply(argument: &str, maps: &[Arc<Map>]) -> Result<(), MapArgError> {
    let (name, elements) = argument.split_once('=').ok_or(MapArgError::Syntax)?;
    if name.is_empty() || elements.is_empty() {
        return Err(MapArgError::Syntax);
    }
    // Maps that a map of maps holds have names, too.
    let inner = maps.iter().flat_map(|map| map.inner_maps()).map(|(_, map)| map);
    let all: Vec<Arc<Map>> = maps.iter().cloned().chain(inner).collect();
    let map = all.iter().find(|map| map.name() == name).ok_or_else(|| MapArgError::NoSuchMap {
        name: name.to_owned(),
        available: all.iter().map(|map| map.name().to_owned()).collect(),
    })?;
    match elements.strip_prefix('@') {
        Some(file) => fill(map, file),
        None => put(map, elements),
    }
}

fn fill(map: &Map, file: &str) -> Result<(), MapArgError> {
    let text = read::text(Path::new(file))
        .map_err(|source| MapArgError::Read { file: file.to_owned(), source })?;
    for (line, element) in elements(&text) {
        put(map, element).map_err(|source| {
            let source = Box::new(source);
            MapArgError::Line { file: file.to_owned(), line, source }
        })?;
    }
    Ok(())
}

fn put(map: &Map, element: &str) -> Result<(), MapArgError> {
    let (key, value) = parse_element(element)?;
    Ok(map.update(&key, &value, UpdateMode::Any)?)
}

/// The elements of a file, with the numbers of their lines.
fn elements(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..)
        .zip(text.lines())
        .map(|(number, line)| (number, line.split('#').next().unwrap_or_default().trim()))
        .filter(|(_, element)| !element.is_empty())
}

fn parse_element(element: &str) -> Result<(Vec<u8>, Vec<u8>), MapArgError> {
    let (key, value) =
        element.split_once(':').ok_or_else(|| MapArgError::NoColon(element.to_owned()))?;
    let bytes = |what, text| hex::decode(text).map_err(|source| MapArgError::Hex { what, source });
    Ok((bytes("key", key)?, bytes("value", value)?))
}

#[cfg(test)]
mod tests {
    use ebpf_runtime::isa::uapi::{MapDesc, MapType};

    use super::*;

    fn maps() -> Vec<Arc<Map>> {
        let desc = MapDesc {
            map_type: MapType::Hash,
            key_size: 2,
            value_size: 1,
            max_entries: 2,
            flags: 0,
        };
        vec![Arc::new(Map::new("ports", desc).unwrap()), Arc::new(Map::new("hosts", desc).unwrap())]
    }

    fn error(argument: &str) -> String {
        apply(argument, &maps()).unwrap_err().to_string()
    }

    #[test]
    fn an_element_goes_into_the_map_of_that_name() {
        let maps = maps();
        apply("hosts=0102:ff", &maps).unwrap();
        assert_eq!(maps[1].elements(), [(vec![1, 2], vec![0xff])]);
        assert_eq!(maps[0].elements(), []);
    }

    #[test]
    fn lines_of_a_file() {
        let text = "# blocked\n0102:ff # a host\n\n 0304:00 \n";
        assert_eq!(elements(text).collect::<Vec<_>>(), [(2, "0102:ff"), (4, "0304:00")]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let syntax = "expected NAME=KEYHEX:VALHEX or NAME=@FILE";
        assert_eq!(error("hosts"), syntax);
        assert_eq!(error("=0102:ff"), syntax);
        assert_eq!(error("hosts="), syntax);
        assert_eq!(error("hosts=0102"), "expected KEYHEX:VALHEX, found `0102`");
        assert_eq!(error("hosts=01x2:ff"), "key: Invalid character 'x' at position 2");
        assert_eq!(error("hosts=0102:f"), "value: Odd number of digits");
        assert_eq!(error("hosts=01:ff"), "the key has 1 bytes, the map's has 2");
        assert_eq!(error("users=0102:ff"), "the program has no map users; it has: ports, hosts");
        assert_eq!(error("hosts=@/no/file"), "/no/file: No such file or directory");
    }
}
