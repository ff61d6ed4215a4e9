//! The axes of the encoding, one table each.
//!
//! A BPF opcode is a product: class × operation × source for arithmetic and jumps, class × size ×
//! mode for memory (RFC 9669, sections 4 and 5). Each axis is one table here; there is no list of
//! whole opcodes anywhere.

/// Defines an axis: an enum whose rows are `Variant = code, "mnemonic"`. A code is a token tree, so
/// that it is an expression one way and a pattern the other way.
macro_rules! axis {
    ($(#[$meta:meta])* $name:ident: $code:ty { $($(#[$row_meta:meta])* $row:ident = $value:tt, $text:literal;)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$row_meta])* $row,)* }

        impl $name {
            /// Every row of the table.
            pub const ALL: &'static [Self] = &[$(Self::$row),*];

            /// The bits that select this row.
            #[inline]
            #[must_use]
            pub const fn code(self) -> $code {
                match self { $(Self::$row => $value,)* }
            }

            /// How the row is written in text.
            #[inline]
            #[must_use]
            pub const fn mnemonic(self) -> &'static str {
                match self { $(Self::$row => $text,)* }
            }

            /// The row with these bits.
            #[inline]
            #[must_use]
            pub const fn from_code(code: $code) -> Option<Self> {
                match code {
                    $($value => Some(Self::$row),)*
                    _ => None,
                }
            }

            /// The row with this spelling.
            #[must_use]
            pub fn from_mnemonic(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|row| row.mnemonic() == text)
            }
        }
    };
}

axis! {
    /// Instruction class: the low three bits of the opcode (RFC 9669, section 3.1).
    Class: u8 {
        /// Non-standard loads: wide immediates and packet loads.
        Ld = 0x00, "ld";
        /// Load into a register.
        Ldx = 0x01, "ldx";
        /// Store an immediate.
        St = 0x02, "st";
        /// Store a register.
        Stx = 0x03, "stx";
        /// 32-bit arithmetic.
        Alu = 0x04, "alu";
        /// 64-bit jumps.
        Jmp = 0x05, "jmp";
        /// 32-bit jumps.
        Jmp32 = 0x06, "jmp32";
        /// 64-bit arithmetic.
        Alu64 = 0x07, "alu64";
    }
}

/// Mask of the class bits in an opcode.
pub const CLASS_MASK: u8 = 0x07;
/// Mask of the operation bits in the opcode of an arithmetic or jump instruction.
pub const OPERATION_MASK: u8 = 0xf0;
/// The source bit of arithmetic and jump opcodes: set where the source is a register.
pub const SOURCE_REG: u8 = 0x08;
/// Mask of the size bits in the opcode of a memory instruction.
pub const SIZE_MASK: u8 = 0x18;
/// Mask of the mode bits in the opcode of a memory instruction.
pub const MODE_MASK: u8 = 0xe0;

axis! {
    /// Binary arithmetic (RFC 9669, section 4.1), as `(operation bits, offset)`: the signed
    /// division and remainder are `DIV` and `MOD` with an offset of 1.
    AluOp: (u8, i16) {
        /// Addition.
        Add = (0x00, 0), "+=";
        /// Subtraction.
        Sub = (0x10, 0), "-=";
        /// Multiplication.
        Mul = (0x20, 0), "*=";
        /// Unsigned division; by zero gives 0.
        Div = (0x30, 0), "/=";
        /// Signed division, truncating; by zero gives 0, `MIN / -1` gives `MIN`.
        SDiv = (0x30, 1), "s/=";
        /// Bitwise or.
        Or = (0x40, 0), "|=";
        /// Bitwise and.
        And = (0x50, 0), "&=";
        /// Shift left; the count is masked to the width.
        Lsh = (0x60, 0), "<<=";
        /// Logical shift right; the count is masked to the width.
        Rsh = (0x70, 0), ">>=";
        /// Unsigned remainder; by zero leaves the dividend.
        Mod = (0x90, 0), "%=";
        /// Signed remainder, with the sign of the dividend; by zero leaves the dividend.
        SMod = (0x90, 1), "s%=";
        /// Bitwise exclusive or.
        Xor = (0xa0, 0), "^=";
        /// Arithmetic shift right; the count is masked to the width.
        Arsh = (0xc0, 0), "s>>=";
    }
}

