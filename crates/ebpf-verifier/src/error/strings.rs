//! Rules of strings and of sleep, in a file of their own.

/// Payloads, and behind them those of strings and of sleep.
macro_rules! and_strings {
    ($($rules:tt)*) => {
        payloads! {
            $($rules)*

            /// A helper that may sleep, called by a program that may not.
            #[error("helper call might sleep in a non-sleepable prog")]
            HelperSleeps {
                helper: HelperId = "The helper.",
            } => HelperSleeps;

            /// A program of a type that may not sleep, to be loaded as one that may.
            #[error("Only fentry/fexit/fmod_ret, lsm, iter, uprobe, and struct_ops programs can be sleepable")]
            Sleepable {
                program_type: ProgramType = "The type.",
            } => SleepableType;

            /// A program that processes run, and that is not to be one that may sleep.
            #[error("Syscall programs can only be sleepable")]
            SyscallAwake => SleepableType;

            /// A map that programs that may sleep must not use.
            #[error("Sleepable programs can only use array, hash, ringbuf and local storage maps")]
            SleepableMap {
                map: MapIdx = "The map.",
            } => SleepableMap;

            /// A string in a map that others may write.
            #[error("R{} does not point to a readonly map'", register.number())]
            StringWritable {
                register: Reg = "The argument.",
            } => HelperArgument;

            /// A string that may begin at several places.
            #[error("R{} is not a constant address'", register.number())]
            StringPlace {
                register: Reg = "The argument.",
            } => HelperArgument;

            /// A string in an array of several elements.
            #[error("direct value access on string failed")]
            StringElements {
                map: MapIdx = "The map.",
            } => StringElements;

            /// A string without end.
            #[error("string is not zero-terminated")]
            StringEnd {
                register: Reg = "The argument.",
            } => HelperString;

            /// A format that is none, or that asks for more numbers than there are.
            #[error("Invalid format string")]
            FormatString {
                arguments: u64 = "How many numbers there are.",
            } => HelperString;
        }
    };
}

pub(super) use and_strings;
