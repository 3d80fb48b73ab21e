//! The recovery decision: what to do with the next batch, given what can be observed. The argument
//! for each row stands in `docs/log-format.md`, section "The recovery table".
//!
//! Invariant: exactly one row matches, whatever is observed.

/// What can be observed where a batch is expected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Observed {
    /// The header is sound and belongs here.
    pub(crate) header: bool,
    /// The trailer is sound and belongs here.
    pub(crate) trailer: bool,
    /// Every frame is sound; means nothing unless header or trailer is.
    pub(crate) frames: bool,
    /// A whole sector of what is damaged is zeros: it was never written.
    pub(crate) blank: bool,
    /// Something sound states that this place was durable.
    pub(crate) stated: bool,
    /// A configuration is among what is lost.
    pub(crate) configuration: bool,
    /// All that the batch adds to the log is at or below the machine's durable index.
    pub(crate) dispensable: bool,
    /// A later segment, which restates all that is in force, starts at or below that index.
    pub(crate) restated: bool,
    /// A later segment starts within what has been read before this place: nothing that stands here
    /// counts.
    pub(crate) superseded: bool,
}

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Decision {
    /// Take the batch.
    Accept,
    /// Nothing was written here: the log ends.
    End,
    /// The batch was being written when the power failed: the log ends before it.
    Torn,
    /// Rot that the machine does not need: the log begins behind this batch.
    CutAfter,
    /// Rot that the machine does not need: the log begins with a later segment.
    CutSegment,
    /// Rot in what a later segment has dropped: the log goes on with that one.
    Supersede,
    /// Rot of payloads whose names are known: the batch is taken, and they come from elsewhere.
    Keep,
    /// Rot, and nothing tells of what: the log ends before it, and the member has to recover.
    Lose,
}

/// A row: a pattern of eight columns ('1' yes, '0' no, '.' either), and the decision. The columns
/// are list (header or trailer), frames, blank, stated, configuration, dispensable, restated,
/// superseded.
type Row = (&'static str, Decision);

/// The table.
const TABLE: [Row; 15] = [
    // What is whole is taken, durable or not.
    ("11......", Decision::Accept),
    // Nothing is sound, and nothing says that anything was.
    ("0.10....", Decision::End),
    ("0.00....", Decision::Torn),
    // Nothing is sound, but this place was durable: rot, and nobody knows of what.
    ("0..1...1", Decision::Supersede),
    ("0..1..10", Decision::CutSegment),
    ("0..1..00", Decision::Lose),
    // A sector was never written, and nothing says that the batch was ever durable.
    ("1010....", Decision::Torn),
    // Every sector was written (blank 0), or the batch was durable (stated 1): rot, and the list
    // tells of what. The machine has it, or not.
    ("100001..", Decision::CutAfter),
    ("10.101..", Decision::CutAfter),
    ("100000..", Decision::Keep),
    ("10.100..", Decision::Keep),
    // The same, and with it went a configuration, without which nobody knows who the others are;
    // only a later segment restates it. Not stated means that there is none.
    ("10001...", Decision::Lose),
    ("10.11..1", Decision::Supersede),
    ("10.11.10", Decision::CutSegment),
    ("10.11.00", Decision::Lose),
];

impl Observed {
    /// The columns of the table.
    fn columns(self) -> [bool; 8] {
        [
            self.header || self.trailer,
            self.frames,
            self.blank,
            self.stated,
            self.configuration,
            self.dispensable,
            self.restated,
            self.superseded,
        ]
    }

    /// The rows that match.
    fn rows(self) -> impl Iterator<Item = &'static Row> {
        let columns = self.columns();
        TABLE.iter().filter(move |(pattern, _)| {
            pattern.bytes().zip(columns).all(|(byte, column)| match byte {
                b'1' => column,
                b'0' => !column,
                _ => true,
            })
        })
    }

    /// What to do.
    pub(crate) fn decide(self) -> Decision {
        self.rows().next().expect("exactly one row matches").1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every combination of observations.
    fn all() -> impl Iterator<Item = Observed> {
        (0..512_u32).map(|bits| {
            let bit = |n: u32| bits & (1 << n) != 0;
            Observed {
                header: bit(0),
                trailer: bit(1),
                frames: bit(2),
                blank: bit(3),
                stated: bit(4),
                configuration: bit(5),
                dispensable: bit(6),
                restated: bit(7),
                superseded: bit(8),
            }
        })
    }

    #[test]
    fn exactly_one_row_matches_each_observation() {
        for observed in all() {
            assert_eq!(observed.rows().count(), 1, "{observed:?}");
        }
    }

    #[test]
    fn every_row_and_every_decision_is_reached() {
        for (row, _) in TABLE {
            let reached = all().any(|observed| observed.rows().any(|(other, _)| *other == row));
            assert!(reached, "{row}");
        }
        for decision in [
            Decision::Accept,
            Decision::End,
            Decision::Torn,
            Decision::CutAfter,
            Decision::CutSegment,
            Decision::Supersede,
            Decision::Keep,
            Decision::Lose,
        ] {
            assert!(all().any(|observed| observed.decide() == decision), "{decision:?}");
        }
    }

    /// The rules of the document, each stated without the table.
    #[test]
    fn the_table_says_what_the_document_says() {
        for observed in all() {
            let Observed { stated, blank, configuration, dispensable, .. } = observed;
            let Observed { restated, superseded, .. } = observed;
            let listed = observed.header || observed.trailer;
            let whole = listed && observed.frames;
            let decision = observed.decide();
            let cut = matches!(decision, Decision::CutAfter | Decision::CutSegment);
            let ended = matches!(decision, Decision::End | Decision::Torn);
            // Whole batches are taken, and nothing else is.
            assert_eq!(whole, decision == Decision::Accept, "{observed:?}");
            // What is stated to be durable is never cut away as a torn tail.
            assert!(!(stated && ended), "{observed:?}");
            // A list without a blank sector is never a torn tail.
            assert!(!(listed && !blank && ended), "{observed:?}");
            // What is not stated, and either unlisted or blank somewhere, is never rot.
            assert!(whole || stated || (listed && !blank) || ended, "{observed:?}");
            // A cut loses nothing that the machine lacks, and nothing that is in force.
            if decision == Decision::CutAfter {
                assert!(dispensable && !configuration && listed, "{observed:?}");
            }
            if decision == Decision::CutSegment {
                assert!(restated && !superseded, "{observed:?}");
            }
            // What a later segment has dropped is passed by, and nothing else is.
            if decision == Decision::Supersede {
                assert!(superseded && stated && (!listed || configuration), "{observed:?}");
            }
            // Names are kept where the list tells them and no configuration is missing.
            let keep = decision == Decision::Keep;
            let known = listed && !configuration && !dispensable;
            assert_eq!(keep, known && !whole && !ended, "{observed:?}");
            // The member recovers only over rot that it can neither name nor do without.
            if decision == Decision::Lose {
                assert!(!listed || configuration, "{observed:?}");
                assert!(stated || listed, "{observed:?}");
                assert!(!stated || !(restated || superseded), "{observed:?}");
            }
            assert!(!cut || !whole, "{observed:?}");
        }
    }
}
