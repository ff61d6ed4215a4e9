//! The rules of the domain and what each must be right about, as one table that every check goes
//! through: for all small words, for terms, and with rules that are wrong on purpose.

use ebpf_isa::{AluOp, CmpOp, Width};

use super::reference::{Reference, width_of};
use crate::domain::alu::{difference_from_zero, transfer};
use crate::domain::cmp::{learn, learn_same};
use crate::domain::convert::{reverse_bytes, sign_extend};
use crate::domain::offset::{offset_difference, offset_sum};
use crate::domain::{ScalarOf, branch, fork};

pub(super) const WIDTHS: [Width; 2] = [Width::W32, Width::W64];

pub(super) type Unary<W> = Box<dyn Fn(&ScalarOf<W>) -> ScalarOf<W> + Sync>;
pub(super) type Binary<W> = Box<dyn Fn(&ScalarOf<W>, &ScalarOf<W>) -> ScalarOf<W> + Sync>;
pub(super) type Outcome<W> = Box<dyn Fn(&ScalarOf<W>, &ScalarOf<W>) -> Option<bool> + Sync>;
pub(super) type Learn<W> =
    Box<dyn Fn(&ScalarOf<W>, &ScalarOf<W>) -> (ScalarOf<W>, ScalarOf<W>) + Sync>;
pub(super) type Split<W> = Box<dyn Fn(&ScalarOf<W>) -> Option<(ScalarOf<W>, ScalarOf<W>)> + Sync>;

/// What a rule computes, and of what. Let `x` be any member of its operand, and `y` of the second.
pub(super) enum Claim<W: Reference> {
    /// The scalar has `x` still.
    Keeps(Unary<W>),
    /// The scalar has `x` still, if the condition holds for it.
    KeepsIf(Unary<W>, Box<dyn Fn(W) -> bool + Sync>),
    /// One of the two scalars has `x`.
    Splits(Split<W>),
    /// The scalar has the result for `x`.
    Maps(Unary<W>, Box<dyn Fn(W) -> W + Sync>),
    /// The scalar has the result for `x` and `y`.
    Combines(Binary<W>, Box<dyn Fn(W, W) -> W + Sync>),
    /// The outcome is that of `x` and `y`.
    Decides(Outcome<W>, Box<dyn Fn(W, W) -> bool + Sync>),
    /// The scalars have `x` and `y` still, if the condition holds for them.
    Learns(Learn<W>, Box<dyn Fn(W, W) -> bool + Sync>),
}

pub(super) struct Rule<W: Reference> {
    /// The line of the table of proofs that it belongs to.
    pub(super) operator: &'static str,
    pub(super) name: String,
    pub(super) claim: Claim<W>,
    /// Where a constant is all that is followed as second operand: the constants are those below.
    pub(super) counts: Option<u32>,
}

impl<W: Reference> Rule<W> {
    pub(super) fn new(operator: &'static str, detail: &str, claim: Claim<W>) -> Self {
        Self { operator, name: format!("{operator}{detail}"), claim, counts: None }
    }
}

/// All rules. Those of operations come before the deductions that follow them.
pub(super) fn rules<W: Reference>() -> Vec<Rule<W>> {
    let mut all = deductions();
    all.extend(conversions());
    all.extend(arithmetic());
    for &op in CmpOp::ALL {
        all.extend(WIDTHS.iter().flat_map(|&width| comparisons(op, width)));
    }
    all
}

/// A deduction by its name.
fn deduction<W: Reference>(name: &'static str, step: fn(&mut ScalarOf<W>)) -> Rule<W> {
    let rule = move |scalar: &ScalarOf<W>| {
        let mut scalar = *scalar;
        step(&mut scalar);
        scalar
    };
    Rule::new(name, "", Claim::Keeps(Box::new(rule)))
}

/// How the parts of a scalar learn from each other.
pub(super) fn deductions<W: Reference>() -> Vec<Rule<W>> {
    vec![
        deduction("bounds from bits", ScalarOf::bounds_from_bits),
        deduction("low half from whole", ScalarOf::low_from_full),
        deduction("signed and unsigned of the whole", |scalar| scalar.full.exchange_signs()),
        deduction("signed and unsigned of the low half", |scalar| scalar.low.exchange_signs()),
        deduction("whole from low half", ScalarOf::full_from_low),
        deduction("bits from bounds", ScalarOf::bits_from_bounds),
        deduction("all deductions in their order", ScalarOf::sync),
        deduction("contradictions", ScalarOf::check),
    ]
}

