//! A client's side of a session: it asks again until it has the one answer.

use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use super::{SessionCommand, SessionId, SessionRefusal, SessionReply, Sessions, StoredReply};
use crate::handle::{Handle, block_on};
use crate::machine::StateMachine;
use crate::member::ProposeError;

/// How many of a session's commands are under way at a time; a further one waits for the oldest to
/// be answered or dropped. Below what a machine keeps replies for by default.
const WINDOW: u64 = 32;

/// Why a command of a session has no answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SessionError {
    /// The session has expired: it was not used for too long, or others took its place.
    Expired {
        /// Whether the command may have happened, once. Otherwise it did not and never will.
        in_doubt: bool,
    },
    /// Every member that the session was given has stopped.
    Stopped {
        /// Whether the command may have happened, or may yet, once.
        in_doubt: bool,
    },
    /// The leader's disk is nearly full, and the command is not one that frees space.
    NoSpace {
        /// Whether the command may have happened, or may yet, once.
        in_doubt: bool,
    },
    /// Every member that the session was given, and that runs, is quarantined and serves nobody.
    Quarantined {
        /// Whether the command may have happened, or may yet, once.
        in_doubt: bool,
    },
    /// The command happened, once; its answer was lost on the way and too large to be kept.
    AnswerLost,
    /// The command is larger than an entry may be. It did not happen.
    TooLarge,
    /// Not all members speak the command's version. It did not happen.
    TooNew,
}

impl std::fmt::Display for SessionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            SessionError::Expired { in_doubt: false } => {
                "the session has expired; the command did not happen, open another session"
            }
            SessionError::Expired { in_doubt: true } => {
                "the session has expired; the command happened once or not at all: look before \
                 asking again in another session"
            }
            SessionError::Stopped { in_doubt: false } => {
                "every member that the session knows has stopped; the command did not happen"
            }
            SessionError::Stopped { in_doubt: true } => {
                "every member that the session knows has stopped; the command happens once or not \
                 at all"
            }
            SessionError::AnswerLost => {
                "the command happened once; its answer was lost and too large to be kept"
            }
            SessionError::NoSpace { .. } => {
                "the disk of the leader's log is nearly full; free some space and ask again"
            }
            SessionError::Quarantined { .. } => {
                "every member that the session knows is quarantined; ask another"
            }
            SessionError::TooNew => {
                "the command is of a version that not all members speak; it did not happen, upgrade \
                 them first"
            }
            SessionError::TooLarge => {
                "the command is larger than an entry may be; it did not happen"
            }
        })
    }
}

impl std::error::Error for SessionError {}

/// A session: its commands are applied exactly once, whatever breaks in between, as long as it
/// lasts. It expires when it is not used for long; see [`Session::keep_alive`].
///
/// Works with any async runtime, or with none: a command that has to be asked again waits for a
/// leader by way of a linearizable read, not by a timer.
pub struct Session<M: StateMachine<Reply: StoredReply>> {
    handles: Vec<Handle<Sessions<M>>>,
    /// Which handle is asked first.
    at: AtomicUsize,
    id: SessionId,
    window: Mutex<Window>,
}

/// What of the session's commands is under way.
#[derive(Debug, Default)]
struct Window {
    serial_last: u64,
    answered_up_to: u64,
    /// Answered, though an earlier one is not.
    answered_beyond: BTreeSet<u64>,
    /// Who waits for room.
    wakers: Vec<Waker>,
}

impl Window {
    fn answered(&mut self, serial: u64) {
        self.answered_beyond.insert(serial);
        while self.answered_beyond.remove(&(self.answered_up_to + 1)) {
            self.answered_up_to += 1;
        }
        self.wakers.drain(..).for_each(Waker::wake);
    }
}

/// A place in the window. It is given back when the command is answered, and when nobody waits for
/// the answer any more: then the command happens at most once, and soon not at all.
struct Serial<'a> {
    window: &'a Mutex<Window>,
    serial: u64,
}

impl Drop for Serial<'_> {
    fn drop(&mut self) {
        lock(self.window).answered(self.serial);
    }
}

fn lock(window: &Mutex<Window>) -> MutexGuard<'_, Window> {
    window.lock().expect("nothing panics while the window is held")
}

/// A command under way in a session.
#[must_use = "a command is proposed when it is awaited"]
pub struct SessionAnswer<'a, R>(Pin<Box<dyn Future<Output = Result<R, SessionError>> + Send + 'a>>);

impl<R> SessionAnswer<'_, R> {
    /// Blocks the calling thread until the command is answered.
    ///
    /// # Errors
    /// As the future.
    pub fn wait(self) -> Result<R, SessionError> {
        block_on(self)
    }
}

impl<R> Future for SessionAnswer<'_, R> {
    type Output = Result<R, SessionError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context)
    }
}

/// What came of asking until there was an answer.
struct Asked<R> {
    reply: Result<SessionReply<R>, SessionError>,
    /// An attempt before the last may have happened.
    in_doubt: bool,
}

