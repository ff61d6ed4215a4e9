//! Kernel profiles as files: JSON, as `ebpf profile probe` prints them.

use std::borrow::Cow;
use std::path::Path;

use ebpf_runtime::isa::uapi::{HelperId, MapType, ProgramType};
use ebpf_runtime::kernel::Probe;
use ebpf_runtime::verifier::{Feature, Features, KernelProfile, TypeHelpers, Version};
use serde_json::{Map, Value, json};

use crate::error::{CliError, InFile};
use crate::read;

/// Why a file is no profile.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum ProfileError {
    /// Not JSON, or not an object.
    #[error("not a profile: {0}")]
    Json(String),
    /// A field that is missing or of the wrong kind.
    #[error("profile: field `{field}` is not {expected}")]
    Field {
        /// The field.
        field: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A limit that is not a number, 0, or too great.
    #[error("profile: field `limits.{name}` is not a number from 1 to {max}")]
    Limit {
        /// The limit.
        name: &'static str,
        /// The greatest that it may be.
        max: u32,
    },
    /// Something that this version of the verifier does not know.
    #[error("profile: there is no {what} `{name}`")]
    Unknown {
        /// What kind of thing.
        what: &'static str,
        /// What the profile calls it.
        name: String,
    },
}

/// The profile that `--kernel` names: one that is built in, or a file.
pub(crate) fn named(name: Option<&str>) -> Result<KernelProfile, CliError> {
    let default = KernelProfile::default();
    match name {
        None => Ok(default),
        Some(name) if name == default.name => Ok(default),
        Some(path) => {
            let text = read::text(Path::new(path)).in_file(path)?;
            parse(&text).in_file(path)
        }
    }
}

/// What a kernel is like, as JSON. The last two fields are for people: the verifier has its own
/// lists of program and map types.
pub(crate) fn print(probe: &Probe) -> Value {
    let mut value = print_profile(&probe.profile);
    value["program_types"] = probe.program_types.iter().map(|ty| ty.name()).collect();
    value["map_types"] = probe.map_types.iter().map(|ty: &MapType| ty.name()).collect();
    value
}

fn print_profile(profile: &KernelProfile) -> Value {
    let limits: Map<String, Value> =
        profile.limits().into_iter().map(|(name, limit)| (name.into(), limit.into())).collect();
    let features = Feature::ALL.iter().filter(|&&feature| profile.features.has(feature));
    let helpers = profile.helpers.iter().map(|TypeHelpers { program_type, helpers }| {
        let ids: Value = helpers.iter().map(|id| id.0).collect();
        (program_type.name().to_owned(), ids)
    });
    json!({
        "name": profile.name,
        "version": profile.version.to_string(),
        "processors": profile.processors,
        "limits": limits,
        "features": features.map(|feature| feature.name()).collect::<Vec<_>>(),
        "helpers": helpers.collect::<Map<_, _>>(),
    })
}

/// Reads a profile. Every limit must be there, so that none is taken from another kernel.
pub(crate) fn parse(text: &str) -> Result<KernelProfile, ProfileError> {
    let value: Value =
        serde_json::from_str(text).map_err(|error| ProfileError::Json(error.to_string()))?;
    if !value.is_object() {
        return Err(ProfileError::Json("not an object".into()));
    }
    let wrong = |field: &str, expected| ProfileError::Field { field: field.into(), expected };
    let name = value["name"].as_str().ok_or_else(|| wrong("name", "text"))?;
    let version = value["version"].as_str().and_then(Version::parse);
    let processors = match &value["processors"] {
        Value::Null => None,
        number => {
            let number = as_u32(number).filter(|&number| number > 0);
            Some(number.ok_or_else(|| wrong("processors", "a number above 0, or null"))?)
        }
    };
    let mut profile = KernelProfile {
        name: Cow::Owned(name.to_owned()),
        version: version.ok_or_else(|| wrong("version", "a version such as 6.18"))?,
        processors,
        features: features(&value["features"])?,
        helpers: helpers(&value["helpers"])?,
        ..KernelProfile::default()
    };
    for (name, max) in KernelProfile::GREATEST_LIMITS.limits() {
        let number = as_u32(&value["limits"][name]).filter(|number| (1..=max).contains(number));
        let number = number.ok_or(ProfileError::Limit { name, max })?;
        *profile.limit_mut(name).expect("limits are found by their names") = number;
    }
    Ok(profile)
}

fn as_u32(value: &Value) -> Option<u32> {
    value.as_u64()?.try_into().ok()
}

fn features(value: &Value) -> Result<Features, ProfileError> {
    let wrong = || ProfileError::Field { field: "features".into(), expected: "an array of names" };
    let mut features = Features::NONE;
    for name in value.as_array().ok_or_else(wrong)? {
        let name = name.as_str().ok_or_else(wrong)?;
        let unknown = || ProfileError::Unknown { what: "feature", name: name.into() };
        features = features.with(Feature::from_name(name).ok_or_else(unknown)?);
    }
    Ok(features)
}

fn helpers(value: &Value) -> Result<Vec<TypeHelpers>, ProfileError> {
    let wrong =
        || ProfileError::Field { field: "helpers".into(), expected: "arrays of numbers by type" };
    let of_type = |(name, ids): (&String, &Value)| {
        let unknown = || ProfileError::Unknown { what: "program type", name: name.clone() };
        let ids = ids.as_array().ok_or_else(wrong)?.iter();
        let ids = ids.map(|id| as_u32(id).map(HelperId).ok_or_else(wrong));
        Ok(TypeHelpers {
            program_type: ProgramType::from_name(name).ok_or_else(unknown)?,
            helpers: ids.collect::<Result<_, _>>()?,
        })
    };
    value.as_object().ok_or_else(wrong)?.iter().map(of_type).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> KernelProfile {
        KernelProfile {
            name: "linux-6.18.44".into(),
            processors: Some(2),
            max_frames: 7,
            helpers: vec![TypeHelpers {
                program_type: ProgramType::Xdp,
                helpers: vec![HelperId(1), HelperId(23)],
            }],
            ..KernelProfile::default()
        }
    }

    #[test]
    fn what_is_printed_is_read() {
        for profile in [profile(), KernelProfile::default()] {
            assert_eq!(parse(&print_profile(&profile).to_string()), Ok(profile));
        }
    }

    #[test]
    fn errors_say_which_field() {
        let with = |change: &dyn Fn(&mut Value)| {
            let mut value = print_profile(&profile());
            change(&mut value);
            parse(&value.to_string()).unwrap_err().to_string()
        };
        let no_name = with(&|value| value["name"] = Value::Null);
        assert_eq!(no_name, "profile: field `name` is not text");
        let frames = "profile: field `limits.max_frames` is not a number from 1 to 8";
        for frames_max in [json!(0), json!(9), json!(1_u64 << 32), json!(-1), Value::Null] {
            assert_eq!(with(&|value| value["limits"]["max_frames"] = frames_max.clone()), frames);
        }
        let unknown = with(&|value| value["features"][0] = "telepathy".into());
        assert_eq!(unknown, "profile: there is no feature `telepathy`");
        assert!(with(&|value| value["version"] = "x".into()).contains("`version`"));
        assert!(with(&|value| value["processors"] = 0.into()).contains("`processors`"));
        assert!(with(&|value| value["helpers"]["x"] = json!([])).contains("program type `x`"));
        assert!(with(&|value| value["helpers"]["xdp"] = json!([-1])).contains("`helpers`"));
        assert!(parse("[]").unwrap_err().to_string().contains("not an object"));
        assert!(matches!(parse("{"), Err(ProfileError::Json(_))));
    }
}
