//! What payloads there are, as data.

use super::ErrorCode;

macro_rules! payloads {
    ($(
        $(#[$meta:meta])*
        $variant:ident $({ $($field:ident: $type:ty = $about:literal,)* })? => $code:ident;
    )*) => {
        /// The rule that a program breaks, and the numbers that break it. The text is the kernel's
        /// last line.
        ///
        /// A `kind` is what the kernel calls values of some kind: `scalar`, `ctx`, `fp`, `pkt`,
        /// `map_value_or_null`. Sizes and offsets are in bytes.
        ///
        /// As data it is `{"rule": "JumpRange", "fields": {"from": 1, "target": 9}}`, without `fields`
        /// where the rule has none.
        #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
        #[cfg_attr(
            feature = "serde",
            derive(serde::Serialize),
            serde(tag = "rule", content = "fields")
        )]
        #[non_exhaustive]
        pub enum Payload {
            $($(#[$meta])* $variant $({ $(#[doc = $about] $field: $type,)* })?,)*
        }

        impl Payload {
            /// What payloads there are.
            pub const KINDS: &'static [$crate::PayloadKind] = &[$($crate::PayloadKind {
                name: stringify!($variant),
                code: $crate::ErrorCode::$code,
                fields: &[$($(stringify!($field)),*)?],
            }),*];

            /// The code that programs are rejected with.
            #[must_use]
            pub const fn code(&self) -> $crate::ErrorCode {
                match self { $(Self::$variant { .. } => $crate::ErrorCode::$code,)* }
            }

            /// The name of the variant.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self { $(Self::$variant { .. } => stringify!($variant),)* }
            }
        }
    };
}

/// What a variant of [`Payload`](crate::Payload) consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadKind {
    /// Name of the variant.
    pub name: &'static str,
    /// The code that programs are rejected with.
    pub code: ErrorCode,
    /// Names of the fields.
    pub fields: &'static [&'static str],
}

pub(super) use payloads;
