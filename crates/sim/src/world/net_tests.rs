//! The simulated network's rules, one by one.

use super::*;
use crate::faults::FaultRates;
use crate::world::dice::Suppressed;
use crate::world::queue::Queue;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

/// A network of two members and what its ends have seen.
struct Ends {
    network: SimNetwork<u32>,
    queue: Queue<NetworkEvent<u32>>,
    choices: Choices,
    dice: Dice,
    counts: FaultCounts,
    arrived: Vec<(u64, u32)>,
    noticed: Vec<(u64, NodeId, Notice)>,
}

impl Ends {
    fn new(seed: u64, rates: FaultRates) -> Ends {
        let choices = Choices::of_seed(seed);
        let mut ends = Ends {
            network: SimNetwork::new(&[A, B]),
            queue: Queue::new(),
            dice: Dice::new(rates, Suppressed::new(), &choices),
            choices,
            counts: FaultCounts::default(),
            arrived: Vec::new(),
            noticed: Vec::new(),
        };
        ends.with(|network, weather| network.started(weather, A));
        ends.with(|network, weather| network.started(weather, B));
        ends.run_until(100_000);
        ends
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut SimNetwork<u32>, &mut Weather<'_>) -> T) -> T {
        let mut weather = Weather {
            now_us: self.queue.now_us(),
            choices: &mut self.choices,
            dice: &mut self.dice,
            counts: &mut self.counts,
        };
        let result = act(&mut self.network, &mut weather);
        for (at, event) in self.network.later.drain(..) {
            self.queue.push(at, event);
        }
        result
    }

    fn send(&mut self, number: u32) {
        let way = (A, B, Lane::Entries);
        self.with(|network, weather| network.send(weather, way, number, Repeat::Forbidden));
    }

    fn run_until(&mut self, end_us: u64) {
        while let Some(event) = self.queue.pop_until(end_us) {
            let now = self.queue.now_us();
            match event {
                NetworkEvent::Arrive(packet) => {
                    if self.with(|network, weather| network.arrives(weather, &packet)) {
                        self.arrived.push((now, packet.message));
                    }
                }
                NetworkEvent::Reconnect { from, to, lane, epoch } => {
                    let way = (from, to, lane);
                    let notices =
                        self.with(|network, weather| network.reconnect(weather, way, epoch));
                    let told = notices
                        .into_iter()
                        .filter(|notice| !matches!(notice, Notice::Connected(_)));
                    self.noticed.extend(told.map(|notice| (now, from, notice)));
                }
            }
        }
    }

    fn numbers(&self) -> Vec<u32> {
        self.arrived.iter().map(|(_, number)| *number).collect()
    }

    fn learned(&self, who: NodeId, notice: Notice) -> usize {
        self.noticed.iter().filter(|seen| seen.1 == who && seen.2 == notice).count()
    }
}

#[test]
fn a_quiet_network_delivers_in_order_and_tells_both_ends_once() {
    let mut ends = Ends::new(1, FaultRates::none());
    for number in 0..100 {
        ends.send(number);
    }
    ends.run_until(10_000_000);
    assert_eq!(ends.numbers(), (0..100).collect::<Vec<_>>());
    assert_eq!(ends.noticed.len(), 2);
    assert_eq!((ends.learned(A, Notice::PeerUp), ends.learned(B, Notice::PeerUp)), (1, 1));
}

#[test]
fn a_loss_is_told_before_anything_later_arrives() {
    for seed in 0..20 {
        let mut ends = Ends::new(seed, FaultRates::none().with(Fault::MessageLost, 50_000));
        for number in 0..500 {
            ends.send(number);
            ends.run_until(ends.queue.now_us() + 300);
        }
        ends.run_until(ends.queue.now_us() + 10_000_000);
        assert!(0 < ends.counts.of(Fault::MessageLost));
        let mut before: Option<(u64, u32)> = None;
        for (at, number) in &ends.arrived {
            let (since, last) = before.unwrap_or((0, u32::MAX));
            if last.wrapping_add(1) != *number {
                let told = ends.noticed.iter().any(|(time, who, notice)| {
                    *who == A
                        && *notice == Notice::LaneLost(Lane::Entries)
                        && since <= *time
                        && *time <= *at
                });
                assert!(told, "seed {seed}: {number} came after {last} without a word");
            }
            before = Some((*at, *number));
        }
    }
}

#[test]
fn a_cut_is_noticed_when_something_is_sent_and_healed_by_a_handshake() {
    let mut ends = Ends::new(1, FaultRates::none());
    ends.network.cut(A, B);
    ends.send(1);
    let way = (A, B, Lane::Control);
    ends.with(|network, weather| network.send(weather, way, 2, Repeat::Forbidden));
    ends.run_until(5_000_000);
    assert_eq!(ends.numbers(), [] as [u32; 0]);
    assert_eq!(ends.learned(A, Notice::LaneLost(Lane::Entries)), 1);
    assert_eq!(ends.learned(A, Notice::PeerDown), 1);
    assert_eq!(ends.learned(B, Notice::PeerDown), 0);
    ends.network.heal();
    ends.run_until(6_000_000);
    assert_eq!(ends.learned(A, Notice::PeerUp), 2);
    ends.send(3);
    ends.run_until(7_000_000);
    assert_eq!(ends.numbers(), [3]);
}

#[test]
fn a_killed_process_is_noticed_at_once_and_its_next_life_is_met() {
    let mut ends = Ends::new(1, FaultRates::none());
    ends.with(|network, weather| network.ended(weather, B, Ending::Refused));
    ends.run_until(ends.queue.now_us() + 3_000);
    assert_eq!(ends.learned(A, Notice::PeerDown), 1);
    ends.with(|network, weather| network.started(weather, B));
    ends.run_until(ends.queue.now_us() + 1_000_000);
    assert_eq!((ends.learned(A, Notice::PeerUp), ends.learned(B, Notice::PeerUp)), (2, 2));
    ends.send(1);
    ends.run_until(ends.queue.now_us() + 1_000_000);
    assert_eq!(ends.numbers(), [1]);
}

#[test]
fn a_vanished_machine_is_silent() {
    let mut ends = Ends::new(1, FaultRates::none());
    ends.with(|network, weather| network.ended(weather, B, Ending::Silent));
    ends.run_until(ends.queue.now_us() + 10_000_000);
    assert_eq!(ends.learned(A, Notice::PeerDown), 0);
    ends.send(1);
    ends.run_until(ends.queue.now_us() + 10_000_000);
    assert_eq!(ends.learned(A, Notice::LaneLost(Lane::Entries)), 1);
}

#[test]
fn only_what_may_be_repeated_is_repeated_or_overtaken() {
    let rates = FaultRates::none()
        .with(Fault::MessageDuplicated, 200_000)
        .with(Fault::MessageReordered, 250_000)
        .with(Fault::MessageDelayed, 100_000);
    let mut ends = Ends::new(1, rates);
    for number in 0..300 {
        ends.send(number);
    }
    ends.run_until(100_000_000);
    assert_eq!(ends.numbers(), (0..300).collect::<Vec<_>>());
    for number in 300..600 {
        let way = (A, B, Lane::Entries);
        ends.with(|network, weather| network.send(weather, way, number, Repeat::Allowed));
    }
    ends.run_until(200_000_000);
    assert!(600 < ends.arrived.len());
    assert!(0 < ends.counts.of(Fault::MessageReordered));
    assert!(!ends.numbers().is_sorted());
}
