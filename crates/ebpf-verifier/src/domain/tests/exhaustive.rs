//! Every rule on every value of four bits, against the members of the values.
//!
//! Sets of members are sets of bits: a value of four bits has at most sixteen.

use super::members::hull;
use super::parallel;
use super::rules::{Claim, Rule, rules};
use super::words::Toy;
use crate::domain::bounds::Bounds;
use crate::domain::{ScalarOf, Tnum};

pub(super) type Word4 = Toy<4>;
type Value = ScalarOf<Word4>;

/// A set of words of four bits.
type Members = u16;

/// The members of each part alone, by the part's numbers.
struct Sets {
    tnums: [Members; 256],
    unsigned: [Members; 256],
    signed: [Members; 256],
    low_unsigned: [Members; 16],
    low_signed: [Members; 16],
}

fn set(has: impl Fn(Word4) -> bool) -> Members {
    Word4::all().filter(|&word| has(word)).fold(0, |set, word| set | 1 << word.0)
}

impl Sets {
    fn new() -> Self {
        let of = |index: usize| (Toy((index >> 4) as u16), Toy((index & 15) as u16));
        let halves = |index: usize| (Toy((index >> 2) as u16), Toy((index & 3) as u16));
        let between = |min: i32, value: i32, max: i32| min <= value && value <= max;
        let whole = |index, number: fn(Word4) -> i32| {
            let (min, max) = of(index);
            set(|word| between(number(min), number(word), number(max)))
        };
        let low = |index, number: fn(Toy<2>) -> i32| {
            let (min, max) = halves(index);
            set(|word| between(number(min), number(Toy(word.0 & 3)), number(max)))
        };
        Self {
            tnums: core::array::from_fn(|index| {
                let (value, mask) = of(index);
                set(|word| word.0 & !mask.0 == value.0)
            }),
            unsigned: core::array::from_fn(|index| whole(index, |word| i32::from(word.0))),
            signed: core::array::from_fn(|index| whole(index, Toy::signed)),
            low_unsigned: core::array::from_fn(|index| low(index, |word| i32::from(word.0))),
            low_signed: core::array::from_fn(|index| low(index, Toy::signed)),
        }
    }

    fn members(&self, value: &Value) -> Members {
        let at = |high: Word4, low: Word4| usize::from(high.0 << 4 | low.0);
        let at_half = |high: Toy<2>, low: Toy<2>| usize::from(high.0 << 2 | low.0);
        self.tnums[at(value.bits.value, value.bits.mask)]
            & self.unsigned[at(value.full.umin, value.full.umax)]
            & self.signed[at(value.full.smin, value.full.smax)]
            & self.low_unsigned[at_half(value.low.umin, value.low.umax)]
            & self.low_signed[at_half(value.low.smin, value.low.smax)]
    }
}

fn words(members: Members) -> impl Iterator<Item = Word4> {
    Word4::all().filter(move |word| members >> word.0 & 1 == 1)
}

/// All intervals that are not empty, as unsigned and as signed ones.
pub(super) fn intervals<const N: u32>() -> Vec<Bounds<Toy<N>>> {
    let from = 1 << (N - 1);
    let ends: Vec<(i32, i32)> =
        (0..1 << N).flat_map(|min| (min..1 << N).map(move |max| (min, max))).collect();
    let pairs =
        ends.iter().flat_map(|&unsigned| ends.iter().map(move |&signed| (unsigned, signed)));
    pairs
        .map(|((umin, umax), (smin, smax))| Bounds {
            umin: Toy::new(umin),
            umax: Toy::new(umax),
            smin: Toy::new(smin - from),
            smax: Toy::new(smax - from),
        })
        .collect()
}

/// All tristate numbers: no bit is both known and unknown.
pub(super) fn tnums<const N: u32>() -> impl Iterator<Item = Tnum<Toy<N>>> {
    let words = Toy::<N>::all;
    let any = words().flat_map(move |mask| words().map(move |value| Tnum { value, mask }));
    any.filter(|tnum| tnum.value.0 & tnum.mask.0 == 0)
}

