//! The conditions of transactions.

use crate::interval::Interval;
use crate::record::Record;
use crate::store::Store;
use crate::{Compare, CompareResult, CompareTarget};

impl Store {
    /// Whether a condition holds at the newest revision. With a range end it must hold for every
    /// key in the interval; an interval without keys counts as a single missing key.
    pub(crate) fn holds(&self, compare: &Compare) -> bool {
        let interval = Interval::new(&compare.key, &compare.range_end);
        let Some(bounds) = interval.bounds() else {
            return holds_for(compare, None);
        };
        let mut live = self
            .keys()
            .range(bounds)
            .map(|(_, record)| record)
            .filter(|record| record.is_live())
            .peekable();
        if live.peek().is_none() {
            return holds_for(compare, None);
        }
        live.all(|record| holds_for(compare, Some(record)))
    }
}

/// A missing key has every number at 0 and no value: a comparison of values is false for it,
/// whatever the relation.
fn holds_for(compare: &Compare, record: Option<&Record>) -> bool {
    let number = |of: fn(&Record) -> i64| record.map_or(0, of);
    let ordering = match &compare.target {
        CompareTarget::Version(operand) => number(Record::version).cmp(operand),
        CompareTarget::Create(operand) => number(Record::create).cmp(operand),
        CompareTarget::Mod(operand) => number(|r| r.newest().revision.main).cmp(operand),
        CompareTarget::Lease(operand) => number(Record::lease).cmp(operand),
        CompareTarget::Value(operand) => match record {
            Some(record) => record.value().cmp(operand),
            None => return false,
        },
    };
    match compare.result {
        CompareResult::Equal => ordering.is_eq(),
        CompareResult::Greater => ordering.is_gt(),
        CompareResult::Less => ordering.is_lt(),
        CompareResult::NotEqual => ordering.is_ne(),
    }
}
