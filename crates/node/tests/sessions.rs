//! Sessions, through the public border: the wrapped machine by itself, and clients over a cluster in
//! this process.

use std::future::Future;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use jangada::entry::{Draft, Frame, Kind, Origin};
use jangada::raft::{Position, Term};
use jangada::{
    Chunk, Index, LocalCluster, Options, Outcome, Session, SessionCommand, SessionError, SessionId,
    SessionLimits, SessionRefusal, SessionReply, Sessions, SessionsError, SnapshotError,
    SnapshotReader, SnapshotStage, Snapshots, StateMachine, Turn,
};

/// Counts its commands; what was stored with it last outlives it.
#[derive(Debug, Default)]
struct Counter {
    count: u64,
    /// What a durable machine would have stored with the last batch: its own state, and the record.
    disk: Arc<Mutex<Option<(u64, Bytes)>>>,
}

impl Counter {
    fn on(disk: &Arc<Mutex<Option<(u64, Bytes)>>>) -> Counter {
        let count = disk.lock().expect("nobody panics").as_ref().map_or(0, |stored| stored.0);
        Counter { count, disk: disk.clone() }
    }
}

impl StateMachine for Counter {
    type Reply = u64;

    fn apply(&mut self, commands: &[Frame], outcomes: &mut Vec<Outcome<u64>>) {
        for _ in commands {
            self.count += 1;
            outcomes.push(Outcome { reply: self.count, digest: self.count });
        }
    }

    fn recovered(&self) -> Option<Bytes> {
        let disk = self.disk.lock().expect("nobody panics");
        disk.as_ref().map(|(_, record)| record.clone())
    }

    fn end_batch(&mut self, _: Index, record: Bytes) {
        *self.disk.lock().expect("nobody panics") = Some((self.count, record));
    }
}

/// A log's end, to which commands are applied one after the other.
struct Applied {
    sessions: Sessions<Counter>,
    index: u64,
    now_ms: u64,
}

const LIMITS: SessionLimits = SessionLimits {
    sessions_max: 3,
    replies_max: 4,
    session_bytes_max: 64,
    table_bytes_max: 400,
    timeout_ms: 1000,
};

impl Applied {
    fn new() -> Applied {
        let sessions = Sessions::with_limits(Counter::default(), LIMITS).expect("it is empty");
        Applied { sessions, index: 0, now_ms: 5_000_000 }
    }

    fn frame(&mut self, command: &SessionCommand<'_>) -> Frame {
        self.index += 1;
        let draft = Draft::new(command.encode(), Kind::Command, 1, 0, Origin::default());
        draft.stamp(Position { index: Index(self.index), term: Term(1) }, self.now_ms)
    }

    fn apply(&mut self, command: &SessionCommand<'_>) -> SessionReply<u64> {
        let frame = self.frame(command);
        let mut outcomes = Vec::new();
        self.sessions.apply(&[frame], &mut outcomes);
        outcomes.pop().expect("one outcome for each command").reply
    }

    fn open(&mut self) -> SessionId {
        match self.apply(&SessionCommand::Open) {
            SessionReply::Opened(session) => session,
            other => panic!("a session is opened by {other:?}"),
        }
    }

    fn add(&mut self, session: SessionId, serial: u64, answered: u64) -> SessionReply<u64> {
        self.apply(&add(session, serial, answered))
    }

    fn count(&self) -> u64 {
        self.sessions.machine().count
    }
}

fn add(session: SessionId, serial: u64, answered_up_to: u64) -> SessionCommand<'static> {
    SessionCommand::Propose { session, serial, answered_up_to, command: b"add" }
}

fn refused(refusal: SessionRefusal) -> SessionReply<u64> {
    SessionReply::Refused(refusal)
}

#[test]
fn a_duplicate_gets_the_stored_reply_and_is_not_applied() {
    let mut applied = Applied::new();
    let session = applied.open();
    assert_eq!(applied.add(session, 1, 0), SessionReply::Applied(1));
    assert_eq!(applied.add(session, 2, 0), SessionReply::Applied(2));
    assert_eq!(applied.add(session, 1, 0), SessionReply::Applied(1));
    assert_eq!(applied.add(session, 2, 1), SessionReply::Applied(2));
    // The client has said that it has the first answer.
    assert_eq!(applied.add(session, 1, 0), refused(SessionRefusal::Answered));
    assert_eq!(applied.count(), 2);
    // Without a session it is applied as often as it is proposed.
    for count in [3, 4] {
        assert_eq!(applied.apply(&SessionCommand::Plain(b"add")), SessionReply::Applied(count));
    }
}