impl<M: StateMachine<Reply: StoredReply>> Session<M> {
    /// Opens a session. `handles` are asked in turn, so that it outlives the members behind some
    /// of them; one is enough for a member that stays.
    pub fn open<'a>(
        handles: impl IntoIterator<Item = Handle<Sessions<M>>>,
    ) -> SessionAnswer<'a, Session<M>> {
        let handles: Vec<_> = handles.into_iter().collect();
        SessionAnswer(Box::pin(async move {
            let at = AtomicUsize::new(0);
            // One that is opened twice, because the first answer was lost, expires unused.
            let asked = ask(&handles, &at, 1, || SessionCommand::Open).await;
            match asked.reply? {
                SessionReply::Opened(id) => {
                    Ok(Session { handles, at, id, window: Mutex::default() })
                }
                _ => unreachable!("a session is opened, or there is no answer"),
            }
        }))
    }

    /// The session's name.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The same session, asked for through other handles: those of members that have started again.
    #[must_use]
    pub fn through(self, handles: impl IntoIterator<Item = Handle<Sessions<M>>>) -> Session<M> {
        Session { handles: handles.into_iter().collect(), ..self }
    }

    /// Proposes a command and asks again until it has its answer: through changes of leader, broken
    /// connections and answers that were lost. It is applied exactly once if it is answered, and at
    /// most once if not.
    ///
    /// It is under way once the future is polled. If the future is dropped before it is answered, the
    /// command has happened once, or may yet, or never will.
    pub fn propose<'a>(&'a self, command: &'a [u8]) -> SessionAnswer<'a, M::Reply> {
        self.propose_version(command, 1)
    }

    /// As [`Session::propose`]. `version` tells the state machine how the command is encoded.
    pub fn propose_version<'a>(
        &'a self,
        command: &'a [u8],
        version: u16,
    ) -> SessionAnswer<'a, M::Reply> {
        SessionAnswer(Box::pin(async move {
            let place = self.place().await;
            let make = || SessionCommand::Propose {
                session: self.id,
                serial: place.serial,
                answered_up_to: lock(&self.window).answered_up_to,
                command,
            };
            let Asked { reply, in_doubt } = ask(&self.handles, &self.at, version, make).await;
            match reply? {
                SessionReply::Applied(reply) => Ok(reply),
                SessionReply::Refused(SessionRefusal::Unknown) => {
                    Err(SessionError::Expired { in_doubt })
                }
                SessionReply::Refused(SessionRefusal::NotKept) => Err(SessionError::AnswerLost),
                _ => unreachable!("a session's command is applied, or its session has ended"),
            }
        }))
    }

    /// Uses the session, so that it does not expire: to be called now and then when nothing is
    /// proposed for long.
    pub fn keep_alive(&self) -> SessionAnswer<'_, ()> {
        SessionAnswer(Box::pin(async move {
            let make = || SessionCommand::KeepAlive(self.id);
            match ask(&self.handles, &self.at, 1, make).await.reply? {
                SessionReply::Kept => Ok(()),
                _ => Err(SessionError::Expired { in_doubt: false }),
            }
        }))
    }

    /// Closes the session, so that it takes no room until it expires. One that has ended already is
    /// closed.
    pub fn close<'a>(self) -> SessionAnswer<'a, ()>
    where
        M: 'a,
    {
        SessionAnswer(Box::pin(async move {
            let make = || SessionCommand::Close(self.id);
            ask(&self.handles, &self.at, 1, make).await.reply.map(|_| ())
        }))
    }

    /// Takes the next serial number once there is room in the window.
    async fn place(&self) -> Serial<'_> {
        let serial = poll_fn(|context| {
            let mut window = lock(&self.window);
            if window.answered_up_to + WINDOW <= window.serial_last {
                window.wakers.push(context.waker().clone());
                return Poll::Pending;
            }
            window.serial_last += 1;
            Poll::Ready(window.serial_last)
        });
        let serial = serial.await;
        Serial { window: &self.window, serial }
    }
}

/// Proposes until there is an answer that the machine gave.
async fn ask<'a, M: StateMachine<Reply: StoredReply>>(
    handles: &[Handle<Sessions<M>>],
    at: &AtomicUsize,
    version: u16,
    make: impl Fn() -> SessionCommand<'a> + Send,
) -> Asked<M::Reply> {
    let mut in_doubt = false;
    let mut turned_away = 0;
    while let Some(handle) = running(handles, at) {
        let reply = match handle.propose_buffer(make().encode(), version).await {
            // An earlier answer will have been acknowledged by the next time.
            Ok(SessionReply::Refused(SessionRefusal::TooMany))
            | Err(ProposeError::Busy | ProposeError::NoLeader) => None,
            Ok(reply) => Some(Ok(reply)),
            Err(ProposeError::TooLarge) => Some(Err(SessionError::TooLarge)),
            Err(ProposeError::NoSpace) => Some(Err(SessionError::NoSpace { in_doubt })),
            Err(ProposeError::Quarantined) => {
                turned_away += 1;
                let all = handles.len() <= turned_away;
                all.then_some(Err(SessionError::Quarantined { in_doubt }))
            }
            Err(ProposeError::TooNew) => Some(Err(SessionError::TooNew)),
            Err(ProposeError::InDoubt | ProposeError::Stopped) => {
                in_doubt = true;
                None
            }
        };
        if let Some(reply) = reply {
            return Asked { reply, in_doubt };
        }
        // Another member may be better placed. It answers a read once there is a leader, and not at
        // once, so nothing is asked again in a circle; what it answers does not matter.
        at.fetch_add(1, Ordering::Relaxed);
        if let Some(handle) = running(handles, at) {
            let _ = handle.read_barrier().await;
        }
    }
    Asked { reply: Err(SessionError::Stopped { in_doubt }), in_doubt }
}

/// The handle that is to be asked, unless every member has stopped.
fn running<'a, M: StateMachine>(
    handles: &'a [Handle<M>],
    at: &AtomicUsize,
) -> Option<&'a Handle<M>> {
    let first = at.load(Ordering::Relaxed);
    let in_turn = (0..handles.len()).map(|step| first.wrapping_add(step) % handles.len());
    in_turn.map(|place| &handles[place]).find(|handle| !handle.is_stopped())
}
