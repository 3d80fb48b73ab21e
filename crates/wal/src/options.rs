//! Who a log belongs to, and how large its files are.

/// Whose log it is. Stands in every segment, so that a folder that was copied, mixed or mounted in
/// the wrong place is noticed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Identity {
    /// The cluster's id.
    pub cluster: u64,
    /// The member's id ([`jangada_raft::NodeId`]'s number).
    pub member: u64,
    /// Names the life of this data directory: random, made when the log is created. A member that
    /// comes back with an empty disk has another one, and peers notice.
    pub incarnation: u64,
    /// The group whose log it is; every entry carries it.
    pub group: u64,
}

/// The log's sizes.
#[derive(Clone, Debug)]
pub struct Options {
    /// The size of the first segment in bytes, rounded up to sectors.
    pub segment_bytes_min: u64,
    /// Segments double up to this size in bytes.
    pub segment_bytes_max: u64,
    /// How many segments are kept ready ahead of time. One is used at the next roll; while another
    /// stands behind it, a disk that fills up is noticed before the log needs the space.
    pub spares: usize,
    /// Where salts and incarnations come from: `None` is the operating system. A simulator gives a
    /// seed, another one at each opening, so that the same run leaves the same bytes.
    pub seed: Option<u64>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            // Small enough that creating one inline takes a few milliseconds.
            segment_bytes_min: 1 << 20,
            // Large enough that a roll is rare, small enough that cutting whole segments frees
            // space soon.
            segment_bytes_max: 64 << 20,
            spares: 2,
            seed: None,
        }
    }
}

/// Yields salts: from the operating system, or from a seed.
#[derive(Debug)]
pub(crate) struct Entropy {
    state: Option<u64>,
}

impl Entropy {
    pub(crate) fn new(seed: Option<u64>) -> Entropy {
        Entropy { state: seed }
    }

    /// A number that has not been drawn before, never zero.
    pub(crate) fn draw(&mut self) -> std::io::Result<u64> {
        loop {
            let number = match &mut self.state {
                Some(state) => splitmix(state),
                None => {
                    getrandom::u64().map_err(|error| std::io::Error::other(error.to_string()))?
                }
            };
            if number != 0 {
                return Ok(number);
            }
        }
    }
}

/// The SplitMix64 generator (Steele, Lea, Flood, OOPSLA 2014).
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
