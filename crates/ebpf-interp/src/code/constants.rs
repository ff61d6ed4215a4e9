//! From values to constants: handlers are types, and what they differ in is known to the compiler.

/// Evaluates an expression, behind `=>`, with constants that have the values of variables: a `match`
/// on each of them. `None` for values that are not listed.
macro_rules! with_constants {
    (=> $then:expr) => {
        Some($then)
    };
    ($name:ident: Size = $value:expr, $($rest:tt)*) => {
        with_constants!($name: Size [B H W Dw] = $value, $($rest)*)
    };
    ($name:ident: Width = $value:expr, $($rest:tt)*) => {
        with_constants!($name: bool [false true] = $value == Width::W64, $($rest)*)
    };
    ($name:ident: $integer:ident [$($row:literal)*] = $value:expr, $($rest:tt)*) => {
        with_constants!(@match $value, $name: $integer, [$($row => $row,)*], { $($rest)* })
    };
    ($name:ident: $axis:ident [$($row:ident)*] = $value:expr, $($rest:tt)*) => {
        with_constants!(@match $value, $name: usize,
            [$($axis::$row => $axis::$row as usize,)*], { $($rest)* })
    };
    (@match $value:expr, $name:ident: $type:ty, [$($row:pat => $constant:expr,)*], $rest:tt) => {
        match $value {
            $($row => {
                const $name: $type = $constant;
                with_constants!(@then $rest)
            })*
            #[allow(unreachable_patterns, reason = "some lists are whole axes")]
            _ => None,
        }
    };
    (@then { $($rest:tt)* }) => {
        with_constants!($($rest)*)
    };
}

/// The handlers of a body that accesses memory, for registers in some slots.
macro_rules! by_mode {
    ($self:ident.$places:ident($slots:expr), $body:ident $(, $constant:expr)*) => {
        Handlers {
            checked: $self.dispatcher.$places::<$body<CheckedMode $(, $constant)*>>($slots),
            unchecked: $self.dispatcher.$places::<$body<UncheckedMode $(, $constant)*>>($slots),
        }
    };
}

pub(super) use {by_mode, with_constants};
