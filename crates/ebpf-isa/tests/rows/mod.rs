//! The tables of `fixtures/semantics`, as the tests of the operations and of the engines read them.

use ebpf_isa::{AluOp, AtomicOp, ByteOrder, CmpOp, Extend, Size, Width};

/// `dst op src`.
#[derive(Debug)]
pub(crate) struct Alu {
    pub(crate) op: AluOp,
    pub(crate) width: Width,
    pub(crate) dst: u64,
    pub(crate) src: u64,
    pub(crate) expected: u64,
}

/// An operation on one value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum UnaryOp {
    Mov(Width),
    MovSx(Width, Size),
    Neg(Width),
    Swap(ByteOrder, Size),
}

#[derive(Debug)]
pub(crate) struct Unary {
    pub(crate) op: UnaryOp,
    pub(crate) operand: u64,
    pub(crate) expected: u64,
}

/// A pair of operands, and which comparisons hold for it.
#[derive(Debug)]
pub(crate) struct Compare {
    pub(crate) width: Width,
    pub(crate) lhs: u64,
    pub(crate) rhs: u64,
    pub(crate) hold: Vec<CmpOp>,
}

#[derive(Debug)]
pub(crate) struct Atomic {
    pub(crate) op: AtomicOp,
    pub(crate) size: Size,
    pub(crate) before: u64,
    pub(crate) src: u64,
    pub(crate) r0: u64,
    pub(crate) after: u64,
}

#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) size: Size,
    pub(crate) extend: Extend,
    pub(crate) memory: u64,
    pub(crate) expected: u64,
}

#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) size: Size,
    pub(crate) before: u64,
    pub(crate) src: u64,
    pub(crate) after: u64,
}

const WIDTHS: [Width; 2] = [Width::W32, Width::W64];
const SIZES: [Size; 3] = [Size::H, Size::W, Size::Dw];

impl UnaryOp {
    /// Every one, with its name in the table.
    pub(crate) fn all() -> Vec<(String, Self)> {
        let mut all = Vec::new();
        for width in WIDTHS {
            all.push((format!("mov{}", width.bits()), Self::Mov(width)));
            all.push((format!("neg{}", width.bits()), Self::Neg(width)));
        }
        let narrow = [(Width::W32, Size::B), (Width::W32, Size::H), (Width::W64, Size::B)];
        for (width, from) in
            narrow.into_iter().chain([(Width::W64, Size::H), (Width::W64, Size::W)])
        {
            let name = format!("movsx{}to{}", from.bits(), width.bits());
            all.push((name, Self::MovSx(width, from)));
        }
        for &order in ByteOrder::ALL {
            let name = |size: Size| format!("{}{}", order.mnemonic(), size.bits());
            all.extend(SIZES.map(|size| (name(size), Self::Swap(order, size))));
        }
        all
    }
}

pub(crate) fn alu() -> Vec<Alu> {
    rows("alu", |row| Alu {
        op: row.axis(AluOp::from_mnemonic),
        width: row.axis(width),
        dst: row.value(),
        src: row.value(),
        expected: row.value(),
    })
}

pub(crate) fn unary() -> Vec<Unary> {
    let all = UnaryOp::all();
    let op = |text: &str| all.iter().find(|(name, _)| name == text).map(|&(_, op)| op);
    rows("unary", |row| Unary { op: row.axis(op), operand: row.value(), expected: row.value() })
}

pub(crate) fn compare() -> Vec<Compare> {
    rows("compare", |row| Compare {
        width: row.axis(width),
        lhs: row.value(),
        rhs: row.value(),
        hold: std::iter::from_fn(|| row.next().map(|text| row.parse(text, CmpOp::from_mnemonic)))
            .collect(),
    })
}

pub(crate) fn atomic() -> Vec<Atomic> {
    rows("atomic", |row| Atomic {
        op: row.axis(AtomicOp::from_mnemonic),
        size: row.axis(Size::from_mnemonic),
        before: row.value(),
        src: row.value(),
        r0: row.value(),
        after: row.value(),
    })
}

pub(crate) fn load() -> Vec<Load> {
    let zero = |text: &str| Size::from_mnemonic(text).map(|size| (size, Extend::Zero));
    let sign = |text: &str| {
        let size = Size::from_mnemonic(&text.replace('s', "u"))?;
        text.starts_with('s').then_some((size, Extend::Sign))
    };
    rows("load", |row| {
        let (size, extend) = row.axis(|text| zero(text).or_else(|| sign(text)));
        Load { size, extend, memory: row.value(), expected: row.value() }
    })
}

pub(crate) fn store() -> Vec<Store> {
    rows("store", |row| Store {
        size: row.axis(Size::from_mnemonic),
        before: row.value(),
        src: row.value(),
        after: row.value(),
    })
}

fn width(text: &str) -> Option<Width> {
    WIDTHS.into_iter().find(|width| width.bits().to_string() == text)
}

/// A line of a table, read column by column.
struct Row<'a> {
    line: &'a str,
    columns: std::str::SplitWhitespace<'a>,
}

impl<'a> Row<'a> {
    fn next(&mut self) -> Option<&'a str> {
        self.columns.next()
    }

    fn parse<T>(&self, text: &str, parse: impl FnOnce(&str) -> Option<T>) -> T {
        parse(text).unwrap_or_else(|| panic!("`{text}` in `{}`", self.line))
    }

    fn axis<T>(&mut self, parse: impl FnOnce(&str) -> Option<T>) -> T {
        let text = self.next().unwrap_or_default();
        self.parse(text, parse)
    }

    fn value(&mut self) -> u64 {
        self.axis(|text| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok())
    }
}

fn rows<T>(name: &str, mut read: impl FnMut(&mut Row<'_>) -> T) -> Vec<T> {
    let path = ebpf_testkit::fixtures_dir().join("semantics").join(name).with_extension("txt");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let rows: Vec<T> = lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            let mut row = Row { line, columns: line.split_whitespace() };
            let value = read(&mut row);
            assert_eq!(row.next(), None, "too many columns: `{line}`");
            value
        })
        .collect();
    assert!(!rows.is_empty(), "{path:?} has no rows");
    rows
}
