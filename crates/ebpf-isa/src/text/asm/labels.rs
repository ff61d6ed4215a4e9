//! Where labels lead.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::cursor::{Cursor, Result};
use super::error::Expected;
use crate::Pc;

/// How names of labels start that compilers make up: `.Lfunc_end0`.
const TEMPORARY: &str = ".L";

/// The labels of a text.
#[derive(Debug, Default)]
pub(super) struct Labels<'t> {
    by_name: BTreeMap<&'t str, Label>,
    /// The first label of each position that has one; one that a compiler made up gives way.
    by_position: BTreeMap<Pc, &'t str>,
    /// Where the exits are, in order.
    exits: Vec<Pc>,
    /// Set in the first reading of a text, when every label is taken to lead to the entry.
    unknown: bool,
}

/// How often a label is defined. Twice is no harm until somebody goes there: the names of static
/// functions need not be unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Label {
    Once(Pc),
    Several,
}

impl<'t> Labels<'t> {
    /// Of a text that has not been read yet.
    pub(super) const UNKNOWN: Self = Self {
        by_name: BTreeMap::new(),
        by_position: BTreeMap::new(),
        exits: Vec::new(),
        unknown: true,
    };

    pub(super) fn define(&mut self, name: &'t str, at: Pc) {
        self.by_name
            .entry(name)
            .and_modify(|label| *label = Label::Several)
            .or_insert(Label::Once(at));
        let named = self.by_position.entry(at).or_insert(name);
        if named.starts_with(TEMPORARY) {
            *named = name;
        }
    }

    /// Takes note of an exit, which is behind those that were noted before.
    pub(super) fn note_exit(&mut self, at: Pc) {
        self.exits.push(at);
    }

    /// The next exit from `at` on, or if none follows the last one.
    pub(super) fn exit_from(&self, at: Pc) -> Option<Pc> {
        let next = self.exits.partition_point(|&exit| exit < at);
        self.exits.get(next).or(self.exits.last()).copied()
    }

    /// Whether the text has this label, as far as is known.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// The first label at a position.
    pub(super) fn name_at(&self, pc: Pc) -> Option<&'t str> {
        self.by_position.get(&pc).copied()
    }

    /// Reads a label and says where it leads.
    pub(super) fn read(&self, cursor: &mut Cursor<'_>) -> Result<Pc> {
        let start = *cursor;
        let name = cursor.word(Expected::Target)?;
        match self.by_name.get(name) {
            _ if self.unknown => Ok(Pc::ENTRY),
            Some(&Label::Once(pc)) => Ok(pc),
            Some(Label::Several) => Err(start.error(Expected::UniqueLabel)),
            None => Err(start.error(Expected::DefinedLabel)),
        }
    }
}
