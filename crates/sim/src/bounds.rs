//! What members' queues, windows and buffers held at most, each beside its limit.
//!
//! Responsible for judging and for remembering the highest. The limits are the product's own
//! ([`jangada::Member::bounds`], [`Application::bounds`](crate::Application::bounds)).

use jangada::{Bound, Event, Piece};
use jangada_entry::HEADER_BYTES;
use jangada_net::PeerMessage;

use crate::invariants::Violation;

/// The most that a queue held in all that was seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Highest {
    /// What it is.
    pub name: &'static str,
    /// The most it held.
    pub held: u64,
    /// Its limit where it held that; `None` for what has none and is only told.
    pub max: Option<u64>,
}

/// The highest of everything that is bounded.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Bounds {
    highest: Vec<Highest>,
    /// The largest frame of a proposal.
    frame_bytes: u64,
    /// The most bytes of proposals that came to one member in one step.
    step_bytes: u64,
    /// The most bytes of proposals that a member may hold back and hand in with those of a step.
    held_bytes_max: u64,
}

impl Bounds {
    /// Nothing seen yet of members that hold back at most so many bytes of proposals.
    #[must_use]
    pub fn new(held_bytes_max: u64) -> Bounds {
        Bounds { held_bytes_max, ..Bounds::default() }
    }

    /// What is about to be stepped: proposals that come in one step are one piece.
    pub fn arrives(&mut self, inbox: &[Event]) {
        let mut step_bytes = 0;
        for event in inbox {
            match event {
                Event::Propose(draft) => {
                    let bytes = draft.frame_bytes() as u64;
                    self.frame_bytes = self.frame_bytes.max(bytes);
                    step_bytes += bytes;
                }
                Event::Received { message: PeerMessage::Forward(proposals), .. } => {
                    let bytes = |payload: &[u8]| (HEADER_BYTES + payload.len()) as u64;
                    step_bytes += proposals.iter().map(|p| bytes(&p.payload)).sum::<u64>();
                }
                _ => {}
            }
        }
        self.step_bytes = self.step_bytes.max(step_bytes);
        self.tell("events in one step", inbox.len() as u64);
    }

    /// Something that has a limit.
    ///
    /// # Errors
    /// If it holds more.
    pub fn see(&mut self, bound: Bound) -> Result<(), Violation> {
        let Bound { name, held, max, piece } = bound;
        let max = max.saturating_add(match piece {
            Piece::Strict => 0,
            Piece::Frame => self.frame_bytes,
            Piece::Step => self.step_bytes + self.held_bytes_max,
        });
        let highest = self.of(name);
        if highest.max.is_none() || highest.held < held {
            (highest.held, highest.max) = (held, Some(max));
        }
        if held <= max {
            return Ok(());
        }
        Err(Violation {
            invariant: "every queue stays within its limit",
            seen: format!("{name}: {held} of {max}"),
        })
    }

    /// Something that has no limit.
    pub fn tell(&mut self, name: &'static str, held: u64) {
        let highest = self.of(name);
        highest.held = highest.held.max(held);
    }

    /// Adds what was seen in another run.
    pub fn add(&mut self, other: &Bounds) {
        for Highest { name, held, max } in &other.highest {
            let highest = self.of(name);
            if highest.held <= *held {
                (highest.held, highest.max) = (*held, *max);
            }
        }
    }

    /// The highest of everything, in the order in which it was first seen.
    #[must_use]
    pub fn highest(&self) -> &[Highest] {
        &self.highest
    }

    fn of(&mut self, name: &'static str) -> &mut Highest {
        // A name is one place in memory in all but rare builds, so this seldom compares text.
        let known = |highest: &Highest| std::ptr::eq(highest.name, name) || highest.name == name;
        let place = self.highest.iter().position(known).unwrap_or(self.highest.len());
        if place == self.highest.len() {
            self.highest.push(Highest { name, held: 0, max: None });
        }
        &mut self.highest[place]
    }
}

impl std::fmt::Display for Bounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (place, Highest { name, held, max }) in self.highest.iter().enumerate() {
            let gap = if place == 0 { "" } else { ", " };
            match max {
                Some(max) => write!(f, "{gap}{name} {held} of {max}")?,
                None => write!(f, "{gap}{name} {held}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use jangada_entry::{Draft, Kind, Origin};

    use super::*;

    fn bound(held: u64, max: u64, piece: Piece) -> Bound {
        Bound { name: "a queue", held, max, piece }
    }

    fn proposal(bytes: usize) -> Event {
        let mut buffer = Draft::buffer(bytes);
        buffer.resize(HEADER_BYTES + bytes, 0);
        Event::Propose(Draft::new(buffer, Kind::Command, 1, 0, Origin::default()))
    }

    #[test]
    fn a_queue_above_its_limit_is_a_violation() {
        let mut bounds = Bounds::new(0);
        assert_eq!(bounds.see(bound(5, 5, Piece::Strict)), Ok(()));
        let above = bounds.see(bound(6, 5, Piece::Strict)).expect_err("it is above its limit");
        assert_eq!(above.invariant, "every queue stays within its limit");
        assert_eq!(bounds.highest(), [Highest { name: "a queue", held: 6, max: Some(5) }]);
    }

    #[test]
    fn a_piece_goes_beyond_a_limit_by_itself_and_no_more() {
        let frame = HEADER_BYTES as u64 + 100;
        let mut bounds = Bounds::new(7);
        bounds.arrives(&[proposal(100), proposal(50)]);
        assert!(bounds.see(bound(5 + frame, 5, Piece::Frame)).is_ok());
        assert!(bounds.see(bound(6 + frame, 5, Piece::Frame)).is_err());
        let step = frame + HEADER_BYTES as u64 + 50;
        assert!(bounds.see(bound(5 + step + 7, 5, Piece::Step)).is_ok());
        assert!(bounds.see(bound(6 + step + 7, 5, Piece::Step)).is_err());
        assert!(bounds.see(bound(6, 5, Piece::Strict)).is_err());
    }

    #[test]
    fn the_highest_of_several_runs_is_the_highest() {
        let mut one = Bounds::new(0);
        let mut other = Bounds::new(0);
        one.see(bound(3, 5, Piece::Strict)).expect("within");
        other.see(bound(4, 6, Piece::Strict)).expect("within");
        other.tell("a number", 9);
        one.add(&other);
        assert_eq!(one.to_string(), "a queue 4 of 6, a number 9");
    }
}
