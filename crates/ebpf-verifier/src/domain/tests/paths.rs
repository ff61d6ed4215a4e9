//! All ways through a piece of code whose conditions are terms.
//!
//! Code that compares terms gets a plain `bool` for an answer, so it is run once for each sequence
//! of answers; the results are then put together again, each under the condition of its way.

use core::cell::RefCell;

use super::expr::{self, Expr};
use super::term::Term;
use crate::domain::bounds::Bounds;
use crate::domain::{ScalarOf, Tnum, Wide};

/// The answers given on the current way: the first `given` of them are prescribed or repeated.
#[derive(Default)]
struct Way {
    answers: Vec<(Expr, bool)>,
    given: usize,
}

thread_local! {
    static WAY: RefCell<Way> = RefCell::default();
}

/// Whether the condition holds, on this way.
pub(super) fn decide(condition: Expr) -> bool {
    if let Expr::Truth(truth) = condition {
        return truth;
    }
    if let Some(negated) = expr::negated(condition) {
        return !decide(negated);
    }
    WAY.with_borrow_mut(|way| {
        let known = way.answers[..way.given].iter().find(|(asked, _)| *asked == condition);
        if let Some((_, answer)) = known {
            return *answer;
        }
        if way.given == way.answers.len() {
            way.answers.push((condition, true));
        }
        let (asked, answer) = way.answers[way.given];
        assert_eq!(asked, condition, "the code does the same for the same answers");
        way.given += 1;
        answer
    })
}

/// Something made of terms, which can be one or the other depending on a condition.
pub(super) trait Choice: Copy {
    fn choice(condition: Expr, then: Self, other: Self) -> Self;
}

/// A way's answers, and the result at its end.
pub(super) type End<T> = (Vec<(Expr, bool)>, T);

/// Each way through the code, those with earlier answers `true` first.
pub(super) fn ways<T>(code: impl Fn() -> T) -> Vec<End<T>> {
    let mut results = Vec::new();
    WAY.with_borrow_mut(|way| way.answers.clear());
    loop {
        WAY.with_borrow_mut(|way| way.given = 0);
        let result = code();
        let more = WAY.with_borrow_mut(|way| {
            results.push((way.answers.clone(), result));
            while way.answers.last().is_some_and(|(_, answer)| !answer) {
                way.answers.pop();
            }
            let last = way.answers.last_mut();
            last.map(|(_, answer)| *answer = false).is_some()
        });
        if !more {
            return results;
        }
    }
}

/// The result of the code, whatever the conditions in it turn out to be.
pub(super) fn all_ways<T: Choice>(code: impl Fn() -> T) -> T {
    join(&ways(code), 0)
}

/// The condition under which the code returns true.
pub(super) fn truth(code: impl Fn() -> bool) -> Expr {
    all_ways(|| Expr::Truth(code()))
}

/// Puts the results together that have the answers before `depth` in common.
fn join<T: Choice>(results: &[End<T>], depth: usize) -> T {
    let (answers, result) = &results[0];
    let Some((condition, _)) = answers.get(depth) else {
        return *result;
    };
    let yes = results.partition_point(|(answers, _)| answers[depth].1);
    let (then, other) = results.split_at(yes);
    T::choice(*condition, join(then, depth + 1), join(other, depth + 1))
}

impl Choice for Expr {
    fn choice(condition: Expr, then: Self, other: Self) -> Self {
        expr::choice(condition, then, other)
    }
}

impl<const N: u32> Choice for Term<N> {
    fn choice(condition: Expr, then: Self, other: Self) -> Self {
        Self(expr::choice(condition, then.0, other.0))
    }
}

impl<W: Choice> Choice for Tnum<W> {
    fn choice(condition: Expr, then: Self, other: Self) -> Self {
        let of = |a, b| W::choice(condition, a, b);
        Self { value: of(then.value, other.value), mask: of(then.mask, other.mask) }
    }
}

impl<W: Choice> Choice for Bounds<W> {
    fn choice(condition: Expr, then: Self, other: Self) -> Self {
        let of = |a, b| W::choice(condition, a, b);
        Self {
            umin: of(then.umin, other.umin),
            umax: of(then.umax, other.umax),
            smin: of(then.smin, other.smin),
            smax: of(then.smax, other.smax),
        }
    }
}

impl<W: Wide<Half: Choice> + Choice> Choice for ScalarOf<W> {
    fn choice(condition: Expr, then: Self, other: Self) -> Self {
        Self {
            bits: Tnum::choice(condition, then.bits, other.bits),
            full: Bounds::choice(condition, then.full, other.full),
            low: Bounds::choice(condition, then.low, other.low),
        }
    }
}

impl<T: Choice> Choice for (T, T) {
    fn choice(condition: Expr, then: Self, other: Self) -> Self {
        (T::choice(condition, then.0, other.0), T::choice(condition, then.1, other.1))
    }
}

#[test]
fn every_way_is_taken_once() {
    let (a, b) = (expr::variable("a", 0), expr::variable("b", 0));
    let runs = core::cell::Cell::new(0);
    let result = truth(|| {
        runs.set(runs.get() + 1);
        // The last question is the first again, and has its answer.
        decide(a) && decide(b) && decide(a)
    });
    assert_eq!(runs.get(), 3);
    assert_eq!(result, expr::both(a, b));
}