fn conversions<W: Reference>() -> Vec<Rule<W>> {
    let mut all = vec![Rule::new(
        "mov, 32 bits",
        "",
        Claim::Maps(
            Box::new(|a| a.zero_extend_low()),
            Box::new(|x| W::compute(AluOp::Or, Width::W32, x, x)),
        ),
    )];
    for width in WIDTHS {
        for count in narrow_counts::<W>(width) {
            let operator = by_width(width, "movsx, 32 bits", "movsx, 64 bits");
            let unused = W::number((width_of::<W>(width) - count).into());
            let extended = move |x| {
                let up = W::compute(AluOp::Lsh, width, x, unused);
                W::compute(AluOp::Arsh, width, up, unused)
            };
            let rule = move |a: &ScalarOf<W>| sign_extend(width, count, a);
            let claim = Claim::Maps(Box::new(rule), Box::new(extended));
            all.push(Rule::new(operator, &format!(" from {count}"), claim));
        }
    }
    for count in narrow_counts::<W>(Width::W64) {
        let mask = W::number((1 << count) - 1);
        let truncated = move |x| W::compute(AluOp::And, Width::W64, x, mask);
        let rule = move |a: &ScalarOf<W>| a.zero_extend(count);
        let claim = Claim::Maps(Box::new(rule), Box::new(truncated));
        all.push(Rule::new("loads and truncation", &format!(" to {count}"), claim));
    }
    for count in narrow_counts::<W>(Width::W64).into_iter().chain([W::BITS]) {
        let unused = W::number((W::BITS - count).into());
        let swapped = move |x: W| W::compute(AluOp::Rsh, Width::W64, x.reversed(), unused);
        let rule = move |a: &ScalarOf<W>| reverse_bytes(count, a);
        let claim = Claim::Maps(Box::new(rule), Box::new(swapped));
        all.push(Rule::new("byte swaps", &format!(" of {count}"), claim));
    }
    all
}

/// The widths below `width`, and of half a word at most, that values are cut to: of bytes and so on
/// in a machine word, any in small words.
fn narrow_counts<W: Reference>(width: Width) -> Vec<u32> {
    let allowed = 1..width_of::<W>(width).min(W::BITS / 2 + 1);
    match W::BITS {
        64 => [8, 16, 32].into_iter().filter(|count| allowed.contains(count)).collect(),
        _ => allowed.collect(),
    }
}

fn by_width(width: Width, narrow: &'static str, wide: &'static str) -> &'static str {
    match width {
        Width::W32 => narrow,
        Width::W64 => wide,
    }
}

/// The operations that are followed, with their names for both widths.
pub(super) const FOLLOWED: [(AluOp, [&str; 2]); 9] = [
    (AluOp::Add, ["add, 32 bits", "add, 64 bits"]),
    (AluOp::Sub, ["sub, 32 bits", "sub, 64 bits"]),
    (AluOp::Mul, ["mul, 32 bits", "mul, 64 bits"]),
    (AluOp::And, ["and, 32 bits", "and, 64 bits"]),
    (AluOp::Or, ["or, 32 bits", "or, 64 bits"]),
    (AluOp::Xor, ["xor, 32 bits", "xor, 64 bits"]),
    (AluOp::Lsh, ["lsh, 32 bits", "lsh, 64 bits"]),
    (AluOp::Rsh, ["rsh, 32 bits", "rsh, 64 bits"]),
    (AluOp::Arsh, ["arsh, 32 bits", "arsh, 64 bits"]),
];

const DIVISIONS: [(AluOp, &str); 4] = [
    (AluOp::Div, "div and mod"),
    (AluOp::Mod, "div and mod"),
    (AluOp::SDiv, "sdiv and smod"),
    (AluOp::SMod, "sdiv and smod"),
];

