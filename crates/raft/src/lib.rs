//! The Raft consensus module, to be read with the paper in hand.
//!
//! > Diego Ongaro and John Ousterhout, *In Search of an Understandable Consensus Algorithm (Extended
//! > Version)*, 2014. Section signs refer to it; "thesis" is Ongaro's dissertation, *Consensus:
//! > Bridging Theory and Practice*, 2014. Words that both have are used as they use them.
//!
//! # What it is
//!
//! A member of a cluster keeps a log of commands. The module decides what goes into that log, and
//! says when an entry is *committed*: from then on it is in the log of every leader to come, at the
//! same place, and may be applied to the state machine. That is all it does. It is one value,
//! [`Raft`], and one function, [`Raft::step`]: an [`Input`] in, [`Output`]s out.
//!
//! # What it is not
//!
//! It has no clock, thread, socket, file, randomness, logging or dependency. Whoever drives it owns
//! those: a server, a simulator, a model checker, a test. Two members that are equal and are given
//! equal inputs stay equal, which is why `Raft` is `Clone`, `Eq` and `Hash`: a checker can walk
//! through all its states, and the code that it walks through is the code that runs.
//!
//! It never sees a command. By Log Matching (figure 3) an index and a term name an entry, so the log
//! is, for the module, a row of terms; and since terms never fall along it, a short row of *runs*
//! (`log.rs`). The driver keeps the payloads and attaches them wherever an output names a
//! [`Range`]. That makes a step's cost independent of the size of a batch.
//!
//! # One write, from end to end
//!
//! ```text
//! driver                          module (leader)
//!   Propose{3, 300 bytes} -------> Assigned{7..9}, Write{#12, 7..9}     the log grows at once
//!   Flush -----------------------> Grant{peer 2, 7..9}, Grant{peer 3, 7..9}
//!   (sends them; syncs the log meanwhile)
//!   Sent{2, 9}, Sent{3, 9} ------>
//!   Receive{2, Match(9)} -------->                                      durable at 2
//!   Persisted{#12, (9, term)} ---> Commit(9)                            durable here: a majority
//!   Flush -----------------------> Grant{2, nothing, commit 9}, ...     the others learn of it
//! ```
//!
//! Nothing waits for anything that safety does not need: entries are sent before they are durable
//! here, and may be committed on the disks of others alone.
//!
//! # Reading order
//!
//! 1. `contract.rs`: everything that goes in and comes out. The vocabulary.
//! 2. `role.rs`: figure 4. The four roles, what each one knows, and the transitions.
//! 3. `step.rs`: the rules for all servers (figure 2), and who takes which message.
//! 4. `election.rs`: §5.2 and §5.4.1, and when votes are withheld or elections are hasty.
//! 5. `replication.rs`: §5.3, §5.4.2, from both sides; then `progress.rs`, one peer seen by its
//!    leader.
//! 6. `reads.rs`: linearizable reads (§8, thesis §6.4).
//! 7. `membership.rs`: who the members are, and a change from end to end (§6); `transfer.rs`: how
//!    leadership is handed over (thesis §3.10).
//! 8. `snapshot.rs`: what a snapshot means for a peer and for the log (§7); `recovery.rs`: a member
//!    that may have lost what it had acknowledged.
//! 9. `stable.rs`: what is durable, and what a late completion may count for.
//! 10. `quorum.rs`, `change.rs` and `log.rs`: small, pure, tested exhaustively.
//! 11. [`invariants`]: what must hold at any time.
//!
//! `tests/paper.rs` has a test for each rule of figures 2 and 13 and each property of figure 3,
//! `tests/paper_membership.rs` for section 6 and its chapters of the thesis.
//! `tests/scripts` has one readable trace for each claim; they are the quickest way to see what
//! really happens. `examples/core.rs` drives three members by hand.
//!
//! # Where to find the paper
//!
//! | paper | here |
//! |---|---|
//! | figure 2, persistent state | [`HardState`], `stable.rs`, `log.rs` |
//! | figure 2, volatile state | `Raft::commit_index`; `lastApplied` is the driver's |
//! | figure 2, volatile state on leaders | `Progress` in `progress.rs` |
//! | figure 2, AppendEntries | `follow_append` in `replication.rs`; heartbeats are apart |
//! | figure 2, RequestVote | `answer_vote` in `election.rs` |
//! | figure 2, rules for servers | `step.rs`, `election.rs`, `replication.rs` |
//! | figure 3, properties | [`invariants::CLUSTER`], asserts throughout |
//! | figure 4, roles | `role.rs`, with one more: the pre-candidate |
//! | figure 7, logs that differ | hints by term in `replication.rs`, `log.rs` |
//! | figure 8, old terms | `advance_commit` in `replication.rs` |
//! | §5.6, timing | the driver's; the module only asks for timers |
//! | §6, membership | `membership.rs`, `change.rs`; quorums of both halves in `quorum.rs` |
//! | thesis §3.10, leadership transfer | `transfer.rs` |
//! | thesis §4.2.1, catching up | `move_to_target` in `membership.rs` |
//! | thesis §4.2.2, §4.2.3, removed servers | `may_campaign`, `leave_office`; `withholds_votes` |
//! | §7, log compaction; figure 13 | `Raft::compact`, `snapshot.rs`; sending and installing are the driver's |
//! | §8, clients | the no-op in `become_leader`; `reads.rs` |
//!
//! # What goes beyond the paper
//!
//! All of it is always on. A switch would double what has to be read and tested.
//!
//! - **Pre-vote** (thesis §9.6). Before it raises its term a member asks whether it could win. One
//!   that was cut off comes back without unseating a leader that works.
//! - **Stickiness** (thesis §4.2.3). Who hears from a leader gives no vote and no pre-vote, and does
//!   not even take over the candidate's term, until the shortest election timeout has passed.
//! - **Quorum check** (thesis §6.2). A leader that a quorum does not answer steps down, and is
//!   silent: otherwise its heartbeats could keep a member that sees both sides of a partition sticky,
//!   and with it a majority from electing.
//! - **Hasty elections.** When the leader's process dies, the operating system tells its peers within
//!   a millisecond. [`Input::PeerDown`] makes use of it: the member gives up its own patience and
//!   asks for pre-votes at once. It is a hint and no proof, so it never touches another member's
//!   patience: whoever still hears the leader refuses.
//! - **Learners first.** Voters that are new receive the log before they vote, and the leader moves on
//!   by itself when they have caught up; what it waits for stands in the configuration, so that the next
//!   leader goes on with it (thesis §4.2.1).
//! - **Leadership is handed over** on request, and by a leader that is no voter any more (thesis §3.10).
//! - **Recovering members.** The paper relies on storage that keeps what was written. A member whose
//!   log has rotted says so, and neither votes nor counts until it holds again all that it can have
//!   helped to commit.
//! - **Snapshots travel apart.** The module says who needs one and is told how it ended; meanwhile the
//!   peer gets heartbeats and no entries, and right behind the snapshot entries flow again.
//! - **Asynchronous storage, and no other.** Writes are numbered, what must wait for one says so
//!   ([`Output::SendAfter`]), and a completion names the log's end as of its write.
//! - **Grants.** The module does not send entries: it allows the driver to, so many bytes from such a
//!   place, and is told what was sent. It thus needs no payload and no size of any entry.
//! - **Coalesced acknowledgements.** A follower answers once for all that is durable.
//!
//! # Invariants
//!
//! Each file states its own, numbered. The member's and the cluster's are functions in
//! [`invariants`], under these numbers:
//!
//! 1. No entry is of a later term than the current one, and the current term never falls.
//! 2. Terms never fall along a log.
//! 3. `start <= commit <= last`: what was cut off the log is committed, and what is committed is in it.
//! 4. What is durable was written; a late completion counts for nothing that was overwritten.
//! 5. After each step the term and the vote have been written, if not yet durably.
//! 6. The lists of members are sorted, and nobody is in one twice.
//! 7. A candidate and a leader have voted for themselves.
//! 8. A leader's vote is durable: no vote counts that a crash could take back.
//! 9. A leader's term starts with its no-op, the first entry of that term.
//! 10. What a leader commits by counting is of its own term (figure 8).
//! 11. Leader Append-Only; and for each peer `match < next <= last + 1`.
//! 12. What a follower has acknowledged is durable and verified, and stays.
//! 13. A follower commits only what it has verified against its leader; nobody drops what is committed.
//! 14. Read rounds confirm in the order in which they opened, none before the leader's own term has a
//!     committed entry.
//! 15. The uncommitted bytes add up.
//! 16. The configurations that a member keeps lie in its log: they come and go with their entries.
//! 17. Each configuration follows from the one before it: the same voters, a joint one that leaves
//!     them, or the joint one's new half. Quorums of neighbours thus share a voter.
//! 18. One change at a time: a leader that has committed in its term has at most one configuration that
//!     is not committed.
//! 19. A leader's peers are the others of its configuration, and those it has just removed.
//! 20. Leadership is handed to another voter that stays one.
//! 21. A member that is recovering is a follower.
//!
//! And of the cluster, figure 3: election safety (101), log matching (102), leader completeness
//! (103), state machine safety (104); that what a leader commits is durable on a quorum (105), and that
//! equal logs hold equal configurations (106).
//!
//! An invariant that does not hold ends the process, in every build. To go on would be to answer
//! clients from a log that other members may not have.
//!
//! # Bounds
//!
//! Nothing grows without one. Per peer: `inflight_messages_max` and `inflight_bytes_max`. Per
//! leader: `uncommitted_bytes_max`, and eight open read rounds; any number of reads shares a round.
//! Per grant: `append_bytes_max`, 64 terms and eight configurations. Members: [`MEMBERS_MAX`],
//! [`VOTERS_MAX`] of them voters; who was removed is told for two quorum checks. Per hasty election: sixteen retries. The log's names
//! cost one item for each term in it, and go when the driver cuts the log ([`Raft::compact`]).
//!
//! # How to drive it
//!
//! Drain every input at hand and step it, then step [`Input::Flush`], then carry out the outputs in
//! order; [`Input::Sent`] answers a grant and is followed by another flush, so that the rest of a
//! long log goes out. Every `Write` must be completed or the process must end; a write that failed
//! must never be reported as done. Ask [`Range::is_well_formed`] of every range that was decoded
//! from foreign bytes. A timer that fires at the wrong time or in the wrong role can cost an election,
//! and never safety.

#[macro_use]
pub mod canon;
#[macro_use]
pub mod marks;
mod contract;
mod role;
mod step;

mod election;
mod membership;
mod transfer;

mod progress;
mod recovery;
mod replication;
mod snapshot;
mod uncommitted;

mod reads;
mod stable;

mod change;
mod log;
pub mod quorum;

pub mod invariants;
mod raft;

mod canonical;
mod display;

pub use change::{ADDRESS_BYTES_MAX, MEMBER_ADDRESSES_MAX, MEMBERS_MAX, VOTERS_MAX};
pub use contract::*;
pub use quorum::Tally;
pub use raft::Raft;
pub use reads::OPEN_ROUNDS_MAX;
