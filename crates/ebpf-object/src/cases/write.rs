//! From a case to its line.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::{Case, CaseBtf, CaseMap, CaseMapProgram, CaseRun, Judged, MapTypes};

impl Case {
    /// The line that [`Case::parse`] reads it from: one JSON object, without a newline.
    #[must_use]
    pub fn to_line(&self) -> String {
        let bytes = self.slots.iter().flat_map(|slot| slot.to_bytes());
        let mut line = json!({
            "id": self.id, "prog_type": self.program_type, "attach_type": self.attach_type,
            "flags": self.flags, "license": self.license, "insns": hex(bytes),
            "maps": self.maps.iter().map(map).collect::<Vec<_>>(),
            "map_refs": self.map_refs, "kfunc_refs": self.kfunc_refs,
            "func_info": self.func_info, "attach_func": self.attach_func,
            "runs": self.runs.iter().map(run).collect::<Vec<_>>(),
        });
        match &self.btf {
            None => {}
            Some(CaseBtf::Bytes(bytes)) => line["btf_hex"] = hex(bytes.iter().copied()).into(),
            Some(CaseBtf::File(path)) => line["btf_file"] = path.to_string_lossy().into(),
        }
        let fields = line.as_object_mut().into_iter();
        fields.zip(&self.judged).for_each(|(fields, judged)| put_judged(fields, judged));
        line.to_string()
    }
}

fn put_judged(line: &mut Map<String, Value>, judged: &Judged) {
    let Judged { accepted, errno, processed, states, message } = judged;
    let verdict = if *accepted { "accept" } else { "reject" };
    let fields = [
        ("verdict", verdict.into()),
        ("errno", (*errno).into()),
        ("processed", (*processed).into()),
        ("total_states", states.map(|states| states.total).into()),
        ("peak_states", states.map(|states| states.peak).into()),
        ("msg", message.clone().into()),
    ];
    line.extend(fields.map(|(name, value)| (name.to_owned(), value)));
}

fn map(map: &CaseMap) -> Value {
    let init = map.init.iter().map(|(key, value)| {
        json!({"key": hex(key.iter().copied()), "value": hex(value.iter().copied())})
    });
    let mut fields = json!({
        "name": map.name, "type": map.map_type, "key": map.key_size, "value": map.value_size,
        "max": map.max_entries, "flags": map.flags, "extra": map.extra, "frozen": map.frozen,
        "held": map.held.iter().map(|key| json!({"key": hex(key.iter().copied())})).collect::<Vec<_>>(),
        "init": init.collect::<Vec<_>>(),
        "progs": map.programs.iter().map(program).collect::<Vec<_>>(),
        "inner": map.inner.as_deref().map(self::map),
    });
    match &map.types {
        MapTypes::None => {}
        MapTypes::OfProgram { key, value } => {
            fields["has_btf"] = true.into();
            fields["obj_btf_key"] = (*key).into();
            fields["obj_btf_value"] = (*value).into();
        }
        MapTypes::Own { btf, key, value } => {
            fields["btf_hex"] = hex(btf.iter().copied()).into();
            fields["btf_key"] = (*key).into();
            fields["btf_value"] = (*value).into();
        }
    }
    fields
}

fn program(CaseMapProgram { key, tail, ret }: &CaseMapProgram) -> Value {
    json!({"key": key, "tail": tail, "ret": ret})
}

fn run(CaseRun { data, retval }: &CaseRun) -> Value {
    json!({"data": hex(data.iter().copied()), "retval": retval})
}

fn hex(bytes: impl Iterator<Item = u8>) -> String {
    bytes.fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to text does not fail");
        text
    })
}