#[test]
fn commands_of_one_session_may_come_in_any_order() {
    let mut applied = Applied::new();
    let session = applied.open();
    assert_eq!(applied.add(session, 3, 0), SessionReply::Applied(1));
    assert_eq!(applied.add(session, 1, 0), SessionReply::Applied(2));
    assert_eq!(applied.add(session, 2, 1), SessionReply::Applied(3));
    assert_eq!(applied.add(session, 3, 1), SessionReply::Applied(1));
}

#[test]
fn a_command_of_an_expired_session_is_refused_and_never_applied() {
    let mut applied = Applied::new();
    let (idle, used) = (applied.open(), applied.open());
    assert_eq!(applied.add(idle, 1, 0), SessionReply::Applied(1));
    applied.now_ms += LIMITS.timeout_ms - 1;
    assert_eq!(applied.apply(&SessionCommand::KeepAlive(used)), SessionReply::Kept);
    applied.now_ms += 1;
    // Time that passes ends a session, and only the time that stands in the log.
    assert_eq!(applied.sessions.open_sessions(), 2);
    assert_eq!(applied.add(idle, 2, 1), refused(SessionRefusal::Unknown));
    assert_eq!(applied.add(idle, 1, 0), refused(SessionRefusal::Unknown));
    assert_eq!(applied.add(used, 1, 0), SessionReply::Applied(2));
    assert_eq!(applied.add(SessionId(999), 1, 0), refused(SessionRefusal::Unknown));
    assert_eq!(applied.count(), 2);
    assert_eq!(applied.apply(&SessionCommand::Close(used)), SessionReply::Closed);
    assert_eq!(applied.add(used, 2, 1), refused(SessionRefusal::Unknown));
    assert_eq!(applied.sessions.open_sessions(), 0);
}

#[test]
fn the_session_not_used_for_longest_makes_room() {
    let mut applied = Applied::new();
    let [first, second, third] = [(); 3].map(|()| applied.open());
    assert_eq!(applied.add(first, 1, 0), SessionReply::Applied(1));
    let fourth = applied.open();
    assert!(!applied.sessions.is_open(second), "it was used last before the others");
    for session in [first, third, fourth] {
        assert!(applied.sessions.is_open(session));
    }
}

#[test]
fn what_sessions_hold_is_bounded() {
    let mut applied = Applied::new();
    let session = applied.open();
    for serial in 1..=4 {
        assert_eq!(applied.add(session, serial, 0), SessionReply::Applied(serial));
    }
    assert_eq!(applied.add(session, 5, 0), refused(SessionRefusal::TooMany));
    assert_eq!(
        applied.add(session, 5, 1),
        SessionReply::Applied(5),
        "the refused one may come again"
    );
    for _ in 0..40 {
        let session = applied.open();
        for serial in 1..=4 {
            applied.add(session, serial, 0);
        }
        assert!(applied.sessions.open_sessions() <= LIMITS.sessions_max);
        assert!(applied.sessions.table_bytes() <= LIMITS.table_bytes_max);
    }
    assert!(1 < applied.sessions.open_sessions());
}

/// Answers with as many bytes as it was sent.
struct Echo(u64);

impl StateMachine for Echo {
    type Reply = Bytes;

    fn apply(&mut self, commands: &[Frame], outcomes: &mut Vec<Outcome<Bytes>>) {
        for command in commands {
            self.0 += 1;
            outcomes.push(Outcome { reply: command.payload_bytes(), digest: self.0 });
        }
    }
}

#[test]
fn a_command_whose_reply_was_too_large_to_keep_is_not_applied_again() {
    let mut sessions = Sessions::with_limits(Echo(0), LIMITS).expect("it is empty");
    let mut index = 0;
    let mut apply = |command: SessionCommand<'_>| {
        index += 1;
        let draft = Draft::new(command.encode(), Kind::Command, 1, 0, Origin::default());
        let frame = draft.stamp(Position { index: Index(index), term: Term(1) }, 0);
        let mut outcomes = Vec::new();
        sessions.apply(&[frame], &mut outcomes);
        (outcomes.pop().expect("one outcome").reply, sessions.machine().0)
    };
    apply(SessionCommand::Open);
    let large = [7; 65];
    let session = SessionId(1);
    let command =
        SessionCommand::Propose { session, serial: 1, answered_up_to: 0, command: &large };
    assert_eq!(apply(command), (SessionReply::Applied(Bytes::copy_from_slice(&large)), 1));
    assert_eq!(apply(command), (SessionReply::Refused(SessionRefusal::NotKept), 1));
    let draft = SessionCommand::Plain(b"");
    assert_eq!(apply(draft), (SessionReply::Applied(Bytes::new()), 2));
}