/// One value for each set of members that a value can have and that is not empty, with its members:
/// the least value of these members, every part as narrow as it can be.
fn values(sets: &Sets) -> Vec<(Value, Members)> {
    let mut all = std::collections::BTreeMap::new();
    let mut half_sets: Vec<Members> = Vec::new();
    let mut whole_sets: Vec<Members> = Vec::new();
    for unsigned in sets.low_unsigned {
        half_sets.extend(sets.low_signed.iter().map(|signed| signed & unsigned));
    }
    for unsigned in sets.unsigned {
        whole_sets.extend(sets.signed.iter().map(|signed| signed & unsigned));
    }
    for each in [&mut half_sets, &mut whole_sets] {
        each.sort_unstable();
        each.dedup();
    }
    for bits in sets.tnums {
        for half in &half_sets {
            for whole in &whole_sets {
                let members = bits & half & whole;
                if members != 0 {
                    all.entry(members).or_insert_with(|| hull(words(members)));
                }
            }
        }
    }
    all.into_iter().map(|(members, value)| (value, members)).collect()
}

/// Every combination of parts that are not empty by themselves, as far as it has members, however
/// much the parts could learn from each other: 11,585,545.
fn combinations(sets: &Sets) -> impl Iterator<Item = (Value, Members)> {
    let (wholes, halves) = (intervals::<4>(), intervals::<2>());
    let of_bits = move |bits: Tnum<Word4>| {
        let halves = halves.clone();
        wholes.clone().into_iter().flat_map(move |full| {
            let low = halves.clone().into_iter();
            low.map(move |low| ScalarOf { bits, full, low }).collect::<Vec<_>>()
        })
    };
    let all = tnums().flat_map(of_bits).map(|value| (value, sets.members(&value)));
    all.filter(|(_, members)| *members != 0)
}

/// What of the rule's claim can be looked up.
struct Table {
    /// For each word on the left, the results for each on the right.
    results: [[Word4; 16]; 16],
    /// For each word on the left, those on the right for which the condition holds.
    holding: [Members; 16],
}

impl Table {
    fn new(claim: &Claim<Word4>) -> Self {
        let pairs = |value: &dyn Fn(Word4, Word4) -> Word4| {
            core::array::from_fn(|x| core::array::from_fn(|y| value(Toy(x as u16), Toy(y as u16))))
        };
        let mut table = Self { results: [[Toy(0); 16]; 16], holding: [0; 16] };
        match claim {
            Claim::Combines(_, result) => table.results = pairs(result),
            Claim::Maps(_, result) => table.results = pairs(&|x, _| result(x)),
            Claim::KeepsIf(_, when) => {
                table.holding = core::array::from_fn(|x| if when(Toy(x as u16)) { !0 } else { 0 });
            }
            Claim::Decides(_, holds) | Claim::Learns(_, holds) => {
                table.holding = core::array::from_fn(|x| set(|y| holds(Toy(x as u16), y)));
            }
            Claim::Keeps(_) | Claim::Splits(_) => {}
        }
        table
    }

    /// Members on the left that fulfil the condition with some member on the right.
    fn with_some(&self, xs: Members, ys: Members, inverted: bool) -> Members {
        let flip = if inverted { !0 } else { 0 };
        let has = |x: &Word4| (self.holding[usize::from(x.0)] ^ flip) & ys != 0;
        words(xs).filter(has).fold(0, |set, x| set | 1 << x.0)
    }
}

/// Whether the rule keeps its claim for one operand.
fn holds_for(sets: &Sets, table: &Table, claim: &Claim<Word4>, a: &Value, xs: Members) -> bool {
    match claim {
        Claim::Keeps(rule) => xs & !sets.members(&rule(a)) == 0,
        Claim::KeepsIf(rule, _) => table.with_some(xs, !0, false) & !sets.members(&rule(a)) == 0,
        Claim::Splits(rule) => rule(a)
            .is_none_or(|(left, right)| xs & !(sets.members(&left) | sets.members(&right)) == 0),
        Claim::Maps(rule, _) => {
            let results =
                words(xs).fold(0, |set, x| set | 1 << table.results[usize::from(x.0)][0].0);
            results & !sets.members(&rule(a)) == 0
        }
        Claim::Combines(..) | Claim::Decides(..) | Claim::Learns(..) => true,
    }
}