fn arithmetic<W: Reference>() -> Vec<Rule<W>> {
    let mut all = Vec::new();
    for (index, width) in WIDTHS.into_iter().enumerate() {
        let followed = FOLLOWED.iter().map(|(op, names)| (*op, names[index]));
        for (op, operator) in followed.chain(DIVISIONS) {
            let detail = match operator.contains("div") {
                true => format!(": {op:?} of {width:?}"),
                false => String::new(),
            };
            let rule = move |a: &ScalarOf<W>, b: &ScalarOf<W>| {
                transfer(op, width, a, b).map_or(ScalarOf::UNKNOWN, |result| result.of_width(width))
            };
            let result = move |x, y| W::compute(op, width, x, y);
            let claim = Claim::Combines(Box::new(rule), Box::new(result));
            let is_shift = matches!(op, AluOp::Lsh | AluOp::Rsh | AluOp::Arsh);
            let counts = is_shift.then(|| width_of::<W>(width));
            all.push(Rule { counts, ..Rule::new(operator, &detail, claim) });
        }
        let operator = by_width(width, "neg, 32 bits", "neg, 64 bits");
        let claim = Claim::Maps(
            Box::new(move |a| difference_from_zero(width, a)),
            Box::new(move |x| W::compute(AluOp::Sub, width, W::number(0), x)),
        );
        all.push(Rule::new(operator, "", claim));
    }
    let offsets: [(AluOp, &str, Binary<W>); 2] = [
        (AluOp::Add, "offsets of pointers: add", Box::new(offset_sum)),
        (AluOp::Sub, "offsets of pointers: sub", Box::new(offset_difference)),
    ];
    for (op, operator, rule) in offsets {
        let result = move |x, y| W::compute(op, Width::W64, x, y);
        all.push(Rule::new(operator, "", Claim::Combines(rule, Box::new(result))));
    }
    let mask = |a: &ScalarOf<W>| fork(AluOp::And, a, &ScalarOf::constant(W::number(5)));
    all.push(Rule::new("masks of signs", "", Claim::Splits(Box::new(mask))));
    all
}

/// The names of a comparison's lines.
pub(super) fn comparison_name(op: CmpOp, width: Width) -> &'static str {
    let names = match op {
        CmpOp::Eq => ["jeq, 32 bits", "jeq, 64 bits"],
        CmpOp::Ne => ["jne, 32 bits", "jne, 64 bits"],
        CmpOp::Set => ["jset, 32 bits", "jset, 64 bits"],
        CmpOp::Gt => ["jgt, 32 bits", "jgt, 64 bits"],
        CmpOp::Ge => ["jge, 32 bits", "jge, 64 bits"],
        CmpOp::Lt => ["jlt, 32 bits", "jlt, 64 bits"],
        CmpOp::Le => ["jle, 32 bits", "jle, 64 bits"],
        CmpOp::Sgt => ["jsgt, 32 bits", "jsgt, 64 bits"],
        CmpOp::Sge => ["jsge, 32 bits", "jsge, 64 bits"],
        CmpOp::Slt => ["jslt, 32 bits", "jslt, 64 bits"],
        CmpOp::Sle => ["jsle, 32 bits", "jsle, 64 bits"],
    };
    by_width(width, names[0], names[1])
}

fn comparisons<W: Reference>(op: CmpOp, width: Width) -> Vec<Rule<W>> {
    let operator = comparison_name(op, width);
    let outcome = move |a: &ScalarOf<W>, b: &ScalarOf<W>| branch(op, width, a, b);
    let holds = move |x, y| W::holds(op, width, x, y);
    let claim = Claim::Decides(Box::new(outcome), Box::new(holds));
    let mut all = vec![Rule::new(operator, ", outcome", claim)];
    for taken in [true, false] {
        let way = if taken { "taken" } else { "not taken" };
        let rule = move |a: &ScalarOf<W>, b: &ScalarOf<W>| learn(op, width, taken, a, b);
        let when = move |x, y| W::holds(op, width, x, y) == taken;
        let claim = Claim::Learns(Box::new(rule), Box::new(when));
        all.push(Rule::new(operator, &format!(", {way}"), claim));
        let rule = move |a: &ScalarOf<W>| learn_same(op, width, taken, a);
        let when = move |x| W::holds(op, width, x, x) == taken;
        let claim = Claim::KeepsIf(Box::new(rule), Box::new(when));
        all.push(Rule::new(operator, &format!(", {way}, with itself"), claim));
    }
    all
}