#[test]
fn bytes_that_are_no_command_are_refused() {
    let mut sessions = Sessions::new(Counter::default()).expect("it is empty");
    let mut buffer = Draft::buffer(1);
    buffer.extend_from_slice(&[99]);
    let draft = Draft::new(buffer, Kind::Command, 1, 0, Origin::default());
    let frame = draft.stamp(Position { index: Index(1), term: Term(1) }, 0);
    let mut outcomes = Vec::new();
    sessions.apply(&[frame], &mut outcomes);
    assert_eq!(outcomes[0].reply, refused(SessionRefusal::Unreadable));
    assert_eq!(sessions.machine().count, 0);
}

/// Table invariant 1: how commands are grouped changes nothing.
#[test]
fn the_same_log_in_other_batches_leaves_the_same_outcomes_and_the_same_table() {
    let mut applied = Applied::new();
    let mut random = fastrand::Rng::with_seed(7);
    let mut frames = Vec::new();
    let mut opened = vec![SessionId(77)];
    for _ in 0..600 {
        applied.now_ms += random.u64(0..120);
        let session = opened[random.usize(opened.len().saturating_sub(4)..opened.len())];
        let serial = random.u64(1..8);
        let command = match random.u8(0..20) {
            0..=2 => {
                opened.push(SessionId(applied.index + 1));
                SessionCommand::Open
            }
            5 => SessionCommand::Close(session),
            6 => SessionCommand::KeepAlive(session),
            7 => SessionCommand::Plain(b"add"),
            _ => add(session, serial, random.u64(0..serial)),
        };
        frames.push(applied.frame(&command));
    }
    let run = |random: &mut fastrand::Rng, batch_max: usize| {
        let disk = Arc::default();
        let sessions = Sessions::with_limits(Counter::on(&disk), LIMITS);
        let mut sessions = sessions.expect("it is empty");
        let mut outcomes = Vec::new();
        let mut rest = &frames[..];
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(random.usize(1..=batch_max.min(rest.len())));
            sessions.apply(batch, &mut outcomes);
            sessions.end_batch(batch.last().expect("not empty").position().index, Bytes::new());
            rest = later;
        }
        let stored = disk.lock().expect("nobody panics").clone();
        (outcomes, stored)
    };
    let one_by_one = run(&mut random, 1);
    for batch_max in [7, 100, 600] {
        assert!(run(&mut random, batch_max) == one_by_one, "batches of up to {batch_max}");
    }
    let applied =
        |outcome: &&Outcome<SessionReply<u64>>| matches!(outcome.reply, SessionReply::Applied(_));
    assert!(50 < one_by_one.0.iter().filter(applied).count(), "the log is worth its name");
}

/// Sessions invariant 2: a durable machine stores the table in the same transaction.
#[test]
fn sessions_come_back_with_the_machine_they_were_stored_with() {
    let disk = Arc::default();
    let mut applied = Applied::new();
    applied.sessions =
        Sessions::with_limits(Counter::on(&disk), LIMITS).expect("nothing is stored");
    let session = applied.open();
    assert_eq!(applied.add(session, 1, 0), SessionReply::Applied(1));
    applied.sessions.end_batch(Index(2), Bytes::from_static(b"the node's notes"));
    // Applied, and lost with the process: the log gives it back.
    assert_eq!(applied.add(session, 2, 0), SessionReply::Applied(2));
    applied.sessions =
        Sessions::with_limits(Counter::on(&disk), LIMITS).expect("it reads what it stored");
    assert_eq!(applied.sessions.recovered(), Some(Bytes::from_static(b"the node's notes")));
    assert_eq!(applied.add(session, 1, 0), SessionReply::Applied(1), "as it was answered before");
    assert_eq!(applied.add(session, 2, 0), SessionReply::Applied(2), "it was not applied here yet");
    let others = SessionLimits { timeout_ms: 7, ..LIMITS };
    let error = Sessions::with_limits(Counter::on(&disk), others).expect_err("other limits");
    assert_eq!(error, SessionsError::Limits);
    *disk.lock().expect("nobody panics") = Some((5, Bytes::from_static(b"as stored without")));
    let error = Sessions::with_limits(Counter::on(&disk), LIMITS).expect_err("no sessions");
    assert_eq!(error, SessionsError::Without);
}

