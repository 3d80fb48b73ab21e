//! Which refusals have been told lately, so that a peer that dials every second does not fill the
//! log with one sentence.

use std::collections::BTreeMap;
use std::time::Duration;

use jangada_raft::NodeId;
use tokio::time::Instant;

use crate::handshake::RefusalCode;

/// The most refusals remembered. Beyond it all are forgotten, and some are told again early.
const REMEMBERED_MAX: usize = 256;

/// Who refused, and why: what makes two refusals the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Occasion {
    pub(super) peer: Option<NodeId>,
    pub(super) by: By,
    pub(super) code: RefusalCode,
}

/// Which side refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum By {
    Us,
    Them,
}

#[derive(Debug)]
pub(super) struct Refusals {
    interval: Duration,
    told: BTreeMap<Occasion, Instant>,
}

impl Refusals {
    pub(super) fn new(interval: Duration) -> Refusals {
        Refusals { interval, told: BTreeMap::new() }
    }

    /// Whether this refusal is to be told at `now`; if so it counts as told.
    pub(super) fn tell(&mut self, occasion: Occasion, now: Instant) -> bool {
        if let Some(last) = self.told.get(&occasion)
            && now.duration_since(*last) < self.interval
        {
            return false;
        }
        if REMEMBERED_MAX <= self.told.len() {
            self.told.clear();
        }
        self.told.insert(occasion, now);
        true
    }

    /// The peer was met: its next refusal is news.
    pub(super) fn forget(&mut self, peer: NodeId) {
        self.told.retain(|occasion, _| occasion.peer != Some(peer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_refusal_is_told_once_in_an_interval() {
        let mut refusals = Refusals::new(Duration::from_secs(60));
        let start = Instant::now();
        let occasion =
            Occasion { peer: Some(NodeId(2)), by: By::Us, code: RefusalCode::Incarnation };
        assert!(refusals.tell(occasion, start));
        assert!(!refusals.tell(occasion, start + Duration::from_secs(59)));
        assert!(refusals.tell(Occasion { by: By::Them, ..occasion }, start));
        assert!(refusals.tell(occasion, start + Duration::from_secs(60)));
        refusals.forget(NodeId(2));
        assert!(refusals.tell(occasion, start + Duration::from_secs(61)));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut refusals = Refusals::new(Duration::from_secs(60));
        let start = Instant::now();
        for id in 0..10_000 {
            let peer = Some(NodeId(id));
            refusals.tell(Occasion { peer, by: By::Us, code: RefusalCode::Cluster }, start);
        }
        assert!(refusals.told.len() <= REMEMBERED_MAX);
    }
}