/// Operation bits of the unary arithmetic instructions.
pub mod unary {
    /// Negation.
    pub const NEG: u8 = 0x80;
    /// Move, with or without sign extension; with offset 1, an address-space cast.
    pub const MOV: u8 = 0xb0;
    /// Byte swap.
    pub const END: u8 = 0xd0;
}

axis! {
    /// Comparison of a conditional jump (RFC 9669, section 4.3).
    CmpOp: u8 {
        /// Equal.
        Eq = 0x10, "==";
        /// Unsigned greater.
        Gt = 0x20, ">";
        /// Unsigned greater or equal.
        Ge = 0x30, ">=";
        /// Any common bit set.
        Set = 0x40, "&";
        /// Not equal.
        Ne = 0x50, "!=";
        /// Signed greater.
        Sgt = 0x60, "s>";
        /// Signed greater or equal.
        Sge = 0x70, "s>=";
        /// Unsigned less.
        Lt = 0xa0, "<";
        /// Unsigned less or equal.
        Le = 0xb0, "<=";
        /// Signed less.
        Slt = 0xc0, "s<";
        /// Signed less or equal.
        Sle = 0xd0, "s<=";
    }
}

impl CmpOp {
    /// The comparison that holds exactly where this one does not; [`CmpOp::Set`] has none.
    #[inline]
    #[must_use]
    pub const fn inverse(self) -> Option<Self> {
        Some(match self {
            Self::Eq => Self::Ne,
            Self::Ne => Self::Eq,
            Self::Gt => Self::Le,
            Self::Le => Self::Gt,
            Self::Ge => Self::Lt,
            Self::Lt => Self::Ge,
            Self::Sgt => Self::Sle,
            Self::Sle => Self::Sgt,
            Self::Sge => Self::Slt,
            Self::Slt => Self::Sge,
            Self::Set => return None,
        })
    }

    /// The comparison that holds when its operands change places, exactly where this one does.
    #[inline]
    #[must_use]
    pub const fn mirrored(self) -> Self {
        match self {
            Self::Gt => Self::Lt,
            Self::Lt => Self::Gt,
            Self::Ge => Self::Le,
            Self::Le => Self::Ge,
            Self::Sgt => Self::Slt,
            Self::Slt => Self::Sgt,
            Self::Sge => Self::Sle,
            Self::Sle => Self::Sge,
            Self::Eq | Self::Ne | Self::Set => self,
        }
    }
}

/// Operation bits of the jump instructions that compare nothing.
pub mod jump {
    /// Unconditional jump; in class `JMP32`, with a 32-bit offset.
    pub const JA: u8 = 0x00;
    /// Call of a helper, kernel function or subprogram.
    pub const CALL: u8 = 0x80;
    /// Return.
    pub const EXIT: u8 = 0x90;
    /// `may_goto` of Linux 6.9 and later.
    pub const COND: u8 = 0xe0;
}

axis! {
    /// Width of a memory access (RFC 9669, section 5).
    Size: u8 {
        /// 4 bytes.
        W = 0x00, "u32";
        /// 2 bytes.
        H = 0x08, "u16";
        /// 1 byte.
        B = 0x10, "u8";
        /// 8 bytes.
        Dw = 0x18, "u64";
    }
}

impl Size {
    /// Number of bytes, 1 to 8.
    #[must_use]
    pub const fn bytes(self) -> u8 {
        match self {
            Self::B => 1,
            Self::H => 2,
            Self::W => 4,
            Self::Dw => 8,
        }
    }

    /// Number of bits, 8 to 64.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.bytes() * 8
    }

    /// The size with this many bytes.
    #[must_use]
    pub fn from_bytes(bytes: u64) -> Option<Self> {
        Self::ALL.iter().copied().find(|size| u64::from(size.bytes()) == bytes)
    }
}