// ---- in snapshots ----

/// Keeps its count, and a snapshot of it is one byte for each command, in chunks of one.
#[derive(Debug, Default)]
struct Streamed {
    stored: Arc<Mutex<(Vec<u8>, Bytes)>>,
}

struct View {
    state: Vec<u8>,
    at: usize,
    record: Bytes,
    resumes: bool,
}

impl SnapshotReader for View {
    fn record(&self) -> Bytes {
        self.record.clone()
    }

    fn resumes(&self) -> bool {
        self.resumes
    }

    fn next(&mut self, _: usize) -> Result<Chunk, SnapshotError> {
        self.at += 1;
        Ok(Chunk {
            bytes: Bytes::copy_from_slice(&self.state[self.at - 1..self.at]),
            resume: Bytes::copy_from_slice(&[self.at as u8]),
            is_last: self.at == self.state.len(),
        })
    }
}

struct Place {
    staged: Vec<u8>,
    stored: Arc<Mutex<(Vec<u8>, Bytes)>>,
}

impl SnapshotStage for Place {
    fn push(&mut self, chunk: Bytes) {
        self.staged.extend_from_slice(&chunk);
    }

    fn finish(&mut self, _: Index, record: Bytes) {
        *self.stored.lock().expect("nobody panics") = (std::mem::take(&mut self.staged), record);
    }

    fn turn(&mut self) -> Result<Turn, SnapshotError> {
        Ok(Turn::Done)
    }
}

impl StateMachine for Streamed {
    type Reply = u64;

    fn apply(&mut self, commands: &[Frame], outcomes: &mut Vec<Outcome<u64>>) {
        for _ in commands {
            let state = &mut self.stored.lock().expect("nobody panics").0;
            state.push(state.len() as u8);
            outcomes.push(Outcome { reply: state.len() as u64, digest: 0 });
        }
    }

    fn recovered(&self) -> Option<Bytes> {
        let record = self.stored.lock().expect("nobody panics").1.clone();
        (!record.is_empty()).then_some(record)
    }

    fn end_batch(&mut self, _: Index, record: Bytes) {
        self.stored.lock().expect("nobody panics").1 = record;
    }

    fn snapshots(&self) -> Snapshots {
        Snapshots::Streamed
    }

    fn snapshot(
        &mut self,
        resume: Option<&[u8]>,
    ) -> Result<Box<dyn SnapshotReader>, SnapshotError> {
        let (state, record) = self.stored.lock().expect("nobody panics").clone();
        let at = resume.map_or(0, |token| usize::from(token[0]));
        Ok(Box::new(View { state, at, record, resumes: resume.is_some() }))
    }

    fn stage(&mut self) -> Result<Box<dyn SnapshotStage>, SnapshotError> {
        Ok(Box::new(Place { staged: Vec::new(), stored: self.stored.clone() }))
    }
}