/// What is the same for all first operands.
struct Second {
    value: Value,
    members: Members,
    /// For each word on the left, the results with these members.
    results: [Members; 16],
    /// The words on the left for which the condition holds with some member, and fails with some.
    some_hold: Members,
    some_fail: Members,
}

impl Second {
    fn new(table: &Table, &(value, members): &(Value, Members)) -> Self {
        let results = table
            .results
            .map(|row| words(members).fold(0, |set, y| set | 1 << row[usize::from(y.0)].0));
        let some_hold = table.with_some(!0, members, false);
        let some_fail = table.with_some(!0, members, true);
        Self { value, members, results, some_hold, some_fail }
    }
}

/// Whether the rule keeps its claim for two operands. `wanted` are the words on the right for
/// which the condition holds with some member of the first.
fn holds_for_pair(
    sets: &Sets,
    claim: &Claim<Word4>,
    (a, xs, wanted): (&Value, Members, Members),
    b: &Second,
) -> bool {
    match claim {
        Claim::Combines(rule, _) => {
            let mut results = 0;
            let mut rest = xs;
            while rest != 0 {
                results |= b.results[rest.trailing_zeros() as usize];
                rest &= rest - 1;
            }
            results & !sets.members(&rule(a, &b.value)) == 0
        }
        Claim::Decides(rule, _) => match rule(a, &b.value) {
            Some(true) => xs & b.some_fail == 0,
            Some(false) => xs & b.some_hold == 0,
            None => true,
        },
        Claim::Learns(rule, _) => {
            let (left, right) = rule(a, &b.value);
            xs & b.some_hold & !sets.members(&left) == 0
                && b.members & wanted & !sets.members(&right) == 0
        }
        _ => true,
    }
}

fn takes_two(claim: &Claim<Word4>) -> bool {
    matches!(claim, Claim::Combines(..) | Claim::Decides(..) | Claim::Learns(..))
}

/// Values, and what is needed to check rules on them.
pub(super) struct Universe {
    sets: Sets,
    values: Vec<(Value, Members)>,
}

impl Universe {
    pub(super) fn new() -> Self {
        let sets = Sets::new();
        let values = values(&sets);
        Self { sets, values }
    }

    /// A counterexample to the rule's claim, if there is one among all values, or all pairs.
    pub(super) fn counterexample(&self, rule: &Rule<Word4>) -> Option<String> {
        let Self { sets, values } = self;
        let table = Table::new(&rule.claim);
        if !takes_two(&rule.claim) {
            let fails = |(a, xs): &(Value, Members)| !holds_for(sets, &table, &rule.claim, a, *xs);
            let found = match rule.claim {
                Claim::Keeps(_) | Claim::Maps(..) => combinations(sets).find(fails),
                _ => values.iter().copied().find(fails),
            };
            return found.map(|(a, _)| format!("{}: {a:?}", rule.name));
        }
        let wanted: Vec<Members> = values
            .iter()
            .map(|&(_, xs)| words(xs).fold(0, |set, x| set | table.holding[usize::from(x.0)]))
            .collect();
        values.iter().find_map(|second| {
            let b = Second::new(&table, second);
            let mut firsts = values.iter().zip(&wanted);
            let fails = |((a, xs), wanted): &(&(Value, Members), &Members)| {
                !holds_for_pair(sets, &rule.claim, (a, *xs, **wanted), &b)
            };
            let found = firsts.find(fails);
            found.map(|((a, _), _)| format!("{}: {a:?} and {:?}", rule.name, b.value))
        })
    }
}

#[test]
fn every_rule_holds_on_every_value_and_every_pair() {
    let universe = Universe::new();
    assert_eq!(universe.values.len(), 3175);
    let found = parallel::map(&rules(), |rule| universe.counterexample(rule));
    let found: Vec<String> = found.into_iter().flatten().collect();
    assert!(found.is_empty(), "{found:#?}");
}