axis! {
    /// Mode of a memory instruction (RFC 9669, section 5).
    Mode: u8 {
        /// 64-bit immediate.
        Imm = 0x00, "imm";
        /// Packet load at a constant offset.
        Abs = 0x20, "abs";
        /// Packet load at a register's offset.
        Ind = 0x40, "ind";
        /// Plain load or store.
        Mem = 0x60, "mem";
        /// Sign-extending load.
        MemSx = 0x80, "memsx";
        /// Atomic operation.
        Atomic = 0xc0, "atomic";
    }
}

axis! {
    /// Read-modify-write operation, by `imm` without the fetch flag (RFC 9669, section 5.3).
    AtomicOp: i32 {
        /// Addition.
        Add = 0x00, "add";
        /// Bitwise or.
        Or = 0x40, "or";
        /// Bitwise and.
        And = 0x50, "and";
        /// Bitwise exclusive or.
        Xor = 0xa0, "xor";
        /// Exchange; always fetches.
        Xchg = 0xe0, "xchg";
        /// Compare with `r0` and exchange; the old value goes to `r0`; always fetches.
        Cmpxchg = 0xf0, "cmpxchg";
    }
}

impl AtomicOp {
    /// Whether the operation exists only in its fetching form.
    #[must_use]
    pub const fn always_fetches(self) -> bool {
        matches!(self, Self::Xchg | Self::Cmpxchg)
    }
}

/// `imm` of the instructions of mode `ATOMIC` that are no read-modify-write, and the fetch flag.
pub mod atomic {
    /// Flag: the old value goes to the source register.
    pub const FETCH: i32 = 0x01;
    /// Load-acquire (Linux 6.15 and later).
    pub const LOAD_ACQUIRE: i32 = 0x100;
    /// Store-release (Linux 6.15 and later).
    pub const STORE_RELEASE: i32 = 0x110;
}

axis! {
    /// What a byte swap instruction does (RFC 9669, section 4.2), as (class, source bit).
    ByteOrder: (Class, bool) {
        /// Host order to little-endian and back.
        Le = (Class::Alu, false), "le";
        /// Host order to big-endian and back.
        Be = (Class::Alu, true), "be";
        /// Swap unconditionally.
        Swap = (Class::Alu64, false), "bswap";
    }
}

/// Width of arithmetic and comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Width {
    /// The low 32 bits; results are zero-extended.
    W32,
    /// All 64 bits.
    W64,
}

impl Width {
    /// 32 or 64.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::W32 => 32,
            Self::W64 => 64,
        }
    }

    /// The class of arithmetic instructions of this width.
    #[must_use]
    pub const fn alu_class(self) -> Class {
        match self {
            Self::W32 => Class::Alu,
            Self::W64 => Class::Alu64,
        }
    }

    /// The class of conditional jumps of this width.
    #[must_use]
    pub const fn jmp_class(self) -> Class {
        match self {
            Self::W32 => Class::Jmp32,
            Self::W64 => Class::Jmp,
        }
    }

    /// The letter of a register of this width in text.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::W32 => 'w',
            Self::W64 => 'r',
        }
    }
}

/// How a narrow load fills its register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Extend {
    /// With zeroes.
    Zero,
    /// With copies of the sign bit.
    Sign,
}

/// What the source field of a wide load says (RFC 9669, section 5.4).
pub mod wide {
    /// A 64-bit immediate.
    pub const IMM: u8 = 0;
    /// A map, by file descriptor.
    pub const MAP_FD: u8 = 1;
    /// An address in a map's value, by file descriptor.
    pub const MAP_VALUE_FD: u8 = 2;
    /// The address of a kernel variable, by BTF id.
    pub const BTF_ID: u8 = 3;
    /// The address of a subprogram.
    pub const FUNC: u8 = 4;
    /// A map, by index.
    pub const MAP_IDX: u8 = 5;
    /// An address in a map's value, by index.
    pub const MAP_VALUE_IDX: u8 = 6;
}

/// What the source field of a call says (RFC 9669, section 4.3.1).
pub mod call {
    /// A helper, by number.
    pub const HELPER: u8 = 0;
    /// A subprogram, by offset.
    pub const SUBPROG: u8 = 1;
    /// A kernel function, by BTF id.
    pub const KFUNC: u8 = 2;
}
