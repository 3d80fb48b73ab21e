//! One finder looking for one bug, in a process of its own: a bug may make it spin for ever, or end
//! it.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::finders::{Finder, Try};

/// The first argument of a process that looks for one bug.
const HUNT: &str = "--hunt";

/// A finder has so much of the processor's time. It may take longer by the clock by this factor, the
/// machine being busy with other work, and by so many seconds, before it counts as one that never
/// comes to its end.
const GRACE_FACTOR: u64 = 20;
const GRACE_SECONDS: u64 = 60;

/// What is looked for, how, and for how long.
pub(crate) struct Hunt {
    switch: Option<String>,
    finder: Finder,
    start: u64,
    seconds: u64,
}

/// What came of it.
pub(crate) struct Outcome {
    /// How many seeds or states it took; how many were tried in vain.
    pub(crate) after: u64,
    /// How long the processor worked for it, in microseconds.
    pub(crate) micros: u64,
    /// The check that found it, and what it saw; empty if none did.
    pub(crate) what: String,
    /// Whether the place of the bug was ever reached.
    pub(crate) reached: bool,
}

impl Outcome {
    pub(crate) fn is_found(&self) -> bool {
        !self.what.is_empty()
    }
}

impl Hunt {
    pub(crate) fn new(switch: Option<&str>, finder: Finder, start: u64, seconds: u64) -> Hunt {
        Hunt { switch: switch.map(str::to_owned), finder, start, seconds }
    }

    /// What this process was started for, if it was started for one hunt.
    pub(crate) fn of_arguments(arguments: &[String]) -> Option<Hunt> {
        let [hunt, switch, finder, start, seconds] = arguments else { return None };
        let number = |word: &String| word.parse().expect("a hunt is given numbers");
        (hunt == HUNT).then(|| Hunt {
            switch: (switch != "-").then(|| switch.clone()),
            finder: Finder::of_name(finder).expect("a hunt is given a finder"),
            start: number(start),
            seconds: number(seconds),
        })
    }

    /// Looks, and prints what came of it for the process that asked.
    pub(crate) fn run(&self) {
        std::panic::set_hook(Box::new(|_| {}));
        put_back(self.switch.as_deref());
        let (mut after, mut what, mut number) = (0, String::new(), 0);
        let mut reached = false;
        let begin = worked();
        let limit = Duration::from_secs(self.seconds);
        while what.is_empty() && worked() - begin < limit {
            let outcome = self.finder.try_once(self.start, number);
            number += 1;
            match outcome {
                Try::Found { tried, what: found } => {
                    after += tried;
                    reached = is_reached();
                    if self.switch.is_none() || (reached && !self.fails_anyway(number - 1)) {
                        what = found;
                    }
                }
                Try::Nothing { tried } => after += tried,
                Try::Exhausted { tried } => {
                    after += tried;
                    break;
                }
            }
        }
        let micros = (worked() - begin).as_micros();
        let reached = reached || is_reached();
        let line: String = what.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        println!("{after}\t{micros}\t{reached}\t{line}");
    }

    /// Whether the seed of this number fails without the bug, too: then it says nothing of the bug.
    fn fails_anyway(&self, number: u64) -> bool {
        if !self.finder.has_seeds() {
            return false;
        }
        put_back(None);
        let fails = matches!(self.finder.try_once(self.start, number), Try::Found { .. });
        put_back(self.switch.as_deref());
        fails
    }

    /// Starts a process that looks, and waits for it.
    pub(crate) fn send_out(&self) -> Outcome {
        let own = std::env::current_exe().expect("a process knows its program");
        let switch = self.switch.clone().unwrap_or_else(|| "-".to_owned());
        let (start, seconds) = (self.start.to_string(), self.seconds.to_string());
        let mut child = Command::new(own)
            .args([HUNT, &switch, self.finder.name(), &start, &seconds])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a process can be started");
        let mut output = child.stdout.take().expect("its output was asked for");
        let (sender, receiver) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = output.read_to_string(&mut text);
            let _ = sender.send(text);
        });
        let patience = Duration::from_secs(GRACE_FACTOR * self.seconds + GRACE_SECONDS);
        let answer = receiver.recv_timeout(patience);
        if answer.is_err() {
            child.kill().expect("a child can be killed");
        }
        child.wait().expect("a child can be waited for");
        reader.join().expect("the reader does not panic");
        let ends = |what: &str| {
            let micros = self.seconds * 1_000_000;
            Outcome { after: 0, micros, what: what.to_owned(), reached: true }
        };
        match answer {
            Ok(text) => parse(&text).unwrap_or_else(|| ends("the process ends")),
            Err(_) => ends("a step never ends"),
        }
    }
}

fn put_back(bug: Option<&str>) {
    jangada_raft::canon::put_back(bug);
    jangada_kv::canon::put_back(bug);
}

fn is_reached() -> bool {
    jangada_raft::canon::is_reached() || jangada_kv::canon::is_reached()
}

fn parse(text: &str) -> Option<Outcome> {
    let mut fields = text.trim_end_matches('\n').split('\t');
    Some(Outcome {
        after: fields.next()?.parse().ok()?,
        micros: fields.next()?.parse().ok()?,
        reached: fields.next()?.parse().ok()?,
        what: fields.next()?.to_owned(),
    })
}

/// How long the processor has worked for this process: what a busy machine does not stretch. Told by
/// the kernel in nanoseconds; where it does not, by the clock.
fn worked() -> Duration {
    let told = std::fs::read_to_string("/proc/self/schedstat").ok();
    let nanos = told.as_deref().and_then(|text| text.split(' ').next()?.parse().ok());
    nanos.map_or_else(by_the_clock, Duration::from_nanos)
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a bug takes to be found is no simulated time"
)]
fn by_the_clock() -> Duration {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO)
}