fn commands(
    sessions: &mut Sessions<Streamed>,
    first: u64,
    commands: &[SessionCommand<'_>],
) -> Vec<SessionReply<u64>> {
    let frames: Vec<_> = (first..)
        .zip(commands)
        .map(|(index, command)| {
            let draft = Draft::new(command.encode(), Kind::Command, 1, 0, Origin::default());
            draft.stamp(Position { index: Index(index), term: Term(1) }, 0)
        })
        .collect();
    let mut outcomes = Vec::new();
    sessions.apply(&frames, &mut outcomes);
    let last = first + commands.len() as u64 - 1;
    sessions.end_batch(Index(last), Bytes::copy_from_slice(&last.to_le_bytes()));
    outcomes.into_iter().map(|outcome| outcome.reply).collect()
}

/// A transfer that breaks after each number of chunks, and goes on from a newer view.
#[test]
fn sessions_travel_in_a_streamed_snapshot_and_are_those_of_its_view() {
    for breaks_after in 0..4 {
        let mut from = Sessions::new(Streamed::default()).expect("it is empty");
        let mut to = Sessions::new(Streamed::default()).expect("it is empty");
        let session = SessionId(1);
        let two = [SessionCommand::Open, add(session, 1, 0), add(session, 2, 0)];
        commands(&mut from, 1, &two);
        let mut stage = to.stage().expect("there is a place");
        let mut view = from.snapshot(None).expect("there is a view");
        assert!(!view.resumes());
        let mut resume = None;
        for _ in 0..breaks_after {
            let chunk = view.next(100).expect("it is read");
            stage.push(chunk.bytes);
            assert_eq!(stage.turn(), Ok(Turn::Done));
            resume = Some(chunk.resume);
        }
        // The view broke; meanwhile more is applied.
        commands(&mut from, 4, &[add(session, 3, 1), add(session, 4, 1)]);
        let mut view = from.snapshot(resume.as_deref()).expect("there is a view");
        assert_eq!(view.resumes(), resume.is_some(), "after {breaks_after}");
        loop {
            let chunk = view.next(100).expect("it is read");
            stage.push(chunk.bytes);
            assert_eq!(stage.turn(), Ok(Turn::Done));
            if chunk.is_last {
                break;
            }
        }
        stage.finish(Index(5), view.record());
        assert_eq!(stage.turn(), Ok(Turn::Done));
        to.installed();
        assert_eq!(to.recovered(), Some(Bytes::copy_from_slice(&5_u64.to_le_bytes())));
        let again = [add(session, 2, 1), add(session, 4, 1), add(session, 5, 1)];
        let replies = commands(&mut to, 6, &again);
        assert_eq!(replies, [2, 4, 5].map(SessionReply::Applied), "after {breaks_after}");
        let opened_again = Sessions::new(Streamed { stored: to.machine().stored.clone() });
        assert!(opened_again.expect("it was stored").is_open(session));
    }
}

#[test]
fn a_snapshot_without_sessions_is_refused() {
    let mut sessions = Sessions::new(Streamed::default()).expect("it is empty");
    let mut stage = sessions.stage().expect("there is a place");
    for foreign in [&b"x"[..], &[0, 1, 2], &[]] {
        stage.push(Bytes::copy_from_slice(foreign));
        assert!(matches!(stage.turn(), Err(SnapshotError::Unfit(_))), "{foreign:?}");
    }
    stage.push(Bytes::from_static(&[1, 7]));
    assert_eq!(stage.turn(), Ok(Turn::Done));
    stage.finish(Index(3), Bytes::new());
    assert!(matches!(stage.turn(), Err(SnapshotError::Unfit(_))));
}

/// Keeps nothing, and is saved as a whole.
#[derive(Default)]
struct Saved(u64);

impl StateMachine for Saved {
    type Reply = u64;

    fn apply(&mut self, commands: &[Frame], outcomes: &mut Vec<Outcome<u64>>) {
        for _ in commands {
            self.0 += 1;
            outcomes.push(Outcome { reply: self.0, digest: self.0 });
        }
    }

    fn snapshots(&self) -> Snapshots {
        Snapshots::Whole
    }

    fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
    }

    fn load(&mut self, state: &[u8]) -> Result<(), SnapshotError> {
        let count = state.try_into().map_err(|_| SnapshotError::Unfit("no count".into()))?;
        self.0 = u64::from_le_bytes(count);
        Ok(())
    }
}

#[test]
fn sessions_are_saved_with_a_machine_that_keeps_nothing() {
    let mut from = Sessions::new(Saved(0)).expect("it is empty");
    let session = SessionId(1);
    let apply = |sessions: &mut Sessions<Saved>, index, command: SessionCommand<'_>| {
        let draft = Draft::new(command.encode(), Kind::Command, 1, 0, Origin::default());
        let frame = draft.stamp(Position { index: Index(index), term: Term(1) }, 0);
        let mut outcomes = Vec::new();
        sessions.apply(&[frame], &mut outcomes);
        outcomes.pop().expect("one outcome").reply
    };
    apply(&mut from, 1, SessionCommand::Open);
    assert_eq!(apply(&mut from, 2, add(session, 1, 0)), SessionReply::Applied(1));
    let mut saved = Vec::new();
    from.save(&mut saved);
    let mut to = Sessions::new(Saved(7)).expect("it is empty");
    for length in [0, 3, 10, saved.len() - 1] {
        assert!(to.load(&saved[..length]).is_err(), "{length} bytes of it");
        assert_eq!((to.machine().0, to.open_sessions()), (7, 0), "it is as it was");
    }
    assert_eq!(to.load(&saved), Ok(()));
    assert_eq!(apply(&mut to, 3, add(session, 1, 0)), SessionReply::Applied(1), "a duplicate");
    assert_eq!(apply(&mut to, 4, add(session, 2, 0)), SessionReply::Applied(2));
}

