//! The transport's bounds.

use std::time::Duration;

/// The transport's bounds. Each has a default with its reason.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransportLimits {
    /// The most bytes that wait on one control lane.
    pub control_bytes_max: usize,
    /// The most bytes that wait on one lane of entries.
    pub entries_bytes_max: usize,
    /// The most bytes that wait on one lane of snapshots.
    pub snapshots_bytes_max: usize,
    /// How long a handshake may take, the connection's making included on the dialer's side.
    pub handshake_timeout: Duration,
    /// The most incoming connections whose handshake has not come. The oldest makes way for a new
    /// one.
    pub handshakes_max: usize,
    /// After a control lane broke, how long a new handshake may take before the peer counts as
    /// down.
    pub silence: Duration,
    /// The first pause between two attempts to connect.
    pub backoff_min: Duration,
    /// The longest pause between two attempts to connect.
    pub backoff_max: Duration,
    /// A connection that lasted this long makes the pauses start anew.
    pub stable_after: Duration,
    /// How long a connection may be idle before the system asks whether the peer's machine is
    /// there, and how long sent bytes may stay unacknowledged before it counts as broken.
    pub keepalive: Duration,
    /// How often the same refusal of the same peer is told.
    pub refusal_interval: Duration,
}

impl Default for TransportLimits {
    fn default() -> TransportLimits {
        TransportLimits {
            // Thousands of control messages: more only wait for a peer that does not read.
            control_bytes_max: 1 << 20,
            // Twice the window of entries in flight that the consensus module grants, so that
            // acknowledgements and forwarded proposals fit too.
            entries_bytes_max: 16 << 20,
            // Twice what a transfer has outstanding.
            snapshots_bytes_max: 2 << 20,
            // Several round trips around the globe.
            handshake_timeout: Duration::from_secs(3),
            // Three lanes from each of a few members need a handful; strangers are to hold no more.
            handshakes_max: 64,
            // Beyond any round trip within a region; a peer farther away is at worst suspected in
            // vain, and then the pre-vote fails.
            silence: Duration::from_millis(50),
            // A restarted process is back within tens of milliseconds.
            backoff_min: Duration::from_millis(10),
            // A member that returns is to be found soon; a dial each second costs nothing.
            backoff_max: Duration::from_secs(1),
            // Shorter than it, a connection may have been cut as soon as it was made.
            stable_after: Duration::from_secs(1),
            // Heartbeats tell sooner that a peer is silent; this only frees what it holds.
            keepalive: Duration::from_secs(5),
            // Often enough to be seen in a log that is read, rare enough not to fill it.
            refusal_interval: Duration::from_secs(60),
        }
    }
}
