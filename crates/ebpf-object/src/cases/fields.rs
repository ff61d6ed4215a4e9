//! Fields of JSON objects, with typed errors.

use serde_json::{Map, Value};

use super::CaseProblem;

/// The fields of a JSON object. A field that is null counts as absent.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(&'a Map<String, Value>);

type Field<T> = Result<T, CaseProblem>;

fn wrong(field: &'static str, expected: &'static str) -> CaseProblem {
    CaseProblem::Wrong { field, expected }
}

impl<'a> Fields<'a> {
    /// The fields of a line.
    pub(super) fn of(value: &'a Value) -> Field<Self> {
        let not_an_object = CaseProblem::Json { reason: "the line is not an object".into() };
        value.as_object().map(Fields).ok_or(not_an_object)
    }

    pub(super) fn get(&self, field: &str) -> Option<&'a Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    /// Reads a field by `read`, which gives `None` for what is not `expected`.
    fn typed<T>(
        &self,
        field: &'static str,
        expected: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Field<Option<T>> {
        self.get(field).map(|value| read(value).ok_or_else(|| wrong(field, expected))).transpose()
    }

    pub(super) fn string(&self, field: &'static str) -> Field<Option<&'a str>> {
        self.typed(field, "text", Value::as_str)
    }

    /// A number of 32 bits, which may be written as a negative one.
    pub(super) fn number(&self, field: &'static str) -> Field<Option<u32>> {
        self.typed(field, "a number of 32 bits", number)
    }

    pub(super) fn wide_number(&self, field: &'static str) -> Field<Option<u64>> {
        self.typed(field, "a number of 64 bits", Value::as_u64)
    }

    pub(super) fn signed(&self, field: &'static str) -> Field<Option<i64>> {
        self.typed(field, "a signed number", Value::as_i64)
    }

    /// A flag, which may be written as a number.
    pub(super) fn flag(&self, field: &'static str) -> Field<bool> {
        let flag = self.typed(field, "true or false", |value| {
            value.as_bool().or_else(|| value.as_u64().map(|number| number != 0))
        })?;
        Ok(flag.unwrap_or(false))
    }

    /// Bytes in hexadecimal, with blanks between them or not.
    pub(super) fn hex(&self, field: &'static str) -> Field<Option<Vec<u8>>> {
        self.typed(field, "bytes in hexadecimal", |value| hex(value.as_str()?))
    }

    fn array(&self, field: &'static str) -> Field<&'a [Value]> {
        let array = self.typed(field, "an array", Value::as_array)?;
        Ok(array.map_or(&[], Vec::as_slice))
    }

    pub(super) fn object(&self, field: &'static str) -> Field<Option<Fields<'a>>> {
        self.typed(field, "an object", |value| value.as_object().map(Fields))
    }

    /// The objects of an array, each read by `read`.
    pub(super) fn objects<T>(
        &self,
        field: &'static str,
        read: impl Fn(&Fields<'a>) -> Field<T>,
    ) -> Field<Vec<T>> {
        let objects = self.array(field)?.iter();
        objects
            .map(|value| {
                let object = value.as_object().map(Fields);
                read(&object.ok_or_else(|| wrong(field, "an array of objects"))?)
            })
            .collect()
    }

    /// `[[1, 2], …]`
    pub(super) fn pairs(&self, field: &'static str) -> Field<Vec<(u32, u32)>> {
        self.two(field, "an array of pairs of numbers", number)
    }

    /// `[[1, "name"], …]`
    pub(super) fn named_slots(&self, field: &'static str) -> Field<Vec<(u32, String)>> {
        self.two(field, "an array of pairs of a slot and a name", |value| {
            value.as_str().map(str::to_owned)
        })
    }

    fn two<T>(
        &self,
        field: &'static str,
        expected: &'static str,
        second: impl Fn(&Value) -> Option<T>,
    ) -> Field<Vec<(u32, T)>> {
        let pair = |value: &Value| match value.as_array()?.as_slice() {
            [slot, rest, ..] => Some((number(slot)?, second(rest)?)),
            _ => None,
        };
        let values = self.array(field)?.iter();
        values.map(|value| pair(value).ok_or_else(|| wrong(field, expected))).collect()
    }
}

fn number(value: &Value) -> Option<u32> {
    let number = value.as_i64()?;
    u32::try_from(number).ok().or_else(|| i32::try_from(number).ok().map(i32::cast_unsigned))
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 2);
    let mut digits = text.chars().filter(|c| !c.is_ascii_whitespace());
    while let Some(high) = digits.next() {
        let (high, low) = (high.to_digit(16)?, digits.next()?.to_digit(16)?);
        bytes.push((high << 4 | low) as u8);
    }
    Some(bytes)
}