// ---- over a cluster ----

type Cluster = LocalCluster<Sessions<Counter>>;

fn cluster(options: Options) -> Cluster {
    let machine = |_| Sessions::new(Counter::default()).expect("it starts empty");
    LocalCluster::start(3, options, machine).expect("it starts")
}

fn count_of(cluster: &Cluster) -> u64 {
    let asked = cluster.handles()[0].read(|sessions| sessions.machine().count);
    asked.wait().expect("a healthy cluster")
}

#[test]
fn a_command_sent_by_way_of_every_member_counts_once() {
    let cluster = cluster(Options::default());
    let handles = cluster.handles();
    let session = Session::open(handles.to_vec()).wait().expect("a healthy cluster");
    assert_eq!(session.propose(b"add").wait(), Ok(1));
    // As a client does that loses every answer, only faster.
    let id = session.id();
    for serial in 2..200 {
        let asked: Vec<_> = handles
            .iter()
            .map(|handle| handle.propose_buffer(add(id, serial, serial - 1).encode(), 1))
            .collect();
        for proposed in asked {
            assert_eq!(proposed.wait(), Ok(SessionReply::Applied(serial)));
        }
    }
    assert_eq!(count_of(&cluster), 199);
}

#[test]
fn clients_that_cannot_wait_for_a_leader_ask_until_there_is_one() {
    // What finds no leader is refused at once, as it is until the first election.
    let options = Options { leader_wait_us: 1, ..Options::default() };
    let cluster = cluster(options);
    let threads: Vec<_> = (0..3)
        .map(|first| {
            let mut handles = cluster.handles().to_vec();
            handles.rotate_left(first);
            std::thread::spawn(move || {
                let session = Session::open(handles).wait().expect("it is opened");
                let mut last = 0;
                for _ in 0..100 {
                    let count = session.propose(b"add").wait().expect("it is answered in the end");
                    assert!(last < count, "each command is applied after the one before");
                    last = count;
                }
                session.close().wait().expect("it is closed");
                last
            })
        })
        .collect();
    let last = threads.into_iter().map(|thread| thread.join().expect("the client is served"));
    assert_eq!(last.max(), Some(300));
}

#[test]
fn more_commands_than_are_kept_under_way_wait_for_one_another() {
    let cluster = cluster(Options::default());
    let session = Session::open(cluster.handles().to_vec()).wait().expect("a healthy cluster");
    let session = &session;
    std::thread::scope(|scope| {
        let waiting: Vec<_> =
            (0..100).map(|_| scope.spawn(move || session.propose(b"add").wait())).collect();
        let mut counts: Vec<_> = waiting
            .into_iter()
            .map(|thread| thread.join().expect("it ends").expect("it is answered"))
            .collect();
        counts.sort_unstable();
        assert!(counts.into_iter().eq(1..=100));
    });
}

#[test]
fn a_command_that_nobody_waits_for_holds_up_no_other() {
    let cluster = cluster(Options::default());
    let session = Session::open(cluster.handles().to_vec()).wait().expect("a healthy cluster");
    for _ in 0..100 {
        let mut abandoned = session.propose(b"add");
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let _ = std::pin::Pin::new(&mut abandoned).poll(&mut context);
    }
    let count = session.propose(b"add").wait().expect("it is answered");
    assert!((1..=101).contains(&count), "each was applied at most once");
}

#[test]
fn a_session_that_has_ended_says_so() {
    let cluster = cluster(Options::default());
    let handles = cluster.handles().to_vec();
    let session = Session::open(handles.clone()).wait().expect("a healthy cluster");
    assert_eq!(session.keep_alive().wait(), Ok(()));
    let close = SessionCommand::Close(session.id());
    let closed = handles[1].propose_buffer(close.encode(), 1).wait();
    assert_eq!(closed, Ok(SessionReply::Closed));
    let expired = Err(SessionError::Expired { in_doubt: false });
    assert_eq!(session.propose(b"add").wait(), expired);
    assert_eq!(session.keep_alive().wait(), Err(SessionError::Expired { in_doubt: false }));
    assert_eq!(count_of(&cluster), 0);
    drop(cluster);
    assert_eq!(
        session.propose(b"add").wait(),
        Err(SessionError::Stopped { in_doubt: false }),
        "nothing was asked of anybody"
    );
    let nobody = session.through([]);
    assert_eq!(nobody.keep_alive().wait(), Err(SessionError::Stopped { in_doubt: false }));
}
