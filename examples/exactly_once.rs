//! A counter that ends exact, though its clients ask again whenever they are in doubt.
//!
//! `cargo run -p jangada --example exactly_once`

use jangada::{Frame, LocalCluster, Options, Outcome, Session, Sessions, StateMachine};

#[derive(Default)]
struct Counter(u64);

impl StateMachine for Counter {
    type Reply = u64;
    fn apply(&mut self, commands: &[Frame], outcomes: &mut Vec<Outcome<u64>>) {
        for _ in commands {
            self.0 += 1;
            outcomes.push(Outcome { reply: self.0, digest: self.0 });
        }
    }
}

type Failure = Box<dyn std::error::Error>;

const CLIENTS: usize = 4;
const INCREMENTS: u64 = 500;

fn count() -> Result<(), Failure> {
    let machine = |_| Sessions::new(Counter::default()).expect("it starts empty");
    let cluster = LocalCluster::start(3, Options::default(), machine)?;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let mut handles = cluster.handles().to_vec();
            handles.rotate_left(client % 3);
            std::thread::spawn(move || {
                let session = Session::open(handles).wait()?;
                for _ in 0..INCREMENTS {
                    session.propose(b"increment").wait()?;
                }
                session.close().wait()
            })
        })
        .collect();
    for client in clients {
        client.join().expect("a client does not panic")?;
    }
    let session = Session::open(cluster.handles().to_vec()).wait()?;
    let next = session.propose(b"increment").wait()?;
    println!("{CLIENTS} clients counted to {}", next - 1);
    assert_eq!(next - 1, CLIENTS as u64 * INCREMENTS);
    Ok(())
}

fn main() -> Result<(), Failure> {
    count()
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_increment_counts_once() {
        super::count().expect("the example runs");
    }
}
